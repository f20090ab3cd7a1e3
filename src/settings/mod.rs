//! A whole settings file, mail server and sign-in: read with serde, resolved once. Requests no token, opens no connection.

mod app;
mod authentication;
mod client;
mod credential;
#[cfg(feature = "schemars")]
mod schema;
mod secret;
mod shared_limits;
mod token_store;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer};

use authentication::ServerFacts;
pub use authentication::{AuthenticationSettings, Grant};
pub use credential::ClientCredential;
pub use shared_limits::SharedLimitsSettings;
pub use token_store::TokenStoreSettings;

use crate::cloud::Cloud;
use crate::config::{
    AuthenticationMethod, ConfigError, ConfigProblem, Draft, Keys, MailProvider, MailServerConfig, Problems,
    ServerBuilder, Table, Tls,
};
use crate::office365::Office365Profile;
use crate::retry::RetryPolicy;

/// The settings of a mailer as they stand in a file or the environment, in any format that serde reads.
///
/// The table `server` has the keys of the builders and `profile`; `authentication` says how to sign in, and where the
/// refresh token is kept; `retry` and `shared_limits` are optional. [docs/settings.md] lists every key with its default
/// and examples. A secret is given by value, as `{ env = "NAME" }` or as `{ file = "/run/secrets/name" }`.
///
/// [docs/settings.md]: https://docs.rs/crate/smtp-oauth/latest/source/docs/settings.md
///
/// Numbers and booleans may be texts, as they are in the environment. Deserialising fails only on what the format
/// itself refuses; note that a format's own message may quote the line. Everything else is found by
/// [`resolve`](Self::resolve), all at once.
///
/// ```
/// use smtp_oauth::{AuthenticationSettings, Settings};
///
/// let settings: Settings = toml::from_str(r#"
///     [server]
///     username = "svc-mail@contoso.com"
///     sender = "Contoso alerts <alerts@contoso.com>"
///
///     [authentication]
///     tenant = "contoso.onmicrosoft.com"
///     client_id = "8f2c1d1e-0000-0000-0000-000000000000"
///     client_secret_expires = 2027-06-30
///     client_secret = { env = "MAIL_CLIENT_SECRET" }
/// "#)?;
/// let error = settings.resolve().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "1 problem in the mail settings\n  authentication.client_secret: set the environment variable MAIL_CLIENT_SECRET"
/// );
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    root: Table,
    directory: PathBuf,
}

/// What [`Settings::resolve`] found valid.
///
/// [`Settings`] has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResolvedSettings {
    /// The mail server; its [`provider`](MailServerConfig::provider) names the cloud.
    pub server: MailServerConfig,
    /// How to sign in to it.
    pub authentication: AuthenticationSettings,
    /// How often a submission is tried again when that is safe. Default: [`RetryPolicy::new`].
    pub retry: RetryPolicy,
    /// Where a fleet keeps the sending limits together. Default: each mailer counts for itself.
    pub shared_limits: Option<SharedLimitsSettings>,
}

#[cfg(not(feature = "redis"))]
const NO_REDIS: &str = "build the program with the feature redis of smtp-oauth, or remove it: it has none";

