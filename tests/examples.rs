//! What somebody sees who runs the examples as programs, with a settings file that leads to the fakes.
//!
//! `cargo test` builds the examples first; to run this file alone, `cargo build --examples` before it.
#![cfg(unix)]

#[path = "support/closed_port.rs"]
mod closed_port;
#[path = "support/gate.rs"]
mod gate;
#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use closed_port::ClosedPort;
use gate::Gate;
use program::binary;
use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

const GONE: &str = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found";

/// The fakes, and a directory with the settings file.
struct Stage {
    tenant: FakeMicrosoft365,
    directory: TempDir,
}

/// What became of a program.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Stage {
    async fn start() -> Self {
        let stage = Self { tenant: FakeMicrosoft365::start().await, directory: tempfile::tempdir().unwrap() };
        let text = stage.tenant.settings_toml(stage.directory.path()).await.unwrap();
        // One connection: what the messages of a list meet is then known.
        stage.write("settings.toml", text.replace("[server]\n", "[server]\nmax_connections = 1\n"));
        stage
    }

    /// Leads the settings through a gate.
    async fn gate(&self, octets: usize) -> Gate {
        let gate = Gate::start(self.tenant.exchange().address(), octets).await;
        let port = format!("port = {}\n", self.tenant.exchange().port());
        self.edit_settings(|text| text.replace(&port, &format!("port = {}\n", gate.port())));
        gate
    }

    fn edit_settings(&self, edit: impl FnOnce(String) -> String) {
        self.write("settings.toml", edit(self.read("settings.toml")));
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }

    fn command(&self, example: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(example));
        command.args(arguments).env("SMTP_OAUTH_SETTINGS", self.path("settings.toml"));
        command.current_dir(self.directory.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, example: &str, arguments: &[&str], input: &str) -> End {
        let mut child = self.command(example, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _not_read = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        self.checked(End {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }

    /// No program prints a secret, whatever happens.
    fn checked(&self, end: End) -> End {
        let entra = self.tenant.entra();
        let issued = [entra.refresh_tokens(), entra.tokens().all(), self.tenant.exchange().tokens().all()];
        for secret in issued.concat().into_iter().chain(entra.client_secret()) {
            assert!(!end.stdout.contains(&secret) && !end.stderr.contains(&secret), "{end:?}");
        }
        end
    }

    async fn send(&self, arguments: &[&str]) -> End {
        self.run("send", arguments, "").await
    }

    /// Sends a letter to a list.
    async fn bulk(&self, list: &str) -> End {
        let arguments = ["--recipients", list, "--subject", "For {name}", "--text-file", "letter.txt"];
        self.run("bulk", &arguments, "").await
    }

    /// The addresses of all recipients of all messages, in order.
    fn received(&self) -> Vec<String> {
        let messages = self.tenant.exchange().take_messages();
        messages.iter().flat_map(|message| message.recipient_addresses()).map(str::to_owned).collect()
    }
}

#[track_caller]
fn assert_contains(text: &str, wanted: &[&str]) {
    for words in wanted {
        assert!(text.contains(words), "`{words}` is missing in\n{text}");
    }
}

#[track_caller]
fn assert_nothing_sent(stage: &Stage, end: &End, wanted: &[&str]) {
    assert_eq!(end.code, Some(2), "{end:?}");
    assert_contains(&end.stderr, wanted);
    assert_eq!((end.stdout.as_str(), stage.tenant.exchange().connections().total), ("", 0), "{end:?}");
}

#[tokio::test]
async fn send_builds_a_message_with_attachments_for_everybody() {
    let stage = Stage::start().await;
    stage.write("page.html", "<p>Hello</p>");
    stage.write("usage.csv", "disk,used\n/,93%\n");
    stage.write("dump.unknown", [0, 159, 146, 150]);
    let end = stage
        .send(&[
            "--to",
            "Reader <reader@example.com>",
            "--cc",
            "second@example.com",
            "--bcc",
            "hidden@example.com",
            "--subject",
            "Größe",
            "--text",
            "Hello",
            "--html-file",
            "page.html",
            "--attach",
            "usage.csv",
            "--attach",
            "dump.unknown",
            "--dsn",
            "failure,delay",
        ])
        .await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    assert_contains(
        &end.stdout,
        &[
            "accepted: reader@example.com\naccepted: second@example.com\naccepted: hidden@example.com\n",
            "250 2.0.0 OK",
        ],
    );
    let [message] = &stage.tenant.exchange().messages()[..] else { panic!("one message") };
    assert_eq!(message.from, stage.tenant.account());
    assert!(message.recipients.iter().all(|it| it.parameters == ["NOTIFY=FAILURE,DELAY"]), "{message:?}");
    let body = String::from_utf8(message.body.clone()).unwrap();
    assert_contains(
        &body,
        &[
            "From: \"Contoso alerts\" <svc-mail@contoso.com>\r\n",
            "To: Reader <reader@example.com>\r\n",
            "Cc: second@example.com\r\n",
            "multipart/mixed",
            "multipart/alternative",
            "<p>Hello</p>",
            "Content-Type: text/csv",
            "filename=\"usage.csv\"",
            "Content-Type: application/octet-stream",
        ],
    );
    assert!(!body.contains("hidden@example.com"), "{body}");
}

#[tokio::test]
async fn send_takes_a_message_from_standard_input_and_hides_bcc() {
    let stage = Stage::start().await;
    let input = "To: \"Doe, Jane\" <jane@example.com>,\n\tjoe@example.com\nBcc: hidden@example.com,\n one@example.com\n\
                 Subject: Disk\nCc: jane@example.com\n\nBcc: is text here\n.\n";
    let end =
        stage.run("send", &["-t", "--bcc", "auditor@example.com", "--from", "desk@contoso.com"], input).await;
    assert_eq!(end.code, Some(0), "{end:?}");
    let message = &stage.tenant.exchange().messages()[0];
    assert_eq!(message.from, "desk@contoso.com");
    assert_eq!(
        message.recipient_addresses(),
        [
            "auditor@example.com",
            "jane@example.com",
            "joe@example.com",
            "hidden@example.com",
            "one@example.com"
        ]
    );
    let body = String::from_utf8(message.body.clone()).unwrap();
    let rest = "To: \"Doe, Jane\" <jane@example.com>,\r\n\tjoe@example.com\r\nSubject: Disk\r\nCc: jane@example.com\r\n\
                \r\nBcc: is text here\r\n.\r\n";
    let added = body.strip_suffix(rest).unwrap_or_else(|| panic!("{body}"));
    assert!(added.starts_with("From: desk@contoso.com\r\nDate: "), "{added}");
}

#[tokio::test]
async fn send_leaves_a_complete_message_as_it_is() {
    let stage = Stage::start().await;
    let input = "From: desk@contoso.com\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\nTo: other@example.com\r\n\r\nHello\r\n";
    let end = stage.run("send", &["--to", "reader@example.com"], input).await;
    assert_eq!(end.code, Some(0), "{end:?}");
    let message = &stage.tenant.exchange().messages()[0];
    assert_eq!(message.recipient_addresses(), ["reader@example.com"], "headers count with -t only");
    assert_eq!(message.body, input.as_bytes());
}

#[tokio::test]
async fn send_says_who_was_refused_and_what_to_do() {
    let stage = Stage::start().await;
    stage.tenant.exchange().refuse_recipient("gone@example.com", GONE);
    stage.tenant.exchange().refuse_recipient("left@example.com", GONE);
    let recipients = ["--to", "gone@example.com", "--cc", "left@example.com", "--to", "reader@example.com"];
    let end = stage.send(&[&recipients[..], &["--text", "Hello"]].concat()).await;
    assert_eq!(end.code, Some(1), "{end:?}");
    let advice = "check the recipient's address, letter by letter";
    assert_eq!(end.stdout.matches(advice).count(), 1, "the same advice once: {end:?}");
    assert_contains(
        &end.stdout,
        &[
            "accepted: reader@example.com\n",
            "refused:  gone@example.com: 550 5.1.10",
            "refused:  left@example.com: 550 5.1.10",
            "To send it again to those only: --to gone@example.com --to left@example.com\n",
        ],
    );
    assert_eq!(stage.received(), ["reader@example.com"]);

    let all =
        ["--all-or-nothing", "--to", "gone@example.com", "--to", "reader@example.com", "--text", "Hello"];
    let end = stage.send(&all).await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(&end.stderr, &["refused:  gone@example.com: 550 5.1.10"]);
    assert_eq!(stage.received(), [""; 0]);
}

#[tokio::test]
async fn send_tells_a_queue_to_try_later_only_when_that_sends_to_nobody_twice() {
    let stage = Stage::start().await;
    let full = Fault::reply("452 4.2.2 Mailbox full").always().for_recipient("full@example.com");
    stage.tenant.exchange().inject(FaultPoint::Rcpt, full);
    let end = stage.send(&["--to", "full@example.com", "--text", "Hello"]).await;
    assert_eq!(end.code, Some(75), "{end:?}");
    assert_contains(
        &end.stderr,
        &["full@example.com: 452 4.2.2 Mailbox full (may be accepted later)", "may succeed later"],
    );
    let end =
        stage.send(&["--to", "full@example.com", "--to", "reader@example.com", "--text", "Hello"]).await;
    assert_eq!((end.code, stage.received()), (Some(1), vec!["reader@example.com".to_owned()]), "{end:?}");

    // Whether it was accepted is not known.
    stage.tenant.exchange().inject(FaultPoint::Body, Fault::Close);
    let end = stage.send(&["--to", "reader@example.com", "--text", "Hello"]).await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(&end.stderr, &["its acceptance is unknown"]);
}

#[tokio::test]
async fn send_says_who_must_do_what_when_nobody_has_signed_in() {
    let stage = Stage::start().await;
    fs::remove_file(stage.path("token.json")).unwrap();
    let end = stage.send(&["--to", "reader@example.com", "--text", "Hello"]).await;
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{end:?}");
    assert_contains(&end.stderr, &["failed: ", "sign in", "To be done by"]);
    assert_eq!(stage.received(), [""; 0]);
}

#[tokio::test]
async fn send_says_all_that_is_wrong_and_sends_nothing() {
    let stage = Stage::start().await;
    stage.edit_settings(|text| text.replace("tls = \"starttls\"", "tls = \"none\"\ncolour = \"red\""));
    let end = stage
        .send(&[
            "--to",
            "not an address",
            "--cc",
            "a@example.com\r\nBcc: x@example.com",
            "--subject",
            "two\nlines",
            "--text",
            "x",
            "--text-file",
            "missing.txt",
            "--attach",
            "absent.pdf",
            "--attach",
            ".",
            "--dsn",
            "often",
        ])
        .await;
    assert_nothing_sent(
        &stage,
        &end,
        &[
            "send: nothing was sent\n",
            "server.colour:",
            "--to: `not an address` is not an address",
            "--cc: `a@example.com\\r\\nBcc: x@example.com` is not an address",
            "--subject: must be one line",
            "choose one of --text and --text-file",
            "--text-file: cannot read missing.txt",
            "--attach: cannot read absent.pdf",
            "--attach: `.` is no name for a file",
            "--dsn: `often` is none of",
        ],
    );
}

#[tokio::test]
async fn send_refuses_input_that_is_no_message() {
    let stage = Stage::start().await;
    for (arguments, input, wanted) in [
        (&["--to", "a@example.com"][..], "Hello you\n", "does not begin with the headers of a message"),
        (&["--to", "a@example.com"], "", "does not begin with the headers of a message"),
        (&["-t"], "Subject: x\n\nHello\n", "the headers name no recipient"),
        (&["-t"], "To: nonsense here\n\nHello\n", "To: `nonsense here` is not an address"),
        (&[], "To: a@example.com\n\nHello\n", "no recipient: give --to, or -t"),
        (&["-t", "--text", "x", "--to", "a@example.com"], "", "-t: is for a message on standard input"),
        (&["--subject", "x"], "", "no recipient: give --to\n"),
        (&["--nonsense"], "", "unexpected argument '--nonsense'"),
    ] {
        let end = stage.run("send", arguments, input).await;
        assert_nothing_sent(&stage, &end, &[wanted]);
    }
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_not_quoted() {
    let stage = Stage::start().await;
    fs::write(stage.path("letter.txt"), "Hello").unwrap();
    let list = stage.write("list.txt", "reader@example.com\n");
    stage.edit_settings(|text| text.replace("client_secret = \"", "client_secret = \"\"hunter2"));
    for (example, arguments) in [
        ("send", &["--to", "a@example.com", "--text", "x"][..]),
        ("bulk", &["--recipients", &list, "--text-file", "letter.txt", "--subject", "x"]),
        ("blocking", &[]),
        ("custom_provider", &["--token-file", "token.json"]),
    ] {
        let end = stage.run(example, arguments, "").await;
        assert_nothing_sent(&stage, &end, &["settings.toml is not valid TOML"]);
        assert!(!end.stderr.contains("hunter2"), "{end:?}");
    }
    fs::remove_file(stage.path("settings.toml")).unwrap();
    let end = stage.run("blocking", &[], "").await;
    assert_nothing_sent(&stage, &end, &["cannot read", "settings.toml"]);
}

#[tokio::test]
async fn bulk_sends_to_a_list_and_a_second_run_to_those_not_sent_only() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Dear {name},\n{other} stays.\n");
    stage.write(
        "list.csv",
        "\u{feff}name;address\n\"Doe; Jane\";jane@example.com\nJoe;gone@example.com\nJim;jim@example.com\n",
    );
    stage.tenant.exchange().refuse_recipient("gone@example.com", GONE);
    let end = stage.bulk("list.csv").await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(
        &end.stdout,
        &["2 of 3 accepted in ", " a second\n  1 refused\n", "--recipients list.csv.not-sent.csv"],
    );
    assert_contains(&end.stderr, &["refused: gone@example.com: ", "3 of 3, "]);
    let messages = stage.tenant.exchange().messages();
    let body = String::from_utf8(messages[0].body.clone()).unwrap();
    assert_contains(&body, &["Subject: For Doe; Jane\r\n", "Dear Doe; Jane,\r\n{other} stays.\r\n"]);
    assert_eq!(stage.received(), ["jane@example.com", "jim@example.com"]);
    let report = stage.read("list.csv.not-sent.csv");
    assert_contains(&report, &["address,name,state,reason\ngone@example.com,Joe,refused,", "(550 5.1.10)\n"]);

    // The first command by mistake: everybody would get it again.
    let connections = stage.tenant.exchange().connections().total;
    let end = stage.bulk("list.csv").await;
    assert_eq!((end.code, stage.tenant.exchange().connections().total), (Some(2), connections), "{end:?}");
    assert_contains(&end.stderr, &["list.csv.not-sent.csv is of an earlier run"]);

    stage.tenant.exchange().clear_faults();
    let end = stage.bulk("list.csv.not-sent.csv").await;
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_contains(&end.stdout, &["1 of 1 accepted in "]);
    assert_eq!(stage.received(), ["gone@example.com"]);
    assert!(!stage.exists("list.csv.not-sent.csv"), "nobody is left");
}

#[tokio::test]
async fn bulk_lets_messages_overlap_when_it_is_told_to() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Hello");
    let names: Vec<_> = (10..30).map(|number| format!("reader{number}@example.com")).collect();
    stage.write("list.txt", names.join("\n"));
    let mut arguments =
        ["--recipients", "list.txt", "--subject", "x", "--text-file", "letter.txt", "--overlap", "0"];
    assert_nothing_sent(&stage, &stage.run("bulk", &arguments, "").await, &["--overlap <N>"]);
    arguments[7] = "8";
    let end = stage.run("bulk", &arguments, "").await;
    assert_eq!(end.code, Some(0), "{end:?}");
    let mut received = stage.received();
    received.sort_unstable();
    assert_eq!(received, names);
}

#[tokio::test]
async fn bulk_reports_although_nobody_reads_what_it_prints() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Hello");
    stage.write("list.csv", "jane@example.com\ngone@example.com\njim@example.com\n");
    stage.tenant.exchange().refuse_recipient("gone@example.com", GONE);
    let arguments = ["--recipients", "list.csv", "--subject", "Hi", "--text-file", "letter.txt"];
    let mut child = stage.command("bulk", &arguments).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let status = timeout(LONG, child.wait()).await.expect("the end of the program").unwrap();
    assert_eq!(status.code(), Some(1), "{status:?}");
    assert_eq!(stage.received(), ["jane@example.com", "jim@example.com"]);
    let report = stage.read("list.csv.not-sent.csv");
    assert_contains(&report, &["gone@example.com,,refused,"]);
    assert!(!report.contains("jane") && !report.contains("maybe"), "{report}");
}

