//! Mail server settings, checked once and valid from then on. Opens no connection; knows no token.

mod builder;
mod draft;
mod host;
mod mailbox;
mod problem;
mod server;
mod timeouts;

pub use builder::ServerBuilder;
pub use problem::{ConfigError, ConfigProblem};
pub use server::{AuthenticationMethod, Chunking, InitialResponse, MailProvider, MailServerConfig, Tls};
pub use timeouts::Timeouts;

pub(crate) use draft::{Draft, PlatformRoots, Root};
pub(crate) use problem::Problems;
