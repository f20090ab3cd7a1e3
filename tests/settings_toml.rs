//! Settings from a file: every format, every key, secrets by reference, and messages that never show a secret.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::{
    AuthenticationSettings, Chunking, ClientCredential, Cloud, ConfigProblem, Grant, InitialResponse,
    MailProvider, MailServerConfig, Mailer, Office365Profile, ResolvedSettings, RetryPolicy, Settings, Tls,
    TlsVersion, TokenStoreSettings, WhenReached, testing::FakeMicrosoft365,
};

const SECRET: &str = "s3cr3t~Q-geheim";

const SERVER: &str = "[server]\nusername = 'svc-mail@contoso.com'\n";
const OAUTH: &str = "[authentication]\ntenant = 'contoso.onmicrosoft.com'\nclient_id = '8f2c1d1e-0000-4000-8000-000000000001'\n";

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn resolve(text: &str) -> ResolvedSettings {
    settings(text).resolve().unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the lines of the problems, and checks that no secret is in anything that can be printed.
#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let settings = settings(text);
    let error = settings.resolve().expect_err(text);
    let printed = format!("{error}\n{error:?}\n{settings:?}");
    assert!(!printed.contains(SECRET), "{printed}");
    error.to_string().lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn the_shortest_file_has_all_defaults() {
    let resolved = resolve(&format!("{SERVER}{OAUTH}"));
    assert_eq!((resolved.server.host(), resolved.server.port()), ("smtp.office365.com", 587));
    match resolved.authentication {
        AuthenticationSettings::OAuth {
            tenant,
            client_id,
            credential,
            authority,
            grant,
            token_store,
            ..
        } => {
            assert_eq!((grant, grant.name()), (Grant::RefreshToken, "refresh_token"));
            assert_eq!(
                (tenant.as_str(), client_id.as_str()),
                ("contoso.onmicrosoft.com", "8f2c1d1e-0000-4000-8000-000000000001")
            );
            assert!(credential.is_none() && authority.is_none());
            assert!(
                matches!(token_store, Some(TokenStoreSettings::File(path)) if path == Path::new("token.json"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_of_a_full_file_is_taken() {
    let resolved = resolve(&format!(
        r#"
        [server]
        profile = "custom"
        host = "mail.contoso.com"
        port = 465
        tls = "implicit"
        minimum_tls = 1.3
        sender = "Contoso alerts <alerts@contoso.com>"
        test_recipient = "admin@contoso.com"
        username = "svc"
        hello_name = "app.contoso.com"
        max_connections = 8
        chunking = "off"
        initial_response = "always"
        refresh_margin = "10m"
        timeouts = {{ connect = "5s", total = 90, auth = "1m 30s" }}

        [authentication]
        method = "oauth"
        tenant = "contoso.onmicrosoft.com"
        client_id = "8f2c1d1e-0000-4000-8000-000000000001"
        client_secret = "{SECRET}"
        client_secret_expires = 2027-06-30
        authority = "https://login.contoso.com/"
        grant = "refresh_token"
        token_store = "src/token.json"
        "#
    ));
    let server = &resolved.server;
    assert_eq!((server.host(), server.port(), server.tls()), ("mail.contoso.com", 465, Tls::Implicit));
    assert_eq!(server.tls_settings().minimum_version(), TlsVersion::Tls13);
    assert_eq!(server.sender().name.as_deref(), Some("Contoso alerts"));
    assert_eq!(server.test_recipient().unwrap().email.to_string(), "admin@contoso.com");
    assert_eq!((server.username(), server.hello_name()), ("svc", "app.contoso.com"));
    assert_eq!((server.max_connections().get(), server.chunking()), (8, Chunking::Off));
    assert_eq!(server.initial_response(), InitialResponse::Always);
    assert_eq!(server.refresh_margin(), Duration::from_secs(600));
    assert_eq!(server.timeouts().connect(), Duration::from_secs(5));
    assert_eq!(server.timeouts().total(), Duration::from_secs(90));
    assert_eq!(server.timeouts().auth(), Duration::from_secs(90));
    assert_eq!(server.timeouts().envelope(), Duration::from_secs(300));
    assert!(!format!("{resolved:?}").contains(SECRET));
    match resolved.authentication {
        AuthenticationSettings::OAuth {
            credential: Some(ClientCredential::Secret { value, expires, .. }),
            authority,
            token_store,
            ..
        } => {
            assert_eq!(value.expose_secret(), SECRET);
            assert_eq!(expires.unwrap().to_string(), "2027-06-30");
            assert_eq!(authority.unwrap().as_str(), "https://login.contoso.com/");
            assert!(
                matches!(token_store, Some(TokenStoreSettings::File(path)) if path == Path::new("src/token.json"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_and_the_environments_texts_mean_the_same() {
    let settings: Settings = serde_json::from_str(
        r#"{"server": {"username": "svc-mail@contoso.com", "cloud": "china", "port": "587", "max_connections": "2",
            "trust_platform_roots": "TRUE", "minimum_tls": "1.2", "host": null, "timeouts": {"connect": "7"}},
            "authentication": {"method": "basic", "password": "s3cr3t~Q-geheim"}}"#,
    )
    .unwrap();
    let resolved = settings.resolve().unwrap();
    assert_eq!(resolved.server.provider(), MailProvider::Exchange(Cloud::China));
    assert_eq!(resolved.server.max_connections().get(), 2);
    assert_eq!(resolved.server.timeouts().connect(), Duration::from_secs(7));
    assert!(!format!("{resolved:?} {settings:?}").contains(SECRET));
    match resolved.authentication {
        AuthenticationSettings::Basic { password, .. } => assert_eq!(password.expose_secret(), SECRET),
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_reuse_and_retries_are_settings() {
    let text = format!(
        "{SERVER}limits = {{ messages_per_minute = 10, recipients_per_day = 'none', when_reached = 'fail' }}\n\
         reuse = {{ idle = '30s', age = 120, messages = 50 }}\n{OAUTH}\
         [retry]\nattempts = 5\nfirst_wait = '2s'\nlongest_wait = '1m'\n"
    );
    let resolved = resolve(&text);
    let limits = resolved.server.limits();
    assert_eq!(limits.messages_per_minute(), NonZeroU32::new(10));
    assert_eq!((limits.recipients_per_day(), limits.when_reached()), (None, WhenReached::Fail));
    assert_eq!(limits.recipients_per_message(), NonZeroU32::new(500), "as Exchange Online has it");
    let reuse = resolved.server.reuse();
    assert_eq!((reuse.idle(), reuse.age()), (Duration::from_secs(30), Duration::from_secs(120)));
    assert_eq!(reuse.messages(), NonZeroU32::new(50));
    let retry = RetryPolicy::new()
        .with_attempts(NonZeroU32::new(5).unwrap())
        .with_first_wait(Duration::from_secs(2))
        .with_longest_wait(Duration::from_secs(60));
    assert_eq!(resolved.retry, retry);
    assert_eq!(resolve(&format!("{SERVER}{OAUTH}")).retry, RetryPolicy::new());
    for (keys, line) in [
        (
            "limits = { messages_per_minute = 0 }",
            r#"limits.messages_per_minute (given "0"): enter a number from 1 to 4294967295, or "none""#,
        ),
        (
            "limits = { recipients_per_day = 'all' }",
            r#"limits.recipients_per_day (given "all"): enter a number from 1 to 4294967295, or "none""#,
        ),
        ("reuse = { idle = '25h' }", r#"reuse.idle (given "25h"): enter at most 24 hours, such as 2m"#),
    ] {
        assert_eq!(problems(&format!("{SERVER}{keys}\n{OAUTH}")), [format!("server.{line}")], "{keys}");
    }
    let lines = problems(&format!("{SERVER}{OAUTH}[retry]\nattempts = 0\nfirst_wait = 'soon'\ntimes = 3\n"));
    assert_eq!(
        lines[0],
        r#"retry.attempts (given "0"): enter how often to try in all, from 1 to 4294967295"#
    );
    assert!(lines[1].starts_with(r#"retry.first_wait (given "soon"): enter a time such as"#), "{lines:?}");
    assert!(lines[2].starts_with("retry.times: remove this unknown key"), "{lines:?}");
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    let text =
        format!("{SERVER}user_name = 'x'\npaint = 'red'\n{OAUTH}clientsecret = '{SECRET}'\n[sever]\na = 1\n");
    let found = problems(&text);
    assert_eq!(found[1], "server.user_name: remove this unknown key, or did you mean username?");
    assert!(
        found[0].starts_with("server.paint: remove this unknown key; known here are profile, cloud, host, ")
    );
    assert_eq!(
        found[2],
        "authentication.clientsecret: remove this unknown key, or did you mean client_secret?"
    );
    assert_eq!(found[3], "sever: remove this unknown key, or did you mean server?");
    assert_eq!(found.len(), 4);
    let [problem] = &problems(&format!("{SERVER}'' = 1\n{OAUTH}"))[..] else { panic!("one problem") };
    assert!(problem.starts_with("server.\"\": remove this unknown key"), "{problem}");
}

#[test]
fn each_mistake_in_server_is_explained_under_its_path() {
    let server = |key: &str| format!("{SERVER}{key}\n{OAUTH}");
    for (text, line) in [
        (
            server("port = 70000"),
            r#"server.port (given "70000"): enter a port number from 1 to 65535, usually 587"#,
        ),
        (
            server("port = 'smtp'"),
            r#"server.port (given "smtp"): enter a port number from 1 to 65535, usually 587"#,
        ),
        (
            server("port = 465"),
            r#"server.port (given "465"): enter 587: Exchange Online has no implicit TLS, so nothing answers on 465"#,
        ),
        (
            server("tls = 'ssl'"),
            r#"server.tls (given "ssl"): enter "starttls": Exchange Online has nothing else"#,
        ),
        (
            server("minimum_tls = 1.1"),
            r#"server.minimum_tls (given "1.1"): enter 1.2 or 1.3: older versions are not safe (RFC 8996), and Exchange Online refuses them"#,
        ),
        (
            server("cloud = 'germany'\nhost = 'smtp.office365.us'"),
            r#"server.cloud (given "germany"): enter "public" or "us-government" or "us-government-dod" or "china""#,
        ),
        (server("host = 5"), "server.host: enter the server's name: this must be a text, not a number"),
        (
            server("max_connections = 4294967296"),
            r#"server.max_connections (given "4294967296"): enter a number from 1 to 4294967295"#,
        ),
        (
            server("max_connections = 0"),
            r#"server.max_connections (given "0"): enter a number from 1 to 4294967295"#,
        ),
        (
            server("trust_platform_roots = 'maybe'"),
            r#"server.trust_platform_roots (given "maybe"): enter true or false"#,
        ),
        (
            server("timeouts = { connect = 'soon' }"),
            r#"server.timeouts.connect (given "soon"): enter a time such as "30s", "5m" or "1h 30m", or whole seconds"#,
        ),
        (
            server("timeouts = { conect = '5s' }"),
            "server.timeouts.conect: remove this unknown key, or did you mean connect?",
        ),
        (server("timeouts = 30"), "server.timeouts: enter a table of keys, not a number"),
    ] {
        assert_eq!(problems(&text), [line], "{text}");
    }
}

#[test]
fn profile_and_cloud_and_method_must_fit_together() {
    let server = |key: &str| format!("{SERVER}{key}\n{OAUTH}");
    for (text, line) in [
        (
            server("profile = 'hotmail'"),
            r#"server.profile (given "hotmail"): enter "office365" or "outlook.com" or "high-volume-email" or "azure-communication-services" or "gmail" or "yahoo" or "aol" or "custom""#,
        ),
        (
            server("profile = 'custom'\nhost = 'mail.contoso.com'\ncloud = 'public'"),
            r#"server.cloud: remove it, or set profile to "office365": other servers belong to no cloud of Microsoft's"#,
        ),
        (
            server("profile = 'custom'\nhost = 'localhost'\ntls = 'none'"),
            r#"server.tls (given "none"): enter starttls or implicit: an access token is never sent without encryption (RFC 6750 §5.3)"#,
        ),
    ] {
        assert_eq!(problems(&text), [line], "{text}");
    }
}

#[test]
fn what_copying_brought_along_is_named_wherever_it_was_pasted() {
    let server = |key: &str, value: &str| {
        format!("[server]\n{key} = \"{value}\"\nusername = 'a@contoso.com'\n{OAUTH}")
    };
    let username =
        |value: &str| format!("[server]\nusername = \"{value}\"\nsender = 'a@contoso.com'\n{OAUTH}");
    let oauth = |key: &str, value: &str| {
        let keys = [
            ("tenant", "contoso.com"),
            ("client_id", "8f2c1d1e-0000-4000-8000-000000000001"),
            ("client_secret", "x"),
        ];
        let lines =
            keys.map(|(name, usual)| format!("{name} = \"{}\"\n", if name == key { value } else { usual }));
        format!("{SERVER}[authentication]\n{}", lines.concat())
    };
    let guid = "8f2c1d1e-0000-4000-8000-000000000001";
    let gmail = |text: String| {
        text.replace("[server]", "[server]\nprofile = 'gmail'").replace("tenant = \"contoso.com\"\n", "")
    };
    for (text, field) in [
        (server("host", "smtp.office365.com_"), "server.host"),
        (server("sender", "Alerts <a@contoso.com>_"), "server.sender"),
        (server("test_recipient", "a@contoso.com_"), "server.test_recipient"),
        (server("hello_name", "app.contoso.com_"), "server.hello_name"),
        (username("svc@contoso.com_"), "server.username"),
        (oauth("tenant", "contoso.com_"), "authentication.tenant"),
        (oauth("client_id", &format!("{guid}_")), "authentication.client_id"),
        (oauth("client_secret", &format!("{SECRET}_")), "authentication.client_secret"),
        (gmail(oauth("client_id", "1234.apps.googleusercontent.com_")), "authentication.client_id"),
    ] {
        for (pasted, mend) in [
            (" ", "remove the blank at its end"),
            ("\\n", "remove the line break at its end"),
            ("\\u00A0", "remove the invisible character U+00A0 at its end"),
            ("\\u200B", "remove the invisible character U+200B at its end"),
        ] {
            let found = problems(&text.replace("_\"", &format!("{pasted}\"")));
            let [line] = found.as_slice() else { panic!("{found:?}") };
            assert!(line.starts_with(field) && line.contains(mend), "{pasted:?}: {line}");
        }
    }
    let gmail = username("svc@gmail.com ").replace("[server]", "[server]\nprofile = 'gmail'");
    let gmail = gmail.replace("tenant = 'contoso.onmicrosoft.com'\n", "");
    assert_eq!(
        problems(&gmail),
        [r#"server.username (given "svc@gmail.com "): remove the blank at its end"#]
    );
}

#[test]
fn an_empty_value_of_an_optional_key_says_that_it_can_be_left_out() {
    for key in [
        "host",
        "port",
        "tls",
        "minimum_tls",
        "sender",
        "test_recipient",
        "hello_name",
        "max_connections",
        "chunking",
        "initial_response",
        "refresh_margin",
        "limits.messages_per_minute",
        "reuse.idle",
        "timeouts.connect",
        "root_certificates",
        "trust_platform_roots",
        "cloud",
    ] {
        for value in ["", " "] {
            let found = problems(&format!("{SERVER}{key} = '{value}'\n{OAUTH}"));
            let [line] = found.as_slice() else { panic!("{key}: {found:?}") };
            assert!(line.starts_with(&format!("server.{key} (given \"{value}\"): enter ")), "{line}");
            assert!(line.ends_with(", or leave the key out: it is empty"), "{line}");
        }
    }
    for key in [
        "method",
        "grant",
        "authority",
        "client_secret",
        "federated_token_file",
        "token_store",
        #[cfg(feature = "redis")]
        "token_store = { redis = 'redis://localhost', key = '' } #",
    ] {
        let found = problems(&format!("{SERVER}{OAUTH}{key} = ''\n"));
        let [line] = found.as_slice() else { panic!("{key}: {found:?}") };
        assert!(line.ends_with(", or leave the key out: it is empty"), "{line}");
    }
    for (text, line) in [
        (
            format!("[server]\nusername = ''\n{OAUTH}"),
            "server.username: enter the name that signs in, such as svc-mail@contoso.com",
        ),
        (
            format!("{SERVER}profile = 'custom'\nhost = ''\n{OAUTH}"),
            "server.host: enter the mail server's name, such as smtp.office365.com",
        ),
    ] {
        assert_eq!(problems(&text), [line]);
    }
}

#[test]
fn who_enters_tls_or_ssl_reads_what_there_is_to_choose() {
    let any = r#"enter "starttls" (port 587, where the connection is encrypted before anybody signs in) or "implicit" (port 465, where it is encrypted from the start), or "none" for a server on this machine"#;
    for given in ["TLS", "ssl", "STARTTLS/TLS"] {
        for (profile, mend) in [
            ("profile = 'office365'", r#"enter "starttls": Exchange Online has nothing else"#),
            ("", r#"enter "starttls": Exchange Online has nothing else"#),
            ("profile = 'outlook.com'", r#"enter "starttls": Outlook.com has nothing else"#),
            ("profile = 'custom'\nhost = 'mail.contoso.com'", any),
        ] {
            let found = problems(&format!("{SERVER}{profile}\ntls = '{given}'\n{OAUTH}"));
            assert_eq!(found, [format!("server.tls (given {given:?}): {mend}")]);
        }
    }
    let found = problems(&format!("{SERVER}tls = 'starttls '\n{OAUTH}"));
    assert_eq!(found, [r#"server.tls (given "starttls "): remove the blank at its end"#]);
    let found = problems(&format!("{SERVER}profile = 'gmai'\ntls = 'ssl'\n{OAUTH}"));
    assert_eq!(found.last().unwrap(), &format!("server.tls (given \"ssl\"): {any}"));
}

#[test]
fn a_problem_shows_what_was_entered() {
    let found = problems(&format!("{SERVER}tls = 'Implicit'\nport = ' 0465 '\n{OAUTH}"));
    assert!(
        found[0].starts_with(r#"server.port (given " 0465 ")"#) && found[1].contains(r#"(given "Implicit")"#),
        "{found:?}"
    );
    for (key, entered) in [
        ("timeouts.connect", "'0s'"),
        ("timeouts.connect", "'0'"),
        ("timeouts.connect", "0"),
        ("timeouts.total", "'999999999h'"),
        ("timeouts.total", "' 90000 sec'"),
        ("reuse.idle", "'1500m'"),
        ("refresh_margin", "'60 minutes'"),
        ("refresh_margin", "3600"),
        ("timeouts.tls", "'1h1h1h 3s'"),
        ("timeouts.tls", "'3s 1h'"),
    ] {
        let found = problems(&format!("{SERVER}{key} = {entered}\n{OAUTH}"));
        let shown = format!("server.{key} (given \"{}\"): enter ", entered.trim_matches('\''));
        assert!(found.iter().any(|line| line.starts_with(&shown)), "{shown}: {found:?}");
        let error =
            toml::from_str::<Office365Profile>(&format!("{key} = {entered}")).unwrap_err().to_string();
        assert!(error.contains(shown.trim_start_matches("server.")), "{error}");
        let error =
            toml::from_str::<MailServerConfig>(&format!("{key} = {entered}\nport = 587")).unwrap_err();
        assert!(error.to_string().contains(shown.trim_start_matches("server.")), "{error}");
    }
}

#[test]
fn a_password_may_begin_and_end_with_a_blank() {
    resolve(&format!("{SERVER}[authentication]\nmethod = 'basic'\npassword = ' x '\n"));
}

#[test]
fn each_mistake_in_authentication_is_explained_under_its_path() {
    let oauth = |key: &str| format!("{SERVER}{OAUTH}{key}\n");
    let basic = |key: &str| format!("{SERVER}[authentication]\nmethod = 'basic'\n{key}\n");
    for (text, line) in [
        (SERVER.to_owned(), "authentication: add this table of settings"),
        (OAUTH.to_owned(), "server: add this table of settings"),
        (
            oauth("method = 'kerberos'"),
            r#"authentication.method (given "kerberos"): enter "oauth" or "basic""#,
        ),
        (
            oauth("password = 's3cr3t~Q-geheim'"),
            r#"authentication.password: remove it, or set method to "basic": OAuth has no password"#,
        ),
        (
            oauth("cloud = 'public'"),
            "authentication.cloud: set cloud in server: sign-in and mail server belong to the same cloud",
        ),
        (
            oauth("client_secret_expires = 2027-06-30"),
            "authentication.client_secret_expires: remove it, or enter client_secret: there is no secret that could expire",
        ),
        (
            oauth("client_secret = 'x'\nclient_secret_expires = '30.6.2027'"),
            r#"authentication.client_secret_expires (given "30.6.2027"): enter the day as the portal shows it, in the form 2027-06-30"#,
        ),
        (
            oauth("client_secret = 'x'\nclient_secret_expires = 's3cr3t~Q-geheim'"),
            "authentication.client_secret_expires: enter the day as the portal shows it, in the form 2027-06-30",
        ),
        (
            oauth("client_secret = ' x'"),
            "authentication.client_secret: remove the blank at its start, or copy the secret again",
        ),
        (
            oauth("").replace("8f2c1d1e-", "my app "),
            "authentication.client_id: enter the application (client) id of the app registration, a GUID",
        ),
        (
            oauth("authority = 'http://login.contoso.com'"),
            r#"authentication.authority (given "http://login.contoso.com"): enter an https:// URL: secrets are sent there"#,
        ),
        (
            oauth("authority = 'https://u:s3cr3t~Q-geheim@login.contoso.com'"),
            "authentication.authority: enter the URL without user name and password",
        ),
        (
            oauth("token_store = ''"),
            "authentication.token_store: enter the path of the file that keeps the refresh token, or leave the key out: it is empty",
        ),
        (
            oauth("grant = 'password'"),
            r#"authentication.grant (given "password"): enter "refresh_token" or "client_credentials""#,
        ),
        (
            oauth("grant = 'client_credentials'"),
            "authentication.client_secret: enter the app's client secret, client_certificate or federated_token_file: nobody else proves who signs in",
        ),
        (
            oauth("grant = 'client_credentials'\nclient_secret = 'x'\ntoken_store = 'token.json'"),
            "authentication.token_store: remove it: an app that signs in as itself keeps no token",
        ),
        (
            basic("password = 'x'\ngrant = 'client_credentials'"),
            r#"authentication.grant: remove it, or set method to "oauth": Basic has only a password"#,
        ),
        (basic(""), "authentication.password: enter the password of the user who signs in"),
        (
            basic("password = 'x'\ntenant = 'contoso'"),
            r#"authentication.tenant: remove it, or set method to "oauth": Basic has only a password"#,
        ),
    ] {
        assert_eq!(problems(&text), [line], "{text}");
    }
}

#[test]
fn all_problems_of_all_tables_come_at_once() {
    let text = format!(
        "[server]\nport = 25\nsender = \"A\\r\\nB <a@contoso.com>\"\n[authentication]\ntenant = 'https://x/'\nclient_secret = {{ env = '{SECRET}' }}\n"
    );
    let error = settings(&text).resolve().unwrap_err();
    let fields: Vec<_> = error.problems().iter().map(ConfigProblem::field).collect();
    assert_eq!(
        fields,
        [
            "server.port",
            "server.username",
            "server.sender",
            "authentication.tenant",
            "authentication.client_id",
            "authentication.client_secret"
        ]
    );
    problems(&text);
    let of_server = settings(&text).server().unwrap_err();
    assert_eq!(of_server.problems(), &error.problems()[..3]);
}

#[test]
fn root_certificates_are_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{SERVER}root_certificates = 'ca.pem'\ntrust_platform_roots = false\n{OAUTH}");
    let error = settings(&text).relative_to(directory.path()).resolve().unwrap_err();
    assert_eq!(error.problems()[0].field(), "server.root_certificates");
    assert_eq!(error.problems()[0].given(), Some("ca.pem"));
    assert_eq!(error.problems().len(), 1, "{error}");

    let authority = rcgen::generate_simple_self_signed(["ca.contoso.com".to_owned()]).unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.cert.pem()).unwrap();
    let server = settings(&text).relative_to(directory.path()).server().unwrap();
    assert!(format!("{:?}", server.tls_settings()).contains("1 certificates"));
}

#[test]
fn a_config_alone_deserialises_with_every_problem() {
    let config: MailServerConfig =
        toml::from_str("host = 'mail.contoso.com'\nusername = 'svc-mail@contoso.com'").unwrap();
    assert_eq!(config.host(), "mail.contoso.com");
    let error =
        serde_json::from_str::<Office365Profile>(r#"{"usrname": "x", "port": 25}"#).unwrap_err().to_string();
    for line in [
        "3 problems in the mail settings",
        "usrname: remove this unknown key, or did you mean username?",
        "port (given \"25\"): enter 587: ",
        "username: enter the name that signs in, such as svc-mail@contoso.com",
    ] {
        assert!(error.contains(line), "{error}");
    }
    let error = serde_json::from_str::<Settings>(&format!("{SECRET:?}")).unwrap_err().to_string();
    assert!(error.starts_with("the settings must be a table of keys, not a text"), "{error}");
}

#[test]
fn a_secret_among_the_keys_of_a_config_is_not_quoted() {
    let text =
        format!("client_secret = '{SECRET}'\nhost = 'mail.contoso.com'\nusername = 'svc-mail@contoso.com'");
    let error = toml::from_str::<MailServerConfig>(&text).unwrap_err();
    assert!(error.to_string().contains("client_secret: remove this unknown key"), "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
}

#[tokio::test]
async fn an_app_that_signs_in_as_itself_sends_by_settings_alone() {
    let tenant = FakeMicrosoft365::start().await;
    let directory = tempfile::tempdir().unwrap();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let tokens = directory.path().join("token.json");
    std::fs::remove_file(&tokens).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("token_store"))
        .fold(String::new(), |text, line| text + line + "\n")
        + "grant = 'client_credentials'\n";
    let mailer = Mailer::from_settings(&settings(&text).relative_to(directory.path())).unwrap();
    mailer.send_test().await.unwrap();
    assert_eq!(tenant.exchange().message_count(), 1);
    assert_eq!(tenant.entra().received()[0].parameter("grant_type"), "client_credentials");
    assert!(!tokens.exists(), "an app that signs in as itself keeps no token");
}

#[test]
fn an_app_signs_in_as_itself_to_one_tenant() {
    let text = format!(
        "{SERVER}[authentication]\ntenant = 'organizations'\nclient_id = '8f2c1d1e-0000-4000-8000-000000000001'\nclient_secret = '{SECRET}'\ngrant = 'client_credentials'\n"
    );
    let error = Mailer::from_settings(&settings(&text)).unwrap_err();
    assert_eq!(
        error.to_string().lines().nth(1).unwrap().trim_start(),
        r#"authentication.tenant (given "organizations"): enter the tenant's id or domain: an app that signs in as itself does so in one tenant"#
    );
}
