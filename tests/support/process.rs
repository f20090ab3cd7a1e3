//! Runs a test of the same binary in a process of its own, so that several processes share one store.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

use std::process::Stdio;
use std::time::Duration;

use smtp_oauth::entra::{App, Tenant};
use smtp_oauth::testing::FakeEntra;
use smtp_oauth::{TokenCache, TokenStore};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use url::Url;

const MARK: &str = "child says: ";

/// A process that runs the test `child` of this binary.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one that works on `store`, an address of its kind, against `entra`.
    pub fn start(role: &str, store: &str, entra: &FakeEntra) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env("SMTP_OAUTH_CHILD", role)
            .env("SMTP_OAUTH_CHILD_STORE", store)
            .env("SMTP_OAUTH_CHILD_AUTHORITY", entra.authority().as_str())
            .env("SMTP_OAUTH_CHILD_CLIENT_ID", entra.client_id())
            .env("SMTP_OAUTH_CHILD_SECRET", entra.client_secret().unwrap())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next thing the process says.
    pub async fn hear(&mut self) -> String {
        let hearing = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some((_, said)) = line.split_once(MARK) {
                    return said.to_owned();
                }
            }
            panic!("the process ended without a word");
        };
        tokio::time::timeout(Duration::from_secs(60), hearing).await.expect("a word from the process")
    }

    /// Kills the process where it stands (SIGKILL).
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Returns what this process was started for; `None` in the parent.
pub fn role() -> Option<String> {
    std::env::var("SMTP_OAUTH_CHILD").ok()
}

/// Returns the address of the store to work on.
pub fn store_address() -> String {
    std::env::var("SMTP_OAUTH_CHILD_STORE").unwrap()
}

/// Returns what makes tokens of `store` at the parent's fake.
pub fn cache(store: impl TokenStore + 'static) -> TokenCache {
    let var = |name: &str| std::env::var(format!("SMTP_OAUTH_CHILD_{name}")).unwrap();
    App::builder(Tenant::parse("contoso.onmicrosoft.com").unwrap(), var("CLIENT_ID"))
        .client_secret(var("SECRET"))
        .authority(Url::parse(&var("AUTHORITY")).unwrap())
        .build()
        .unwrap()
        .refresh_token(store)
}

/// Tells the parent something.
pub fn say(words: &str) {
    println!("{MARK}{words}");
}

/// Waits until `entra` has had `count` requests.
pub async fn requests(entra: &FakeEntra, count: usize) {
    tokio::time::timeout(Duration::from_secs(60), entra.wait_for_requests(count)).await.expect("a request");
}
