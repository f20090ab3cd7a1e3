//! Sends a message to everybody on a list, over all connections that the mailbox may have, and reports those not sent.
//!
//! `cargo run --example bulk -- --demo` sends to a list of its own on fakes. With `SMTP_OAUTH_SETTINGS=settings.toml`:
//! `bulk --recipients list.csv --subject "Dear {name}" --text-file letter.txt`. What was not sent is in
//! `list.csv.not-sent.csv`, and `bulk --recipients list.csv.not-sent.csv …` sends to those only. Ctrl-C finishes what is
//! under way, a second one does not. `--overlap 8` is faster where the server is far away. The mailer keeps to the mailbox's sending limits: 30 a minute on Exchange Online.

mod demo;
mod progress;
mod recipients;

use std::cell::Cell;
use std::error::Error as StdError;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};

use clap::Parser;
use futures_core::Stream;
use progress::{Progress, conclude};
use recipients::{Recipient, State};
use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::message::Mailbox;
use smtp_oauth::{Disposition, Error, ErrorKind, Mailer, Settings, Submission};

/// `EX_TEMPFAIL` of sysexits.h: another run may send the rest.
const TRY_LATER: u8 = 75;

/// Sends a message to everybody on a list and reports those not sent.
#[derive(Parser)]
#[command(
    name = "bulk",
    after_help = "exit code: 0 all accepted, 1 some refused or of unknown fate, 2 wrong arguments or settings (nothing sent),
75 a second run may send the rest
Set SMTP_OAUTH_SETTINGS to the path of the settings file, unless this is a demo."
)]
struct Arguments {
    /// CSV with the columns `address` and perhaps `name`, or one address on a line
    #[arg(long, value_name = "FILE", required_unless_present = "demo")]
    recipients: Option<PathBuf>,
    /// The subject; {name} stands for the recipient's name
    #[arg(long, default_value = "Hello {name}")]
    subject: String,
    /// A file with the text; {name} stands for the recipient's name
    #[arg(long, value_name = "FILE", required_unless_present = "demo")]
    text_file: Option<PathBuf>,
    /// Where to write those not sent [default: the list's name and `.not-sent.csv`]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Messages under way on one connection at a time; should it be lost, as many may be of unknown fate
    #[arg(long, value_name = "N", default_value = "1")]
    overlap: NonZeroU32,
    /// Send to fakes on loopback
    #[arg(long)]
    demo: bool,
}

/// What is sent, to whom and by whom; complete and checked.
struct Job {
    mailer: Mailer,
    letter: Letter,
    recipients: Vec<Recipient>,
    report: PathBuf,
    overlap: NonZeroU32,
    interrupts: Interrupts,
}

/// Hears every Ctrl-C from now on, where `tokio::signal::ctrl_c` hears one.
#[cfg(unix)]
use tokio::signal::unix::Signal as Interrupts;
#[cfg(windows)]
use tokio::signal::windows::CtrlC as Interrupts;

fn interrupts() -> io::Result<Interrupts> {
    #[cfg(unix)]
    return tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    #[cfg(windows)]
    return tokio::signal::windows::ctrl_c();
}

#[derive(Clone)]
struct Letter {
    from: Mailbox,
    subject: String,
    text: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    let demo = if arguments.demo { Some(demo::stage(&mut arguments).await) } else { None };
    let mailer = match &demo {
        Some((mailer, ..)) => Ok(mailer.clone()),
        None => from_settings(),
    };
    let mut job = match prepare(&arguments, mailer) {
        Ok(job) => job,
        Err(problems) => {
            eprintln!("bulk: nothing was sent");
            problems.iter().for_each(|problem| eprintln!("  {}", problem.replace('\n', "\n  ")));
            return ExitCode::from(2);
        }
    };
    let code = run(&mut job).await;
    if demo.is_some() {
        let report = std::fs::read_to_string(&job.report).unwrap_or_default();
        _ = write!(io::stdout(), "Demo: the report says\n{report}");
    }
    ExitCode::from(code)
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

/// Reads and checks everything, so that nothing is sent when something is wrong.
fn prepare(arguments: &Arguments, mailer: Result<Mailer, Box<dyn StdError>>) -> Result<Job, Vec<String>> {
    let mut problems = Vec::new();
    let mailer = mailer.map_err(|problem| problems.push(problem.to_string())).ok();
    let path = arguments.text_file.clone().unwrap_or_default();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| problems.push(format!("--text-file: cannot read {}: {error}", path.display())))
        .unwrap_or_default();
    let subject = arguments.subject.clone();
    if subject.contains(char::is_control) {
        problems.push("--subject: must be one line of text".to_owned());
    }
    let list = arguments.recipients.clone().unwrap_or_default();
    let is_named = subject.contains("{name}") || text.contains("{name}");
    let recipients = recipients::read(&list, is_named, &mut problems);
    let report = arguments.report.clone().unwrap_or_else(|| recipients::default_report(&list));
    if report != list && report.exists() {
        let path = report.display();
        problems
            .push(format!("{path} is of an earlier run: send to those (--recipients {path}), or remove it"));
    }
    let Some(mailer) = mailer.filter(|_| problems.is_empty()) else { return Err(problems) };
    let interrupts = interrupts().map_err(|error| vec![format!("Ctrl-C cannot be heard: {error}")])?;
    // Should the power fail, this is what is known, and another run sends to nobody twice.
    recipients::write(&report, &recipients, Some(State::MaybeSent))
        .map_err(|error| vec![format!("--report: cannot write {}: {error}", report.display())])?;
    let letter = Letter { from: mailer.config().sender().clone(), subject, text };
    Ok(Job { mailer, letter, recipients, report, overlap: arguments.overlap, interrupts })
}