#[tokio::test]
async fn bulk_does_not_send_again_what_may_have_arrived() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Hello");
    stage.write("list.txt", "One <one@example.com>\nTwo <two@example.com>\n\nThree <three@example.com>\n");
    stage.tenant.exchange().inject(FaultPoint::Body, Fault::Close.once().after(1));
    let end = stage.bulk("list.txt").await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(&end.stdout, &["2 of 3 accepted in ", "  1 maybe sent\n"]);
    assert_eq!(stage.received(), ["one@example.com", "three@example.com"]);
    let report = stage.read("list.txt.not-sent.csv");
    assert_contains(&report, &["two@example.com,Two,maybe sent,"]);

    let end = stage.bulk("list.txt.not-sent.csv").await;
    assert_eq!((end.code, stage.received().len()), (Some(1), 0), "{end:?}");
    assert_contains(&end.stdout, &["0 of 1 accepted in ", "  1 maybe sent\n"]);
    assert_eq!(stage.read("list.txt.not-sent.csv"), report);
}

#[tokio::test]
async fn bulk_stops_at_a_fault_that_concerns_every_message() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Hello");
    let list: String = (0..20).map(|number| format!("Reader <reader{number}@example.com>\n")).collect();
    stage.write("list.txt", list);
    let disabled =
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
    stage.tenant.exchange().inject(FaultPoint::Auth, Fault::reply(disabled).always());
    let end = stage.bulk("list.txt").await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(&end.stderr, &["stopping, as it concerns every message", "tick Authenticated SMTP"]);
    assert_eq!(end.stderr.matches("tick Authenticated SMTP").count(), 1, "{end:?}");
    assert_contains(&end.stdout, &["0 of 20 accepted"]);
    let attempts = stage.tenant.exchange().auth_attempts().len();
    assert!(attempts <= 2, "{attempts} sign-ins");

    stage.tenant.exchange().clear_faults();
    let end = stage.bulk("list.txt.not-sent.csv").await;
    assert_eq!((end.code, stage.received().len()), (Some(0), 20), "{end:?}");
}

