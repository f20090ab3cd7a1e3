//! The names under which errors are found in spans, events and metrics.

use std::fmt;

use super::{Error, ErrorKind};
use crate::observe::Fault;
use crate::outcome::Disposition;
use crate::token::TokenErrorKind;

impl ErrorKind {
    /// Returns its name in spans and metrics, such as `authentication_refused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::StartTlsUnavailable => "starttls_unavailable",
            Self::PlaintextInjected => "plaintext_injected",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Protocol => "protocol",
            Self::MechanismUnavailable => "mechanism_unavailable",
            Self::AuthenticationRefused => "authentication_refused",
            Self::SignInRequired => "sign_in_required",
            Self::TokenRefused => "token_refused",
            Self::TokenUnavailable => "token_unavailable",
            Self::ServerUnavailable => "server_unavailable",
            Self::ServerRefused => "server_refused",
            Self::SenderRefused => "sender_refused",
            Self::RecipientsRefused => "recipients_refused",
            Self::MessageRefused => "message_refused",
            Self::LimitReached => "limit_reached",
            Self::Closed => "closed",
            Self::InsideRuntime => "inside_runtime",
            Self::Unsendable => "unsendable",
            Self::Indeterminate => "indeterminate",
        }
    }
}

impl Error {
    /// Tells whether it lasts until a person does something, or, of a token store, is likely to.
    fn needs_somebody(&self) -> bool {
        match self.disposition() {
            Disposition::FixConfiguration | Disposition::Reauthenticate => true,
            Disposition::Retry { .. } => {
                self.token_error().is_some_and(|error| error.kind() == TokenErrorKind::Store)
            }
            Disposition::FixMessage | Disposition::Indeterminate => false,
        }
    }

    /// Passes to `tell` what the log says of this error.
    pub(crate) fn tell<T>(&self, tell: impl FnOnce(&Fault<'_>) -> T) -> T {
        let disposition = self.disposition();
        let enhanced = self.reply().and_then(crate::smtp::Reply::enhanced);
        let cause = self.cause();
        tell(&Fault {
            kind: self.kind().name(),
            phase: self.phase().name(),
            disposition: disposition.name(),
            needs_somebody: self.needs_somebody(),
            cause: cause.as_ref().map(|cause| cause as &dyn fmt::Debug),
            reply_code: self.reply().map(crate::smtp::Reply::code),
            enhanced: enhanced.as_ref().map(|code| code as &dyn fmt::Display),
            text: self,
        })
    }
}
