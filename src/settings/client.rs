//! The app at another authorization server than Entra ID that settings describe: endpoints, scopes, secret. Requests no token.

use std::path::Path;

use secrecy::SecretString;
use url::Url;

use super::ResolvedSettings;
use super::authentication::{AuthenticationSettings, ENTRA_KEYS, parse_url};
use super::credential::read_secret;
use super::token_store::TokenStoreSettings;
use crate::config::{ConfigProblem, Keys, MailProvider, blank};
use crate::oauth::{Client, ClientAuthentication, ClientBuilder, Expiring, ServerMetadata, is_client_id};

const TOKEN_ENDPOINT: &str = "token_endpoint";
const AUTHORIZATION_ENDPOINT: &str = "authorization_endpoint";
const DEVICE_AUTHORIZATION_ENDPOINT: &str = "device_authorization_endpoint";
const SCOPE: &str = "scope";
const METHOD: &str = "token_endpoint_auth_method";

/// The keys that say of an authorization server what is known of the others.
pub(super) const SERVER_KEYS: [&str; 5] =
    [TOKEN_ENDPOINT, AUTHORIZATION_ENDPOINT, DEVICE_AUTHORIZATION_ENDPOINT, SCOPE, METHOD];

/// Where in a request the client secret stands.
type Authenticate = fn(SecretString) -> ClientAuthentication;

/// The names of RFC 7591 §2 for that.
const METHODS: [(&str, Authenticate); 2] = [
    // RFC 6749 §2.3.1: every server takes this way, and the other one only if it likes.
    ("client_secret_basic", ClientAuthentication::Basic),
    ("client_secret_post", ClientAuthentication::Post),
];

/// Where the app is registered.
pub(super) enum Issuer {
    Entra,
    Other(OtherIssuer),
}

/// An authorization server other than Entra ID.
pub(super) enum OtherIssuer {
    /// That of a mail service, with the scope for sending mail.
    Known(MailProvider, fn() -> ServerMetadata, &'static str),
    /// The one that the keys describe.
    Given,
}

impl Issuer {
    /// Tells it by the profile of the mail server, and for a custom one by the keys; `None` when neither does.
    pub(super) fn of(profile: Option<MailProvider>, keys: &Keys<'_>) -> Option<Self> {
        let (google, yahoo) = (ServerMetadata::GOOGLE_MAIL_SCOPE, ServerMetadata::YAHOO_MAIL_SCOPE);
        let known = |server, scope| Some(Self::Other(OtherIssuer::Known(profile?, server, scope)));
        match profile {
            Some(MailProvider::Gmail) => known(ServerMetadata::google, google),
            Some(MailProvider::Yahoo) => known(ServerMetadata::yahoo, yahoo),
            Some(MailProvider::Aol) => known(ServerMetadata::aol, yahoo),
            Some(MailProvider::Other) | None if keys.has(TOKEN_ENDPOINT) => {
                Some(Self::Other(OtherIssuer::Given))
            }
            None if !keys.has("tenant") => None,
            _ => Some(Self::Entra),
        }
    }
}

impl OtherIssuer {
    /// Reads the keys of an app that is registered here; `None` when one of them has a problem.
    pub(super) fn read(
        &self,
        keys: &mut Keys<'_>,
        directory: &Path,
        username: &str,
    ) -> Option<AuthenticationSettings> {
        for key in ENTRA_KEYS {
            keys.refuse(key, "remove it: it is for apps at Entra ID, and this one is registered elsewhere");
        }
        let client_id = read_client_id(keys);
        let app = self.read_app(keys, client_id);
        let secret = read_secret(keys, directory);
        let token_store = TokenStoreSettings::read(keys, directory, username);
        let (mut client, scopes, authenticate) = app?;
        if let Some((secret, expires)) = secret {
            client = client.authentication(authenticate(secret)).expiring(expires.map(Expiring::secret));
        }
        Some(AuthenticationSettings::OtherOAuth { client, scopes, token_store: token_store? })
    }

