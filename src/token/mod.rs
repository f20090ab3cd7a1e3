//! Access tokens and who provides them: the seam between OAuth and SMTP. Knows no grant, no server and no file format.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

mod cache;
mod error;
pub mod store;

pub use cache::TokenCache;
pub use error::{ServerAnswer, TokenError, TokenErrorKind};

/// A bearer token with its expiry (RFC 6750); cheap to clone, redacted in `Debug`, zeroed when the last clone is dropped.
///
/// ```
/// use smtp_oauth::AccessToken;
/// use time::{Duration, OffsetDateTime};
///
/// let token = AccessToken::new("EwBAAl3BAAUF", OffsetDateTime::now_utc() + Duration::HOUR)?;
/// assert!(!format!("{token:?}").contains("EwBA"));
/// # Ok::<(), smtp_oauth::TokenError>(())
/// ```
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

struct Inner {
    secret: SecretString,
    expires_at: OffsetDateTime,
    scopes: Vec<String>,
}

impl AccessToken {
    /// Creates a token from what the authorization server issued.
    ///
    /// # Errors
    /// [`TokenErrorKind::InvalidToken`] when the token is empty or holds anything but visible ASCII (RFC 6749 §A.12
    /// without the space): such a token could end the AUTH command early and start another.
    pub fn new(secret: impl Into<SecretString>, expires_at: OffsetDateTime) -> Result<Self, TokenError> {
        let secret = secret.into();
        let text = secret.expose_secret();
        if text.is_empty() {
            return Err(TokenError::new(TokenErrorKind::InvalidToken, "the access token is empty"));
        }
        if let Some(at) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(TokenError::new(
                TokenErrorKind::InvalidToken,
                format!("the access token holds a character at offset {at} that no token may hold"),
            ));
        }
        Ok(Self(Arc::new(Inner { secret, expires_at, scopes: Vec::new() })))
    }

    /// Sets the scopes that the server said it granted.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self(Arc::new(Inner { secret: self.0.secret.clone(), expires_at: self.0.expires_at, scopes }))
    }

    /// Returns the token itself; for the place where it meets the wire.
    pub fn secret(&self) -> &SecretString {
        &self.0.secret
    }

    /// Returns when the token expires.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.0.expires_at
    }

    /// Returns the granted scopes, empty when the server did not say.
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Tells whether the token is good for at least `validity` from `now` on.
    pub fn is_valid_for(&self, validity: Duration, now: OffsetDateTime) -> bool {
        self.0.expires_at - now > validity
    }

    /// Tells whether both are the same token.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.secret.expose_secret() == other.0.secret.expose_secret()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { secret: _, expires_at, scopes } = &*self.0;
        f.debug_struct("AccessToken")
            .field("secret", &"[redacted]")
            .field("expires_at", expires_at)
            .field("scopes", scopes)
            .finish()
    }
}

/// What a caller needs from a [`TokenProvider`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TokenRequest<'a> {
    least_validity: Duration,
    rejected: Option<&'a AccessToken>,
}

impl<'a> TokenRequest<'a> {
    /// Creates a request for any token that has not expired.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the token must still be valid. Default: zero.
    #[must_use]
    pub fn with_least_validity(mut self, validity: Duration) -> Self {
        self.least_validity = validity;
        self
    }

    /// Says which token the mail server has just refused, so that the provider does not return it again.
    #[must_use]
    pub fn with_rejected(mut self, token: &'a AccessToken) -> Self {
        self.rejected = Some(token);
        self
    }

    /// Returns how long the token must still be valid.
    pub fn least_validity(&self) -> Duration {
        self.least_validity
    }

    /// Returns the token that the mail server has just refused.
    pub fn rejected(&self) -> Option<&'a AccessToken> {
        self.rejected
    }

    /// Tells whether `token` satisfies this request at `now`.
    pub fn accepts(&self, token: &AccessToken, now: OffsetDateTime) -> bool {
        token.is_valid_for(self.least_validity, now)
            && !self.rejected.is_some_and(|rejected| rejected.is_same(token))
    }
}