#[tokio::test]
async fn bulk_says_all_that_is_wrong_and_sends_nothing() {
    let stage = Stage::start().await;
    stage.write("letter.txt", "Dear {name}");
    stage.write("list.csv", "address,name\na@example.com,A\nnonsense,B\nb@example.com,\nA@example.com,C\n");
    let arguments = [
        "--recipients",
        "list.csv",
        "--subject",
        "a\nb",
        "--text-file",
        "letter.txt",
        "--report",
        "no/r.csv",
    ];
    let end = stage.run("bulk", &arguments, "").await;
    assert_nothing_sent(
        &stage,
        &end,
        &[
            "--subject: must be one line",
            "list.csv line 3: `B nonsense` is not an address",
            "list.csv line 4: b@example.com has no name",
            "list.csv line 5: A@example.com is on line 2 already",
        ],
    );
    stage.write("list.csv", "address,name\na@example.com,A\n");
    let arguments =
        ["--recipients", "list.csv", "--subject", "a", "--text-file", "letter.txt", "--report", "no/r.csv"];
    let end = stage.run("bulk", &arguments, "").await;
    assert_nothing_sent(&stage, &end, &["--report: cannot write no/r.csv"]);
    stage.write("list.csv", "address,name\n");
    assert_nothing_sent(&stage, &stage.bulk("list.csv").await, &["list.csv names nobody"]);
    stage.write("list.csv", "address,name\na@example.com,A,too,many\n");
    assert_nothing_sent(&stage, &stage.bulk("list.csv").await, &["--recipients: list.csv: CSV error"]);
}

