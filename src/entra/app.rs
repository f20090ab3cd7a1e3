//! An app registration in Entra ID: settings, endpoints, and the ways it gets tokens. Signs nobody in by itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use url::Url;

use super::error::{AppError, AppProblem, classify};
use super::secret::ClientSecret;
use super::tenant::{Tenant, is_guid};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::oauth::{
    self, ClientAssertion, ClientAuthentication, ClientCertificate, ClientError, Expiring, HttpClient,
    HttpSettings, KeepAlive,
};
use crate::tls::TlsSettings;
use crate::token::store::TokenStore;
use crate::token::{TokenCache, TokenError, TokenErrorKind, from_fn};

/// Asks Entra for a refresh token along with the access token.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// An app registration in Entra ID; clones share everything.
///
/// ```
/// use smtp_oauth::entra::{App, Tenant};
/// use smtp_oauth::MemoryStore;
///
/// let app = App::builder(Tenant::parse("contoso.onmicrosoft.com")?, "6731de76-14a6-49ae-97bc-6eba6914391e")
///     .client_secret("8Q~value-from-the-portal")
///     .build()?;
/// let tokens = app.refresh_token(MemoryStore::new());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    tenant: Tenant,
    cloud: Cloud,
    client: oauth::Client,
    client_secret: Option<ClientSecret>,
    graph: Option<Url>,
}

impl App {
    /// Starts an app from the tenant it signs in to and its *Application (client) ID*.
    pub fn builder(tenant: Tenant, client_id: impl Into<String>) -> AppBuilder {
        AppBuilder {
            tenant,
            client_id: client_id.into(),
            client_secret: None,
            assertions: Vec::new(),
            cloud: Cloud::default(),
            authority: None,
            graph: None,
            http: HttpSettings::default(),
        }
    }

    /// Provides access tokens for sending mail (`SMTP.Send`) from the refresh token in `store`.
    ///
    /// The refresh token comes from a sign-in. Each use yields a new one, which is saved before the access token is
    /// handed out; of several processes with one store, one asks Entra and the others use its answer. Access tokens
    /// are cached: see [`TokenCache`] for when they are refreshed and what happens in an outage.
    pub fn refresh_token(&self, store: impl TokenStore + 'static) -> TokenCache {
        self.0.client.refresh_token(store, self.scopes())
    }

    /// Renews the refresh token in `store` when it is older than `age`; Entra's expires after 90 days without use.
    ///
    /// For a program that may send nothing for months: call it at the start and from a daily timer, with 30 days, say.
    /// A program that sends more often than that need not.
    ///
    /// # Errors
    /// As the provider that [`refresh_token`](Self::refresh_token) makes.
    ///
    /// # Cancellation
    /// A renewal that was begun is finished, so that a rotated refresh token is not lost.
    pub async fn keep_alive(
        &self,
        store: impl TokenStore + 'static,
        age: Duration,
    ) -> Result<KeepAlive, TokenError> {
        self.0.client.keep_alive(store, self.scopes(), age).await
    }

    fn scopes(&self) -> [&'static str; 2] {
        [self.0.cloud.smtp_send_scope(), OFFLINE_ACCESS]
    }

