//! Sends one message from the command line, as `sendmail` does, and says what became of it.
//!
//! `echo Hello | cargo run --example send -- --demo --to reader@example.com --subject Hi --text-file -` talks to fakes on
//! loopback, which refuse `gone@example.com` for good and `busy@example.com` for now. With
//! `SMTP_OAUTH_SETTINGS=settings.toml` it sends for real. Nothing is sent before everything has been read and checked.

mod message;

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use message::Outgoing;
use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint};
use smtp_oauth::{
    Disposition, Dsn, Error, Mailer, Notify, RecipientPolicy, Refusal, Settings, Submission, SubmitOptions,
};

/// `EX_TEMPFAIL` of sysexits.h, by which queues know that the same command may succeed later.
const TRY_LATER: u8 = 75;

/// Sends a message that is read from standard input (RFC 5322), or built when --subject, a text or --attach is given.
#[derive(Parser)]
#[command(
    name = "send",
    after_help = "exit code: 0 accepted for everyone, 1 refused or failed, 2 wrong arguments or settings (nothing sent),
75 nothing accepted and the same command may succeed later
Set SMTP_OAUTH_SETTINGS to the path of the settings file, unless this is a demo."
)]
struct Arguments {
    /// A recipient; this and the next two may be repeated
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    #[arg(long, value_name = "ADDRESS")]
    cc: Vec<String>,
    /// A recipient whom the others do not see
    #[arg(long, value_name = "ADDRESS")]
    bcc: Vec<String>,
    /// The sender [default: the one in the settings]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    #[arg(long)]
    subject: Option<String>,
    #[arg(long)]
    text: Option<String>,
    /// A file with the text; `-` for standard input
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// A file with the text as HTML
    #[arg(long, value_name = "FILE")]
    html_file: Option<PathBuf>,
    /// A file to attach; may be repeated
    #[arg(long, value_name = "FILE")]
    attach: Vec<PathBuf>,
    /// Send to the recipients in the headers too, for a message on standard input
    #[arg(short = 't')]
    recipients_from_headers: bool,
    /// Send to nobody when one recipient is refused
    #[arg(long)]
    all_or_nothing: bool,
    /// When to notify the sender: `never`, or some of success,failure,delay
    #[arg(long, value_name = "EVENTS")]
    dsn: Option<String>,
    /// Send to fakes on loopback
    #[arg(long)]
    demo: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut problems = Vec::new();
    let fake = if arguments.demo { Some(demo().await) } else { None };
    let mailer = match &fake {
        Some(tenant) => Ok(tenant.mailer()),
        None => from_settings(),
    };
    let mailer = mailer.map_err(|problem| problems.push(problem.to_string())).ok();
    let options = options(&arguments, &mut problems);
    let sender = mailer.as_ref().map(|mailer| mailer.config().sender().clone());
    let outgoing = message::prepare(&arguments, sender, &mut problems);
    let (Some(mailer), Some(outgoing), true) = (mailer, outgoing, problems.is_empty()) else {
        eprintln!("send: nothing was sent");
        problems.iter().for_each(|problem| eprintln!("  {}", problem.replace('\n', "\n  ")));
        eprintln!("`--help` names the options.");
        return ExitCode::from(2);
    };

    let result = send(&mailer, &outgoing, &options).await;
    mailer.close().await;
    // The message is on its way or not, whether or not somebody still reads: the exit code says it all the same.
    let (_broken_pipe, code) = match &result {
        Ok(submission) => {
            let (text, code) = report(submission);
            (std::io::stdout().write_all(text.as_bytes()), code)
        }
        Err(error) => {
            let (text, code) = explain(error);
            (std::io::stderr().write_all(text.as_bytes()), code)
        }
    };
    ExitCode::from(code)
}

async fn demo() -> FakeMicrosoft365 {
    let tenant = FakeMicrosoft365::start().await;
    let exchange = tenant.exchange();
    eprintln!("Demo: a fake of Exchange Online listens on port {}.", exchange.port());
    exchange.refuse_recipient(
        "gone@example.com",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
    );
    let busy = Fault::reply("452 4.2.2 Mailbox full").always().for_recipient("busy@example.com");
    exchange.inject(FaultPoint::Rcpt, busy);
    tenant
}

