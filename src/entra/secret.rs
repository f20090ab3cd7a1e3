//! The client secret of an app registration, and until when it works. Proves nothing to a server itself.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::tenant::is_guid;

/// The *Value* of a client secret, with the expiry date that the portal shows next to it.
///
/// Client secrets live 24 months at most, and mail stops on the day they expire: with the date given, the log warns 30
/// days ahead. Redacted in `Debug`, zeroed on drop.
///
/// ```
/// use smtp_oauth::entra::ClientSecret;
/// use time::{Duration, OffsetDateTime};
///
/// let now = OffsetDateTime::now_utc();
/// let secret = ClientSecret::new("8Q~value-from-the-portal").with_expires_at(now + Duration::days(10));
/// assert!(secret.is_expiring_within(std::time::Duration::from_secs(30 * 24 * 3600), now));
/// ```
#[derive(Clone)]
pub struct ClientSecret {
    value: SecretString,
    expires_at: Option<OffsetDateTime>,
}

impl ClientSecret {
    /// Creates a secret whose expiry is not known.
    pub fn new(value: impl Into<SecretString>) -> Self {
        Self { value: value.into(), expires_at: None }
    }

    /// Sets when the secret expires. Default: not known.
    #[must_use]
    pub fn with_expires_at(mut self, expires_at: OffsetDateTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Returns when the secret expires, if that is known.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires_at
    }

    /// Tells whether the secret is known to expire within `period` from `now` on, or to have expired.
    pub fn is_expiring_within(&self, period: Duration, now: OffsetDateTime) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at - now <= period)
    }

    pub(super) fn value(&self) -> &SecretString {
        &self.value
    }

    /// Tells whether this is empty or has blanks around it, as a careless copy has.
    pub(super) fn is_malformed(&self) -> bool {
        let value = self.value.expose_secret();
        value.is_empty() || value.trim() != value
    }

    /// Tells whether this is the *Secret ID*: a GUID, which a secret's value never is (AADSTS7000215).
    pub(super) fn is_secret_id(&self) -> bool {
        is_guid(self.value.expose_secret().trim())
    }
}

impl From<SecretString> for ClientSecret {
    fn from(value: SecretString) -> Self {
        Self::new(value)
    }
}

impl From<String> for ClientSecret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&str> for ClientSecret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value: _, expires_at } = self;
        f.debug_struct("ClientSecret").field("value", &"[redacted]").field("expires_at", expires_at).finish()
    }
}
