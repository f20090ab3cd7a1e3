//! The browser's way back to a desktop program (RFC 8252 §7.3): one request on a loopback port. Starts no browser.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::authorization_code::{AuthorizationCode, configuration};
use super::callback::Callback;
use super::pending::PendingSignIn;
use super::signed_in::SignedIn;
use crate::clock::Clock;
use crate::token::store::TokenStore;
use crate::token::{TokenError, TokenErrorKind};

/// Cookies of every other program on `localhost` come along, because they know no ports.
const MOST_HEAD_BYTES: usize = 64 * 1024;
/// Browsers open connections ahead and leave them idle.
const MOST_CONNECTIONS: usize = 16;
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// A sign-in that waits for the browser on a port of this machine; dropping it closes the port.
///
/// Made by [`AuthorizationCode::listen`], which has an example.
#[must_use = "the port is closed when this is dropped"]
pub struct LoopbackSignIn {
    sign_in: AuthorizationCode,
    pending: PendingSignIn,
    listener: TcpListener,
    path: String,
    deadline: Duration,
}

impl AuthorizationCode {
    /// Begins a sign-in on this machine: opens a port of 127.0.0.1 for the browser to come back to.
    ///
    /// The redirect URL must be `http://localhost`, `http://127.0.0.1` or either with a path; without a port a free one
    /// is taken. Register the URL without a port: Entra ignores it for `localhost`. (`http://127.0.0.1` can be
    /// registered in Entra's manifest only.)
    ///
    /// ```
    /// use smtp_oauth::testing::FakeEntra;
    /// use smtp_oauth::MemoryStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let entra = FakeEntra::builder().public_client().start().await;
    /// let app = entra.app().build()?;
    ///
    /// let sign_in = app.authorization_code("http://localhost".parse()?).listen().await?;
    /// println!("Open {} in a browser.", sign_in.url());
    /// # let url = sign_in.url().clone();
    /// # let browser = entra.clone();
    /// # tokio::spawn(async move { browser.browse(&browser.approve(&url)).await });
    /// let signed_in = sign_in.finish(MemoryStore::new()).await?;
    /// println!("Signed in as {}.", signed_in.account().unwrap_or("somebody"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TokenErrorKind::Configuration`] for another redirect URL, a port that is taken, or a client without an
    /// authorization endpoint.
    pub async fn listen(self) -> Result<LoopbackSignIn, TokenError> {
        let redirect = self.redirect();
        let host = redirect.host_str().unwrap_or_default().to_owned();
        if redirect.scheme() != "http" || !matches!(host.as_str(), "localhost" | "127.0.0.1") {
            return Err(configuration("the redirect URL to listen on must be http://localhost"));
        }
        if redirect.query().is_some() || redirect.fragment().is_some() {
            return Err(configuration("the redirect URL to listen on must have neither query nor fragment"));
        }
        let failed = |error: std::io::Error| {
            let message = "cannot listen on the loopback port that the browser comes back to";
            TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
        };
        let listener =
            TcpListener::bind(("127.0.0.1", redirect.port().unwrap_or_default())).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let path = redirect.path().to_owned();
        // Entra compares paths to the letter, and `http://localhost` is registered without one.
        let shown = if path == "/" { "" } else { path.as_str() };
        let pending = self.start_at(format!("http://{host}:{port}{shown}"))?;
        Ok(LoopbackSignIn { sign_in: self, pending, listener, path, deadline: DEFAULT_DEADLINE })
    }
}

impl LoopbackSignIn {
    /// Returns the page to open in a browser.
    pub fn url(&self) -> &Url {
        self.pending.url()
    }

    /// Sets how long to wait for the browser. Default: 5 minutes; more than 10 are of no use.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Waits for the browser, shows it a short page, redeems the code and saves the refresh token.
    ///
    /// Requests for other paths and those of another sign-in are answered and do not end the wait.
    ///
    /// # Errors
    /// [`TokenErrorKind::SignInRequired`] when nobody came in time or the person declined, and the others as
    /// [`AuthorizationCode::finish`].
    ///
    /// # Cancellation
    /// Dropping the future closes the port; a save that was begun is finished.
    pub async fn finish(self, store: impl TokenStore + 'static) -> Result<SignedIn, TokenError> {
        let Self { sign_in, pending, listener, path, deadline } = self;
        let clock = sign_in.client().clock().clone();
        let door = Arc::new(Door { path, pending: pending.clone(), clock: clock.clone() });
        let end = clock.moment().after(deadline);
        let callback = clock.until(end, receive(&listener, &door)).await.map_err(|_elapsed| {
            let message = format!("nobody signed in within {} seconds: start again", deadline.as_secs());
            TokenError::new(TokenErrorKind::SignInRequired, message)
        })??;
        // Nothing else may come in: the port is closed before the code is redeemed.
        drop(listener);
        sign_in.finish(&pending, callback, store).await
    }
}

