//! Mail server settings from a table of keys: which key feeds which setting, and the file of root certificates.
//! Checks only what the types cannot hold.

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error};

use super::draft::{Draft, Limit, LimitsDraft, Root};
use super::keys::Keys;
use super::limits::{ConnectionReuse, WhenReached};
use super::problem::ConfigProblem;
use super::provider::MailProvider;
use super::server::{Chunking, InitialResponse, MailServerConfig, Tls};
use super::timeouts::Timeouts;
use super::value::{Table, Value};
use crate::tls::PlatformRoots;

const ANY_TLS: &str = "enter \"starttls\" (port 587, where the connection is encrypted before anybody signs in) or \"implicit\" (port 465, where it is encrypted from the start), or \"none\" for a server on this machine";

/// The names of the ways to encrypt.
const TLS: &[(&str, Tls)] =
    &[("starttls", Tls::StartTls), ("implicit", Tls::Implicit), ("none", Tls::LoopbackPlaintext)];
const CHUNKING: &[(&str, Chunking)] = &[("auto", Chunking::Auto), ("off", Chunking::Off)];
const INITIAL_RESPONSE: &[(&str, InitialResponse)] =
    &[("when-short", InitialResponse::WhenShort), ("always", InitialResponse::Always)];

const WHEN_REACHED: &[(&str, WhenReached)] = &[("wait", WhenReached::Wait), ("fail", WhenReached::Fail)];

const POSITIVE: &str = "enter a number from 1 to 4294967295";

/// Root certificates of a whole country fit into this.
const LARGEST_ROOTS: u64 = 4 << 20;

impl Draft {
    /// Reads the keys that every mail server has; relative paths are taken from `directory`.
    ///
    /// `profile` is whose server was chosen, if anyone's that is known; it becomes the provider.
    pub(crate) fn read(keys: &mut Keys<'_>, directory: &Path, profile: Option<MailProvider>) -> Self {
        let text = |keys: &mut Keys<'_>, key, mend| keys.optional_text(key, mend).map(str::to_owned);
        let tls = profile.and_then(MailProvider::only_starttls);
        let mut draft = Self {
            provider: profile,
            host: match profile {
                Some(_) => text(keys, "host", "enter the server's name"),
                None => keys.text("host", "enter the server's name").map(str::to_owned),
            },
            port: keys.integer("port", "enter a port number from 1 to 65535, usually 587"),
            tls: keys.choice_or("tls", TLS, Some(tls.as_deref().unwrap_or(ANY_TLS))),
            minimum_tls: minimum_tls(keys),
            sender: text(keys, "sender", "enter an address such as alerts@contoso.com"),
            test_recipient: text(keys, "test_recipient", "enter an address such as admin@contoso.com"),
            username: keys.text("username", "enter the name that signs in").map(str::to_owned),
            timeouts: timeouts(keys),
            hello_name: text(keys, "hello_name", "enter this machine's DNS name"),
            max_connections: keys.positive("max_connections", POSITIVE),
            chunking: keys.choice("chunking", CHUNKING),
            initial_response: keys.choice("initial_response", INITIAL_RESPONSE).unwrap_or_default(),
            refresh_margin: keys.duration("refresh_margin"),
            limits: limits(keys),
            reuse: reuse(keys),
            ..Self::default()
        };
        if let Some(path) = keys.optional_text("root_certificates", "enter the path of a PEM file") {
            let pem = keys.accept(read_roots(&directory.join(path), path));
            draft.roots.extend(pem.map(|pem| Root::new("root_certificates", pem)));
        }
        if keys.boolean("trust_platform_roots") == Some(false) {
            draft.platform_roots = PlatformRoots::Ignored;
        }
        draft
    }
}

fn minimum_tls(keys: &mut Keys<'_>) -> Option<String> {
    match keys.value("minimum_tls")? {
        Value::Float(number) => Some(number.to_string()), // `minimum_tls = 1.2` without quotes
        _ => keys.optional_text("minimum_tls", "enter \"1.2\" or \"1.3\"").map(str::to_owned),
    }
}

fn limit(keys: &mut Keys<'_>, key: &'static str) -> Option<Limit> {
    match keys.value(key)? {
        Value::Text(text) if text.eq_ignore_ascii_case("none") => Some(Limit::None),
        _ => keys.positive(key, "enter a number from 1 to 4294967295, or \"none\"").map(Limit::AtMost),
    }
}

fn limits(keys: &mut Keys<'_>) -> LimitsDraft {
    let Some(table) = keys.table("limits") else { return LimitsDraft::default() };
    let mut limits = Keys::new(table);
    let draft = LimitsDraft {
        whole: None,
        messages_per_minute: limit(&mut limits, "messages_per_minute"),
        recipients_per_day: limit(&mut limits, "recipients_per_day"),
        recipients_per_message: limit(&mut limits, "recipients_per_message"),
        when_reached: limits.choice("when_reached", WHEN_REACHED),
    };
    keys.add_within("limits", limits.finish());
    draft
}

fn reuse(keys: &mut Keys<'_>) -> ConnectionReuse {
    let mut reuse = ConnectionReuse::new();
    if let Some(table) = keys.table("reuse") {
        let mut times = Keys::new(table);
        reuse = reuse
            .with_idle(times.duration("idle").unwrap_or(reuse.idle()))
            .with_age(times.duration("age").unwrap_or(reuse.age()))
            .with_messages(times.positive("messages", POSITIVE));
        keys.add_within("reuse", times.finish());
    }
    reuse
}

fn timeouts(keys: &mut Keys<'_>) -> Timeouts {
    let mut timeouts = Timeouts::new();
    if let Some(table) = keys.table("timeouts") {
        let mut waits = Keys::new(table);
        for name in Timeouts::NAMES {
            if let Some(wait) = waits.duration(name) {
                timeouts = timeouts.with_named(name, wait);
            }
        }
        keys.add_within("timeouts", waits.finish());
    }
    timeouts
}

fn read_roots(path: &Path, given: &str) -> Result<String, ConfigProblem> {
    let problem = |reason: String| {
        ConfigProblem::new("root_certificates", format!("enter the path of a PEM file: {reason}"))
            .showing(given)
    };
    match std::fs::metadata(path) {
        Ok(file) if file.len() > LARGEST_ROOTS => Err(problem("the file is larger than 4 MiB".to_owned())),
        _ => std::fs::read_to_string(path).map_err(|error| problem(error.to_string())),
    }
}

/// Reads the keys of `[server]` without `profile`, and the file that `root_certificates` names, from the current
/// directory.
///
/// Unknown keys are problems, with the nearest known one.
///
/// ```
/// let error = toml::from_str::<smtp_oauth::MailServerConfig>("host = 'mail.contoso.com'\nuser_name = 'svc'").unwrap_err();
/// assert!(error.to_string().contains("user_name: remove this unknown key, or did you mean username?"), "{error}");
/// ```
impl<'de> Deserialize<'de> for MailServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let mut keys = Keys::new(&table);
        let mut draft = Draft::read(&mut keys, Path::new(""), None);
        draft.problems.extend(keys.finish());
        draft.complete().map_err(|error| D::Error::custom(error.showing_entered(&table)))
    }
}
