//! A fake of Entra ID over real HTTP: signs people in, issues tokens, rotates refresh tokens, fails on demand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer};

use self::endpoint::{Endpoint, RefreshTokenState};
use super::IssuedTokens;
use crate::clock::Clock;
use crate::entra::{App, AppBuilder, Tenant};
use crate::token::store::{MemoryStore, StoredTokens};

mod answer;
mod credential;
mod endpoint;
mod fault;
mod identity;
mod page;
mod people;
mod refusal;
mod sign_in;

pub use endpoint::ReceivedGrant;
pub use fault::TokenFault;
pub(super) use refusal::wording;

/// A fake of Entra ID on a loopback port; stops when it is dropped.
///
/// It answers the client credentials grant and the refresh token grant as Entra does: a new refresh token with each use, the old one still valid;
/// refusals with the `error` strings, AADSTS codes and HTTP statuses of the real one. No access token works at a
/// `FakeExchange` that was not issued here, when both share [`tokens`](Self::tokens).
///
/// ```
/// use smtp_oauth::testing::{FakeEntra, TokenFault};
/// use smtp_oauth::{TokenErrorKind, TokenProvider, TokenRequest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let entra = FakeEntra::start().await;
/// let tokens = entra.app().build()?.refresh_token(entra.store());
///
/// entra.fail_next(1, TokenFault::Html);
/// let error = tokens.token(TokenRequest::new()).await.unwrap_err();
/// assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
/// assert_eq!(entra.requests(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FakeEntra {
    server: Arc<MockServer>,
    endpoint: Endpoint,
}

/// Collects the settings of a [`FakeEntra`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct FakeEntraBuilder {
    clock: Clock,
    tokens: Option<IssuedTokens>,
    tenant: String,
    client_id: String,
    client_secret: Option<String>,
    account: String,
    token_lifetime: Duration,
    token_length: usize,
    redirects: Vec<String>,
    device_interval: Duration,
}

impl FakeEntra {
    /// Starts a fake with the defaults that [`builder`](Self::builder) names.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a fake with other settings.
    ///
    /// Defaults: the system's clock, tenant `contoso.onmicrosoft.com`, a client id and a client secret of its own, the
    /// account `svc-mail@contoso.com`, access tokens of 2,000 characters that live 75 minutes, the redirect URLs
    /// `http://localhost` (with any port) and `https://app.contoso.com/signed-in`, a poll for device codes each 5 seconds.
    pub fn builder() -> FakeEntraBuilder {
        FakeEntraBuilder {
            clock: Clock::system(),
            tokens: None,
            tenant: "contoso.onmicrosoft.com".to_owned(),
            client_id: "6731de76-14a6-49ae-97bc-6eba6914391e".to_owned(),
            client_secret: Some("fak8Q~client-secret-of-the-fake".to_owned()),
            account: "svc-mail@contoso.com".to_owned(),
            token_lifetime: Duration::from_secs(75 * 60),
            token_length: 2000,
            redirects: vec!["http://localhost".to_owned(), "https://app.contoso.com/signed-in".to_owned()],
            device_interval: Duration::from_secs(5),
        }
    }

    /// Returns an app that signs in here: authority, tenant, client id, client secret and clock are set.
    pub fn app(&self) -> AppBuilder {
        let state = self.endpoint.state();
        let tenant = Tenant::parse(&state.tenant).expect("the fake's tenant is one");
        let app = App::builder(tenant, state.client_id.as_str())
            .authority(self.authority())
            .graph(self.authority())
            .clock(state.clock.clone());
        match &state.credentials.secret {
            Some(secret) => app.client_secret(secret.as_str()),
            None => app,
        }
    }

    /// Returns a store that holds a valid refresh token, as after a sign-in.
    pub fn store(&self) -> MemoryStore {
        MemoryStore::from(self.sign_in())
    }

    /// Signs the account in: returns what a store holds afterwards.
    pub fn sign_in(&self) -> StoredTokens {
        let mut state = self.endpoint.state();
        let token = state.issue_refresh_token();
        StoredTokens::new(token, state.clock.now()).with_account(state.account.as_str())
    }

    /// Returns the sign-in authority, for [`AppBuilder::authority`].
    pub fn authority(&self) -> Url {
        Url::parse(&self.server.uri()).expect("the fake's address is a URL")
    }

    /// Returns the token endpoint, for `oauth::Client`.
    pub fn token_endpoint(&self) -> Url {
        let path = format!("{}/oauth2/v2.0/token", self.tenant());
        self.authority().join(&path).expect("the tenant fits into a URL")
    }

    /// Returns the register of access tokens, to be shared with a `FakeExchange`.
    pub fn tokens(&self) -> IssuedTokens {
        self.endpoint.state().tokens.clone()
    }

    /// Returns a refresh token that is valid now, the newest one.
    pub fn refresh_token(&self) -> String {
        let mut state = self.endpoint.state();
        state.newest_refresh_token().unwrap_or_else(|| state.issue_refresh_token())
    }

    /// Returns every refresh token issued, for a test that searches logs for them.
    pub fn refresh_tokens(&self) -> Vec<String> {
        self.endpoint.state().refresh_tokens.iter().map(|(token, _)| token.clone()).collect()
    }

    /// Lets every refresh token issued so far expire, as after 90 days without use (AADSTS700082).
    pub fn expire_refresh_tokens(&self) {
        self.endpoint.state().end_refresh_tokens(RefreshTokenState::Expired);
    }

