//! Why a step of an SMTP session failed, in the terms of this layer. Whose move it is, is said by `crate::Error`.

use std::io;
use std::time::Duration;

use super::phase::Phase;
use super::reply::Reply;

/// One step failed; `phase` says which.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) phase: Phase,
    pub(crate) cause: Cause,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// The operating system could not resolve the name or open the connection.
    Network(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// Nothing happened within the limit.
    Timeout(Duration),
    /// The limit for everything together was over.
    Overdue(Duration),
    /// The server closed the connection where a reply was due, or the connection broke.
    Closed(Option<io::Error>),
    /// What came is not an SMTP reply, or longer than one may be.
    Protocol(ReplyFault),
    /// The server refused.
    Refused(Reply),
    /// The server spoke before the TLS handshake (RFC 3207 §6): somebody may be injecting replies.
    Injected { bytes: usize },
    /// STARTTLS is required and not offered.
    StartTlsMissing,
    /// None of the mechanisms that fit the credentials is offered.
    MechanismMissing { wanted: &'static str, offered: Vec<String> },
    /// The server refused the credentials; `challenge` is the decoded `334` that came before, if any.
    AuthRefused { reply: Reply, challenge: Option<String> },
    /// The message or an address cannot be sent to this server.
    Unsendable(String),
}

/// What is wrong with bytes that should have been a reply (RFC 5321 §4.2, §4.5.3.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyFault {
    LineTooLong,
    TooManyLines,
    TooManyBytes,
    Malformed,
    Unexpected(u16),
}

impl Cause {
    /// Returns its name in spans.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Network(_) => "network",
            Self::Tls(_) => "tls",
            Self::Timeout(_) | Self::Overdue(_) => "timeout",
            Self::Closed(_) => "disconnected",
            Self::Protocol(_) => "protocol",
            Self::Refused(_) | Self::AuthRefused { .. } => "refused",
            Self::Injected { .. } => "plaintext_injected",
            Self::StartTlsMissing => "starttls_unavailable",
            Self::MechanismMissing { .. } => "mechanism_unavailable",
            Self::Unsendable(_) => "unsendable",
        }
    }

    /// Returns what it means for the other messages on the connection, whose replies will not come.
    pub(crate) fn of_connection(&self) -> Self {
        match self {
            Self::Timeout(limit) => Self::Timeout(*limit),
            Self::Overdue(total) => Self::Overdue(*total),
            Self::Protocol(fault) => Self::Protocol(*fault),
            Self::Closed(error) => Self::Closed(error.as_ref().map(|error| error.kind().into())),
            Self::Refused(reply) if reply.code() == 421 => Self::Refused(reply.clone()),
            _ => Self::Closed(None),
        }
    }
}

impl Failure {
    pub(crate) fn name(&self) -> &'static str {
        self.cause.name()
    }

    pub(crate) fn new(phase: Phase, cause: Cause) -> Self {
        Self { phase, cause }
    }
}

impl std::fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LineTooLong => f.write_str("a reply line without end"),
            Self::TooManyLines => f.write_str("a reply with too many lines"),
            Self::TooManyBytes => f.write_str("a reply that is too long"),
            Self::Malformed => f.write_str("something that is no SMTP reply"),
            Self::Unexpected(code) => write!(f, "a {code} reply that does not belong here"),
        }
    }
}
