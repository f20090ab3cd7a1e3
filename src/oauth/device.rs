//! The device authorization grant (RFC 8628): a person signs in on another machine. Opens no browser and no port.

use std::fmt;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Deserialize;
use time::OffsetDateTime;
use url::Url;

use super::authorization_code::configuration;
use super::client::Client;
use super::device_poll::Polling;
use super::error::Attempt;
use super::signed_in::SignedIn;
use crate::token::store::TokenStore;
use crate::token::{TokenError, TokenErrorKind};

/// What error messages call it.
pub(super) const NAME: &str = "device code grant";

/// RFC 8628 §3.2: for servers that name no interval.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// A server's mistake must not stop the polling, nor make it a flood.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// No server means more; longer ones would overflow dates.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Signs a person in with a code that is entered on another machine; for programs without a browser.
///
/// Made by [`Client::device_code`] or [`entra::App::device_code`](crate::entra::App::device_code).
///
/// ```
/// use smtp_oauth::testing::FakeEntra;
/// use smtp_oauth::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manual = smtp_oauth::testing::ManualClock::new();
/// let entra = FakeEntra::builder().public_client();
/// # let entra = entra.clock(manual.clock());
/// let entra = entra.start().await;
///
/// let mut sign_in = entra.app().build()?.device_code().start().await?;
/// println!("Open {} and enter {}.", sign_in.verification_uri(), sign_in.user_code());
/// entra.approve_device(sign_in.user_code());
/// # manual.advance(std::time::Duration::from_secs(5));
/// let signed_in = sign_in.finish(MemoryStore::new()).await?;
/// assert_eq!(signed_in.account(), Some("svc-mail@contoso.com"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nobody signs in before `start`"]
pub struct DeviceCode {
    client: Client,
    scopes: Vec<String>,
}

/// A sign-in that waits for a person to enter the code; dropping it ends the polling.
pub struct DeviceSignIn {
    client: Client,
    scopes: Vec<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    message: Option<String>,
    expires_at: OffsetDateTime,
    polling: Polling,
}

/// What happens while a person is signing in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// Nothing yet; comes about once a second, for a countdown.
    #[non_exhaustive]
    Waiting {
        /// How long the code still works.
        remaining: Duration,
    },
    /// The server wants to be asked less often.
    #[non_exhaustive]
    SlowedDown {
        /// How often it is asked from now on.
        interval: Duration,
    },
    /// The server could not be asked, and will be again.
    #[non_exhaustive]
    Retrying {
        /// Why not.
        error: TokenError,
        /// How long until then.
        after: Duration,
    },
    /// The person signed in: [`DeviceSignIn::finish`] saves the tokens.
    Approved,
}

impl Client {
    /// Signs a person in with a code that is entered on another machine; set the scopes next.
    pub fn device_code(&self) -> DeviceCode {
        DeviceCode { client: self.clone(), scopes: Vec::new() }
    }
}

impl DeviceCode {
    /// Sets the scopes of the tokens: those of one resource, and `offline_access`, `openid` and the like.
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Asks the server for a code.
    ///
    /// # Errors
    /// [`TokenErrorKind::Configuration`] when the client has no device authorization endpoint, and the others as the
    /// server answers.
    ///
    /// # Cancellation
    /// Dropping the future leaves a code that nobody knows, which expires.
    pub async fn start(self) -> Result<DeviceSignIn, TokenError> {
        let Self { client, scopes } = self;
        let missing = || configuration("the client has no device authorization endpoint: nobody can sign in");
        let endpoint = client.device_authorization_endpoint().ok_or_else(missing)?;
        let asked = client.clock().moment();
        let asked_at = client.clock().now();
        let secrets = client.authentication().secret().map(ExposeSecret::expose_secret).into_iter().collect();
        let host = endpoint.host_str().unwrap_or_default();
        let attempt = Attempt { grant: NAME, host, secrets, classify: client.classify() };
        let scope = scopes.join(" ");
        let parameters = [("scope", scope.as_str())];
        let post = client.post::<Answer>(endpoint, &parameters, &attempt);
        let answered = match client.clock().until(asked.after(client.deadline()), post).await {
            Ok(answered) => answered,
            Err(_elapsed) => return Err(attempt.timeout(client.deadline())),
        };
        let answer = answered.result.map_err(|failure| failure.error)?;
        answer.check().map_err(|what| attempt.invalid(what, &answered.exchange))?;
        let lifetime = Duration::from_secs(answer.expires_in).min(LONGEST_LIFE);
        let interval = answer.interval.map_or(USUAL_INTERVAL, Duration::from_secs);
        let interval = interval.clamp(*INTERVALS.start(), *INTERVALS.end());
        let polling =
            Polling::new(client.clone(), answer.device_code.into(), asked.after(lifetime), interval);
        Ok(DeviceSignIn {
            scopes,
            user_code: answer.user_code,
            verification_uri: answer.verification_uri,
            verification_uri_complete: answer.verification_uri_complete.filter(|page| is_page(page)),
            message: answer.message.map(|message| printable(&message)),
            expires_at: asked_at + lifetime,
            polling,
            client,
        })
    }
}

