//! Sends a message with user name and password, the older way, to a fake of Exchange Online on loopback.
//!
//! With `SMTP_OAUTH_SETTINGS=settings.toml` it sends the test message of a real server, as the settings say.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use smtp_oauth::testing::FakeExchange;
use smtp_oauth::{Authentication, MailServerConfig, Mailer, Settings, basic_authentication_retirement};

const USER: &str = "svc-mail@contoso.com";
const PASSWORD: &str = "correct horse battery staple";

const USAGE: &str = "usage: basic
It takes no arguments. Set SMTP_OAUTH_SETTINGS to the path of a settings file to send for real; without it, this is a demo.";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    println!("Note: {}.", basic_authentication_retirement());
    if let Some(path) = std::env::var_os("SMTP_OAUTH_SETTINGS") {
        let path = Path::new(&path);
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // A format's own error quotes the line, which may hold a secret: only its message is shown.
        let settings: Settings = toml::from_str(&text)
            .map_err(|error| format!("{} is not valid TOML: {}", path.display(), error.message()))?;
        let settings = settings.relative_to(path.parent().unwrap_or(Path::new("")));
        let submission = Mailer::from_settings(&settings)?.send_test().await?;
        println!("accepted: {}", submission.reply());
        return Ok(());
    }

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
    println!("With the right password:");
    println!("  accepted: {}", submission.reply());

    let mailer = Mailer::builder(config).authentication(Authentication::basic("wrong")).build()?;
    println!("With a wrong one, tried once only:");
    match mailer.verify().await {
        Err(error) => println!("  {error}, {:?}", error.disposition()),
        Ok(()) => return Err("the fake accepted a wrong password".into()),
    }
    Ok(())
}
