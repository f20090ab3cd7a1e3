//! Connections that wait for their next message, and the task that closes them when their time is over. Opens none.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::places::Place;
use super::{Pool, RESERVED, Shared};
use crate::clock::{Clock, Moment};
use crate::observe::connection::{Close, Tally};
use crate::smtp::connection::Connection;

#[derive(Debug, Default)]
pub(super) struct Idle {
    pub(super) parked: VecDeque<Parked>,
    /// The task that closes connections that stay idle; there is one while there are any.
    pub(super) sweeper: Option<AbortHandle>,
    /// When it looks again; `None` while it is about to.
    pub(super) wakes: Option<Moment>,
}

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) connection: Box<Connection>,
    pub(super) tally: Tally,
    pub(super) since: Moment,
    pub(super) opened: Moment,
    pub(super) messages: u32,
    /// Its mailbox is about to use it, and gets it only for that: another waits for its place.
    pub(super) reserved: bool,
    pub(super) place: Place,
}

impl Pool {
    /// Takes the connection that was used last, and closes those that must not be used any more.
    pub(super) fn pop_idle(&self) -> Option<Parked> {
        let now = self.0.endpoint.clock.moment();
        let mut idle = self.idle();
        self.retire_expired(&mut idle, now);
        let parked = idle.parked.pop_back();
        self.note_emptied(&idle);
        parked
    }

    /// Lets a connection wait for its next message.
    pub(super) fn keep(&self, idle: &mut Idle, parked: Parked) {
        let ends = self.ends(&parked);
        idle.parked.push_back(parked);
        let sleeps_too_long = idle.wakes.is_some_and(|wakes| ends < wakes);
        if sleeps_too_long || idle.sweeper.as_ref().is_none_or(AbortHandle::is_finished) {
            if let Some(sweeper) = idle.sweeper.take() {
                sweeper.abort();
            }
            idle.wakes = None;
            let sweep = sweep(Arc::downgrade(&self.0), self.0.endpoint.clock.clone());
            idle.sweeper = Some(tokio::spawn(sweep).abort_handle());
        }
    }

    /// Returns since when the oldest idle connection has been idle.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        self.idle().parked.front().map(|parked| parked.since)
    }

    /// Closes the connection that has been idle for the longest time; tells whether there was one.
    pub(super) fn evict(&self) -> bool {
        let mut idle = self.idle();
        let parked = idle.parked.pop_front();
        self.note_emptied(&idle);
        drop(idle);
        parked.map(|parked| self.dismiss(parked, Close::Replaced)).is_some()
    }

    /// Says good-bye, if there is time for that.
    fn dismiss(&self, parked: Parked, reason: Close) {
        // Without a permit there is none: somebody else needs the connection's place at once.
        match self.0.permits.clone().try_acquire_owned() {
            Ok(permit) => retire(parked, reason, permit),
            Err(_) => parked.tally.close(reason),
        }
    }

    /// Others need not look here for a connection to close.
    pub(super) fn note_emptied(&self, idle: &Idle) {
        if idle.parked.is_empty() {
            self.0.places.forget_idle(self.0.number);
        }
    }

    /// Closes what must not be used any more.
    fn retire_expired(&self, idle: &mut Idle, now: Moment) {
        if idle.parked.iter().all(|parked| self.overstay(parked, now).is_none()) {
            return;
        }
        let (kept, expired) = std::mem::take(&mut idle.parked)
            .into_iter()
            .partition::<Vec<_>, _>(|parked| self.overstay(parked, now).is_none());
        idle.parked = kept.into();
        for parked in expired {
            let reason = self.overstay(&parked, now).unwrap_or(Close::Idle);
            self.dismiss(parked, reason);
        }
    }

    /// Closes what must not be used any more; says when to look again, if anything is left.
    fn sweep(&self) -> Option<Moment> {
        let now = self.0.endpoint.clock.moment();
        let mut idle = self.idle();
        self.retire_expired(&mut idle, now);
        self.note_emptied(&idle);
        let next = idle.parked.iter().map(|parked| self.ends(parked)).min();
        if next.is_none() {
            idle.sweeper = None;
        }
        idle.wakes = next;
        next
    }

    /// Finds when an idle connection must not be used any more.
    fn ends(&self, parked: &Parked) -> Moment {
        let reuse = self.0.endpoint.config.reuse();
        let idle = if parked.reserved { reuse.idle().min(RESERVED) } else { reuse.idle() };
        parked.since.after(idle).min(parked.opened.after(reuse.age()))
    }

    /// Says why a connection must not be used any more.
    pub(super) fn overstay(&self, parked: &Parked, now: Moment) -> Option<Close> {
        if now.since(parked.since) >= self.0.endpoint.config.reuse().idle() {
            return Some(Close::Idle);
        }
        if parked.reserved && now.since(parked.since) >= RESERVED {
            return Some(Close::Replaced);
        }
        self.worn(parked.opened, parked.messages, now)
    }

    /// Says why a connection has served long enough, idle or not.
    pub(super) fn worn(&self, opened: Moment, messages: u32, now: Moment) -> Option<Close> {
        let reuse = self.0.endpoint.config.reuse();
        if now.since(opened) >= reuse.age() {
            return Some(Close::Age);
        }
        reuse.messages().is_some_and(|most| messages >= most.get()).then_some(Close::Messages)
    }

    pub(super) fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says QUIT and closes; the server counts the connection until it has heard that, and so does the pool.
pub(super) fn retire(parked: Parked, reason: Close, permit: OwnedSemaphorePermit) {
    let Parked { connection, tally, mut place, .. } = parked;
    tally.close(reason);
    place.leave();
    tokio::spawn(async move {
        connection.quit().await;
        drop(place);
        drop(permit);
    });
}

/// Closes connections as they become too old to be used, until none is idle or the pool is gone.
async fn sweep(pool: Weak<Shared>, clock: Clock) {
    while let Some(pool) = pool.upgrade().map(Pool) {
        let next = pool.sweep();
        drop(pool);
        match next {
            Some(next) => clock.sleep_until(next).await,
            None => return,
        }
    }
}
