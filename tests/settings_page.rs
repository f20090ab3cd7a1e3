//! docs/settings.md lists the keys of the schema, and each of its settings resolves; docs/settings.schema.json is that schema.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use smtp_oauth::Settings;
use tempfile::TempDir;

#[path = "support/settings.rs"]
mod settings;

use settings::{built_for, described, files, resolve, schema};

/// Set for the process that has the variables which the page names.
const CHILD: &str = "SMTP_OAUTH_PAGE_CHILD";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn page() -> String {
    std::fs::read_to_string(path("settings.md")).unwrap().replace("\r\n", "\n")
}

fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries: Vec<_> =
                table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

fn kind(schema: &Value) -> String {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    match (&schema["type"], &schema["enum"]) {
        (_, Value::Array(names)) => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(" or ")
        }
        _ if schema.get("$ref").is_some() => "secret".to_owned(),
        _ if schema.get("anyOf").is_some() => "path or table".to_owned(),
        (Value::String(kind), _) if kind == "object" => "table".to_owned(),
        (Value::String(_), _) if pattern.contains("[0-9]{4}") => "date".to_owned(),
        (Value::String(_), _) => "text".to_owned(),
        (Value::Array(types), _) if types[0] == "boolean" => "`true` or `false`".to_owned(),
        (Value::Array(types), _) if types[0] == "string" => "time".to_owned(),
        _ if pattern.contains("none") => "number from 1 on, or `\"none\"`".to_owned(),
        _ => match schema["maximum"].as_u64() {
            Some(most) => format!("number from 1 to {most}"),
            None => "number from 1 on".to_owned(),
        },
    }
}

fn table_of(table: &str) -> String {
    let mut text = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n".to_owned();
    for (path, key) in described(&schema()) {
        let Some(name) = path.strip_prefix(&format!("{table}.")) else { continue };
        let of_secret =
            name.ends_with(".env") || (name.ends_with(".file") && !name.starts_with("token_store"));
        if of_secret && !name.starts_with("federated") {
            continue;
        }
        let code = |value: Option<&Value>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("`{}`", toml(value)))
        };
        let schema = &key.schema;
        writeln!(
            text,
            "| `{name}` | {} | {} | {} | {} |",
            kind(schema),
            code(schema.get("default")),
            schema["description"].as_str().unwrap(),
            code(schema["examples"].get(0)),
        )
        .unwrap();
    }
    text
}

#[test]
fn the_page_lists_every_key_of_the_schema() {
    let page = page();
    let mut made = String::new();
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once("<!-- keys of ") {
        let (marker, after) = after.split_once("-->\n").unwrap();
        let (_, after) = after.split_once("<!-- end -->").unwrap();
        let table = marker.split(',').next().unwrap();
        write!(made, "{before}<!-- keys of {marker}-->\n\n{}\n<!-- end -->", table_of(table)).unwrap();
        rest = after;
    }
    made += rest;
    let schema = schema();
    let written: Value = std::fs::read_to_string(path("settings.schema.json"))
        .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path("settings.md"), &made).unwrap();
        let text = serde_json::to_string_pretty(&schema).unwrap();
        std::fs::write(path("settings.schema.json"), format!("{text}\n")).unwrap();
        return;
    }
    let anew = "to make it anew: UPDATE_DOCS=1 cargo test --test settings_page";
    assert!(page == made, "docs/settings.md does not list what the schema describes; {anew}");
    assert!(written == schema, "docs/settings.schema.json is not the schema; {anew}");
    for table in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<!-- keys of {table},")), "{table} is not on the page");
    }
}

/// The blocks of one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(opening.as_str()).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

/// Lets the paths of the page lead into `directory`.
fn moved(block: &str, directory: &TempDir) -> String {
    let here = format!("{}/", directory.path().display()).replace('\\', "/");
    ["/run/secrets/", "/var/lib/mailer/", "/etc/mailer/"]
        .iter()
        .fold(block.to_owned(), |block, there| block.replace(there, &here))
}

/// A date of TOML is a text to a schema.
fn with_dates(value: Value) -> Value {
    match value {
        Value::Object(mut table) => match table.remove("$__toml_private_datetime") {
            Some(date) => date,
            None => table.into_iter().map(|(key, value)| (key, with_dates(value))).collect(),
        },
        other => other,
    }
}

/// Does nothing but in the process that has the variables.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (page, directory) = (page(), files());
    for secret in ["mail-client-secret", "mail-password"] {
        std::fs::write(directory.path().join(secret), "s3cr3t~Q-geheim\n").unwrap();
    }
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut documents = Vec::new();
    for block in blocks(&page, "toml") {
        let settings: Settings = toml::from_str(&moved(block, &directory)).unwrap();
        let document: toml::Table = toml::from_str(&moved(block, &directory)).unwrap();
        documents.push((block, settings, with_dates(serde_json::to_value(document).unwrap())));
    }
    for block in blocks(&page, "yaml").into_iter().filter(|block| block.starts_with("server:")) {
        let settings = serde_saphyr::from_str(&moved(block, &directory)).unwrap();
        documents.push((block, settings, serde_saphyr::from_str(&moved(block, &directory)).unwrap()));
    }
    for block in blocks(&page, "sh") {
        let variables: HashMap<_, _> = block
            .lines()
            .map(|line| moved(line, &directory))
            .map(|line| {
                line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap()
            })
            .collect();
        let environment =
            config::Environment::with_prefix("SMTP_OAUTH").prefix_separator("__").separator("__");
        let layers =
            config::Config::builder().add_source(environment.source(Some(variables))).build().unwrap();
        documents.push((block, layers.clone().try_deserialize().unwrap(), layers.try_deserialize().unwrap()));
    }
    assert!(documents.len() >= 10, "{}", documents.len());
    for (block, settings, document) in documents {
        let errors: Vec<_> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{block}\n{errors:?}");
        let able = (!block.contains("redis =") || built_for("redis"))
            && (!block.contains("keyring") || built_for("keyring"));
        match settings.resolve() {
            Ok(_) => assert!(able, "{block}"),
            Err(error) => {
                assert!(!able && error.to_string().contains("with the feature"), "{block}\n{error}");
            }
        }
    }
}

#[test]
fn every_block_of_settings_resolves() {
    let directory = files();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .env("MAIL_CLIENT_SECRET", "s3cr3t~Q-geheim")
        .env("MAIL_PASSWORD", "s3cr3t~Q-geheim")
        .env("MAIL_REDIS_URL", "rediss://mailer:s3cr3t~Q-geheim@redis.contoso.com/0")
        .env("AZURE_FEDERATED_TOKEN_FILE", directory.path().join("federated-token"))
        .output()
        .unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{wrong}");
}

#[test]
fn without_the_variables_the_page_says_which_to_set() {
    let page = page();
    let [first, ..] = blocks(&page, "toml")[..] else { panic!("{page}") };
    let directory = files();
    let document: toml::Table = toml::from_str(&moved(first, &directory)).unwrap();
    let error = resolve(&with_dates(json!(document)), &directory).unwrap_err();
    let line = "authentication.client_secret: set the environment variable MAIL_CLIENT_SECRET";
    assert_eq!(error.to_string(), format!("1 problem in the mail settings\n  {line}"));
}
