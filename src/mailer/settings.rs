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
use crate::settings::{
    AuthenticationSettings, ResolvedSettings, Settings, SharedLimitsSettings, TokenStoreSettings,
};

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
        let (app, store) = match self {
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
        let Some(store) = store else {
            return app.map(|app| Authentication::oauth(app.client_credentials()));
        };
        match store.open(clock) {
            Ok(store) => app.map(|app| Authentication::oauth(app.refresh_token(store))),
            Err(error) => {
                problems.extend(error.into_problems());
                None
            }
        }
    }
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
        let app = resolved.app()?;
        let ResolvedSettings { server, authentication, retry, shared_limits } = resolved;
        let sign_in = match (authentication, app) {
            (AuthenticationSettings::OAuth { token_store, .. }, Some(app)) => {
                Some(SignIn::App { app: Box::new(app), store: token_store })
            }
            (AuthenticationSettings::Basic { password }, _) => {
                Some(SignIn::Ready(Authentication::basic(password)))
            }
            (AuthenticationSettings::OAuth { .. }, None) => None,
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
