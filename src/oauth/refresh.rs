//! The refresh token grant (RFC 6749 §6), with rotation and sharing through a store. Signs nobody in.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::client::Client;
use super::grant::{Grant, Granted, WireClient, WireError, WireResponse};
use super::scope;
use super::tap::Tap;
use crate::clock::Moment;
use crate::observe::{self, Span};
use crate::token::store::{StoreFuture, StoredTokens, TokenStore};
use crate::token::{
    AccessToken, TokenCache, TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest,
};

/// A refused refresh token is not sent again for this long. Not for ever: an administrator's consent or a changed
/// policy makes some of them work again without a new sign-in.
const REFUSED_REST: Duration = Duration::from_secs(10 * 60);

impl Client {
    /// Provides access tokens for `scopes` from the refresh token in `store`.
    ///
    /// A rotated refresh token is saved before the access token is handed out, under the store's lock; an access token
    /// that another process obtained meanwhile is used instead of asking again. A new sign-in that changes the store
    /// is picked up at once.
    ///
    /// Errors of the provider: [`TokenErrorKind::SignInRequired`] when the store is empty or its token refused,
    /// [`TokenErrorKind::Store`] when it cannot be read or written, and the others as the server answers.
    pub fn refresh_token<S: Into<String>>(
        &self,
        store: impl TokenStore + 'static,
        scopes: impl IntoIterator<Item = S>,
    ) -> TokenCache {
        let provider = RefreshToken::new(self.clone(), store, scopes);
        TokenCache::new(provider).clock(self.clock().clone())
    }

    /// Renews the refresh token in `store` when it is older than `age`, so that one which is seldom used does not expire.
    ///
    /// For a program that may send nothing for months: call it at the start and from a daily timer. Entra lets a
    /// refresh token expire after 90 days without use. Does nothing, and asks no server, while the token is younger.
    ///
    /// # Errors
    /// As the provider that [`refresh_token`](Self::refresh_token) makes.
    ///
    /// # Cancellation
    /// A renewal that was begun is finished, so that a rotated refresh token is not lost.
    pub async fn keep_alive<S: Into<String>>(
        &self,
        store: impl TokenStore + 'static,
        scopes: impl IntoIterator<Item = S>,
        age: Duration,
    ) -> Result<KeepAlive, TokenError> {
        let provider = RefreshToken::new(self.clone(), store, scopes);
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            let message = "a refresh token can only be renewed within a Tokio runtime";
            TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
        })?;
        let renewal = runtime.spawn(Span::current().run(async move { provider.renew(age).await }));
        renewal.await.unwrap_or_else(|error| {
            let message = "the renewal was abandoned: its task panicked or its runtime stopped";
            Err(TokenError::new(TokenErrorKind::Unavailable, message).with_source(error))
        })
    }
}

/// What [`Client::keep_alive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepAlive {
    /// The refresh token is of this age: young enough.
    Fresh(Duration),
    /// The refresh token was used, and replaced if the server rotates it.
    Renewed,
}

/// Makes access tokens of a stored refresh token; only used behind a [`TokenCache`], which asks it once at a time and
/// from a task that nobody cancels.
struct RefreshToken {
    client: Client,
    store: Arc<dyn TokenStore>,
    scopes: Vec<String>,
    /// The scopes that tell one access token from another.
    purpose: String,
    refused: Mutex<Option<Refused>>,
    /// Whose sign-in was last found in the store, for a diagnosis.
    account: Mutex<Option<String>>,
}

struct Refused {
    token: SecretString,
    error: TokenError,
    until: Moment,
}

impl RefreshToken {
    fn new<S: Into<String>>(
        client: Client,
        store: impl TokenStore + 'static,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        let scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        let purpose = scope::purpose(&scopes);
        Self {
            client,
            store: Arc::new(store),
            scopes,
            purpose,
            refused: Mutex::new(None),
            account: Mutex::new(None),
        }
    }

    async fn refresh(&self, request: TokenRequest<'_>) -> Result<AccessToken, TokenError> {
        // Held across the request on purpose: of several processes one refreshes, and the others find its tokens.
        let lock = told("lock", self.store.lock()).await?;
        let result = self.refresh_locked(request).await;
        lock.release().await;
        result
    }

    async fn refresh_locked(&self, request: TokenRequest<'_>) -> Result<AccessToken, TokenError> {
        let stored = self.stored().await?;
        let now = self.client.clock().now();
        if let Some(token) = stored.access_token(&self.purpose).filter(|token| request.accepts(token, now)) {
            return Ok(token.clone());
        }
        if let Some(error) = self.refusal_of(stored.refresh_token()) {
            return Err(error);
        }
        self.exchange(stored).await
    }

