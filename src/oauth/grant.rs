//! What all grants share: sending one to the token endpoint, within a deadline, and reading the tokens. Stores nothing.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use oauth2::basic::{BasicRevocationErrorResponse, BasicTokenType};
use oauth2::{
    AuthType, EndpointNotSet, EndpointSet, RequestTokenError, StandardRevocableToken,
    StandardTokenIntrospectionResponse, StandardTokenResponse, TokenResponse,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::assertion::Audience;
use super::client::{Client, ClientAuthentication};
use super::error::{Attempt, ErrorBody, Failure};
use super::tap::{Exchange, Tap, TapError};
use crate::clock::Moment;
use crate::observe::token as observe;
use crate::retry::Backoff;
use crate::token::{AccessToken, TokenError};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(5) };
const MOST_ATTEMPTS: u32 = 3;
/// RFC 6749 §5.1 only recommends `expires_in`; most servers that leave it out mean an hour.
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);

pub(super) type WireResponse = StandardTokenResponse<ExtraFields, BasicTokenType>;
pub(super) type WireError = RequestTokenError<TapError, ErrorBody>;
pub(super) type WireClient = oauth2::Client<
    ErrorBody,
    WireResponse,
    StandardTokenIntrospectionResponse<ExtraFields, BasicTokenType>,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// What OIDC adds to an answer; another type than a string counts as absent.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct ExtraFields {
    #[serde(default, skip_serializing)]
    id_token: serde_json::Value,
}

impl oauth2::ExtraTokenFields for ExtraFields {}

impl fmt::Debug for ExtraFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id_token: _ } = self;
        f.write_str("ExtraFields")
    }
}

/// One way to ask for tokens.
pub(super) trait Grant: Sync {
    /// How error messages call it, such as `refresh token grant`.
    const NAME: &'static str;

    /// Returns the secrets that the request carries, beside the client's own.
    fn secrets(&self) -> Vec<&str>;

    /// Sends the request once.
    fn send(
        &self,
        client: &WireClient,
        tap: &Tap,
    ) -> impl Future<Output = Result<WireResponse, WireError>> + Send;
}

/// The tokens that were granted.
pub(super) struct Granted {
    pub(super) access_token: AccessToken,
    pub(super) refresh_token: Option<SecretString>,
    /// As it came, unread; whose it is must be checked (see `id_token`).
    pub(super) id_token: Option<SecretString>,
}

