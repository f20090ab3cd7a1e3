//! Time as an input: the only module that reads the system clock. Draws no randomness (see `retry`).

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

#[cfg(feature = "testing")]
pub(crate) mod manual;

/// Tells the time and waits for it; every deadline and expiry in this crate goes through one of these.
///
/// The default is the system's clock. Tests use `testing::ManualClock` (feature `testing`) to let a token expire or a
/// deadline pass without waiting.
///
/// ```
/// use smtp_oauth::Clock;
///
/// let clock = Clock::system();
/// assert!(clock.now().year() > 2000);
/// ```
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    #[cfg(feature = "testing")]
    Manual(manual::Time),
}

/// A point on the monotonic scale of one [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

/// The deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Moment {
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Clock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn manual(time: manual::Time) -> Self {
        Self(Source::Manual(time))
    }

    /// Returns the date and time in UTC.
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            Source::System => OffsetDateTime::now_utc(),
            #[cfg(feature = "testing")]
            Source::Manual(time) => time.now(),
        }
    }

    /// Returns the monotonic time, unaffected by changes of the wall clock.
    pub(crate) fn moment(&self) -> Moment {
        match &self.0 {
            Source::System => Moment(origin().elapsed()),
            #[cfg(feature = "testing")]
            Source::Manual(time) => Moment(time.elapsed()),
        }
    }

    /// Waits until `moment`.
    pub(crate) async fn sleep_until(&self, moment: Moment) {
        match &self.0 {
            Source::System => match origin().checked_add(moment.0) {
                Some(instant) => tokio::time::sleep_until(instant).await,
                None => std::future::pending().await,
            },
            #[cfg(feature = "testing")]
            Source::Manual(time) => time.sleep_until(moment.0).await,
        }
    }

    /// Waits for `duration`.
    pub(crate) async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.moment().after(duration)).await;
    }

    /// Runs `work` until `deadline` at the latest, then drops it.
    pub(crate) async fn until<F: Future>(&self, deadline: Moment, work: F) -> Result<F::Output, Elapsed> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            () = self.sleep_until(deadline) => Err(Elapsed),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::System",
            #[cfg(feature = "testing")]
            Source::Manual(_) => "Clock::Manual",
        })
    }
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
