//! Serves the mail server settings page; `--demo` against fakes on this machine, else for a real tenant.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use settings_page::database::{Database, beside};
use settings_page::vault::Vault;
use settings_page::{Page, access, demo, router};
use tokio::net::TcpListener;
use url::Url;

const KEY_VARIABLE: &str = "SETTINGS_PAGE_KEY";

/// The administrator's "Mail server settings" page, as a product would embed it.
///
/// Prints the address to open. Ends on Ctrl-C.
#[derive(Parser)]
#[command(after_help = "Exit codes: 0 when ended by Ctrl-C or SIGTERM, 2 when it cannot start.\n\
    The key that seals the database is read from the environment variable SETTINGS_PAGE_KEY (32 octets in base64), \
    else from the key file.")]
struct Arguments {
    /// Runs against fakes of Microsoft 365 on this machine, with a fake inbox; keeps nothing.
    #[arg(long, conflicts_with_all = ["database", "key_file", "public_url"])]
    demo: bool,
    /// Where to listen; port 0 takes a free one. Anything but this machine needs --public-url.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8025")]
    listen: SocketAddr,
    /// The SQLite database with the sealed settings; made when it is not there.
    #[arg(long, value_name = "PATH", default_value = "settings.db")]
    database: PathBuf,
    /// The key file; made together with the database. Default: the database's path with `.key` at its end.
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// Where browsers find the page, behind a proxy that does TLS. Default: http://localhost:PORT
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::from(2)
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), String> {
    let Arguments { demo, listen, database, key_file, public_url } = arguments;
    if !listen.ip().is_loopback() && public_url.is_none() {
        return Err(format!(
            "--listen {listen} is open to the network: give --public-url https://… of the TLS proxy in front"
        ));
    }
    if let Some(url) = &public_url {
        access::check_public_url(url)?;
    }
    // The port first: a program that cannot serve makes no files.
    let listener =
        TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let public_url = match public_url {
        Some(url) => url,
        // Not 127.0.0.1: of plain http, Entra registers redirect URLs of `localhost` only.
        None => Url::parse(&format!("http://localhost:{port}/")).map_err(|error| error.to_string())?,
    };
    let access_key = access::random().map_err(|error| error.to_string())?;
    let page = if demo {
        println!(
            "This is a demonstration: the page talks to fakes of Microsoft 365 on this machine, and keeps nothing."
        );
        demo::page(public_url, access_key)
            .await
            .map_err(|error| format!("the demonstration cannot start: {error}"))?
    } else {
        let key_file = key_file.unwrap_or_else(|| beside(&database, "key"));
        let vault = vault(&database, &key_file)?;
        let opened = Database::open(&database, vault).await;
        let database = opened.map_err(|error| format!("{}: {error}", database.display()))?;
        Page { database, public_url, access_key, fixed: serde_json::Value::Null, demo: None }
    };
    println!("Open {}enter?key={}", page.public_url, page.access_key);
    axum::serve(listener, router(Arc::new(page)))
        .with_graceful_shutdown(stop())
        .await
        .map_err(|error| error.to_string())
}

fn vault(database: &Path, key_file: &Path) -> Result<Vault, String> {
    match std::env::var_os(KEY_VARIABLE) {
        Some(key) => {
            Vault::from_base64(&key.to_string_lossy()).map_err(|error| format!("{KEY_VARIABLE}: {error}"))
        }
        None if database.exists() && !key_file.exists() => Err(format!(
            "the key file {} is not there, and without it nobody can open {}: restore it, or move the database away",
            key_file.display(),
            database.display()
        )),
        None => Vault::from_file(key_file).map_err(|error| error.to_string()),
    }
}

/// Waits for Ctrl-C, or for SIGTERM where there is such a thing.
async fn stop() {
    #[cfg(unix)]
    let terminated = async {
        if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            signal.recv().await;
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
