//! Signs an account in once and writes the token file that the other examples send with.
//!
//! `cargo run --example sign_in -- --demo` shows each way against a fake of Microsoft's server, without a network.
//! With `SMTP_OAUTH_SETTINGS=mail.toml` (see `smtp_oauth::Settings`) it signs in for real: `--device` prints a code to
//! enter on another machine, `--loopback` an address to open in this machine's browser. `--client-credentials` signs
//! in nobody and writes nothing: it shows whether the app itself gets a token (`SMTP.SendAsApp`). The app may be
//! registered at Entra ID or elsewhere; Google and Yahoo want `--loopback`.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use smtp_oauth::entra::{self, App};
use smtp_oauth::oauth::{AuthorizationCode, Client, DeviceCode, DeviceEvent, Prompt, SignedIn};
use smtp_oauth::testing::FakeEntra;
use smtp_oauth::{
    AuthenticationSettings, Clock, Grant, MailProvider, MemoryStore, Settings, TokenError, TokenProvider,
    TokenRequest, TokenStore,
};

const USAGE: &str = "usage: sign_in [--device | --loopback | --client-credentials] [--demo]
  --device              prints a code to enter on another machine (the default)
  --loopback            prints an address to open in a browser on this machine
  --client-credentials  shows that the app gets a token as itself; nobody signs in, no file is written
  --demo                signs in at a fake, without a network
  --help                prints this
Set SMTP_OAUTH_SETTINGS to the path of the settings file, unless this is a demo.";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Device,
    Loopback,
    ClientCredentials,
}

/// The app that people sign in to.
enum Registration {
    Entra(App),
    /// At another authorization server.
    Other {
        client: Client,
        scopes: Vec<String>,
        service: MailProvider,
    },
}

impl Registration {
    fn device_code(&self) -> DeviceCode {
        match self {
            Self::Entra(app) => app.device_code(),
            Self::Other { client, scopes, service: _ } => client.device_code().scopes(scopes.clone()),
        }
    }

    fn authorization_code(&self, redirect: url::Url) -> AuthorizationCode {
        match self {
            Self::Entra(app) => app.authorization_code(redirect),
            Self::Other { client, scopes, service } => {
                let sign_in = client.authorization_code(redirect);
                match service {
                    // Else Google gives no refresh token, or only with the first sign-in.
                    MailProvider::Gmail => sign_in
                        .scopes(scopes.iter().map(String::as_str).chain(["openid", "email"]))
                        .parameter("access_type", "offline")
                        .prompt(Prompt::Consent),
                    _ => sign_in.scopes(scopes.clone()),
                }
            }
        }
    }
}