    /// Reads the keys of the server itself, and starts the client with them.
    fn read_app(
        &self,
        keys: &mut Keys<'_>,
        client_id: Option<&str>,
    ) -> Option<(ClientBuilder, Vec<String>, Authenticate)> {
        match self {
            Self::Known(service, server, scope) => {
                for key in SERVER_KEYS {
                    let title = service.title();
                    keys.refuse(key, &format!("remove it: what {title} has there is known"));
                }
                Some((server().client(client_id?), vec![(*scope).to_owned()], ClientAuthentication::Post))
            }
            Self::Given => {
                let token_endpoint = read_url(keys, TOKEN_ENDPOINT);
                let authorization_endpoint = read_url(keys, AUTHORIZATION_ENDPOINT);
                let device_authorization_endpoint = read_url(keys, DEVICE_AUTHORIZATION_ENDPOINT);
                let scopes = read_scopes(keys);
                let authenticate = read_method(keys);
                let mut client = Client::builder(token_endpoint?, client_id?);
                if let Some(endpoint) = authorization_endpoint {
                    client = client.authorization_endpoint(endpoint);
                }
                if let Some(endpoint) = device_authorization_endpoint {
                    client = client.device_authorization_endpoint(endpoint);
                }
                Some((client, scopes?, authenticate?))
            }
        }
    }
}

fn read_url(keys: &mut Keys<'_>, key: &'static str) -> Option<Url> {
    const MEND: &str = "enter the URL that the server's documentation names";
    let given = match key {
        TOKEN_ENDPOINT => keys.text(key, MEND)?,
        _ => keys.optional_text(key, MEND)?,
    };
    keys.accept(parse_url(key, given))
}

/// Reads scope tokens (RFC 6749 §3.3).
fn read_scopes(keys: &mut Keys<'_>) -> Option<Vec<String>> {
    let mend = "enter the scope that the mail server wants in a token; several are parted by blanks";
    keys.require(SCOPE, mend);
    let given = keys.text(SCOPE, mend)?;
    let scopes: Vec<_> = given.split_whitespace().map(str::to_owned).collect();
    let is_token = |scope: &String| scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    let checked = (!scopes.is_empty() && scopes.iter().all(is_token)).then_some(scopes);
    keys.accept(checked.ok_or_else(|| ConfigProblem::new(SCOPE, mend).showing(given)))
}

/// Reads where the client secret stands; `None` when that has a problem.
fn read_method(keys: &mut Keys<'_>) -> Option<Authenticate> {
    if !keys.has(METHOD) {
        keys.value(METHOD);
        let [(_, default), _] = METHODS;
        return Some(default);
    }
    if !keys.has("client_secret") {
        let mend = "remove it, or enter client_secret: a public client shows no secret";
        keys.problem(ConfigProblem::new(METHOD, mend));
    }
    keys.choice(METHOD, &METHODS)
}

fn read_client_id<'a>(keys: &mut Keys<'a>) -> Option<&'a str> {
    let mend = "enter the client id that the authorization server gave the app";
    keys.require("client_id", mend);
    let given = keys.text("client_id", mend)?;
    let found = blank::anywhere(given);
    let checked = (is_client_id(given) && found.is_none()).then_some(given);
    // Not shown: it may be the secret in the wrong place.
    keys.accept(
        checked.ok_or_else(|| ConfigProblem::new("client_id", found.unwrap_or_else(|| mend.to_owned()))),
    )
}

impl ResolvedSettings {
    /// Returns the app at another authorization server than Entra ID, ready for [`ClientBuilder::build`]; `None` for
    /// Basic and for an app at Entra ID, which [`app`](Self::app) returns.
    ///
    /// It has the endpoints, the client id, the secret with its expiry, and the TLS settings of the mail server. What
    /// signs a person in so signs in to the app that [`Mailer::from_settings`](crate::Mailer::from_settings) uses; the
    /// scopes are those of [`AuthenticationSettings::OtherOAuth`]. For Google see
    /// [`ServerMetadata::google`](crate::oauth::ServerMetadata::google).
    ///
    /// ```
    /// # let settings: smtp_oauth::Settings = toml::from_str(r#"
    /// #     [server]
    /// #     profile = "gmail"
    /// #     username = "svc.mail@gmail.com"
    /// #     [authentication]
    /// #     client_id = "1234.apps.googleusercontent.com"
    /// #     client_secret = "made-up~for~this~page"
    /// # "#)?;
    /// let client = settings.resolve()?.client().expect("Google's app").build()?;
    /// assert_eq!(client.token_endpoint().host_str(), Some("oauth2.googleapis.com"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client(&self) -> Option<ClientBuilder> {
        match &self.authentication {
            AuthenticationSettings::OtherOAuth { client, .. } => {
                Some(client.clone().tls(self.server.tls_settings().clone()))
            }
            AuthenticationSettings::OAuth { .. } | AuthenticationSettings::Basic { .. } => None,
        }
    }
}
