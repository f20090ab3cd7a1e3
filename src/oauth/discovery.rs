//! Asks an authorization server where its endpoints are (OpenID Connect Discovery 1.0, RFC 8414). Believes no other server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use url::Url;

use super::client::{ClientError, is_trustworthy};
use super::http::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, MOST_BODY_BYTES};
use super::http_settings::HttpSettings;
use super::metadata::{ServerMetadata, host};
use crate::clock::Clock;
use crate::tls::TlsSettings;

/// Asks a server for its [`ServerMetadata`]: OpenID's document first, then the one of RFC 8414.
///
/// Both come from the issuer itself, over HTTPS (HTTP only for a loopback address), without redirects; the document
/// must name that very issuer, and endpoints over HTTPS.
///
/// ```no_run
/// use smtp_oauth::MemoryStore;
/// use smtp_oauth::oauth::Discovery;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Discovery::new(url::Url::parse("https://keycloak.example.com/realms/mail")?).fetch().await?;
/// let client = server.client("mailer").build()?;
/// let tokens = client.refresh_token(MemoryStore::new(), ["smtp"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is asked until `fetch`"]
pub struct Discovery {
    issuer: Url,
    http: HttpSettings,
}

/// An authorization server's endpoints could not be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The issuer is a URL that must not be asked.
    #[error(
        "the issuer on `{host}` must be an https URL without query and fragment (http only for a loopback address)"
    )]
    Issuer {
        /// The host of the issuer.
        host: String,
    },
    /// No HTTP client can be made.
    #[error("the HTTP client for discovery cannot be made")]
    Client(#[source] ClientError),
    /// The server cannot be reached, or failed; trying later can help.
    #[error("the metadata of {host} cannot be fetched")]
    Unreachable {
        /// The host of the issuer.
        host: String,
        /// What went wrong.
        source: HttpError,
    },
    /// The server did not answer in time; trying later can help.
    #[error("{host} did not answer with its metadata within {} seconds", .deadline.as_secs())]
    Timeout {
        /// The host of the issuer.
        host: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// The server has no such document, redirects elsewhere, or is in trouble.
    #[error("{host} answered HTTP {status} instead of its metadata")]
    Status {
        /// The host of the issuer.
        host: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The answer is no JSON.
    #[error("{host} answered something other than JSON instead of its metadata")]
    NotJson {
        /// The host of the issuer.
        host: String,
    },
    /// The answer is not a metadata document.
    #[error("the metadata of {host} is malformed at line {line}, column {column}")]
    Malformed {
        /// The host of the issuer.
        host: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The document is about another issuer (RFC 8414 §3.3).
    #[error(
        "the metadata of the issuer `{expected}` are those of `{found}`: give that one if it is the right server"
    )]
    IssuerMismatch {
        /// The issuer that was asked.
        expected: String,
        /// The issuer in the document.
        found: String,
    },
    /// The document has no token endpoint.
    #[error("the metadata of {host} name no token endpoint")]
    NoTokenEndpoint {
        /// The host of the issuer.
        host: String,
    },
    /// The document names an endpoint that nothing may be sent to.
    #[error(
        "the metadata name a {name} on `{host}` that cannot be trusted: it must be an https URL on a public host"
    )]
    Endpoint {
        /// The name of the field.
        name: &'static str,
        /// The host of the endpoint.
        host: String,
    },
}

impl Discovery {
    /// Starts a discovery at `issuer`, such as `https://accounts.google.com`.
    pub fn new(issuer: Url) -> Self {
        Self { issuer, http: HttpSettings::default() }
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

    /// Sets the clock for the deadline. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.http.clock = clock;
        self
    }

    /// Sets how long the server may take. Default: 30 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.http.deadline = deadline;
        self
    }

    /// Asks the server.
    ///
    /// # Errors
    /// [`DiscoveryError`] when there is no answer, or none that can be believed.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection.
    pub async fn fetch(&self) -> Result<ServerMetadata, DiscoveryError> {
        let issuer = &self.issuer;
        // RFC 8414 §2: an issuer has neither query nor fragment.
        if !is_trustworthy(issuer) || issuer.query().is_some() {
            return Err(DiscoveryError::Issuer { host: host(issuer) });
        }
        let http = self.http.client_for(issuer).map_err(DiscoveryError::Client)?;
        let HttpSettings { clock, deadline, .. } = &self.http;
        clock.until(clock.moment().after(*deadline), self.ask(&*http)).await.unwrap_or_else(|_elapsed| {
            Err(DiscoveryError::Timeout { host: host(issuer), deadline: *deadline })
        })
    }

    async fn ask(&self, http: &dyn HttpClient) -> Result<ServerMetadata, DiscoveryError> {
        let mut response = self.get(http, openid_document(&self.issuer)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            response = self.get(http, rfc8414_document(&self.issuer)).await?;
        }
        let host = || host(&self.issuer);
        // A redirect too: it would let another server speak for this one.
        if response.status() != StatusCode::OK {
            return Err(DiscoveryError::Status { host: host(), status: response.status().as_u16() });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with("application/json")) {
            return Err(DiscoveryError::NotJson { host: host() });
        }
        ServerMetadata::read(&self.issuer, response.body())
    }

    async fn get(&self, http: &dyn HttpClient, url: Url) -> Result<HttpResponse, DiscoveryError> {
        let unreachable = |source| DiscoveryError::Unreachable { host: host(&self.issuer), source };
        let mut request = HttpRequest::new(Vec::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = url.as_str().parse().map_err(|error| {
            unreachable(
                HttpError::new(HttpErrorKind::Connect, "the URL cannot be requested").with_source(error),
            )
        })?;
        request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/json"));
        let response = http.execute(request).await.map_err(unreachable)?;
        if response.body().len() > MOST_BODY_BYTES {
            let error = HttpError::new(HttpErrorKind::TooLarge, "the response body is too long");
            return Err(unreachable(error));
        }
        Ok(response)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, http } = self;
        f.debug_struct("Discovery").field("issuer", &issuer.as_str()).field("http", http).finish()
    }
}

/// OpenID Connect Discovery §4: below the issuer's path.
fn openid_document(issuer: &Url) -> Url {
    let path = issuer.path().trim_end_matches('/');
    at(issuer, &format!("{path}/.well-known/openid-configuration"))
}

/// RFC 8414 §3.1: above the issuer's path.
fn rfc8414_document(issuer: &Url) -> Url {
    let path = issuer.path().trim_end_matches('/');
    at(issuer, &format!("/.well-known/oauth-authorization-server{path}"))
}

fn at(issuer: &Url, path: &str) -> Url {
    let mut url = issuer.clone();
    url.set_path(path);
    url
}
