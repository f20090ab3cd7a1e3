//! Settings choose what proves the app: client secret, certificate or federated token, one of them.

use std::path::Path;

use smtp_oauth::testing::{AppCertificate, FakeEntra, FakeMicrosoft365};
use smtp_oauth::{Mailer, Settings, TokenProvider, TokenRequest};
use tempfile::TempDir;
use time::macros::datetime;

const SECRET: &str = "s3cr3t~Q-geheim";

fn settings(authority: &str, credential: &str) -> Settings {
    let text = format!(
        "[server]\nusername = 'svc-mail@contoso.com'\n[authentication]\ngrant = 'client_credentials'\n\
         tenant = 'contoso.onmicrosoft.com'\nclient_id = '6731de76-14a6-49ae-97bc-6eba6914391e'\n\
         authority = '{authority}'\n{credential}\n"
    );
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the lines of the problems, and checks that no secret is in anything that can be printed.
#[track_caller]
fn problems(directory: &Path, credential: &str) -> Vec<String> {
    let settings = settings("https://login.contoso.com", credential).relative_to(directory);
    let error = settings.resolve().expect_err(credential);
    let printed = format!("{error}\n{error:?}\n{settings:?}");
    assert!(!printed.contains(SECRET), "{printed}");
    error.to_string().lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
}

fn pair() -> &'static AppCertificate {
    static PAIR: std::sync::OnceLock<AppCertificate> = std::sync::OnceLock::new();
    PAIR.get_or_init(|| AppCertificate::new(datetime!(2027-03-01 12:00 UTC)))
}

/// A directory with a certificate, its key, and what is easily taken for them.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(directory.path().join(name), content).unwrap();
    write("app.crt", pair().certificate_pem().as_bytes());
    write("app.key", pair().key_pem().as_bytes());
    write("both.pem", format!("{}{}", pair().certificate_pem(), pair().key_pem()).as_bytes());
    write("other.key", AppCertificate::new(datetime!(2027-03-01 12:00 UTC)).key_pem().as_bytes());
    write("app.pfx", &[0x30, 0x82, 0xff, 0x00]);
    write("text", SECRET.as_bytes());
    write("token", b"e30.e30.federated");
    directory
}

/// Gets a token where `entra` is, and returns the parameter called `name` of the request.
async fn sent(entra: &FakeEntra, directory: &Path, credential: &str, name: &str) -> String {
    let resolved = settings(entra.authority().as_str(), credential).relative_to(directory).resolve().unwrap();
    assert!(!format!("{resolved:?}").contains("PRIVATE"));
    let app = resolved.app().unwrap().unwrap().build().unwrap();
    app.client_credentials().token(TokenRequest::new()).await.unwrap();
    entra.received().last().unwrap().parameter(name).to_owned()
}

#[tokio::test]
async fn a_certificate_signs_in_from_files_or_by_value() {
    let directory = directory();
    let entra = FakeEntra::builder().public_client().start().await;
    entra.register_certificate(pair().certificate_pem());
    let by_value = format!(
        "client_certificate = '''{}'''\nclient_key = '''{}'''",
        pair().certificate_pem(),
        pair().key_pem()
    );
    for credential in [
        "client_certificate = { file = 'app.crt' }\nclient_key = { file = 'app.key' }",
        "client_certificate = { file = 'both.pem' }\nclient_key = { file = 'both.pem' }",
        &by_value,
    ] {
        let assertion = sent(&entra, directory.path(), credential, "client_assertion").await;
        assert_eq!(assertion.split('.').count(), 3, "{credential}");
    }
}

#[tokio::test]
async fn a_federated_token_is_read_from_its_file() {
    let directory = directory();
    let entra = FakeEntra::builder().public_client().start().await;
    entra.trust_federated_token("e30.e30.federated");
    let credential = "federated_token_file = 'token'";
    assert_eq!(sent(&entra, directory.path(), credential, "client_assertion").await, "e30.e30.federated");
}

#[tokio::test]
async fn a_mailer_sends_by_certificate_with_settings_alone() {
    let tenant = FakeMicrosoft365::start().await;
    tenant.entra().register_certificate(pair().certificate_pem());
    let directory = directory();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("client_secret"))
        .fold(String::new(), |text, line| text + line + "\n")
        + "client_certificate = { file = 'app.crt' }\nclient_key = { file = 'app.key' }\n";
    let settings: Settings = toml::from_str(&text).unwrap();
    let mailer = Mailer::from_settings(&settings.relative_to(directory.path())).unwrap();
    mailer.send_test().await.unwrap();
    assert_eq!(tenant.exchange().message_count(), 1);
    assert!(!tenant.entra().received()[0].parameter("client_assertion").is_empty());
}