/// A bulk run whose first message is held on the way.
struct Held {
    stage: Stage,
    gate: Gate,
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Held {
    async fn start() -> Self {
        let stage = Stage::start().await;
        stage.write("letter.txt", "The disk is almost full.\n".repeat(10_000));
        stage.write("list.txt", "one@example.com\ntwo@example.com\nthree@example.com\n");
        let mut gate = stage.gate(100_000).await;
        let arguments = ["--recipients", "list.txt", "--subject", "Disk", "--text-file", "letter.txt"];
        let mut child = stage.command("bulk", &arguments).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        timeout(LONG, gate.held()).await.expect("a message on the way");
        Self { stage, gate, child, stderr }
    }

    async fn interrupt(&self) {
        let id = self.child.id().unwrap();
        let status = Command::new("sh").args(["-c", &format!("kill -INT {id}")]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits for a line on standard error.
    async fn hear(&mut self, words: &str) {
        let hearing = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("the program ended without `{words}`");
        };
        timeout(LONG, hearing).await.expect("the words");
    }

    async fn end(mut self) -> (Stage, Gate, End) {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).await.unwrap();
        let status = timeout(LONG, self.child.wait()).await.expect("the end of the program").unwrap();
        let end = self.stage.checked(End { code: status.code(), stdout, stderr: String::new() });
        (self.stage, self.gate, end)
    }
}

#[tokio::test]
async fn ctrl_c_lets_bulk_finish_what_is_under_way_and_report_the_rest() {
    let mut held = Held::start().await;
    held.interrupt().await;
    held.hear("stopping when what is under way is done").await;
    held.gate.open();
    let (stage, _gate, end) = held.end().await;
    assert_eq!(end.code, Some(75), "{end:?}");
    assert_contains(&end.stdout, &["1 of 3 accepted in ", "  2 not tried\n"]);
    assert_eq!(stage.received(), ["one@example.com"]);
    let report = stage.read("list.txt.not-sent.csv");
    assert_eq!(
        report,
        "address,name,state,reason\ntwo@example.com,,not tried,\nthree@example.com,,not tried,\n"
    );

    let arguments =
        ["--recipients", "list.txt.not-sent.csv", "--subject", "Disk", "--text-file", "letter.txt"];
    let end = stage.run("bulk", &arguments, "").await;
    assert_eq!(
        (end.code, stage.received()),
        (Some(0), vec!["two@example.com".into(), "three@example.com".into()])
    );
}

#[tokio::test]
async fn ctrl_c_again_does_not_wait_and_says_who_may_have_got_it() {
    let mut held = Held::start().await;
    held.interrupt().await;
    held.hear("Ctrl-C again does not wait for it").await;
    held.interrupt().await;
    let (stage, _gate, end) = held.end().await;
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_contains(&end.stdout, &["0 of 3 accepted in ", "  1 maybe sent\n", "  2 not tried\n"]);
    assert_contains(
        &stage.read("list.txt.not-sent.csv"),
        &["one@example.com,,maybe sent,interrupted on the way\n", "two@example.com,,not tried,\n"],
    );
}

#[tokio::test]
async fn a_bulk_run_that_is_killed_leaves_a_report_that_sends_to_nobody_twice() {
    let mut held = Held::start().await;
    held.child.kill().await.unwrap();
    let report = held.stage.read("list.txt.not-sent.csv");
    assert_eq!(report.matches(",maybe sent,").count(), 3, "{report}");
}

#[tokio::test]
async fn the_program_without_async_sends_to_the_test_recipient() {
    let stage = Stage::start().await;
    let end = stage.run("blocking", &[], "").await;
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_contains(&end.stdout, &["accepted: 250 2.0.0 OK"]);
    assert_eq!(stage.received(), ["admin@contoso.com"]);

    let denied = "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as svc-mail@contoso.com";
    stage.tenant.exchange().inject(FaultPoint::Body, Fault::reply(denied));
    let end = stage.run("blocking", &[], "").await;
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{end:?}");
    assert_contains(&end.stderr, &["error: ", "5.2.252", "To be done by"]);

    stage.edit_settings(|text| text.replace("test_recipient", "# test_recipient"));
    let end = stage.run("blocking", &[], "").await;
    assert_eq!(end.code, Some(2), "{end:?}");
    assert_contains(&end.stderr, &["set server.test_recipient"]);
}

impl Stage {
    /// Writes what a sidecar would, with this many seconds left to the token.
    fn sidecar_writes(&self, name: &str, left: i64) -> String {
        let token =
            self.tenant.exchange().tokens().issue(&self.tenant.account(), Duration::from_secs(3600), 1500);
        let expires_on = time::OffsetDateTime::now_utc().unix_timestamp() + left;
        self.write(name, format!(r#"{{"accessToken": "{token}", "expires_on": {expires_on}}}"#))
    }
}

#[tokio::test]
async fn a_token_of_the_programs_own_signs_in_from_a_file_or_a_command() {
    let stage = Stage::start().await;
    let path = stage.sidecar_writes("sidecar.json", 3600);
    for arguments in [["--token-file", &path], ["--token-command", &format!("cat {path}")]] {
        let end = stage.run("custom_provider", &arguments, "").await;
        assert_eq!(end.code, Some(0), "{end:?}");
        assert_contains(&end.stdout, &["the token is valid until ", "accepted: 250 2.0.0 OK"]);
    }
    assert_eq!(stage.received(), ["admin@contoso.com"; 2]);
    assert_eq!(stage.tenant.entra().requests(), 0, "nobody else was asked for a token");
}

#[tokio::test]
async fn a_token_of_the_programs_own_that_cannot_be_used_is_explained() {
    let stage = Stage::start().await;
    let expired = stage.sidecar_writes("expired.json", -1);
    let broken = stage.write("broken.json", r#"{"accessToken": 17, "expires_on": "hunter2"}"#);
    for (arguments, wanted) in [
        (["--token-file", "absent.json"], "the token file absent.json cannot be read"),
        (["--token-file", &expired], "holds a token that has expired"),
        (["--token-file", &broken], "is not JSON with accessToken and expires_on"),
        (["--token-command", "no-such-program --at all"], "`no-such-program` cannot be run"),
        (["--token-command", "false"], "`false` gave no token: exit status: 1"),
    ] {
        let end = stage.run("custom_provider", &arguments, "").await;
        assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{end:?}");
        assert_contains(&end.stderr, &[wanted]);
        assert!(!end.stderr.contains("hunter2"), "{end:?}");
    }
    let end = stage.run("custom_provider", &["--token-file", &expired, "--demo"], "").await;
    assert_nothing_sent(&stage, &end, &["cannot be used with"]);
    assert_eq!(stage.tenant.exchange().connections().total, 0);
}

#[tokio::test]
async fn a_token_of_the_programs_own_that_the_server_refuses_is_not_shown_twice() {
    let stage = Stage::start().await;
    let path = stage.sidecar_writes("sidecar.json", 3600);
    stage.tenant.exchange().tokens().revoke_all();
    // Nobody writes another, so that there is nothing to wait for.
    stage.edit_settings(|text| text.replace("[server]\n", "[server]\ntimeouts = { total = \"2s\" }\n"));
    for (arguments, wanted) in [
        (["--token-file", &path], "still holds the token that the mail server has refused"),
        // It cannot know better and prints the same token again.
        (["--token-command", &format!("cat {path}")], "the mail server refused the sign-in (535 5.7.3)"),
    ] {
        let before = stage.tenant.exchange().auth_attempts().len();
        let end = stage.run("custom_provider", &arguments, "").await;
        assert_eq!(end.code, Some(1), "{end:?}");
        assert_contains(&end.stderr, &[wanted]);
        assert_eq!(stage.tenant.exchange().auth_attempts().len() - before, 1, "{end:?}");
    }
}

#[tokio::test]
async fn programs_that_take_no_arguments_refuse_them_and_send_nothing() {
    let stage = Stage::start().await;
    for example in ["quickstart", "basic", "blocking"] {
        let words = [&format!("usage: {example}"), "SMTP_OAUTH_SETTINGS"];
        for argument in ["--demo", "settings.toml"] {
            assert_nothing_sent(&stage, &stage.run(example, &[argument], "").await, &words);
        }
        let end = stage.run(example, &["--help"], "").await;
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
        assert_contains(&end.stdout, &words);
        assert!(!stage.tenant.exchange().received_any(), "{end:?}");
    }
}

#[tokio::test]
async fn arguments_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let stage = Stage::start().await;
    for example in ["sign_in", "doctor"] {
        let child =
            stage.command(example, &[]).arg(std::ffi::OsStr::from_bytes(b"\xff.toml")).spawn().unwrap();
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{example}: {text}");
        assert_contains(&text, &["is not UTF-8"]);
    }
    let end = stage.run("sign_in", &["--help"], "").await;
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    assert_contains(&end.stdout, &["usage: sign_in"]);
}

#[tokio::test]
async fn files_that_settings_name_are_beside_the_settings_file_wherever_a_program_is_started() {
    let stage = Stage::start().await;
    let directory = format!("{}/", stage.path("")).replace("//", "/");
    stage.edit_settings(|text| text.replace(&directory, ""));
    let settings = stage.path("settings.toml");
    for (example, arguments) in
        [("quickstart", &[][..]), ("basic", &[]), ("blocking", &[]), ("doctor", &[settings.as_str()])]
    {
        let child = stage.command(example, arguments).current_dir("/").spawn().unwrap();
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        assert_eq!(output.status.code(), Some(0), "{example}: {output:?}");
    }
}

#[tokio::test]
async fn programs_that_cannot_send_end_with_1_and_those_with_bad_settings_with_2() {
    let stage = Stage::start().await;
    let nobody = ClosedPort::bind();
    let port = format!("port = {}\n", stage.tenant.exchange().port());
    let working = stage.read("settings.toml");
    for example in ["quickstart", "basic", "blocking"] {
        stage.write(
            "settings.toml",
            working.replace(&port, &format!("port = {}\n", nobody.port())) + "[retry]\nattempts = 1\n",
        );
        let end = stage.run(example, &[], "").await;
        assert_eq!(end.code, Some(1), "{example}: {end:?}");
        assert_contains(&end.stderr, &["cannot reach the mail server"]);
        stage.write("settings.toml", working.replace("username = ", "user = "));
        let end = stage.run(example, &[], "").await;
        assert_eq!(end.code, Some(2), "{example}: {end:?}");
        assert_contains(&end.stderr, &["server.username"]);
        stage.write("settings.toml", working.replace("test_recipient = ", "# "));
        let end = stage.run(example, &[], "").await;
        assert_eq!(end.code, Some(2), "{example}: {end:?}");
        assert_contains(&end.stderr, &["test_recipient"]);
    }
    assert_eq!(stage.tenant.exchange().connections().total, 0);
}

#[tokio::test]
async fn programs_do_their_work_although_nobody_reads_what_they_print() {
    let stage = Stage::start().await;
    let token = stage.sidecar_writes("sidecar.json", 3600);
    for (example, arguments, sent) in [
        ("quickstart", &[][..], 2),
        ("basic", &[], 1),
        ("blocking", &[], 1),
        ("custom_provider", &["--token-file", &token], 1),
        ("sign_in", &["--client-credentials"], 0),
    ] {
        let mut child = stage.command(example, arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.as_str()), (Some(0), ""), "{example}");
        assert_eq!(stage.received().len(), sent, "{example}");
    }
}

#[tokio::test]
async fn send_reads_no_more_than_a_message_may_have() {
    let stage = Stage::start().await;
    let to = ["--to", "a@example.com", "--subject", "x"];
    for (option, path) in
        [("--attach", "/dev/zero"), ("--text-file", "/dev/zero"), ("--html-file", "/dev/zero")]
    {
        let end = stage.send(&[&to[..], &[option, path]].concat()).await;
        assert_nothing_sent(&stage, &end, &[&format!("{option}: /dev/zero is larger than 150 MiB")]);
    }
    for arguments in [&["--to", "a@example.com"][..], &["--to", "a@example.com", "--text-file", "-"]] {
        let mut command = stage.command("send", arguments);
        let child = command.stdin(fs::File::open("/dev/zero").unwrap()).spawn().unwrap();
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_contains(&text, &["standard input is larger than 150 MiB"]);
    }
    assert_eq!(stage.tenant.exchange().connections().total, 0);
}

#[tokio::test]
async fn the_demos_need_neither_settings_nor_network() {
    let stage = Stage::start().await;
    for (example, arguments, code, wanted) in [
        (
            "send",
            &["--demo", "--to", "gone@example.com", "--to", "a@example.com", "--text", "x"][..],
            1,
            "accepted: a@",
        ),
        ("bulk", &["--demo"], 1, "58 of 60 accepted"),
        ("blocking", &[], 0, "accepted: 250 2.0.0 OK"),
        ("custom_provider", &["--demo"], 0, "5. The sidecar is back"),
    ] {
        let child = stage.command(example, arguments).env_remove("SMTP_OAUTH_SETTINGS").spawn().unwrap();
        let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{example}: {text}");
        assert_contains(&text, &[wanted]);
    }
    assert_eq!(stage.tenant.exchange().connections().total, 0);
    let child =
        stage.command("send", &["--to", "a@example.com"]).env_remove("SMTP_OAUTH_SETTINGS").spawn().unwrap();
    let output = timeout(LONG, child.wait_with_output()).await.expect("the end of the program").unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_contains(
        &String::from_utf8(output.stderr).unwrap(),
        &["set SMTP_OAUTH_SETTINGS to the path", "--demo"],
    );
}
