//! The end of every sign-in: checks what was granted, saves it, and says who it was. Sends nothing.

use std::fmt;

use secrecy::SecretString;

use super::client::Client;
use super::grant::Granted;
use super::id_token::IdToken;
use super::scope;
use crate::config::is_same_account;
use crate::token::store::{StoredTokens, TokenStore};
use crate::token::{AccessToken, TokenError, TokenErrorKind};

/// A sign-in that succeeded: its refresh token is in the store.
#[derive(Clone)]
pub struct SignedIn {
    access_token: AccessToken,
    id_token: Option<IdToken>,
}

/// The account that signed in is not the one that was meant; names both.
///
/// A warning rather than a failure: names of one mailbox differ. The user principal name that signs in need not be the
/// mailbox's primary address, an alias is neither, and for a shared mailbox the account is the delegate's. Upper and
/// lower case never matter. Exchange Online decides whether the token opens the mailbox (`535 5.7.3` when not).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signed in as `{signed_in}`, but the username is `{username}`")]
pub struct AccountMismatch {
    signed_in: String,
    username: String,
}

impl AccountMismatch {
    pub(crate) fn check(signed_in: &[&str], username: &str) -> Result<(), Self> {
        if signed_in.iter().any(|name| is_same_account(name, username)) {
            return Ok(());
        }
        let signed_in = signed_in.first().copied().unwrap_or_default().to_owned();
        Err(Self { signed_in, username: username.trim().to_owned() })
    }

    /// Returns the name of the account that signed in.
    pub fn signed_in(&self) -> &str {
        &self.signed_in
    }

    /// Returns the username that was meant.
    pub fn username(&self) -> &str {
        &self.username
    }
}

impl SignedIn {
    /// Returns the name of the account that signed in; `None` when the server did not say.
    pub fn account(&self) -> Option<&str> {
        self.id_token.as_ref().and_then(IdToken::username)
    }

    /// Returns what the ID token says; `None` when none was asked for (scope `openid`).
    pub fn id_token(&self) -> Option<&IdToken> {
        self.id_token.as_ref()
    }

    /// Returns the granted scopes, empty when the server did not say, which means all of them.
    pub fn scopes(&self) -> &[String] {
        self.access_token.scopes()
    }

    /// Returns the access token that came with the sign-in; it is in the store too.
    pub fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    /// Compares the account with the username that the mail server is told.
    ///
    /// An account that is not known fits every username.
    ///
    /// # Errors
    /// [`AccountMismatch`] when they differ by more than case.
    pub fn check_username(&self, username: &str) -> Result<(), AccountMismatch> {
        let Some(id_token) = &self.id_token else { return Ok(()) };
        let names: Vec<&str> = id_token.names().collect();
        if names.is_empty() { Ok(()) } else { AccountMismatch::check(&names, username) }
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_token, id_token } = self;
        f.debug_struct("SignedIn").field("access_token", access_token).field("id_token", id_token).finish()
    }
}

impl Client {
    /// Checks what a sign-in for `scopes` was granted and saves it, before anybody sees it.
    ///
    /// Borrows what was granted, so that a store that failed can be tried again.
    pub(super) async fn keep_sign_in(
        &self,
        granted: &Granted,
        scopes: &[String],
        nonce: Option<&SecretString>,
        store: impl TokenStore + 'static,
    ) -> Result<SignedIn, TokenError> {
        let id_token = self.read_id_token(granted, scopes, nonce)?;
        if let Some(missing) = scope::missing(scopes, granted.access_token.scopes()) {
            let message = format!("sign-in did not grant the permission `{}`", missing.permission());
            return Err(TokenError::new(TokenErrorKind::RequestRefused, message).with_source(missing));
        }
        let Some(refresh_token) = &granted.refresh_token else {
            let message = "sign-in brought no refresh token: the scope `offline_access` was not asked for or not granted";
            return Err(TokenError::new(TokenErrorKind::RequestRefused, message));
        };
        let signed_in = SignedIn { access_token: granted.access_token.clone(), id_token };
        let mut tokens = StoredTokens::new(refresh_token.clone(), self.clock().now())
            .with_access_token(scope::purpose(scopes), granted.access_token.clone());
        if let Some(account) = signed_in.account() {
            tokens = tokens.with_account(account);
        }
        save_locked(store, tokens).await.map(|()| signed_in)
    }

    fn read_id_token(
        &self,
        granted: &Granted,
        scopes: &[String],
        nonce: Option<&SecretString>,
    ) -> Result<Option<IdToken>, TokenError> {
        let invalid = |what: &str| {
            TokenError::new(TokenErrorKind::InvalidResponse, format!("sign-in was answered with {what}"))
        };
        match &granted.id_token {
            Some(text) => match IdToken::read(text, self.client_id(), nonce) {
                Ok(id_token) => Ok(Some(id_token)),
                Err(flaw) => Err(invalid(flaw.description())),
            },
            None if scopes.iter().any(|scope| scope == "openid") => Err(invalid("no ID token")),
            None => Ok(None),
        }
    }
}

/// Saves under the lock, so that no refresh of the token before writes it back over this one.
async fn save_locked(store: impl TokenStore + 'static, tokens: StoredTokens) -> Result<(), TokenError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
        let message = "a sign-in can only be saved within a Tokio runtime";
        TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
    })?;
    // In a task of its own: a dropped sign-in must not give the lock up while its save still goes on.
    let saving = runtime.spawn(async move {
        let lock = store.lock().await?;
        let saved = store.save(&tokens).await;
        lock.release().await;
        saved
    });
    saving.await.unwrap_or_else(|error| {
        let message = "saving the sign-in was abandoned: its task panicked or its runtime stopped";
        Err(TokenError::new(TokenErrorKind::Store, message).with_source(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_more_than_case() {
        assert_eq!(AccountMismatch::check(&["Svc-Mail@contoso.com"], " svc-mail@Contoso.COM"), Ok(()));
        assert_eq!(
            AccountMismatch::check(&["upn@contoso.com", "mail@contoso.com"], "mail@contoso.com"),
            Ok(())
        );
        let mismatch = AccountMismatch::check(&["admin@contoso.com"], "svc-mail@contoso.com").unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            "signed in as `admin@contoso.com`, but the username is `svc-mail@contoso.com`"
        );
    }
}