impl DeviceSignIn {
    /// Returns the code to show to the person, who enters it on the page.
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// Returns the address of the page to enter the code on.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// Returns the address that holds the code already, when the server gives one (Entra does not).
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.verification_uri_complete.as_deref()
    }

    /// Returns what to tell the person, in the server's words when it has some.
    pub fn message(&self) -> String {
        let ours =
            || format!("To sign in, open {} and enter the code {}.", self.verification_uri, self.user_code);
        self.message.clone().unwrap_or_else(ours)
    }

    /// Returns when the code stops working.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// Waits for the next thing to tell the person; `None` when it is over, and [`finish`](Self::finish) says how.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: a poll under way goes on with the next call.
    pub async fn next_event(&mut self) -> Option<DeviceEvent> {
        self.polling.next_event().await
    }

    /// Waits until the person has signed in, then saves the refresh token.
    ///
    /// # Errors
    /// [`TokenErrorKind::SignInRequired`] when the person declined or the code expired; [`TokenErrorKind::Unavailable`]
    /// after five failures in a row; the others as [`AuthorizationCode::finish`](super::AuthorizationCode::finish).
    /// After [`TokenErrorKind::Store`] it may be called again: the tokens are kept until they are saved.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing, and a save that was begun is finished; it may be called again.
    pub async fn finish(&mut self, store: impl TokenStore + 'static) -> Result<SignedIn, TokenError> {
        let granted = self.polling.granted().await?;
        self.client.keep_sign_in(granted, &self.scopes, None, store).await
    }
}

impl fmt::Debug for DeviceSignIn {
    /// Shows no user code: whoever reads it may sign in as somebody else here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            scopes,
            user_code: _,
            verification_uri,
            verification_uri_complete: _,
            message: _,
            expires_at,
            polling,
        } = self;
        f.debug_struct("DeviceSignIn")
            .field("client", client)
            .field("scopes", scopes)
            .field("verification_uri", verification_uri)
            .field("expires_at", expires_at)
            .field("polling", polling)
            .finish_non_exhaustive()
    }
}

/// RFC 8628 §3.2, with Google's older name of the address and Entra's message.
#[derive(Deserialize)]
struct Answer {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
    #[serde(default)]
    message: Option<String>,
}

impl Answer {
    /// What is shown to a person must be what it says it is.
    fn check(&self) -> Result<(), &'static str> {
        if self.device_code.is_empty() || self.user_code.is_empty() {
            Err("no code")
        } else if self.user_code.chars().any(char::is_control) {
            Err("a code that cannot be shown")
        } else if !is_page(&self.verification_uri) {
            Err("a page that is not https")
        } else {
            Ok(())
        }
    }
}

fn is_page(text: &str) -> bool {
    // The parser takes what would steer a terminal, and the text is shown as it came.
    !text.chars().any(char::is_control)
        && Url::parse(text).is_ok_and(|url| super::client::is_trustworthy(&url))
}

/// The server's words are meant for a terminal, and must not steer it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// The end of a code that nobody used.
pub(super) fn expired() -> TokenError {
    let message = "nobody entered the code in time: start the sign-in again";
    TokenError::new(TokenErrorKind::SignInRequired, message)
}