impl fmt::Debug for LoopbackSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sign_in, pending, listener, path: _, deadline } = self;
        f.debug_struct("LoopbackSignIn")
            .field("sign_in", sign_in)
            .field("pending", pending)
            .field("address", &listener.local_addr().ok())
            .field("deadline", deadline)
            .finish_non_exhaustive()
    }
}

/// What is let in.
struct Door {
    path: String,
    pending: PendingSignIn,
    clock: Clock,
}

/// What a request is answered with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Received,
    Refused,
    OtherSignIn,
    NotFound,
    Unreadable,
}

/// Waits for the one request that answers the sign-in, and returns its target.
async fn receive(listener: &TcpListener, door: &Arc<Door>) -> Result<String, TokenError> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                let (stream, _peer) = accepted.map_err(|error| {
                    let message = "the loopback port that the browser comes back to has failed";
                    TokenError::new(TokenErrorKind::Unavailable, message).with_source(error)
                })?;
                connections.spawn(serve(stream, door.clone()));
            }
            Some(served) = connections.join_next() => {
                if let Ok(Some(target)) = served {
                    return Ok(target);
                }
            }
        }
    }
}

/// Answers one connection; returns the target of the request when it is the one waited for.
async fn serve(mut stream: TcpStream, door: Arc<Door>) -> Option<String> {
    let end = door.clock.moment().after(CONNECTION_DEADLINE);
    let head = door.clock.until(end, read_head(&mut stream)).await.ok()?.ok()?;
    let target = head.as_deref().and_then(target);
    let page = target.map_or(Page::Unreadable, |target| door.judge(target));
    let write = async {
        stream.write_all(page.response().as_bytes()).await?;
        stream.shutdown().await
    };
    // Whether the browser still reads its page does not matter: the answer is here.
    let _written = door.clock.until(end, write).await;
    let is_answer = matches!(page, Page::Received | Page::Refused);
    target.filter(|_| is_answer).map(str::to_owned)
}

/// Reads up to the empty line; `None` when that is too far away or the text is no text.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        if count == 0 || head.len() + count > MOST_HEAD_BYTES {
            return Ok(None);
        }
        head.extend(chunk.iter().take(count));
    }
    Ok(String::from_utf8(head).ok())
}

/// Reads the request line (RFC 9112 §3); anything but GET is of no use here.
fn target(head: &str) -> Option<&str> {
    let mut parts = head.lines().next()?.split(' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let is_request = method == "GET" && target.starts_with('/') && version.starts_with("HTTP/1.");
    (is_request && parts.next().is_none()).then_some(target)
}

impl Door {
    fn judge(&self, target: &str) -> Page {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != self.path || query.is_empty() {
            return Page::NotFound;
        }
        match Callback::parse(target) {
            Ok(callback) if !callback.is_answer_to(self.pending.state.expose_secret()) => Page::OtherSignIn,
            Ok(callback) if callback.get("error").is_some() => Page::Refused,
            Ok(callback) if callback.get("code").is_some() => Page::Received,
            _ => Page::OtherSignIn,
        }
    }
}

impl Page {
    /// Returns the whole response. It repeats nothing of the request, so that no secret and no script gets into it.
    fn response(self) -> String {
        let (status, title, text) = match self {
            Self::Received => {
                ("200 OK", "Sign-in received", "You can close this page and go back to the program.")
            }
            Self::Refused => {
                ("200 OK", "Not signed in", "The sign-in was refused. Go back to the program to read why.")
            }
            Self::OtherSignIn => (
                "400 Bad Request",
                "Not this sign-in",
                "This page belongs to another sign-in. Use the address that the program shows now.",
            ),
            Self::NotFound => ("404 Not Found", "Not found", "There is nothing here."),
            Self::Unreadable => ("400 Bad Request", "Bad request", "This request cannot be understood."),
        };
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title}</title></head>\n<body><main><h1>{title}</h1><p>{text}</p></main></body></html>\n"
        );
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\
             Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{page}",
            page.len()
        )
    }
}