/// Provides access tokens for a mailbox.
///
/// Implement it to fetch tokens from a place of your own, or use [`from_fn`]; a [`Mailer`](crate::Mailer) puts a
/// [`TokenCache`] before whatever it is given, so an implementation need not cache, and is never asked twice at once.
///
/// ```
/// use smtp_oauth::{AccessToken, TokenFuture, TokenProvider, TokenRequest};
///
/// #[derive(Debug)]
/// struct Fixed(AccessToken);
///
/// impl TokenProvider for Fixed {
///     fn token<'a>(&'a self, _request: TokenRequest<'a>) -> TokenFuture<'a> {
///         TokenFuture::ready(Ok(self.0.clone()))
///     }
/// }
/// ```
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// Returns a token that satisfies `request`, fetching one when need be.
    ///
    /// # Errors
    /// A [`TokenError`] whose kind says whose move it is.
    ///
    /// # Cancellation
    /// The returned future may be dropped at any time; an implementation must not lose a rotated refresh token then.
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a>;

    /// Says for a diagnosis where tokens come from and what about that will need attention; never a secret.
    ///
    /// Asked too when an error leaves the mailer, for its remedy; must not wait. Default: nothing.
    fn notes(&self) -> Vec<TokenNote> {
        Vec::new()
    }

    /// Tells whether this is a [`TokenCache`], behind whatever pointers: its requests are logged and counted there, and
    /// not again by a cache before it.
    ///
    /// Default: no.
    fn is_cache(&self) -> bool {
        false
    }
}

/// What a [`TokenProvider`] tells a diagnosis about itself, in words that follow one another after commas.
///
/// ```
/// use smtp_oauth::testing::FakeEntra;
/// use smtp_oauth::{TokenNote, TokenProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let entra = FakeEntra::start().await;
/// let tokens = entra.app().build()?.refresh_token(entra.store());
/// assert!(matches!(tokens.notes()[0], TokenNote::Fact(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenNote {
    /// The account that has signed in, once the provider has read it: to be compared with the user name.
    Account(String),
    /// A person has signed in, or will: every token is that one account's.
    Delegated,
    /// The app signs in as itself, so there is no such account.
    AppOnly,
    /// Something to know, such as where tokens come from.
    Fact(String),
    /// Something that works now and will not for long, such as a client secret about to expire.
    Warning(String),
}

impl<P: TokenProvider + ?Sized> TokenProvider for Arc<P> {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        (**self).token(request)
    }

    fn notes(&self) -> Vec<TokenNote> {
        (**self).notes()
    }

    fn is_cache(&self) -> bool {
        (**self).is_cache()
    }
}

/// The future a [`TokenProvider`] returns; one that is ready from the start costs no allocation.
///
/// As with any future, polling it again after it has completed is a defect of the caller. One made by
/// [`ready`](Self::ready) panics then with debug assertions, and without them stays pending for ever.
pub struct TokenFuture<'a>(State<'a>);

enum State<'a> {
    Ready(Option<Result<AccessToken, TokenError>>),
    Pending(Pin<Box<dyn Future<Output = Result<AccessToken, TokenError>> + Send + 'a>>),
}

impl<'a> TokenFuture<'a> {
    /// Wraps a future.
    pub fn new(future: impl Future<Output = Result<AccessToken, TokenError>> + Send + 'a) -> Self {
        Self(State::Pending(Box::pin(future)))
    }

    /// Wraps a result that is already there.
    pub fn ready(result: Result<AccessToken, TokenError>) -> Self {
        Self(State::Ready(Some(result)))
    }
}

impl Future for TokenFuture<'_> {
    type Output = Result<AccessToken, TokenError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => {
                debug_assert!(result.is_some(), "a `TokenFuture` was polled again after it had completed");
                result.take().map_or(Poll::Pending, Poll::Ready)
            }
            State::Pending(future) => future.as_mut().poll(context),
        }
    }
}

impl fmt::Debug for TokenFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "TokenFuture::Ready",
            State::Pending(_) => "TokenFuture::Pending",
        })
    }
}

/// Makes a [`TokenProvider`] of an async closure.
///
/// ```
/// use smtp_oauth::{AccessToken, TokenError, TokenErrorKind, token};
/// use time::{Duration, OffsetDateTime};
///
/// let provider = token::from_fn(|| async {
///     let text = std::fs::read_to_string("/run/secrets/token")
///         .map_err(|error| TokenError::new(TokenErrorKind::Unavailable, "cannot read the token").with_source(error))?;
///     AccessToken::new(text.trim(), OffsetDateTime::now_utc() + Duration::HOUR)
/// });
/// ```
pub fn from_fn<F, Fut>(fetch: F) -> FromFn<F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<AccessToken, TokenError>> + Send + 'static,
{
    FromFn(fetch)
}

/// The provider made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F, Fut> TokenProvider for FromFn<F>
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<AccessToken, TokenError>> + Send + 'static,
{
    fn token<'a>(&'a self, _request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::new((self.0)())
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(debug_assertions, should_panic = "polled again")]
    fn a_future_that_is_polled_again_is_noticed() {
        let token = AccessToken::new("token", OffsetDateTime::UNIX_EPOCH);
        let mut future = std::pin::pin!(TokenFuture::ready(token));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_ready());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
}
