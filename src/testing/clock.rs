//! The clock that tests move: hands out `Clock`s and advances them all at once.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock, manual::Time};

/// A clock that stands still until it is told to move.
///
/// Give [`clock`](Self::clock) to the mailer, the app and the fakes of one test; then [`advance`](Self::advance) expires
/// their tokens and deadlines together, without waiting.
///
/// ```
/// use std::time::Duration;
/// use smtp_oauth::testing::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let before = clock.now();
/// manual.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - before, time::Duration::HOUR);
/// ```
#[derive(Clone)]
pub struct ManualClock(Time);

impl ManualClock {
    /// Creates a clock that shows 2026-01-01 00:00:00 UTC.
    pub fn new() -> Self {
        Self::starting_at(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600))
    }

    /// Creates a clock that shows `start`.
    pub fn starting_at(start: OffsetDateTime) -> Self {
        Self(Time::starting_at(start))
    }

    /// Returns a handle for the code under test; all handles show the same time.
    pub fn clock(&self) -> Clock {
        Clock::manual(self.0.clone())
    }

    /// Moves the time forward and wakes everything that waited for it.
    pub fn advance(&self, by: Duration) {
        self.0.advance(by);
    }

    /// Moves the time forward by `step` again and again until `work` is done, and returns its output.
    ///
    /// For work that waits for a deadline and nothing else, such as a reply that will never come.
    pub async fn advance_until<F: Future>(&self, step: Duration, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                // Real time, so that bytes already under way on a socket arrive before the next step.
                () = tokio::time::sleep(Duration::from_millis(2)) => self.advance(step),
            }
        }
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.0.now()).finish()
    }
}
