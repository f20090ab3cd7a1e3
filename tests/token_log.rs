//! An early refresh that fails is told to the log, once, without a secret; nothing else of the token's life is a warning.
#![cfg(feature = "tracing")]

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::entra::ClientSecret;
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault};
use smtp_oauth::{TokenProvider, TokenRequest};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Writes down the warnings and errors of this crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("smtp_oauth") && *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[tokio::test]
async fn a_failed_early_refresh_is_one_warning_without_a_secret() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).token_length(100).start().await;
    let cache = entra.app().build().unwrap().refresh_token(entra.store());
    cache.token(TokenRequest::new()).await.unwrap();
    assert!(log.0.lock().unwrap().is_empty());
    manual.advance(Duration::from_secs(73 * 60));
    entra.fail_next(1, TokenFault::ThrottledWithRetryAfter(Duration::from_secs(60)));
    for _ in 0..5 {
        cache.token(TokenRequest::new()).await.unwrap();
    }
    let lines = log.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (level, line) = &lines[0];
    assert_eq!(*level, Level::WARN);
    assert!(line.contains("token endpoint is throttling the refresh token grant (HTTP 429)"), "{line}");
    for secret in entra.refresh_tokens().into_iter().chain(entra.tokens().all()).chain(entra.client_secret())
    {
        assert!(!line.contains(&secret), "{line}");
    }
}

#[tokio::test]
async fn a_client_secret_that_expires_soon_is_a_warning() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let secret = |days| {
        let value = entra.client_secret().unwrap();
        ClientSecret::new(value).with_expires_at(manual.clock().now() + time::Duration::days(days))
    };
    entra.app().client_secret(secret(31)).build().unwrap();
    assert!(log.0.lock().unwrap().is_empty());
    entra.app().client_secret(secret(30)).build().unwrap();
    let lines = log.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("the client secret expires soon"), "{lines:?}");
    assert!(!lines[0].1.contains(&entra.client_secret().unwrap()), "{lines:?}");
}

#[tokio::test]
async fn a_program_that_runs_on_is_warned_once_a_day() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).token_length(100).start().await;
    let expires_at = manual.clock().now() + time::Duration::days(31);
    let secret = ClientSecret::new(entra.client_secret().unwrap()).with_expires_at(expires_at);
    let cache = entra.app().client_secret(secret).build().unwrap().refresh_token(entra.store());
    for _hour in 0..24 * 33 {
        manual.advance(Duration::from_secs(60 * 60));
        cache.token(TokenRequest::new()).await.unwrap();
    }
    let lines: Vec<_> = log.0.lock().unwrap().iter().map(|(_, line)| line.clone()).collect();
    assert_eq!(lines.len(), 33 - 1, "{lines:?}");
    assert!(lines[0].contains("days=29") && lines[0].contains("the client secret expires soon"), "{lines:?}");
    assert!(lines[30].contains("the client secret has expired"), "{lines:?}");
    assert_eq!(log.0.lock().unwrap()[30].0, Level::ERROR, "somebody must act");
}
