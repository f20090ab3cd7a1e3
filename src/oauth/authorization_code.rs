//! The authorization code grant with PKCE (RFC 6749 §4.1, RFC 7636): for web applications. Opens no port (see `loopback`).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::callback::Callback;
use super::client::Client;
use super::grant::{Grant, WireClient, WireError, WireResponse};
use super::pending::PendingSignIn;
use super::signed_in::SignedIn;
use super::tap::Tap;
use crate::token::store::TokenStore;
use crate::token::{TokenError, TokenErrorKind};

/// Whoever takes longer has gone away, and the answer is somebody else's.
const LONGEST_SIGN_IN: Duration = Duration::from_secs(10 * 60);

/// Signs a person in through a web page; kept by a web application for all its sign-ins.
///
/// [`start`](Self::start) gives the page to send the browser to; [`finish`](Self::finish) takes the address with which
/// the browser comes back. The answer is read from the query (`response_mode=query`); a form that is posted back, or a
/// fragment, is not. For a desktop program, [`listen`](Self::listen) takes the place of both.
///
/// ```
/// use smtp_oauth::testing::FakeEntra;
/// use smtp_oauth::{MemoryStore, TokenStore, oauth::PendingSignIn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let entra = FakeEntra::start().await;
/// let sign_in = entra.app().build()?.authorization_code("https://app.contoso.com/signed-in".parse()?);
///
/// // One request of the browser: remember the sign-in in its session, and send it to the page.
/// let pending = sign_in.start()?;
/// let session = serde_json::to_string(&pending)?;
/// let callback = entra.approve(pending.url());
///
/// // The next one, at the redirect URL.
/// let pending: PendingSignIn = serde_json::from_str(&session)?;
/// let store = MemoryStore::new();
/// let signed_in = sign_in.finish(&pending, &callback, store.clone()).await?;
/// assert_eq!(signed_in.account(), Some("svc-mail@contoso.com"));
/// assert!(store.load().await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nobody signs in before `start` or `listen`"]
pub struct AuthorizationCode {
    client: Client,
    redirect: Url,
    scopes: Vec<String>,
    consent: Vec<String>,
    parameters: Vec<(String, String)>,
}

/// What the sign-in page asks of somebody who is signed in there already (OIDC Core §3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Prompt {
    /// To sign in again.
    Login,
    /// Nothing: the answer is an error when anything would have to be asked.
    None,
    /// To consent again.
    Consent,
    /// To choose an account; does not go together with a login hint.
    SelectAccount,
}

impl Prompt {
    fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::None => "none",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
        }
    }
}

impl Client {
    /// Signs a person in through a web page that leads back to `redirect`; set the scopes next.
    pub fn authorization_code(&self, redirect: Url) -> AuthorizationCode {
        AuthorizationCode {
            client: self.clone(),
            redirect,
            scopes: Vec::new(),
            consent: Vec::new(),
            parameters: Vec::new(),
        }
    }
}

impl AuthorizationCode {
    /// Sets the scopes of the tokens: those of one resource, and `offline_access`, `openid` and the like.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Adds scopes that the person consents to on the way, for tokens that the refresh token is redeemed for later.
    pub fn consent_to<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.consent.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Fills in the name of the account that should sign in.
    pub fn login_hint(self, name: impl Into<String>) -> Self {
        self.parameter("login_hint", name)
    }

    /// Names the domain of the account, so that its own sign-in page comes first (Entra).
    pub fn domain_hint(self, domain: impl Into<String>) -> Self {
        self.parameter("domain_hint", domain)
    }

    /// Sets what somebody is asked who is signed in already. Default: what the server finds necessary.
    pub fn prompt(self, prompt: Prompt) -> Self {
        self.parameter("prompt", prompt.as_str())
    }

