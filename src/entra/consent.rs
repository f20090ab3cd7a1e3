//! Admin consent: the page where an administrator lets an app act for all users of a tenant. Signs nobody in.

use url::Url;

use super::app::App;
use super::error::classify;
use super::tenant::Tenant;
use crate::oauth::Callback;
use crate::token::{TokenError, TokenErrorKind};

/// Sends an administrator to the page where the app's permissions are granted for the whole tenant.
///
/// `state` is a secret of one use, which the caller makes, remembers and compares with: [`finish`](Self::finish) does
/// the comparing. What the callback says about the tenant is not passed on: anybody can call the redirect URL with
/// any tenant's id. Sign in to learn whose tenant it is.
///
/// ```
/// use smtp_oauth::testing::FakeEntra;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let entra = FakeEntra::start().await;
/// let consent = entra.app().build()?.admin_consent()?;
/// let url = consent.url(&"https://app.contoso.com/signed-in".parse()?, "random-state");
/// let callback = entra.approve(&url);
/// consent.finish(&callback, "random-state")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AdminConsent {
    page: Url,
    client_id: String,
    scope: String,
}

/// No administrator can consent for this tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody can consent for all of `{tenant}`: set the tenant's own id or domain, or `organizations`")]
pub struct ConsentTenantError {
    tenant: Tenant,
}

impl App {
    /// Prepares the page for an administrator's consent to the delegated permissions: `SMTP.Send` and the sign-in's.
    ///
    /// # Errors
    /// [`ConsentTenantError`] for `common` and `consumers`, which have no administrator.
    pub fn admin_consent(&self) -> Result<AdminConsent, ConsentTenantError> {
        let misfit = || ConsentTenantError { tenant: self.tenant().clone() };
        if !self.tenant().has_administrators() {
            return Err(misfit());
        }
        // From /{tenant}/oauth2/v2.0/token.
        let page = self.token_endpoint().join("../../v2.0/adminconsent").map_err(|_| misfit())?;
        Ok(AdminConsent { page, client_id: self.client_id().to_owned(), scope: self.mail_scopes().join(" ") })
    }
}

impl AdminConsent {
    /// Sets what is consented to, separated by blanks.
    ///
    /// Application permissions such as `SMTP.SendAsApp` need the resource's `.default`, which stands for everything in
    /// the app registration: `https://outlook.office365.com/.default`.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Returns the page to send the administrator to; it leads back to `redirect` with `state`.
    pub fn url(&self, redirect: &Url, state: &str) -> Url {
        let mut url = self.page.clone();
        url.query_pairs_mut()
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope)
            .append_pair("redirect_uri", redirect.as_str())
            .append_pair("state", state);
        url
    }

    /// Reads the address that the browser came back with: consent was given when this is `Ok`.
    ///
    /// Consent takes some minutes to work everywhere.
    ///
    /// # Errors
    /// [`TokenErrorKind::InvalidResponse`] when it is no answer to the request that carried `state`;
    /// the refusal when the administrator declined (`consent_required`, AADSTS65004).
    pub fn finish(&self, callback: impl AsRef<str>, state: &str) -> Result<(), TokenError> {
        let callback = Callback::parse(callback.as_ref())?;
        callback.check("admin consent", state, classify)?;
        if callback.get("admin_consent").is_some_and(|given| given.eq_ignore_ascii_case("true")) {
            return Ok(());
        }
        let message = "the callback does not say that admin consent was given";
        Err(TokenError::new(TokenErrorKind::InvalidResponse, message))
    }
}
