//! Connections: the wait for one, opening and signing in, transactions and phases, and how many there are.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(feature = "metrics")]
use super::metric;
use super::{Server, Span, Stopwatch};
use crate::clock::Clock;

#[cfg(feature = "tracing")]
const POOL: &str = "smtp_oauth::pool";
#[cfg(feature = "tracing")]
const CONNECTION: &str = "smtp_oauth::connection";

/// The wait for the right to use a connection.
#[derive(Debug)]
pub(crate) struct Turn {
    span: Span,
    stopwatch: Stopwatch,
}

impl Turn {
    pub(crate) fn begin(clock: &Clock) -> Self {
        Self { span: span!(DEBUG, POOL, "turn"), stopwatch: Stopwatch::start(clock) }
    }

    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.run(work)
    }

    /// The wait is over; one that fails counts as well.
    pub(crate) fn end<T, E>(
        self,
        server: &Server,
        clock: &Clock,
        result: Result<T, E>,
        name: impl FnOnce(&E) -> &'static str,
    ) -> Result<T, E> {
        #[cfg(feature = "metrics")]
        server.histogram(metric::QUEUE_WAIT, &[]).record(self.stopwatch.seconds(clock));
        self.span.note(result, name)
    }
}

/// Handing out a connection: an idle one, or a new one.
pub(crate) fn checkout() -> Span {
    span!(DEBUG, POOL, "checkout", smtp_oauth.connection.origin = tracing::field::Empty)
}

/// Opening one connection as far as the EHLO reply that counts.
pub(crate) fn connect(server: &Server) -> Span {
    span!(
        DEBUG,
        CONNECTION,
        "connect",
        network.protocol.name = "smtp",
        server.address = &*server.address,
        server.port = server.port,
        network.peer.address = tracing::field::Empty,
        network.peer.port = tracing::field::Empty,
        tls.protocol.version = tracing::field::Empty,
    )
}

/// The address that answered.
pub(crate) fn reached(peer: SocketAddr) {
    #[cfg(feature = "tracing")]
    tracing::Span::current()
        .record("network.peer.address", tracing::field::display(peer.ip()))
        .record("network.peer.port", peer.port());
}

/// The connection is encrypted; `version` is such as `TLS 1.3`.
pub(crate) fn encrypted(version: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::Span::current().record("tls.protocol.version", version.trim_start_matches("TLS "));
}

/// One phase of a session.
pub(crate) fn phase(name: &'static str) -> Span {
    span!(DEBUG, CONNECTION, "phase", otel.name = name, smtp_oauth.phase = name)
}

/// A phase came to its good end.
pub(crate) fn phase_done(server: &Server, name: &'static str, took: Duration) {
    #[cfg(feature = "metrics")]
    server.histogram(metric::PHASE_DURATION, &[("phase", name)]).record(took.as_secs_f64());
}

/// A phase that only the metrics measure came to its good end.
pub(crate) fn measured(server: &Server, name: &'static str, clock: &Clock, stopwatch: Stopwatch) {
    #[cfg(feature = "metrics")]
    phase_done(server, name, clock.moment().since(stopwatch.started));
}

/// Signing in.
pub(crate) fn auth(mechanism: &'static str, username: &str) -> Span {
    span!(DEBUG, CONNECTION, "auth", smtp_oauth.mechanism = mechanism, smtp_oauth.username = username)
}

/// One message over one connection.
#[derive(Debug)]
pub(crate) struct Transaction {
    span: Span,
    stopwatch: Stopwatch,
}

impl Transaction {
    pub(crate) fn begin(clock: &Clock, recipients: usize, octets: u64) -> Self {
        let span = span!(
            DEBUG,
            CONNECTION,
            "transaction",
            smtp_oauth.message.size = octets,
            smtp_oauth.recipients.count = recipients,
        );
        Self { span, stopwatch: Stopwatch::start(clock) }
    }

    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.run(work)
    }

    /// It failed with those before it on the connection.
    pub(crate) fn fail(&self, error: &'static str) {
        self.span.fail(error);
    }

    /// It is over; only the metrics measure it, and only one that came to its good end.
    pub(crate) fn end<T, E>(
        self,
        server: &Server,
        clock: &Clock,
        result: Result<T, E>,
        name: impl FnOnce(&E) -> &'static str,
    ) -> Result<T, E> {
        if result.is_ok() {
            measured(server, "transaction", clock, self.stopwatch);
        }
        self.span.note(result, name)
    }
}

/// Saying good-bye.
pub(crate) fn quit() -> Span {
    Span(
        #[cfg(feature = "tracing")]
        tracing::debug_span!(target: CONNECTION, "quit"),
    )
}

