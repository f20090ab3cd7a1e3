//! A mailer from a settings file: joins the mail server's settings with the app registration. Reads no key itself.

use std::path::PathBuf;

use super::{Mailer, MailerBuilder};
use crate::authentication::Authentication;
use crate::clock::Clock;
use crate::config::{ConfigError, ConfigProblem, MailProvider, MailServerConfig, Problems};
use crate::entra::{App, AppBuilder, ClientSecret, Tenant};
use crate::settings::{AuthenticationSettings, Grant, ResolvedSettings, Settings};
use crate::token::store::FileStore;

/// How to sign in, as far as it is known before [`MailerBuilder::build`].
#[derive(Debug)]
pub(super) enum SignIn {
    Ready(Authentication),
    /// An app registration that waits for the clock and the TLS settings.
    App {
        app: Box<AppBuilder>,
        /// Where the refresh token is; none for an app that signs in as itself.
        store: Option<PathBuf>,
    },
}

impl SignIn {
    pub(super) fn complete(
        self,
        config: &MailServerConfig,
        clock: &Clock,
        problems: &mut Problems,
    ) -> Option<Authentication> {
        let (app, path) = match self {
            Self::Ready(authentication) => return Some(authentication),
            Self::App { app, store } => (app, store),
        };
        let app = match app.clock(clock.clone()).tls(config.tls_settings().clone()).build() {
            Ok(app) => Some(app),
            Err(error) => {
                let found = error.problems().iter();
                problems
                    .extend(found.map(|problem| ConfigProblem::new("authentication", problem.to_string())));
                None
            }
        };
        let Some(path) = path else {
            return app.map(|app| Authentication::oauth(app.client_credentials()));
        };
        let store = match FileStore::open(&path) {
            Ok(store) => Some(store.clock(clock.clone())),
            Err(error) => {
                let problem = ConfigProblem::new("authentication.token_store", error.to_string());
                problems.push(problem.showing(path.display()));
                None
            }
        };
        app.zip(store).map(|(app, store)| Authentication::oauth(app.refresh_token(store)))
    }
}

impl MailerBuilder {
    /// Starts a mailer from a settings file: mail server, sign-in and token store.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the settings, each under its key.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let ResolvedSettings { server, authentication } = settings.resolve()?;
        let sign_in = match authentication {
            AuthenticationSettings::Basic { password } => SignIn::Ready(Authentication::basic(password)),
            AuthenticationSettings::OAuth {
                tenant,
                client_id,
                client_secret,
                client_secret_expires,
                authority,
                grant,
                token_store,
            } => {
                let tenant = parse_tenant(&tenant, grant)?;
                let mut app = App::builder(tenant, client_id);
                if let MailProvider::Exchange(cloud) = server.provider() {
                    app = app.cloud(cloud);
                }
                if let Some(value) = client_secret {
                    let secret = ClientSecret::new(value);
                    app = app.client_secret(match client_secret_expires {
                        Some(date) => secret.with_expiry(date.midnight().assume_utc()),
                        None => secret,
                    });
                }
                if let Some(authority) = authority {
                    app = app.authority(authority);
                }
                let store = match grant {
                    Grant::RefreshToken => Some(token_store),
                    Grant::ClientCredentials => None,
                };
                SignIn::App { app: Box::new(app), store }
            }
        };
        let mut builder = Mailer::builder(server);
        builder.authentication = Some(sign_in);
        Ok(builder)
    }
}

impl Mailer {
    /// Builds a mailer from a settings file.
    ///
    /// ```no_run
    /// # fn run(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// use smtp_oauth::{Mailer, Settings};
    ///
    /// // The message alone: `Display` and `Debug` of a TOML error quote the text, secrets included.
    /// let settings: Settings = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    /// let mailer = Mailer::from_settings(&settings)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the settings, each under its key.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        MailerBuilder::from_settings(settings)?.build()
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