    async fn renew(&self, age: Duration) -> Result<KeepAlive, TokenError> {
        let lock = told("lock", self.store.lock()).await?; // As in `refresh`: another process may just be renewing it.
        let result = self.renew_locked(age).await;
        lock.release().await;
        result
    }

    async fn renew_locked(&self, age: Duration) -> Result<KeepAlive, TokenError> {
        let stored = self.stored().await?;
        let current = stored.age(self.client.clock().now());
        if current <= age {
            return Ok(KeepAlive::Fresh(current));
        }
        self.exchange(stored).await.map(|_token| KeepAlive::Renewed)
    }

    async fn stored(&self) -> Result<StoredTokens, TokenError> {
        let Some(stored) = told("load", self.store.load()).await? else {
            let place = self.store.location().map(|place| format!(" in {place}")).unwrap_or_default();
            let message = format!("no refresh token is stored{place}: sign in first");
            return Err(TokenError::new(TokenErrorKind::SignInRequired, message));
        };
        let account = stored.account().map(str::to_owned);
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = account;
        Ok(stored)
    }

    async fn exchange(&self, stored: StoredTokens) -> Result<AccessToken, TokenError> {
        let grant = RefreshGrant { token: stored.refresh_token(), scopes: &self.scopes };
        match self.client.obtain(&grant).await {
            Ok(granted) => self.keep(stored, granted).await,
            Err(error) => {
                self.note_refusal(stored.refresh_token(), &error);
                Err(error)
            }
        }
    }

    /// Saves what was granted, and only then hands out the access token: a crash in between loses nothing.
    async fn keep(&self, stored: StoredTokens, granted: Granted) -> Result<AccessToken, TokenError> {
        let Granted { access_token, refresh_token, id_token: _ } = granted;
        let mut stored = stored.with_access_token(self.purpose.as_str(), access_token.clone());
        // RFC 6749 §6: without a new refresh token the old one stays in use.
        let is_rotated = refresh_token.is_some();
        if let Some(refresh_token) = refresh_token {
            stored = stored.with_refresh_token(refresh_token, self.client.clock().now());
        }
        told("save", self.store.save(&stored)).await?;
        if is_rotated {
            observe::token::rotated();
        }
        Ok(access_token)
    }

    fn refusal_of(&self, token: &SecretString) -> Option<TokenError> {
        let now = self.client.clock().moment();
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refused.as_ref().filter(|refused| now < refused.until)?;
        (refused.token.expose_secret() == token.expose_secret()).then(|| refused.error.clone())
    }

    fn note_refusal(&self, token: &SecretString, error: &TokenError) {
        if error.kind() == TokenErrorKind::SignInRequired {
            let until = self.client.clock().moment().after(REFUSED_REST);
            let refused = Refused { token: token.clone(), error: error.clone(), until };
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
        }
    }
}

impl TokenProvider for RefreshToken {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::new(self.refresh(request))
    }

    fn notes(&self) -> Vec<TokenNote> {
        let mut notes = self.client.notes(RefreshGrant::NAME);
        notes.push(TokenNote::Delegated);
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner).clone();
        notes.extend(account.map(TokenNote::Account));
        notes
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, store, scopes, purpose: _, refused: _, account: _ } = self;
        f.debug_struct("RefreshToken")
            .field("client", client)
            .field("store", store)
            .field("scopes", scopes)
            .finish_non_exhaustive()
    }
}

/// Does one operation of the store, in a span of its own.
async fn told<T>(operation: &'static str, work: StoreFuture<'_, T>) -> Result<T, TokenError> {
    let span = observe::token::store(operation);
    span.note(span.run(work).await, |error| error.kind().name())
}

struct RefreshGrant<'a> {
    token: &'a SecretString,
    scopes: &'a [String],
}

impl Grant for RefreshGrant<'_> {
    const NAME: &'static str = "refresh token grant";

    fn secrets(&self) -> Vec<&str> {
        vec![self.token.expose_secret()]
    }

    async fn send(&self, client: &WireClient, tap: &Tap) -> Result<WireResponse, WireError> {
        let token = oauth2::RefreshToken::new(self.token.expose_secret().to_owned());
        let scopes = self.scopes.iter().cloned().map(oauth2::Scope::new);
        client.exchange_refresh_token(&token).add_scopes(scopes).request_async(tap).await
    }
}
