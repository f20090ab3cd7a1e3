//! The keys of the table `authentication`, described. What they mean in practice is in `crate::settings`.

use serde_json::{Map, Value, json};

use super::key::{Key, Kind};
use crate::settings::authentication::ENTRA_KEYS;
use crate::settings::client::SERVER_KEYS;

pub(super) fn rules() -> Value {
    let oauth_only: Vec<_> = oauth().iter().map(|key| key.name).collect();
    let credentials = ["client_secret", "client_certificate", "federated_token_file"];
    let not_both = |one: usize, other: usize| {
        let pair: Vec<_> = [one, other].into_iter().filter_map(|index| credentials.get(index)).collect();
        json!({ "not": { "required": pair } })
    };
    json!({
        "allOf": [
            {
                "if": { "properties": { "method": { "const": "basic" } }, "required": ["method"] },
                "then": { "required": ["password"], "properties": without(&oauth_only) },
                "else": { "required": ["client_id"], "properties": { "password": false } },
            },
            {
                "if": { "required": ["token_endpoint"] },
                "then": { "required": ["scope"], "properties": without(&ENTRA_KEYS) },
                "else": { "properties": without(&SERVER_KEYS) },
            },
            {
                "if": { "properties": { "grant": { "const": "client_credentials" } }, "required": ["grant"] },
                "then": {
                    "properties": { "token_store": false },
                    "anyOf": credentials.map(|key| json!({ "required": [key] })),
                },
            },
            not_both(0, 1),
            not_both(0, 2),
            not_both(1, 2),
        ],
        "dependentRequired": {
            "client_certificate": ["client_key"],
            "client_key": ["client_certificate"],
            "client_secret_expires": ["client_secret"],
            "token_endpoint_auth_method": ["client_secret"],
        },
    })
}

/// Says which profile of the server goes with which keys.
pub(super) fn rules_by_profile() -> Value {
    let profile = |is: Value| {
        let server = json!({ "properties": { "profile": is }, "required": ["profile"] });
        json!({ "properties": { "server": server }, "required": ["server"] })
    };
    let then = |rules: Value| json!({ "properties": { "authentication": rules } });
    let basic = json!({ "properties": { "method": { "const": "basic" } }, "required": ["method"] });
    let of_service = json!({ "enum": ["gmail", "yahoo", "aol"] });
    let has_default = json!({ "enum": ["gmail", "yahoo", "aol", "outlook.com"] });
    json!([
        {
            "if": profile(json!({ "const": "custom" })),
            "else": then(json!({ "properties": { "token_endpoint": false } })),
        },
        { "if": profile(of_service), "then": then(json!({ "properties": without(&ENTRA_KEYS) })) },
        {
            "if": profile(has_default),
            "else": then(json!({
                "anyOf": [basic.clone(), { "required": ["tenant"] }, { "required": ["token_endpoint"] }],
            })),
        },
        {
            "if": profile(json!({ "const": "outlook.com" })),
            "then": then(json!({
                "properties": { "method": { "const": "oauth" }, "grant": { "const": "refresh_token" } },
            })),
        },
        { "if": profile(json!({ "const": "azure-communication-services" })), "then": then(basic) },
    ])
}

/// Refuses these keys.
fn without(keys: &[&str]) -> Map<String, Value> {
    keys.iter().map(|key| ((*key).to_owned(), Value::Bool(false))).collect()
}

pub(super) fn keys() -> Vec<Key> {
    let method = Key::new(
        "method",
        Kind::Choice(json!(["oauth", "basic"])),
        "How to sign in. Microsoft is retiring Basic for Exchange Online; outlook.com has oauth only, azure-communication-services basic only.",
    );
    let password = Key::new(
        "password",
        Kind::Secret,
        "Basic only, and required there. The password of the user who signs in.",
    );
    let mut keys = vec![method.default("oauth").example("basic")];
    keys.extend(oauth());
    keys.push(password.example(json!({ "env": "MAIL_PASSWORD" })));
    keys
}

