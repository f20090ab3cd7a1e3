//! Exponential backoff, and the crate's only source of jitter. Decides how long to wait, never whether to try again.

use std::num::NonZeroU32;
use std::time::Duration;

/// How often and how patiently a submission is tried again when that is safe.
///
/// Safe is what the server has certainly not accepted: a temporary refusal (4yz), a server that cannot be reached, a
/// connection lost or silent before the last octet of the message, a token endpoint or token store that is down. A message
/// that may have been accepted is never sent again, whatever the policy.
///
/// ```
/// use smtp_oauth::RetryPolicy;
/// use std::{num::NonZeroU32, time::Duration};
///
/// let patient = RetryPolicy::new().with_attempts(NonZeroU32::new(6).unwrap()).with_longest_wait(Duration::from_secs(120));
/// assert_eq!(patient.first_wait(), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: NonZeroU32,
    backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
        Self { attempts: NonZeroU32::MIN.saturating_add(2), backoff }
    }
}

impl RetryPolicy {
    /// Creates the default policy: three attempts, one second and then two apart, half of that at random.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a policy of a single attempt.
    ///
    /// An idle connection that turns out to be closed and a token that the server refuses are replaced all the same.
    pub fn never() -> Self {
        Self { attempts: NonZeroU32::MIN, ..Self::default() }
    }

    /// Sets the number of attempts, the first one included. Default: 3.
    #[must_use]
    pub fn with_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the wait after the first failure; it doubles after each. Default: 1 second.
    ///
    /// Half of each wait is random.
    #[must_use]
    pub fn with_first_wait(mut self, wait: Duration) -> Self {
        self.backoff.first = wait;
        self
    }

    /// Sets how far the wait grows by doubling. Default: 30 seconds.
    ///
    /// It does not shorten a wait that the server has a say in, [`Error::retry_after`](crate::Error::retry_after): what the
    /// token endpoint asks for with `Retry-After`, or the window of a published limit that the mail server's reply names,
    /// such as a minute for messages a minute. The longer of the two waits is kept. One that would end after
    /// [`Timeouts::total`](crate::Timeouts::total) is not begun: the submission fails at once with the error of its last
    /// attempt.
    #[must_use]
    pub fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.backoff.cap = wait;
        self
    }

    /// Returns the number of attempts, the first one included.
    pub fn attempts(&self) -> NonZeroU32 {
        self.attempts
    }

    /// Returns the wait after the first failure.
    pub fn first_wait(&self) -> Duration {
        self.backoff.first
    }

    /// Returns how far the wait grows by doubling; [`with_longest_wait`](Self::with_longest_wait) says what is longer.
    pub fn longest_wait(&self) -> Duration {
        self.backoff.cap
    }

    /// Returns how long to wait before the next attempt after `failures` of them, or `None` when that was the last.
    pub(crate) fn wait(&self, failures: u32) -> Option<Duration> {
        (failures < self.attempts.get()).then(|| self.backoff.wait(failures))
    }
}

/// Waits that double from `first` up to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

impl Backoff {
    /// Returns the wait before attempt number `attempt + 1`; `attempt` counts the failures so far, from 1.
    ///
    /// Half of the wait is fixed and half random, so that processes that failed together do not come back together.
    pub(crate) fn wait(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.cap);
        full / 2 + jitter(full / 2)
    }
}

/// Returns a random duration from zero to `most`.
pub(crate) fn jitter(most: Duration) -> Duration {
    Duration::try_from_secs_f64(most.as_secs_f64() * fastrand::f64()).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(10) };
        for (attempt, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (40, 10)] {
            let wait = backoff.wait(attempt);
            let full = Duration::from_secs(full);
            assert!(wait >= full / 2 && wait <= full, "attempt {attempt} waits {wait:?}");
        }
    }
}
