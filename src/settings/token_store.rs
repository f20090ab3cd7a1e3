//! Where settings keep the refresh token: in a file, the operating system's keyring or Redis. Reads no token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "redis")]
use secrecy::SecretString;

#[cfg(feature = "redis")]
use super::secret;
use crate::clock::Clock;
use crate::config::{ConfigError, ConfigProblem, Keys, LEAVE_OUT, Value, is_like_a_secret};
use crate::token::TokenError;
#[cfg(feature = "keyring")]
use crate::token::store::KeyringStore;
#[cfg(feature = "redis")]
use crate::token::store::RedisStore;
use crate::token::store::{FileStore, TokenStore};

const KEY: &str = "token_store";
const DEFAULT: &str = "token.json";
const PATH: &str = "enter the path of the file that keeps the refresh token";
/// The key that chooses each kind of store, and the one that goes with it.
const KINDS: [(&str, Option<&str>); 3] = [("file", None), ("keyring", Some("user")), ("redis", Some("key"))];
const HOW: &str =
    "enter a path, { file = \"path\" }, { keyring = \"service\" } or { redis = \"rediss://…\" }";

/// Where the refresh token is kept.
///
/// ```
/// use smtp_oauth::{AuthenticationSettings, Clock, TokenStore};
///
/// # let settings: smtp_oauth::Settings = toml::from_str(r#"
/// #     [server]
/// #     username = "svc-mail@contoso.com"
/// #     [authentication]
/// #     tenant = "contoso.onmicrosoft.com"
/// #     client_id = "6731de76-14a6-49ae-97bc-6eba6914391e"
/// # "#)?;
/// let AuthenticationSettings::OAuth { token_store: Some(kept), .. } = settings.resolve()?.authentication else {
///     return Err("nobody signs in".into());
/// };
/// let store = kept.open(&Clock::system())?;
/// assert_eq!(store.location().as_deref(), Some("the token file token.json"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TokenStoreSettings {
    /// A file, for processes of one machine.
    File(PathBuf),
    /// The operating system's keyring, for one process; the program sets it with `keyring-core`.
    #[cfg(feature = "keyring")]
    #[non_exhaustive]
    Keyring {
        /// The name of the program.
        service: String,
        /// The account. Default: the user name of the mail server.
        user: String,
    },
    /// Redis, for processes of many machines.
    #[cfg(feature = "redis")]
    #[non_exhaustive]
    Redis {
        /// The server, with user and password.
        url: SecretString,
        /// The name of the sign-in there. Default: the user name of the mail server.
        key: String,
    },
}

impl TokenStoreSettings {
    /// Opens the store, whose waits go by `clock`; connects to nothing.
    ///
    /// # Errors
    /// [`ConfigError`] at `authentication.token_store` when the directory of the file is gone since the settings were
    /// resolved.
    pub fn open(&self, clock: &Clock) -> Result<Arc<dyn TokenStore>, ConfigError> {
        let opened = self.store(clock);
        opened.map_err(|error| ConfigProblem::new("authentication.token_store", error.to_string()).into())
    }

    fn store(&self, clock: &Clock) -> Result<Arc<dyn TokenStore>, TokenError> {
        Ok(match self {
            Self::File(path) => Arc::new(FileStore::open(path)?.clock(clock.clone())),
            #[cfg(feature = "keyring")]
            Self::Keyring { service, user } => Arc::new(KeyringStore::new(service, user)),
            #[cfg(feature = "redis")]
            Self::Redis { url, key } => Arc::new(RedisStore::open(url.clone(), key)?.clock(clock.clone())),
        })
    }

    /// Reads the key `token_store`; `None` when it has a problem. `username` is the account unless another is named.
    pub(super) fn read(keys: &mut Keys<'_>, directory: &Path, username: &str) -> Option<Self> {
        match keys.value(KEY) {
            None => keys.accept(Self::file(DEFAULT, KEY, directory)),
            Some(Value::Text(path)) if path.trim().is_empty() => {
                keys.problem(ConfigProblem::new(KEY, format!("{PATH}{LEAVE_OUT}")));
                None
            }
            Some(Value::Text(path)) => keys.accept(Self::file(path, KEY, directory)),
            Some(Value::Table(table)) => {
                let mut of_store = Keys::new(table);
                let settings = Self::read_table(&mut of_store, directory, username);
                keys.add_within(KEY, of_store.finish());
                settings
            }
            Some(other) => {
                keys.problem(ConfigProblem::new(KEY, format!("{HOW}, not {}", other.kind())));
                None
            }
        }
    }