/// The keys that Basic has not.
fn oauth() -> Vec<Key> {
    vec![
        Key::new(
            "tenant",
            Kind::Text,
            "Required for an app at Entra ID. The tenant: its id, one of its domains, or organizations, consumers or common. Default with profile outlook.com: consumers.",
        )
        .example("fabrikam.onmicrosoft.com"),
        Key::new(
            "client_id",
            Kind::Text,
            "Required for OAuth. The client id of the app; at Entra ID the Application (client) ID of the app registration, a GUID.",
        )
        .example("0d3bb8e1-5c4f-4e0f-9d5c-6f4f7f4c2a10"),
        Key::new(
            "grant",
            Kind::Choice(json!(["refresh_token", "client_credentials"])),
            "What an app at Entra ID shows for a token: the refresh token of an account that has signed in, or only its own credential.",
        )
        .default("refresh_token")
        .example("client_credentials"),
        Key::new("client_secret", Kind::Secret, "The Value of the client secret. A public client has no credential.")
            .example(json!({ "env": "MAIL_CLIENT_SECRET" })),
        Key::new(
            "client_secret_expires",
            Kind::Date,
            "The day the client secret expires, for warnings 30 days ahead.",
        )
        .example("2028-06-30"),
        Key::new(
            "client_certificate",
            Kind::Secret,
            "The certificate of an app at Entra ID in place of a client secret, as PEM. Its expiry is watched.",
        )
        .example(json!({ "file": "app.crt" })),
        Key::new(
            "client_key",
            Kind::Secret,
            "The private key of client_certificate, RSA of at least 2048 bits, as PEM without a password. It may be in the same file.",
        )
        .example(json!({ "file": "app.key" })),
        Key::new(
            "federated_token_file",
            Kind::PathOr(federated_token_file(), json!({ "required": ["env"] })),
            "The path of a file with the token of another issuer that an app at Entra ID trusts, in place of a client secret. It is read for each request.",
        )
        .example(json!({ "env": "AZURE_FEDERATED_TOKEN_FILE" })),
        Key::new(
            "authority",
            Kind::Text,
            "Another sign-in host of Entra ID than the cloud's: an https URL, or http on this machine. Default: the cloud's.",
        )
        .example("https://login.contoso.com"),
        Key::new(
            "token_endpoint",
            Kind::Text,
            "The URL where another authorization server than Entra ID gives out tokens: https, or http on this machine. Takes the place of tenant with profile custom.",
        )
        .example("https://id.example.com/realms/mail/protocol/openid-connect/token"),
        Key::new(
            "scope",
            Kind::Text,
            "Required with token_endpoint. The scope that the mail server wants in a token; several are parted by blanks.",
        )
        .example("openid email offline_access"),
        Key::new(
            "authorization_endpoint",
            Kind::Text,
            "The URL where people sign in, with token_endpoint. Needed to sign in with a browser.",
        )
        .example("https://id.example.com/realms/mail/protocol/openid-connect/auth"),
        Key::new(
            "device_authorization_endpoint",
            Kind::Text,
            "The URL that gives out codes to enter on another machine, with token_endpoint. Needed to sign in with one.",
        )
        .example("https://id.example.com/realms/mail/protocol/openid-connect/auth/device"),
        Key::new(
            "token_endpoint_auth_method",
            Kind::Choice(json!(["client_secret_basic", "client_secret_post"])),
            "Where the client secret stands in a request to token_endpoint: in the header or in the body.",
        )
        .default("client_secret_basic")
        .example("client_secret_post"),
        Key::new(
            "token_store",
            Kind::PathOr(token_store(), token_store_rules()),
            "Where the refresh token is kept: the path of a file, whose directory must exist, or a table. Not for client_credentials.",
        )
        .default("token.json")
        .example("mail-token.json"),
    ]
}

fn federated_token_file() -> Vec<Key> {
    vec![
        Key::new("env", Kind::Text, "The name of the environment variable that holds the path.")
            .example("AZURE_FEDERATED_TOKEN_FILE"),
    ]
}

fn token_store_rules() -> Value {
    let kinds = ["file", "keyring", "redis"];
    json!({
        "oneOf": kinds.map(|key| json!({ "required": [key] })),
        "dependentRequired": { "user": ["keyring"], "key": ["redis"] },
    })
}

fn token_store() -> Vec<Key> {
    vec![
        Key::new("file", Kind::Text, "The path of a file; processes of one machine share it.").example("mail-token.json"),
        Key::new(
            "keyring",
            Kind::Text,
            "The program's name in the operating system's keyring, for one process. Needs the feature keyring.",
        )
        .example("contoso-mailer"),
        Key::new("user", Kind::Text, "The account in the keyring. Default: the user name of the mail server.")
            .example("alerts"),
        Key::new(
            "redis",
            Kind::Secret,
            "The URL of a Redis server, which processes of many machines share; rediss:// has TLS. Needs the feature redis.",
        )
        .example(json!({ "env": "MAIL_REDIS_URL" })),
        Key::new("key", Kind::Text, "The name of the sign-in in Redis. Default: the user name of the mail server.")
            .example("alerts"),
    ]
}
