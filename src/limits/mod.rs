//! Keeps a mailbox within its sending limits: submissions wait their turn. Knows neither messages nor connections.
//!
//! Windows that remember when something was sent, not token buckets: a bucket of 30 a minute lets 60 out in the first
//! minute, and the server counts those.

#[cfg(feature = "redis")]
mod redis;
mod shared;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Elapsed, Moment};
use crate::config::{SendingLimits, WhenReached};
use crate::error::{Error, ReachedLimit};
use crate::observe::limits::{self as observe, Waits};
use crate::retry::Backoff;

#[cfg(feature = "redis")]
pub use redis::RedisLimits;
pub use shared::{ReleaseFuture, Reservation, ReserveFuture, SharedLimits, SharedLimitsError};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Recipients of the same five minutes are counted together, so that a day needs at most 290 entries.
const DAY_GRAIN: Duration = Duration::from_secs(5 * 60);

/// How long a fleet's count may take to answer; everybody else waits meanwhile.
const LONGEST_RESERVE: Duration = Duration::from_secs(5);

/// How long everybody waits after the server has said that it is too much: doubled each time it says so again.
const SLOW_DOWN: Backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(300) };

/// The counters of one mailbox.
#[derive(Debug)]
pub(crate) struct Limiter {
    clock: Clock,
    limits: SendingLimits,
    shared: Option<Shared>,
    /// Whoever holds it is the next to be admitted; the others wait in order.
    turn: tokio::sync::Mutex<()>,
    /// A message that was under way is over: its place has a date now.
    over: tokio::sync::Notify,
    waits: Waits,
    state: Mutex<State>,
}

/// The count of a fleet, and the name the mailbox has there.
#[derive(Debug)]
struct Shared {
    limits: Arc<dyn SharedLimits>,
    mailbox: String,
}

/// The right to send one message.
///
/// The server counts a message somewhere between its first octet and its verdict. Its minute therefore begins only when
/// the ticket is dropped: until then it is among those of the current minute.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    limiter: &'a Limiter,
    recipients: u32,
    since: Moment,
    /// The fleet counts it too.
    is_shared: bool,
}

