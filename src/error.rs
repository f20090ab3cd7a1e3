//! The error of the whole crate: what failed, where, what the server said, and whose move it is.

mod limit;
mod name;
mod remedy;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::cause::{self, Finding, ReplyCause, Verdict};
use crate::config::ConfigError;
use crate::outcome::{Disposition, Refusal};
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::{Phase, Reply};
use crate::token::{TokenError, TokenErrorKind};

pub(crate) use limit::ReachedLimit;
pub(crate) use remedy::Circumstances;

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
    /// Nothing happened within the limit of the phase, or the limit for everything together was over.
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
    /// There is no access token until the app registration or the request is put right.
    TokenRefused,
    /// There is no access token for the moment: the authorization server is unreachable or throttling, or the token store
    /// fails. A store that is damaged or full fails so too, and is logged as what needs somebody.
    TokenUnavailable,
    /// The server cannot do it now (4yz).
    ServerUnavailable,
    /// The server refuses this client altogether (5yz before MAIL).
    ServerRefused,
    /// The server refused the sender.
    SenderRefused,
    /// The server refused every recipient, or with
    /// [`RecipientPolicy::AllOrNothing`](crate::RecipientPolicy::AllOrNothing) some of them.
    RecipientsRefused,
    /// The server refused the message.
    MessageRefused,
    /// The sending limit that the settings have for the mailbox is reached, or the server has asked for a pause; nothing
    /// was sent.
    LimitReached,
    /// The mailer was closed; nothing was sent.
    ///
    /// The message can be sent again by the next process, or by another mailer: this one stays closed, and fails so each
    /// time.
    Closed,
    /// A blocking mailer was called from within an async runtime, whose thread it would block; nothing was sent.
    InsideRuntime,
    /// The message or an address cannot be sent to this server at all; nothing was sent.
    Unsendable,
    /// The connection was lost after the whole message had gone out and before the verdict.
    Indeterminate,
}