/// The server answered a command. Its words are left out: they may hold addresses, or an echo of a secret.
pub(crate) fn reply(phase: &'static str, code: u16, enhanced: Option<impl fmt::Display>) {
    #[cfg(feature = "tracing")]
    tracing::trace!(
        name: "reply",
        target: CONNECTION,
        {
            smtp_oauth.phase = phase,
            smtp_oauth.reply.code = code,
            smtp_oauth.reply.enhanced = enhanced.map(tracing::field::display),
        },
        "the mail server replied"
    );
}

/// The mail server refused the access token; another is asked for.
pub(crate) fn token_refused(server: &Server) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "token_refused",
        target: POOL,
        "the mail server refused the access token, another is asked for"
    );
    #[cfg(feature = "metrics")]
    server.counter(metric::TOKENS_REFUSED, &[]).increment(1);
}

/// No connection: it could not be opened, or not signed in.
pub(crate) fn open_failed(server: &Server, error: &'static str) {
    #[cfg(feature = "metrics")]
    server.counter(metric::FAILED, &[("error_type", error)]).increment(1);
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Whoever used it was dropped.
    Cancelled,
    /// It was opened for a check, which is over.
    Checked,
    /// The message did not leave it as it must be for another one.
    Unclean,
    /// The server closed it, or spoke, while it was idle.
    Gone,
    /// It was idle for as long as it may be.
    Idle,
    /// It is as old as it may be.
    Age,
    /// It has carried as many messages as it may.
    Messages,
    /// A new one was to be opened in its place.
    Replaced,
    /// The mailer was closed or dropped.
    MailerClosed,
}

impl Close {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Checked => "checked",
            Self::Unclean => "unclean",
            Self::Gone => "gone",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Messages => "messages",
            Self::Replaced => "replaced",
            Self::MailerClosed => "mailer_closed",
        }
    }
}

/// Counts an open connection, in use or idle, until it is dropped. Holds no span: a connection outlives submissions.
#[derive(Debug)]
pub(crate) struct Tally {
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    server: Server,
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    state: &'static str,
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    reason: Close,
}

const IN_USE: &str = "in_use";
const IDLE: &str = "idle";

impl Tally {
    /// A connection was opened for whoever runs in `checkout`.
    pub(crate) fn opened(server: &Server) -> Self {
        #[cfg(feature = "tracing")]
        {
            tracing::Span::current().record("smtp_oauth.connection.origin", "opened");
            tracing::debug!(name: "connection_opened", target: POOL, "a connection was opened and signed in");
        }
        #[cfg(feature = "metrics")]
        {
            server.counter(metric::OPENED, &[]).increment(1);
            gauge(server, IN_USE).increment(1);
        }
        Self {
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            server: server.clone(),
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            state: IN_USE,
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            reason: Close::Cancelled,
        }
    }

    /// It is idle now; if it is dropped like that, the mailer was.
    pub(crate) fn park(&mut self) {
        self.change(IDLE, Close::MailerClosed);
    }

    /// It carries another message.
    pub(crate) fn reuse(&mut self) {
        self.change(IN_USE, Close::Cancelled);
        #[cfg(feature = "tracing")]
        tracing::Span::current().record("smtp_oauth.connection.origin", "reused");
        #[cfg(feature = "metrics")]
        self.server.counter(metric::REUSED, &[]).increment(1);
    }

    /// It is given up.
    pub(crate) fn close(mut self, reason: Close) {
        #[cfg(any(feature = "tracing", feature = "metrics"))]
        {
            self.reason = reason;
        }
    }

    fn change(&mut self, state: &'static str, reason: Close) {
        #[cfg(feature = "metrics")]
        {
            gauge(&self.server, self.state).decrement(1);
            gauge(&self.server, state).increment(1);
        }
        #[cfg(any(feature = "tracing", feature = "metrics"))]
        {
            (self.state, self.reason) = (state, reason);
        }
    }
}

#[cfg(any(feature = "tracing", feature = "metrics"))]
impl Drop for Tally {
    fn drop(&mut self) {
        let reason = self.reason.name();
        #[cfg(feature = "tracing")]
        tracing::debug!(
            name: "connection_closed",
            target: POOL,
            {
                smtp_oauth.connection.close_reason = reason,
            },
            "a connection is given up"
        );
        #[cfg(feature = "metrics")]
        {
            gauge(&self.server, self.state).decrement(1);
            self.server.counter(metric::CLOSED, &[("reason", reason)]).increment(1);
        }
    }
}

#[cfg(feature = "metrics")]
fn gauge(server: &Server, state: &'static str) -> metrics::Gauge {
    server.gauge(metric::OPEN, &[("state", state)])
}