impl Letter {
    fn to(&self, recipient: &Mailbox) -> Message {
        let name = recipient.name.as_deref().unwrap_or_default();
        let builder = Message::builder().from(self.from.clone()).to(recipient.clone());
        let builder = builder.subject(self.subject.replace("{name}", name)).message_id(None);
        builder.body(self.text.replace("{name}", name)).expect("it has a sender and a recipient")
    }
}

/// Writes each message only when there is soon a connection for it.
struct Messages {
    letter: Letter,
    to: Vec<Mailbox>,
    taken: Rc<Cell<usize>>,
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Message>> {
        let number = self.taken.get();
        let message = self.to.get(number).map(|recipient| self.letter.to(recipient));
        self.taken.set(number + usize::from(message.is_some()));
        Poll::Ready(message)
    }
}

async fn run(job: &mut Job) -> u8 {
    let Job { mailer, letter, recipients, report, overlap, interrupts } = job;
    let mut open: Vec<_> = recipients.iter_mut().filter(|it| it.state != State::MaybeSent).collect();
    let progress = Progress::new(open.len());
    let end = send(mailer, *overlap, letter.clone(), &mut open, interrupts, &progress).await;
    let code = conclude(recipients, report, &progress);
    // Somebody must do something first, whatever else could be tried later.
    if end == End::Faulty { 1 } else { code }
}

#[derive(PartialEq, Eq)]
enum End {
    Complete,
    Interrupted,
    /// Every message would have met the same fault.
    Faulty,
}

/// Notes of each recipient what became of the message.
async fn send(
    mailer: &Mailer,
    overlap: NonZeroU32,
    letter: Letter,
    open: &mut [&mut Recipient],
    interrupts: &mut Interrupts,
    progress: &Progress,
) -> End {
    let taken = Rc::<Cell<usize>>::default();
    let to = open.iter().map(|recipient| recipient.mailbox.clone()).collect();
    let mut batch = mailer.submit_all(Messages { letter, to, taken: taken.clone() }).overlap(overlap);
    let mut is_known = vec![false; open.len()];
    let mut end = End::Complete;
    loop {
        tokio::select! {
            _ = interrupts.recv() => {
                if end != End::Complete {
                    break;
                }
                progress.say("stopping when what is under way is done; Ctrl-C again does not wait for it");
                end = End::Interrupted;
                stop(mailer);
            }
            outcome = batch.next() => {
                let Some((number, result)) = outcome else { break };
                is_known[number] = true;
                note(open[number], &result);
                progress.show(open[number]);
                if end == End::Complete && let Some(error) = result.err().filter(concerns_all) {
                    progress.say(&format!("stopping, as it concerns every message: {error:#}"));
                    end = End::Faulty;
                    stop(mailer);
                }
            }
        }
    }
    drop(batch);
    for (recipient, _) in open.iter_mut().zip(is_known).take(taken.get()).filter(|(_, is_known)| !is_known) {
        recipient.state = State::MaybeSent;
        recipient.reason = "interrupted on the way".to_owned();
    }
    if end == End::Complete {
        mailer.close().await;
    }
    end
}

/// What waits for a connection or for the sending limits fails at once, untried.
fn stop(mailer: &Mailer) {
    let mailer = mailer.clone();
    tokio::spawn(async move { mailer.close().await });
}

/// Whether every other message would meet the same.
fn concerns_all(error: &Error) -> bool {
    matches!(error.disposition(), Disposition::Reauthenticate | Disposition::FixConfiguration)
        && error.kind() != ErrorKind::RecipientsRefused
}

fn note(recipient: &mut Recipient, result: &Result<Submission, Error>) {
    recipient.state = match result.as_ref().map_err(|error| (error.kind(), error.disposition())) {
        Ok(_) => State::Accepted,
        Err((ErrorKind::Closed, _)) => return,
        Err((_, Disposition::Indeterminate)) => State::MaybeSent,
        Err((_, Disposition::FixMessage)) => State::Refused,
        Err(_) => State::Failed,
    };
    recipient.reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
}
