//! Settings with random values of random types: what is accepted fits into commands, what is refused is said without secrets.

use std::path::Path;

use serde_json::Value;
use smtp_oauth::{AuthenticationSettings, ConfigError, Settings};

const SECRET: &str = "canary-that-stands-for-a-secret";
/// A directory that no machine has, for the files that settings name.
const NOWHERE: &str = "/nonexistent/smtp-oauth";

/// Checks settings in JSON, the format with the most types of values.
pub fn check(input: &[u8]) {
    let Ok(mut value) = serde_json::from_slice::<Value>(input) else { return };
    if reads_elsewhere(&value) {
        return;
    }
    hide(&mut value);
    let Ok(settings) = serde_json::from_value::<Settings>(value) else { return };
    let settings = settings.relative_to(Path::new(NOWHERE));
    assert!(!format!("{settings:?}").contains(SECRET), "{settings:?}");
    let server = settings.server();
    match settings.resolve() {
        Err(error) => explains(&error),
        Ok(resolved) => {
            let server = server.expect("the same table");
            assert_eq!(server, resolved.server);
            let texts =
                [server.host(), server.username(), server.hello_name(), server.sender().email.as_ref()];
            for text in texts {
                assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
            }
            for name in [server.host(), server.hello_name()] {
                assert!(name.bytes().all(|octet| octet.is_ascii_graphic()), "{name:?}");
            }
            assert_ne!(server.port(), 0);
            assert!(!format!("{resolved:?}").contains(SECRET), "{resolved:?}");
            match resolved.app() {
                Ok(app) => {
                    let is_oauth = matches!(resolved.authentication, AuthenticationSettings::OAuth { .. });
                    assert_eq!(app.is_some(), is_oauth);
                }
                Err(error) => explains(&error),
            }
        }
    }
}

fn explains(error: &ConfigError) {
    let shown = error.to_string();
    assert!(!error.problems().is_empty(), "{shown}");
    assert!(!shown.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert_eq!(shown.lines().count(), 1 + error.problems().len(), "{shown:?}");
    for problem in error.problems() {
        assert!(!problem.field().is_empty() && !problem.mend().is_empty(), "{shown}");
    }
}

/// Tells whether a file outside of the empty directory is named: what stands there is no property of the crate.
fn reads_elsewhere(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with('/') || text.contains("..") || text.contains(SECRET),
        Value::Array(values) => values.iter().any(reads_elsewhere),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains(SECRET) || reads_elsewhere(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Puts the secret where secrets stand.
fn hide(value: &mut Value) {
    for key in ["password", "client_secret"] {
        if let Some(Value::String(text)) =
            value.get_mut("authentication").and_then(|table| table.get_mut(key))
        {
            text.insert_str(0, SECRET);
        }
    }
}