/// What signing in needs.
struct Setup {
    app: Registration,
    /// Where the refresh token goes; none for an app that signs in as itself.
    store: Option<Arc<dyn TokenStore>>,
    username: Option<String>,
    /// The fake, whose user signs in without being asked.
    fake: Option<FakeEntra>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (way, is_demo) = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            say(format_args!("{USAGE}"));
            return ExitCode::SUCCESS;
        }
        Err(problem) => return refuse(&problem),
    };
    let setup = if is_demo { demo(way).await } else { from_settings(way) };
    let setup = match setup {
        Ok(setup) => setup,
        Err(problem) => return refuse(&problem.to_string()),
    };
    match sign_in(&setup, way).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(description) = &error.server_answer().description {
                eprintln!("  the server says: {}", description.lines().next().unwrap_or_default());
            }
            if let Some(remedy) = entra::remedy(&error) {
                eprintln!("\n{remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}

/// Reads the command line; `None` when it asks for help.
fn arguments() -> Result<Option<(Way, bool)>, String> {
    let (mut way, mut is_demo) = (None, false);
    for argument in std::env::args_os().skip(1) {
        let argument =
            argument.into_string().map_err(|given| format!("the argument {given:?} is not UTF-8"))?;
        let chosen = match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--device" => Way::Device,
            "--loopback" => Way::Loopback,
            "--client-credentials" => Way::ClientCredentials,
            "--demo" => {
                is_demo = true;
                continue;
            }
            other => return Err(format!("`{other}` is not an option")),
        };
        if way.replace(chosen).is_some_and(|before| before != chosen) {
            return Err("choose one of --device, --loopback and --client-credentials".to_owned());
        }
    }
    Ok(Some((way.unwrap_or(Way::Device), is_demo)))
}

async fn demo(way: Way) -> Result<Setup, Box<dyn Error>> {
    let fake = FakeEntra::builder().device_interval(Duration::from_secs(1));
    // An app that signs in as itself must prove who it is; one on a person's machine cannot keep a secret.
    let fake = if way == Way::ClientCredentials { fake } else { fake.public_client() }.start().await;
    say(format_args!("Demo: Microsoft's server is a fake on {}.", fake.authority()));
    // Nothing else would accept the fake's tokens.
    let store = Some(Arc::new(MemoryStore::new()) as _);
    let app = Registration::Entra(fake.app().build()?);
    Ok(Setup { app, store, username: Some(fake.account()), fake: Some(fake) })
}

fn from_settings(way: Way) -> Result<Setup, Box<dyn Error>> {
    let path = std::env::var_os("SMTP_OAUTH_SETTINGS").ok_or("SMTP_OAUTH_SETTINGS is not set")?;
    let path = Path::new(&path);
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the settings in {}: {error}", path.display()))?;
    let settings: Settings =
        toml::from_str(&text).map_err(|_| format!("{} is not a TOML file of settings", path.display()))?;
    let settings = settings.relative_to(path.parent().unwrap_or(Path::new(""))).resolve()?;
    let username = Some(settings.server.username().to_owned());
    let (entra, other) = (settings.app()?, settings.client());
    let (app, store) = match (settings.authentication, entra, other) {
        (AuthenticationSettings::OAuth { grant, token_store, .. }, Some(app), _) => {
            if grant == Grant::ClientCredentials && way != Way::ClientCredentials {
                let name = grant.name();
                let problem =
                    format!("the settings choose {name}: nobody signs in, try --client-credentials");
                return Err(problem.into());
            }
            (Registration::Entra(app.build()?), token_store)
        }
        (AuthenticationSettings::OtherOAuth { scopes, token_store, .. }, _, Some(client)) => {
            let (client, service) = (client.build()?, settings.server.provider());
            (Registration::Other { client, scopes, service }, Some(token_store))
        }
        _ => return Err("the settings choose basic authentication: there is nothing to sign in to".into()),
    };
    let store = store.map(|kept| kept.open(&Clock::system())).transpose()?;
    if way == Way::ClientCredentials && matches!(app, Registration::Other { .. }) {
        return Err("only an app at Entra ID signs in as itself here: try --loopback".into());
    }
    Ok(Setup { app, store, username, fake: None })
}

async fn sign_in(setup: &Setup, way: Way) -> Result<(), TokenError> {
    match (way, &setup.store, &setup.app) {
        (Way::Device, Some(store), _) => {
            report(setup, store, &with_device_code(setup, store.clone()).await?);
        }
        (Way::Loopback, Some(store), _) => report(setup, store, &with_browser(setup, store.clone()).await?),
        (_, _, Registration::Entra(app)) => as_the_app(app).await?,
        (_, _, Registration::Other { .. }) => unreachable!("refused with the settings"),
    }
    Ok(())
}

async fn as_the_app(app: &App) -> Result<(), TokenError> {
    let token = app.client_credentials().token(TokenRequest::new()).await?;
    say(format_args!(
        "The app {} got a token as itself, valid until {}.",
        app.client_id(),
        token.expires_at()
    ));
    say(format_args!("Nothing was written: such a token is asked for whenever one is needed."));
    Ok(())
}

async fn with_device_code(setup: &Setup, store: Arc<dyn TokenStore>) -> Result<SignedIn, TokenError> {
    let mut sign_in = setup.app.device_code().start().await?;
    say(format_args!("{}", sign_in.message()));
    let mut seconds = 0;
    while let Some(event) = sign_in.next_event().await {
        match event {
            DeviceEvent::Waiting { remaining, .. } => {
                let left = remaining.as_secs();
                say(format_args!("  waiting for the sign-in: {}:{:02} left", left / 60, left % 60));
                seconds += 1;
            }
            DeviceEvent::SlowedDown { interval, .. } => {
                say(format_args!(
                    "  the server asks for patience: next look in {} seconds",
                    interval.as_secs()
                ));
            }
            DeviceEvent::Retrying { error, after, .. } => {
                say(format_args!("  {error}; trying again in {} seconds", after.as_secs()));
            }
            DeviceEvent::Approved => say(format_args!("  the code was entered")),
            _ => {}
        }
        if let Some(fake) = setup.fake.as_ref().filter(|_| seconds == 3) {
            say(format_args!("  (the fake user enters {} now)", sign_in.user_code()));
            fake.approve_device(sign_in.user_code());
            seconds += 1;
        }
    }
    sign_in.finish(store).await
}

async fn with_browser(setup: &Setup, store: Arc<dyn TokenStore>) -> Result<SignedIn, TokenError> {
    let redirect = url::Url::parse("http://localhost").expect("a constant that is a URL");
    let mut sign_in = setup.app.authorization_code(redirect);
    if let Some(username) = &setup.username {
        sign_in = sign_in.login_hint(username);
    }
    let sign_in = sign_in.listen().await?;
    say(format_args!(
        "Open this address in a browser on this machine, within 5 minutes:\n\n  {}\n",
        sign_in.url()
    ));
    let Some(fake) = &setup.fake else { return sign_in.finish(store).await };
    say(format_args!("  (the fake user signs in now)"));
    let callback = fake.approve(sign_in.url());
    let (signed_in, _page) = tokio::join!(sign_in.finish(store), fake.browse(&callback));
    signed_in
}

fn report(setup: &Setup, store: &dyn TokenStore, signed_in: &SignedIn) {
    say(format_args!("Signed in as {}.", signed_in.account().unwrap_or("an account without a name")));
    match store.location() {
        Some(place) => say(format_args!("The tokens are in {place}.")),
        None => say(format_args!("The tokens are gone when this demo ends.")),
    }
    if let Some(username) = &setup.username
        && let Err(mismatch) = signed_in.check_username(username)
    {
        say(format_args!(
            "warning: {mismatch}; the mail server refuses it unless the account may use that mailbox"
        ));
    }
}

/// Prints to whoever reads; nobody may, as behind `head`, and what is done is done all the same. `println!` would panic.
fn say(text: fmt::Arguments<'_>) {
    _ = writeln!(io::stdout(), "{text}");
}
