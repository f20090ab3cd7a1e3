//! The time of a clock that tests move by hand. Never advances on its own.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

/// Shared by a `testing::ManualClock` and every `Clock` made from it.
#[derive(Clone)]
pub(crate) struct Time {
    start: OffsetDateTime,
    elapsed: Arc<watch::Sender<Duration>>,
}

impl Time {
    pub(crate) fn starting_at(start: OffsetDateTime) -> Self {
        Self { start, elapsed: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        self.start + self.elapsed()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed = elapsed.saturating_add(by));
    }

    pub(crate) async fn sleep_until(&self, target: Duration) {
        let mut elapsed = self.elapsed.subscribe();
        if elapsed.wait_for(|now| *now >= target).await.is_err() {
            // The sender lives in `self`, so it cannot be gone; waiting for ever would be right if it were.
            std::future::pending::<()>().await;
        }
    }
}
