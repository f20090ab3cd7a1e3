//! What a token cache knows, and every decision it takes. Asks no provider and waits for nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::{Clock, Moment};
use crate::observe::token::Request;
use crate::retry::Backoff;
use crate::token::{AccessToken, TokenError, TokenErrorKind, TokenRequest};

const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// No server's `Retry-After` stops the cache for longer.
const LONGEST_HOLD_OFF: Duration = Duration::from_secs(60 * 60);
/// For refusals that last until somebody changes the settings; Entra throttles those who repeat them (AADSTS50196).
const REFUSED_HOLD_OFF: Duration = Duration::from_secs(30);

/// Where the result of a flight arrives.
pub(super) type Landing = watch::Receiver<Option<Result<AccessToken, TokenError>>>;

#[derive(Default)]
pub(super) struct State {
    held: Option<Held>,
    pub(super) flight: Option<Landing>,
    hold_off: Option<HoldOff>,
    /// Consecutive temporary failures.
    failures: u32,
}

struct Held {
    token: AccessToken,
    /// How long before expiry this token stops being used.
    early: Duration,
    /// How long it was valid for when it arrived.
    lifetime: Duration,
    refused: bool,
}

struct HoldOff {
    until: Moment,
    error: TokenError,
}

/// What to do for a request.
pub(super) enum Step {
    Done(Result<AccessToken, TokenError>),
    Join(Landing),
    /// `early` is how much validity a successor of the held token must have.
    Fetch {
        early: Option<Duration>,
    },
}

impl State {
    /// Returns the held token when nothing needs to be done for `request`.
    pub(super) fn usable(&self, request: &TokenRequest<'_>, now: OffsetDateTime) -> Option<AccessToken> {
        let held = self.held.as_ref().filter(|held| !held.refused)?;
        let fresh = held.token.is_valid_for(held.wanted(request.least_validity()), now);
        let refused = request.rejected().is_some_and(|rejected| rejected.is_same(&held.token));
        (fresh && !refused).then(|| held.token.clone())
    }

    pub(super) fn step(&mut self, request: &TokenRequest<'_>, now: OffsetDateTime, moment: Moment) -> Step {
        self.note_refusal(request);
        if let Some(token) = self.usable(request, now) {
            return Step::Done(Ok(token));
        }
        if let Some(landing) = &self.flight {
            return Step::Join(landing.clone());
        }
        if let Some(hold_off) = &self.hold_off
            && moment < hold_off.until
        {
            let error = hold_off.error.clone();
            return Step::Done(self.fall_back(request, now, error));
        }
        Step::Fetch { early: self.held.as_ref().map(|held| held.early) }
    }

    /// Returns the held token if it is still good enough for `request`, and `error` otherwise.
    pub(super) fn fall_back(
        &self,
        request: &TokenRequest<'_>,
        now: OffsetDateTime,
        error: TokenError,
    ) -> Result<AccessToken, TokenError> {
        match &self.held {
            Some(held) if !held.refused && request.accepts(&held.token, now) => Ok(held.token.clone()),
            _ => Err(error),
        }
    }

    /// Remembers a refusal, so that callers who do not know of it are not given the token either.
    fn note_refusal(&mut self, request: &TokenRequest<'_>) {
        if let (Some(held), Some(rejected)) = (&mut self.held, request.rejected())
            && rejected.is_same(&held.token)
        {
            held.refused = true;
        }
    }

    fn succeed(&mut self, token: AccessToken, early: Duration, now: OffsetDateTime) {
        let same = self.held.take().filter(|held| held.token.is_same(&token));
        let lifetime = Duration::try_from(token.expires_at() - now).unwrap_or_default();
        // A provider that returns a refused token again has no other; it stays refused.
        let refused = same.is_some_and(|held| held.refused);
        self.held = Some(Held { token, early, lifetime, refused });
        self.hold_off = None;
        self.failures = 0;
    }

    fn fail(&mut self, error: &TokenError, moment: Moment) {
        let wait = match error.kind() {
            TokenErrorKind::Unavailable => {
                self.failures = self.failures.saturating_add(1);
                error.retry_after().unwrap_or_else(|| BACKOFF.wait(self.failures)).min(LONGEST_HOLD_OFF)
            }
            TokenErrorKind::ClientRefused
            | TokenErrorKind::AccountRefused
            | TokenErrorKind::RequestRefused
            | TokenErrorKind::Configuration
            | TokenErrorKind::InvalidResponse => REFUSED_HOLD_OFF,
            // A new sign-in, or a mended store, must work at once; no server is asked before that.
            TokenErrorKind::SignInRequired | TokenErrorKind::InvalidToken | TokenErrorKind::Store => {
                self.hold_off = None;
                return;
            }
        };
        self.hold_off = Some(HoldOff { until: moment.after(wait), error: error.clone() });
    }

    /// Returns when the held token expires, if it can be used until then.
    fn still_good_until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let held = self.held.as_ref().filter(|held| !held.refused)?;
        held.token.is_valid_for(Duration::ZERO, now).then(|| held.token.expires_at())
    }
}

impl Held {
    /// Returns how long the token must still be valid to be used without asking for a successor.
    fn wanted(&self, least_validity: Duration) -> Duration {
        let wanted = self.early.max(least_validity);
        // No token of this server can do it: half of its life keeps every call from causing a request.
        if wanted >= self.lifetime { self.lifetime / 2 } else { wanted }
    }
}

/// One request to the provider that is under way; whatever becomes of it, the waiters hear of it.
pub(super) struct Flight {
    pub(super) clock: Clock,
    pub(super) early: Duration,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) landing: Option<watch::Sender<Option<Result<AccessToken, TokenError>>>>,
    pub(super) observed: Request,
}

impl Flight {
    pub(super) fn land(mut self, result: Result<AccessToken, TokenError>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<AccessToken, TokenError>) {
        let Some(landing) = self.landing.take() else { return };
        let now = self.clock.now();
        let old = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.flight = None;
            match &result {
                Ok(token) => state.succeed(token.clone(), self.early, now),
                Err(error) => state.fail(error, self.clock.moment()),
            }
            state.still_good_until(now)
        };
        match &result {
            Ok(token) => {
                let validity = Duration::try_from(token.expires_at() - now).unwrap_or_default();
                self.observed.obtained(&self.clock, validity);
            }
            Err(error) => self.observed.failed(&self.clock, error.kind().name(), error, old),
        }
        landing.send_replace(Some(result));
    }
}

impl Drop for Flight {
    /// Reached without `land` when the provider panicked or the runtime went away.
    fn drop(&mut self) {
        self.finish(Err(super::abandoned()));
    }
}
