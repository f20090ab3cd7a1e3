//! The commands as people type them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outbox::store::{Missing, Outbox};
use smtp_oauth::Clock;
use smtp_oauth::testing::FakeMicrosoft365;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{READER, new, url};

const SENDER: &str = "svc-mail@contoso.com";

/// A directory with an outbox, or with none yet.
pub struct Place(pub TempDir);

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.args(arguments).current_dir(self.path()).kill_on_drop(true);
        command
            .env_remove("SMTP_OAUTH_SETTINGS")
            .env_remove("RUST_LOG")
            .env("OUTBOX_DATABASE", url(self.path()));
        command
    }

    async fn say(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that refuses its arguments reads nothing.
        _ = stdin.write_all(input).await;
        drop(stdin);
        let output =
            tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn refused(&self, arguments: &[&str], input: &str, why: &str) {
        let Said { code, out, err } = self.say(arguments, input.as_bytes()).await;
        assert!(code == 2 && err.contains(why) && out.is_empty(), "{arguments:?}: {code} {out} {err}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_with_code_2_and_leaves_nothing_behind() {
    let place = Place::new();
    let message = "From: svc-mail@contoso.com\r\n\r\nHello!\r\n";
    let to = ["enqueue", "--from", SENDER, "--to", READER];
    for (input, why) in [
        ("", "it is empty"),
        ("Hello!\n", "its first lines are no header fields"),
        ("From: a@b.c\nHello!\n", "its first lines are no header fields"),
        (" From: a@b.c\n\nHello!\n", "its first lines are no header fields"),
        ("Subject: Hello\n\nFrom: a@b.c\n", "it has no From field"),
        ("From me Mon Nov 23\nFrom: a@b.c\n\nHello!\n", "remove that line"),
        ("From: a@b.c\n\nHel\0lo!\n", "it contains a NUL"),
    ] {
        place.refused(&to, input, why).await;
    }
    for (arguments, why) in [
        (&["enqueue", "--from", SENDER][..], "--to"),
        (&["enqueue", "--from", "nobody", "--to", READER], "--from \"nobody\" is no address"),
        (&["enqueue", "--from", SENDER, "--to", "a@b.c\r\nBcc: x@y.z"], "--to contains a line break"),
        (&["enqueue", "--from", SENDER, "--to", READER, "--subject", "Hello"], "--text"),
        (&["enqueue", "--from", SENDER, "--to", READER, "--key", ""], "--key"),
        (
            &["enqueue", "--from", SENDER, "--to", READER, "--subject", "a\nb", "--text", ""],
            "--subject contains",
        ),
        (
            &["--database", "mysql://user:hunter2@host/", "enqueue", "--from", SENDER, "--to", READER],
            "named by a URL",
        ),
        (
            &["--database", "sqlite::memory:", "enqueue", "--from", SENDER, "--to", READER],
            "a database in memory keeps nothing",
        ),
        (&["--database", "postgres://u:hunter2@@@:x/db", "status"], "is no address of a database"),
        (&["status"], "there is no outbox that can be opened at sqlite:"),
        (&["resume"], "there is no outbox"),
        (&["resolve", "01M", "--drop"], "there is no outbox"),
        (&["resolve", "01M"], "--resend"),
        (&["resolve", "01M", "--drop", "--resend"], "cannot be used with"),
        (&["work"], "--settings"),
        (&["work", "--settings", "mail.toml", "--at-once", "0"], "--at-once"),
        (&["work", "--settings", "mail.toml", "--lease", "0"], "--lease"),
        (&["--demo", "status"], "--demo stands alone"),
        (&["send"], "unrecognized subcommand"),
        (&[], "Usage"),
    ] {
        place.refused(arguments, message, why).await;
    }
    assert!(
        !place
            .say(&["--database", "mysql://user:hunter2@host/", "resume"], b"")
            .await
            .err
            .contains("hunter2")
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "no database was made");
}

#[cfg(unix)]
#[tokio::test]
async fn messages_are_in_files_that_their_owner_alone_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let enqueue = ["enqueue", "--from", SENDER, "--to", READER, "--subject", "Hello", "--text", "private"];
    assert_eq!(place.say(&enqueue, b"").await.code, 0);
    let outbox = Outbox::open(&url(place.path()), Missing::Refuse, Clock::system()).await.unwrap();
    outbox.resume().await.unwrap();
    for entry in std::fs::read_dir(place.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn somebody_elses_database_is_left_alone() {
    let place = Place::new();
    std::fs::write(place.path().join("outbox.db"), "").unwrap();
    for command in [&["status"][..], &["resume"], &["resolve", "01M", "--drop"]] {
        place.refused(command, "", "there is no outbox in this database").await;
    }
    assert_eq!(std::fs::read(place.path().join("outbox.db")).unwrap(), b"");
    std::fs::write(place.path().join("outbox.db"), "no database\n".repeat(100)).unwrap();
    place.refused(&["status"], "", "there is no outbox that can be opened").await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_listed_before_anything_is_sent() {
    let place = Place::new();
    let settings = place.path().join("mail.toml");
    let settings = settings.to_str().unwrap();
    let work = ["work", "--settings", settings];
    place.refused(&work, "", "cannot read").await;
    std::fs::write(settings, "password = \"hunter2").unwrap();
    place.refused(&work, "", "is not a TOML file of settings").await;
    assert!(!place.say(&work, b"").await.err.contains("hunter2"));
    std::fs::write(settings, "[server]\nport = \"x\"\n[authentication]\nmethod = \"basic\"\n").unwrap();
    for problem in ["server.username", "server.port", "authentication.password"] {
        place.refused(&work, "", problem).await;
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "no database was made");
    let good = "[server]\nusername = \"svc-mail@contoso.com\"\n[authentication]\nmethod = \"basic\"\npassword = \"x\"\n";
    std::fs::write(settings, good).unwrap();
    place
        .refused(
            &["work", "--settings", settings, "--at-once", "4"],
            "",
            "there may be 3 connections at most",
        )
        .await;
}

#[tokio::test]
async fn a_message_is_taken_over_once_and_can_be_dropped() {
    let place = Place::new();
    let message = b"From: svc-mail@contoso.com\nSubject: Hello\n\nHello!\n";
    let enqueue = ["enqueue", "--from", SENDER, "--to", READER, "--key", "order-1"];
    let first = place.say(&enqueue, message).await;
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    let id = first.out.split(' ').next().unwrap();
    assert_eq!(first.out, format!("{id} taken over\n"));
    let again = place.say(&enqueue, message).await;
    assert_eq!((again.code, again.out), (0, format!("{id} was taken over before, and is waiting\n")));
    place
        .refused(&enqueue, "From: svc-mail@contoso.com\n\nAnother\n", "another message has this key already")
        .await;

    let status = place.say(&["status", "--json"], b"").await.out;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["counts"], serde_json::json!([["waiting", 1]]));
    assert_eq!(place.say(&["resume"], b"").await.out, "was not paused\n");
    place.refused(&["resolve", "01M", "--drop"], "", "there is no message 01M").await;
    place.refused(&["resolve", id, "--resend"], "", "is waiting: there is nothing to decide about it").await;
    assert_eq!(place.say(&["resolve", id, "--drop"], b"").await.out, format!("{id} is dropped\n"));
    assert_eq!(place.say(&["status"], b"").await.out, "1 dropped; workers: 0\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_message_without_end_is_refused_before_it_fills_the_memory() {
    let place = Place::new();
    let mut command = place.command(&["enqueue", "--from", SENDER, "--to", READER]);
    let endless = std::fs::File::open("/dev/zero").unwrap();
    let output = command.stdin(endless).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("larger than 150 MiB"), "{said}");
}

#[tokio::test]
async fn what_was_done_is_no_failure_because_nobody_reads_about_it() {
    let place = Place::new();
    let enqueue = ["enqueue", "--from", SENDER, "--to", READER, "--subject", "Hello", "--text", "Hello"];
    for arguments in [&enqueue[..], &["resume"], &["status"]] {
        let mut child = place.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().await.unwrap().code(), Some(0), "{arguments:?}");
    }
    let outbox = Outbox::open(&url(place.path()), Missing::Refuse, Clock::system()).await.unwrap();
    assert_eq!(outbox.status().await.unwrap().count("waiting"), 1);
}

#[tokio::test]
async fn the_demo_needs_no_account_and_ends_well() {
    for demo in ["demo", "--demo"] {
        let Said { code, out, err } = Place::new().say(&[demo], b"").await;
        assert!(code == 0 && out.ends_with("\nThe server received 5 messages.\n"), "{code} {out} {err}");
    }
}

#[tokio::test]
async fn a_worker_sends_ends_when_it_is_told_to_and_logs_no_content() {
    let place = Place::new();
    let tenant = FakeMicrosoft365::start().await;
    std::fs::write(place.path().join("mail.toml"), tenant.settings_toml(place.path()).await.unwrap())
        .unwrap();
    let outbox = Outbox::open(&url(place.path()), Missing::Create, Clock::system()).await.unwrap();
    let secrets = ["Subject-that-is-private", "Text-that-is-private"];
    let draft = outbox::compose::Draft::plain(SENDER, &[READER.to_owned()], secrets[0], secrets[1]).unwrap();
    let id = new(&outbox, &draft).await;
    let mut worker = place.command(&["work", "--settings", "mail.toml"]);
    let worker = worker.env("RUST_LOG", "trace").stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let pid = worker.id().unwrap().to_string();
    let end = async {
        tenant.exchange().wait_for_messages(1).await;
        Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    };
    let (output, ()) = tokio::join!(worker.wait_with_output(), async {
        tokio::time::timeout(Duration::from_secs(60), end).await.expect("a message arrives");
    });
    let output = output.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains(&id), "{log}");
    let body = String::from_utf8(tenant.exchange().messages()[0].body.clone()).unwrap();
    for secret in secrets {
        assert!(body.contains(secret) && !log.contains(secret), "{body} {log}");
    }
    let status = outbox.status().await.unwrap();
    assert_eq!((status.count("sent"), status.workers), (1, 0), "it has given its lease back");
}