/// Why a message was not sent, or a check did not pass.
///
/// `{}` is one line without secrets, `{:#}` has the remedy below it, [`source`](StdError::source) the details: nothing that the
/// line says already.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    phase: Phase,
    message: String,
    reply: Option<Reply>,
    finding: Option<Finding>,
    challenge: Option<String>,
    refused: Vec<Refusal>,
    limit: Option<ReachedLimit>,
    retry_after: Option<Duration>,
    circumstances: Option<Circumstances>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, phase: Phase, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            phase,
            message: message.into(),
            reply: None,
            finding: None,
            challenge: None,
            refused: Vec::new(),
            limit: None,
            retry_after: None,
            circumstances: None,
            source: None,
        }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Builds the error for a refusal: the tables say what it means, else code and phase.
    fn refused_by(phase: Phase, reply: Reply) -> Self {
        let finding = cause::classify(phase, &reply);
        let (kind, what) = match finding.and_then(|finding| finding.verdict) {
            Some(verdict) => refusal_of(verdict, phase),
            None => refusal(phase, &reply),
        };
        let mut error = Self::new(kind, phase, format!("the mail server {what} ({})", summary(&reply)));
        error.0.retry_after = finding.and_then(|finding| finding.cause.window());
        error.0.finding = finding;
        error.0.reply = Some(reply);
        error
    }

    /// Adds the settings that it happened with, for the remedy.
    pub(crate) fn with_circumstances(mut self, circumstances: Circumstances) -> Self {
        self.0.circumstances = Some(circumstances);
        self
    }

    /// Adds the recipients that were refused, of so many.
    pub(crate) fn with_refused(mut self, refused: Vec<Refusal>, of: usize) -> Self {
        if let (ErrorKind::RecipientsRefused, Some(reply), 1..) = (self.0.kind, &self.0.reply, refused.len())
            && refused.len() < of
        {
            // One was enough to end a transaction of all or nothing; the others are not to be looked for faults.
            let (count, reply) = (refused.len(), summary(reply));
            self.0.message = format!("the mail server refused {count} of {of} recipients ({reply})");
        }
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

    #[cfg(feature = "blocking")]
    pub(crate) fn inside_runtime() -> Self {
        let message = "a blocking mailer was called from within an async runtime";
        Self::new(ErrorKind::InsideRuntime, Phase::Preparation, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, Phase::Preparation, "the mailer was closed")
    }

    /// `total` is the limit for everything together, whatever was going on when it was over.
    pub(crate) fn overdue(phase: Phase, total: Duration) -> Self {
        Self::new(ErrorKind::Timeout, phase, format!("the total of {total:?} was used up ({phase})"))
    }

    pub(crate) fn unsendable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsendable, Phase::Preparation, message)
    }

    /// Tells whether the provider's own token was the fault, such as the refused one once more.
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.token_error().is_some_and(|error| error.kind() == TokenErrorKind::InvalidToken)
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
            | ErrorKind::Closed
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
            | ErrorKind::InsideRuntime
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

    /// Returns why the server refused, if its reply is one of those known here.
    pub fn cause(&self) -> Option<ReplyCause> {
        self.0.finding.map(|finding| finding.cause)
    }

    /// Returns the decoded error challenge that came before the refusal of a token (RFC 7628 §3.2.2), usually JSON.
    pub fn challenge(&self) -> Option<&str> {
        self.0.challenge.as_deref()
    }

    /// Returns why there was no access token, or no other one than the server had refused, if that was it.
    ///
    /// It has what the authorization server said ([`TokenError::server_answer`]).
    pub fn token_error(&self) -> Option<&TokenError> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// Returns the recipients that were refused before the submission failed.
    pub fn refused(&self) -> &[Refusal] {
        &self.0.refused
    }

    /// Returns how long to wait before the next attempt, if the server said so, its limit is a published one, or
    /// a sending limit of the settings is reached.
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
            // Nothing was sent, and a store may only be restarting: not what a message should be given up for.
            TokenErrorKind::Unavailable | TokenErrorKind::Store => ErrorKind::TokenUnavailable,
            TokenErrorKind::ClientRefused
            | TokenErrorKind::AccountRefused
            | TokenErrorKind::RequestRefused
            | TokenErrorKind::InvalidResponse
            | TokenErrorKind::InvalidToken
            | TokenErrorKind::Configuration => ErrorKind::TokenRefused,
        };
        // The kind alone says nothing, and a log of `{}` would have neither reason nor remedy. One line, whoever wrote it.
        let message = error.to_string().replace(char::is_control, " ");
        let mut new = Self::new(kind, Phase::Token, message);
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
            Cause::Overdue(total) => Self::overdue(phase, total),
            Cause::Closed(None) => Self::disconnected(phase),
            Cause::Closed(Some(error)) => Self::disconnected(phase).with_source(error),
            Cause::Protocol(fault) => {
                new(ErrorKind::Protocol, format!("the mail server sent {fault} ({phase})"))
            }
            Cause::Refused(reply) => Self::refused_by(phase, reply),
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
                let mut error = Self::refused_by(phase, reply);
                error.0.challenge = challenge;
                error
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

/// Says what a refusal means whose cause is known.
fn refusal_of(verdict: Verdict, phase: Phase) -> (ErrorKind, &'static str) {
    match verdict {
        Verdict::Later if phase == Phase::Auth => {
            (ErrorKind::ServerUnavailable, "cannot sign anybody in at the moment")
        }
        Verdict::Later => (ErrorKind::ServerUnavailable, "cannot do it at the moment"),
        Verdict::SignIn => (ErrorKind::AuthenticationRefused, "refused the sign-in"),
        // Whatever the server did not understand at these points was STARTTLS or the sign-in.
        Verdict::Protocol if phase == Phase::StartTls => (ErrorKind::StartTlsUnavailable, "refused STARTTLS"),
        Verdict::Protocol if phase == Phase::Auth => {
            (ErrorKind::AuthenticationRefused, "refused the sign-in")
        }
        Verdict::Tls => (ErrorKind::Tls, "refused the connection for lack of sufficient TLS"),
        Verdict::Protocol => (ErrorKind::Protocol, "did not understand a command"),
        Verdict::Client => (ErrorKind::ServerRefused, "refused the connection"),
        Verdict::Sender => (ErrorKind::SenderRefused, "refused the sender"),
        Verdict::Recipients => (ErrorKind::RecipientsRefused, "refused every recipient"),
        Verdict::Message => (ErrorKind::MessageRefused, "refused the message"),
    }
}

