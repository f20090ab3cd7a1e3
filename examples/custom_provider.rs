//! Sends with access tokens from a place of one's own: a file that a sidecar keeps fresh, or a command that prints them.
//!
//! `cargo run --example custom_provider -- --demo` shows against fakes what becomes of tokens that the server refuses and
//! of tokens that expire. With `SMTP_OAUTH_SETTINGS=settings.toml`, of which only the table `server` is read, it sends to
//! the test recipient: `--token-command "az account get-access-token --scope https://outlook.office365.com/.default"`.
//! File and command give JSON: `{"accessToken": "eyJ0…", "expires_on": 1767225600}`, in seconds since 1970.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use serde::Deserialize;
use smtp_oauth::testing::{FakeMicrosoft365, ManualClock};
use smtp_oauth::{
    AccessToken, Authentication, Clock, MailServerConfig, Mailer, RetryPolicy, Settings, TokenCache,
    TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest, token,
};
use time::OffsetDateTime;

/// Sends to the test recipient with an access token from a file or a command.
#[derive(Parser)]
#[command(
    name = "custom_provider",
    after_help = "exit code: 0 sent, 1 no token or not sent, 2 wrong arguments or settings
Set SMTP_OAUTH_SETTINGS to the path of the settings file, unless this is a demo."
)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// A file with the token, replaced by somebody else before it expires
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A program with its arguments, separated by spaces, that prints the token
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// Show on fakes on loopback what becomes of refused and expired tokens
    #[arg(long)]
    demo: bool,
}

/// Tokens from a file that somebody else keeps fresh. The mailer's cache reads it only when it needs another token.
#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    clock: Clock,
}

impl TokenProvider for TokenFile {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::new(async move {
            let path = self.path.display();
            let unavailable = |what: &str| {
                let message = format!("the token file {path} {what}");
                // The cache gives everybody the same error for so long, and then comes back.
                TokenError::new(TokenErrorKind::Unavailable, message).with_retry_after(Duration::from_secs(5))
            };
            let text = tokio::fs::read(&self.path).await;
            let text = text.map_err(|error| unavailable(&format!("cannot be read ({})", error.kind())))?;
            let token = parse(&text)?;
            // The mail server has just refused this one: handing it out again would only be refused again.
            if request.rejected().is_some_and(|rejected| rejected.is_same(&token)) {
                return Err(unavailable("still holds the token that the mail server has refused"));
            }
            // One that lives less long than was asked for is better than none: the cache makes the best of it.
            match token.is_valid_for(Duration::ZERO, self.clock.now()) {
                true => Ok(token),
                false => Err(unavailable("holds a token that has expired")),
            }
        })
    }

    fn notes(&self) -> Vec<TokenNote> {
        vec![TokenNote::Fact(format!("from the file {}", self.path.display()))]
    }
}

/// Tokens from a program: a closure is a provider as well. It is run again when a token is refused or about to expire.
fn from_command(command: String) -> impl TokenProvider {
    token::from_fn(move || {
        let command = command.clone();
        async move {
            let failed = |what: String| TokenError::new(TokenErrorKind::Unavailable, what);
            let mut words = command.split_whitespace();
            let program = words.next().unwrap_or_default();
            let output = tokio::process::Command::new(program)
                .args(words)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .kill_on_drop(true) // The cache drops a provider that takes more than three minutes.
                .output()
                .await
                .map_err(|error| failed(format!("`{program}` cannot be run: {error}")))?;
            match output.status.success() {
                true => parse(&output.stdout),
                false => Err(failed(format!("`{program}` gave no token: {}", output.status))),
            }
        }
    })
}

/// What Azure's command line prints, and many sidecars write.
#[derive(Deserialize)]
struct Issued {
    #[serde(alias = "accessToken")]
    access_token: String,
    expires_on: i64,
}

fn parse(text: &[u8]) -> Result<AccessToken, TokenError> {
    let invalid = |what: &str| TokenError::new(TokenErrorKind::InvalidResponse, what);
    // The error of a format may quote the text, which is a secret.
    let issued: Issued = serde_json::from_slice(text)
        .map_err(|_| invalid("what should be a token is not JSON with accessToken and expires_on"))?;
    let expires_at = OffsetDateTime::from_unix_timestamp(issued.expires_on);
    AccessToken::new(issued.access_token, expires_at.map_err(|_| invalid("expires_on is no date"))?)
}