#[test]
fn a_variable_may_hold_the_path_of_the_federated_token() {
    // Cargo sets these variables for tests; setting one of our own would be unsafe.
    let directory = tempfile::tempdir().unwrap();
    let cargo = settings("https://login.contoso.com", "federated_token_file = { env = 'CARGO' }");
    let resolved = cargo.resolve().unwrap();
    assert!(format!("{resolved:?}").contains(env!("CARGO")), "{resolved:?}");
    assert_eq!(
        problems(directory.path(), "federated_token_file = { env = 'CARGO_MANIFEST_DIR' }"),
        [format!(
            "authentication.federated_token_file: enter the path of the file with the token, or {{ env = \
             \"AZURE_FEDERATED_TOKEN_FILE\" }}: {:?} is no file",
            env!("CARGO_MANIFEST_DIR")
        )]
    );
}

#[test]
fn each_mistake_in_a_credential_is_explained_under_its_path() {
    let directory = directory();
    let cert = "client_certificate = { file = 'app.crt' }\n";
    let pem = "enter the PEM text of an RSA key and its certificate: ";
    let path = |name: &str| format!("{name:?}");
    for (credential, line) in [
        (
            "client_secret = 'x'\nfederated_token_file = 'token'".to_owned(),
            "federated_token_file: remove it, or client_secret: an app proves who it is in one way".to_owned(),
        ),
        (
            format!("client_secret = 'x'\n{cert}client_key = {{ file = 'app.key' }}"),
            "client_certificate: remove it, or client_secret: an app proves who it is in one way".to_owned(),
        ),
        (cert.to_owned(), "client_key: enter the certificate's private key, as PEM".to_owned()),
        (
            "federated_token_file = 'token'\nclient_key = { file = 'app.key' }".to_owned(),
            "client_key: remove it, or enter client_certificate: the key alone does not say whose it is".to_owned(),
        ),
        (
            "federated_token_file = 'token'\nclient_secret_expires = 2027-06-30".to_owned(),
            "client_secret_expires: remove it, or enter client_secret: there is no secret that could expire".to_owned(),
        ),
        (
            format!("{cert}client_key = {{ file = 'other.key' }}"),
            format!("client_key: {pem}the private key does not belong to the certificate"),
        ),
        (
            format!("{cert}client_key = {{ file = 'app.pfx' }}"),
            format!(
                "client_key: this is not PEM but PKCS#12 or DER: run `openssl pkcs12 -in app.pfx -nodes -out \
                 app.pem` and give app.pem (file {})",
                path("app.pfx")
            ),
        ),
        (
            "client_certificate = { file = 'app.key' }\nclient_key = { file = 'app.key' }".to_owned(),
            format!(
                "client_certificate: {pem}there is no readable `BEGIN CERTIFICATE` block in the certificate's PEM text"
            ),
        ),
        (
            format!("{cert}client_key = '{SECRET}'"),
            "client_key: enter PEM text, or { file = \"path\" }: it has no line with BEGIN".to_owned(),
        ),
        (
            format!("{cert}client_key = {{ file = 'text' }}"),
            "client_key: enter PEM text, or { file = \"path\" }: it has no line with BEGIN (file \"text\")".to_owned(),
        ),
        (
            format!("{cert}client_key = {{ file = '-----BEGIN PRIVATE KEY----- {SECRET}' }}"),
            "client_key: enter the path of a file after file: this is none".to_owned(),
        ),
        (
            "federated_token_file = 'none'".to_owned(),
            "federated_token_file: make the file \"none\" readable: No such file or directory (os error 2)".to_owned(),
        ),
        (
            format!("federated_token_file = 'eyJhbGciOiJub25lIn0.{SECRET}.x'"),
            "federated_token_file: enter the path of the file with the token, or { env = \"AZURE_FEDERATED_TOKEN_FILE\" }".to_owned(),
        ),
        (
            "federated_token_file = ['token']".to_owned(),
            "federated_token_file: enter the path of the file with the token, or { env = \"AZURE_FEDERATED_TOKEN_FILE\" }, not a list".to_owned(),
        ),
    ] {
        assert_eq!(
            problems(directory.path(), &credential),
            [format!("authentication.{line}")],
            "{credential}"
        );
    }
}
