//! The error of the whole crate: what failed, where, what the server said, and whose move it is.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::config::ConfigError;
use crate::outcome::{Disposition, Refusal};
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::{Phase, Reply};
use crate::token::{TokenError, TokenErrorKind};

/// What kind of thing went wrong; stable, for programs to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The settings cannot be used.
    Configuration,
    /// The server's name could not be resolved, or nothing answers at its address and port.
    Network,
    /// No TLS connection: certificate, host name, version or algorithms do not fit.
    Tls,
    /// The server does not offer STARTTLS, or refuses it.
    StartTlsUnavailable,
    /// The server spoke between STARTTLS and the handshake: somebody may be tampering with the connection.
    PlaintextInjected,
    /// Nothing happened within the limit of the phase.
    Timeout,
    /// The server closed the connection, or it broke.
    Disconnected,
    /// What answers is not an SMTP server, or breaks the protocol.
    Protocol,
    /// The server offers no way to sign in that fits the credentials.
    MechanismUnavailable,
    /// The server refused the credentials.
    AuthenticationRefused,
    /// There is no access token until a person signs in again.
    SignInRequired,
    /// There is no access token until the app registration, the request or the token store is put right.
    TokenRefused,
    /// There is no access token for the moment: the authorization server is unreachable or throttling.
    TokenUnavailable,
    /// The server cannot do it now (4yz).
    ServerUnavailable,
    /// The server refuses this client altogether (5yz before MAIL).
    ServerRefused,
    /// The server refused the sender.
    SenderRefused,
    /// The server refused every recipient.
    RecipientsRefused,
    /// The server refused the message.
    MessageRefused,
    /// The mailbox's own sending limit is reached; nothing was sent.
    LimitReached,
    /// The mailer was closed; nothing was sent.
    Closed,
    /// The message or an address cannot be sent to this server at all; nothing was sent.
    Unsendable,
    /// The connection was lost after the whole message had gone out and before the verdict.
    Indeterminate,
}

/// Why a message was not sent, or a check did not pass.
///
/// `Display` is one line without secrets; [`source`](StdError::source) has the details.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    phase: Phase,
    message: String,
    reply: Option<Reply>,
    challenge: Option<String>,
    refused: Vec<Refusal>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, phase: Phase, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            phase,
            message: message.into(),
            reply: None,
            challenge: None,
            refused: Vec::new(),
            retry_after: None,
            source: None,
        }))
    }

    fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    fn with_reply(mut self, reply: Reply) -> Self {
        self.0.reply = Some(reply);
        self
    }

    pub(crate) fn with_refused(mut self, refused: Vec<Refusal>) -> Self {
        self.0.refused = refused;
        self
    }

    /// The message may have been accepted, whatever broke after it.
    pub(crate) fn into_indeterminate(mut self) -> Self {
        self.0.kind = ErrorKind::Indeterminate;
        self.0.message = format!("the message was sent and its acceptance is unknown: {}", self.0.message);
        self
    }

    pub(crate) fn timeout(phase: Phase, limit: Duration) -> Self {
        Self::new(ErrorKind::Timeout, phase, format!("nothing happened for {limit:?} ({phase})"))
    }

    pub(crate) fn limit_reached(message: &str, wait: Option<Duration>) -> Self {
        let mut error = Self::new(ErrorKind::LimitReached, Phase::Preparation, message);
        error.0.retry_after = wait;
        error
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, Phase::Preparation, "the mailer was closed")
    }

    pub(crate) fn unsendable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsendable, Phase::Preparation, message)
    }

    /// Returns what kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the phase in which it went wrong.
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// Returns whose move it is.
    pub fn disposition(&self) -> Disposition {
        match self.0.kind {
            ErrorKind::Network
            | ErrorKind::Timeout
            | ErrorKind::Disconnected
            | ErrorKind::TokenUnavailable
            | ErrorKind::LimitReached
            | ErrorKind::ServerUnavailable => Disposition::Retry { after: self.0.retry_after },
            ErrorKind::SignInRequired => Disposition::Reauthenticate,
            ErrorKind::Configuration
            | ErrorKind::Tls
            | ErrorKind::StartTlsUnavailable
            | ErrorKind::PlaintextInjected
            | ErrorKind::Protocol
            | ErrorKind::MechanismUnavailable
            | ErrorKind::AuthenticationRefused
            | ErrorKind::TokenRefused
            | ErrorKind::ServerRefused
            | ErrorKind::Closed
            | ErrorKind::SenderRefused => Disposition::FixConfiguration,
            ErrorKind::RecipientsRefused | ErrorKind::MessageRefused | ErrorKind::Unsendable => {
                Disposition::FixMessage
            }
            ErrorKind::Indeterminate => Disposition::Indeterminate,
        }
    }

    /// Returns the reply with which the server refused, if it was the server.
    pub fn reply(&self) -> Option<&Reply> {
        self.0.reply.as_ref()
    }

    /// Returns the decoded error challenge that came before the refusal of a token (RFC 7628 §3.2.2), usually JSON.
    pub fn challenge(&self) -> Option<&str> {
        self.0.challenge.as_deref()
    }

    /// Returns the recipients that were refused before the submission failed.
    pub fn refused(&self) -> &[Refusal] {
        &self.0.refused
    }

    /// Returns how long to wait before the next attempt, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let count = error.problems().len();
        let plural = if count == 1 { "" } else { "s" };
        Self::new(
            ErrorKind::Configuration,
            Phase::Preparation,
            format!("{count} problem{plural} in the mail settings"),
        )
        .with_source(error)
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        let kind = match error.kind() {
            TokenErrorKind::SignInRequired => ErrorKind::SignInRequired,
            TokenErrorKind::Unavailable => ErrorKind::TokenUnavailable,
            TokenErrorKind::ClientRefused
            | TokenErrorKind::RequestRefused
            | TokenErrorKind::InvalidResponse
            | TokenErrorKind::InvalidToken
            | TokenErrorKind::Store
            | TokenErrorKind::Configuration => ErrorKind::TokenRefused,
        };
        let mut new = Self::new(kind, Phase::Token, "there is no access token to sign in with");
        new.0.retry_after = error.retry_after();
        new.with_source(error)
    }
}

