//! Sending limits that a fleet keeps together in Redis: windows of what was sent, checked and counted in one script.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Script, ScriptInvocation};
use secrecy::SecretString;

use super::shared::{ReleaseFuture, Reservation, ReserveFuture, SharedLimits, SharedLimitsError};
use crate::clock::Clock;
use crate::config::{SendingLimits, account_key};
use crate::redis_server::RedisServer;

/// A server on the same network answers in a millisecond.
const DEADLINE: Duration = Duration::from_secs(5);

/// KEYS: messages of the last minute, recipients of the last day in buckets of five minutes, a number for each message.
/// ARGV: messages a minute, recipients a day (0: no limit), recipients of this message. Returns the milliseconds to wait,
/// or 0 with the message counted. By the server's clock, so that those of the fleet need not agree.
const RESERVE: &str = "
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local per_minute, per_day, recipients = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local wait = 0
redis.call('zremrangebyscore', KEYS[1], '-inf', now - 60000)
if per_minute > 0 then
  local count = redis.call('zcard', KEYS[1])
  if count >= per_minute then
    local entry = redis.call('zrange', KEYS[1], count - per_minute, count - per_minute, 'withscores')
    wait = math.max(wait, entry[2] + 60001 - now)
  end
end
local bucket, span = 300000, 86400000
if per_day > 0 then
  local total, oldest = 0, {}
  local fields = redis.call('hgetall', KEYS[2])
  for i = 1, #fields, 2 do
    local start, count = tonumber(fields[i]), tonumber(fields[i + 1])
    if start + bucket + span <= now then
      redis.call('hdel', KEYS[2], fields[i])
    else
      total = total + count
      table.insert(oldest, {start, count})
    end
  end
  table.sort(oldest, function(a, b) return a[1] < b[1] end)
  local index = 1
  while total + recipients > per_day and oldest[index] do
    total = total - oldest[index][2]
    wait = math.max(wait, oldest[index][1] + bucket + span + 1 - now)
    index = index + 1
  end
end
if wait > 0 then return wait end
if per_minute > 0 then
  redis.call('zadd', KEYS[1], now, redis.call('incr', KEYS[3]))
  redis.call('pexpire', KEYS[1], 120000)
end
if per_day > 0 then
  redis.call('hincrby', KEYS[2], now - now % bucket, recipients)
  redis.call('pexpire', KEYS[2], span + 2 * bucket)
end
return 0";

/// KEYS: recipients of the last day. ARGV: recipients to uncount, from the newest bucket on.
const RELEASE: &str = "
local left = tonumber(ARGV[1])
local fields = redis.call('hgetall', KEYS[1])
local newest = {}
for i = 1, #fields, 2 do table.insert(newest, {fields[i], tonumber(fields[i + 1])}) end
table.sort(newest, function(a, b) return tonumber(a[1]) > tonumber(b[1]) end)
for _, entry in ipairs(newest) do
  local taken = math.min(left, entry[2])
  left = left - taken
  if taken == entry[2] then
    redis.call('hdel', KEYS[1], entry[1])
  else
    redis.call('hincrby', KEYS[1], entry[1], -taken)
  end
  if left == 0 then break end
end
return 0";

/// Keeps the sending limits of mailboxes in Redis, for a fleet of processes that send through the same ones.
///
/// Each message costs a round trip to Redis. A message counts from the moment it is let out, by the clock of the Redis
/// server. When Redis cannot be reached, each process keeps to the limits by its own count alone, and says so in a
/// `tracing` event.
///
/// ```no_run
/// use smtp_oauth::{Authentication, Mailer, Office365Profile, RedisLimits};
///
/// let profile = Office365Profile::builder().username("svc-mail@contoso.com").build()?;
/// let limits = RedisLimits::open("rediss://mailer:password@redis.example.com/0")?;
/// let mailer = Mailer::builder(profile)
///     .authentication(Authentication::basic("secret"))
///     .shared_limits(limits)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RedisLimits {
    server: RedisServer,
    clock: Clock,
    reserve: Script,
    release: Script,
    /// Kept between messages; taken out while in use, so that one that breaks is not used again.
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
}

impl RedisLimits {
    /// Opens the server at `url`, `redis://` or `rediss://` (TLS); connects when it is used.
    ///
    /// # Errors
    /// When the URL is none, or TLS cannot be set up.
    pub fn open(url: impl Into<SecretString>) -> Result<Self, SharedLimitsError> {
        let server = RedisServer::open(&url.into()).map_err(|error| {
            SharedLimitsError::new("the shared sending limits cannot be opened").with_source(error)
        })?;
        let (clock, connection) = (Clock::system(), tokio::sync::Mutex::default());
        Ok(Self { server, clock, reserve: Script::new(RESERVE), release: Script::new(RELEASE), connection })
    }

    /// Sets the clock that measures deadlines; what is counted goes by the server's. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Invokes a script, and connects first if need be.
    async fn ask(&self, call: &ScriptInvocation<'_>) -> redis::RedisResult<u64> {
        let kept = self.connection.lock().await.take();
        let was_kept = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        let result = call.invoke_async(&mut connection).await;
        let (result, connection) = match result {
            // It was closed while nobody used it: nothing was counted, as nothing was sent.
            Err(error) if was_kept && error.is_connection_dropped() => {
                let mut connection = self.server.connect().await?;
                (call.invoke_async(&mut connection).await, connection)
            }
            result => (result, connection),
        };
        if result.is_ok() {
            *self.connection.lock().await = Some(connection);
        }
        result
    }

    /// The same within the deadline.
    async fn ask_in_time(&self, call: &ScriptInvocation<'_>) -> Result<u64, SharedLimitsError> {
        let deadline = self.clock.moment().after(DEADLINE);
        let failed = format!("the sending limits in Redis at {} cannot be had", self.server.address());
        match self.clock.until(deadline, self.ask(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(SharedLimitsError::new(failed).with_source(error)),
            Err(_elapsed) => {
                Err(SharedLimitsError::new(format!("{failed} within {} seconds", DEADLINE.as_secs())))
            }
        }
    }
}

/// The braces keep all keys of a mailbox on one node of a cluster, where a script can see them together.
fn key(mailbox: &str, part: &str) -> String {
    format!("{{smtp-oauth:{}}}:{part}", account_key(mailbox))
}

impl SharedLimits for RedisLimits {
    fn reserve<'a>(
        &'a self,
        mailbox: &'a str,
        limits: &'a SendingLimits,
        recipients: u32,
    ) -> ReserveFuture<'a> {
        Box::pin(async move {
            let number = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
            let mut call = self.reserve.key(key(mailbox, "messages"));
            call.key(key(mailbox, "recipients")).key(key(mailbox, "serial"));
            call.arg(number(limits.messages_per_minute()))
                .arg(number(limits.recipients_per_day()))
                .arg(recipients);
            match self.ask_in_time(&call).await? {
                0 => Ok(Reservation::Granted),
                milliseconds => Ok(Reservation::Wait(Duration::from_millis(milliseconds))),
            }
        })
    }

    fn release<'a>(&'a self, mailbox: &'a str, recipients: u32) -> ReleaseFuture<'a> {
        Box::pin(async move {
            let mut call = self.release.key(key(mailbox, "recipients"));
            call.arg(recipients);
            self.ask_in_time(&call).await.map(drop)
        })
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, clock, reserve: _, release: _, connection: _ } = self;
        f.debug_struct("RedisLimits")
            .field("address", &server.address())
            .field("clock", clock)
            .finish_non_exhaustive()
    }
}
