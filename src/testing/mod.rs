//! Fakes of Entra ID and Exchange Online, and a clock that tests can move (feature `testing`).
//!
//! A fake panics where a test is set up wrongly, because a test is where that is read.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod clock;
mod entra;
mod tokens;

pub use clock::ManualClock;
pub use entra::{FakeEntra, FakeEntraBuilder, ReceivedGrant, TokenFault};
pub use tokens::{IssuedTokens, TokenVerdict};
