//! Where refresh tokens are kept between runs: the trait and what is stored. Talks to no authorization server.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

use super::{AccessToken, TokenError};

mod document;
mod file;
#[cfg(feature = "keyring")]
mod keyring;
mod memory;
#[cfg(feature = "redis")]
mod redis;

pub use file::FileStore;
#[cfg(feature = "keyring")]
pub use keyring::KeyringStore;
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;

/// Keeps the tokens of one account between runs and shares them between processes.
///
/// [`FileStore`], [`MemoryStore`], and behind features `KeyringStore` and `RedisStore` implement it; write your own for a
/// vault or a database.
///
/// Every failure is a [`TokenErrorKind::Store`](crate::TokenErrorKind::Store), and counts as one that may pass: nothing was
/// sent, so a mailer asks again as its [`RetryPolicy`](crate::RetryPolicy) says, and then fails with
/// [`Disposition::Retry`](crate::Disposition::Retry). The log calls for somebody all the same (ERROR), in case it does not
/// pass. Say in the error's message where the tokens are and what is wrong.
///
/// ```
/// use smtp_oauth::token::store::StoredTokens;
/// use smtp_oauth::{Clock, MemoryStore, TokenStore};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = MemoryStore::new();
/// store.seed(&StoredTokens::new("refresh-token", Clock::system().now())).await?;
/// assert!(store.load().await?.is_some());
/// # Ok::<(), smtp_oauth::TokenError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TokenStore: fmt::Debug + Send + Sync {
    /// Reads what is stored; `None` when nobody has signed in yet.
    ///
    /// # Errors
    /// [`TokenErrorKind::Store`](crate::TokenErrorKind::Store) when something is stored that cannot be read.
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>>;

    /// Replaces what is stored, as a whole or not at all.
    ///
    /// # Errors
    /// [`TokenErrorKind::Store`](crate::TokenErrorKind::Store); what was stored before is then still there.
    ///
    /// # Cancellation
    /// A write that was begun is finished even when the future is dropped.
    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()>;

    /// Waits until no other task and no other process holds this store's lock, and takes it.
    ///
    /// Held from reading a refresh token until its successor is saved. `load` and `save` do not take it themselves.
    ///
    /// # Errors
    /// [`TokenErrorKind::Store`](crate::TokenErrorKind::Store) when the lock cannot be had.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the queue.
    fn lock(&self) -> StoreFuture<'_, StoreLock>;

    /// Returns where the tokens are, for error messages, such as `the token file /var/lib/mailer/token.json`; no secrets.
    ///
    /// Default: not known.
    fn location(&self) -> Option<String> {
        None
    }

    /// Saves a first refresh token, unless one is stored already; tells whether it was saved.
    ///
    /// For a token that a sign-in elsewhere obtained. A stored one is newer as a rule, and stays.
    ///
    /// # Errors
    /// As [`load`](Self::load), [`save`](Self::save) and [`lock`](Self::lock).
    fn seed<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, bool> {
        StoreFuture::new(async move {
            let lock = self.lock().await?;
            let seeded = match self.load().await {
                Ok(None) => self.save(tokens).await.map(|()| true),
                Ok(Some(_)) => Ok(false),
                Err(error) => Err(error),
            };
            lock.release().await;
            seeded
        })
    }
}

impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        (**self).load()
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        (**self).save(tokens)
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        (**self).lock()
    }

    fn location(&self) -> Option<String> {
        (**self).location()
    }
}

/// The future a [`TokenStore`] returns.
pub struct StoreFuture<'a, T>(Pin<Box<dyn Future<Output = Result<T, TokenError>> + Send + 'a>>);

impl<'a, T> StoreFuture<'a, T> {
    /// Wraps a future.
    pub fn new(future: impl Future<Output = Result<T, TokenError>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for StoreFuture<'_, T> {
    type Output = Result<T, TokenError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for StoreFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFuture")
    }
}

/// Holds a store's lock; dropping it releases the lock.
///
/// [`release`](Self::release) also waits until that has been done, which takes a moment where the lock is on a server.
#[must_use = "the lock is released at once when it is not held"]
pub struct StoreLock {
    guard: Box<dyn Send + Sync>,
    released: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl StoreLock {
    /// Wraps whatever releases the lock when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { guard: Box::new(guard), released: None }
    }

