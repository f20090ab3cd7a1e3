//! Asks again and again whether a device code was approved (RFC 8628 §3.4, §3.5). Shows nothing, saves nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::client::Client;
use super::device::{DeviceEvent, NAME, expired};
use super::error::{Attempt, ErrorBody};
use super::form::Answered;
use super::grant::{Granted, WireResponse};
use crate::clock::Moment;
use crate::token::{TokenError, TokenErrorKind};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const TICK: Duration = Duration::from_secs(1);
/// RFC 8628 §3.5: the interval grows by this for good.
const SLOWER: Duration = Duration::from_secs(5);
const MOST_FAILURES: u32 = 5;
/// RFC 8628 §3.5 asks for exponential backoff after a timeout; nobody who waits wants it longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The polling of one device code.
///
/// A poll under way is kept here and not in the future that waits for it: the answer that has the tokens comes once.
pub(super) struct Polling {
    client: Client,
    device_code: SecretString,
    expires: Moment,
    interval: Duration,
    next_poll: Moment,
    next_tick: Moment,
    failures: u32,
    /// In a mutex that is never locked, which makes it `Sync`.
    poll: Mutex<Option<Poll>>,
    outcome: Option<Result<Granted, TokenError>>,
    is_told: bool,
}

type Poll = Pin<Box<dyn Future<Output = Polled> + Send>>;

enum Polled {
    Granted(Granted),
    Pending,
    SlowDown,
    Failed(TokenError),
}

impl Polling {
    pub(super) fn new(
        client: Client,
        device_code: SecretString,
        expires: Moment,
        interval: Duration,
    ) -> Self {
        let now = client.clock().moment();
        Self {
            client,
            device_code,
            expires,
            interval,
            next_poll: now.after(interval),
            next_tick: now,
            failures: 0,
            poll: Mutex::new(None),
            outcome: None,
            is_told: false,
        }
    }

    /// Waits until it is over.
    pub(super) async fn granted(&mut self) -> Result<&Granted, TokenError> {
        while self.next_event().await.is_some() {}
        match &self.outcome {
            Some(Ok(granted)) => Ok(granted),
            Some(Err(error)) => Err(error.clone()),
            None => Err(expired()),
        }
    }

    pub(super) async fn next_event(&mut self) -> Option<DeviceEvent> {
        let clock = self.client.clock().clone();
        loop {
            if let Some(outcome) = &self.outcome {
                let is_news = outcome.is_ok() && !std::mem::replace(&mut self.is_told, true);
                return is_news.then_some(DeviceEvent::Approved);
            }
            let poll = self.poll.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = poll {
                let polled = tokio::select! {
                    biased;
                    polled = running => polled,
                    () = clock.sleep_until(self.next_tick) => return Some(self.tick(clock.moment())),
                };
                *poll = None;
                if let Some(event) = self.take(polled, clock.moment()) {
                    return Some(event);
                }
                continue;
            }
            let now = clock.moment();
            if now >= self.expires {
                self.outcome = Some(Err(expired()));
            } else if now >= self.next_poll {
                *poll = Some(Box::pin(ask(self.client.clone(), self.device_code.clone())));
            } else if now >= self.next_tick {
                return Some(self.tick(now));
            } else {
                clock.sleep_until(self.next_poll.min(self.next_tick).min(self.expires)).await;
            }
        }
    }

    fn tick(&mut self, now: Moment) -> DeviceEvent {
        self.next_tick = now.after(TICK);
        DeviceEvent::Waiting { remaining: self.expires.since(now) }
    }

    fn take(&mut self, polled: Polled, now: Moment) -> Option<DeviceEvent> {
        match polled {
            Polled::Granted(granted) => {
                self.outcome = Some(Ok(granted));
                None
            }
            Polled::Pending => {
                self.failures = 0;
                self.next_poll = now.after(self.interval);
                None
            }
            Polled::SlowDown => {
                self.failures = 0;
                self.interval += SLOWER;
                self.next_poll = now.after(self.interval);
                Some(DeviceEvent::SlowedDown { interval: self.interval })
            }
            Polled::Failed(error) => self.fail(error, now),
        }
    }

    fn fail(&mut self, error: TokenError, now: Moment) -> Option<DeviceEvent> {
        self.failures += 1;
        // A page of the network's in place of an answer passes, as a lost connection does.
        let may_pass = error.is_temporary() || error.kind() == TokenErrorKind::InvalidResponse;
        if !may_pass || self.failures >= MOST_FAILURES {
            self.outcome = Some(Err(error));
            return None;
        }
        let pause = self.interval.saturating_mul(1 << (self.failures - 1)).min(LONGEST_PAUSE);
        let after = pause.max(self.interval).max(error.retry_after().unwrap_or_default());
        self.next_poll = now.after(after);
        Some(DeviceEvent::Retrying { error, after })
    }
}

/// Asks once, within the client's deadline.
async fn ask(client: Client, device_code: SecretString) -> Polled {
    let parameters = [("grant_type", GRANT_TYPE), ("device_code", device_code.expose_secret())];
    let mut secrets = vec![device_code.expose_secret()];
    secrets.extend(client.authentication().secret().map(ExposeSecret::expose_secret));
    let host = client.token_endpoint().host_str().unwrap_or_default();
    let attempt = Attempt { grant: NAME, host, secrets, classify: client.classify() };
    // Counted from before the request, so that a slow answer does not stretch the token's life.
    let (asked, asked_at) = (client.clock().moment(), client.clock().now());
    let post = client.post::<WireResponse>(client.token_endpoint(), &parameters, &attempt);
    let Ok(answered) = client.clock().until(asked.after(client.deadline()), post).await else {
        return Polled::Failed(attempt.timeout(client.deadline()));
    };
    let Answered { result, exchange } = answered;
    match (result, exchange.body.as_ref().map(ErrorBody::error)) {
        (Ok(response), _) => match attempt.granted(&response, &exchange, asked_at) {
            Ok(granted) => Polled::Granted(granted),
            Err(error) => Polled::Failed(error),
        },
        (Err(_), Some("authorization_pending")) => Polled::Pending,
        (Err(_), Some("slow_down")) => Polled::SlowDown,
        (Err(failure), _) => Polled::Failed(failure.error),
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client: _,
            device_code: _,
            expires: _,
            interval,
            next_poll: _,
            next_tick: _,
            failures,
            poll: _,
            outcome,
            is_told: _,
        } = self;
        f.debug_struct("Polling")
            .field("interval", interval)
            .field("failures", failures)
            .field("is_over", &outcome.is_some())
            .finish_non_exhaustive()
    }
}
