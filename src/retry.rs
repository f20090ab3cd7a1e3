//! Exponential backoff, and the crate's only source of jitter. Decides how long to wait, never whether to try again.

use std::time::Duration;

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
    most.mul_f64(fastrand::f64())
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
