//! Settings choose where the refresh token is kept, and where a fleet keeps its sending limits.

use std::path::Path;

use smtp_oauth::{AuthenticationSettings, Clock, ResolvedSettings, Settings, TokenStore};
#[cfg(feature = "keyring")]
use smtp_oauth::{Mailer, testing::FakeMicrosoft365};

const PASSWORD: &str = "s3cr3t~Q-geheim";

fn settings(authentication: &str, rest: &str) -> Settings {
    let text = format!(
        "[server]\nusername = 'svc-mail@contoso.com'\n[authentication]\ntenant = 'contoso.com'\n\
         client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'\n{authentication}\n{rest}\n"
    );
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the lines of the problems, and checks that no secret is in anything that can be printed.
#[track_caller]
fn problems(settings: &Settings) -> Vec<String> {
    let error = settings.resolve().expect_err("there is a problem");
    let printed = format!("{error}\n{error:?}\n{settings:?}");
    assert!(!printed.contains(PASSWORD), "{printed}");
    error.to_string().lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

fn location(resolved: &ResolvedSettings) -> String {
    match &resolved.authentication {
        AuthenticationSettings::OAuth { token_store: Some(kept), .. } => {
            kept.open(&Clock::system()).unwrap().location().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_named_by_its_path_or_in_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.json");
    for given in ["token_store = 't.json'", "token_store = { file = 't.json' }"] {
        let resolved = settings(given, "").relative_to(directory.path()).resolve().unwrap();
        assert_eq!(location(&resolved), format!("the token file {}", path.display()), "{given}");
    }
}

#[test]
fn a_missing_directory_is_reported_with_all_other_problems() {
    let none = "the directory state for the token file does not exist: create it first";
    let path = "enter the path of the file that keeps the refresh token";
    let settings = settings("authority = 'ftp://x'\ntoken_store = 'state/t.json'", "[sever]");
    assert_eq!(
        problems(&settings),
        [
            "authentication.authority (given \"ftp://x\"): enter an https:// URL: secrets are sent there",
            &format!("authentication.token_store (given \"state/t.json\"): {path}: {none}"),
            "sever: remove this unknown key, or did you mean server?",
        ]
    );
    let in_a_table = self::settings("token_store = { file = 'state/t.json' }", "");
    let line = format!("authentication.token_store.file (given \"state/t.json\"): {path}: {none}");
    assert_eq!(problems(&in_a_table), [line]);

    let nowhere = self::settings("", "").relative_to(Path::new("gone"));
    assert!(problems(&nowhere)[0].contains("the directory gone for the token file does not exist"));
}

#[test]
fn a_store_given_wrongly_is_explained_without_its_secret() {
    const HOW: &str =
        "enter a path, { file = \"path\" }, { keyring = \"service\" } or { redis = \"rediss://…\" }";
    let url = "enter { redis = … } for a store in Redis: this is a URL";
    for (given, line) in [
        ("5", format!("token_store: {HOW}, not a number")),
        ("['s3cr3t~Q-geheim']", format!("token_store: {HOW}, not a list")),
        ("{}", format!("token_store.file: {HOW}")),
        ("'rediss://m:s3cr3t~Q-geheim@redis'", format!("token_store: {url}")),
        ("{ file = 'rediss://m:s3cr3t~Q-geheim@redis' }", format!("token_store.file: {url}")),
        (
            "{ file = 't.json', keyring = 'mailer' }",
            "token_store.keyring: remove it: the refresh token is kept in one place".to_owned(),
        ),
        (
            "{ file = 't.json', user = 'svc' }",
            "token_store.user: remove it, or enter keyring: it goes with that".to_owned(),
        ),
        (
            "{ file = 't.json', place = 's3cr3t~Q-geheim' }",
            "token_store.place: remove this unknown key; known here are file, user, keyring, key, redis"
                .to_owned(),
        ),
    ] {
        let problems = problems(&settings(&format!("token_store = {given}"), ""));
        assert!(problems.contains(&format!("authentication.{line}")), "{given}: {problems:?}");
    }
}

#[cfg(feature = "keyring")]
#[tokio::test]
async fn the_keyring_keeps_the_token_that_a_mailer_sends_with() {
    keyring_core::set_default_store(keyring_core::mock::Store::new().unwrap());
    let resolved = settings("token_store = { keyring = 'mailer' }", "").resolve().unwrap();
    let tenant = FakeMicrosoft365::start().await;
    let user = tenant.account();
    match &resolved.authentication {
        AuthenticationSettings::OAuth { token_store: Some(kept), .. } => {
            kept.open(&Clock::system()).unwrap().save(&tenant.entra().sign_in()).await.unwrap();
        }
        other => panic!("{other:?}"),
    }
    let directory = tempfile::tempdir().unwrap();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let (text, _file) = text.split_once("token_store").unwrap();
    let text = format!("{text}token_store = {{ keyring = 'mailer', user = '{user}' }}\n");
    let mailer = Mailer::from_settings(&toml::from_str(&text).unwrap()).unwrap();
    mailer.send_test().await.unwrap();
    assert_eq!(tenant.exchange().message_count(), 1);

    let empty = settings("token_store = { keyring = '' }", "");
    assert_eq!(
        problems(&empty),
        ["authentication.token_store.keyring: enter the program's name in the keyring"]
    );
}

#[cfg(feature = "redis")]
#[test]
fn a_redis_url_is_a_secret() {
    let url = format!("rediss://mailer:{PASSWORD}@redis.contoso.com/0");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("url"), format!("{url}\n")).unwrap();
    for given in [format!("'{url}'"), "{ file = 'url' }".to_owned()] {
        let token_store = format!("token_store = {{ redis = {given}, key = 'mail' }}");
        let shared_limits = format!("[shared_limits]\nredis = {given}");
        let settings = settings(&token_store, &shared_limits).relative_to(directory.path());
        let resolved = settings.resolve().unwrap();
        assert!(location(&resolved).contains("redis.contoso.com"));
        assert!(resolved.shared_limits.is_some());
        assert!(!format!("{settings:?} {resolved:?} {}", location(&resolved)).contains(PASSWORD));
    }
    let malformed = "the Redis URL cannot be read: it must look like rediss://user:password@host:port/0";
    let how = "enter a text, { env = \"NAME\" } or { file = \"path\" }";
    for (given, mend) in [
        (format!("'http://m:{PASSWORD}@redis'"), malformed.to_owned()),
        (
            format!("{{ env = '{url}' }}"),
            "enter the name of an environment variable after env: letters, digits and _".to_owned(),
        ),
        (format!("{{ file = '{url}' }}"), "enter the path of a file after file: this is none".to_owned()),
        ("6379".to_owned(), format!("{how}, not a number")),
        (format!("['{url}']"), format!("{how}, not a list")),
    ] {
        let settings = settings(
            &format!("token_store = {{ redis = {given} }}"),
            &format!("[shared_limits]\nredis = {given}"),
        );
        let lines =
            [format!("authentication.token_store.redis: {mend}"), format!("shared_limits.redis: {mend}")];
        assert_eq!(problems(&settings), lines, "{given}");
    }
    let empty =
        "shared_limits.redis: enter the URL of the Redis server, such as rediss://user:password@host:port/0";
    assert_eq!(problems(&settings("", "[shared_limits]")), [empty]);
}

#[cfg(not(feature = "keyring"))]
#[test]
fn a_keyring_that_the_program_was_built_without_names_the_feature() {
    let settings = settings("token_store = { keyring = 'mailer', user = 'svc' }", "");
    let mend = "build the program with the feature keyring of smtp-oauth, or use a file: it has none";
    assert_eq!(problems(&settings), [format!("authentication.token_store.keyring: {mend}")]);
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_redis_that_the_program_was_built_without_names_the_feature() {
    let mend = "build the program with the feature redis of smtp-oauth, or remove it: it has none";
    let settings = settings(
        &format!("token_store = {{ redis = 'rediss://m:{PASSWORD}@redis', key = 'mail' }}"),
        &format!("[shared_limits]\nredis = 'rediss://m:{PASSWORD}@redis'"),
    );
    assert_eq!(
        problems(&settings),
        [format!("authentication.token_store.redis: {mend}"), format!("shared_limits.redis: {mend}")]
    );
}
