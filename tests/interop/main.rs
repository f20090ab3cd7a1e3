//! Interoperability with Postfix and Dovecot (RFC 5321, 3030, 4954, 7628), where our own fakes could share our own mistakes.
//!
//! Runs only with `SMTP_OAUTH_INTEROP=1`, since it needs real servers: `README.md`, beside this file, says how to get them.
//! A test starts with [`Servers::start`] and ends early where that returns `None`:
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_note_arrives() {
//!     let Some(servers) = Servers::start(&Limits::default()) else { return };
//!     let mailer = mailer(&servers, Service::Submission);
//!     mailer.submit_raw(&envelope(["alice"]), &note("hello")).await.unwrap();
//!     let delivered = servers.maildir().wait_for("alice@example.test", 1);
//!     assert_eq!(delivered[0].content, note("hello"));
//! }
//! ```

mod authentication;
mod client;
mod connections;
mod delivery;
mod harness;
mod introspection;
mod maildir;
mod overlap;
mod recipients;
mod refusals;
mod servers;
#[path = "../support/stream.rs"]
mod stream;

pub(crate) use introspection::Tokens;
pub(crate) use maildir::Maildir;
pub(crate) use servers::{ASSISTANT, BOSS, Limits, PASSWORD, Servers, Service};