/// Says what a refusal in `phase` means of which nothing is known but the code.
fn refusal(phase: Phase, reply: &Reply) -> (ErrorKind, &'static str) {
    if reply.is_transient() {
        return refusal_of(Verdict::Later, phase);
    }
    match phase {
        Phase::Auth => refusal_of(Verdict::SignIn, phase),
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
        f.write_str(&self.0.message)?;
        match self.remedy() {
            Some(remedy) if f.alternate() => write!(f, "\n{remedy}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            phase,
            message,
            reply,
            finding,
            challenge,
            refused,
            limit,
            retry_after,
            circumstances,
            source,
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("phase", phase)
            .field("message", message)
            .field("reply", reply)
            .field("cause", &finding.map(|finding| finding.cause))
            .field("challenge", challenge)
            .field("refused", refused)
            .field("limit", limit)
            .field("retry_after", retry_after)
            .field("circumstances", circumstances)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.token_error() {
            // Its message is this error's own.
            Some(error) if self.phase() == Phase::Token => error.source(),
            _ => self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static)),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::remedy::Who;
    use crate::token::AccessToken;

    #[test]
    fn a_token_that_cannot_be_used_says_why_and_what_to_do() {
        let cases = [
            ("", "the access token is empty"),
            ("two words", "the access token holds a character at offset 3 that no token may hold"),
            ("EwB\r\nQUIT", "the access token holds a character at offset 3 that no token may hold"),
        ];
        for (text, message) in cases {
            let error = Error::from(AccessToken::new(text, OffsetDateTime::UNIX_EPOCH).unwrap_err());
            assert_eq!(error.kind(), ErrorKind::TokenRefused);
            assert_eq!(error.disposition(), Disposition::FixConfiguration);
            assert_eq!(error.to_string(), message);
            assert!(format!("{error:#}").contains("Bearer"), "{error:#}");
            assert_eq!(error.token_error().map(ToString::to_string).as_deref(), Some(message));
            assert!(error.source().is_none(), "it would say the same again");
        }
    }

    #[test]
    fn a_token_store_that_fails_is_asked_again_and_needs_somebody_if_it_lasts() {
        let error = Error::from(TokenError::new(TokenErrorKind::Store, "the vault is sealed"));
        assert_eq!(error.kind(), ErrorKind::TokenUnavailable);
        assert_eq!(error.disposition(), Disposition::Retry { after: None });
        assert!(error.tell(|fault| fault.needs_somebody));
        let other = Error::from(TokenError::new(TokenErrorKind::Unavailable, "throttled"));
        assert!(!other.tell(|fault| fault.needs_somebody));
    }

    #[test]
    fn what_a_closed_mailer_did_not_send_goes_out_by_the_next_one() {
        let error = Error::closed();
        assert_eq!(error.disposition(), Disposition::Retry { after: None });
        assert!(!error.tell(|fault| fault.needs_somebody));
        let remedy = error.remedy().unwrap();
        assert_eq!(remedy.who(), Who::Nobody);
        assert!(remedy.steps()[0].contains("after the restart"), "{remedy}");
    }

    #[test]
    fn a_providers_words_stay_on_one_line() {
        let error =
            Error::from(TokenError::new(TokenErrorKind::Unavailable, "no token:\r\nthe vault is sealed"));
        assert_eq!(error.to_string(), "no token:  the vault is sealed");
    }
}
