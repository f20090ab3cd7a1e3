//! Listens in between the `oauth2` crate and HTTP: keeps what that crate drops, and holds back what it would misread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use oauth2::AsyncHttpClient;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::form_urlencoded;

use super::error::ErrorBody;
use super::http::{
    HttpClient, HttpError, HttpErrorKind, HttpFuture, HttpRequest, HttpResponse, MOST_BODY_BYTES,
};
use crate::clock::Clock;

/// No token endpoint means a longer wait; a mistaken or hostile one must not stop mail for ever.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Wraps an HTTP client for one attempt at one grant.
///
/// Owns its client: with a borrow here the futures of the `oauth2` crate are not `Send`.
pub(super) struct Tap {
    http: Arc<dyn HttpClient>,
    clock: Clock,
    exchange: Arc<Mutex<Exchange>>,
    assertion: Option<SecretString>,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    pub(super) status: Option<StatusCode>,
    pub(super) retry_after: Option<Duration>,
    pub(super) content_type: Option<String>,
    pub(super) body: Option<ErrorBody>,
}

/// Why the `oauth2` crate does not get to see a response.
#[derive(Debug, thiserror::Error)]
pub(super) enum TapError {
    #[error(transparent)]
    Http(HttpError),
    #[error("a redirect")]
    Redirect,
    #[error("busy or broken")]
    Busy,
    #[error("not JSON")]
    NotJson,
}

impl Tap {
    pub(super) fn new(http: Arc<dyn HttpClient>, clock: Clock) -> Self {
        Self { http, clock, exchange: Arc::default(), assertion: None }
    }

    /// Adds a client assertion to the request's form, which the `oauth2` crate cannot do for every grant.
    pub(super) fn with_assertion(mut self, assertion: Option<SecretString>) -> Self {
        self.assertion = assertion;
        self
    }

    /// Returns what was heard so far.
    pub(super) fn exchange(&self) -> Exchange {
        lock(&self.exchange).clone()
    }
}

impl<'c> AsyncHttpClient<'c> for Tap {
    type Error = TapError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, TapError>> + Send + 'c>>;

    fn call(&'c self, mut request: HttpRequest) -> Self::Future {
        if let Some(assertion) = &self.assertion {
            append(request.body_mut(), assertion);
        }
        let answer: HttpFuture<'c> = self.http.execute(request);
        Box::pin(async move {
            let response = answer.await.map_err(TapError::Http)?;
            // The default client has stopped reading by then, which is what bounds the memory; others need not have.
            if response.body().len() > MOST_BODY_BYTES {
                let error = HttpError::new(HttpErrorKind::TooLarge, "the response body is too long");
                return Err(TapError::Http(error));
            }
            *lock(&self.exchange) = Exchange::of(&response, &self.clock);
            screen(response)
        })
    }
}

/// RFC 7521 §4.2: both are form parameters beside those of the grant.
fn append(form: &mut Vec<u8>, assertion: &SecretString) {
    let mut more = form_urlencoded::Serializer::new(String::new());
    more.append_pair("client_assertion_type", ASSERTION_TYPE)
        .append_pair("client_assertion", assertion.expose_secret());
    form.extend_from_slice(b"&");
    form.extend_from_slice(more.finish().as_bytes());
}

impl Exchange {
    pub(super) fn of(response: &HttpResponse, clock: &Clock) -> Self {
        let headers = response.headers();
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Self {
            status: Some(response.status()),
            retry_after: retry_after(headers, SystemTime::from(clock.now())),
            content_type: content_type
                .map(|value| value.split(';').next().unwrap_or_default().trim().to_owned()),
            // A response that holds a token is not read here, so that there is one copy less of it.
            body: if holds_error(response.body()) {
                serde_json::from_slice(response.body()).ok()
            } else {
                None
            },
        }
    }
}

fn screen(mut response: HttpResponse) -> Result<HttpResponse, TapError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(TapError::Redirect);
    }
    // Whatever a body says: a server in trouble proves nothing about the refresh token.
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        return Err(TapError::Busy);
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| !value.to_ascii_lowercase().starts_with("application/json")) {
        return Err(TapError::NotJson);
    }
    // Some servers report errors with status 200; the parser would only miss `access_token`.
    if status.is_success() && holds_error(response.body()) {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

fn holds_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        error: Option<IgnoredAny>,
        access_token: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Shape>(body)
        .is_ok_and(|shape| shape.error.is_some() && shape.access_token.is_none())
}

/// RFC 9110 §10.2.3: a number of seconds or a date; no more than a day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that are no number are too many of them.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

fn lock(exchange: &Mutex<Exchange>) -> MutexGuard<'_, Exchange> {
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let cases = [
            ("60", Some(60)),
            (" 7 ", Some(7)),
            ("Thu, 01 Jan 2026 00:01:30 GMT", Some(90)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
            ("86401", Some(86_400)),
            ("18446744073709551615", Some(86_400)),
            ("18446744073709551616", Some(86_400)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
            ("soon", None),
            ("", None),
            ("-1", None),
        ];
        for (value, seconds) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
