//! Sends a message through Microsoft 365 by OAuth 2.0, twice, with a token that expires in between.
//!
//! Without arguments it needs neither account nor network: it starts fakes of Entra ID and Exchange Online on loopback.
//! With `SMTP_OAUTH_SETTINGS=settings.toml` it sends to the test recipient of a real tenant or server.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::message::header::ContentType;
use smtp_oauth::lettre::message::{Attachment, Mailbox, MultiPart};
use smtp_oauth::testing::{FakeMicrosoft365, ManualClock};
use smtp_oauth::{Mailer, MailerBuilder, Settings, Submission};

const USAGE: &str = "usage: quickstart
It takes no arguments. Set SMTP_OAUTH_SETTINGS to the path of a settings file to send for real; without it, this is a demo.";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let outcome = match std::env::var_os("SMTP_OAUTH_SETTINGS") {
        Some(path) => send_for_real(Path::new(&path)).await,
        None => demonstrate().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(&*error));
            ExitCode::from(2)
        }
    }
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let time = ManualClock::starting_at(smtp_oauth::Clock::system().now());
    let tenant = FakeMicrosoft365::start_with_clock(time.clock()).await;
    println!("1. Fakes are listening on loopback");
    println!("     Entra ID         {}", tenant.entra().authority());
    println!("     Exchange Online  {}:{}", tenant.exchange().host(), tenant.exchange().port());

    let directory = tempfile::tempdir()?;
    let text = tenant.settings_toml(directory.path()).await?;
    println!("2. An administrator has entered the settings and signed in once");
    let shown = text.lines().filter(|line| !line.contains("secret"));
    shown.for_each(|line| println!("     {line}"));

    let settings: Settings = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
    let mailer = MailerBuilder::from_settings(&settings)?.clock(time.clock()).build()?;
    println!("3. First message: token by refresh, STARTTLS, XOAUTH2, submission");
    report(&mailer.submit(&message(&mailer)?).await?);
    let requests = tenant.entra().requests();
    println!("     token requests: {requests}");

    time.advance(Duration::from_secs(2 * 60 * 60));
    println!("4. Two hours later the token has expired");
    println!("5. Second message: the token is refreshed first");
    report(&mailer.submit(&message(&mailer)?).await?);
    println!("     token requests: {} more", tenant.entra().requests() - requests);
    mailer.close().await;

    let received = tenant.exchange().messages();
    println!(
        "Done: {} messages accepted, {} refresh of an expired token.",
        received.len(),
        tenant.entra().requests() - requests
    );
    match received.len() == 2 && tenant.entra().requests() == requests + 1 {
        true => Ok(()),
        false => Err("the fakes counted something else".into()),
    }
}

async fn send_for_real(path: &Path) -> Result<(), Box<dyn Error>> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // A format's own error quotes the line, which may hold a secret: only its message is shown.
    let settings: Settings = toml::from_str(&text)
        .map_err(|error| format!("{} is not valid TOML: {}", path.display(), error.message()))?;
    let mailer = Mailer::from_settings(&settings.relative_to(path.parent().unwrap_or(Path::new(""))))?;
    println!("1. The settings are valid: {}:{}", mailer.config().host(), mailer.config().port());
    mailer.verify().await?;
    println!("2. Signed in as {}", mailer.config().username());
    println!("3. First message");
    report(&mailer.submit(&message(&mailer)?).await?);
    println!("4. Second message, over the same connection");
    report(&mailer.submit(&message(&mailer)?).await?);
    mailer.close().await;
    Ok(())
}

fn message(mailer: &Mailer) -> Result<Message, Box<dyn Error>> {
    let config = mailer.config();
    let recipient: Mailbox =
        config.test_recipient().cloned().ok_or("set server.test_recipient in the settings")?;
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
    println!("     accepted: {}", submission.reply());
    for refusal in submission.refused() {
        println!("     refused:  {refusal}");
    }
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
