//! Access tokens: the wait for one, the request that serves all who wait, and what threatens the next.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

#[cfg(feature = "metrics")]
use super::metric;
#[cfg(feature = "tracing")]
use super::{Masked, seconds};
use super::{Span, Stopwatch};
use crate::clock::Clock;

#[cfg(feature = "tracing")]
const TARGET: &str = "smtp_oauth::token";

/// A connection waits for its access token; `replaces` says that the server refused the last one.
pub(crate) fn wait(replaces: bool) -> Span {
    span!(DEBUG, TARGET, "token", smtp_oauth.token.replaces_refused = replaces)
}

/// A request to a token provider, for all who wait; it runs in a task of its own.
#[derive(Clone)]
pub(crate) struct Request {
    span: Span,
    stopwatch: Stopwatch,
    /// The provider is a cache, which tells of the request it makes.
    is_passed_on: bool,
}

impl Request {
    /// Begins a request. Its span is nobody's child, since it serves many and may outlive the one who caused it: it
    /// follows from that one's span.
    pub(crate) fn begin(clock: &Clock) -> Self {
        let span = Span(
            #[cfg(feature = "tracing")]
            {
                let span = tracing::info_span!(
                    target: TARGET,
                    parent: None,
                    "token_request",
                    smtp_oauth.token.validity = tracing::field::Empty,
                    "error.type" = tracing::field::Empty,
                    otel.status_code = tracing::field::Empty,
                );
                span.follows_from(tracing::Span::current());
                span
            },
        );
        Self { span, stopwatch: Stopwatch::start(clock), is_passed_on: false }
    }

    /// Begins a request to another cache: that one tells of it.
    pub(crate) fn passed_on(clock: &Clock) -> Self {
        Self { span: Span::current(), stopwatch: Stopwatch::start(clock), is_passed_on: true }
    }

    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.run(work)
    }

    /// A token came, valid for `validity`.
    pub(crate) fn obtained(&self, clock: &Clock, validity: Duration) {
        if self.is_passed_on {
            return;
        }
        #[cfg(feature = "tracing")]
        self.span.0.in_scope(|| {
            self.span.0.record("smtp_oauth.token.validity", seconds(validity));
            tracing::debug!(
                name: "token_obtained",
                target: TARGET,
                {
                    smtp_oauth.token.validity = seconds(validity),
                },
                "an access token was obtained"
            );
        });
        #[cfg(feature = "metrics")]
        metrics::histogram!(metric::TOKEN_VALIDITY).record(validity.as_secs_f64());
        self.end(clock, "ok");
    }

    /// No token came; `old` is when the one that is used instead expires.
    pub(crate) fn failed(
        &self,
        clock: &Clock,
        kind: &'static str,
        text: &dyn fmt::Display,
        old: Option<OffsetDateTime>,
    ) {
        if self.is_passed_on {
            return;
        }
        #[cfg(feature = "tracing")]
        self.span.0.in_scope(|| {
            self.span.fail(kind);
            match old {
                Some(expires_at) => tracing::warn!(
                    name: "token_refresh_failed",
                    target: TARGET,
                    {
                        "error.type" = kind,
                        error = %Masked(text),
                        smtp_oauth.token.expires_at = %expires_at,
                    },
                    "refreshing the access token failed, the old one is still used"
                ),
                // Whoever waits gets the error, and the submission that fails of it tells it louder.
                None => tracing::debug!(
                    name: "token_request_failed",
                    target: TARGET,
                    {
                        "error.type" = kind,
                        error = %Masked(text),
                    },
                    "there is no access token"
                ),
            }
        });
        self.end(clock, kind);
    }

    fn end(&self, clock: &Clock, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        {
            let took = self.stopwatch.seconds(clock);
            metrics::histogram!(metric::TOKEN_REQUEST_DURATION, "outcome" => outcome).record(took);
            metrics::counter!(metric::TOKEN_REQUESTS, "outcome" => outcome).increment(1);
        }
    }
}

/// One HTTP request to a token endpoint.
pub(crate) fn exchange(grant: &'static str, host: &str, port: Option<u16>) -> Span {
    span!(
        DEBUG,
        TARGET,
        "token_exchange",
        otel.kind = "client",
        http.request.method = "POST",
        server.address = host,
        server.port = port,
        smtp_oauth.grant = grant,
        http.response.status_code = tracing::field::Empty,
    )
}

/// The token endpoint answered.
pub(crate) fn answered(status: u16) {
    #[cfg(feature = "tracing")]
    tracing::Span::current().record("http.response.status_code", status);
}

/// The token endpoint is asked again after `wait`.
pub(crate) fn retrying(attempt: u32, wait: Duration, kind: &'static str, text: &dyn fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "token_request_retrying",
        target: TARGET,
        {
            smtp_oauth.attempt = attempt,
            smtp_oauth.wait = seconds(wait),
            "error.type" = kind,
            error = %Masked(text),
        },
        "a token request failed, another follows"
    );
}

/// One operation of the token store: `lock`, `load` or `save`.
pub(crate) fn store(operation: &'static str) -> Span {
    span!(DEBUG, TARGET, "token_store", otel.name = operation, smtp_oauth.store.operation = operation)
}

/// The server replaced the refresh token, and the new one is in the store.
pub(crate) fn rotated() {
    #[cfg(feature = "tracing")]
    tracing::debug!(name: "refresh_token_saved", target: TARGET, "the new refresh token was saved");
}

/// Until when the client's secret or certificate works.
pub(crate) fn credential(client_id: &str, what: &'static str, expires_at: OffsetDateTime) {
    #[cfg(feature = "metrics")]
    metrics::gauge!(metric::CREDENTIAL_EXPIRY, "client_id" => client_id.to_owned(), "credential" => what)
        .set(expires_at.unix_timestamp() as f64);
}

/// The client's secret or certificate expires soon, or has expired.
pub(crate) fn credential_expires(
    client_id: &str,
    what: &'static str,
    expires_at: OffsetDateTime,
    now: OffsetDateTime,
) {
    #[cfg(feature = "tracing")]
    if expires_at <= now {
        tracing::error!(
            name: "credential_expired",
            target: TARGET,
            {
                smtp_oauth.client_id = client_id,
                smtp_oauth.credential = what,
                smtp_oauth.expires_at = %expires_at,
            },
            "the {what} has expired: make a new one"
        );
    } else {
        tracing::warn!(
            name: "credential_expires",
            target: TARGET,
            {
                smtp_oauth.client_id = client_id,
                smtp_oauth.credential = what,
                smtp_oauth.expires_at = %expires_at,
                days = (expires_at - now).whole_days(),
            },
            "the {what} expires soon: make a new one"
        );
    }
}
