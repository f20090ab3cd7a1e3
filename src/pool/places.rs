//! Places for connections, shared by the pools of many mailboxes: never more than the cap, given away in order. Opens
//! and closes no connection itself.
//!
//! While somebody waits for a place, no connection stays idle: one that comes free is handed to its own mailbox if that
//! is first in the line or has had its turn for a short time only, and otherwise makes room for another mailbox's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;

use super::idle::Parked;
use super::{DOUBTFUL, Pool, Shared, Waiting};
use crate::clock::Moment;
use crate::error::Error;
use crate::observe::connection::{Close, Turn};
use crate::smtp::Phase;

/// The places of one mailer or of all mailboxes of one registration; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Of those, the ones whose connection is saying QUIT: each of them will be had in a moment.
    leaving: usize,
    queue: VecDeque<Waiter>,
    /// The pools that have idle connections.
    idle: HashMap<PoolNumber, Weak<Shared>>,
    numbers: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    pool: PoolNumber,
    sender: oneshot::Sender<Grant>,
}

/// Tells the pools that share places apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolNumber(u64);

/// The right to have one connection open; another may, as soon as it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    leaving: bool,
}

/// What somebody who waited gets.
#[derive(Debug)]
pub(super) enum Grant {
    /// A place for a new connection.
    Place(Place),
    /// An open connection of the same mailbox, with its place.
    Connection(Box<Parked>),
}

/// How far a mailbox may go on using its connection while others wait for its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has had its turn.
    Spent,
    /// Before those who came earlier.
    Young,
    /// The same, and somebody who waits for the right to use one of the mailbox's connections takes it next.
    Wanted,
}

/// What is to become of a connection that has come free.
#[derive(Debug)]
pub(super) enum Release {
    /// Nobody waits: it may be idle.
    Idle,
    /// Another mailbox needs its place, but the same one is about to use it: it may be idle for a moment.
    Reserve,
    /// Somebody of the same mailbox waits for it.
    HandOver(oneshot::Sender<Grant>),
    /// Another mailbox needs its place.
    Retire,
}

/// A position in the line; dropping it leaves the line, and passes on what had just been granted.
#[derive(Debug)]
pub(super) struct Queued {
    places: Places,
    number: u64,
    granted: oneshot::Receiver<Grant>,
}

