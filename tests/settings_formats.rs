//! The same settings from TOML, JSON, YAML and the environment: same meaning, same messages, no secret in any of them.

use std::collections::HashMap;

use config::{Config, Environment};
use secrecy::ExposeSecret;
use smtp_oauth::{AuthenticationSettings, ClientCredential, ResolvedSettings, Settings};

const SECRET: &str = "s3cr3t~Q-geheim";
/// A secret that a format may take for a number.
const DIGITS: &str = "340282366920938463463374607431768211455";

const TOML: &str = r#"
[server]
username = "svc-mail@contoso.com"
port = 587
trust_platform_roots = true
minimum_tls = "1.3"
max_connections = 2

[server.timeouts]
connect = 7

[server.limits]
messages_per_minute = 10

[authentication]
tenant = "contoso.onmicrosoft.com"
client_id = "6731de76-14a6-49ae-97bc-6eba6914391e"
client_secret = "s3cr3t~Q-geheim"
client_secret_expires = 2027-06-30

[authentication.token_store]
file = "src/token.json"

[retry]
attempts = 2
"#;

const JSON: &str = r#"{
  "server": {
    "username": "svc-mail@contoso.com", "port": 587, "trust_platform_roots": true, "minimum_tls": 1.3,
    "max_connections": 2, "timeouts": { "connect": 7 }, "limits": { "messages_per_minute": 10 }, "host": null
  },
  "authentication": {
    "tenant": "contoso.onmicrosoft.com", "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "client_secret": "s3cr3t~Q-geheim", "client_secret_expires": "2027-06-30",
    "token_store": { "file": "src/token.json" }
  },
  "retry": { "attempts": 2 }
}"#;

const YAML: &str = "
server:
  username: svc-mail@contoso.com
  port: 587
  trust_platform_roots: true
  minimum_tls: 1.3
  max_connections: 2
  host: ~
  timeouts: { connect: 7 }
  limits:
    messages_per_minute: 10
authentication:
  tenant: contoso.onmicrosoft.com
  client_id: 6731de76-14a6-49ae-97bc-6eba6914391e
  client_secret: s3cr3t~Q-geheim
  client_secret_expires: 2027-06-30
  token_store:
    file: src/token.json
retry:
  attempts: 2
";

/// The environment has texts only.
const ENVIRONMENT: [(&str, &str); 12] = [
    ("SMTP_OAUTH__SERVER__USERNAME", "svc-mail@contoso.com"),
    ("SMTP_OAUTH__SERVER__PORT", "587"),
    ("SMTP_OAUTH__SERVER__TRUST_PLATFORM_ROOTS", "True"),
    ("SMTP_OAUTH__SERVER__MINIMUM_TLS", "1.3"),
    ("SMTP_OAUTH__SERVER__MAX_CONNECTIONS", "2"),
    ("SMTP_OAUTH__SERVER__TIMEOUTS__CONNECT", "7"),
    ("SMTP_OAUTH__SERVER__LIMITS__MESSAGES_PER_MINUTE", "10"),
    ("SMTP_OAUTH__AUTHENTICATION__TENANT", "contoso.onmicrosoft.com"),
    ("SMTP_OAUTH__AUTHENTICATION__CLIENT_ID", "6731de76-14a6-49ae-97bc-6eba6914391e"),
    ("SMTP_OAUTH__AUTHENTICATION__CLIENT_SECRET", SECRET),
    ("SMTP_OAUTH__AUTHENTICATION__CLIENT_SECRET_EXPIRES", "2027-06-30"),
    ("SMTP_OAUTH__AUTHENTICATION__TOKEN_STORE__FILE", "src/token.json"),
];

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables: HashMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment::with_prefix("SMTP_OAUTH").prefix_separator("__").separator("__").source(Some(variables))
}

fn from_environment(variables: &[(&str, &str)]) -> Settings {
    let layers = Config::builder().add_source(environment(variables)).build().unwrap();
    layers.try_deserialize().unwrap()
}

fn shown(resolved: &ResolvedSettings) -> String {
    match &resolved.authentication {
        AuthenticationSettings::OAuth {
            credential: Some(ClientCredential::Secret { value, .. }), ..
        } => {
            assert_eq!(value.expose_secret(), SECRET);
        }
        other => panic!("{other:?}"),
    }
    format!("{resolved:#?}")
}

#[test]
fn every_format_gives_the_same_settings() {
    let of_toml: Settings = toml::from_str(TOML).unwrap();
    let expected = shown(&of_toml.resolve().unwrap());
    assert!(expected.contains("587") && !expected.contains(SECRET), "{expected}");
    let of_json: Settings = serde_json::from_str(JSON).unwrap();
    let of_yaml: Settings = serde_saphyr::from_str(YAML).unwrap();
    let of_environment =
        from_environment(&[&ENVIRONMENT[..], &[("SMTP_OAUTH__RETRY__ATTEMPTS", "2")]].concat());
    for (format, settings) in [("JSON", of_json), ("YAML", of_yaml), ("environment", of_environment)] {
        let resolved = settings.resolve().unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(shown(&resolved), expected, "{format}");
    }
}

