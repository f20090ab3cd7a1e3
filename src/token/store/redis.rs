//! A token store in Redis, for a fleet that shares one sign-in: one lock, with expiry and fencing. Encrypts nothing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, ScriptInvocation};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, oneshot};
use zeroize::Zeroizing;

use super::{StoreFuture, StoreLock, StoredTokens, TokenStore, document};
use crate::clock::Clock;
use crate::redis_server::RedisServer;
use crate::token::{TokenError, TokenErrorKind};

const FIRST_POLL: Duration = Duration::from_millis(20);
const SLOWEST_POLL: Duration = Duration::from_millis(250);
/// A server on the same network answers in a millisecond.
const DEADLINE: Duration = Duration::from_secs(10);

/// Takes the lock if nobody has it. A fencing token is the server's time in microseconds, or one more than the last: it
/// grows even when the server loses its data in between.
const ACQUIRE: &str = "
if redis.call('exists', KEYS[1]) == 1 then return '' end
local time = redis.call('time')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('get', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(now, last + 1))
redis.call('set', KEYS[2], fence)
redis.call('set', KEYS[1], fence, 'px', ARGV[1])
return fence";

/// Saves unless somebody took the lock after the fencing token was given out. A save without one is a new sign-in: it
/// wins, and whoever is refreshing the old sign-in at this moment must not overwrite it.
const SAVE: &str = "
local last = redis.call('get', KEYS[2])
if ARGV[1] == '' then
  local time = redis.call('time')
  local now = time[1] * 1000000 + time[2]
  redis.call('set', KEYS[2], string.format('%.0f', math.max(now, tonumber(last or '0') + 1)))
elseif last and last ~= ARGV[1] then
  return 0
end
redis.call('set', KEYS[1], ARGV[2])
return 1";

/// Gives the lock up, unless it has expired and is another's by now.
const RELEASE: &str = "
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0";

/// Keeps tokens in Redis, so that a fleet of processes on many machines shares one sign-in.
///
/// - One process refreshes at a time, under a lock in Redis, and the others use its answer.
/// - A process that dies with the lock stops the others until the lock expires; one that was only slow, and comes back
///   after another took over, cannot overwrite the newer tokens: its fencing token is no longer the last.
/// - What is there but cannot be read is reported and never overwritten.
///
/// Redis must persist its data (`appendonly yes`): a refresh token that is lost takes a new sign-in. The tokens are in
/// clear text there: use `rediss://`, a password, and an ACL that shows the keys to nobody else. With `rediss://` the
/// cryptography of this crate becomes the process's default in rustls if the program has not chosen one.
///
/// ```no_run
/// use smtp_oauth::RedisStore;
///
/// let store = RedisStore::open("rediss://mailer:password@redis.example.com/0", "svc-mail@contoso.com")?;
/// # Ok::<(), smtp_oauth::TokenError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    server: RedisServer,
    keys: Keys,
    clock: Clock,
    lock_expiry: Duration,
    lock_deadline: Duration,
    /// One waiter of this process asks Redis; the others queue up behind it.
    gate: Arc<tokio::sync::Mutex<()>>,
    /// The fencing token, while this process holds the lock.
    fence: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Keys {
    tokens: String,
    lock: String,
    fence: String,
}

impl Keys {
    /// The braces keep all three on one node of a cluster, where the scripts can see them together.
    fn of(name: &str) -> Self {
        let key = |part| format!("{{smtp-oauth:{name}}}:{part}");
        Self { tokens: key("tokens"), lock: key("lock"), fence: key("fence") }
    }
}

impl RedisStore {
    /// Opens the store called `name` on the server at `url`, `redis://` or `rediss://` (TLS); connects when it is used.
    ///
    /// # Errors
    /// [`TokenErrorKind::Configuration`] when the URL is none, or TLS cannot be set up.
    pub fn open(url: impl Into<SecretString>, name: &str) -> Result<Self, TokenError> {
        let server = RedisServer::open(&url.into()).map_err(|error| {
            TokenError::new(TokenErrorKind::Configuration, error.to_string()).with_source(error)
        })?;
        Ok(Self(Arc::new(Inner {
            server,
            keys: Keys::of(name),
            clock: Clock::system(),
            lock_expiry: Duration::from_secs(60),
            lock_deadline: Duration::from_secs(90),
            gate: Arc::default(),
            fence: Mutex::new(None),
        })))
    }

