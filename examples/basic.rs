//! Sends a message with user name and password, the older way, to a fake of Exchange Online on loopback.
//!
//! With `SMTP_OAUTH_SETTINGS=settings.toml` it sends the test message of a real server, as the settings say.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use smtp_oauth::testing::FakeExchange;
use smtp_oauth::{Authentication, MailServerConfig, Mailer, Settings, basic_authentication_retirement};

const USER: &str = "svc-mail@contoso.com";
const PASSWORD: &str = "correct horse battery staple";

const USAGE: &str = "usage: basic
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
    say(format_args!("Note: {}.", basic_authentication_retirement()));
    let outcome = match std::env::var_os("SMTP_OAUTH_SETTINGS").map(|path| from_settings(Path::new(&path))) {
        Some(Ok(mailer)) => send_for_real(mailer).await,
        Some(Err(problem)) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
        None => demonstrate().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
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
    let submission = mailer.send_test().await?;
    say(format_args!("accepted: {}", submission.reply()));
    Ok(())
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = FakeExchange::builder().password(USER, PASSWORD).start().await;
    let config = MailServerConfig::builder()
        .host(server.host())
        .port(server.port())
        .username(USER)
        .test_recipient("admin@contoso.com")
        .extra_roots(server.root_pem())
        .without_platform_roots()
        .build()?;
    let mailer = Mailer::builder(config.clone()).authentication(Authentication::basic(PASSWORD)).build()?;
    let submission = mailer.send_test().await?;
    say(format_args!("With the right password:"));
    say(format_args!("  accepted: {}", submission.reply()));

    let mailer = Mailer::builder(config).authentication(Authentication::basic("wrong")).build()?;
    say(format_args!("With a wrong one, tried once only:"));
    match mailer.verify().await {
        Err(error) => say(format_args!("  {error}, {:?}", error.disposition())),
        Ok(()) => return Err("the fake accepted a wrong password".into()),
    }
    Ok(())
}

/// Prints to whoever reads; nobody may, as behind `head`, and what is done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}
