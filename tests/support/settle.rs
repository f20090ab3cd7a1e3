//! Waiting for what others on the runtime of a test do, in no time of any clock.

use std::time::{Duration, Instant};

/// Turns of the scheduler, each with a look at the sockets: more than it takes for an answer over loopback.
const TURNS: usize = 200;
/// Real time after which what a test waits for is taken never to come.
const HANG: Duration = Duration::from_secs(20);

/// Lets everything happen that can happen at this time, to show what does not. What must happen is waited for with [`until`].
///
/// The runtime has one thread, so each turn polls every task that was woken in the turn before. What another thread does,
/// such as resolving a name, is not waited for.
pub async fn settle() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Waits until others on the runtime have made `condition` true.
pub async fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < HANG, "it does not come, or waits for the clock");
        tokio::task::yield_now().await;
    }
}
