//! The sign-in part of settings, OAuth or Basic: checked for form. Whether Entra knows the app is not asked.

use std::path::Path;

use secrecy::SecretString;
use url::Url;

use super::client::{Issuer, SERVER_KEYS};
use super::credential::ClientCredential;
use super::secret;
use super::token_store::TokenStoreSettings;
use crate::config::{AuthenticationMethod, ConfigProblem, Keys, MailProvider, blank};
use crate::entra::{self, Tenant};
use crate::oauth::{ClientBuilder, is_trustworthy};

/// The keys of an app at Entra ID, which no other authorization server has.
pub(super) const ENTRA_KEYS: [&str; 6] =
    ["tenant", "authority", "grant", "client_certificate", "client_key", "federated_token_file"];
/// The keys of an app at any server.
const APP_KEYS: [&str; 4] = ["client_id", "client_secret", "client_secret_expires", "token_store"];
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
    /// OAuth 2.0 with an app registered at another authorization server, such as Google's.
    ///
    /// It signs in with the refresh token of an account that has signed in once.
    #[non_exhaustive]
    OtherOAuth {
        /// The app with its endpoints, id and secret; [`ResolvedSettings::client`](crate::ResolvedSettings::client)
        /// returns it complete.
        client: ClientBuilder,
        /// The scopes of the access token.
        scopes: Vec<String>,
        /// Where the refresh token is kept. Default: the file `token.json`.
        token_store: TokenStoreSettings,
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
            Self::OAuth { .. } | Self::OtherOAuth { .. } => AuthenticationMethod::OAuth,
            Self::Basic { .. } => AuthenticationMethod::Basic,
        }
    }

    /// Reads the keys of `[authentication]`; `None` when one of them has a problem.
    pub(super) fn read(keys: &mut Keys<'_>, directory: &Path, server: &ServerFacts<'_>) -> Option<Self> {
        keys.refuse("cloud", "set cloud in server: sign-in and mail server belong to the same cloud");
        match read_method(keys, server.provider) {
            Some(AuthenticationMethod::OAuth) => {
                for key in BASIC_KEYS {
                    keys.refuse(key, "remove it, or set method to \"basic\": OAuth has no password");
                }
                match Issuer::of(server.profile, keys) {
                    Some(Issuer::Entra) => read_entra(keys, directory, server),
                    Some(Issuer::Other(issuer)) => issuer.read(keys, directory, server.username),
                    None => {
                        oauth_keys().for_each(|key| _ = keys.value(key));
                        None
                    }
                }
            }
            Some(AuthenticationMethod::Basic) => {
                for key in oauth_keys() {
                    keys.refuse(key, "remove it, or set method to \"oauth\": Basic has only a password");
                }
                keys.require("password", "enter the password of the user who signs in");
                secret::read_password(keys, "password", directory).map(|password| Self::Basic { password })
            }
            None => {
                oauth_keys().chain(BASIC_KEYS).for_each(|key| _ = keys.value(key));
                None
            }
        }
    }
}

/// What the table `server` means for signing in, as far as it is known.
pub(super) struct ServerFacts<'a> {
    pub(super) profile: Option<MailProvider>,
    /// That of the profile, or found by the host.
    pub(super) provider: Option<MailProvider>,
    /// Empty when there is none.
    pub(super) username: &'a str,
}

fn oauth_keys() -> impl Iterator<Item = &'static str> {
    ENTRA_KEYS.into_iter().chain(SERVER_KEYS).chain(APP_KEYS)
}

/// Reads the method; `None` when it is none, or one that the service does not take.
fn read_method(keys: &mut Keys<'_>, provider: Option<MailProvider>) -> Option<AuthenticationMethod> {
    let methods = AuthenticationMethod::PREFERENCE.iter().map(|method| (method.name(), *method));
    let is_given = keys.has("method");
    let method = if is_given {
        keys.choice("method", &methods.collect::<Vec<_>>())?
    } else {
        keys.value("method");
        AuthenticationMethod::OAuth
    };
    let ended = provider.and_then(MailProvider::service).and_then(|service| service.method_problem(method));
    let Some(mend) = ended else { return Some(method) };
    let problem = ConfigProblem::new("method", mend);
    keys.problem(if is_given { problem.showing(method.name()) } else { problem });
    None
}

