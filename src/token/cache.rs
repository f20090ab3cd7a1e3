//! A cache before a token provider: one request at a time, made before expiry. Stores nothing on disk.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::state::{Flight, Landing, State, Step};
use super::{AccessToken, TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest};
use crate::clock::Clock;
use crate::observe::token::Request;
use crate::retry::jitter;

mod state;

/// Keeps the access token of another [`TokenProvider`] until shortly before it expires.
///
/// - **Single flight**: any number of callers cause one request to the provider. It runs in a task of its own: a
///   caller that is cancelled loses neither the token nor a rotated refresh token.
/// - **Early refresh**: a token is replaced [`refresh_margin`](Self::refresh_margin) before it expires. When that fails
///   while the old token is still good, the old token is returned, with a warning in the log (feature `tracing`).
/// - **Refused tokens**: a token that the mail server refused is never handed out again, and replaced once for all.
/// - **Hold-off**: after a failure that asking again at once cannot mend, callers get the same error without a new
///   request, until `Retry-After` or a backoff has passed.
///
/// A cached token is returned without allocation. Clones share one cache.
///
/// ```
/// use std::time::Duration;
/// use smtp_oauth::{AccessToken, TokenCache, TokenProvider, TokenRequest, token};
/// use time::OffsetDateTime;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), smtp_oauth::TokenError> {
/// let provider = token::from_fn(|| async {
///     AccessToken::new("EwBAAl3BAAUF", OffsetDateTime::now_utc() + Duration::from_secs(3600))
/// });
/// let cache = TokenCache::new(provider).refresh_margin(Duration::from_secs(600));
/// let token = cache.token(TokenRequest::new()).await?;
/// assert!(cache.token(TokenRequest::new()).await?.is_same(&token));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenCache {
    provider: Arc<dyn TokenProvider>,
    clock: Clock,
    margin: Duration,
    jitter: Duration,
    fetch_deadline: Duration,
    state: Arc<Mutex<State>>,
}

/// Landing once more helps when the first flight was another caller's; a third time would be a defect.
const MOST_FLIGHTS: usize = 3;

impl TokenCache {
    /// Puts a cache before `provider`.
    pub fn new(provider: impl TokenProvider + 'static) -> Self {
        Self {
            provider: Arc::new(provider),
            clock: Clock::system(),
            margin: Duration::from_secs(5 * 60),
            jitter: Duration::from_secs(30),
            fetch_deadline: Duration::from_secs(3 * 60),
            state: Arc::default(),
        }
    }

