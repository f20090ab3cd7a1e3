//! How the app proves who it is: by client secret, certificate or federated token, one of them. Asks no server.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use time::Date;
use time::format_description::well_known::Iso8601;

use super::secret;
use crate::config::{ConfigProblem, Keys, LEAVE_OUT, Value, quoted};
use crate::entra::is_guid;
use crate::oauth::{CertificateError, ClientCertificate};

/// The keys that begin a credential; an app has one.
const CREDENTIALS: [&str; 3] = ["client_secret", "client_certificate", "federated_token_file"];
const SECRET_EXPIRES: &str = "client_secret_expires";

/// How an app proves who it is.
///
/// ```
/// # use smtp_oauth::{AuthenticationSettings, ClientCredential};
/// # let directory = tempfile::tempdir()?;
/// # std::fs::write(directory.path().join("token"), "e30.e30.e30")?;
/// let settings: smtp_oauth::Settings = toml::from_str(r#"
///     [server]
///     username = "svc-mail@contoso.com"
///
///     [authentication]
///     grant = "client_credentials"
///     tenant = "contoso.onmicrosoft.com"
///     client_id = "6731de76-14a6-49ae-97bc-6eba6914391e"
///     federated_token_file = "token"
/// "#)?;
/// let settings = settings.relative_to(directory.path()).resolve()?;
/// let AuthenticationSettings::OAuth { credential, .. } = settings.authentication else { unreachable!() };
/// assert!(matches!(credential, Some(ClientCredential::FederatedTokenFile(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientCredential {
    /// A client secret.
    #[non_exhaustive]
    Secret {
        /// The secret's *Value*.
        value: SecretString,
        /// The day it expires, if it was entered.
        expires: Option<Date>,
    },
    /// A certificate with its private key.
    Certificate(ClientCertificate),
    /// A file with the token of another issuer, read again for each request.
    FederatedTokenFile(PathBuf),
}

impl ClientCredential {
    /// Tells whether there is any.
    pub(super) fn is_given(keys: &Keys<'_>) -> bool {
        CREDENTIALS.iter().any(|key| keys.has(key))
    }

    /// Reads the credential; `None` when there is none, or it has a problem.
    pub(super) fn read(keys: &mut Keys<'_>, directory: &Path) -> Option<Self> {
        let mut given = CREDENTIALS.into_iter().filter(|key| keys.has(key)).collect::<Vec<_>>().into_iter();
        let first = given.next();
        for other in given {
            let mend =
                format!("remove it, or {}: an app proves who it is in one way", first.unwrap_or_default());
            keys.problem(ConfigProblem::new(other, mend));
        }
        let secret = read_secret(keys, directory);
        // The commonest cause of AADSTS7000215; elsewhere a secret may well be a GUID.
        if let Some((value, _)) = &secret
            && !keys.has("authority")
            && is_guid(value.expose_secret())
        {
            let mend = "enter the secret's Value: this is a GUID, as its Secret ID is, which stands beside it in the portal";
            keys.problem(ConfigProblem::new("client_secret", mend));
        }
        let certificate = read_certificate(keys, directory);
        let file = read_token_file(keys, directory);
        match first? {
            "client_secret" => secret.map(|(value, expires)| Self::Secret { value, expires }),
            "client_certificate" => certificate,
            _ => file,
        }
    }
}

/// Reads a client secret and the day it expires; `None` when there is none, or it has a problem.
pub(super) fn read_secret(keys: &mut Keys<'_>, directory: &Path) -> Option<(SecretString, Option<Date>)> {
    if keys.has(SECRET_EXPIRES) && !keys.has("client_secret") {
        let mend = "remove it, or enter client_secret: there is no secret that could expire";
        keys.problem(ConfigProblem::new(SECRET_EXPIRES, mend));
    }
    let value = secret::read(keys, "client_secret", directory);
    let expires = read_expiry(keys);
    Some((value?, expires))
}

fn read_expiry(keys: &mut Keys<'_>) -> Option<Date> {
    let mend = "enter the day as the portal shows it, in the form 2027-06-30";
    let given = keys.optional_text(SECRET_EXPIRES, mend)?;
    let day = given.split_once(['T', ' ']).map_or(given, |(day, _time)| day);
    let read = Date::parse(day, &Iso8601::DATE);
    keys.accept(read.map_err(|_| {
        let problem = ConfigProblem::new(SECRET_EXPIRES, mend);
        // The secret itself stands beside the day in the portal, and is easily pasted here.
        let is_like_a_day = given.chars().all(|char| char.is_ascii_digit() || "-./: TZ+".contains(char));
        if is_like_a_day { problem.showing(given) } else { problem }
    }))
}

fn read_certificate(keys: &mut Keys<'_>, directory: &Path) -> Option<ClientCredential> {
    if keys.has("client_key") && !keys.has("client_certificate") {
        let mend = "remove it, or enter client_certificate: the key alone does not say whose it is";
        keys.problem(ConfigProblem::new("client_key", mend));
    }
    let certificate = secret::read_pem(keys, "client_certificate", directory);
    if keys.has("client_certificate") {
        keys.require("client_key", "enter the certificate's private key, as PEM");
    }
    let key = secret::read_pem(keys, "client_key", directory);
    let (certificate, key) = certificate.zip(key)?;
    let read = ClientCertificate::from_pem(certificate.expose_secret(), key.expose_secret());
    keys.accept(read.map_err(|error| {
        let of_certificate = matches!(error, CertificateError::NoCertificate | CertificateError::Malformed);
        let field = if of_certificate { "client_certificate" } else { "client_key" };
        ConfigProblem::new(field, format!("enter the PEM text of an RSA key and its certificate: {error}"))
    }))
    .map(ClientCredential::Certificate)
}

fn read_token_file(keys: &mut Keys<'_>, directory: &Path) -> Option<ClientCredential> {
    const KEY: &str = "federated_token_file";
    const HOW: &str =
        "enter the path of the file with the token, or { env = \"AZURE_FEDERATED_TOKEN_FILE\" }";
    let given = match keys.value(KEY)? {
        Value::Text(path) => path.clone(),
        Value::Table(table) => {
            let mut places = Keys::new(table);
            places.require("env", "enter the name of the environment variable that holds the path");
            let name = places.text("env", "enter the name of an environment variable");
            keys.add_within(KEY, places.finish());
            let (path, _origin) =
                keys.accept(secret::from_env(name?).map_err(|mend| ConfigProblem::new(KEY, mend)))?;
            path
        }
        other => {
            keys.problem(ConfigProblem::new(KEY, format!("{HOW}, not {}", other.kind())));
            return None;
        }
    };
    if given.trim().is_empty() {
        keys.problem(ConfigProblem::new(KEY, format!("{HOW}{LEAVE_OUT}")));
        return None;
    }
    let path = directory.join(given.as_str());
    let found = match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(path),
        _ if !secret::is_path(&given) => Err(HOW.to_owned()),
        Ok(_) => Err(format!("{HOW}: {} is no file", quoted(&given))),
        Err(error) => Err(format!("make the file {} readable: {error}", quoted(&given))),
    };
    keys.accept(found.map_err(|mend| ConfigProblem::new(KEY, mend))).map(ClientCredential::FederatedTokenFile)
}
