//! SMTP submission (RFC 6409) over one connection: every byte that is written, every reply that is read.
//!
//! Knows nothing of tokens' origin, of pools or of retries.

pub(crate) mod auth;
pub(crate) mod capabilities;
pub(crate) mod command;
pub(crate) mod connection;
pub(crate) mod content;
mod dial;
mod dsn;
mod envelope;
pub(crate) mod facts;
pub(crate) mod failure;
pub(crate) mod overlap;
mod phase;
mod probe;
pub(crate) mod reply;
pub(crate) mod sasl;
pub(crate) mod stream;
pub(crate) mod transaction;

pub use dsn::{Dsn, Notify, ReturnContent};
pub use phase::Phase;
pub use reply::{EnhancedStatusCode, Reply};
pub use transaction::RecipientPolicy;
