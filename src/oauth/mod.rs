//! Grants of any OAuth 2.0 server (RFC 6749), over the `oauth2` crate. Knows nothing of Microsoft and nothing of SMTP.

mod client;
mod error;
mod expiry;
mod grant;
mod http;
mod refresh;
mod tap;
#[cfg(feature = "reqwest")]
mod transport;

pub use self::client::{Client, ClientAuthentication, ClientBuilder, ClientError};
pub(crate) use self::expiry::Expiring;
pub use self::http::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, HttpResponse};
