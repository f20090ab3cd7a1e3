//! Credentials of the Azure SDK as a provider of tokens: managed identity, workload identity and others. Speaks no HTTP.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_core::credentials::{AccessToken as AzureToken, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::RawResponse;
use azure_core::http::headers::RETRY_AFTER;

use super::error::classify;
use crate::cloud::Cloud;
use crate::oauth::refusal_by_response;
use crate::token::{
    AccessToken, TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest,
};

/// As for a token endpoint of our own asking.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What is shown of an error's text, in characters.
const SHOWN: usize = 2000;

/// A word of this length is taken for a token, an assertion or a key, and is not shown.
const LONGEST_WORD: usize = 100;

/// Provides access tokens from a credential of the Azure SDK (feature `azure`): any `azure_core` `TokenCredential`, such as
/// `azure_identity`'s `ManagedIdentityCredential` and `WorkloadIdentityCredential`.
///
/// The identity signs in as itself, as an app does. It needs the application permission `SMTP.SendAsApp` of *Office 365
/// Exchange Online*, which a managed identity is given by `New-MgServicePrincipalAppRoleAssignment` because it has no app
/// registration, and in Exchange Online `New-ServicePrincipal` and `Add-MailboxPermission` like any app. What a developer
/// has signed in to with a command line tool is not known to be given tokens for sending mail.
///
/// # What is cached where
/// The credentials of `azure_identity` keep a token until five minutes before its expiry and offer no way around that,
/// and the service behind a managed identity keeps one as well. The crate's own cache asks half a minute earlier
/// at most, is given the same token again, and uses it for half of what is left of it, at least two minutes before
/// the expiry. So a token is never refreshed too late.
///
/// A token that the mail server has refused would be returned again and again in the same way: set
/// [`renewed_by`](Self::renewed_by), so that a new credential makes a new request. Without it, and where the new
/// credential has the same token once more, the submission fails with what the mail server said.
///
/// # Errors
/// Of the provider, by kind: [`Unavailable`](TokenErrorKind::Unavailable) for a lost connection, throttling or a server's
/// fault, with `Retry-After` in seconds; what the AADSTS code says for a refusal by Entra;
/// [`Configuration`](TokenErrorKind::Configuration) where there is nothing to ask, such as no managed identity on this
/// machine. What the SDK says about it is the error's source, as text in which long words are redacted.
///
/// ```
/// use std::sync::Arc;
/// use azure_core::credentials::TokenCredential;
/// use smtp_oauth::entra::AzureCredential;
/// use smtp_oauth::{Authentication, ConfigError, Mailer, Office365Profile};
///
/// // With crate azure_identity: `ManagedIdentityCredential::new(None)?`
/// fn mailer(credential: Arc<dyn TokenCredential>) -> Result<Mailer, ConfigError> {
///     let profile = Office365Profile::builder().username("alerts@contoso.com").build()?;
///     Mailer::builder(profile).authentication(Authentication::oauth(AzureCredential::new(credential))).build()
/// }
/// ```
pub struct AzureCredential {
    credential: Mutex<Arc<dyn TokenCredential>>,
    renew: Option<Renew>,
    scope: String,
}

type Renew = Box<dyn Fn() -> azure_core::Result<Arc<dyn TokenCredential>> + Send + Sync>;

impl AzureCredential {
    /// Takes tokens for Exchange Online in the public cloud from `credential`.
    pub fn new(credential: Arc<dyn TokenCredential>) -> Self {
        let scope = Cloud::Public.app_scope().to_owned();
        Self { credential: Mutex::new(credential), renew: None, scope }
    }

    /// Sets the cloud that the tenant lives in; it decides the scope. Default: [`Cloud::Public`].
    #[must_use]
    pub fn cloud(self, cloud: Cloud) -> Self {
        self.scope(cloud.app_scope())
    }