    /// Provides access tokens for sending mail as the app itself (`SMTP.SendAsApp`): nobody signs in.
    ///
    /// The app needs the application permission `SMTP.SendAsApp` of *Office 365 Exchange Online* with admin consent, a
    /// service principal in Exchange Online, and access to the mailbox it sends from.
    ///
    /// Errors of the provider: [`TokenErrorKind::Configuration`] when the tenant is `organizations`, `consumers` or
    /// `common`, or the app has no credential; no server is asked then.
    ///
    /// ```
    /// use smtp_oauth::entra::{App, Tenant};
    ///
    /// let app = App::builder(Tenant::parse("contoso.onmicrosoft.com")?, "6731de76-14a6-49ae-97bc-6eba6914391e")
    ///     .federated_token_file("/var/run/secrets/azure/tokens/azure-identity-token")
    ///     .build()?;
    /// let tokens = app.client_credentials();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client_credentials(&self) -> TokenCache {
        if self.0.tenant.is_single() {
            return self.0.client.client_credentials([self.0.cloud.app_scope()]);
        }
        // Entra would answer with AADSTS9001023 or, worse, issue a token for a tenant that nobody meant.
        let message = format!(
            "an app signs in to one tenant: `{}` stands for many, give the tenant's id or domain",
            self.0.tenant
        );
        let error = TokenError::new(TokenErrorKind::Configuration, message);
        TokenCache::new(from_fn(move || std::future::ready(Err(error.clone()))))
    }

    /// Returns until when the app's client secret or certificate works, where that is known.
    ///
    /// The log warns from 30 days before, once a day at most, when the app is made and when it asks for tokens.
    pub fn credential_expiry(&self) -> Option<OffsetDateTime> {
        self.0.client.credential_expiry()
    }

    pub(super) fn client(&self) -> &oauth::Client {
        &self.0.client
    }

    /// Returns another address of Graph than the cloud's.
    pub(super) fn graph(&self) -> Option<&Url> {
        self.0.graph.as_ref()
    }

    /// Returns the tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.0.tenant
    }

    /// Returns the cloud.
    pub fn cloud(&self) -> Cloud {
        self.0.cloud
    }

    /// Returns the *Application (client) ID*.
    pub fn client_id(&self) -> &str {
        self.0.client.client_id()
    }

    /// Returns the client secret, for its expiry date; `None` for a public client.
    pub fn client_secret(&self) -> Option<&ClientSecret> {
        self.0.client_secret.as_ref()
    }

    /// Returns the token endpoint.
    pub fn token_endpoint(&self) -> &Url {
        self.0.client.token_endpoint()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { tenant, cloud, client, client_secret, graph: _ } = &*self.0;
        f.debug_struct("App")
            .field("tenant", tenant)
            .field("cloud", cloud)
            .field("client", client)
            .field("client_secret", client_secret)
            .finish()
    }
}

/// Collects the settings of an [`App`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct AppBuilder {
    tenant: Tenant,
    client_id: String,
    client_secret: Option<ClientSecret>,
    assertions: Vec<ClientAssertion>,
    cloud: Cloud,
    authority: Option<Url>,
    graph: Option<Url>,
    http: HttpSettings,
}

impl AppBuilder {
    /// Sets the client secret, with or without its expiry date. Default: none, for a public client.
    pub fn client_secret(mut self, secret: impl Into<ClientSecret>) -> Self {
        self.client_secret = Some(secret.into());
        self
    }

    /// Signs in with a certificate in place of a client secret.
    pub fn client_certificate(self, certificate: ClientCertificate) -> Self {
        self.client_assertion(ClientAssertion::certificate(certificate))
    }

    /// Signs in with the token in this file, of another issuer that the app registration trusts (*Federated
    /// credentials*).
    ///
    /// The file is read for each request. For the one that Kubernetes' workload identity names, give
    /// [`ClientAssertion::workload_identity`] to [`client_assertion`](Self::client_assertion).
    pub fn federated_token_file(self, path: impl Into<PathBuf>) -> Self {
        self.client_assertion(ClientAssertion::file(path))
    }

    /// Signs in with an assertion: signed by a KMS or an HSM, or fetched from another issuer.
    pub fn client_assertion(mut self, assertion: ClientAssertion) -> Self {
        self.assertions.push(assertion);
        self
    }

    /// Sets the cloud the tenant lives in. Default: the worldwide one.
    pub fn cloud(mut self, cloud: Cloud) -> Self {
        self.cloud = cloud;
        self
    }

    /// Sets the sign-in authority without the tenant, for a fake of it. Default: the cloud's.
    pub fn authority(mut self, authority: Url) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Sets the address of Microsoft Graph, for a fake of it. Default: the cloud's.
    pub fn graph(mut self, graph: Url) -> Self {
        self.graph = Some(graph);
        self
    }

    /// Sets the HTTP client. Default: one over `reqwest` (feature `reqwest`).
    pub fn http_client(mut self, http: Arc<dyn HttpClient>) -> Self {
        self.http.client = Some(http);
        self
    }

