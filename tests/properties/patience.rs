//! Lets the time of a manual clock go by when nothing else moves any more. Waits in no real time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use smtp_oauth::testing::ManualClock;

/// Turns of the scheduler after which everybody is taken to wait for everybody else.
const TURNS: usize = 64;
/// Longer than every limit of a mailer.
pub const LONG: Duration = Duration::from_secs(3600);

/// Waits for `work`; whatever it waits for in vain, it is made to give up.
pub async fn patient<F: Future>(clock: &ManualClock, work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        for _ in 0..TURNS {
            let polled = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            if let Poll::Ready(output) = polled {
                return output;
            }
            tokio::task::yield_now().await;
        }
        clock.advance(LONG);
    }
}