    /// Sets the scope. Default: [`Cloud::app_scope`], in the public cloud `https://outlook.office365.com/.default`.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Sets how another credential of the same identity is made, with nothing in its cache.
    ///
    /// Called when the mail server has refused a token and the credential at hand returns that same one. Default: none.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use azure_core::credentials::TokenCredential;
    /// # fn managed_identity() -> azure_core::Result<Arc<dyn TokenCredential>> { unimplemented!() }
    /// # fn run() -> azure_core::Result<()> {
    /// use smtp_oauth::entra::AzureCredential;
    ///
    /// // With crate azure_identity: `|| Ok(ManagedIdentityCredential::new(None)?)`
    /// let provider = AzureCredential::new(managed_identity()?).renewed_by(managed_identity);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn renewed_by(
        mut self,
        renew: impl Fn() -> azure_core::Result<Arc<dyn TokenCredential>> + Send + Sync + 'static,
    ) -> Self {
        self.renew = Some(Box::new(renew));
        self
    }

    async fn fetch(&self, request: TokenRequest<'_>) -> Result<AccessToken, TokenError> {
        let credential = self.credential().clone();
        let token = self.token_of(&*credential).await?;
        let is_refused = request.rejected().is_some_and(|rejected| rejected.is_same(&token));
        let Some(renew) = self.renew.as_ref().filter(|_| is_refused) else { return Ok(token) };
        let renewed = renew().map_err(|error| failure(&error))?;
        *self.credential() = renewed.clone();
        self.token_of(&*renewed).await
    }

    async fn token_of(&self, credential: &dyn TokenCredential) -> Result<AccessToken, TokenError> {
        let token = credential.get_token(&[&self.scope], None).await.map_err(|error| failure(&error))?;
        let AzureToken { token, expires_on } = token;
        AccessToken::new(token.secret(), expires_on)
    }

    fn credential(&self) -> MutexGuard<'_, Arc<dyn TokenCredential>> {
        self.credential.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenProvider for AzureCredential {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::new(self.fetch(request))
    }

    fn notes(&self) -> Vec<TokenNote> {
        let source = format!("from a credential of the Azure SDK, scope {}", self.scope);
        vec![TokenNote::Fact(source), TokenNote::AppOnly]
    }
}

impl fmt::Debug for AzureCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The credential's own `Debug` is not ours to answer for.
        let Self { credential: _, renew: _, scope } = self;
        f.debug_struct("AzureCredential").field("scope", scope).finish_non_exhaustive()
    }
}

/// Says whose move it is. A credential wraps what went wrong in an error that says no more than its own name.
fn failure(error: &azure_core::Error) -> TokenError {
    let mut found = error;
    while *found.kind() == ErrorKind::Credential
        && let Some(inner) = found.downcast_ref::<azure_core::Error>()
    {
        found = inner;
    }
    let kind = match found.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => {
            return by_response(u16::from(*status), raw_response.as_deref(), error);
        }
        ErrorKind::Connection | ErrorKind::Io | ErrorKind::Other => TokenErrorKind::Unavailable,
        ErrorKind::DataConversion => TokenErrorKind::InvalidResponse,
        ErrorKind::Credential => TokenErrorKind::Configuration,
    };
    let message = match kind {
        TokenErrorKind::Unavailable => "the Azure credential cannot get a token at the moment",
        TokenErrorKind::InvalidResponse => "the Azure credential was given something that is no token",
        _ => "the Azure credential cannot get a token here",
    };
    TokenError::new(kind, message).with_source(Said::of(error))
}

fn by_response(status: u16, response: Option<&RawResponse>, error: &azure_core::Error) -> TokenError {
    let body: &[u8] = response.map(|response| response.body().as_ref()).unwrap_or_default();
    let retry_after = response.and_then(|response| response.headers().get_optional_str(&RETRY_AFTER));
    let wait = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    let wait = wait.map(|wait| wait.min(LONGEST_RETRY_AFTER));
    refusal_by_response("the token request of the Azure credential", status, body, wait, classify)
        .with_source(Said::of(error))
}

/// What the SDK said, without what may be a secret. Its own error holds whole responses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl Said {
    fn of(error: &azure_core::Error) -> Self {
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        while let Some(inner) = source {
            let text = inner.to_string();
            // The credentials repeat in their message what they wrap.
            if !texts.iter().any(|known| known.contains(&text)) {
                texts.push(text);
            }
            source = inner.source();
        }
        let texts = texts.join(": ");
        let words = texts.split_whitespace().map(|word| match word.chars().count() > LONGEST_WORD {
            true => "[redacted]",
            false => word,
        });
        let shown = words.collect::<Vec<_>>().join(" ");
        Self(shown.chars().filter(|c| !c.is_control()).take(SHOWN).collect())
    }
}
