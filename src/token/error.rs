//! Why there is no access token, and whose move it is. Speaks of no particular authorization server.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What kind of obstacle stands between the caller and an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenErrorKind {
    /// A person must sign in (again): the grant is missing, expired, revoked, or lacks consent (`invalid_grant`,
    /// `interaction_required`).
    SignInRequired,
    /// The authorization server does not accept the app: wrong or expired secret, unknown or disabled client
    /// (`invalid_client`, `unauthorized_client`).
    ClientRefused,
    /// The account may not have a token: disabled, not assigned to the app, or blocked by a policy. An administrator can
    /// change that, a new sign-in cannot.
    AccountRefused,
    /// The authorization server does not accept the request: wrong scope, tenant or grant (`invalid_request`,
    /// `invalid_scope`).
    RequestRefused,
    /// The authorization server cannot be reached, is throttling, or failed (timeouts, 429, 5xx); trying later can help.
    Unavailable,
    /// The answer was not one that a token endpoint gives: HTML, a redirect, malformed JSON, or too long.
    InvalidResponse,
    /// The token itself cannot be used: empty, with characters that no token may hold, expired, or the one that the mail
    /// server has just refused.
    InvalidToken,
    /// The token store could not be read, written or locked. Such a failure is tried again, for a store that is restarted
    /// works after it; one that lasts needs somebody.
    Store,
    /// The provider was set up in a way that cannot work.
    Configuration,
}

impl TokenErrorKind {
    /// Returns its name in spans and metrics, such as `sign_in_required`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignInRequired => "sign_in_required",
            Self::ClientRefused => "client_refused",
            Self::AccountRefused => "account_refused",
            Self::RequestRefused => "request_refused",
            Self::Unavailable => "unavailable",
            Self::InvalidResponse => "invalid_response",
            Self::InvalidToken => "invalid_token",
            Self::Store => "store",
            Self::Configuration => "configuration",
        }
    }
}

/// An access token could not be had.
///
/// Cheap to clone, because every task that waited for the same request gets the same error.
#[derive(Clone)]
pub struct TokenError(Arc<Inner>);

struct Inner {
    kind: TokenErrorKind,
    message: String,
    server: ServerAnswer,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What the authorization server said about its refusal (RFC 6749 §5.2, and Entra's additions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerAnswer {
    /// HTTP status code.
    pub status: Option<u16>,
    /// The `error` field, such as `invalid_grant`.
    pub error: Option<String>,
    /// The `error_description` field.
    pub description: Option<String>,
    /// The `suberror` field.
    pub suberror: Option<String>,
    /// The numbers of `error_codes`: `AADSTS` codes.
    pub codes: Vec<u32>,
    /// The `correlation_id` field, for a support request.
    pub correlation_id: Option<String>,
    /// The `trace_id` field, for a support request.
    pub trace_id: Option<String>,
    /// The `timestamp` field, for a support request.
    pub timestamp: Option<String>,
    /// The `claims` challenge, which the next sign-in must carry.
    pub claims: Option<String>,
}

impl TokenError {
    /// Creates an error; `message` says what failed, without any secret.
    pub fn new(kind: TokenErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            server: ServerAnswer::default(),
            retry_after: None,
            source: None,
        }))
    }

    /// Adds the cause, which may hold no secret either.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.edit(|inner| inner.source = Some(source.into()))
    }

    /// Adds what the authorization server said.
    #[must_use]
    pub fn with_server_answer(self, server: ServerAnswer) -> Self {
        self.edit(|inner| inner.server = server)
    }

    /// Adds how long to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(wait))
    }

    /// Changes an error that is still being built: nobody else holds it yet.
    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }

    /// Returns the kind of obstacle; the part of the error that programs may match on.
    pub fn kind(&self) -> TokenErrorKind {
        self.0.kind
    }

    /// Returns what the authorization server said; all empty when it was not reached.
    pub fn server_answer(&self) -> &ServerAnswer {
        &self.0.server
    }

    /// Returns how long the server asked to wait (`Retry-After`, RFC 9110 §10.2.3); a token endpoint at most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Tells whether the same request may succeed later without anybody changing anything.
    ///
    /// So it may after [`TokenErrorKind::Store`], though a store that is damaged or full stays so until somebody mends it.
    pub fn is_temporary(&self) -> bool {
        matches!(self.0.kind, TokenErrorKind::Unavailable | TokenErrorKind::Store)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, server, retry_after, source } = &*self.0;
        f.debug_struct("TokenError")
            .field("kind", kind)
            .field("message", message)
            .field("server", server)
            .field("retry_after", retry_after)
            .field("source", source)
            .finish()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
