//! The app registration that settings describe: cloud, credential, sign-in host. Requests no token.

use super::authentication::{AuthenticationSettings, parse_tenant};
use super::{ClientCredential, ResolvedSettings};
use crate::config::{ConfigError, MailProvider};
use crate::entra::{App, AppBuilder, ClientSecret};

impl ResolvedSettings {
    /// Returns the app registration at Entra ID to sign in with, ready for [`AppBuilder::build`]; `None` for Basic and
    /// for an app that is registered elsewhere, which [`client`](Self::client) returns.
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
    /// [`ConfigError`] at `authentication.tenant` when it was changed since the settings were resolved, and is no tenant
    /// now, or stands for many and the app is to sign in as itself.
    pub fn app(&self) -> Result<Option<AppBuilder>, ConfigError> {
        let AuthenticationSettings::OAuth { tenant, client_id, credential, authority, grant, token_store: _ } =
            &self.authentication
        else {
            return Ok(None);
        };
        let tenant = parse_tenant(tenant, *grant).map_err(|problem| problem.within("authentication"))?;
        let mut app = App::builder(tenant, client_id.as_str()).tls(self.server.tls_settings().clone());
        if let MailProvider::Exchange(cloud) = self.server.provider() {
            app = app.cloud(cloud);
        }
        app = match credential {
            Some(ClientCredential::Secret { value, expires }) => {
                let secret = ClientSecret::new(value.clone());
                app.client_secret(match expires {
                    Some(date) => secret.with_expires_at(date.midnight().assume_utc()),
                    None => secret,
                })
            }
            Some(ClientCredential::Certificate(certificate)) => app.client_certificate(certificate.clone()),
            Some(ClientCredential::FederatedTokenFile(path)) => app.federated_token_file(path),
            None => app,
        };
        if let Some(authority) = authority {
            app = app.authority(authority.clone());
        }
        Ok(Some(app))
    }
}
