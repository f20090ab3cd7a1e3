//! Grants of any OAuth 2.0 server (RFC 6749), over the `oauth2` crate. Knows nothing of Microsoft and nothing of SMTP.

mod assertion;
mod authorization_code;
mod callback;
mod certificate;
mod client;
mod client_credentials;
mod device;
mod device_poll;
mod discovery;
mod echo;
mod error;
mod expiry;
mod form;
mod grant;
mod http;
mod http_settings;
mod id_token;
mod loopback;
mod metadata;
mod pending;
mod refresh;
mod resource;
mod scope;
mod signed_in;
mod tap;
#[cfg(feature = "reqwest")]
mod transport;

pub use self::assertion::{AssertionFuture, AssertionKey, AssertionSigner, ClientAssertion};
pub use self::authorization_code::{AuthorizationCode, Prompt};
pub use self::callback::WrongCallback;
pub use self::certificate::{CertificateError, ClientCertificate};
pub use self::client::{Client, ClientAuthentication, ClientBuilder, ClientError};
pub use self::device::{DeviceCode, DeviceEvent, DeviceSignIn};
pub use self::discovery::{Discovery, DiscoveryError};
pub use self::http::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, HttpResponse};
pub use self::id_token::IdToken;
pub use self::loopback::LoopbackSignIn;
pub use self::metadata::ServerMetadata;
pub use self::pending::PendingSignIn;
pub use self::refresh::KeepAlive;
pub use self::scope::MissingScope;
pub use self::signed_in::{AccountMismatch, SignedIn};

pub(crate) use self::callback::Callback;
pub(crate) use self::certificate::not_after as certificate_expiry;
pub(crate) use self::client::{is_client_id, is_trustworthy};
#[cfg(feature = "azure")]
pub(crate) use self::error::of_response as refusal_by_response;
pub(crate) use self::expiry::Expiring;
pub(crate) use self::http_settings::HttpSettings;