    /// Sets the clock that measures deadlines. Default: the system's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.edit(|inner| inner.clock = clock)
    }

    /// Sets after how long the lock of a process that died is free again. Default: 60 seconds.
    ///
    /// Must be longer than a token request may take ([`AppBuilder::deadline`](crate::entra::AppBuilder::deadline)).
    #[must_use]
    pub fn lock_expiry(self, expiry: Duration) -> Self {
        self.edit(|inner| inner.lock_expiry = expiry)
    }

    /// Sets how long to wait for another process to release the lock. Default: 90 seconds.
    #[must_use]
    pub fn lock_deadline(self, deadline: Duration) -> Self {
        self.edit(|inner| inner.lock_deadline = deadline)
    }

    /// A store that is set up differently shares no lock with its former self in this process, only in Redis.
    fn edit(self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { server, keys, clock, lock_expiry, lock_deadline, gate: _, fence: _ } = &*self.0;
        let mut inner = Inner {
            server: server.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            lock_expiry: *lock_expiry,
            lock_deadline: *lock_deadline,
            gate: Arc::default(),
            fence: Mutex::new(None),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    async fn acquire(&self) -> Result<StoreLock, TokenError> {
        let inner = &*self.0;
        let runtime = Handle::try_current().map_err(|error| {
            let message = "a token store in Redis can only be used within a Tokio runtime";
            TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
        })?;
        let poll = async {
            let gate = inner.gate.clone().lock_owned().await;
            let mut connection = inner.connect().await?;
            let script = Script::new(ACQUIRE);
            let expiry = u64::try_from(inner.lock_expiry.as_millis()).unwrap_or(u64::MAX).max(1);
            let mut wait = FIRST_POLL;
            loop {
                let mut call = script.key(&inner.keys.lock);
                call.key(&inner.keys.fence).arg(expiry);
                let fence: String = inner.invoke(&call, &mut connection, "locked").await?;
                if !fence.is_empty() {
                    return Ok((gate, fence));
                }
                inner.clock.sleep(wait).await;
                wait = (wait * 2).min(SLOWEST_POLL);
            }
        };
        let deadline = inner.clock.moment().after(inner.lock_deadline);
        let (gate, fence) = inner.clock.until(deadline, poll).await.unwrap_or_else(|_elapsed| {
            let seconds = inner.lock_deadline.as_secs();
            Err(inner.error(&format!("is still locked by another process after {seconds} seconds")))
        })?;
        *inner.held() = Some(fence.clone());
        let (done, released) = oneshot::channel();
        let held = Held { store: self.clone(), fence, gate: Some(gate), runtime, done: Some(done) };
        Ok(StoreLock::new(held).on_release(async { _ = released.await }))
    }

    async fn load_document(&self) -> Result<Option<StoredTokens>, TokenError> {
        let mut connection = self.0.connect().await?;
        self.0.read(&mut connection).await
    }

    async fn save_document(&self, tokens: &StoredTokens, fence: &str) -> Result<(), TokenError> {
        let inner = &*self.0;
        let mut connection = inner.connect().await?;
        // Never replace something that is not ours.
        inner.read(&mut connection).await?;
        let text = document::write(tokens).map_err(|error| inner.failed("cannot be written", error))?;
        let script = Script::new(SAVE);
        let mut call = script.key(&inner.keys.tokens);
        call.key(&inner.keys.fence).arg(fence).arg(text.as_slice());
        let saved: u8 = inner.invoke(&call, &mut connection, "saved").await?;
        if saved == 1 {
            return Ok(());
        }
        Err(inner
            .error("was changed by another process while this one took too long: its newer tokens were kept"))
    }
}

impl Inner {
    async fn connect(&self) -> Result<MultiplexedConnection, TokenError> {
        // Anew each time: there is one refresh an hour, and a kept connection would be dead by then.
        self.within(self.server.connect(), "reached").await
    }

    async fn invoke<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
        connection: &mut MultiplexedConnection,
        what: &str,
    ) -> Result<T, TokenError> {
        self.within(call.invoke_async(connection), what).await
    }

    async fn read(&self, connection: &mut MultiplexedConnection) -> Result<Option<StoredTokens>, TokenError> {
        let mut get = redis::cmd("GET");
        get.arg(&self.keys.tokens);
        let text: Option<Vec<u8>> = self.within(get.query_async(connection), "read").await?;
        let Some(text) = text.map(Zeroizing::new) else { return Ok(None) };
        document::read(&text).map(Some).map_err(|damage| self.error(&damage.explain()))
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = RedisResult<T>>,
        what: &str,
    ) -> Result<T, TokenError> {
        let deadline = self.clock.moment().after(DEADLINE);
        match self.clock.until(deadline, work).await {
            Ok(result) => result.map_err(|error| self.failed(&format!("cannot be {what}"), error)),
            Err(_elapsed) => {
                Err(self.error(&format!("cannot be {what} within {} seconds", DEADLINE.as_secs())))
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &str) -> TokenError {
        TokenError::new(TokenErrorKind::Store, self.message(what))
    }

    fn failed(&self, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TokenError {
        TokenError::new(TokenErrorKind::Store, self.message(what)).with_source(error)
    }

    fn message(&self, what: &str) -> String {
        format!("{} {what}", self.name())
    }

    fn name(&self) -> String {
        format!("the token store {} in Redis at {}", self.keys.tokens, self.server.address())
    }
}

impl TokenStore for RedisStore {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        StoreFuture::new(self.load_document())
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        let (store, tokens) = (self.clone(), tokens.clone());
        // Now, while the caller has the lock: later it may be free, which would pass for a new sign-in, or the next one's.
        let fence = self.0.held().clone().unwrap_or_default();
        StoreFuture::new(async move {
            // In a task of its own: a write that was begun is finished.
            let saving = tokio::spawn(async move { store.save_document(&tokens, &fence).await });
            saving.await.unwrap_or_else(|error| Err(self.0.failed("cannot be saved", error)))
        })
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        StoreFuture::new(self.acquire())
    }

    fn location(&self) -> Option<String> {
        Some(self.0.name())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { server, keys, clock, lock_expiry, lock_deadline, gate: _, fence: _ } = &*self.0;
        f.debug_struct("RedisStore")
            .field("address", &server.address())
            .field("key", &keys.tokens)
            .field("clock", clock)
            .field("lock_expiry", lock_expiry)
            .field("lock_deadline", lock_deadline)
            .finish_non_exhaustive()
    }
}

/// Releases the lock when it is dropped; when that cannot be done, the lock expires.
struct Held {
    store: RedisStore,
    fence: String,
    gate: Option<OwnedMutexGuard<()>>,
    runtime: Handle,
    done: Option<oneshot::Sender<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.store.0.held() = None;
        let (store, fence, gate) = (self.store.clone(), std::mem::take(&mut self.fence), self.gate.take());
        let done = self.done.take();
        self.runtime.spawn(async move {
            let _ = release(&store.0, &fence).await;
            // Only now, so that the next one in this process does not find the lock still taken.
            drop(gate);
            drop(done);
        });
    }
}

async fn release(inner: &Inner, fence: &str) -> Result<(), TokenError> {
    let mut connection = inner.connect().await?;
    let script = Script::new(RELEASE);
    let mut call = script.key(&inner.keys.lock);
    call.arg(fence);
    inner.invoke::<u8>(&call, &mut connection, "unlocked").await.map(|_released| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_errors_show_the_password() {
        let store = RedisStore::open("redis://mailer:hunter2@127.0.0.1:1/0", "svc").unwrap();
        let shown = format!("{store:?}");
        assert!(shown.contains("127.0.0.1:1") && !shown.contains("hunter2"), "{shown}");
        let error = RedisStore::open("http://mailer:hunter2@127.0.0.1", "svc").unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Configuration);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
