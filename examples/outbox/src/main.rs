//! `outbox`: hands messages over, sends them, and tells what became of them.
//!
//! Exit codes: 0 done; 1 it failed; 2 what was entered cannot be used, and nothing was changed.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use outbox::compose::{Draft, LARGEST};
use outbox::message::{Decision, Enqueued};
use outbox::store::{Missing, Outbox, OutboxError};
use outbox::worker::{Options, work};
use outbox::{demo, mailer};
use smtp_oauth::{Clock, MailerBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Sends mail through Microsoft 365 without losing any when a process dies.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Cli {
    /// Where the outbox is: sqlite:PATH, or postgres://USER@HOST/DATABASE
    #[arg(
        long,
        env = "OUTBOX_DATABASE",
        hide_env_values = true,
        default_value = "sqlite:outbox.db",
        global = true
    )]
    database: String,
    /// The same as the command `demo`
    #[arg(long)]
    demo: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Hands a message over: an RFC 5322 message from standard input, or --subject and --text
    Enqueue(Enqueue),
    /// Sends what is due until it is told to stop (Ctrl-C, SIGTERM); start as many as you like
    Work(Work),
    /// Shows how many messages are in which state, and which of them wait for somebody
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Goes on after what paused the outbox has been mended
    Resume,
    /// Decides about a message that is indeterminate or set aside, or drops one that waits
    Resolve(Resolve),
    /// Shows every outcome with fakes: no account, no network
    Demo,
}

#[derive(Args)]
struct Enqueue {
    /// The sender, in the envelope
    #[arg(long)]
    from: String,
    /// A recipient, in the envelope; repeat it for more
    #[arg(long, required = true)]
    to: Vec<String>,
    /// An idempotency key: a message with a key that was used before is not taken again
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    #[arg(long, requires = "text")]
    subject: Option<String>,
    #[arg(long, requires = "subject")]
    text: Option<String>,
}

#[derive(Args)]
struct Work {
    /// The settings file
    #[arg(long, env = "SMTP_OAUTH_SETTINGS", value_name = "PATH")]
    settings: PathBuf,
    /// How many messages are under way at a time [default: as many as there may be connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// After how many seconds without a sign of life a worker counts as dead
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    lease: u64,
}

#[derive(Args)]
#[command(group = ArgGroup::new("decision").required(true))]
struct Resolve {
    /// The message, as `outbox status` names it
    id: String,
    /// Send it again: if it has arrived, it arrives twice
    #[arg(long, group = "decision")]
    resend: bool,
    /// Do not send it any more: if it has not arrived, it never will
    #[arg(long, group = "decision")]
    drop: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("outbox: {error}");
            // The database's own words: neither the crate's settings errors nor refusals have a source.
            match error.source() {
                Some(source) => eprintln!(": {source}"),
                None => eprintln!(),
            }
            let is_input =
                error.is::<Unusable>() || matches!(error.downcast_ref(), Some(OutboxError::Refused(_)));
            ExitCode::from(if is_input { 2 } else { 1 })
        }
    }
}

/// What was entered cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

async fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let open = |missing| Outbox::open(&cli.database, missing, Clock::system());
    match cli.command {
        Some(_) if cli.demo => usage("--demo stands alone"),
        Some(Command::Demo) => demo::run().await?,
        None if cli.demo => demo::run().await?,
        None => usage("name a command"),
        Some(Command::Enqueue(enqueue)) => {
            let key = enqueue.key.clone();
            let draft = enqueue.draft().map_err(Unusable)?;
            match open(Missing::Create).await?.enqueue(&draft, key.as_deref()).await? {
                Enqueued::New { id } => say(format_args!("{id} taken over")),
                Enqueued::Known { id, state } => {
                    say(format_args!("{id} was taken over before, and is {state}"))
                }
            }
        }
        Some(Command::Work(options)) => {
            let subscriber =
                tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
            let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn,outbox=info".into());
            subscriber.with_env_filter(filter).init();
            let mailer = mailer::from_file(&options.settings).map_err(Unusable)?;
            start(&options, mailer, open(Missing::Create).await?).await?;
        }
        Some(Command::Status { json }) => {
            let status = open(Missing::Refuse).await?.status().await?;
            match json {
                true => say(format_args!("{}", serde_json::to_string_pretty(&status)?)),
                false => say(format_args!("{status}")),
            }
        }
        Some(Command::Resume) => match open(Missing::Refuse).await?.resume().await? {
            true => say(format_args!("goes on")),
            false => say(format_args!("was not paused")),
        },
        Some(Command::Resolve(Resolve { id, resend, .. })) => {
            let decision = if resend { Decision::Resend } else { Decision::Drop };
            open(Missing::Refuse).await?.resolve(&id, decision).await?;
            say(format_args!("{id} {}", if resend { "will be sent again" } else { "is dropped" }));
        }
    }
    Ok(())
}

/// Prints to whoever reads; nobody may, and what was done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}

fn usage(problem: &str) {
    Cli::command().error(ErrorKind::ArgumentConflict, problem).exit()
}

impl Enqueue {
    fn draft(self) -> Result<Draft, String> {
        if let (Some(subject), Some(text)) = (self.subject, self.text) {
            return Draft::plain(&self.from, &self.to, &subject, &text);
        }
        if io::stdin().is_terminal() {
            return Err("give a message on standard input, or --subject and --text".to_owned());
        }
        let mut content = Vec::new();
        // One octet too many tells that it is too large, whatever follows.
        let mut input = io::stdin().take(LARGEST as u64 + 1);
        input.read_to_end(&mut content).map_err(|error| format!("cannot read the message: {error}"))?;
        Draft::formatted(&self.from, &self.to, content)
    }
}

async fn start(options: &Work, mailer: MailerBuilder, outbox: Outbox) -> Result<(), Box<dyn Error>> {
    let mailer = mailer::for_outbox(mailer, &outbox).build().map_err(|error| Unusable(error.to_string()))?;
    let connections = mailer.config().max_connections().get();
    let at_once = options.at_once.unwrap_or(connections);
    if at_once > connections {
        return Err(
            Unusable(format!("--at-once {at_once}: there may be {connections} connections at most")).into()
        );
    }
    if let Some(pause) = outbox.status().await?.paused {
        tracing::warn!(reason = pause.reason, "still paused: see `outbox status`");
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    });
    work(&outbox, &mailer, Options { at_once, lease: Duration::from_secs(options.lease) }, stopped).await;
    mailer.close().await;
    Ok(())
}
