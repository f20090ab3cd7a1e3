//! The JSON Schema of settings, for editors and validators: built from a description of every key. Judges no settings.
//!
//! `tests/settings_schema.rs` holds the description and the reader against each other.

mod authentication;
mod key;
mod server;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Settings;
use key::{Key, Kind, Secret};

/// Describes every key with its meaning, default and an example.
///
/// It is stricter than [`Settings::resolve`] in one thing: names such as `"starttls"` are in lower case.
///
/// ```
/// let schema = schemars::schema_for!(smtp_oauth::Settings);
/// assert_eq!(schema.pointer("/properties/server/properties/port/default"), Some(&587.into()));
/// ```
impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }

    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Settings").into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rules = json!({
            "required": ["server", "authentication"],
            "allOf": authentication::rules_by_profile(),
        });
        table("The settings of a mailer.", &keys(), rules, generator).into()
    }
}

fn keys() -> Vec<Key> {
    vec![
        Key::new("server", Kind::Table(server::keys(), server::rules()), "The mail server."),
        Key::new(
            "authentication",
            Kind::Table(authentication::keys(), authentication::rules()),
            "How to sign in to the mail server.",
        ),
        Key::new(
            "retry",
            Kind::Table(retry(), json!({})),
            "When a submission is tried again. It is only when that is safe.",
        ),
        Key::new(
            "shared_limits",
            Kind::Table(shared_limits(), json!({ "required": ["redis"] })),
            "Where a fleet of processes keeps the sending limits of the mailbox together. Without it each mailer counts for itself.",
        ),
    ]
}

fn retry() -> Vec<Key> {
    vec![
        Key::new(
            "attempts",
            Kind::Integer { most: None },
            "How often to try in all, the first attempt included.",
        )
        .default(3)
        .example(5),
        Key::new("first_wait", Kind::Time, "The wait after the first failure; it doubles after each, and half of it is random.")
            .default("1s")
            .example("2s"),
        Key::new(
            "longest_wait",
            Kind::Time,
            "How far the wait grows by doubling. A longer one that the token endpoint asks for (Retry-After), or that a limit of the mail server has (a minute, for messages a minute), is kept all the same; what would end after timeouts.total is not waited for.",
        )
            .default("30s")
            .example("1m"),
    ]
}

fn shared_limits() -> Vec<Key> {
    vec![
        Key::new(
            "redis",
            Kind::Secret,
            "The URL of the Redis server; rediss:// has TLS. Needs the feature redis.",
        )
        .example(json!({ "env": "MAIL_REDIS_URL" })),
    ]
}

/// Describes a table of keys; `rules` are what else must hold.
fn table(meaning: &str, keys: &[Key], rules: Value, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let properties: Map<_, _> =
        keys.iter().map(|key| (key.name.to_owned(), Value::Object(property(key, generator)))).collect();
    let mut schema = Map::new();
    schema.insert("description".to_owned(), meaning.into());
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    schema.extend(object(rules));
    schema
}

fn property(key: &Key, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schema = match &key.kind {
        Kind::Table(keys, rules) => table(key.meaning, keys, rules.clone(), generator),
        Kind::Secret => object(generator.subschema_for::<Secret>().to_value()),
        Kind::PathOr(keys, rules) => {
            let of_table = table(key.meaning, keys, rules.clone(), generator);
            object(json!({ "anyOf": [{ "type": "string", "minLength": 1 }, of_table] }))
        }
        kind => object(kind.schema()),
    };
    schema.insert("description".to_owned(), key.meaning.into());
    for (keyword, value) in [("default", key.default.clone()), ("examples", key.examples())] {
        schema.extend(value.map(|value| (keyword.to_owned(), value)));
    }
    schema
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
