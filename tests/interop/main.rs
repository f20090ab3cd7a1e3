//! Interoperability with Postfix and Dovecot (RFC 5321, 3030, 4954, 7628), where our own fakes could share our own mistakes.
//!
//! Runs only with `SMTP_OAUTH_INTEROP=1`, since it needs real servers: `README.md`, beside this file, says how to get them.
//! A test starts with [`Servers::start`] and ends early where that returns `None`:
//!
//! ```ignore
//! #[tokio::test]
//! async fn token_of_the_account_is_accepted() {
//!     let Some(servers) = Servers::start(&Limits::default()) else { return };
//!     servers.tokens().accept("a token", BOSS);
//!     // submit to "localhost", servers.port(Service::Submission), trusting servers.ca_pem()
//!     let delivered = servers.maildir().wait_for("alice@example.test", 1);
//!     assert_eq!(delivered[0].content, message.formatted());
//! }
//! ```

mod harness;
mod introspection;
mod maildir;
mod servers;
mod wire;

pub(crate) use introspection::Tokens;
pub(crate) use maildir::Maildir;
pub(crate) use servers::{ASSISTANT, BOSS, Limits, PASSWORD, Servers, Service};
pub(crate) use wire::Wire;
