//! The seam to HTTP: what a token endpoint needs of a client. Sends nothing itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// An HTTP request.
pub type HttpRequest = http::Request<Vec<u8>>;

/// An HTTP response.
pub type HttpResponse = http::Response<Vec<u8>>;

/// No token endpoint's answer is longer.
pub(super) const MOST_BODY_BYTES: usize = 1024 * 1024;

/// Sends requests to token endpoints.
///
/// The default is made with the `reqwest` feature. Bring your own to go through an HTTP stack that you already have:
/// it must verify TLS certificates, must not follow redirects (a secret would travel along), must not repeat requests,
/// and should stop reading a body at 1 MiB. The deadline is set by the caller, who drops the future.
///
/// ```
/// use smtp_oauth::oauth::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest};
///
/// #[derive(Debug)]
/// struct Offline;
///
/// impl HttpClient for Offline {
///     fn execute(&self, _request: HttpRequest) -> HttpFuture<'_> {
///         HttpFuture::new(async { Err(HttpError::new(HttpErrorKind::Connect, "the cable is out")) })
///     }
/// }
/// ```
pub trait HttpClient: fmt::Debug + Send + Sync {
    /// Sends `request` and reads the whole response.
    ///
    /// # Errors
    /// [`HttpError`] when there is no response; a response with an error status is `Ok`.
    ///
    /// # Cancellation
    /// Dropping the future must close the connection.
    fn execute(&self, request: HttpRequest) -> HttpFuture<'_>;
}

/// The future an [`HttpClient`] returns.
pub struct HttpFuture<'a>(Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>);

impl<'a> HttpFuture<'a> {
    /// Wraps a future.
    pub fn new(future: impl Future<Output = Result<HttpResponse, HttpError>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for HttpFuture<'_> {
    type Output = Result<HttpResponse, HttpError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for HttpFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpFuture")
    }
}

/// How far an HTTP request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// No connection: name, route, proxy or TLS. The request was not sent, so sending it again is harmless.
    Connect,
    /// The client's own deadline passed.
    Timeout,
    /// The connection was lost between request and response.
    Transfer,
    /// The response body is longer than an answer of a token endpoint can be.
    TooLarge,
}

/// There is no HTTP response.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    kind: HttpErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl HttpError {
    /// Creates an error; `message` says what failed, without any secret.
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause, which may hold no secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns how far the request came.
    pub fn kind(&self) -> HttpErrorKind {
        self.kind
    }
}