    /// Sets which servers the default HTTP client trusts. Default: the operating system's roots, TLS 1.2.
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.http.tls = tls;
        self
    }

    /// Sets the clock for deadlines and expiry. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.http.clock = clock;
        self
    }

    /// Sets how long one request for a token may take, with all its attempts. Default: 30 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.http.deadline = deadline;
        self
    }

    /// Checks the settings and makes the app; asks no server.
    ///
    /// # Errors
    /// [`AppError`] with every problem found: a client id that is no GUID, a *Secret ID* in place of the secret's
    /// *Value*, more than one credential, an authority that secrets must not be sent to, no usable HTTP client.
    pub fn build(self) -> Result<App, AppError> {
        let mut problems = Vec::new();
        // A GUID, always: anything else is the app's name, or the secret in the wrong field.
        if !is_guid(&self.client_id) {
            problems.push(AppProblem::ClientId);
        }
        if let Some(secret) = &self.client_secret {
            if secret.is_malformed() {
                problems.push(AppProblem::MalformedSecret);
            }
            if secret.is_secret_id() {
                problems.push(AppProblem::SecretId);
            }
        }
        if self.assertions.len() + usize::from(self.client_secret.is_some()) > 1 {
            problems.push(AppProblem::SeveralCredentials);
        }
        let client = match self.client() {
            Ok(client) if problems.is_empty() => client,
            Ok(_) => return Err(AppError::new(problems)),
            // An id that is no client id at all was reported above.
            Err(ClientError::ClientId) => return Err(AppError::new(problems)),
            Err(error) => {
                problems.push(AppProblem::Client(error));
                return Err(AppError::new(problems));
            }
        };
        let Self { tenant, cloud, client_secret, graph, .. } = self;
        Ok(App(Arc::new(Inner { tenant, cloud, client, client_secret, graph })))
    }

    fn client(&self) -> Result<oauth::Client, ClientError> {
        let token_endpoint = self.token_endpoint()?;
        let sibling = |name| {
            let host = token_endpoint.host_str().unwrap_or_default().to_owned();
            token_endpoint.join(name).map_err(|_| ClientError::SignInEndpoint { host })
        };
        let (authorization, device) = (sibling("authorize")?, sibling("devicecode")?);
        let mut builder = oauth::Client::builder(token_endpoint, self.client_id.as_str())
            .authorization_endpoint(authorization)
            .device_authorization_endpoint(device)
            .http_settings(self.http.clone())
            .classify(classify);
        if let Some(secret) = &self.client_secret {
            let expiring = secret.expires_at().map(|at| Expiring { what: "client secret", at });
            builder =
                builder.authentication(ClientAuthentication::Post(secret.value().clone())).expiring(expiring);
        } else if let Some(assertion) = self.assertions.first() {
            builder = builder.authentication(ClientAuthentication::PrivateKeyJwt(assertion.clone()));
        }
        builder.build()
    }

    fn token_endpoint(&self) -> Result<Url, ClientError> {
        let host = self.cloud.authority_host();
        let refused = || ClientError::Endpoint { host: host.to_owned() };
        let mut endpoint = match &self.authority {
            Some(authority) => authority.clone(),
            None => Url::parse(&format!("https://{host}/")).map_err(|_| refused())?,
        };
        endpoint.path_segments_mut().map_err(|()| refused())?.pop_if_empty().extend([
            self.tenant.as_str(),
            "oauth2",
            "v2.0",
            "token",
        ]);
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_ID: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";

    fn tenant() -> Tenant {
        Tenant::parse("contoso.com").unwrap()
    }

    #[test]
    fn endpoints_follow_cloud_and_tenant() {
        let app = App::builder(tenant(), CLIENT_ID).cloud(Cloud::China).build().unwrap();
        let expected = "https://login.partner.microsoftonline.cn/contoso.com/oauth2/v2.0/token";
        assert_eq!(app.token_endpoint().as_str(), expected);
    }

    #[test]
    fn every_problem_is_listed_at_once() {
        let error = App::builder(tenant(), "my mail app")
            .client_secret(" 6731de76-14a6-49ae-97bc-6eba6914391e")
            .authority(Url::parse("http://login.example").unwrap())
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the app registration's settings do not work: the client id must be the `Application (client) ID` of the \
             app registration, a GUID; the client secret is empty or has blanks around it: copy it again; the client \
             secret is the `Secret ID`: copy the `Value` next to it, or make a new secret if it is hidden; the token \
             endpoint on `login.example` must be a plain https URL (http only for a loopback address)"
        );
        assert_eq!(error.problems().len(), 4);
        assert!(!format!("{error:?}").contains("6731de76"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let builder = App::builder(tenant(), CLIENT_ID).client_secret("8Q~hidden");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
