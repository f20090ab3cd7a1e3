//! What somebody sees who signs in with the example and settings of another authorization server than Entra ID.
//!
//! `cargo test` builds the examples first; to run this file alone, `cargo build --examples` before it.
#![cfg(unix)]

#[path = "support/program.rs"]
mod program;

use std::process::Stdio;
use std::time::Duration;

use program::binary;
use smtp_oauth::testing::FakeEntra;
use smtp_oauth::{FileStore, TokenStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use url::Url;

/// The program, and what it says.
struct SignIn {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: String,
}

impl SignIn {
    fn start(directory: &TempDir, settings: &str, way: &str) -> Self {
        let path = directory.path().join("mail.toml");
        std::fs::write(&path, settings).unwrap();
        let mut child = Command::new(binary("sign_in"))
            .arg(way)
            .env("SMTP_OAUTH_SETTINGS", path)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, said: String::new() }
    }

    /// Waits for a line with `words`.
    async fn hear(&mut self, words: &str) -> String {
        let hearing = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said += &line;
                self.said.push('\n');
                if line.contains(words) {
                    return line;
                }
            }
            panic!("`{words}` is missing in\n{}", self.said);
        };
        tokio::time::timeout(Duration::from_secs(60), hearing).await.expect("a word from the program")
    }

    async fn end(mut self) -> (bool, String) {
        self.hear("The tokens are in").await;
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await.unwrap().unwrap();
        (status.success(), self.said)
    }
}

/// Settings in which a fake of Entra ID is a server like any other.
fn settings(entra: &FakeEntra) -> String {
    let endpoint = |name: &str| entra.token_endpoint().join(name).unwrap();
    format!(
        "[server]\nprofile = 'custom'\nhost = 'mail.contoso.com'\nusername = '{}'\n[authentication]\n\
         token_endpoint = '{}'\nauthorization_endpoint = '{}'\ndevice_authorization_endpoint = '{}'\n\
         scope = 'https://outlook.office.com/SMTP.Send offline_access openid'\nclient_id = '{}'\n",
        entra.account(),
        entra.token_endpoint(),
        endpoint("authorize"),
        endpoint("devicecode"),
        entra.client_id(),
    )
}

async fn assert_signed_in(sign_in: SignIn, entra: &FakeEntra, directory: &TempDir) {
    let (is_success, said) = sign_in.end().await;
    assert!(is_success && said.contains(&format!("Signed in as {}.", entra.account())), "{said}");
    let kept = FileStore::open(directory.path().join("token.json")).unwrap().load().await.unwrap();
    assert_eq!(kept.expect("a sign-in").account(), Some(entra.account().as_str()));
}

#[tokio::test]
async fn a_browser_leads_to_a_token_file_at_any_server() {
    let (entra, directory) =
        (FakeEntra::builder().public_client().start().await, tempfile::tempdir().unwrap());
    let mut sign_in = SignIn::start(&directory, &settings(&entra), "--loopback");
    let page = sign_in.hear("/authorize?").await.trim().parse().unwrap();
    entra.browse(&entra.approve(&page)).await.unwrap();
    assert_signed_in(sign_in, &entra, &directory).await;
}

#[tokio::test]
async fn a_code_leads_to_a_token_file_at_any_server() {
    let entra = FakeEntra::builder().public_client().device_interval(Duration::from_secs(1)).start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut sign_in = SignIn::start(&directory, &settings(&entra), "--device");
    let message = sign_in.hear("enter the code").await;
    let code = message.split("enter the code ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(entra.approve_device(code), "{message}");
    assert_signed_in(sign_in, &entra, &directory).await;
}

#[tokio::test]
async fn google_is_asked_for_a_refresh_token_and_the_name_of_the_account() {
    let directory = tempfile::tempdir().unwrap();
    let settings = "[server]\nprofile = 'gmail'\nusername = 'svc.mail@gmail.com'\n[authentication]\n\
                    client_id = '1234.apps.googleusercontent.com'\nclient_secret = 'made-up'\n";
    let mut sign_in = SignIn::start(&directory, settings, "--loopback");
    let page: Url =
        sign_in.hear("https://accounts.google.com/o/oauth2/v2/auth?").await.trim().parse().unwrap();
    for (name, expected) in [
        ("scope", "https://mail.google.com/ openid email"),
        ("access_type", "offline"),
        ("prompt", "consent"),
        ("login_hint", "svc.mail@gmail.com"),
        ("client_id", "1234.apps.googleusercontent.com"),
    ] {
        let (_, value) = page.query_pairs().find(|(key, _)| key == name).expect(name);
        assert_eq!(value, expected, "{page}");
    }
    sign_in.child.kill().await.unwrap();
}