impl Ticket<'_> {
    /// No recipient was named to the server: none counts, or an outage would use up the day.
    ///
    /// # Cancellation
    /// A dropped future may leave them counted for the fleet.
    pub(crate) async fn spare_recipients(self) {
        if let Some(window) = &mut self.limiter.state().recipients {
            window.take_back(self.recipients, self.since);
        }
        let Limiter { shared, limits, .. } = self.limiter;
        let counts_together = self.is_shared && limits.recipients_per_day().is_some();
        if let Some(Shared { limits, mailbox }) = shared.as_ref().filter(|_| counts_together) {
            let deadline = self.limiter.clock.moment().after(LONGEST_RESERVE);
            let released = self.limiter.clock.until(deadline, limits.release(mailbox, self.recipients)).await;
            if let Err(error) = released.unwrap_or_else(late) {
                observe::shared_unavailable(&error);
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let now = self.limiter.clock.moment();
        if let Some(messages) = &mut self.limiter.state().messages {
            messages.end(now);
        }
        self.limiter.over.notify_one();
    }
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
            limits: *limits,
            shared: None,
            turn: tokio::sync::Mutex::default(),
            over: tokio::sync::Notify::new(),
            waits: Waits::default(),
            state: Mutex::new(state),
        }
    }

    /// Asks a fleet's count as well, where the mailbox is called `mailbox`.
    pub(crate) fn shared(mut self, limits: Arc<dyn SharedLimits>, mailbox: &str) -> Self {
        self.shared = Some(Shared { limits, mailbox: mailbox.to_owned() });
        self
    }

    /// Waits until a message to `recipients` recipients may go out, and counts it until a minute after the ticket is
    /// dropped.
    ///
    /// # Errors
    /// When its turn would come only after `deadline`, or at once if that was asked for.
    ///
    /// # Cancellation
    /// A dropped future counts nothing and gives its turn to the next.
    pub(crate) async fn admit(&self, recipients: u32, deadline: Moment) -> Result<Ticket<'_>, Error> {
        let mut wait = self.waits.arrive();
        // Held while waiting: it keeps the submissions in order, and a small one from overtaking for ever a large one.
        let turn = self.clock.until(deadline, self.turn.lock()).await;
        let Ok(_turn) = turn else {
            return Err(Error::limit_reached(ReachedLimit::Queue, None));
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
                Ok((Some(at), _)) if at <= now => {
                    let pause = match self.reserve(recipients, deadline).await {
                        Reserved::Wait(pause) => pause,
                        Reserved::Granted { is_shared } => {
                            self.state().count(recipients, now);
                            wait.end(&self.clock);
                            return Ok(Ticket { limiter: self, recipients, since: now, is_shared });
                        }
                    };
                    let at = now.after(pause);
                    if at > deadline || self.limits.when_reached() == WhenReached::Fail {
                        return Err(Error::limit_reached(ReachedLimit::Fleet, Some(pause)));
                    }
                    wait.begin(&self.clock, Some(pause));
                    self.clock.sleep_until(at).await;
                }
                Ok((at, limit)) if self.limits.when_reached() == WhenReached::Fail => {
                    return Err(Error::limit_reached(limit, at.map(|at| at.since(now))));
                }
                Ok((Some(at), limit)) if at > deadline => {
                    return Err(Error::limit_reached(limit, Some(at.since(now))));
                }
                // Somebody may be throttled meanwhile: look again.
                Ok((Some(at), _)) => {
                    wait.begin(&self.clock, Some(at.since(now)));
                    self.clock.sleep_until(at).await;
                }
                Ok((None, limit)) => {
                    wait.begin(&self.clock, None);
                    if self.clock.until(deadline, self.over.notified()).await.is_err() {
                        return Err(Error::limit_reached(limit, None));
                    }
                }
            }
        }
    }

    /// Takes a place in the fleet's count, if there is a fleet and its count can be had.
    async fn reserve(&self, recipients: u32, deadline: Moment) -> Reserved {
        let Some(Shared { limits, mailbox }) = &self.shared else {
            return Reserved::Granted { is_shared: false };
        };
        let deadline = self.clock.moment().after(LONGEST_RESERVE).min(deadline);
        let reserved = self.clock.until(deadline, limits.reserve(mailbox, &self.limits, recipients)).await;
        match reserved.unwrap_or_else(late) {
            Ok(Reservation::Granted) => Reserved::Granted { is_shared: true },
            // A wait of no time would ask again and again.
            Ok(Reservation::Wait(wait)) => Reserved::Wait(wait.max(Duration::from_millis(1))),
            Err(error) => {
                observe::shared_unavailable(&error);
                Reserved::Granted { is_shared: false }
            }
        }
    }

    /// Waits until the server is not too busy any more; for those that were admitted before it said that it is.
    pub(crate) async fn resume(&self, deadline: Moment) -> Result<(), Error> {
        let mut wait = self.waits.arrive();
        loop {
            let now = self.clock.moment();
            let Some(at) = self.state().resume_at.filter(|at| *at > now) else {
                wait.end(&self.clock);
                return Ok(());
            };
            if at > deadline || self.limits.when_reached() == WhenReached::Fail {
                return Err(Error::limit_reached(ReachedLimit::Throttling, Some(at.since(now))));
            }
            wait.begin(&self.clock, Some(at.since(now)));
            self.clock.sleep_until(at).await;
        }
    }

    /// Tells whether the server is too busy for another message at the moment.
    pub(crate) fn is_paused(&self) -> bool {
        let now = self.clock.moment();
        self.state().resume_at.is_some_and(|at| at > now)
    }

    /// The server says that it is too much: nobody is admitted for a while.
    pub(crate) fn slow_down(&self) {
        let now = self.clock.moment();
        let mut state = self.state();
        if state.resume_at.is_some_and(|at| at > now) {
            return; // Messages that were under way together are refused together: that is one event.
        }
        state.throttles = state.throttles.saturating_add(1);
        let pause = SLOW_DOWN.wait(state.throttles);
        state.resume_at = Some(now.after(pause));
        drop(state);
        observe::throttled(pause);
    }

    /// The server took a message: it is not too much any more.
    pub(crate) fn accepted(&self) {
        self.state().throttles = 0;
    }

    /// Tells whether a new limiter would decide as this one does: nothing counts any more, and no throttling is recent.
    pub(crate) fn is_spent(&self) -> bool {
        let now = self.clock.moment();
        let mut state = self.state();
        let State { messages, recipients, resume_at, throttles: _ } = &mut *state;
        let is_calm = resume_at.is_none_or(|at| now.since(at) > SLOW_DOWN.cap);
        is_calm && [messages, recipients].into_iter().flatten().all(|window| window.is_empty(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the fleet says to one message.
enum Reserved {
    Granted { is_shared: bool },
    Wait(Duration),
}

fn late<T>(_elapsed: Elapsed) -> Result<T, SharedLimitsError> {
    Err(SharedLimitsError::new("the fleet's sending limits do not answer"))
}

/// Returns what comes later; what depends on messages under way comes last.
fn later<T>(one: (Option<Moment>, T), other: (Option<Moment>, T)) -> (Option<Moment>, T) {
    match (one.0, other.0) {
        (Some(at), Some(room)) if room <= at => one,
        (None, _) => one,
        (Some(_), _) => other,
    }
}

/// More at once than a whole window allows.
struct TooMany {
    most: u32,
}

impl State {
    /// Finds the earliest moment at which everything allows it, `None` while it depends on messages under way; and what
    /// is the last to allow it.
    fn admission(&mut self, recipients: u32, now: Moment) -> Result<(Option<Moment>, ReachedLimit), TooMany> {
        let resume = self.resume_at.map_or(now, |resume| resume.max(now));
        let mut last = (Some(resume), ReachedLimit::Throttling);
        if let Some(window) = &mut self.messages {
            last = later(last, (window.room_for(1, now)?, ReachedLimit::Messages(window.most)));
        }
        if let Some(window) = &mut self.recipients {
            last = later(last, (window.room_for(recipients, now)?, ReachedLimit::Recipients(window.most)));
        }
        Ok(last)
    }

    fn count(&mut self, recipients: u32, now: Moment) {
        if let Some(messages) = &mut self.messages {
            messages.begin();
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
    /// Under way and not yet among the entries.
    open: u32,
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
        Self { most, span, grain, entries: VecDeque::new(), open: 0, total: 0 }
    }

    /// Finds when `count` more fit in; `None` while that depends on what is under way.
    fn room_for(&mut self, count: u32, now: Moment) -> Result<Option<Moment>, TooMany> {
        if count > self.most {
            return Err(TooMany { most: self.most });
        }
        let lifetime = self.lifetime();
        self.forget(now);
        let mut total = self.total.saturating_add(self.open);
        let mut at = now;
        for entry in &self.entries {
            if total.saturating_add(count) <= self.most {
                break;
            }
            total = total.saturating_sub(entry.count);
            at = entry.since.after(lifetime);
        }
        Ok((total.saturating_add(count) <= self.most).then_some(at))
    }

    /// How long an entry counts.
    fn lifetime(&self) -> Duration {
        self.span + self.grain
    }

    /// Drops what does not count any more.
    fn forget(&mut self, now: Moment) {
        let lifetime = self.lifetime();
        while let Some(entry) = self.entries.front().filter(|entry| entry.since.after(lifetime) <= now) {
            self.total = self.total.saturating_sub(entry.count);
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new(); // With the memory, of which a mailbox that sends nothing needs none.
        }
    }

    fn is_empty(&mut self, now: Moment) -> bool {
        self.forget(now);
        self.entries.is_empty() && self.open == 0
    }

    /// Something is under way, and counts until it is over and for a whole span after that.
    fn begin(&mut self) {
        self.open = self.open.saturating_add(1);
    }

    fn end(&mut self, now: Moment) {
        self.open = self.open.saturating_sub(1);
        self.add(1, now);
    }

    /// Uncounts what was added at `then`.
    fn take_back(&mut self, count: u32, then: Moment) {
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.since <= then) {
            let count = count.min(entry.count);
            entry.count -= count;
            self.total = self.total.saturating_sub(count);
            self.entries.retain(|entry| entry.count > 0);
        }
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