fn read_entra(
    keys: &mut Keys<'_>,
    directory: &Path,
    server: &ServerFacts<'_>,
) -> Option<AuthenticationSettings> {
    for key in SERVER_KEYS {
        let mend = "remove it, or set profile to \"custom\" and enter token_endpoint in place of tenant: that of Entra ID is known";
        keys.refuse(key, mend);
    }
    let is_personal = server.profile == Some(MailProvider::OutlookCom);
    let grant = read_grant(keys, is_personal);
    let tenant = read_tenant(keys, grant, server.profile);
    let client_id = read_client_id(keys);
    let credential = ClientCredential::read(keys, directory);
    let authority = keys
        .optional_text("authority", "enter the URL of the sign-in host")
        .and_then(|given| keys.accept(parse_authority(given)));
    let token_store = if grant == Some(Grant::ClientCredentials) {
        if !ClientCredential::is_given(keys) {
            let mend = "enter the app's client secret, client_certificate or federated_token_file: nobody else proves who signs in";
            keys.problem(ConfigProblem::new("client_secret", mend));
        }
        keys.refuse("token_store", "remove it: an app that signs in as itself keeps no token");
        None
    } else {
        TokenStoreSettings::read(keys, directory, server.username)
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

/// Reads the grant; `None` when it is none of them, or one that the account cannot do with.
fn read_grant(keys: &mut Keys<'_>, is_personal: bool) -> Option<Grant> {
    if !keys.has("grant") {
        keys.value("grant");
        return Some(Grant::default());
    }
    let grant = keys.choice("grant", &Grant::ALL.map(|grant| (grant.name(), grant)))?;
    let is_possible = grant != Grant::ClientCredentials || !is_personal;
    let mend = "enter \"refresh_token\": no app opens a personal account as itself";
    let checked = is_possible.then_some(grant);
    keys.accept(checked.ok_or_else(|| ConfigProblem::new("grant", mend).showing(grant.name())))
}

fn read_tenant(keys: &mut Keys<'_>, grant: Option<Grant>, profile: Option<MailProvider>) -> Option<String> {
    let mend = match profile {
        Some(MailProvider::Other) => {
            "enter the tenant's id (a GUID) or domain for an app at Entra ID, or token_endpoint for one elsewhere"
        }
        _ => "enter the tenant's id (a GUID) or domain, such as contoso.onmicrosoft.com",
    };
    let given = match keys.text("tenant", mend) {
        None if profile == Some(MailProvider::OutlookCom) && !keys.has("tenant") => "consumers",
        given => {
            keys.require("tenant", mend);
            given?
        }
    };
    keys.accept(parse_tenant(given, grant.unwrap_or_default())).map(String::from)
}

/// Reads a tenant that an app can sign in to; the problem is at `tenant`.
pub(super) fn parse_tenant(given: &str, grant: Grant) -> Result<Tenant, ConfigProblem> {
    let problem = |mend: String| ConfigProblem::new("tenant", mend).showing(given);
    if let Some(mend) = blank::anywhere(given) {
        return Err(problem(mend));
    }
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
    let checked = entra::is_guid(given).then(|| given.to_owned());
    // Not shown: what is no GUID may be the secret in the wrong place.
    let mend = || blank::anywhere(given).unwrap_or_else(|| mend.to_owned());
    keys.accept(checked.ok_or_else(|| ConfigProblem::new("client_id", mend())))
}

fn parse_authority(given: &str) -> Result<Url, ConfigProblem> {
    let url = parse_url("authority", given)?;
    let mend = "enter the URL of the sign-in host without ? and what follows";
    if url.query().is_some() { Err(ConfigProblem::new("authority", mend)) } else { Ok(url) }
}

/// Reads a URL that secrets may be sent to.
pub(super) fn parse_url(key: &'static str, given: &str) -> Result<Url, ConfigProblem> {
    let refuse = |mend: &'static str| Err(ConfigProblem::new(key, mend));
    let Ok(url) = Url::parse(given) else {
        return refuse("enter the whole URL, such as https://login.example.com");
    };
    if !url.username().is_empty() || url.password().is_some() {
        refuse("enter the URL without user name and password")
    } else if url.fragment().is_some() {
        refuse("enter the URL without # and what follows")
    } else if is_trustworthy(&url) {
        Ok(url)
    } else {
        Err(ConfigProblem::new(key, "enter an https:// URL: secrets are sent there").showing(given))
    }
}
