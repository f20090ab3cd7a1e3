//! A submission from the call to its outcome, and its further attempts.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "metrics")]
use super::metric;
use super::{Fault, Server, Span, Stopwatch};
#[cfg(feature = "tracing")]
use super::{Masked, seconds};
use crate::clock::Clock;

#[cfg(feature = "tracing")]
const TARGET: &str = "smtp_oauth::mailer";

/// A submission under way; one that is dropped was cancelled.
pub(crate) struct Submission<'a> {
    span: Span,
    clock: &'a Clock,
    server: &'a Server,
    stopwatch: Stopwatch,
    #[cfg(any(feature = "tracing", feature = "metrics"))]
    is_over: bool,
}

impl<'a> Submission<'a> {
    pub(crate) fn begin(clock: &'a Clock, server: &'a Server, recipients: usize, octets: usize) -> Self {
        #[cfg(feature = "metrics")]
        server.histogram(metric::MESSAGE_SIZE, &[]).record(octets as f64);
        let span = span!(
            INFO,
            TARGET,
            "submission",
            otel.kind = "client",
            otel.name = "SMTP submission",
            network.protocol.name = "smtp",
            server.address = &*server.address,
            server.port = server.port,
            smtp_oauth.message.size = octets,
            smtp_oauth.recipients.count = recipients,
            smtp_oauth.recipients.accepted = tracing::field::Empty,
            smtp_oauth.recipients.refused = tracing::field::Empty,
            smtp_oauth.disposition = tracing::field::Empty,
            smtp_oauth.phase = tracing::field::Empty,
        );
        Self {
            span,
            clock,
            server,
            stopwatch: Stopwatch::start(clock),
            #[cfg(any(feature = "tracing", feature = "metrics"))]
            is_over: false,
        }
    }

    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.span.run(work)
    }

    /// The server took the message for `accepted` recipients.
    pub(crate) fn accepted<'r>(
        mut self,
        accepted: usize,
        refused: usize,
        message_id: Option<&str>,
        refusals: impl Iterator<Item = Refused<'r>>,
    ) {
        #[cfg(feature = "tracing")]
        self.span.0.in_scope(|| {
            let span = &self.span.0;
            span.record("smtp_oauth.recipients.accepted", accepted);
            span.record("smtp_oauth.recipients.refused", refused);
            tracing::debug!(
                name: "submission_accepted",
                target: TARGET,
                {
                    smtp_oauth.recipients.accepted = accepted,
                    smtp_oauth.recipients.refused = refused,
                    smtp_oauth.message.id = message_id,
                },
                "the mail server took responsibility for the message"
            );
            if refused > 0 {
                tracing::warn!(
                    name: "recipients_refused",
                    target: TARGET,
                    {
                        smtp_oauth.recipients.accepted = accepted,
                        smtp_oauth.recipients.refused = refused,
                    },
                    "the mail server refused some of the recipients"
                );
            }
        });
        self.count(accepted, "accepted");
        self.refused(refusals);
        self.end(if refused == 0 { "accepted" } else { "partly_accepted" }, "");
    }

    /// The submission failed; whoever called it has the error.
    pub(crate) fn failed<'r>(mut self, fault: &Fault<'_>, refusals: impl Iterator<Item = Refused<'r>>) {
        #[cfg(feature = "tracing")]
        self.span.0.in_scope(|| {
            self.span.fail(fault.kind);
            self.span.0.record("smtp_oauth.disposition", fault.disposition);
            self.span.0.record("smtp_oauth.phase", fault.phase);
            match fault.needs_somebody {
                true => failed_event!(tracing::Level::ERROR, fault),
                false => failed_event!(tracing::Level::WARN, fault),
            }
        });
        self.refused(refusals);
        self.end(fault.disposition, fault.kind);
    }

    fn refused<'r>(&self, refusals: impl Iterator<Item = Refused<'r>>) {
        for Refused { recipient, reply_code, disposition } in refusals {
            #[cfg(feature = "tracing")]
            self.span.0.in_scope(|| {
                tracing::debug!(
                    name: "recipient_refused",
                    target: TARGET,
                    {
                        smtp_oauth.recipient = %recipient,
                        smtp_oauth.reply.code = reply_code,
                        smtp_oauth.disposition = disposition,
                    },
                    "the mail server refused a recipient"
                );
            });
            self.count(1, "refused");
        }
    }

    fn count(&self, recipients: usize, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        self.server.counter(metric::RECIPIENTS, &[("outcome", outcome)]).increment(recipients as u64);
    }

    fn end(&mut self, outcome: &'static str, error: &'static str) {
        #[cfg(any(feature = "tracing", feature = "metrics"))]
        {
            self.is_over = true;
        }
        #[cfg(feature = "metrics")]
        {
            let (outcome, error) = (("outcome", outcome), ("error_type", error));
            let took = self.stopwatch.seconds(self.clock);
            self.server.histogram(metric::SUBMISSION_DURATION, &[outcome]).record(took);
            self.server.counter(metric::SUBMISSIONS, &[outcome, error]).increment(1);
        }
    }
}

