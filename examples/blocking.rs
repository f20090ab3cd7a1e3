//! Sends a message without async, to the test recipient of the settings.
//!
//! Without arguments it talks to fakes of Entra ID and Exchange Online on loopback, for which alone there is a runtime;
//! with `SMTP_OAUTH_SETTINGS=settings.toml` to a real server. The crate needs its feature `blocking`.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use smtp_oauth::lettre::Message;
use smtp_oauth::testing::FakeMicrosoft365;
use smtp_oauth::{Mailer, Settings, blocking};

const USAGE: &str = "usage: blocking
It takes no arguments. Set SMTP_OAUTH_SETTINGS to the path of a settings file to send for real; without it, this is a demo.
exit code: 0 sent, 1 not sent, 2 wrong arguments or settings";

fn main() -> ExitCode {
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
    let Some(path) = std::env::var_os("SMTP_OAUTH_SETTINGS") else {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime for the fakes");
        let tenant = runtime.block_on(FakeMicrosoft365::start());
        say(format_args!("Demo: a fake of Exchange Online listens on port {}.", tenant.exchange().port()));
        return send(tenant.mailer());
    };
    match from_settings(Path::new(&path)) {
        Ok(mailer) => send(mailer),
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
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

/// All that a program without async needs: make the mailer blocking, submit, close.
fn send(mailer: Mailer) -> ExitCode {
    let sent = blocking::Mailer::new(mailer).map_err(Box::<dyn Error>::from).and_then(|mailer| {
        let config = mailer.config();
        let recipient = config.test_recipient().cloned().ok_or("there is no test recipient")?;
        let message = Message::builder()
            .from(config.sender().clone())
            .to(recipient)
            .subject("Disk almost full")
            .body("The disk is almost full.\n".to_owned())?;
        let submission = mailer.submit(&message)?;
        mailer.close()?;
        Ok(submission)
    });
    match sent {
        Ok(submission) => {
            say(format_args!("accepted: {}", submission.reply()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}"); // `#`: with the remedy below it
            ExitCode::FAILURE
        }
    }
}

/// Prints to whoever reads; nobody may, as behind `head`, and what is done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}
