//! The sign-in part of settings, OAuth or Basic: checked for form. Whether Entra knows the app is not asked.

use std::net::IpAddr;
use std::path::Path;

use secrecy::SecretString;
use url::{Host, Url};

use super::credential::ClientCredential;
use super::secret;
use super::token_store::TokenStoreSettings;
use crate::config::{AuthenticationMethod, ConfigProblem, Keys};
use crate::entra::{self, Tenant};

/// The keys of either method, which the other one refuses; those of the credential come on top.
const OAUTH_KEYS: [&str; 5] = ["tenant", "client_id", "authority", "grant", "token_store"];
const BASIC_KEYS: [&str; 1] = ["password"];

/// How to sign in to the mail server; OAuth is preferred to Basic.
///
/// [`Settings`](crate::Settings) has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one for a mailer, and it is not kept")]
pub enum AuthenticationSettings {
    /// OAuth 2.0 with an app registered at Entra ID.
    #[non_exhaustive]
    OAuth {
        /// The tenant: a GUID, a domain, or `organizations`, `consumers`, `common`.
        tenant: String,
        /// The application (client) id.
        client_id: String,
        /// What proves who the app is; none for a public client.
        credential: Option<ClientCredential>,
        /// Another sign-in host than the cloud's: HTTPS, or HTTP on this machine.
        authority: Option<Url>,
        /// What the app shows for a token. Default: [`Grant::RefreshToken`].
        grant: Grant,
        /// Where the refresh token is kept, for the grant that has one. Default: the file `token.json`.
        token_store: Option<TokenStoreSettings>,
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
    pub(super) fn read(keys: &mut Keys<'_>, directory: &Path, username: &str) -> Option<Self> {
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
                read_oauth(keys, directory, username)
            }
            Some(AuthenticationMethod::Basic) => {
                for key in oauth_keys() {
                    keys.refuse(key, "remove it, or set method to \"oauth\": Basic has only a password");
                }
                keys.require("password", "enter the password of the user who signs in");
                secret::read(keys, "password", directory).map(|password| Self::Basic { password })
            }
            None => {
                oauth_keys().chain(BASIC_KEYS).for_each(|key| _ = keys.value(key));
                None
            }
        }
    }
}

fn oauth_keys() -> impl Iterator<Item = &'static str> {
    OAUTH_KEYS.into_iter().chain(ClientCredential::keys())
}

fn read_oauth(keys: &mut Keys<'_>, directory: &Path, username: &str) -> Option<AuthenticationSettings> {
    let grant = read_grant(keys);
    let tenant = read_tenant(keys, grant);
    let client_id = read_client_id(keys);
    let credential = ClientCredential::read(keys, directory);
    let authority = keys
        .text("authority", "enter the URL of the sign-in host")
        .and_then(|given| keys.accept(parse_authority(given)));
    let token_store = if grant == Some(Grant::ClientCredentials) {
        if !ClientCredential::is_given(keys) {
            let mend = "enter the app's client secret, client_certificate or federated_token_file: nobody else proves who signs in";
            keys.problem(ConfigProblem::new("client_secret", mend));
        }
        keys.refuse("token_store", "remove it: an app that signs in as itself keeps no token");
        None
    } else {
        TokenStoreSettings::read(keys, directory, username)
    };
    Some(AuthenticationSettings::OAuth {
        tenant: tenant?,
        client_id: client_id?,
        credential,
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

fn read_tenant(keys: &mut Keys<'_>, grant: Option<Grant>) -> Option<String> {
    let mend = "enter the tenant's id (a GUID) or domain, such as contoso.onmicrosoft.com";
    keys.require("tenant", mend);
    let given = keys.text("tenant", mend)?;
    keys.accept(parse_tenant(given, grant.unwrap_or_default())).map(String::from)
}

/// Reads a tenant that an app can sign in to; the problem is at `tenant`.
pub(super) fn parse_tenant(given: &str, grant: Grant) -> Result<Tenant, ConfigProblem> {
    let problem = |mend: String| ConfigProblem::new("tenant", mend).showing(given);
    let tenant = Tenant::parse(given).map_err(|_| {
        let mend = "enter the tenant's id (a GUID), a domain such as contoso.onmicrosoft.com, or organizations, consumers or common";
        problem(mend.to_owned())
    })?;
    if grant == Grant::ClientCredentials && !tenant.is_single() {
        let mend = "enter the tenant's id or domain: an app that signs in as itself does so in one tenant";
        return Err(problem(mend.to_owned()));
    }
    Ok(tenant)
}

fn read_client_id(keys: &mut Keys<'_>) -> Option<String> {
    let mend = "enter the application (client) id of the app registration, a GUID";
    keys.require("client_id", mend);
    let given = keys.text("client_id", mend)?;
    // Not shown: what is no GUID may be the secret in the wrong place.
    let checked = entra::is_guid(given).then(|| given.to_owned());
    keys.accept(checked.ok_or_else(|| ConfigProblem::new("client_id", mend)))
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
