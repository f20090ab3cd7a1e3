//! A mailer from a settings file: joins the mail server's settings with the app registration. Reads no key itself.

use std::path::PathBuf;

use super::{Mailer, MailerBuilder};
use crate::authentication::Authentication;
use crate::clock::Clock;
use crate::config::{ConfigError, ConfigProblem, Problems};
use crate::entra::AppBuilder;
use crate::settings::{AuthenticationSettings, Grant, ResolvedSettings, Settings};
use crate::token::store::FileStore;

/// How to sign in, as far as it is known before [`MailerBuilder::build`].
#[derive(Debug)]
pub(super) enum SignIn {
    Ready(Authentication),
    /// An app registration that waits for the clock.
    App {
        app: Box<AppBuilder>,
        /// Where the refresh token is; none for an app that signs in as itself.
        store: Option<PathBuf>,
    },
}

impl SignIn {
    pub(super) fn complete(self, clock: &Clock, problems: &mut Problems) -> Option<Authentication> {
        let (app, path) = match self {
            Self::Ready(authentication) => return Some(authentication),
            Self::App { app, store } => (app, store),
        };
        let app = match app.clock(clock.clone()).build() {
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
        let resolved = settings.resolve()?;
        let app = resolved.app()?;
        let ResolvedSettings { server, authentication } = resolved;
        let sign_in = match (authentication, app) {
            (AuthenticationSettings::OAuth { grant, token_store, .. }, Some(app)) => {
                let store = match grant {
                    Grant::RefreshToken => Some(token_store),
                    Grant::ClientCredentials => None,
                };
                Some(SignIn::App { app: Box::new(app), store })
            }
            (AuthenticationSettings::Basic { password }, _) => {
                Some(SignIn::Ready(Authentication::basic(password)))
            }
            (AuthenticationSettings::OAuth { .. }, None) => None,
        };
        let mut builder = Mailer::builder(server);
        builder.authentication = sign_in;
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