    /// Sets what is done when the lock has been released, for a guard that only begins to release it when dropped.
    pub fn on_release(mut self, released: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        self.released = Some(Box::pin(released));
        self
    }

    /// Releases the lock, and waits until others can take it.
    ///
    /// A program that ends right after a drop may leave a lock on a server to expire.
    pub async fn release(self) {
        let Self { guard, released } = self;
        drop(guard);
        if let Some(released) = released {
            released.await;
        }
    }
}

impl fmt::Debug for StoreLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLock")
    }
}

/// What a [`TokenStore`] keeps for one account; redacted in `Debug`, zeroed on drop.
///
/// A store of one's own writes it with serde, which holds the secrets in plain text, and seals or guards that:
///
/// ```
/// use smtp_oauth::{Clock, token::store::StoredTokens};
///
/// let tokens = StoredTokens::new("refresh-token", Clock::system().now()).with_account("svc-mail@contoso.com");
/// let text = serde_json::to_string(&tokens)?;
/// let back: StoredTokens = serde_json::from_str(&text)?;
/// assert_eq!(back.account(), tokens.account());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone)]
pub struct StoredTokens {
    refresh_token: SecretString,
    obtained_at: OffsetDateTime,
    account: Option<String>,
    access_tokens: BTreeMap<String, AccessToken>,
}

impl StoredTokens {
    /// Creates the tokens of a first sign-in: a refresh token obtained at `obtained_at`.
    pub fn new(refresh_token: impl Into<SecretString>, obtained_at: OffsetDateTime) -> Self {
        Self {
            refresh_token: refresh_token.into(),
            obtained_at,
            account: None,
            access_tokens: BTreeMap::new(),
        }
    }

    /// Sets the name of the account that signed in. Default: not known.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Replaces the refresh token by its successor (RFC 6749 §6), obtained at `obtained_at`.
    #[must_use]
    pub fn with_refresh_token(
        mut self,
        refresh_token: impl Into<SecretString>,
        obtained_at: OffsetDateTime,
    ) -> Self {
        self.refresh_token = refresh_token.into();
        self.obtained_at = obtained_at;
        self
    }

    /// Keeps the access token last issued for `scope`, so that other processes can use it too.
    #[must_use]
    pub fn with_access_token(mut self, scope: impl Into<String>, token: AccessToken) -> Self {
        self.access_tokens.insert(scope.into(), token);
        self
    }

    /// Returns the refresh token.
    pub fn refresh_token(&self) -> &SecretString {
        &self.refresh_token
    }

    /// Returns when the refresh token was obtained.
    pub fn obtained_at(&self) -> OffsetDateTime {
        self.obtained_at
    }

    /// Returns how old the refresh token is at `now`.
    ///
    /// Entra's expires when it is unused for 90 days; each use yields a new one.
    pub fn age(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(now - self.obtained_at).unwrap_or_default()
    }

    /// Returns the name of the account that signed in, if it is known.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// Returns the access token last issued for `scope`.
    pub fn access_token(&self, scope: &str) -> Option<&AccessToken> {
        self.access_tokens.get(scope)
    }

    /// Returns every stored access token with its scope.
    pub fn access_tokens(&self) -> impl Iterator<Item = (&str, &AccessToken)> {
        self.access_tokens.iter().map(|(scope, token)| (scope.as_str(), token))
    }

    /// Tells how many bytes of secrets there are, so that a buffer for them need not grow and leave copies behind.
    fn secret_len(&self) -> usize {
        let access: usize =
            self.access_tokens.values().map(|token| token.secret().expose_secret().len()).sum();
        self.refresh_token.expose_secret().len() + access
    }
}

impl fmt::Debug for StoredTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refresh_token: _, obtained_at, account, access_tokens } = self;
        f.debug_struct("StoredTokens")
            .field("refresh_token", &"[redacted]")
            .field("obtained_at", obtained_at)
            .field("account", account)
            .field("access_tokens", access_tokens)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = AccessToken::new("access-secret", now).unwrap();
        let tokens = StoredTokens::new("refresh-secret", now).with_access_token("scope", token);
        let shown = format!("{tokens:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("secret\""), "{shown}");
    }
}
