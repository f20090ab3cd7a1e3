//! Secrets in settings: by value, by environment variable, by file, and in no message whatever is wrong.

use secrecy::ExposeSecret;
use smtp_oauth::{AuthenticationSettings, ClientCredential, Settings, TokenStoreSettings};

const SECRET: &str = "s3cr3t~Q-geheim";

fn settings(client_secret: &str) -> Settings {
    let text = format!(
        "[server]\nusername = 'svc-mail@contoso.com'\n\
         [authentication]\ntenant = 'contoso.onmicrosoft.com'\nclient_id = '8f2c1d1e-0000-4000-8000-000000000001'\nclient_secret = {client_secret}\n"
    );
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the lines of the problems, and checks that no secret is in anything that can be printed.
#[track_caller]
fn problems(client_secret: &str) -> Vec<String> {
    let settings = settings(client_secret);
    let error = settings.resolve().expect_err(client_secret);
    let printed = format!("{error}\n{error:?}\n{settings:?}");
    assert!(!printed.contains(SECRET), "{printed}");
    error.to_string().lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn a_secret_comes_from_the_environment_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), format!("{SECRET}\r\n")).unwrap();
    let by_file = settings("{ file = 'secret' }\ntoken_store = 't.json'");
    let resolved = by_file.relative_to(directory.path()).resolve().unwrap();
    match resolved.authentication {
        AuthenticationSettings::OAuth {
            credential: Some(ClientCredential::Secret { value, .. }),
            token_store: Some(TokenStoreSettings::File(token_store)),
            ..
        } => {
            assert_eq!(value.expose_secret(), SECRET);
            assert_eq!(token_store, directory.path().join("t.json"));
        }
        other => panic!("{other:?}"),
    }
    // Cargo sets this variable for tests; setting one of our own would be unsafe.
    match settings("{ env = 'CARGO_PKG_NAME' }").resolve().unwrap().authentication {
        AuthenticationSettings::OAuth {
            credential: Some(ClientCredential::Secret { value, .. }), ..
        } => {
            assert_eq!(value.expose_secret(), "smtp-oauth");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_given_wrongly_is_explained_without_its_content() {
    const HOW: &str = r#"enter a text, { env = "NAME" } or { file = "path" }"#;
    for (value, mend) in [
        ("12345", format!("{HOW}, not a number")),
        ("true", format!("{HOW}, not true or false")),
        ("['s3cr3t~Q-geheim']", format!("{HOW}, not a list")),
        ("''", "enter the secret, or leave the key out: it is empty".to_owned()),
        ("{}", format!("{HOW}, one of the two")),
        ("{ env = 'A', file = 'b' }", format!("{HOW}, one of the two")),
        ("{ env = 'SMTP_OAUTH_UNSET' }", "set the environment variable SMTP_OAUTH_UNSET".to_owned()),
        (
            "{ env = 's3cr3t~Q-geheim' }",
            "enter the name of an environment variable after env: letters, digits and _".to_owned(),
        ),
        (
            "'8f2c1d1e-0000-4000-8000-00000000000A'",
            "enter the secret's Value: this is a GUID, as its Secret ID is, which stands beside it in the portal".to_owned(),
        ),
    ] {
        assert_eq!(problems(value), [format!("authentication.client_secret: {mend}")], "{value}");
    }
}

#[test]
fn a_secret_file_that_will_not_do_is_named_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let two_lines = format!("{SECRET}\n{SECRET}\n");
    let not_text = [SECRET.as_bytes(), b"\xff"].concat();
    let large = SECRET.repeat(5000);
    for (name, content, mend) in [
        ("none", None, "make the file PATH readable: No such file or directory (os error 2)"),
        ("empty", Some("\n".as_bytes()), "enter the secret: it is empty (file PATH)"),
        (
            "two",
            Some(two_lines.as_bytes()),
            "enter the secret without line breaks and other control characters: it holds one (file PATH)",
        ),
        ("binary", Some(&not_text), "name a file with UTF-8 text: PATH holds none"),
        ("large", Some(large.as_bytes()), "name a file of at most 64 KiB: PATH is larger"),
    ] {
        let path = directory.path().join(name).display().to_string();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let expected =
            format!("authentication.client_secret: {}", mend.replace("PATH", &format!("{path:?}")));
        assert_eq!(problems(&format!("{{ file = '{path}' }}")), [expected], "{name}");
    }
}

#[test]
fn a_secret_in_the_wrong_field_is_not_shown() {
    let (entra, google) = ("abc8Q~dEfGhIjKlMnOpQrStUvWxYz0123456789a", "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");
    let jwt = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3gifQ.c2ln";
    let refresh = "1//0gk3JhX9aQvLm2Tz7RwYp0Bd5NcEuFsHL9IrW";
    let alphanumeric = "k3JhX9aQvLm2Tz7RwYp0Bd5NcEuFsHL9IrW";
    for secret in [entra, google, jwt, refresh, alphanumeric] {
        for (field, server, authentication) in [
            ("server.username", format!("username = '{secret}'"), String::new()),
            ("server.host", format!("host = '{secret}'"), String::new()),
            ("server.port", format!("port = '{secret}'"), String::new()),
            ("server.sender", format!("sender = '{secret}'"), String::new()),
            ("server.max_connections", format!("max_connections = '{secret}'"), String::new()),
            ("server.root_certificates", format!("root_certificates = '{secret}'"), String::new()),
            ("authentication.tenant", String::new(), format!("tenant = '{secret}'")),
            ("authentication.client_id", String::new(), format!("client_id = '{secret}'")),
            ("authentication.grant", String::new(), format!("grant = '{secret}'")),
            ("authentication.authority", String::new(), format!("authority = 'http://{secret}'")),
            ("authentication.token_store", String::new(), format!("token_store = '/{secret}/token.json'")),
            (
                "authentication.client_secret",
                String::new(),
                format!("client_secret = {{ file = '{secret}' }}"),
            ),
            (
                "authentication.client_secret",
                String::new(),
                format!("client_secret = {{ env = '{secret}' }}"),
            ),
            (
                "authentication.federated_token_file",
                String::new(),
                format!("federated_token_file = '{secret}'"),
            ),
        ] {
            // Three labels with dots between them may be a domain.
            if (field, secret) == ("authentication.tenant", jwt) {
                continue;
            }
            let username = if server.contains("username") { "" } else { "username = 'svc-mail@contoso.com'" };
            let mut app = vec![authentication];
            for default in ["tenant = 'contoso.com'", "client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'"] {
                let key = default.split(' ').next().unwrap();
                if !app[0].starts_with(key) {
                    app.push(default.to_owned());
                }
            }
            let text = format!("[server]\n{username}\n{server}\n[authentication]\n{}\n", app.join("\n"));
            let error = toml::from_str::<Settings>(&text).unwrap().resolve().unwrap_err();
            assert!(error.problems().iter().any(|problem| problem.field() == field), "{text}{error}");
            let (printed, longest) = (format!("{error} {error:?}"), secret.split('.').next().unwrap());
            assert!(!printed.to_lowercase().contains(&longest.to_lowercase()), "{text}{error}");
        }
    }
    let text = format!("[server]\nusername = 'svc-mail@contoso.com'\n[authentication]\ntenant = '{entra}'\n");
    let error = toml::from_str::<Settings>(&text).unwrap().resolve().unwrap_err().to_string();
    assert!(
        error.contains("authentication.tenant (not shown, as it looks like a secret): enter the tenant's id"),
        "{error}"
    );
}
