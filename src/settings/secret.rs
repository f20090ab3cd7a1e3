//! Secrets in settings: by value, by environment variable or by file. No message and no `Debug` shows one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::{ConfigProblem, Keys, LEAVE_OUT, Table, Value, blank, is_like_a_secret, quoted};
use crate::oauth::CertificateError;

/// The longest secret that a file may hold.
const LARGEST: u64 = 64 * 1024;

const HOW: &str = "enter a text, { env = \"NAME\" } or { file = \"path\" }";

/// How a secret reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Line,
    /// A line that a person has made up, blanks at its ends included.
    Password,
    Pem,
}

/// Reads the secret under `key`; `None` when there is none, or it has a problem.
pub(super) fn read(keys: &mut Keys<'_>, key: &'static str, directory: &Path) -> Option<SecretString> {
    read_as(keys, key, directory, Form::Line)
}

/// Reads the password under `key`; `None` when there is none, or it has a problem.
pub(super) fn read_password(
    keys: &mut Keys<'_>,
    key: &'static str,
    directory: &Path,
) -> Option<SecretString> {
    read_as(keys, key, directory, Form::Password)
}

/// Reads the PEM text under `key`, which has several lines; `None` when there is none, or it has a problem.
pub(super) fn read_pem(keys: &mut Keys<'_>, key: &'static str, directory: &Path) -> Option<SecretString> {
    read_as(keys, key, directory, Form::Pem)
}

fn read_as(keys: &mut Keys<'_>, key: &'static str, directory: &Path, form: Form) -> Option<SecretString> {
    let (text, origin) = match keys.value(key)? {
        Value::Text(text) => (text.clone(), String::new()),
        Value::Table(table) => from_elsewhere(keys, key, table, directory, form)?,
        other => {
            keys.problem(ConfigProblem::new(key, format!("{HOW}, not {}", other.kind())));
            return None;
        }
    };
    let ends = || blank::at_ends(&text).filter(|_| form == Form::Line);
    let wrong = if text.is_empty() && origin.is_empty() && (form == Form::Pem || key == "client_secret") {
        &format!("enter the secret{LEAVE_OUT}")
    } else if text.is_empty() {
        "enter the secret: it is empty"
    } else if let Some(mend) = ends() {
        &format!("{mend}, or copy the secret again")
    } else if form != Form::Pem && text.chars().any(char::is_control) {
        "enter the secret without line breaks and other control characters: it holds one"
    } else if form == Form::Pem && !text.contains("-----BEGIN ") {
        "enter PEM text, or { file = \"path\" }: it has no line with BEGIN"
    } else {
        return Some(SecretString::from(text.as_str()));
    };
    keys.problem(ConfigProblem::new(key, format!("{wrong}{origin}")));
    None
}

fn from_elsewhere(
    keys: &mut Keys<'_>,
    key: &'static str,
    table: &Table,
    directory: &Path,
    form: Form,
) -> Option<(Zeroizing<String>, String)> {
    let mut places = Keys::new(table);
    let env = places.text("env", "enter the name of an environment variable");
    let file = places.text("file", "enter the path of a file");
    keys.add_within(key, places.finish());
    let read = match (env, file) {
        (Some(name), None) => from_env(name),
        (None, Some(path)) => from_file(directory, path, form),
        // A key of the wrong type has been reported.
        (None, None) if table.get("env").or(table.get("file")).is_some() => return None,
        _ => Err(format!("{HOW}, one of the two")),
    };
    keys.accept(read.map_err(|mend| ConfigProblem::new(key, mend)))
}

/// Tells whether `text` may be shown as a path: a secret, put in the place of one, must not be.
pub(super) fn is_path(text: &str) -> bool {
    let is_token = text.starts_with("eyJ") && text.matches('.').count() == 2;
    !text.contains("://") && !text.contains("-----") && !text.chars().any(char::is_control) && !is_token
}

pub(super) fn from_env(name: &str) -> Result<(Zeroizing<String>, String), String> {
    // Anything but a name may be the secret itself, put in the wrong place.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let none = "enter the name of an environment variable after env: letters, digits and _";
    if !is_name {
        return Err(none.to_owned());
    }
    match std::env::var(name) {
        Err(std::env::VarError::NotPresent) if is_like_a_secret(name) => Err(none.to_owned()),
        Ok(text) => Ok((Zeroizing::new(text), format!(" (environment variable {name})"))),
        Err(std::env::VarError::NotPresent) => Err(format!("set the environment variable {name}")),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(format!("set the environment variable {name} to UTF-8 text"))
        }
    }
}

fn from_file(directory: &Path, path: &str, form: Form) -> Result<(Zeroizing<String>, String), String> {
    if !is_path(path) {
        return Err("enter the path of a file after file: this is none".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(directory.join(path))
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("make the file {} readable: {error}", quoted(path)))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(format!("name a file of at most 64 KiB: {} is larger", quoted(path)));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok((
            Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()),
            format!(" (file {})", quoted(path)),
        )),
        Err(_) if form == Form::Pem => Err(format!("{} (file {})", CertificateError::NotPem, quoted(path))),
        Err(_) => Err(format!("name a file with UTF-8 text: {} holds none", quoted(path))),
    }
}
