//! The sign-in part of settings, OAuth or Basic: checked for form. Whether Entra knows the app is not asked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use time::Date;
use time::format_description::well_known::Iso8601;
use url::{Host, Url};

use super::secret;
use crate::config::{AuthenticationMethod, ConfigProblem, Keys};
use crate::entra::Tenant;

/// The keys of either method, which the other one refuses.
const OAUTH_KEYS: [&str; 7] =
    ["tenant", "client_id", "client_secret", "client_secret_expires", "authority", "grant", "token_store"];
const BASIC_KEYS: [&str; 1] = ["password"];
const DEFAULT_STORE: &str = "token.json";

/// How to sign in to the mail server; OAuth is preferred to Basic.
///
/// [`Settings`](crate::Settings) has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AuthenticationSettings {
    /// OAuth 2.0 with an app registered at Entra ID.
    #[non_exhaustive]
    OAuth {
        /// The tenant: a GUID, a domain, or `organizations`, `consumers`, `common`.
        tenant: String,
        /// The application (client) id.
        client_id: String,
        /// The client secret; none for a public client.
        client_secret: Option<SecretString>,
        /// The day the client secret expires, if it was entered.
        client_secret_expires: Option<Date>,
        /// Another sign-in host than the cloud's: HTTPS, or HTTP on this machine.
        authority: Option<Url>,
        /// What the app shows for a token. Default: [`Grant::RefreshToken`].
        grant: Grant,
        /// Where the refresh token is kept, for the grant that has one. Default: `token.json`.
        token_store: PathBuf,
    },
    /// User name and password.
    ///
    /// For how long it will do, see [`basic_authentication_retirement`](crate::basic_authentication_retirement).
    #[non_exhaustive]
    Basic {
        /// The password of the user who signs in.
        password: SecretString,
    },
}

/// What an app shows for an access token: a person's sign-in, or only who it is itself.
///
/// ```
/// use smtp_oauth::{AuthenticationSettings, Grant, Settings};
///
/// let settings: Settings = toml::from_str(r#"
///     [server]
///     username = "svc-mail@contoso.com"
///
///     [authentication]
///     grant = "client_credentials"
///     tenant = "contoso.onmicrosoft.com"
///     client_id = "6731de76-14a6-49ae-97bc-6eba6914391e"
///     client_secret = "made-up~for~this~page"
/// "#)?;
/// let AuthenticationSettings::OAuth { grant, .. } = settings.resolve()?.authentication else { unreachable!() };
/// assert_eq!(grant, Grant::ClientCredentials);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Grant {
    /// The refresh token of an account that has signed in once (RFC 6749 §6; `SMTP.Send`).
    #[default]
    RefreshToken,
    /// The app's own credential: nobody signs in (RFC 6749 §4.4; `SMTP.SendAsApp`).
    ClientCredentials,
}

impl Grant {
    const ALL: [Self; 2] = [Self::RefreshToken, Self::ClientCredentials];

    /// Returns the name used in settings, that of `grant_type` on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl AuthenticationSettings {
    /// Returns the method.
    pub fn method(&self) -> AuthenticationMethod {
        match self {
            Self::OAuth { .. } => AuthenticationMethod::OAuth,
            Self::Basic { .. } => AuthenticationMethod::Basic,
        }
    }

    /// Reads the keys of `[authentication]`; `None` when one of them has a problem.
    pub(super) fn read(keys: &mut Keys<'_>, directory: &Path) -> Option<Self> {
        keys.refuse("cloud", "set cloud in server: sign-in and mail server belong to the same cloud");
        let methods = AuthenticationMethod::PREFERENCE.iter().map(|method| (method.name(), *method));
        let method = if keys.has("method") {
            keys.choice("method", &methods.collect::<Vec<_>>())
        } else {
            keys.value("method");
            Some(AuthenticationMethod::OAuth)
        };
        match method {
            Some(AuthenticationMethod::OAuth) => {
                for key in BASIC_KEYS {
                    keys.refuse(key, "remove it, or set method to \"basic\": OAuth has no password");
                }
                read_oauth(keys, directory)
            }
            Some(AuthenticationMethod::Basic) => {
                for key in OAUTH_KEYS {
                    keys.refuse(key, "remove it, or set method to \"oauth\": Basic has only a password");
                }
                required(keys, "password", "enter the password of the user who signs in");
                secret::read(keys, "password", directory).map(|password| Self::Basic { password })
            }
            None => {
                OAUTH_KEYS.into_iter().chain(BASIC_KEYS).for_each(|key| _ = keys.value(key));
                None
            }
        }
    }
}

