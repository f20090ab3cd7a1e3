//! Sends mail through Microsoft 365 with OAuth 2.0, on top of lettre.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod clock;
mod cloud;
pub mod entra;
pub mod oauth;
mod retry;
mod tls;
pub mod token;

#[cfg(feature = "testing")]
pub mod testing;

pub use lettre;

pub use clock::Clock;
pub use cloud::Cloud;
pub use tls::{TlsError, TlsSettings, TlsVersion};
pub use token::store::{FileStore, MemoryStore, TokenStore};
pub use token::{
    AccessToken, TokenCache, TokenError, TokenErrorKind, TokenFuture, TokenProvider, TokenRequest,
};
