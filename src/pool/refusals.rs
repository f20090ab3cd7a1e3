//! Mailboxes that refuse even a new token: what is wrong is theirs, and no reason to replace the token of all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Pool, Shared};
use crate::clock::Moment;

/// A permission that was just given takes up to an hour to work, and a token lives that long: this is short beside both.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// The user names that were refused with two tokens in a row, each with when; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<String, Moment>>>);

impl Refusals {
    /// Tells whether a refusal of `username` says nothing about the token.
    fn concern(&self, username: &str, now: Moment) -> bool {
        self.refused().get(username).is_some_and(|at| now.since(*at) < REMEMBERED)
    }

    /// Notes that `username` was refused with a new token as well.
    fn note(&self, username: &str, now: Moment) {
        let mut refused = self.refused();
        refused.retain(|_, at| now.since(*at) < REMEMBERED);
        refused.insert(username.to_owned(), now);
    }

    /// Notes that `username` was let in.
    fn clear(&self, username: &str) {
        self.refused().remove(username);
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<String, Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Tells whether this mailbox was refused a new token a short while ago, while others share the token.
    pub(super) fn refuses_any_token(&self) -> bool {
        let Shared { endpoint, refusals, .. } = &*self.0;
        let now = endpoint.clock.moment();
        refusals.as_ref().is_some_and(|refusals| refusals.concern(endpoint.config.username(), now))
    }

    pub(super) fn note_refusal(&self) {
        let Shared { endpoint, refusals, .. } = &*self.0;
        if let Some(refusals) = refusals {
            refusals.note(endpoint.config.username(), endpoint.clock.moment());
        }
    }

    pub(super) fn note_admission(&self) {
        let Shared { endpoint, refusals, .. } = &*self.0;
        if let Some(refusals) = refusals {
            refusals.clear(endpoint.config.username());
        }
    }
}
