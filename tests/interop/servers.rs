//! Starts the servers of one test and stops them after it, through `servers.sh`.
//! Does not speak SMTP; what the servers are set up to do is in the script.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Maildir, Tokens};

/// An account that can sign in, by [`PASSWORD`] or by a token, and may send from every address but [`ASSISTANT`].
pub(crate) const BOSS: &str = "boss@example.test";
/// The password of [`BOSS`].
pub(crate) const PASSWORD: &str = "correct horse";
/// Another account, the only one that may send from its address: for anyone else each `RCPT` gets `553 5.7.1`.
pub(crate) const ASSISTANT: &str = "assistant@example.test";

/// One of the ports, which differ in what `EHLO` advertises only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Everything: PIPELINING, CHUNKING, SIZE, 8BITMIME, SMTPUTF8, DSN, ENHANCEDSTATUSCODES.
    Submission,
    /// The same without PIPELINING and CHUNKING.
    NoPipelining,
    /// The same without CHUNKING.
    NoChunking,
    /// CHUNKING and 8BITMIME at most, and OAUTHBEARER as the only mechanism.
    Minimal,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::NoPipelining => "no-pipelining",
            Self::NoChunking => "no-chunking",
            Self::Minimal => "minimal",
        }
    }
}

/// What the servers refuse to exceed.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Octets in a message, announced as SIZE. Default: 1 MiB.
    pub(crate) message_size: usize,
    /// Recipients in a transaction; from the next one on `RCPT` gets `452 4.5.3`. Default: 100.
    pub(crate) recipients: usize,
    /// Time without a command; then Postfix says `421 4.4.2` and closes. Default: 5 minutes.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_size: 1 << 20, recipients: 100, idle: Duration::from_secs(300) }
    }
}

/// A Postfix and a Dovecot of its own for one test; dropping it stops them and removes their files.
///
/// They go too when the test process is interrupted or killed: the script watches it.
#[derive(Debug)]
pub(crate) struct Servers {
    settings: HashMap<String, String>,
    tokens: Tokens,
    maildir: Maildir,
    directory: TempDir,
}

impl Servers {
    /// Starts both servers and waits until they answer, about two seconds; `None`, said once on the terminal, when interop
    /// tests were not asked for.
    ///
    /// Blocks: the servers and the introspection endpoint do not need the test's runtime.
    ///
    /// # Panics
    /// When the servers were asked for and do not start.
    pub(crate) fn start(limits: &Limits) -> Option<Self> {
        if std::env::var_os("SMTP_OAUTH_INTEROP").is_none_or(|value| value != "1") {
            say_skipped();
            return None;
        }
        let directory = TempDir::with_prefix("interop-").expect("temporary directory");
        let tokens = Tokens::listen();
        let output = script("start", directory.path())
            .env("INTROSPECTION_PORT", tokens.port().to_string())
            .env("MESSAGE_SIZE_LIMIT", limits.message_size.to_string())
            .env("RECIPIENT_LIMIT", limits.recipients.to_string())
            .env("IDLE_LIMIT", limits.idle.as_secs().to_string())
            .env("OWNER_PID", std::process::id().to_string())
            .output()
            .expect("servers.sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let settings = read_settings(&directory.path().join("env"));
        let maildir = Maildir::new(PathBuf::from(&settings["MAILDIR"]));
        Some(Self { settings, tokens, maildir, directory })
    }

    /// The port of a service on 127.0.0.1; the certificate is for `localhost`.
    pub(crate) fn port(&self, service: Service) -> u16 {
        let name = format!("{}_PORT", service.name().to_uppercase().replace('-', "_"));
        self.settings[&name].parse().expect("port")
    }

    /// The certificate of the authority that signed the servers', in PEM.
    pub(crate) fn ca_pem(&self) -> String {
        std::fs::read_to_string(&self.settings["CA"]).expect("CA certificate")
    }

    /// The tokens that the servers accept; none at first.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Where every message to example.test ends up.
    pub(crate) fn maildir(&self) -> &Maildir {
        &self.maildir
    }

    /// Waits until at least `count` sessions on a port are over, and returns what Postfix counted in each, such as
    /// `ehlo=2 starttls=1 auth=0/1 commands=3/4`: commands that were accepted, then all, where that is more.
    ///
    /// # Panics
    /// When they are not over after ten seconds.
    pub(crate) fn sessions(&self, service: Service, count: usize) -> Vec<String> {
        let process = format!("postfix/{}/smtpd[", service.name());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.log();
            // The script's own look at the port says nothing.
            let ended = log.lines().filter(|line| line.contains(&process) && line.contains(" ehlo="));
            let ended: Vec<_> =
                ended.filter_map(|line| line.split_once("[127.0.0.1] ")).map(|(_, it)| it.into()).collect();
            if ended.len() >= count {
                return ended;
            }
            assert!(Instant::now() < deadline, "{} of {count} sessions are over", ended.len());
            // The log is another program's, which tells nobody that it has written to it.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What Postfix and Dovecot have logged so far, for the text of a failed assertion.
    pub(crate) fn log(&self) -> String {
        ["POSTFIX_LOG", "DOVECOT_LOG"]
            .map(|name| std::fs::read(&self.settings[name]).unwrap_or_default())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .concat()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let stopped = script("stop", self.directory.path()).output();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        } else {
            let output = stopped.expect("servers.sh runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn script(subcommand: &str, directory: &Path) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/servers.sh"));
    command.arg(subcommand).arg(directory);
    command
}

fn read_settings(file: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(file).expect("settings of the servers");
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// The test harness hides what passing tests print, but not what is written to the stream itself.
fn say_skipped() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let text = "\ninterop tests SKIPPED: run `tests/interop/servers.sh install` once as root, then \
                    `SMTP_OAUTH_INTEROP=1 cargo test --test interop`\n";
        let _ = std::io::stderr().write_all(text.as_bytes());
    });
}
