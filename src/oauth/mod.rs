//! Grants of any OAuth 2.0 server (RFC 6749), over the `oauth2` crate. Knows nothing of Microsoft and nothing of SMTP.

mod assertion;
mod certificate;
mod client;
mod client_credentials;
mod discovery;
mod echo;
mod error;
mod expiry;
mod grant;
mod http;
mod metadata;
mod refresh;
mod tap;
#[cfg(feature = "reqwest")]
mod transport;

pub use self::assertion::{AssertionFuture, AssertionKey, AssertionSigner, ClientAssertion};
pub use self::certificate::{CertificateError, ClientCertificate};
pub use self::client::{Client, ClientAuthentication, ClientBuilder, ClientError};
pub use self::discovery::{Discovery, DiscoveryError};
pub(crate) use self::expiry::Expiring;
pub use self::http::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, HttpResponse};
pub use self::metadata::ServerMetadata;
pub use self::refresh::KeepAlive;