fn from_settings() -> Result<Mailer, Box<dyn StdError>> {
    let path = std::env::var_os("SMTP_OAUTH_SETTINGS")
        .ok_or("set SMTP_OAUTH_SETTINGS to the path of a settings file, or try --demo")?;
    let path = Path::new(&path);
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the settings in {}: {error}", path.display()))?;
    // A format's own error quotes the line, which may hold a secret: only its message is shown.
    let settings: Settings = toml::from_str(&text)
        .map_err(|error| format!("{} is not valid TOML: {}", path.display(), error.message()))?;
    Ok(Mailer::from_settings(&settings.relative_to(path.parent().unwrap_or(Path::new(""))))?)
}

fn options(arguments: &Arguments, problems: &mut Vec<String>) -> SubmitOptions {
    let mut options = SubmitOptions::new();
    if arguments.all_or_nothing {
        options = options.recipients(RecipientPolicy::AllOrNothing);
    }
    let Some(events) = &arguments.dsn else { return options };
    let mut notify = Vec::new();
    for event in events.split(',').filter(|_| events != "never") {
        match event {
            "success" => notify.push(Notify::Success),
            "failure" => notify.push(Notify::Failure),
            "delay" => notify.push(Notify::Delay),
            _ => problems.push(format!("--dsn: `{event}` is none of never, success, failure and delay")),
        }
    }
    options.dsn(Dsn::new().notify(notify))
}

/// Shows on a terminal that it goes on, and for how long: how much has gone out is not known before the verdict.
async fn send(mailer: &Mailer, outgoing: &Outgoing, options: &SubmitOptions) -> Result<Submission, Error> {
    let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}").expect("a valid template");
    let spinner = ProgressBar::new_spinner().with_style(style);
    let size = HumanBytes(outgoing.bytes.len() as u64);
    spinner.set_message(format!("sending {size} to {}", recipients(outgoing.envelope.to().len())));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = mailer.submit_with(&outgoing.envelope, &outgoing.bytes, options).await;
    spinner.finish_and_clear();
    result
}

fn recipients(count: usize) -> String {
    format!("{count} recipient{}", if count == 1 { "" } else { "s" })
}

fn report(submission: &Submission) -> (String, u8) {
    let mut text = String::new();
    for recipient in submission.accepted() {
        let _ = writeln!(text, "accepted: {recipient}");
    }
    let _ = writeln!(text, "the server says: {}", submission.reply());
    let refused = submission.refused();
    if refused.is_empty() {
        return (text, 0);
    }
    list(&mut text, refused);
    let again: Vec<_> = refused.iter().map(|refusal| format!("--to {}", refusal.recipient())).collect();
    let _ = writeln!(text, "To send it again to those only: {}", again.join(" "));
    (text, 1)
}

fn list(text: &mut String, refused: &[Refusal]) {
    let mut said = HashSet::new();
    for refusal in refused {
        let later = matches!(refusal.disposition(), Disposition::Retry { .. });
        let _ = writeln!(text, "refused:  {refusal}{}", if later { " (may be accepted later)" } else { "" });
        // The same advice once, however many it is for.
        if let Some(remedy) = refusal.remedy().filter(|remedy| said.insert(remedy.summary().to_owned())) {
            let _ = writeln!(text, "  {}", remedy.to_string().replace('\n', "\n  "));
        }
    }
}

/// Says why nobody was accepted.
fn explain(error: &Error) -> (String, u8) {
    let mut text = String::new();
    if error.refused().is_empty() {
        let _ = writeln!(text, "failed: {error:#}");
    } else {
        let _ = writeln!(text, "failed: {error}");
        list(&mut text, error.refused());
    }
    match error.disposition() {
        Disposition::Retry { after } => {
            let when = after.map(|wait| format!(", in {} seconds at the earliest", wait.as_secs()));
            let _ = writeln!(text, "The same command may succeed later{}.", when.unwrap_or_default());
            (text, TRY_LATER)
        }
        _ => (text, 1),
    }
}
