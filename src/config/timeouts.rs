//! How long each step of a submission may take (RFC 5321 §4.5.3.2). Starts no timer.

use std::time::Duration;

use super::problem::ConfigProblem;
use super::time::written;

/// The longest wait that can be set; longer ones are mistakes in the unit.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest wait for each step of a submission.
///
/// The defaults from `greeting` on follow RFC 5321 §4.5.3.2, which gives minima for relaying servers; for the short
/// commands, where a person or a request is waiting, they are one minute instead of five. A wait must be longer than
/// zero and at most 24 hours.
///
/// ```
/// use smtp_oauth::Timeouts;
/// use std::time::Duration;
///
/// let timeouts = Timeouts::new().with_connect(Duration::from_secs(5)).with_total(Duration::from_secs(60));
/// assert_eq!(timeouts.connect(), Duration::from_secs(5));
/// assert_eq!(timeouts.final_reply(), Duration::from_secs(600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    connect: Duration,
    tls: Duration,
    greeting: Duration,
    ehlo: Duration,
    starttls: Duration,
    auth: Duration,
    envelope: Duration,
    data: Duration,
    body_progress: Duration,
    final_reply: Duration,
    total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Self {
            connect: Duration::from_secs(30),
            tls: Duration::from_secs(30),
            greeting: Duration::from_secs(MINUTE),
            ehlo: Duration::from_secs(MINUTE),
            starttls: Duration::from_secs(MINUTE),
            auth: Duration::from_secs(MINUTE),
            envelope: Duration::from_secs(5 * MINUTE),
            data: Duration::from_secs(2 * MINUTE),
            body_progress: Duration::from_secs(3 * MINUTE),
            final_reply: Duration::from_secs(10 * MINUTE),
            total: Duration::from_secs(15 * MINUTE),
        }
    }
}

macro_rules! waits {
    ($($name:ident, $with:ident, $get:literal, $set:literal, $more:literal;)*) => {
        $(
            #[doc = $get]
            ///
            #[doc = $more]
            pub fn $name(&self) -> Duration {
                self.$name
            }

            #[doc = $set]
            ///
            #[doc = $more]
            #[must_use]
            pub fn $with(mut self, wait: Duration) -> Self {
                self.$name = wait;
                self
            }
        )*

        /// The names of the waits, as in settings.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// Sets the wait called `name`; a name that is not in [`NAMES`](Self::NAMES) changes nothing.
        pub(crate) fn with_named(self, name: &str, wait: Duration) -> Self {
            match name {
                $(stringify!($name) => self.$with(wait),)*
                _ => self,
            }
        }

        fn named(&self) -> impl Iterator<Item = (&'static str, Duration)> {
            [$((stringify!($name), self.$name)),*].into_iter()
        }
    };
}

impl Timeouts {
    /// Creates the default timeouts.
    pub fn new() -> Self {
        Self::default()
    }

    waits! {
        connect, with_connect, "Returns the wait for the TCP connection.", "Sets the wait for the TCP connection.",
            "It covers all addresses of the host together. Default: 30 seconds.";
        tls, with_tls, "Returns the wait for the TLS handshake.", "Sets the wait for the TLS handshake.",
            "Default: 30 seconds.";
        greeting, with_greeting, "Returns the wait for the greeting.", "Sets the wait for the greeting.",
            "Default: 60 seconds (RFC 5321 §4.5.3.2.1 has 5 minutes).";
        ehlo, with_ehlo, "Returns the wait for the reply to EHLO.", "Sets the wait for the reply to EHLO.",
            "Default: 60 seconds.";
        starttls, with_starttls, "Returns the wait for the reply to STARTTLS.", "Sets the wait for the reply to STARTTLS.",
            "Default: 60 seconds.";
        auth, with_auth, "Returns the wait for each reply to AUTH.", "Sets the wait for each reply to AUTH.",
            "Default: 60 seconds.";
        envelope, with_envelope, "Returns the wait for each reply to MAIL and RCPT.",
            "Sets the wait for each reply to MAIL and RCPT.",
            "Default: 5 minutes (RFC 5321 §4.5.3.2.2 and §4.5.3.2.3).";
        data, with_data, "Returns the wait for the reply to DATA.", "Sets the wait for the reply to DATA.",
            "Default: 2 minutes (RFC 5321 §4.5.3.2.4).";
        body_progress, with_body_progress, "Returns how long a body may stand still.",
            "Sets how long a body may stand still.",
            "It begins anew with each piece the server takes, so large messages need no longer one. Default: 3 minutes (RFC 5321 §4.5.3.2.5).";
        final_reply, with_final_reply, "Returns the wait for the reply to a whole message.",
            "Sets the wait for the reply to a whole message.",
            "A short one leads to duplicates: the server may have taken the message already (RFC 1047). Default: 10 minutes (RFC 5321 §4.5.3.2.6).";
        total, with_total, "Returns how long one submission may take in all.", "Sets how long one submission may take in all.",
            "It includes waiting for a connection, signing in and trying again. Default: 15 minutes.";
    }

    /// Returns the problem of each wait that is zero or too long, as `timeouts.connect` and so on.
    pub(crate) fn problems(&self) -> impl Iterator<Item = ConfigProblem> {
        self.named().filter(|(_, wait)| wait.is_zero() || *wait > LONGEST).map(|(name, wait)| {
            ConfigProblem::new(name, "enter a time longer than zero and at most 24 hours, such as 30s or 5m")
                .showing(written(wait))
                .within("timeouts")
        })
    }
}
