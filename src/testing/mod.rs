//! Fakes of Entra ID and Exchange Online, and a clock that tests can move (feature `testing`).
//!
//! A fake panics where a test is set up wrongly, because a test is where that is read.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

mod certificate;
mod clock;
mod codes;
mod entra;
mod exchange;
mod microsoft365;
mod received;
mod replies;
mod tokens;

pub use certificate::{AppCertificate, CertificateKind, ServerCertificate, TestAuthority};
pub use clock::ManualClock;
pub use codes::KnownCode;
pub use entra::{FakeEntra, FakeEntraBuilder, ReceivedGrant, TokenFault};
pub use exchange::{
    AuthAttempt, BodyCommand, ConnectionCounts, Extensions, FakeExchange, FakeExchangeBuilder, Fault,
    FaultPoint, Handshake, ReceivedMessage, ReceivedRecipient, ScriptedFault, SessionRecord,
};
pub use microsoft365::FakeMicrosoft365;
pub use received::ReceivedAttachment;
pub use replies::KnownReply;
pub use tokens::{IssuedTokens, TokenVerdict};
