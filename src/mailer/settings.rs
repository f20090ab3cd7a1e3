//! A mailer from a settings file: joins the mail server's settings with the app registration. Reads no key itself.

#[cfg(feature = "redis")]
use std::error::Error;
use std::sync::Arc;

use super::{Mailer, MailerBuilder};
use crate::authentication::Authentication;
use crate::clock::Clock;
use crate::config::{ConfigError, ConfigProblem, Problems};
use crate::entra::AppBuilder;
#[cfg(feature = "redis")]
use crate::limits::RedisLimits;
use crate::limits::SharedLimits;
use crate::oauth::ClientBuilder;
use crate::settings::{
    AuthenticationSettings, ResolvedSettings, Settings, SharedLimitsSettings, TokenStoreSettings,
};
use crate::token::store::TokenStore;

/// How to sign in, as far as it is known before [`MailerBuilder::build`].
#[derive(Debug)]
pub(super) enum SignIn {
    Ready(Authentication),
    /// An app registration that waits for the clock.
    App {
        app: Box<AppBuilder>,
        /// Where the refresh token is; none for an app that signs in as itself.
        store: Option<TokenStoreSettings>,
    },
    /// An app at another authorization server that waits for the clock.
    Client {
        client: Box<ClientBuilder>,
        scopes: Vec<String>,
        store: TokenStoreSettings,
    },
}

/// Where sending limits are shared, as far as it is known before [`MailerBuilder::build`].
#[derive(Debug)]
pub(super) enum Shared {
    Ready(Arc<dyn SharedLimits>),
    /// Limits that wait for the clock.
    Settings(SharedLimitsSettings),
}

impl SignIn {
    pub(super) fn complete(self, clock: &Clock, problems: &mut Problems) -> Option<Authentication> {
        let problem = |text: String| ConfigProblem::new("authentication", text);
        match self {
            Self::Ready(authentication) => Some(authentication),
            Self::App { app, store } => {
                let app = app.clock(clock.clone()).build().map_err(|error| {
                    problems.extend(error.problems().iter().map(|one| problem(one.to_string())));
                });
                let Some(store) = store else {
                    return app.ok().map(|app| Authentication::oauth(app.client_credentials()));
                };
                let (store, app) = open(&store, clock, problems).zip(app.ok())?;
                Some(Authentication::oauth(app.refresh_token(store)))
            }
            Self::Client { client, scopes, store } => {
                let client = client.clock(clock.clone()).build();
                let client = problems.accept(client.map_err(|error| problem(error.to_string())));
                let (store, client) = open(&store, clock, problems).zip(client)?;
                Some(Authentication::oauth(client.refresh_token(store, scopes)))
            }
        }
    }
}

fn open(store: &TokenStoreSettings, clock: &Clock, problems: &mut Problems) -> Option<Arc<dyn TokenStore>> {
    store.open(clock).map_err(|error| problems.extend(error.into_problems())).ok()
}

impl Shared {
    pub(super) fn complete(self, clock: &Clock, problems: &mut Problems) -> Option<Arc<dyn SharedLimits>> {
        match self {
            Self::Ready(limits) => Some(limits),
            #[cfg(feature = "redis")]
            Self::Settings(SharedLimitsSettings::Redis { url }) => {
                let opened = RedisLimits::open(url).map_err(|error| {
                    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                    ConfigProblem::new("shared_limits.redis", reason)
                });
                problems.accept(opened).map(|limits| Arc::new(limits.clock(clock.clone())) as _)
            }
            #[cfg(not(feature = "redis"))]
            Self::Settings(settings) => {
                let _for_others = (clock, problems);
                match settings {} // Without a feature that has some, there are none.
            }
        }
    }
}

impl MailerBuilder {
    /// Starts a mailer from a settings file: mail server, sign-in, token store, repetition and the limits of a fleet.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the settings, each under its key.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let resolved = settings.resolve()?;
        let (app, client) = (resolved.app()?, resolved.client());
        let ResolvedSettings { server, authentication, retry, shared_limits } = resolved;
        let sign_in = match authentication {
            AuthenticationSettings::OAuth { token_store: store, .. } => {
                app.map(|app| SignIn::App { app: Box::new(app), store })
            }
            AuthenticationSettings::OtherOAuth { scopes, token_store: store, .. } => {
                client.map(|client| SignIn::Client { client: Box::new(client), scopes, store })
            }
            AuthenticationSettings::Basic { password } => {
                Some(SignIn::Ready(Authentication::basic(password)))
            }
        };
        let mut builder = Mailer::builder(server).retry(retry);
        builder.authentication = sign_in;
        builder.shared_limits = shared_limits.map(Shared::Settings);
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