impl From<Failure> for Error {
    fn from(Failure { phase, cause }: Failure) -> Self {
        let new = |kind, message: String| Self::new(kind, phase, message);
        match cause {
            Cause::Network(error) => {
                new(ErrorKind::Network, format!("cannot reach the mail server ({phase})")).with_source(error)
            }
            // An end in the middle of the handshake is a lost connection; certificates and versions get an alert.
            Cause::Tls(error)
                if error.get_ref().is_some() && error.kind() != std::io::ErrorKind::UnexpectedEof =>
            {
                new(ErrorKind::Tls, "the TLS handshake with the mail server failed".into()).with_source(error)
            }
            Cause::Tls(error) => Self::disconnected(phase).with_source(error),
            Cause::Timeout(limit) => Self::timeout(phase, limit),
            Cause::Closed(None) => Self::disconnected(phase),
            Cause::Closed(Some(error)) => Self::disconnected(phase).with_source(error),
            Cause::Protocol(fault) => {
                new(ErrorKind::Protocol, format!("the mail server sent {fault} ({phase})"))
            }
            Cause::Refused(reply) => {
                let (kind, what) = refusal(phase, &reply);
                new(kind, format!("the mail server {what} ({})", summary(&reply))).with_reply(reply)
            }
            Cause::Injected { bytes } => new(
                ErrorKind::PlaintextInjected,
                format!("{bytes} octets came unencrypted between STARTTLS and the TLS handshake"),
            ),
            Cause::StartTlsMissing => {
                new(ErrorKind::StartTlsUnavailable, "the mail server does not offer STARTTLS".into())
            }
            Cause::MechanismMissing { wanted, offered } => {
                let offered = if offered.is_empty() { "no mechanism".to_owned() } else { offered.join(", ") };
                let message = format!("signing in needs {wanted}, and the mail server offers {offered}");
                new(ErrorKind::MechanismUnavailable, message)
            }
            Cause::AuthRefused { reply, challenge } => {
                let (kind, what) = match reply.is_transient() {
                    true => (ErrorKind::ServerUnavailable, "cannot sign anybody in at the moment"),
                    false => (ErrorKind::AuthenticationRefused, "refused the sign-in"),
                };
                let mut error = new(kind, format!("the mail server {what} ({})", summary(&reply)));
                error.0.challenge = challenge;
                error.with_reply(reply)
            }
            Cause::Unsendable(message) => new(ErrorKind::Unsendable, message),
        }
    }
}

impl Error {
    fn disconnected(phase: Phase) -> Self {
        Self::new(ErrorKind::Disconnected, phase, format!("the mail server closed the connection ({phase})"))
    }
}

/// Says what a refusal in `phase` means, before anything is known about the reply's text.
fn refusal(phase: Phase, reply: &Reply) -> (ErrorKind, &'static str) {
    if reply.is_transient() {
        return (ErrorKind::ServerUnavailable, "cannot do it at the moment");
    }
    match phase {
        Phase::StartTls => (ErrorKind::StartTlsUnavailable, "refused STARTTLS"),
        Phase::Mail => (ErrorKind::SenderRefused, "refused the sender"),
        Phase::Rcpt => (ErrorKind::RecipientsRefused, "refused every recipient"),
        Phase::Data | Phase::Body | Phase::FinalReply => (ErrorKind::MessageRefused, "refused the message"),
        _ => (ErrorKind::ServerRefused, "refused the connection"),
    }
}

/// The numbers of a reply, for one line.
fn summary(reply: &Reply) -> String {
    match reply.enhanced() {
        Some(enhanced) => format!("{} {enhanced}", reply.code()),
        None => reply.code().to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, phase, message, reply, challenge, refused, retry_after, source } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("phase", phase)
            .field("message", message)
            .field("reply", reply)
            .field("challenge", challenge)
            .field("refused", refused)
            .field("retry_after", retry_after)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
