//! What a mailer signs in with: access tokens, or a password. Speaks neither HTTP nor SMTP.

use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;

use crate::config::AuthenticationMethod;
use crate::token::TokenProvider;

/// How a [`Mailer`](crate::Mailer) signs in to the mail server.
///
/// ```
/// use smtp_oauth::{AccessToken, Authentication, token};
/// use time::{Duration, OffsetDateTime};
///
/// let oauth = Authentication::oauth(token::from_fn(|| async {
///     AccessToken::new("from-somewhere", OffsetDateTime::now_utc() + Duration::HOUR)
/// }));
/// let basic = Authentication::basic("correct horse battery staple");
/// assert!(!format!("{basic:?}").contains("horse"));
/// ```
#[derive(Clone)]
pub struct Authentication(pub(crate) Method);

#[derive(Clone)]
pub(crate) enum Method {
    OAuth(Arc<dyn TokenProvider>),
    Basic(SecretString),
}

impl Authentication {
    /// Signs in with access tokens (XOAUTH2, or OAUTHBEARER where only that is offered).
    pub fn oauth(provider: impl TokenProvider + 'static) -> Self {
        Self(Method::OAuth(Arc::new(provider)))
    }

    /// Signs in with a password (PLAIN, or LOGIN where only that is offered); the older way.
    pub fn basic(password: impl Into<SecretString>) -> Self {
        Self(Method::Basic(password.into()))
    }

    /// Returns which of the two it is.
    pub fn method(&self) -> AuthenticationMethod {
        match self.0 {
            Method::OAuth(_) => AuthenticationMethod::OAuth,
            Method::Basic(_) => AuthenticationMethod::Basic,
        }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Method::OAuth(provider) => f.debug_tuple("OAuth").field(provider).finish(),
            Method::Basic(_) => f.debug_tuple("Basic").field(&"[redacted]").finish(),
        }
    }
}
