//! Settings to try, the files they name, and the schema that describes them; for the tests of schema and page.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use smtp_oauth::testing::AppCertificate;
use smtp_oauth::{ConfigError, ResolvedSettings, Settings};
use tempfile::TempDir;
use time::macros::datetime;

pub fn schema() -> Value {
    schemars::schema_for!(Settings).to_value()
}

/// A directory with every file that the examples name.
pub fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = AppCertificate::new(datetime!(2028-06-30 12:00 UTC));
    for (name, content) in [
        ("roots.pem", pair.certificate_pem()),
        ("app.crt", pair.certificate_pem()),
        ("app.key", pair.key_pem()),
        ("federated-token", "e30.e30.e30"),
        ("secret", "s3cr3t~Q-geheim\n"),
        ("redis-url", "rediss://mailer:s3cr3t~Q-geheim@redis.contoso.com/0\n"),
    ] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

pub fn resolve(document: &Value, directory: &TempDir) -> Result<ResolvedSettings, ConfigError> {
    let settings: Settings = serde_json::from_value(document.clone()).unwrap();
    settings.relative_to(directory.path()).resolve()
}

/// Settings of each kind, all valid.
pub fn valid() -> Vec<Value> {
    let oauth = |more: Value| {
        let mut table = json!({"tenant": "contoso.com", "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e"});
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table
    };
    let exchange = json!({"username": "svc-mail@contoso.com"});
    let custom = json!({"profile": "custom", "host": "mail.example.com", "username": "svc", "sender": "a@example.com"});
    let document =
        |server: &Value, authentication: Value| json!({"server": server, "authentication": authentication});
    let trusting_one = with(&custom, "root_certificates", &json!("roots.pem"));
    let of_service = |profile: &str| json!({"profile": profile, "username": "svc-mail@contoso.com"});
    let elsewhere = json!({"client_id": "mailer", "client_secret": {"file": "secret"}});
    let given = with(&elsewhere, "token_endpoint", &json!("https://id.contoso.com/token"));
    let given = with(&given, "scope", &json!("openid"));
    let outlook = without(&json!({"a": oauth(json!({}))}), "a.tenant")["a"].clone();
    let store = |store| document(&exchange, oauth(json!({"token_store": store})));
    let mut valid = vec![
        document(&exchange, oauth(json!({}))),
        document(&custom, oauth(json!({}))),
        document(&exchange, oauth(json!({"client_secret": {"file": "secret"}}))),
        document(
            &exchange,
            oauth(json!({"client_certificate": {"file": "app.crt"}, "client_key": {"file": "app.key"}})),
        ),
        document(
            &exchange,
            oauth(json!({"grant": "client_credentials", "federated_token_file": "federated-token"})),
        ),
        document(&custom, json!({"method": "basic", "password": {"file": "secret"}})),
        document(&trusting_one, oauth(json!({}))),
        store(json!({"file": "t.json"})),
        document(&custom, given),
        document(&of_service("gmail"), elsewhere.clone()),
        document(&of_service("aol"), elsewhere),
        document(&of_service("outlook.com"), outlook),
        document(&of_service("high-volume-email"), oauth(json!({}))),
        document(&of_service("azure-communication-services"), json!({"method": "basic", "password": "x"})),
    ];
    if cfg!(feature = "keyring") {
        valid.push(store(json!({"keyring": "mailer"})));
    }
    if cfg!(feature = "redis") {
        valid.push(store(json!({"redis": {"file": "redis-url"}})));
    }
    valid
}

/// Tells whether this build can do what the key at `path` is for.
pub fn built_for(path: &str) -> bool {
    let redis =
        path.contains("redis") || path.ends_with("token_store.key") || path.starts_with("shared_limits");
    let keyring = path.ends_with("keyring") || path.ends_with("token_store.user");
    (!redis || cfg!(feature = "redis")) && (!keyring || cfg!(feature = "keyring"))
}

/// What the schema says of one key.
#[derive(Clone, Debug)]
pub struct Described {
    pub schema: Value,
    pub is_table: bool,
}

/// Every key of the schema by its path, `server.port`.
pub fn described(schema: &Value) -> BTreeMap<String, Described> {
    let mut found = BTreeMap::new();
    walk(schema, schema, "", &mut found);
    found
}

fn walk(root: &Value, of: &Value, path: &str, found: &mut BTreeMap<String, Described>) {
    let Some(properties) = table(root, of) else { return };
    for (name, property) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_table = table(root, property).is_some();
        found.insert(path.clone(), Described { schema: property.clone(), is_table });
        walk(root, property, &path, found);
    }
}

/// The properties of a schema, itself or behind a reference or an alternative.
fn table<'a>(root: &'a Value, of: &'a Value) -> Option<&'a serde_json::Map<String, Value>> {
    if let Some(reference) = of["$ref"].as_str() {
        return table(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    of["properties"]
        .as_object()
        .or_else(|| of["anyOf"].as_array()?.iter().find_map(|part| part["properties"].as_object()))
}

/// Puts `value` under `path`, and tables around it where there are none.
pub fn with(document: &Value, path: &str, value: &Value) -> Value {
    let mut document = document.clone();
    let mut place = &mut document;
    for name in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = place.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
    }
    *place = value.clone();
    document
}

/// Removes what is under `path`, if there is anything.
pub fn without(document: &Value, path: &str) -> Value {
    let mut document = document.clone();
    let (table, key) = path.rsplit_once('.').map_or(("", path), |(table, key)| (table, key));
    let pointer = if table.is_empty() { String::new() } else { format!("/{}", table.replace('.', "/")) };
    if let Some(table) = document.pointer_mut(&pointer).and_then(Value::as_object_mut) {
        table.remove(key);
    }
    document
}