    fn read_table(keys: &mut Keys<'_>, directory: &Path, username: &str) -> Option<Self> {
        let mut given = KINDS.into_iter().filter(|(kind, _)| keys.has(kind)).collect::<Vec<_>>().into_iter();
        let kind = given.next();
        for (other, _) in given {
            keys.problem(ConfigProblem::new(other, "remove it: the refresh token is kept in one place"));
        }
        for (of, detail) in KINDS.into_iter().filter_map(|(of, detail)| Some((of, detail?))) {
            if keys.has(detail) && !keys.has(of) {
                keys.problem(ConfigProblem::new(
                    detail,
                    format!("remove it, or enter {of}: it goes with that"),
                ));
            }
        }
        let path = keys.text("file", PATH);
        let keyring = read_keyring(keys, username);
        let redis = read_redis(keys, directory, username);
        match kind {
            Some(("file", _)) => keys.accept(Self::file(path?, "file", directory)),
            Some(("keyring", _)) => keyring,
            Some(_) => redis,
            None => {
                keys.problem(ConfigProblem::new("file", HOW));
                None
            }
        }
    }

    fn file(given: &str, field: &'static str, directory: &Path) -> Result<Self, ConfigProblem> {
        if given.contains("://") {
            // Not shown: there is a password in it.
            return Err(ConfigProblem::new(field, "enter { redis = … } for a store in Redis: this is a URL"));
        }
        let settings = Self::File(directory.join(given));
        match settings.store(&Clock::system()) {
            Ok(_) if !given.is_empty() => Ok(settings),
            // What failed names the path.
            Err(_) if is_like_a_secret(given) => Err(ConfigProblem::new(field, PATH).showing(given)),
            Err(error) if !given.is_empty() => {
                Err(ConfigProblem::new(field, format!("{PATH}: {error}")).showing(given))
            }
            _ => Err(ConfigProblem::new(field, PATH)),
        }
    }
}

#[cfg(feature = "keyring")]
fn read_keyring(keys: &mut Keys<'_>, username: &str) -> Option<TokenStoreSettings> {
    let user =
        keys.optional_text("user", "enter the account's name in the keyring").unwrap_or(username).to_owned();
    let service = keys.text("keyring", "enter the program's name in the keyring")?;
    if service.is_empty() {
        keys.problem(ConfigProblem::new("keyring", "enter the program's name in the keyring"));
    }
    Some(TokenStoreSettings::Keyring { service: service.to_owned(), user })
}

#[cfg(not(feature = "keyring"))]
fn read_keyring(keys: &mut Keys<'_>, _username: &str) -> Option<TokenStoreSettings> {
    keys.value("user");
    keys.refuse(
        "keyring",
        "build the program with the feature keyring of smtp-oauth, or use a file: it has none",
    );
    None
}

#[cfg(feature = "redis")]
fn read_redis(keys: &mut Keys<'_>, directory: &Path, username: &str) -> Option<TokenStoreSettings> {
    let key =
        keys.optional_text("key", "enter the name of the sign-in in Redis").unwrap_or(username).to_owned();
    let url = secret::read(keys, "redis", directory)?;
    let settings = TokenStoreSettings::Redis { url, key };
    let opened = settings.store(&Clock::system());
    keys.accept(opened.map_err(|error| ConfigProblem::new("redis", error.to_string()))).map(|_| settings)
}

#[cfg(not(feature = "redis"))]
fn read_redis(keys: &mut Keys<'_>, _directory: &Path, _username: &str) -> Option<TokenStoreSettings> {
    keys.value("key");
    keys.refuse("redis", super::NO_REDIS);
    None
}
