//! Watches until when a client's secret or certificate works, and warns in the log ahead of that day. Renews nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use time::{Date, OffsetDateTime};

use crate::clock::{Clock, Moment};
use crate::observe::token as observe;
use crate::token::TokenNote;

/// How long before the day the warnings begin.
const AHEAD: time::Duration = time::Duration::days(30);
const BETWEEN_WARNINGS: Duration = Duration::from_secs(24 * 60 * 60);

/// What expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiring {
    /// Such as `client secret`.
    pub(crate) what: &'static str,
    pub(crate) at: OffsetDateTime,
}

impl Expiring {
    /// A client secret, whose last day is `day`: it is taken not to work on it any more.
    pub(crate) fn secret(day: Date) -> Self {
        Self { what: "client secret", at: day.midnight().assume_utc() }
    }
}

/// Warns once a day at most, whatever the number of token requests.
#[derive(Debug)]
pub(super) struct ExpiryWatch {
    expiring: Option<Expiring>,
    warned: Mutex<Option<Moment>>,
}

impl ExpiryWatch {
    pub(super) fn new(expiring: Option<Expiring>) -> Self {
        Self { expiring, warned: Mutex::new(None) }
    }

    pub(super) fn expiring(&self) -> Option<Expiring> {
        self.expiring
    }

    /// Says for a diagnosis how long it still works; a warning where the log warns too.
    pub(super) fn note(&self, now: OffsetDateTime) -> Option<TokenNote> {
        let Expiring { what, at } = self.expiring?;
        let (date, days) = (at.date(), (at - now).whole_days());
        Some(match at - now {
            left if left <= time::Duration::ZERO => {
                TokenNote::Warning(format!("the {what} expired on {date}: make a new one and enter it here"))
            }
            left if left <= AHEAD => TokenNote::Warning(format!(
                "the {what} expires on {date}, in {days} days: make a new one and enter it here"
            )),
            _ => TokenNote::Fact(format!("the {what} works until {date}")),
        })
    }

    /// Looks at the date, at the start and at each request for a token.
    pub(super) fn check(&self, clock: &Clock, client_id: &str) {
        let Some(Expiring { what, at }) = self.expiring else { return };
        observe::credential(client_id, what, at);
        let now = clock.now();
        if at - now > AHEAD {
            return;
        }
        let moment = clock.moment();
        {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.is_some_and(|last| moment.since(last) < BETWEEN_WARNINGS) {
                return;
            }
            *warned = Some(moment);
        }
        observe::credential_expires(client_id, what, at, now);
    }
}