impl Client {
    /// Asks for tokens: at most three times, within the deadline, again only where nothing can have happened.
    pub(super) async fn obtain(&self, grant: &impl Grant) -> Result<Granted, TokenError> {
        self.expiry().check(self.clock(), self.client_id());
        let deadline = self.clock().moment().after(self.deadline());
        match self.clock().until(deadline, self.repeat(grant, deadline)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.attempt(grant).timeout(self.deadline())),
        }
    }

    async fn repeat<G: Grant>(&self, grant: &G, deadline: Moment) -> Result<Granted, TokenError> {
        let mut number = 1;
        loop {
            let (host, port) =
                (self.token_endpoint().host_str(), self.token_endpoint().port_or_known_default());
            let span = observe::exchange(G::NAME, host.unwrap_or_default(), port);
            let sent =
                span.note(span.run(self.send_once(grant)).await, |failure| failure.error.kind().name());
            let failure = match sent {
                Ok(granted) => return Ok(granted),
                Err(failure) => failure,
            };
            let wake = self.clock().moment().after(BACKOFF.wait(number));
            if !failure.is_worth_repeating || number == MOST_ATTEMPTS || wake >= deadline {
                return Err(failure.error);
            }
            let pause = wake.since(self.clock().moment());
            observe::retrying(number, pause, failure.error.kind().name(), &failure.error);
            self.clock().sleep_until(wake).await;
            number += 1;
        }
    }

    async fn send_once<G: Grant>(&self, grant: &G) -> Result<Granted, Failure> {
        let assertion = self.assertion().await?;
        let mut attempt = self.attempt(grant);
        attempt.secrets.extend(assertion.as_ref().map(ExposeSecret::expose_secret));
        let tap = Tap::new(self.http().clone(), self.clock().clone()).with_assertion(assertion.clone());
        // Counted from before the request, so that a slow answer does not stretch the token's life.
        let asked_at = self.clock().now();
        let response = grant.send(&self.wire(), &tap).await;
        let exchange = tap.exchange();
        if let Some(status) = exchange.status {
            observe::answered(status.as_u16());
        }
        let response = response.map_err(|error| attempt.failure(error, &exchange))?;
        attempt.granted(&response, &exchange, asked_at).map_err(Failure::from)
    }

    /// Made anew for each request: a server accepts an assertion once.
    pub(super) async fn assertion(&self) -> Result<Option<SecretString>, TokenError> {
        let ClientAuthentication::PrivateKeyJwt(assertion) = self.authentication() else { return Ok(None) };
        let audience = Audience {
            token_endpoint: self.token_endpoint().as_str(),
            client_id: self.client_id(),
            now: self.clock().now(),
        };
        assertion.assert(&audience).await.map(Some)
    }

    fn attempt<'a, G: Grant>(&'a self, grant: &'a G) -> Attempt<'a> {
        let mut secrets = grant.secrets();
        secrets.extend(self.authentication().secret().map(ExposeSecret::expose_secret));
        let host = self.token_endpoint().host_str().unwrap_or_default();
        Attempt { grant: G::NAME, host, secrets, classify: self.classify() }
    }

    /// Built for each request: the crate keeps secrets as plain strings, which live only this long.
    pub(super) fn wire(&self) -> WireClient {
        let client_id = oauth2::ClientId::new(self.client_id().to_owned());
        let endpoint = oauth2::TokenUrl::from_url(self.token_endpoint().clone());
        let auth_type = match self.authentication() {
            ClientAuthentication::Basic(_) => AuthType::BasicAuth,
            ClientAuthentication::None
            | ClientAuthentication::Post(_)
            | ClientAuthentication::PrivateKeyJwt(_) => AuthType::RequestBody,
        };
        let client = oauth2::Client::new(client_id).set_auth_type(auth_type).set_token_uri(endpoint);
        match self.authentication().secret() {
            Some(secret) => {
                client.set_client_secret(oauth2::ClientSecret::new(secret.expose_secret().to_owned()))
            }
            None => client,
        }
    }
}

impl Attempt<'_> {
    /// Reads the tokens of an answer; `asked_at` is when the request was begun.
    pub(super) fn granted(
        &self,
        response: &WireResponse,
        exchange: &Exchange,
        asked_at: OffsetDateTime,
    ) -> Result<Granted, TokenError> {
        if !matches!(response.token_type(), BasicTokenType::Bearer) {
            // RFC 6749 §7.1: a client must not use a token of a type it does not understand.
            return Err(self.invalid("a token that is no bearer token", exchange));
        }
        read(response, asked_at).map_err(|_| self.invalid("a token that cannot be used", exchange))
    }
}

fn read(response: &WireResponse, asked_at: OffsetDateTime) -> Result<Granted, TokenError> {
    let lifetime = response.expires_in().unwrap_or(USUAL_LIFETIME);
    let lifetime = time::Duration::try_from(lifetime).unwrap_or(time::Duration::MAX);
    let expires_at = asked_at.saturating_add(lifetime);
    let mut access_token = AccessToken::new(response.access_token().secret().as_str(), expires_at)?;
    if let Some(scopes) = response.scopes() {
        access_token = access_token.with_scopes(scopes.iter().map(|scope| scope.as_str()));
    }
    let refresh_token = response.refresh_token().map(|token| token.secret().as_str());
    Ok(Granted {
        access_token,
        refresh_token: refresh_token.filter(|token| !token.is_empty()).map(SecretString::from),
        id_token: response.extra_fields().id_token.as_str().map(SecretString::from),
    })
}
