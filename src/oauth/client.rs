//! An app registered with an authorization server: endpoint, identity, HTTP. Knows no grant.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use time::OffsetDateTime;
use url::{Host, Url};

use super::assertion::ClientAssertion;
use super::error::Classify;
use super::expiry::{Expiring, ExpiryWatch};
use super::http::HttpClient;
use super::http_settings::HttpSettings;
use crate::clock::Clock;
use crate::tls::TlsSettings;
use crate::token::TokenNote;

/// An app that asks an authorization server for tokens; clones share everything.
///
/// For Microsoft, [`entra::App`](crate::entra::App) fills in the endpoint and the scopes.
///
/// ```
/// use smtp_oauth::oauth::{Client, ClientAuthentication};
/// use smtp_oauth::MemoryStore;
///
/// let endpoint = url::Url::parse("https://oauth2.googleapis.com/token")?;
/// let client = Client::builder(endpoint, "client-id")
///     .authentication(ClientAuthentication::Post("client-secret".into()))
///     .build()?;
/// let tokens = client.refresh_token(MemoryStore::new(), ["https://mail.google.com/"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    token_endpoint: Url,
    sign_in: SignInEndpoints,
    client_id: String,
    authentication: ClientAuthentication,
    http: Arc<dyn HttpClient>,
    clock: Clock,
    deadline: Duration,
    classify: Classify,
    expiry: ExpiryWatch,
}

/// Where people sign in; empty for clients that only refresh.
#[derive(Clone, Debug, Default)]
struct SignInEndpoints {
    authorization: Option<Url>,
    device_authorization: Option<Url>,
}

/// How an app proves who it is (RFC 6749 §2.3).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// A public client, which has no secret. The default.
    #[default]
    None,
    /// The secret in the request body, form-encoded (`client_secret_post`).
    Post(SecretString),
    /// The secret in the `Authorization` header, form-encoded first (`client_secret_basic`, RFC 6749 §2.3.1).
    Basic(SecretString),
    /// A signed assertion, or a token of another issuer (`private_key_jwt`, RFC 7523 §2.2).
    PrivateKeyJwt(ClientAssertion),
}

impl ClientAuthentication {
    pub(super) fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::None | Self::PrivateKeyJwt(_) => None,
            Self::Post(secret) | Self::Basic(secret) => Some(secret),
        }
    }

    fn expiring(&self) -> Option<Expiring> {
        match self {
            Self::None | Self::Post(_) | Self::Basic(_) => None,
            Self::PrivateKeyJwt(assertion) => {
                Some(Expiring { what: "client certificate", at: assertion.expires_at()? })
            }
        }
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Post(_) => f.write_str("Post([redacted])"),
            Self::Basic(_) => f.write_str("Basic([redacted])"),
            Self::PrivateKeyJwt(assertion) => f.debug_tuple("PrivateKeyJwt").field(assertion).finish(),
        }
    }
}

impl Client {
    /// Starts a client for the token endpoint and the client id that the server's documentation names.
    pub fn builder(token_endpoint: Url, client_id: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            token_endpoint,
            sign_in: SignInEndpoints::default(),
            client_id: client_id.into(),
            authentication: ClientAuthentication::None,
            http: HttpSettings::default(),
            classify: |_| None,
            expiring: None,
        }
    }

    /// Returns the token endpoint.
    pub fn token_endpoint(&self) -> &Url {
        &self.0.token_endpoint
    }

    /// Returns the page where people sign in, when it is known.
    pub fn authorization_endpoint(&self) -> Option<&Url> {
        self.0.sign_in.authorization.as_ref()
    }

    /// Returns the endpoint that gives out device codes, when it is known.
    pub fn device_authorization_endpoint(&self) -> Option<&Url> {
        self.0.sign_in.device_authorization.as_ref()
    }

    /// Returns the client id.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    pub(super) fn authentication(&self) -> &ClientAuthentication {
        &self.0.authentication
    }

    pub(crate) fn http(&self) -> &Arc<dyn HttpClient> {
        &self.0.http
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(crate) fn classify(&self) -> Classify {
        self.0.classify
    }

    pub(super) fn expiry(&self) -> &ExpiryWatch {
        &self.0.expiry
    }

    /// Returns until when the client's secret or certificate works, where that is known.
    pub fn credential_expiry(&self) -> Option<OffsetDateTime> {
        self.expiry().expiring().map(|expiring| expiring.at)
    }

    /// Says for a diagnosis where tokens come from by `grant`, and how long the client's credential still works.
    pub(super) fn notes(&self, grant: &str) -> Vec<TokenNote> {
        let host = self.token_endpoint().host_str().unwrap_or_default();
        let client_id = self.client_id();
        let mut notes = vec![TokenNote::Fact(format!("from {host} by {grant}, client id {client_id}"))];
        notes.extend(self.expiry().note(self.clock().now()));
        notes
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            token_endpoint,
            sign_in,
            client_id,
            authentication,
            http,
            clock,
            deadline,
            classify: _,
            expiry,
        } = &*self.0;
        f.debug_struct("Client")
            .field("token_endpoint", &token_endpoint.as_str())
            .field("sign_in", sign_in)
            .field("client_id", client_id)
            .field("authentication", authentication)
            .field("http", http)
            .field("clock", clock)
            .field("deadline", deadline)
            .field("expiry", expiry)
            .finish()
    }
}

