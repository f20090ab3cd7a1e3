//! The client credentials grant (RFC 6749 §4.4): the app signs in as itself. Stores nothing and has no refresh token.

use super::client::{Client, ClientAuthentication};
use super::grant::{Grant, WireClient, WireError, WireResponse};
use super::tap::Tap;
use crate::token::{
    AccessToken, TokenCache, TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest,
};

impl Client {
    /// Provides access tokens for `scopes` that are issued to the app itself: nobody signs in.
    ///
    /// Errors of the provider: [`TokenErrorKind::Configuration`] when the client has no way to prove who it is or its
    /// assertion cannot be made, [`TokenErrorKind::ClientRefused`] when the server does not accept it, and the others
    /// as the server answers.
    pub fn client_credentials<S: Into<String>>(&self, scopes: impl IntoIterator<Item = S>) -> TokenCache {
        let scopes = scopes.into_iter().map(Into::into).collect();
        let provider = ClientCredentials { client: self.clone(), scopes };
        TokenCache::new(provider).clock(self.clock().clone())
    }
}

#[derive(Debug)]
struct ClientCredentials {
    client: Client,
    scopes: Vec<String>,
}

impl ClientCredentials {
    async fn fetch(&self) -> Result<AccessToken, TokenError> {
        if matches!(self.client.authentication(), ClientAuthentication::None) {
            // RFC 6749 §4.4: only for clients that can prove who they are.
            let message =
                "the client credentials grant needs a client secret, a certificate or a federated token";
            return Err(TokenError::new(TokenErrorKind::Configuration, message));
        }
        let grant = ClientCredentialsGrant { scopes: &self.scopes };
        // RFC 6749 §4.4.3: a refresh token should not be there, and is of no use.
        self.client.obtain(&grant).await.map(|granted| granted.access_token)
    }
}

impl TokenProvider for ClientCredentials {
    fn token<'a>(&'a self, _request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::new(self.fetch())
    }

    fn notes(&self) -> Vec<TokenNote> {
        let mut notes = self.client.notes(ClientCredentialsGrant::NAME);
        notes.push(TokenNote::AppOnly);
        notes
    }
}

struct ClientCredentialsGrant<'a> {
    scopes: &'a [String],
}

impl Grant for ClientCredentialsGrant<'_> {
    const NAME: &'static str = "client credentials grant";

    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    async fn send(&self, client: &WireClient, tap: &Tap) -> Result<WireResponse, WireError> {
        let scopes = self.scopes.iter().cloned().map(oauth2::Scope::new);
        client.exchange_client_credentials().add_scopes(scopes).request_async(tap).await
    }
}