    /// Sets a further parameter of the page, such as `claims`, or `access_type` for Google.
    pub fn parameter(mut self, name: &str, value: impl Into<String>) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value.into()));
        self
    }

    /// Begins a sign-in: makes `state`, `nonce` and the PKCE verifier, and with them the page's URL.
    ///
    /// # Errors
    /// [`TokenErrorKind::Configuration`] when the client has no authorization endpoint, or the redirect URL is neither
    /// https nor this machine's.
    pub fn start(&self) -> Result<PendingSignIn, TokenError> {
        if !is_redirect(&self.redirect) {
            let message = "the redirect URL must be https, or http for localhost, without a fragment";
            return Err(configuration(message));
        }
        self.start_at(self.redirect.to_string())
    }

    /// Begins a sign-in that comes back to `redirect`, word for word.
    pub(super) fn start_at(&self, redirect: String) -> Result<PendingSignIn, TokenError> {
        let page = self.page()?.clone();
        let redirect_url =
            RedirectUrl::new(redirect.clone()).map_err(|_| configuration("the redirect URL is none"))?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = CsrfToken::new_random();
        let scopes = self.scopes.iter().chain(&self.consent).cloned().map(oauth2::Scope::new);
        let client = self.client.wire().set_auth_uri(oauth2::AuthUrl::from_url(page));
        let mut request = client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(scopes)
            .set_pkce_challenge(challenge)
            .set_redirect_uri(Cow::Owned(redirect_url))
            .add_extra_param("response_mode", "query");
        if self.scopes.iter().any(|scope| scope == "openid") {
            request = request.add_extra_param("nonce", nonce.secret().clone());
        }
        for (name, value) in &self.parameters {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        let (url, state) = request.url();
        Ok(PendingSignIn {
            url,
            state: SecretString::from(state.into_secret()),
            nonce: SecretString::from(nonce.into_secret()),
            verifier: SecretString::from(verifier.into_secret()),
            redirect,
            scopes: self.scopes.clone(),
            created_at: self.client.clock().now(),
        })
    }

    /// Ends a sign-in with the address that the browser came back with: redeems the code and saves the refresh token.
    ///
    /// Each pending sign-in can be finished once: forget it before calling this, so that no callback is taken twice.
    ///
    /// # Errors
    /// [`TokenErrorKind::SignInRequired`] when the person declined or took more than ten minutes;
    /// [`TokenErrorKind::InvalidResponse`] for a callback that does not belong to `pending`, and for an ID token that
    /// does not; [`TokenErrorKind::RequestRefused`] with a [`MissingScope`](super::MissingScope) as its source when less
    /// was granted than asked for; [`TokenErrorKind::Store`], and the others as the server answers.
    ///
    /// # Cancellation
    /// Dropping the future may waste the code, which works once: the person signs in again. A save that was begun is
    /// finished, and what the store holds is whole at any time.
    pub async fn finish(
        &self,
        pending: &PendingSignIn,
        callback: impl AsRef<str>,
        store: impl TokenStore + 'static,
    ) -> Result<SignedIn, TokenError> {
        if !self.began(pending)? {
            // Else the code of one server, and the verifier with it, would be sent to another (RFC 9700 §4.4).
            let message = "the sign-in was begun with another client or server";
            return Err(TokenError::new(TokenErrorKind::InvalidResponse, message));
        }
        let callback = Callback::parse(callback.as_ref())?;
        callback.check("sign-in", pending.state.expose_secret(), self.client.classify())?;
        let age = self.client.clock().now() - pending.created_at;
        if age > LONGEST_SIGN_IN {
            let message = "the sign-in took more than 10 minutes: start again";
            return Err(TokenError::new(TokenErrorKind::SignInRequired, message));
        }
        let code = callback.code(self.page()?)?;
        let grant = CodeGrant { code, pending, scope: pending.scopes.join(" ") };
        let granted = self.client.obtain(&grant).await?;
        let nonce = pending.scopes.iter().any(|scope| scope == "openid").then_some(&pending.nonce);
        self.client.keep_sign_in(&granted, &pending.scopes, nonce, store).await
    }

    /// Tells whether `pending` is a sign-in of this client at this server.
    fn began(&self, pending: &PendingSignIn) -> Result<bool, TokenError> {
        let address = |url: &Url| (url.origin(), url.path().to_owned());
        let page = self.page()?;
        let mut parameters = pending.url.query_pairs();
        let is_client =
            parameters.any(|(name, value)| name == "client_id" && value == self.client.client_id());
        Ok(is_client && address(page) == address(&pending.url))
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn redirect(&self) -> &Url {
        &self.redirect
    }

    fn page(&self) -> Result<&Url, TokenError> {
        let missing = || configuration("the client has no authorization endpoint: nobody can sign in");
        self.client.authorization_endpoint().ok_or_else(missing)
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, redirect, scopes, consent, parameters } = self;
        f.debug_struct("AuthorizationCode")
            .field("client", client)
            .field("redirect", &redirect.as_str())
            .field("scopes", scopes)
            .field("consent", consent)
            .field("parameters", parameters)
            .finish()
    }
}

pub(super) fn configuration(message: &str) -> TokenError {
    TokenError::new(TokenErrorKind::Configuration, message)
}

/// RFC 6749 §3.1.2: no fragment. Schemes of an operating system's apps would hand the code to whoever claims them.
fn is_redirect(url: &Url) -> bool {
    super::client::is_trustworthy(url)
}

struct CodeGrant<'a> {
    code: SecretString,
    pending: &'a PendingSignIn,
    scope: String,
}

impl Grant for CodeGrant<'_> {
    const NAME: &'static str = "authorization code grant";

    fn secrets(&self) -> Vec<&str> {
        vec![self.code.expose_secret(), self.pending.verifier.expose_secret()]
    }

    async fn send(&self, client: &WireClient, tap: &Tap) -> Result<WireResponse, WireError> {
        let code = oauth2::AuthorizationCode::new(self.code.expose_secret().to_owned());
        let verifier = PkceCodeVerifier::new(self.pending.verifier.expose_secret().to_owned());
        let redirect = RedirectUrl::new(self.pending.redirect.clone())
            .map_err(|error| RequestTokenError::Other(error.to_string()))?;
        // Entra takes the scopes of one resource here, although the person consented to several; others ignore them.
        client
            .exchange_code(code)
            .set_pkce_verifier(verifier)
            .set_redirect_uri(Cow::Owned(redirect))
            .add_extra_param("scope", self.scope.as_str())
            .request_async(tap)
            .await
    }
}
