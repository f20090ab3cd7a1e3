//! Mail server settings, checked once and valid from then on. Opens no connection; knows no token.

pub(crate) mod blank;
mod builder;
mod draft;
mod host;
mod keys;
mod limits;
mod mailbox;
mod problem;
mod provider;
mod read;
mod server;
mod time;
mod timeouts;
mod value;

pub use builder::ServerBuilder;
pub use limits::{ConnectionReuse, SendingLimits, WhenReached};
pub use problem::{ConfigError, ConfigProblem};
pub use provider::MailProvider;
pub use server::{AuthenticationMethod, Chunking, InitialResponse, MailServerConfig, Tls};
pub use timeouts::Timeouts;

pub(crate) use draft::Draft;
pub(crate) use keys::{Keys, LEAVE_OUT};
pub(crate) use mailbox::{account_key, is_same_account};
pub(crate) use problem::{Problems, is_like_a_secret, quoted};
pub(crate) use value::{Table, Value};
