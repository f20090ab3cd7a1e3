//! Sends a message through Microsoft 365 by OAuth 2.0, twice, with a token that expires in between.
//!
//! Without arguments it needs neither account nor network: it starts fakes of Entra ID and Exchange Online on loopback.
//! With `SMTP_OAUTH_SETTINGS=settings.toml` it sends to the test recipient of a real tenant or server.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::message::header::ContentType;
use smtp_oauth::lettre::message::{Attachment, Mailbox, MultiPart};
use smtp_oauth::testing::{FakeMicrosoft365, ManualClock};
use smtp_oauth::{Mailer, MailerBuilder, Settings, Submission};

const USAGE: &str = "usage: quickstart
It takes no arguments. Set SMTP_OAUTH_SETTINGS to the path of a settings file to send for real; without it, this is a demo.
exit code: 0 sent, 1 not sent, 2 wrong arguments or settings";

#[tokio::main]
async fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        None => {}
        Some(argument) if argument == "--help" => {
            say(format_args!("{USAGE}"));
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    let outcome = match std::env::var_os("SMTP_OAUTH_SETTINGS").map(|path| from_settings(Path::new(&path))) {
        Some(Ok(mailer)) => send_for_real(mailer).await,
        Some(Err(problem)) => {
            eprintln!("{}", explain(&*problem));
            return ExitCode::from(2);
        }
        None => demonstrate().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let time = ManualClock::starting_at(smtp_oauth::Clock::system().now());
    let tenant = FakeMicrosoft365::start_with_clock(time.clock()).await;
    say(format_args!("1. Fakes are listening on loopback"));
    say(format_args!("     Entra ID         {}", tenant.entra().authority()));
    say(format_args!("     Exchange Online  {}:{}", tenant.exchange().host(), tenant.exchange().port()));

    let directory = tempfile::tempdir()?;
    let text = tenant.settings_toml(directory.path()).await?;
    say(format_args!("2. An administrator has entered the settings and signed in once"));
    let shown = text.lines().filter(|line| !line.contains("secret"));
    shown.for_each(|line| say(format_args!("     {line}")));

    let settings: Settings = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
    let mailer = MailerBuilder::from_settings(&settings)?.clock(time.clock()).build()?;
    say(format_args!("3. First message: token by refresh, STARTTLS, XOAUTH2, submission"));
    report(&mailer.submit(&message(&mailer)?).await?);
    let requests = tenant.entra().requests();
    say(format_args!("     token requests: {requests}"));

    time.advance(Duration::from_secs(2 * 60 * 60));
    say(format_args!("4. Two hours later the token has expired"));
    say(format_args!("5. Second message: the token is refreshed first"));
    report(&mailer.submit(&message(&mailer)?).await?);
    say(format_args!("     token requests: {} more", tenant.entra().requests() - requests));
    mailer.close().await;

    let received = tenant.exchange().messages();
    say(format_args!(
        "Done: {} messages accepted, {} refresh of an expired token.",
        received.len(),
        tenant.entra().requests() - requests
    ));
    match received.len() == 2 && tenant.entra().requests() == requests + 1 {
        true => Ok(()),
        false => Err("the fakes counted something else".into()),
    }
}

fn from_settings(path: &Path) -> Result<Mailer, Box<dyn Error>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // A format's own error quotes the line, which may hold a secret: only its message is shown.
    let settings: Settings = toml::from_str(&text)
        .map_err(|error| format!("{} is not valid TOML: {}", path.display(), error.message()))?;
    let mailer = Mailer::from_settings(&settings.relative_to(path.parent().unwrap_or(Path::new(""))))?;
    mailer.config().test_recipient().ok_or("set server.test_recipient in the settings")?;
    Ok(mailer)
}

async fn send_for_real(mailer: Mailer) -> Result<(), Box<dyn Error>> {
    say(format_args!("1. The settings are valid: {}:{}", mailer.config().host(), mailer.config().port()));
    mailer.verify().await?;
    say(format_args!("2. Signed in as {}", mailer.config().username()));
    say(format_args!("3. First message"));
    report(&mailer.submit(&message(&mailer)?).await?);
    say(format_args!("4. Second message, over the same connection"));
    report(&mailer.submit(&message(&mailer)?).await?);
    mailer.close().await;
    Ok(())
}

fn message(mailer: &Mailer) -> Result<Message, Box<dyn Error>> {
    let config = mailer.config();
    let recipient: Mailbox = config.test_recipient().cloned().ok_or("there is no test recipient")?;
    let alternatives = MultiPart::alternative_plain_html(
        "The disk is almost full.".to_owned(),
        "<p>The disk is <b>almost full</b>.</p>".to_owned(),
    );
    let report = Attachment::new("usage.csv".to_owned())
        .body("disk,used\n/,93%\n".to_owned(), ContentType::parse("text/csv")?);
    Ok(Message::builder()
        .from(config.sender().clone())
        .to(recipient)
        .subject("Disk almost full")
        .multipart(MultiPart::mixed().multipart(alternatives).singlepart(report))?)
}

fn report(submission: &Submission) {
    say(format_args!("     accepted: {}", submission.reply()));
    for refusal in submission.refused() {
        say(format_args!("     refused:  {refusal}"));
    }
}

/// Prints to whoever reads; nobody may, as behind `head`, and what is done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}

/// Joins an error and its causes.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    text
}
