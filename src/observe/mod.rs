//! What the crate tells `tracing` and `metrics`: the one place where spans, events and metrics have their names.
//!
//! `docs/observability.md` lists them, and `tests/observability.rs` compares. Without the features every type here is
//! empty and every function does nothing. Decides nothing, and keeps addresses out of everything above `debug`.
#![cfg_attr(
    not(all(feature = "tracing", feature = "metrics")),
    allow(
        unused_variables,
        unused_mut,
        dead_code,
        clippy::needless_pass_by_value,
        reason = "what one feature needs, the other may not"
    )
)]

/// Makes a span of this level, target, name and fields that [`Span::fail`] can mark.
macro_rules! span {
    ($level:ident, $target:expr, $name:literal $(, $($field:tt)*)?) => {
        $crate::observe::Span(
            #[cfg(feature = "tracing")]
            tracing::span!(
                target: $target,
                tracing::Level::$level,
                $name,
                "error.type" = tracing::field::Empty,
                otel.status_code = tracing::field::Empty,
                $($($field)*)?
            ),
        )
    };
}

pub(crate) mod connection;
pub(crate) mod limits;
#[cfg(feature = "metrics")]
mod metric;
mod server;
pub(crate) mod submission;
pub(crate) mod token;

use std::fmt;
#[cfg(feature = "tracing")]
use std::time::Duration;

pub(crate) use self::server::Server;
use crate::clock::Clock;
#[cfg(feature = "metrics")]
use crate::clock::Moment;

/// Describes the metrics to the recorder, with their units.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    metric::describe();
}

/// A span of `tracing`; none without the feature.
#[derive(Clone, Debug)]
#[must_use = "a span spans what runs in it"]
pub(crate) struct Span(#[cfg(feature = "tracing")] tracing::Span);

impl Span {
    /// The span that its caller is in: for work that goes on in a task of its own.
    pub(crate) fn current() -> Self {
        Self(
            #[cfg(feature = "tracing")]
            tracing::Span::current(),
        )
    }

    /// Runs `work` in the span; it is left at each await and entered again.
    pub(crate) fn run<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        #[cfg(feature = "tracing")]
        let work = tracing::Instrument::instrument(work, self.0.clone());
        work
    }

    /// Does `work` in the span.
    pub(crate) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let _entered = self.0.enter();
        work()
    }

    /// Marks the span if what ran in it failed.
    // Not one with `run`: a future that holds another as an argument and then awaits it is twice as large, at each level.
    pub(crate) fn note<T, E>(
        &self,
        result: Result<T, E>,
        name: impl FnOnce(&E) -> &'static str,
    ) -> Result<T, E> {
        result.inspect_err(|error| self.fail(name(error)))
    }

    /// Marks what the span stands for as failed.
    pub(crate) fn fail(&self, error: &'static str) {
        #[cfg(feature = "tracing")]
        self.0.record("error.type", error).record("otel.status_code", "ERROR");
    }
}

/// Measures for the metrics; reads no clock without them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: Moment,
}

impl Stopwatch {
    pub(crate) fn start(clock: &Clock) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: clock.moment(),
        }
    }

    #[cfg(feature = "metrics")]
    fn seconds(self, clock: &Clock) -> f64 {
        clock.moment().since(self.started).as_secs_f64()
    }
}

/// What the log says of an error.
pub(crate) struct Fault<'a> {
    /// The name of its kind.
    pub(crate) kind: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) disposition: &'static str,
    /// It lasts until a person does something about the settings or signs in, or, of a token store, is likely to.
    pub(crate) needs_somebody: bool,
    pub(crate) cause: Option<&'a dyn fmt::Debug>,
    pub(crate) reply_code: Option<u16>,
    pub(crate) enhanced: Option<&'a dyn fmt::Display>,
    /// One line.
    pub(crate) text: &'a dyn fmt::Display,
}

/// Shows a text without the e-mail addresses in it.
#[cfg(feature = "tracing")]
struct Masked<T>(T);

#[cfg(feature = "tracing")]
impl<T: fmt::Display> fmt::Display for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let ends = |c: char| c.is_whitespace() || "<>()[]\"'`,;:".contains(c);
        for piece in text.split_inclusive(ends) {
            let word = piece.trim_end_matches(ends);
            match word.contains('@') {
                true => write!(f, "[address]{}", piece.strip_prefix(word).unwrap_or_default())?,
                false => f.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// Seconds, for a field.
#[cfg(feature = "tracing")]
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_and_the_rest_stays() {
        let cases = [
            ("refused (535 5.7.3)", "refused (535 5.7.3)"),
            ("svc-mail@contoso.com", "[address]"),
            ("user <svc@contoso.com>, is blocked", "user <[address]>, is blocked"),
            ("account 'a.b@c.d' and b@c", "account '[address]' and [address]"),
            ("AADSTS50034: mailto:a@b.c", "AADSTS50034: mailto:[address]"),
            ("", ""),
        ];
        for (text, masked) in cases {
            assert_eq!(Masked(text).to_string(), masked);
        }
    }
}
