//! Waits for the mailbox's sending limits.

use std::fmt;
#[cfg(feature = "tracing")]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Stopwatch;
#[cfg(feature = "metrics")]
use super::metric;
#[cfg(feature = "tracing")]
use super::{Masked, seconds};
use crate::clock::Clock;
#[cfg(feature = "tracing")]
use crate::clock::Moment;

#[cfg(feature = "tracing")]
const TARGET: &str = "smtp_oauth::limits";

/// A mailbox at its limit waits for each message: it is said once in this time.
#[cfg(feature = "tracing")]
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Tells of the waits of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    #[cfg(feature = "tracing")]
    warned: Mutex<Option<Moment>>,
}

impl Waits {
    /// A submission comes to the limits; it need not wait.
    pub(crate) fn arrive(&self) -> Wait<'_> {
        Wait { waits: self, stopwatch: None }
    }

    fn warn(&self, clock: &Clock, wait: Option<Duration>) {
        #[cfg(feature = "tracing")]
        {
            let now = clock.moment();
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.is_some_and(|last| now.since(last) < BETWEEN_WARNINGS) {
                return;
            }
            *warned = Some(now);
            drop(warned);
            tracing::warn!(
                name: "limit_reached",
                target: TARGET,
                {
                    smtp_oauth.wait = wait.map(seconds),
                },
                "the mailbox's sending limit is reached, submissions wait"
            );
        }
    }
}

/// A submission before the limits.
pub(crate) struct Wait<'a> {
    waits: &'a Waits,
    stopwatch: Option<Stopwatch>,
}

impl Wait<'_> {
    /// It must wait; how long is not known while that depends on messages under way.
    pub(crate) fn begin(&mut self, clock: &Clock, wait: Option<Duration>) {
        self.stopwatch.get_or_insert_with(|| Stopwatch::start(clock));
        self.waits.warn(clock, wait);
    }

    /// It may go on.
    pub(crate) fn end(self, clock: &Clock) {
        #[cfg(feature = "metrics")]
        if let Some(stopwatch) = self.stopwatch {
            metrics::histogram!(metric::LIMIT_WAIT).record(stopwatch.seconds(clock));
        }
    }
}

/// The server says that it is too much; nobody is admitted for `wait`.
pub(crate) fn throttled(wait: Duration) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "throttled",
        target: TARGET,
        {
            smtp_oauth.wait = seconds(wait),
        },
        "the mail server says that it is too much, submissions wait"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(metric::THROTTLED).increment(1);
}

/// The fleet's count cannot be had.
pub(crate) fn shared_unavailable(error: &dyn fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "shared_limits_unavailable",
        target: TARGET,
        {
            error = %Masked(error),
        },
        "the fleet's sending limits cannot be had; going by this process's own count"
    );
}