impl Settings {
    /// Sets the directory that relative paths are taken from. Default: the process's current directory.
    #[must_use]
    pub fn relative_to(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Checks the table `server` alone; reads the file of root certificates.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of that table.
    pub fn server(&self) -> Result<MailServerConfig, ConfigError> {
        let mut problems = Problems::default();
        let mut keys = Keys::new(&self.root);
        let (_, server) = self.read_server(&mut keys);
        problems.extend(keys.into_problems());
        problems.finish(server)
    }

    /// Checks everything; reads the environment variables and files that are named, blocking for as long.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of all tables, each under its path: `server.port`.
    pub fn resolve(&self) -> Result<ResolvedSettings, ConfigError> {
        let mut keys = Keys::new(&self.root);
        let (profile, server) = self.read_server(&mut keys);
        let facts = ServerFacts {
            profile,
            provider: server.as_ref().map(MailServerConfig::provider).or(profile),
            username: server.as_ref().map(MailServerConfig::username).unwrap_or_default(),
        };
        let authentication = self.read_authentication(&mut keys, &facts);
        let retry = read_retry(&mut keys);
        let shared_limits = SharedLimitsSettings::read(&mut keys, &self.directory);
        if let (Some(server), Some(authentication)) = (&server, &authentication)
            && authentication.method() == AuthenticationMethod::OAuth
            && server.tls() == Tls::LoopbackPlaintext
        {
            let mend = "enter starttls or implicit: an access token is never sent without encryption (RFC 6750 §5.3)";
            keys.problem(ConfigProblem::new("server.tls", mend).showing(Tls::LoopbackPlaintext.name()));
        }
        let resolved = server.zip(authentication).map(|(server, authentication)| ResolvedSettings {
            server,
            authentication,
            retry,
            shared_limits,
        });
        keys.finish().finish(resolved)
    }

    /// Reads the table `server`: its profile, and what it comes to; each is `None` when it has a problem.
    fn read_server(&self, root: &mut Keys<'_>) -> (Option<MailProvider>, Option<MailServerConfig>) {
        let Some(table) = required_table(root, "server") else { return (None, None) };
        let mut keys = Keys::new(table);
        let profile = read_profile(&mut keys);
        let server = read_by_profile(profile, keys, &self.directory)
            .map_err(|error| root.add_within("server", error.showing_entered(table).into_problems()));
        (profile, server.ok())
    }

    fn read_authentication(
        &self,
        root: &mut Keys<'_>,
        server: &ServerFacts<'_>,
    ) -> Option<AuthenticationSettings> {
        let table = required_table(root, "authentication")?;
        let mut keys = Keys::new(table);
        let settings = AuthenticationSettings::read(&mut keys, &self.directory, server);
        root.add_within("authentication", keys.finish());
        settings
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, directory } = self; // A table shows its keys, and of its values only the kind.
        f.debug_struct("Settings").field("root", root).field("directory", directory).finish()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { root: Table::deserialize(deserializer)?, directory: PathBuf::new() })
    }
}

fn required_table<'a>(root: &mut Keys<'a>, key: &'static str) -> Option<&'a Table> {
    root.require(key, "add this table of settings");
    root.table(key)
}

fn read_retry(root: &mut Keys<'_>) -> RetryPolicy {
    let mut policy = RetryPolicy::new();
    if let Some(table) = root.table("retry") {
        let mut keys = Keys::new(table);
        if let Some(attempts) =
            keys.positive("attempts", "enter how often to try in all, from 1 to 4294967295")
        {
            policy = policy.with_attempts(attempts);
        }
        if let Some(wait) = keys.duration("first_wait") {
            policy = policy.with_first_wait(wait);
        }
        if let Some(wait) = keys.duration("longest_wait") {
            policy = policy.with_longest_wait(wait);
        }
        root.add_within("retry", keys.finish());
    }
    policy
}

/// Reads whose server it is; `None` when it is nobody's that is known.
fn read_profile(keys: &mut Keys<'_>) -> Option<MailProvider> {
    let office365 = MailProvider::Exchange(Cloud::default());
    if !keys.has("profile") {
        keys.value("profile");
        return Some(office365);
    }
    let profiles = [office365].into_iter().chain(MailProvider::PRESETS).chain([MailProvider::Other]);
    keys.choice("profile", &profiles.map(|profile| (profile.name(), profile)).collect::<Vec<_>>())
}

fn read_by_profile(
    profile: Option<MailProvider>,
    mut keys: Keys<'_>,
    directory: &Path,
) -> Result<MailServerConfig, ConfigError> {
    match profile {
        Some(MailProvider::Exchange(_)) => {
            let mut builder = ServerBuilder::<Office365Profile>::read(&mut keys, directory, profile);
            builder.draft.problems.extend(keys.finish());
            builder.build().map(MailServerConfig::from)
        }
        Some(provider) => {
            let mend =
                "remove it, or set profile to \"office365\": other servers belong to no cloud of Microsoft's";
            let known = (provider != MailProvider::Other).then_some(provider);
            let mut draft = Draft::read(&mut keys, directory, known);
            keys.refuse("cloud", mend);
            draft.problems.extend(keys.finish());
            draft.complete()
        }
        // Without a profile there is no telling which host and port are right: report what is wrong in itself.
        None => {
            let draft = ServerBuilder::<Office365Profile>::read(&mut keys, directory, None).draft;
            let mut problems = draft.problems;
            problems.extend(keys.finish());
            problems.finish(None)
        }
    }
}
