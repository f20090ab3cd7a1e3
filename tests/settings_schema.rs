//! The JSON Schema of settings says what the reader does: the same keys, names, defaults, and the same verdicts.

use std::collections::BTreeSet;
use std::ops::Not;

use serde_json::{Value, json};
use smtp_oauth::ConfigProblem;
use tempfile::TempDir;

#[path = "support/settings.rs"]
mod settings;

use settings::{built_for, described, files, resolve, schema, valid, with, without};

/// A key that nothing is called like.
const UNKNOWN: &str = "qqqqqqqqqqqqqqqqqq";
const AUTH_METHOD: &str = "authentication.token_endpoint_auth_method";

fn validator() -> jsonschema::Validator {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// Settings that take the key at `path`: those for Exchange Online take nearly all.
fn settings_with(path: &str) -> Value {
    let is_home = |one: &Value| path != AUTH_METHOD || one["authentication"]["token_endpoint"].is_string();
    valid().into_iter().find(is_home).unwrap()
}

/// The keys that the reader says it knows in the table at `path`; empty when there is no table.
fn known(document: &Value, path: &str, directory: &TempDir) -> Vec<String> {
    let unknown = if path.is_empty() { UNKNOWN.to_owned() } else { format!("{path}.{UNKNOWN}") };
    let error = resolve(&with(document, &unknown, &json!(1)), directory).unwrap_err();
    let problem = error.problems().iter().find(|problem| problem.field() == unknown);
    problem.map_or(Vec::new(), |problem| {
        let list = problem.mend().strip_prefix("remove this unknown key; known here are ");
        list.unwrap().split(", ").map(str::to_owned).collect()
    })
}

/// Every key that the reader knows, found by asking it in table after table.
fn read(document: &Value, path: &str, directory: &TempDir, found: &mut BTreeSet<String>) {
    for key in known(document, path, directory) {
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        found.insert(path.clone());
        read(document, &path, directory, found);
    }
}

#[test]
fn schema_and_reader_know_the_same_keys() {
    let directory = files();
    let mut in_reader = BTreeSet::new();
    // OAuth reads no password, and Basic nothing else.
    for document in [&valid()[0], &valid()[5]] {
        read(document, "", &directory, &mut in_reader);
    }
    // Known only to say where it belongs.
    assert!(in_reader.remove("authentication.cloud"));
    let in_schema: BTreeSet<_> =
        described(&schema()).into_keys().filter(|path| built_for(path) || !path.contains("redis.")).collect();
    assert_eq!(in_schema, in_reader);
    assert!(in_reader.len() > 60, "{in_reader:?}");
}

#[test]
fn every_key_has_a_meaning_and_an_example() {
    for (path, key) in described(&schema()) {
        let meaning = key.schema["description"].as_str().unwrap_or_default();
        assert!(meaning.len() > 10 && meaning.ends_with('.'), "{path}: {meaning:?}");
        let of_secret = path.ends_with(".env") || path.ends_with(".file");
        assert!(
            key.is_table || of_secret || key.schema["examples"][0] != Value::Null,
            "{path} has no example"
        );
    }
}

#[test]
fn schema_and_reader_know_the_same_names() {
    let directory = files();
    let mut compared = 0;
    for (path, key) in described(&schema()) {
        let Some(names) = key.schema["enum"].as_array() else { continue };
        let settings = if path == "server.tls" { valid()[1].clone() } else { settings_with(&path) };
        let error = resolve(&with(&settings, &path, &json!(UNKNOWN)), &directory).unwrap_err();
        let problem = error.problems().iter().find(|problem| problem.field() == path).unwrap();
        let listed: Vec<_> = names.iter().map(ToString::to_string).collect();
        if path == "server.minimum_tls" {
            assert_eq!(
                (listed.join(" "), problem.mend().split(':').next().unwrap()),
                (r#""1.2" "1.3" 1.2 1.3"#.to_owned(), "enter 1.2 or 1.3")
            );
        } else if path == "server.tls" {
            let quoted: Vec<_> =
                problem.mend().split('"').skip(1).step_by(2).map(|name| format!("{name:?}")).collect();
            assert_eq!(quoted, listed);
        } else {
            assert_eq!(problem.mend(), format!("enter {}", listed.join(" or ")), "{path}");
        }
        compared += 1;
    }
    assert!(compared >= 9, "{compared}");
}

#[test]
fn the_defaults_are_those_of_the_reader() {
    let directory = files();
    let shown = |document: &Value| format!("{:?}", resolve(document, &directory).unwrap());
    let mut compared = 0;
    for (path, key) in described(&schema()) {
        let Some(default) = key.schema.get("default") else { continue };
        let settings = settings_with(&path);
        assert_eq!(shown(&with(&settings, &path, default)), shown(&settings), "{path} = {default}");
        compared += 1;
    }
    assert!(compared > 30, "{compared}");
    let custom = &valid()[1];
    for (path, key) in described(&schema()) {
        let meaning = key.schema["description"].as_str().unwrap();
        let Some((_, default)) = meaning.split_once("With profile custom: ") else { continue };
        let default = default.trim_end_matches('.');
        let default = serde_json::from_str(default).unwrap_or_else(|_| json!(default));
        assert_eq!(shown(&with(custom, &path, &default)), shown(custom), "{path} = {default}");
        assert_ne!(shown(&with(custom, &path, &key.schema["default"])), shown(custom), "{path}");
    }
}

#[test]
fn every_example_is_valid_and_changes_something() {
    let (directory, validator) = (files(), validator());
    for (path, key) in described(&schema()) {
        let Some(example) = key.schema["examples"].get(0) else { continue };
        // A variable that is not set here stands for a file.
        let example = match (&example["env"], path.rsplit('.').next().unwrap()) {
            (Value::Null, "env") => json!("CARGO"),
            (Value::Null, _) => example.clone(),
            (_, "redis") => json!({"file": "redis-url"}),
            (_, "federated_token_file") => json!("federated-token"),
            _ => json!({"file": "secret"}),
        };
        let fits = valid().iter().any(|document| {
            let before = resolve(&without(document, &path), &directory);
            let changed = with(&without(document, &path), &path, &example);
            let is_valid = validator.is_valid(&changed);
            resolve(&changed, &directory).is_ok_and(|after| {
                // Needed there, or to be seen.
                is_valid && before.is_ok_and(|before| format!("{before:?}") == format!("{after:?}")).not()
            })
        });
        assert!(fits || !built_for(&path), "{path} = {example}");
    }
}

#[test]
fn good_settings_are_good_to_both() {
    let (directory, validator) = (files(), validator());
    let texts = json!({
        "server": {"username": "svc-mail@contoso.com", "port": " 587 ", "trust_platform_roots": "TRUE",
            "minimum_tls": 1.2, "timeouts": {"connect": "1h 30m", "tls": "90", "total": 60},
            "limits": {"recipients_per_day": "none"}},
        "authentication": {"method": "basic", "password": {"file": "secret"}},
        "retry": {"attempts": "2"},
    });
    for document in valid().into_iter().chain([texts]) {
        assert!(resolve(&document, &directory).is_ok(), "{document}: {:?}", resolve(&document, &directory));
        let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{document}: {errors:?}");
    }
}

#[test]
fn bad_settings_are_bad_to_both() {
    let (directory, validator) = (files(), validator());
    let valid = valid();
    let [exchange, custom, secret, certificate, itself, basic, ..] = &valid[..] else { panic!("{valid:?}") };
    let gmail = valid.iter().find(|one| one["server"]["profile"] == "gmail").unwrap();
    let given = valid.iter().find(|one| one["authentication"]["token_endpoint"].is_string()).unwrap();
    let endpoint = json!("https://id.contoso.com/token");
    let mut bad = vec![
        json!({}),
        json!({"server": exchange["server"]}),
        without(exchange, "server.username"),
        without(custom, "server.host"),
        without(exchange, "authentication.tenant"),
        without(exchange, "authentication.client_id"),
        without(basic, "authentication.password"),
        without(itself, "authentication.federated_token_file"),
        without(certificate, "authentication.client_key"),
        without(certificate, "authentication.client_certificate"),
        with(custom, "server.cloud", &json!("public")),
        with(exchange, "authentication.password", &json!("x")),
        with(basic, "authentication.tenant", &json!("contoso.com")),
        with(basic, "authentication.client_secret_expires", &json!("2028-06-30")),
        with(secret, "authentication.federated_token_file", &json!("federated-token")),
        with(certificate, "authentication.client_secret", &json!("x")),
        with(itself, "authentication.token_store", &json!("token.json")),
        with(exchange, "authentication.client_secret_expires", &json!("2028-06-30")),
        with(secret, "authentication.client_secret_expires", &json!("30.6.2028")),
        with(exchange, "authentication.token_store", &json!({})),
        with(exchange, "authentication.token_store", &json!({"file": "t.json", "keyring": "mailer"})),
        with(exchange, "authentication.token_store", &json!({"file": "t.json", "user": "svc"})),
        with(exchange, "authentication.client_secret", &json!({"env": "CARGO", "file": "secret"})),
        with(exchange, "server.port", &json!(0)),
        with(exchange, "server.port", &json!(65536)),
        with(exchange, "server.port", &json!("smtp")),
        with(exchange, "server.max_connections", &json!("0")),
        with(exchange, "server.limits.messages_per_minute", &json!("many")),
        with(exchange, "server.trust_platform_roots", &json!("maybe")),
        with(exchange, "server.timeouts.connect", &json!("5 parsecs")),
        with(exchange, "server.timeouts.connect", &json!("1h1h1h 3s")),
        with(exchange, "server.timeouts.connect", &json!("30s 5m")),
        with(exchange, "server.timeouts.connect", &json!(-5)),
        with(exchange, "server.timeouts.connect", &json!(1.5)),
        with(exchange, "server.minimum_tls", &json!("1.1")),
        with(exchange, "shared_limits", &json!({})),
        with(exchange, "authentication.token_endpoint", &endpoint),
        with(exchange, "authentication.scope", &json!("openid")),
        without(given, "authentication.scope"),
        without(given, "authentication.client_id"),
        with(given, AUTH_METHOD, &json!("private_key_jwt")),
        with(&without(given, "authentication.client_secret"), AUTH_METHOD, &json!("client_secret_post")),
        with(exchange, AUTH_METHOD, &json!("client_secret_post")),
        with(given, "authentication.tenant", &json!("contoso.com")),
        with(given, "authentication.grant", &json!("refresh_token")),
        with(given, "server.profile", &json!("gmail")),
        with(gmail, "authentication.token_endpoint", &endpoint),
        with(gmail, "authentication.scope", &json!("openid")),
        with(gmail, "authentication.federated_token_file", &json!("federated-token")),
        with(gmail, "server.cloud", &json!("public")),
        with(basic, "server.profile", &json!("outlook.com")),
        with(itself, "server.profile", &json!("outlook.com")),
        with(exchange, "server.profile", &json!("azure-communication-services")),
        with(exchange, "server.profile", &json!("yahoo")),
    ];
    for (path, key) in described(&schema()) {
        bad.push(with(exchange, &path, &json!([])));
        if key.is_table {
            bad.push(with(exchange, &format!("{path}.{UNKNOWN}"), &json!("x")));
        }
    }
    for document in &bad {
        assert!(!validator.is_valid(document), "the schema takes {document}");
        assert!(resolve(document, &directory).is_err(), "the reader takes {document}");
    }
    let error = resolve(&bad[0], &directory).unwrap_err();
    let fields: Vec<_> = error.problems().iter().map(ConfigProblem::field).collect();
    assert_eq!(fields, ["server", "authentication"]);
}

#[test]
fn the_schema_fits_into_the_settings_of_an_application() {
    #[derive(schemars::JsonSchema)]
    #[allow(dead_code)]
    struct Application {
        mail: smtp_oauth::Settings,
    }
    let schema = schemars::schema_for!(Application).to_value();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json!({"mail": valid()[2]})));
    assert!(!validator.is_valid(&json!({"mail": {"server": {}}})));
}