fn read_oauth(keys: &mut Keys<'_>, directory: &Path) -> Option<AuthenticationSettings> {
    let tenant = read_tenant(keys);
    let client_id = read_client_id(keys);
    let client_secret = secret::read(keys, "client_secret", directory);
    let client_secret_expires = read_expiry(keys);
    let authority = keys
        .text("authority", "enter the URL of the sign-in host")
        .and_then(|given| keys.accept(parse_authority(given)));
    if authority.is_none() && client_secret.as_ref().is_some_and(|secret| is_guid(secret.expose_secret())) {
        // The commonest cause of AADSTS7000215; elsewhere a secret may well be a GUID.
        let mend = "enter the secret's Value: this is a GUID, as its Secret ID is, which stands beside it in the portal";
        keys.problem(ConfigProblem::new("client_secret", mend));
    }
    if client_secret.as_ref().is_some_and(|secret| secret.expose_secret().trim() != secret.expose_secret()) {
        keys.problem(ConfigProblem::new(
            "client_secret",
            "copy the secret again: there are blanks around it",
        ));
    }
    let grant = read_grant(keys);
    let token_store = if grant == Some(Grant::ClientCredentials) {
        required(keys, "client_secret", "enter the app's client secret: nobody else proves who signs in");
        keys.refuse("token_store", "remove it: an app that signs in as itself keeps no token");
        directory.join(DEFAULT_STORE)
    } else {
        read_token_store(keys, directory)
    };
    Some(AuthenticationSettings::OAuth {
        tenant: tenant?,
        client_id: client_id?,
        client_secret,
        client_secret_expires,
        authority,
        grant: grant?,
        token_store,
    })
}

/// Reads the grant; `None` when it is none of them.
fn read_grant(keys: &mut Keys<'_>) -> Option<Grant> {
    if keys.has("grant") {
        keys.choice("grant", &Grant::ALL.map(|grant| (grant.name(), grant)))
    } else {
        keys.value("grant");
        Some(Grant::default())
    }
}

fn read_token_store(keys: &mut Keys<'_>, directory: &Path) -> PathBuf {
    let mend = "enter the path of the file that keeps the refresh token";
    let token_store = directory.join(keys.text("token_store", mend).unwrap_or(DEFAULT_STORE));
    if keys.has("token_store") && token_store.file_name().is_none() {
        keys.problem(ConfigProblem::new("token_store", mend));
    }
    token_store
}

fn is_guid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn required(keys: &mut Keys<'_>, key: &'static str, mend: &'static str) {
    if !keys.has(key) {
        keys.problem(ConfigProblem::new(key, mend));
    }
}

fn read_tenant(keys: &mut Keys<'_>) -> Option<String> {
    let mend = "enter the tenant's id (a GUID) or domain, such as contoso.onmicrosoft.com";
    required(keys, "tenant", mend);
    let given = keys.text("tenant", mend)?;
    let checked = Tenant::parse(given).map(|_| given.to_owned()).ok();
    keys.accept(checked.ok_or_else(|| ConfigProblem::new("tenant", mend).showing(given)))
}

fn read_client_id(keys: &mut Keys<'_>) -> Option<String> {
    let mend = "enter the application (client) id of the app registration, a GUID";
    required(keys, "client_id", mend);
    let given = keys.text("client_id", mend)?;
    let checked = is_guid(given).then(|| given.to_owned());
    keys.accept(checked.ok_or_else(|| ConfigProblem::new("client_id", mend).showing(given)))
}

fn read_expiry(keys: &mut Keys<'_>) -> Option<Date> {
    const KEY: &str = "client_secret_expires";
    let mend = "enter the day as the portal shows it, in the form 2027-06-30";
    let given = keys.text(KEY, mend)?;
    let day = given.split_once(['T', ' ']).map_or(given, |(day, _time)| day);
    let expiry = keys
        .accept(Date::parse(day, &Iso8601::DATE).map_err(|_| ConfigProblem::new(KEY, mend).showing(given)));
    if !keys.has("client_secret") {
        keys.problem(ConfigProblem::new(
            KEY,
            "remove it, or enter client_secret: there is no secret that could expire",
        ));
    }
    expiry
}

fn parse_authority(given: &str) -> Result<Url, ConfigProblem> {
    let refuse = |mend: &'static str| Err(ConfigProblem::new("authority", mend));
    let Ok(url) = Url::parse(given) else {
        return refuse("enter the URL of the sign-in host, such as https://login.microsoftonline.com");
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        refuse("enter the URL without user name and password")
    } else if url.query().is_some() || url.fragment().is_some() {
        refuse("enter the URL of the sign-in host without ? and #")
    } else if url.scheme() == "https" || (url.scheme() == "http" && is_loopback) {
        Ok(url)
    } else {
        let problem =
            ConfigProblem::new("authority", "enter an https:// URL: the client secret is sent there");
        Err(problem.showing(given))
    }
}