#[cfg(any(feature = "tracing", feature = "metrics"))]
impl Drop for Submission<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            #[cfg(feature = "tracing")]
            self.span.0.in_scope(|| {
                tracing::debug!(
                    name: "submission_cancelled",
                    target: TARGET,
                    "the submission was dropped by its caller",
                );
            });
            self.end("cancelled", "");
        }
    }
}

/// A recipient for whom the message was not accepted.
pub(crate) struct Refused<'a> {
    pub(crate) recipient: &'a dyn fmt::Display,
    pub(crate) reply_code: Option<u16>,
    pub(crate) disposition: &'static str,
}

/// The level of an event must be known when it is compiled.
#[cfg(feature = "tracing")]
macro_rules! failed_event {
    ($level:expr, $fault:expr) => {
        tracing::event!(
            name: "submission_failed",
            target: TARGET,
            $level,
            {
                "error.type" = $fault.kind,
                smtp_oauth.phase = $fault.phase,
                smtp_oauth.disposition = $fault.disposition,
                smtp_oauth.cause = $fault.cause.map(tracing::field::debug),
                smtp_oauth.reply.code = $fault.reply_code,
                smtp_oauth.reply.enhanced = $fault.enhanced.map(tracing::field::display),
                error = %Masked($fault.text),
            },
            "the submission failed"
        )
    };
}
#[cfg(feature = "tracing")]
use failed_event;

/// The submission is tried again after `wait`; `attempt` is the number of the one that failed.
pub(crate) fn retrying(server: &Server, attempt: u32, wait: Duration, fault: &Fault<'_>) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "submission_retrying",
        target: TARGET,
        {
            smtp_oauth.attempt = attempt,
            smtp_oauth.wait = seconds(wait),
            "error.type" = fault.kind,
            smtp_oauth.phase = fault.phase,
            smtp_oauth.cause = fault.cause.map(tracing::field::debug),
            smtp_oauth.reply.code = fault.reply_code,
            smtp_oauth.reply.enhanced = fault.enhanced.map(tracing::field::display),
            error = %Masked(fault.text),
        },
        "an attempt at the submission failed, another follows"
    );
    #[cfg(feature = "metrics")]
    server.counter(metric::RETRIES, &[("error_type", fault.kind)]).increment(1);
}

/// An idle connection was closed by the server as the message was sent into it; another is used.
pub(crate) fn stale() {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        name: "connection_stale",
        target: TARGET,
        "the idle connection was closed by the mail server, the message goes over another",
    );
}

/// The server offers CHUNKING and refuses BDAT; the message goes by DATA.
pub(crate) fn chunking_refused() {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        name: "chunking_refused",
        target: TARGET,
        "the mail server offers CHUNKING and refuses BDAT, messages go by DATA from now on",
    );
}
