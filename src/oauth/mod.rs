//! Grants of any OAuth 2.0 server (RFC 6749), over the `oauth2` crate. Knows nothing of Microsoft and nothing of SMTP.

mod authorization_code;
mod callback;
mod client;
mod device;
mod device_poll;
mod error;
mod form;
mod grant;
mod http;
mod id_token;
mod loopback;
mod pending;
mod refresh;
mod resource;
mod scope;
mod signed_in;
mod tap;
#[cfg(feature = "reqwest")]
mod transport;

pub use self::authorization_code::{AuthorizationCode, Prompt};
pub use self::client::{Client, ClientAuthentication, ClientBuilder, ClientError};
pub use self::device::{DeviceCode, DeviceEvent, DeviceSignIn};
pub use self::http::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, HttpResponse};
pub use self::id_token::IdToken;
pub use self::loopback::LoopbackSignIn;
pub use self::pending::PendingSignIn;
pub use self::scope::MissingScope;
pub use self::signed_in::{AccountMismatch, SignedIn};

pub(crate) use self::callback::Callback;
