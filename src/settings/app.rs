//! The app registration that settings describe: cloud, credential, sign-in host. Requests no token.

use super::{AuthenticationSettings, Grant, ResolvedSettings};
use crate::config::{ConfigError, ConfigProblem, MailProvider};
use crate::entra::{App, AppBuilder, ClientSecret, Tenant};

impl ResolvedSettings {
    /// Returns the app registration to sign in with, ready for [`AppBuilder::build`]; `None` for Basic.
    ///
    /// It has the cloud and the TLS settings of the mail server, the credential with its expiry, and the sign-in host.
    /// What signs in to Entra ID by itself, such as a command that does so once, so signs in to the app that
    /// [`Mailer::from_settings`](crate::Mailer::from_settings) uses.
    ///
    /// ```
    /// # let settings: smtp_oauth::Settings = toml::from_str(r#"
    /// #     [server]
    /// #     username = "svc-mail@contoso.com"
    /// #     [authentication]
    /// #     tenant = "contoso.onmicrosoft.com"
    /// #     client_id = "6731de76-14a6-49ae-97bc-6eba6914391e"
    /// # "#)?;
    /// let settings = settings.resolve()?;
    /// let app = settings.app()?.expect("OAuth is the default").build()?;
    /// assert_eq!(app.tenant().as_str(), "contoso.onmicrosoft.com");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] at `authentication.tenant` when that is no tenant, or stands for many and the app is to sign in
    /// as itself.
    pub fn app(&self) -> Result<Option<AppBuilder>, ConfigError> {
        let AuthenticationSettings::OAuth {
            tenant,
            client_id,
            client_secret,
            client_secret_expires,
            authority,
            grant,
            token_store: _,
        } = &self.authentication
        else {
            return Ok(None);
        };
        let mut app = App::builder(parse_tenant(tenant, *grant)?, client_id.as_str())
            .tls(self.server.tls_settings().clone());
        if let MailProvider::Exchange(cloud) = self.server.provider() {
            app = app.cloud(cloud);
        }
        if let Some(value) = client_secret {
            let secret = ClientSecret::new(value.clone());
            app = app.client_secret(match client_secret_expires {
                Some(date) => secret.with_expiry(date.midnight().assume_utc()),
                None => secret,
            });
        }
        if let Some(authority) = authority {
            app = app.authority(authority.clone());
        }
        Ok(Some(app))
    }
}

fn parse_tenant(given: &str, grant: Grant) -> Result<Tenant, ConfigProblem> {
    let problem = |mend: String| ConfigProblem::new("authentication.tenant", mend).showing(given);
    let tenant = Tenant::parse(given).map_err(|error| problem(error.to_string()))?;
    if grant == Grant::ClientCredentials && !tenant.is_single() {
        let mend = "enter the tenant's id or domain: an app that signs in as itself does so in one tenant";
        return Err(problem(mend.to_owned()));
    }
    Ok(tenant)
}