#[test]
fn the_environment_overrides_a_file() {
    let file: serde_json::Value = serde_json::from_str(JSON).unwrap();
    let layers = Config::builder()
        .add_source(Config::try_from(&file).unwrap())
        .add_source(environment(&[("SMTP_OAUTH__SERVER__MAX_CONNECTIONS", "1")]))
        .build()
        .unwrap();
    let settings: Settings = layers.try_deserialize().unwrap();
    let server = settings.server().unwrap();
    assert_eq!((server.max_connections().get(), server.port()), (1, 587));
}

#[test]
fn a_problem_is_named_by_its_path_in_every_format() {
    let wrong: [(&str, Settings); 4] = [
        ("TOML", toml::from_str(&TOML.replace("= 7", "= 'soon'").replace("587", "70000")).unwrap()),
        ("JSON", serde_json::from_str(&JSON.replace("587", "70000").replace(": 7 ", ": \"soon\"")).unwrap()),
        ("YAML", serde_saphyr::from_str(&YAML.replace("587", "70000").replace(": 7 ", ": soon ")).unwrap()),
        (
            "environment",
            from_environment(&ENVIRONMENT.map(|(name, value)| match value {
                "587" => (name, "70000"),
                "7" => (name, "soon"),
                _ => (name, value),
            })),
        ),
    ];
    for (format, settings) in wrong {
        let error = settings.resolve().unwrap_err().to_string();
        let mut lines = error.lines().skip(1).map(str::trim_start);
        let port = r#"server.port (given "70000"): enter a port number from 1 to 65535, usually 587"#;
        assert_eq!(lines.next(), Some(port), "{format}");
        let connect = lines.next().unwrap();
        assert!(
            connect.starts_with(r#"server.timeouts.connect (given "soon"): enter a time such as"#),
            "{format}: {connect}"
        );
        assert_eq!(lines.next(), None, "{format}");
    }
}

/// Every place of a secret, with what else its settings need.
const SECRETS: [(&str, &str); 5] = [
    ("authentication.client_secret", r#"{"tenant": "contoso.com", "client_secret": SECRET}"#),
    (
        "authentication.client_key",
        r#"{"tenant": "contoso.com", "client_key": SECRET, "client_certificate": "-----BEGIN "}"#,
    ),
    (
        "authentication.client_certificate",
        r#"{"tenant": "contoso.com", "client_certificate": SECRET, "client_key": "-----BEGIN "}"#,
    ),
    ("authentication.token_store.redis", r#"{"tenant": "contoso.com", "token_store": {"redis": SECRET}}"#),
    ("authentication.password", r#"{"method": "basic", "password": SECRET}"#),
];

#[test]
fn a_secret_of_a_wrong_type_is_in_no_message_of_any_format() {
    let wrong = [
        DIGITS.to_owned(),
        format!("-{}", &DIGITS[..15]),
        format!("1.{DIGITS}"),
        "true".to_owned(),
        format!("[{SECRET:?}]"),
        format!("[{{\"value\": {SECRET:?}}}]"),
        format!("{{\"value\": {SECRET:?}}}"),
        format!("{{\"env\": {SECRET:?}}}"),
        format!("{{\"env\": [{SECRET:?}]}}"),
        format!("{{\"file\": {DIGITS}}}"),
        format!("{{\"env\": {SECRET:?}, \"file\": {SECRET:?}}}"),
        format!("\"{SECRET}\\n{SECRET}\""),
        format!("\"{SECRET}\\u0000\""),
    ];
    for (place, authentication) in SECRETS {
        for value in &wrong {
            let document = format!(
                r#"{{"server": {{"username": "svc-mail@contoso.com"}}, "authentication": {}}}"#,
                authentication.replace("SECRET", value)
            );
            let of_json: Settings = serde_json::from_str(&document).unwrap();
            // JSON is YAML, and its numbers may be longer.
            let of_yaml: Settings = serde_saphyr::from_str(&document).unwrap();
            for (format, settings) in [("JSON", of_json), ("YAML", of_yaml)] {
                let error = settings.resolve().expect_err(&document);
                let printed = format!("{error}\n{error:?}\n{settings:?}");
                assert!(!printed.contains(SECRET), "{format}: {place} = {value}: {printed}");
                assert!(!printed.contains(&DIGITS[..15]), "{format}: {place} = {value}: {printed}");
                assert!(
                    error.problems().iter().any(|problem| problem.field().starts_with(place)),
                    "{format}: {place} = {value}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_document_that_is_no_table_is_refused_without_its_content() {
    for error in [
        serde_json::from_str::<Settings>(&format!("{SECRET:?}")).unwrap_err().to_string(),
        serde_json::from_str::<Settings>(&format!("[{SECRET:?}]")).unwrap_err().to_string(),
        Config::builder()
            .build()
            .unwrap()
            .try_deserialize::<Settings>()
            .map(|settings| settings.resolve())
            .unwrap()
            .unwrap_err()
            .to_string(),
    ] {
        assert!(!error.contains(SECRET), "{error}");
    }
}