/// Collects the settings of a [`Client`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    token_endpoint: Url,
    sign_in: SignInEndpoints,
    client_id: String,
    authentication: ClientAuthentication,
    http: HttpSettings,
    classify: Classify,
    expiring: Option<Expiring>,
}

impl ClientBuilder {
    /// Sets the page where people sign in, for [`Client::authorization_code`]. Default: none.
    pub fn authorization_endpoint(mut self, endpoint: Url) -> Self {
        self.sign_in.authorization = Some(endpoint);
        self
    }

    /// Sets the endpoint that gives out device codes, for [`Client::device_code`]. Default: none.
    pub fn device_authorization_endpoint(mut self, endpoint: Url) -> Self {
        self.sign_in.device_authorization = Some(endpoint);
        self
    }

    /// Sets how the app proves who it is. Default: not at all, as a public client.
    pub fn authentication(mut self, authentication: ClientAuthentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Sets the HTTP client. Default: one over `reqwest` (feature `reqwest`).
    pub fn http_client(mut self, http: Arc<dyn HttpClient>) -> Self {
        self.http.client = Some(http);
        self
    }

    /// Sets which servers the default HTTP client trusts. Default: the operating system's roots, TLS 1.2.
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.http.tls = tls;
        self
    }

    /// Sets the clock for deadlines and expiry. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.http.clock = clock;
        self
    }

    /// Sets how long one grant may take, with all its attempts. Default: 30 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.http.deadline = deadline;
        self
    }

    /// Sets all that another builder has collected.
    pub(crate) fn http_settings(mut self, http: HttpSettings) -> Self {
        self.http = http;
        self
    }

    pub(crate) fn classify(mut self, classify: Classify) -> Self {
        self.classify = classify;
        self
    }

    /// Sets until when the client secret works; a certificate is read for it.
    pub(crate) fn expiring(mut self, expiring: Option<Expiring>) -> Self {
        self.expiring = expiring;
        self
    }

    /// Checks the settings and makes the client.
    ///
    /// # Errors
    /// [`ClientError`] for an endpoint that secrets must not be sent to, an empty client id, or no usable HTTP client.
    pub fn build(self) -> Result<Client, ClientError> {
        let Self { token_endpoint, sign_in, client_id, authentication, http, classify, expiring } = self;
        if !is_trustworthy(&token_endpoint) {
            return Err(ClientError::Endpoint {
                host: token_endpoint.host_str().unwrap_or_default().to_owned(),
            });
        }
        let SignInEndpoints { authorization, device_authorization } = &sign_in;
        if let Some(endpoint) =
            authorization.iter().chain(device_authorization).find(|endpoint| !is_trustworthy(endpoint))
        {
            return Err(ClientError::SignInEndpoint {
                host: endpoint.host_str().unwrap_or_default().to_owned(),
            });
        }
        if !is_client_id(&client_id) {
            return Err(ClientError::ClientId);
        }
        let client = http.client_for(&token_endpoint)?;
        let HttpSettings { clock, deadline, .. } = http;
        let expiry = ExpiryWatch::new(expiring.or_else(|| authentication.expiring()));
        expiry.check(&clock, &client_id);
        Ok(Client(Arc::new(Inner {
            token_endpoint,
            sign_in,
            client_id,
            authentication,
            http: client,
            clock,
            deadline,
            classify,
            expiry,
        })))
    }
}

/// An OAuth client cannot be made of these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Secrets would be sent in the clear, or in a URL with a user name, password or fragment.
    #[error("the token endpoint on `{host}` must be a plain https URL (http only for a loopback address)")]
    Endpoint {
        /// The host of the endpoint.
        host: String,
    },
    /// People would sign in over a connection that others can read.
    #[error("the sign-in endpoint on `{host}` must be a plain https URL (http only for a loopback address)")]
    SignInEndpoint {
        /// The host of the endpoint.
        host: String,
    },
    /// The client id is empty or holds characters that no client id may hold (RFC 6749 §A.1).
    #[error("the client id is empty or holds characters that no client id may hold")]
    ClientId,
    /// The default HTTP client cannot be made: its TLS settings do not work here.
    #[error("the HTTP client for the token endpoint cannot be made")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No HTTP client was given, and the crate was compiled without one.
    #[error("no HTTP client: enable the `reqwest` feature or give one to `http_client`")]
    NoHttpClient,
}

/// Tells whether `text` may be a client id (RFC 6749 §A.1).
pub(crate) fn is_client_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Tells whether secrets may be sent to `url`.
pub(crate) fn is_trustworthy(url: &Url) -> bool {
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))) && url.has_host()
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_on_this_machine() {
        let cases = [
            ("https://login.example/token", true),
            ("http://127.0.0.1:8080/token", true),
            ("http://[::1]/token", true),
            ("http://localhost/token", true),
            ("http://login.example/token", false),
            ("http://127.0.0.1.example/token", false),
            ("https://user@login.example/token", false),
            ("https://login.example/token#part", false),
            ("ftp://login.example/token", false),
            ("data:text/plain,token", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_trustworthy(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
