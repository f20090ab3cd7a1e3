//! The default HTTP client, over `reqwest`: no redirects, no repeats, bounded bodies. Knows no deadline (see `client`).

use std::fmt;
use std::sync::Arc;

use super::http::{HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, MOST_BODY_BYTES};
use crate::tls::{TlsError, TlsSettings};

pub(super) struct Transport(reqwest::Client);

/// How to reach the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Through the proxy that the environment or the system names, if any.
    System,
    /// Straight: no proxy can reach this machine's loopback interface.
    Direct,
}

/// The default HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

impl Transport {
    pub(super) fn new(tls: &TlsSettings, route: Route) -> Result<Self, TransportError> {
        let tls = Arc::unwrap_or_clone(tls.client_config()?);
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // A redirect would carry the client secret and the refresh token to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // About one request an hour: a kept connection would be dead by then.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("smtp-oauth/", env!("CARGO_PKG_VERSION")));
        if route == Route::Direct {
            builder = builder.no_proxy();
        }
        Ok(Self(builder.build()?))
    }
}

impl fmt::Debug for Transport {
    /// The client's own shows the proxies, which may have passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl HttpClient for Transport {
    fn execute(&self, request: HttpRequest) -> HttpFuture<'_> {
        HttpFuture::new(async move {
            let request = reqwest::Request::try_from(request).map_err(failed)?;
            let mut response = self.0.execute(request).await.map_err(failed)?;
            let mut answer = http::Response::new(Vec::new());
            *answer.status_mut() = response.status();
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            while let Some(chunk) = response.chunk().await.map_err(failed)? {
                let body = answer.body_mut();
                if body.len() + chunk.len() > MOST_BODY_BYTES {
                    return Err(HttpError::new(HttpErrorKind::TooLarge, "the response body is too long"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(answer)
        })
    }
}

fn failed(error: reqwest::Error) -> HttpError {
    let (kind, message) = if error.is_connect() {
        (HttpErrorKind::Connect, "no connection")
    } else if error.is_timeout() {
        (HttpErrorKind::Timeout, "the response took too long")
    } else {
        (HttpErrorKind::Transfer, "the connection was lost")
    };
    HttpError::new(kind, message).with_source(error.without_url())
}