/// How the places are used at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacesStatus {
    pub(crate) taken: usize,
    pub(crate) waiting: usize,
    pub(crate) most: usize,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, state: Mutex::default() }))
    }

    /// As many as anybody wants, where something else is the bound.
    pub(crate) fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    pub(crate) fn status(&self) -> PlacesStatus {
        let state = self.state();
        PlacesStatus { taken: state.taken, waiting: state.queue.len(), most: self.0.most }
    }

    pub(super) fn number_pool(&self) -> PoolNumber {
        PoolNumber(self.state().next_number())
    }

    /// Takes a place, or the last position in the line for one.
    pub(super) fn enter(&self, pool: PoolNumber) -> Result<Place, Queued> {
        let mut state = self.state();
        if state.queue.is_empty() && state.taken < self.0.most {
            state.taken += 1;
            return Ok(Place { places: self.clone(), leaving: false });
        }
        let (sender, granted) = oneshot::channel();
        let number = state.next_number();
        state.queue.push_back(Waiter { number, pool, sender });
        Err(Queued { places: self.clone(), number, granted })
    }

    /// Closes the connection that has been idle for the longest time, if somebody waits for its place.
    pub(super) fn make_room(&self) {
        let pools: Vec<_> = {
            let state = self.state();
            if !state.is_short() {
                return;
            }
            // Looked through outside of the lock: each pool has its own, and takes this one while it holds that.
            state.idle.values().filter_map(Weak::upgrade).map(Pool).collect()
        };
        let mut pools: Vec<_> =
            pools.into_iter().filter_map(|pool| pool.idle_since().map(|since| (since, pool))).collect();
        pools.sort_by_key(|(since, _)| *since);
        // Another may have taken the connection meanwhile.
        let _ = pools.into_iter().find(|(_, pool)| pool.evict());
    }

    /// Decides about a connection of `pool` that has come free.
    ///
    /// Called while the pool's idle connections are locked, so that whoever joins the line later finds this one there.
    pub(super) fn release(&self, pool: PoolNumber, shared: &Arc<Shared>, claim: Claim) -> Release {
        let mut state = self.state();
        let own = state.queue.iter().position(|waiter| waiter.pool == pool);
        let is_short = state.is_short();
        let own = own.filter(|at| *at == 0 || claim != Claim::Spent || !is_short);
        if let Some(waiter) = own.and_then(|at| state.queue.remove(at)) {
            return Release::HandOver(waiter.sender);
        }
        if is_short && claim != Claim::Wanted {
            return Release::Retire;
        }
        state.idle.entry(pool).or_insert_with(|| Arc::downgrade(shared));
        if is_short { Release::Reserve } else { Release::Idle }
    }

    /// Tells whether somebody waits for a place that is not about to come free.
    pub(super) fn are_short(&self) -> bool {
        self.state().is_short()
    }

    /// The pool has no idle connection any more.
    pub(super) fn forget_idle(&self, pool: PoolNumber) {
        self.state().idle.remove(&pool);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells whether more wait than places are about to come free.
    fn is_short(&self) -> bool {
        self.queue.len() > self.leaving
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Place {
    /// Says that the connection is about to be closed.
    pub(super) fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.places.state().leaving += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if self.leaving {
            state.leaving = state.leaving.saturating_sub(1);
        }
        let Some(waiter) = state.queue.pop_front() else {
            state.taken = state.taken.saturating_sub(1);
            return;
        };
        drop(state);
        // Whoever has just stopped waiting gives it back, and that drop passes it on to the next.
        let _ = waiter.sender.send(Grant::Place(Self { places: self.places.clone(), leaving: false }));
    }
}

impl Queued {
    /// Waits for the turn.
    ///
    /// # Cancellation
    /// A dropped future leaves the line.
    pub(super) async fn granted(mut self) -> Grant {
        match (&mut self.granted).await {
            Ok(grant) => grant,
            // Only `drop` takes the other end out of the line without using it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut state = self.places.state();
        // In the order of their numbers: thousands may be dropped at once.
        if let Ok(at) = state.queue.binary_search_by_key(&self.number, |waiter| waiter.number) {
            state.queue.remove(at);
        }
    }
}

impl Pool {
    /// Waits, in order, for a place, or for a connection of this mailbox that comes free before.
    pub(super) async fn place(&self, deadline: Moment) -> Result<Grant, Error> {
        let Shared { endpoint, places, number, .. } = &*self.0;
        let queued = match places.enter(*number) {
            Ok(place) => return Ok(Grant::Place(place)),
            Err(queued) => queued,
        };
        // It may have come free just before the line was joined.
        if let Some(parked) = self.pop_idle() {
            return Ok(Grant::Connection(Box::new(parked)));
        }
        places.make_room();
        let _waiting = Waiting::count(&self.0.placeless);
        let turn = Turn::begin(&endpoint.clock);
        let granted = turn.run(self.unless_closed(endpoint.clock.until(deadline, queued.granted()))).await;
        let granted = granted.and_then(|granted| match granted {
            Ok(grant) if endpoint.clock.moment() < deadline => Ok(grant),
            Ok(_) | Err(_) => Err(self.overdue(Phase::Preparation)),
        });
        turn.end(&endpoint.server, &endpoint.clock, granted, |error| error.kind().name())
    }

    /// Makes an idle connection ready for a message; gives its place back if the server has closed it.
    pub(super) async fn revive(&self, mut parked: Parked, deadline: Moment) -> Result<Parked, Place> {
        parked.connection.set_deadline(deadline);
        if self.0.endpoint.clock.moment().since(parked.since) > DOUBTFUL {
            parked.connection.set_doubtful();
        }
        match parked.connection.is_alive().await {
            true => Ok(parked),
            false => {
                parked.tally.close(Close::Gone);
                Err(parked.place)
            }
        }
    }
}