    /// Revokes every refresh token issued so far, as an administrator's "revoke sessions" does (AADSTS50173).
    ///
    /// Access tokens stay valid, as in Entra; see [`IssuedTokens::revoke_all`].
    pub fn revoke_refresh_tokens(&self) {
        self.endpoint.state().end_refresh_tokens(RefreshTokenState::Revoked);
    }

    /// Returns the tenant.
    pub fn tenant(&self) -> String {
        self.endpoint.state().tenant.clone()
    }

    /// Returns the client id that is known here.
    pub fn client_id(&self) -> String {
        self.endpoint.state().client_id.clone()
    }

    /// Returns the client secret that is accepted; `None` for a public client.
    pub fn client_secret(&self) -> Option<String> {
        self.endpoint.state().credentials.secret.clone()
    }

    /// Accepts another client secret from now on, and no longer the one before (AADSTS7000215).
    pub fn replace_client_secret(&self, secret: impl Into<String>) {
        self.endpoint.state().credentials.secret = Some(secret.into());
    }

    /// Lets the client secret expire (AADSTS7000222).
    pub fn expire_client_secret(&self) {
        self.endpoint.state().credentials.secret_expired = true;
    }

    /// Registers a certificate with the app, in PEM: assertions that its key signed are accepted from now on.
    pub fn register_certificate(&self, certificate_pem: &str) {
        self.endpoint.state().credentials.register(certificate_pem);
    }

    /// Accepts this token of another issuer as the app's credential, as a federated credential does.
    pub fn trust_federated_token(&self, token: impl Into<String>) {
        self.endpoint.state().credentials.federated_tokens.push(token.into());
    }

    /// Accepts no federated token from now on that was trusted before.
    pub fn distrust_federated_tokens(&self) {
        self.endpoint.state().credentials.federated_tokens.clear();
    }

    /// Registers a further redirect URL, as [`FakeEntraBuilder::redirect`] does, for a web server whose port is known late.
    pub fn register_redirect(&self, redirect: impl Into<String>) {
        self.endpoint.state().sign_ins.redirects.push(redirect.into());
    }

    /// Lets the sign-in page offer another account beside the one that is meant, as to a person who has several.
    ///
    /// For tests and demonstrations with a browser; [`approve_as`](Self::approve_as) does without.
    pub fn offer_account(&self, account: impl Into<String>) {
        self.endpoint.state().sign_ins.others.push(account.into());
    }

    /// Returns the account that signs in.
    pub fn account(&self) -> String {
        self.endpoint.state().account.clone()
    }

    /// Sets how long the access tokens live that are issued from now on.
    pub fn token_lifetime(&self, lifetime: Duration) {
        self.endpoint.state().token_lifetime = lifetime;
    }

    /// Sets how many characters the access tokens have that are issued from now on.
    pub fn token_length(&self, length: usize) {
        self.endpoint.state().token_length = length;
    }

    /// Stops issuing a new refresh token with each use, as servers that do not rotate.
    pub fn without_rotation(&self) {
        self.endpoint.state().rotates = false;
    }

    /// Answers the next `count` requests for tokens or device codes with `fault`; faults queue up behind those not yet used.
    pub fn fail_next(&self, count: usize, fault: TokenFault) {
        self.endpoint.state().faults.extend(std::iter::repeat_n(fault, count));
    }

    /// Forgets the faults that were not used.
    pub fn recover(&self) {
        self.endpoint.state().faults.clear();
    }

    /// Returns how many requests for tokens and device codes came, failed ones too.
    pub fn requests(&self) -> usize {
        self.endpoint.state().received.len()
    }

    /// Waits until `count` requests for tokens and device codes have come since the start, failed ones too.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut arrivals = self.endpoint.state().arrivals.subscribe();
        // It cannot fail: the sender lives in `self`.
        let _ = arrivals.wait_for(|arrived| *arrived >= count).await;
    }

    /// Returns what those requests asked for, oldest first.
    pub fn received(&self) -> Vec<ReceivedGrant> {
        self.endpoint.state().received.clone()
    }
}

impl fmt::Debug for FakeEntra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeEntra")
            .field("authority", &self.server.uri())
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

impl FakeEntraBuilder {
    /// Sets the clock that tokens expire by. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the register that access tokens are written to. Default: a new one.
    pub fn tokens(mut self, tokens: IssuedTokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets the tenant. Default: `contoso.onmicrosoft.com`.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Sets the client id of the app registration, a GUID.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Sets the client secret of the app registration.
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// Makes the app registration a public client, which has no secret.
    pub fn public_client(mut self) -> Self {
        self.client_secret = None;
        self
    }

    /// Sets the account that signs in. Default: `svc-mail@contoso.com`.
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Sets how long access tokens live. Default: 75 minutes, the mean of what Entra gives.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// Registers a further redirect URL, which is compared to the letter; only the port of `localhost` does not count.
    pub fn redirect(mut self, redirect: impl Into<String>) -> Self {
        self.redirects.push(redirect.into());
        self
    }

    /// Sets how often a client may ask about its device code, in whole seconds. Default: each 5 seconds.
    pub fn device_interval(mut self, interval: Duration) -> Self {
        self.device_interval = interval;
        self
    }

    /// Sets how many characters access tokens have. Default: 2,000.
    pub fn token_length(mut self, length: usize) -> Self {
        self.token_length = length;
        self
    }

    /// Starts the fake on a free loopback port.
    pub async fn start(self) -> FakeEntra {
        let endpoint = Endpoint::new(self);
        // A server of its own, not one from wiremock's pool, so that it ends with the fake.
        let server = MockServer::builder().disable_request_recording().start().await;
        Mock::given(any()).respond_with(endpoint.clone()).mount(&server).await;
        FakeEntra { server: Arc::new(server), endpoint }
    }
}
