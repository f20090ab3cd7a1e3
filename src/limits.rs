//! Keeps a mailbox within its sending limits: submissions wait their turn. Knows neither messages nor connections.
//!
//! Windows that remember when something was sent, not token buckets: a bucket of 30 a minute lets 60 out in the first
//! minute, and the server counts those.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::config::{SendingLimits, WhenReached};
use crate::error::Error;
use crate::retry::Backoff;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Recipients of the same five minutes are counted together, so that a day needs at most 290 entries.
const DAY_GRAIN: Duration = Duration::from_secs(5 * 60);

/// How long everybody waits after the server has said that it is too much: doubled each time it says so again.
const SLOW_DOWN: Backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(300) };

/// The counters of one mailbox.
#[derive(Debug)]
pub(crate) struct Limiter {
    clock: Clock,
    when_reached: WhenReached,
    /// Whoever holds it is the next to be admitted; the others wait in order.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    messages: Option<Window>,
    recipients: Option<Window>,
    /// The server is throttling: nobody is admitted before this.
    resume_at: Option<Moment>,
    throttles: u32,
}

impl Limiter {
    pub(crate) fn new(limits: &SendingLimits, clock: Clock) -> Self {
        let state = State {
            messages: limits
                .messages_per_minute()
                .map(|most| Window::new(most.get(), MINUTE, Duration::ZERO)),
            recipients: limits.recipients_per_day().map(|most| Window::new(most.get(), DAY, DAY_GRAIN)),
            resume_at: None,
            throttles: 0,
        };
        Self {
            clock,
            when_reached: limits.when_reached(),
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// Waits until a message to `recipients` recipients may go out, and counts it.
    ///
    /// # Errors
    /// When its turn would come only after `deadline`, or at once if that was asked for.
    ///
    /// # Cancellation
    /// A dropped future counts nothing and gives its turn to the next.
    pub(crate) async fn admit(&self, recipients: u32, deadline: Moment) -> Result<(), Error> {
        // Held while waiting: it keeps the submissions in order, and a small one from overtaking for ever a large one.
        let turn = self.clock.until(deadline, self.turn.lock()).await;
        let started = self.clock.moment();
        let Ok(_turn) = turn else {
            return Err(Error::limit_reached("waiting for earlier submissions took too long", None));
        };
        loop {
            let now = self.clock.moment();
            let admission = self.state().admission(recipients, now);
            match admission {
                Err(TooMany { most }) => {
                    return Err(Error::unsendable(format!(
                        "{recipients} recipients are more than the {most} that the mailbox may address in a day"
                    )));
                }
                Ok(at) if at <= now => {
                    self.state().count(recipients, now);
                    return Ok(());
                }
                Ok(at) if at > deadline || self.when_reached == WhenReached::Fail => {
                    let wait = at.since(started);
                    return Err(Error::limit_reached("the mailbox's sending limit is reached", Some(wait)));
                }
                // Somebody may be throttled meanwhile: look again.
                Ok(at) => self.clock.sleep_until(at).await,
            }
        }
    }

    /// The server says that it is too much: nobody is admitted for a while.
    pub(crate) fn slow_down(&self) {
        let now = self.clock.moment();
        let mut state = self.state();
        state.throttles = state.throttles.saturating_add(1);
        let resume_at = now.after(SLOW_DOWN.wait(state.throttles));
        state.resume_at = state.resume_at.max(Some(resume_at));
    }

    /// The server took a message: it is not too much any more.
    pub(crate) fn accepted(&self) {
        self.state().throttles = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More at once than a whole window allows.
struct TooMany {
    most: u32,
}

impl State {
    /// Finds the earliest moment at which everything allows it.
    fn admission(&mut self, recipients: u32, now: Moment) -> Result<Moment, TooMany> {
        let mut at = self.resume_at.map_or(now, |resume| resume.max(now));
        if let Some(messages) = &mut self.messages {
            at = at.max(messages.room_for(1, now)?);
        }
        if let Some(window) = &mut self.recipients {
            at = at.max(window.room_for(recipients, now)?);
        }
        Ok(at)
    }

    fn count(&mut self, recipients: u32, now: Moment) {
        if let Some(messages) = &mut self.messages {
            messages.add(1, now);
        }
        if let Some(window) = &mut self.recipients {
            window.add(recipients, now);
        }
    }
}

/// What was sent within the last `span`.
#[derive(Debug)]
struct Window {
    most: u32,
    span: Duration,
    grain: Duration,
    entries: VecDeque<Entry>,
    total: u32,
}

/// Things sent from `since` on, for as long as the grain; they count until the last of them is out of the span.
#[derive(Debug)]
struct Entry {
    since: Moment,
    count: u32,
}

impl Window {
    fn new(most: u32, span: Duration, grain: Duration) -> Self {
        Self { most, span, grain, entries: VecDeque::new(), total: 0 }
    }

    fn room_for(&mut self, count: u32, now: Moment) -> Result<Moment, TooMany> {
        if count > self.most {
            return Err(TooMany { most: self.most });
        }
        let lifetime = self.span + self.grain;
        while let Some(entry) = self.entries.front().filter(|entry| entry.since.after(lifetime) <= now) {
            self.total = self.total.saturating_sub(entry.count);
            self.entries.pop_front();
        }
        let mut total = self.total;
        let mut at = now;
        for entry in &self.entries {
            if total + count <= self.most {
                break;
            }
            total -= entry.count;
            at = entry.since.after(lifetime);
        }
        Ok(at)
    }

    fn add(&mut self, count: u32, now: Moment) {
        self.total = self.total.saturating_add(count);
        match self.entries.back_mut() {
            Some(entry) if now.since(entry.since) < self.grain => {
                entry.count = entry.count.saturating_add(count);
            }
            _ => self.entries.push_back(Entry { since: now, count }),
        }
    }
}