#[tokio::main]
async fn main() -> ExitCode {
    let Place { token_file, token_command, demo: is_demo } = Arguments::parse().place;
    let result = if is_demo {
        demo().await
    } else {
        let config = match server() {
            Ok(config) => config,
            Err(problem) => {
                eprintln!("error: {problem}");
                return ExitCode::from(2);
            }
        };
        let cache = match (token_file, token_command) {
            (Some(path), _) => TokenCache::new(TokenFile { path, clock: Clock::system() }),
            (None, command) => TokenCache::new(from_command(command.unwrap_or_default())),
        };
        send(config, cache).await
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}"); // `#`: with the remedy below it
            ExitCode::FAILURE
        }
    }
}

/// Reads the mail server alone: how to sign in is this program's own matter.
fn server() -> Result<MailServerConfig, Box<dyn StdError>> {
    let path = std::env::var_os("SMTP_OAUTH_SETTINGS")
        .ok_or("set SMTP_OAUTH_SETTINGS to the path of a settings file, or try --demo")?;
    let path = Path::new(&path);
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the settings in {}: {error}", path.display()))?;
    // A format's own error quotes the line, which may hold a secret: only its message is shown.
    let settings: Settings = toml::from_str(&text)
        .map_err(|error| format!("{} is not valid TOML: {}", path.display(), error.message()))?;
    let config = settings.relative_to(path.parent().unwrap_or(Path::new(""))).server()?;
    config.test_recipient().ok_or("set server.test_recipient in the settings")?;
    Ok(config)
}

/// A mailer makes a cache of its own; this one is shared with it, so the token that is shown is the one that is used.
async fn send(config: MailServerConfig, cache: TokenCache) -> Result<(), Box<dyn StdError>> {
    let token = cache.token(TokenRequest::new()).await?;
    say(format_args!("the token is valid until {}", token.expires_at()));
    let mailer = Mailer::builder(config).authentication(Authentication::oauth(cache)).build()?;
    say(format_args!("accepted: {}", mailer.send_test().await?.reply()));
    mailer.close().await;
    Ok(())
}

async fn demo() -> Result<(), Box<dyn StdError>> {
    let time = ManualClock::starting_at(Clock::system().now());
    let tenant = FakeMicrosoft365::start_with_clock(time.clock()).await;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("token.json");
    let lifetime = Duration::from_secs(3600);
    let sidecar_writes = || {
        let token = tenant.exchange().tokens().issue(&tenant.account(), lifetime, 1500);
        let expires_on = (time.clock().now() + lifetime).unix_timestamp();
        std::fs::write(
            &path,
            serde_json::json!({ "accessToken": token, "expires_on": expires_on }).to_string(),
        )
    };
    let provider = TokenFile { path: path.clone(), clock: time.clock() };
    let cache = TokenCache::new(provider).clock(time.clock());
    let mailer = Mailer::builder(tenant.server().build()?)
        .authentication(Authentication::oauth(cache))
        .clock(time.clock())
        .retry(RetryPolicy::never()) // To show each failure; the default tries three times.
        .build()?;

    say(format_args!("1. A sidecar has written a token"));
    sidecar_writes()?;
    say(format_args!("     accepted: {}", mailer.send_test().await?.reply()));

    say(format_args!("2. The token was revoked, and the sidecar has noticed; the connection is new"));
    tenant.exchange().tokens().revoke_all();
    sidecar_writes()?;
    tenant.exchange().close_connections(None).await;
    say(format_args!("     accepted: {}", mailer.send_test().await?.reply()));
    let shown = tenant.exchange().auth_attempts().len();
    say(format_args!("     sign-ins so far: {shown}, of which one was refused, and its token replaced"));

    say(format_args!("3. The token was revoked, and the sidecar has not noticed"));
    tenant.exchange().tokens().revoke_all();
    tenant.exchange().close_connections(None).await;
    refused(&mailer).await?;

    say(format_args!("4. Two hours later: the token in the file has expired"));
    time.advance(2 * lifetime);
    refused(&mailer).await?;

    say(format_args!(
        "5. The sidecar is back, and the cache looks again after the wait that the provider named"
    ));
    sidecar_writes()?;
    time.advance(Duration::from_secs(5));
    say(format_args!("     accepted: {}", mailer.send_test().await?.reply()));
    mailer.close().await;
    Ok(())
}

async fn refused(mailer: &Mailer) -> Result<(), Box<dyn StdError>> {
    let error = mailer.send_test().await.err().ok_or("the fakes accepted what they should refuse")?;
    say(format_args!("     {error}, {:?}", error.disposition()));
    Ok(())
}

/// Prints to whoever reads; nobody may, as behind `head`, and what is done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}