    /// Sets the clock that tokens expire by. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long before expiry a cached token stops being used.
    ///
    /// Covers clock skew and a slow connect: a token handed out is still valid when presented. A token that lives no
    /// longer than this is used for the first half of its life. Default: 5 minutes.
    #[must_use]
    pub fn refresh_margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the most by which a refresh is made earlier still, drawn at random once for each token.
    ///
    /// Processes that started together then do not ask together. Zero makes the moment exact. Default: 30 seconds.
    #[must_use]
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Sets how long the provider may take before it is dropped, so that one hung request does not stop mail for ever.
    ///
    /// The providers of this crate have shorter deadlines of their own. Default: 3 minutes.
    #[must_use]
    pub fn fetch_deadline(mut self, deadline: Duration) -> Self {
        self.fetch_deadline = deadline;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent at every step, so a panic elsewhere while it was held does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(self, request: TokenRequest<'_>) -> Result<AccessToken, TokenError> {
        for attempt in 1..=MOST_FLIGHTS {
            let (landing, own) = match self.board(&request)? {
                Boarding::Arrived(result) => return result,
                Boarding::Joined(landing) => (landing, false),
                Boarding::Started(landing) => (landing, true),
            };
            let result = wait_for(landing).await;
            let now = self.clock.now();
            match result {
                Ok(token) if request.accepts(&token, now) => return Ok(token),
                // The provider did its best for this very request: the server issues short tokens, or this one again.
                Ok(token) if own || attempt == MOST_FLIGHTS => {
                    return accept_hard(token, &request, &self.clock);
                }
                // Another caller's flight had other wishes; the next one is for this request.
                Ok(_) => {}
                Err(error) => return self.state().fall_back(&request, now, error),
            }
        }
        Err(abandoned())
    }

    /// Decides what to do for `request`, and starts a flight when it takes one; decided and noted under one lock.
    fn board(&self, request: &TokenRequest<'_>) -> Result<Boarding, TokenError> {
        let mut state = self.state();
        let (now, moment) = (self.clock.now(), self.clock.moment());
        let least_validity = match state.step(request, now, moment) {
            Step::Done(result) => return Ok(Boarding::Arrived(result)),
            Step::Join(landing) => return Ok(Boarding::Joined(landing)),
            Step::Fetch { early } => early.unwrap_or(self.margin).max(request.least_validity()),
        };
        let runtime = Handle::try_current().map_err(|error| {
            let message = "a token is needed outside of a Tokio runtime";
            TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
        })?;
        let observed = match self.provider.is_cache() {
            true => Request::passed_on(&self.clock),
            false => Request::begin(&self.clock),
        };
        let (sender, landing) = watch::channel(None);
        let flight = Flight {
            clock: self.clock.clone(),
            early: self.margin.saturating_add(jitter(self.jitter)),
            state: self.state.clone(),
            landing: Some(sender),
            observed: observed.clone(),
        };
        let work = observed.run(self.clone().fly(flight, least_validity, request.rejected().cloned()));
        // Last: from here on only the end of the flight takes it back, and nothing may fail before that is certain.
        state.flight = Some(landing.clone());
        // A runtime that is ending drops the flight at once, and its end takes the lock.
        drop(state);
        runtime.spawn(work);
        Ok(Boarding::Started(landing))
    }

    async fn fly(self, flight: Flight, least_validity: Duration, rejected: Option<AccessToken>) {
        let mut request = TokenRequest::new().with_least_validity(least_validity);
        if let Some(rejected) = &rejected {
            request = request.with_rejected(rejected);
        }
        let deadline = self.clock.moment().after(self.fetch_deadline);
        let result = self.clock.until(deadline, self.provider.token(request)).await;
        flight.land(result.unwrap_or_else(|_elapsed| {
            let seconds = self.fetch_deadline.as_secs();
            let message = format!("the token provider did not answer within {seconds} seconds");
            Err(TokenError::new(TokenErrorKind::Unavailable, message))
        }));
    }
}

enum Boarding {
    Arrived(Result<AccessToken, TokenError>),
    Joined(Landing),
    Started(Landing),
}

impl TokenProvider for TokenCache {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        if let Some(token) = self.state().usable(&request, self.clock.now()) {
            return TokenFuture::ready(Ok(token));
        }
        TokenFuture::new(self.clone().fetch(request))
    }

    fn notes(&self) -> Vec<TokenNote> {
        self.provider.notes()
    }

    fn is_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, clock, margin, jitter, fetch_deadline, state: _ } = self;
        f.debug_struct("TokenCache")
            .field("provider", provider)
            .field("clock", clock)
            .field("margin", margin)
            .field("jitter", jitter)
            .field("fetch_deadline", fetch_deadline)
            .finish_non_exhaustive()
    }
}

async fn wait_for(mut landing: Landing) -> Result<AccessToken, TokenError> {
    match landing.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or_else(|| Err(abandoned())),
        Err(_gone) => Err(abandoned()),
    }
}

fn accept_hard(
    token: AccessToken,
    request: &TokenRequest<'_>,
    clock: &Clock,
) -> Result<AccessToken, TokenError> {
    let kind = TokenErrorKind::InvalidToken;
    if request.rejected().is_some_and(|rejected| rejected.is_same(&token)) {
        return Err(TokenError::new(
            kind,
            "the provider returned the token that the mail server just refused",
        ));
    }
    if !token.is_valid_for(Duration::ZERO, clock.now()) {
        return Err(TokenError::new(kind, "the provider returned a token that has expired"));
    }
    Ok(token)
}

fn abandoned() -> TokenError {
    let message = "the token request was abandoned: its task panicked or its runtime stopped";
    TokenError::new(TokenErrorKind::Unavailable, message)
}
