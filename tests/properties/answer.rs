//! An HTTP server that gives everybody the same answer, without a socket. Judges nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use smtp_oauth::oauth::{HttpClient, HttpFuture, HttpRequest, HttpResponse};
use smtp_oauth::testing::ManualClock;
use tokio::runtime::Runtime;

use super::patience::patient;

const STATUSES: [u16; 10] = [200, 400, 401, 403, 404, 302, 408, 429, 500, 503];
/// Real time after which a request is taken to hang.
const HANG: Duration = Duration::from_secs(10);

/// What is answered, and what was asked.
#[derive(Debug)]
pub struct Answer {
    response: HttpResponse,
    pub asked: Mutex<Vec<HttpRequest>>,
}

impl Answer {
    /// Reads an answer: an octet for the status, the content type to a 0xFF, `Retry-After` to another, and the body.
    pub fn parse(input: &[u8]) -> Arc<Self> {
        let (status, rest) = input.split_first().unwrap_or((&0, &[]));
        let mut parts = rest.splitn(3, |octet| *octet == 0xFF);
        let mut header = |usual: &'static str| match parts.next().unwrap_or_default() {
            b"" => HeaderValue::from_static(usual),
            other => HeaderValue::from_bytes(other).unwrap_or(HeaderValue::from_static("odd")),
        };
        let (content_type, retry_after) = (header("application/json"), header(""));
        let mut response = HttpResponse::new(parts.next().unwrap_or_default().to_vec());
        *response.status_mut() = STATUSES[usize::from(*status) % STATUSES.len()].try_into().unwrap();
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        if !retry_after.is_empty() {
            response.headers_mut().insert(RETRY_AFTER, retry_after);
        }
        Arc::new(Self { response, asked: Mutex::default() })
    }

    /// Answers `body` as JSON with status 200.
    pub fn json(body: &str) -> Arc<Self> {
        Self::parse(&[b"\0\xFF\xFF", body.as_bytes()].concat())
    }

    pub fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    /// Returns a text of the answer, which is an object; what comes behind it, or is no UTF-8 elsewhere, is as it may be.
    pub fn text(&self, name: &str) -> Option<String> {
        let body = String::from_utf8_lossy(self.response.body());
        let mut values = serde_json::Deserializer::from_str(&body).into_iter::<serde_json::Value>();
        Some(values.next()?.ok()?.get(name)?.as_str()?.to_owned())
    }
}

impl HttpClient for Answer {
    fn execute(&self, request: HttpRequest) -> HttpFuture<'_> {
        self.asked.lock().unwrap().push(request);
        HttpFuture::new(async { Ok(self.response.clone()) })
    }
}

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
}

/// Waits for `work`, which may wait on `clock` and for nothing else.
pub fn wait<F: Future>(clock: &ManualClock, work: F) -> F::Output {
    let patient = async { tokio::time::timeout(HANG, patient(clock, work)).await };
    RUNTIME.with(|runtime| runtime.block_on(patient)).expect("a request hangs")
}
