//! Authenticated connections: opened with a fresh token, handed out by value, taken back only when clean.
//!
//! A connection that is handed out belongs to its holder: whatever makes the holder drop it (an error, a deadline, a
//! cancelled future) closes it, so none comes back with a reply owed. The pool knows nothing of messages.

mod hold;
mod idle;
mod places;
mod refusals;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::authentication::{Authentication, Method};
use crate::cause::{self, ReplyCause};
use crate::clock::Moment;
use crate::error::Error;
use crate::observe;
use crate::observe::connection::{Close, Tally};
use crate::smtp::connection::{Connection, Endpoint};
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::sasl::Credentials;
use crate::smtp::{EnhancedStatusCode, Phase, Reply};
use crate::token::{AccessToken, TokenProvider, TokenRequest};

pub(crate) use places::Places;
pub(crate) use refusals::Refusals;

use idle::{Idle, Parked, retire};
use places::{Claim, Grant, Place, PoolNumber, Release};

/// A server closes an idle connection after minutes; one that was used just now is hardly being closed.
const DOUBTFUL: Duration = Duration::from_secs(5);

/// How long a connection goes on to serve its own mailbox while others wait for its place: opening one takes a second or
/// two, so that giving it up after each message would be most of the work.
const SLICE: Duration = Duration::from_secs(5);

/// How long a connection waits for whoever of its own mailbox is to use it next while others wait for its place. That is
/// a matter of microseconds, unless the submission is dropped, or has to wait for something else.
const RESERVED: Duration = Duration::from_millis(250);

/// The connections of one mailbox; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    authentication: Authentication,
    /// One permit for each connection in use. An idle one is taken before a new one is opened, so there are never more
    /// connections than permits.
    permits: Arc<Semaphore>,
    most: usize,
    /// One for each open connection, idle ones and those that say QUIT included.
    places: Places,
    number: PoolNumber,
    /// `None` where the token serves this mailbox only, and is replaced as soon as that refuses it.
    refusals: Option<Refusals>,
    closed: watch::Sender<bool>,
    waiting: AtomicUsize,
    /// Have a permit and wait for a place.
    placeless: AtomicUsize,
    idle: Mutex<Idle>,
}

/// A connection in use, and the right to use one.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// Boxed, because it changes hands many times for each message.
    pub(crate) connection: Box<Connection>,
    pub(crate) origin: Origin,
    tally: Tally,
    opened: Moment,
    messages: u32,
    place: Place,
    permit: OwnedSemaphorePermit,
}

/// The right to use one connection.
#[derive(Debug)]
pub(crate) struct Turn(OwnedSemaphorePermit);

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Opened,
    Reused,
}

/// How a mailer's connections are used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Connections in use, those being opened included.
    pub in_use: usize,
    /// Connections open and waiting for a message.
    pub idle: usize,
    /// Submissions waiting for a connection. The messages of a batch with [`overlap`](crate::Batch::overlap) wait in a line
    /// of the batch, [`BatchProgress::waiting`](crate::BatchProgress::waiting).
    pub waiting: usize,
    /// The most connections that may be open at once.
    pub most: usize,
}

impl Checkout {
    /// Says good-bye to a connection that was opened for a check.
    pub(crate) async fn quit(self) {
        self.tally.close(Close::Checked);
        self.connection.quit().await;
    }
}

impl Pool {
    /// Makes the pool of the only mailbox.
    pub(crate) fn new(endpoint: Endpoint, authentication: Authentication) -> Self {
        Self::build(endpoint, authentication, Places::unlimited(), None)
    }

    /// Makes the pool of one mailbox of many, which share places and the token.
    pub(crate) fn sharing(
        endpoint: Endpoint,
        authentication: Authentication,
        places: Places,
        refusals: Refusals,
    ) -> Self {
        Self::build(endpoint, authentication, places, Some(refusals))
    }

    fn build(
        endpoint: Endpoint,
        authentication: Authentication,
        places: Places,
        refusals: Option<Refusals>,
    ) -> Self {
        let most = usize::try_from(endpoint.config.max_connections().get()).unwrap_or(Semaphore::MAX_PERMITS);
        let most = most.min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most));
        Self(Arc::new(Shared {
            endpoint,
            authentication,
            permits,
            most,
            number: places.number_pool(),
            places,
            refusals,
            closed: watch::Sender::new(false),
            waiting: AtomicUsize::new(0),
            placeless: AtomicUsize::new(0),
            idle: Mutex::default(),
        }))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    pub(crate) fn authentication(&self) -> &Method {
        &self.0.authentication.0
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let Shared { permits, most, waiting, placeless, .. } = &*self.0;
        let placeless = placeless.load(Ordering::Relaxed);
        let in_use = most.saturating_sub(permits.available_permits()).saturating_sub(placeless);
        PoolStatus {
            in_use,
            idle: self.idle().parked.len(),
            waiting: waiting.load(Ordering::Relaxed).saturating_add(placeless),
            most: *most,
        }
    }

    /// Tells whether nobody else holds the pool, and no connection is open.
    pub(crate) fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.0) == 1
            && self.idle().parked.is_empty()
            && self.0.permits.available_permits() == self.0.most
    }

    /// Waits, in order, until a connection may be used.
    ///
    /// # Cancellation
    /// A dropped future, and a dropped turn, let in the next.
    pub(crate) async fn turn(&self, deadline: Moment) -> Result<Turn, Error> {
        let Endpoint { clock, server, .. } = &self.0.endpoint;
        let turn = observe::connection::Turn::begin(clock);
        let permit = turn.run(self.permit(deadline)).await;
        turn.end(server, clock, permit, |error| error.kind().name()).map(Turn)
    }

    /// Hands out an idle connection, or opens one.
    ///
    /// # Cancellation
    /// A dropped future gives back what it has taken and closes what it has opened.
    pub(crate) async fn checkout(&self, turn: Turn, deadline: Moment) -> Result<Checkout, Error> {
        let span = observe::connection::checkout();
        span.note(span.run(self.idle_or_new(turn, deadline)).await, |error| error.kind().name())
    }

    async fn idle_or_new(&self, Turn(permit): Turn, deadline: Moment) -> Result<Checkout, Error> {
        let mut spare = None;
        while let Some(parked) = self.pop_idle() {
            match self.revive(parked, deadline).await {
                Ok(parked) => return Ok(Checkout::reusing(parked, permit)),
                Err(place) => spare = Some(place),
            }
        }
        let grant = match spare {
            Some(place) => Grant::Place(place),
            None => self.place(deadline).await?,
        };
        let place = match grant {
            Grant::Place(place) => place,
            Grant::Connection(parked) => match self.revive(*parked, deadline).await {
                Ok(parked) => return Ok(Checkout::reusing(parked, permit)),
                Err(place) => place,
            },
        };
        // Boxed, because the state of opening one is large and would be moved for each message that needs none.
        Box::pin(self.open_checkout(permit, place, deadline)).await
    }

    /// Opens a new connection, whatever is idle.
    pub(crate) async fn checkout_new(&self, deadline: Moment) -> Result<Checkout, Error> {
        let permit = self.permit(deadline).await?;
        // Make room: idle connections count towards the server's limit too.
        if let Some(parked) = self.pop_idle() {
            parked.tally.close(Close::Replaced);
        }
        let place = match self.place(deadline).await? {
            Grant::Place(place) => place,
            Grant::Connection(parked) => {
                let Parked { connection, tally, place, .. } = *parked;
                tally.close(Close::Replaced);
                connection.quit().await;
                place
            }
        };
        self.open_checkout(permit, place, deadline).await
    }

    async fn open_checkout(
        &self,
        permit: OwnedSemaphorePermit,
        place: Place,
        deadline: Moment,
    ) -> Result<Checkout, Error> {
        let Endpoint { clock, server, .. } = &self.0.endpoint;
        let connection = self.open(deadline).await.inspect_err(|error| {
            observe::connection::open_failed(server, error.kind().name());
        })?;
        let (tally, opened) = (Tally::opened(server), clock.moment());
        let connection = Box::new(connection);
        Ok(Checkout { connection, origin: Origin::Opened, tally, opened, messages: 0, place, permit })
    }

    /// Takes a connection back after a message, if it can carry another.
    pub(crate) fn park(&self, checkout: Checkout) {
        let Checkout { connection, tally, permit, opened, messages, place, origin: _ } = checkout;
        let since = self.0.endpoint.clock.moment();
        let messages = messages.saturating_add(1);
        let mut parked = Parked { connection, tally, since, opened, messages, reserved: false, place };
        if !parked.connection.is_clean() {
            parked.tally.close(Close::Unclean);
            return;
        }
        let is_young = since.since(opened) < SLICE;
        let mut idle = loop {
            let idle = self.idle();
            // Read under the lock, so that `close` finds whatever is put in before it.
            let closed = self.is_closed().then_some(Close::MailerClosed);
            if let Some(reason) = closed.or_else(|| self.overstay(&parked, since)) {
                drop(idle);
                return retire(parked, reason, permit);
            }
            let claim = match is_young {
                // Those that are idle are for others who wait.
                true if self.0.waiting.load(Ordering::Relaxed) > idle.parked.len() => Claim::Wanted,
                true => Claim::Young,
                false => Claim::Spent,
            };
            let sender = match self.0.places.release(self.0.number, &self.0, claim) {
                Release::Idle => break idle,
                Release::Reserve => {
                    parked.reserved = true;
                    break idle;
                }
                Release::Retire => {
                    drop(idle);
                    return retire(parked, Close::Replaced, permit);
                }
                Release::HandOver(sender) => sender,
            };
            drop(idle);
            match sender.send(Grant::Connection(Box::new(parked))) {
                // Whoever waited has given up just now: there may be another.
                Err(Grant::Connection(back)) => parked = *back,
                Ok(()) | Err(Grant::Place(_)) => return,
            }
        };
        parked.tally.park();
        self.keep(&mut idle, parked);
        drop(idle);
        drop(permit);
    }

    /// Lets nobody in any more, waits until all connections in use have come back or `deadline`, and says QUIT on them.
    pub(crate) async fn close(&self, deadline: Moment) {
        let Shared { endpoint, permits, most, .. } = &*self.0;
        self.refuse_all();
        let drained = async {
            let parked = {
                let mut idle = self.idle();
                let parked = std::mem::take(&mut idle.parked);
                self.note_emptied(&idle);
                parked
            };
            for Parked { connection, tally, place, .. } in parked {
                connection.quit().await;
                tally.close(Close::MailerClosed);
                drop(place);
            }
            // Nobody waits for one any more, so this is all that are in use.
            let _all = permits.acquire_many(u32::try_from(*most).unwrap_or(u32::MAX)).await;
        };
        // Those who have not finished by then lose nothing but the pool.
        let _ = endpoint.clock.until(deadline, drained).await;
        permits.close();
    }

    /// Lets nobody in from now on.
    pub(crate) fn refuse_all(&self) {
        self.0.closed.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.0.closed.borrow()
    }

    /// Waits for `turn`, in whatever line it stands, unless the pool is closed first.
    pub(crate) async fn unless_closed<F: Future>(&self, turn: F) -> Result<F::Output, Error> {
        let mut closed = self.0.closed.subscribe();
        tokio::select! {
            biased;
            // The sender lives in `self`, so waiting for it cannot fail.
            _ = closed.wait_for(|closed| *closed) => Err(Error::closed()),
            output = turn => Ok(output),
        }
    }

    async fn permit(&self, deadline: Moment) -> Result<OwnedSemaphorePermit, Error> {
        let _waiting = Waiting::count(&self.0.waiting);
        let clock = &self.0.endpoint.clock;
        let permit = clock.until(deadline, self.0.permits.clone().acquire_owned());
        match self.unless_closed(permit).await? {
            // A turn that comes with the deadline is none.
            Ok(Ok(permit)) if clock.moment() < deadline => Ok(permit),
            Ok(Err(_)) => Err(Error::closed()),
            Ok(Ok(_)) | Err(_) => Err(self.overdue(Phase::Preparation)),
        }
    }

    /// Opens a connection and signs in; a refused token is replaced once.
    async fn open(&self, deadline: Moment) -> Result<Connection, Error> {
        let endpoint = &self.0.endpoint;
        let username = endpoint.config.username();
        let connect = async { Connection::open(endpoint.clone(), deadline).await.map_err(Error::from) };
        match &self.0.authentication.0 {
            Method::Basic(password) => {
                let mut connection = connect.await?;
                connection.authenticate(username, Credentials::Password(password)).await?;
                Ok(connection)
            }
            Method::OAuth(provider) => {
                let provider = &**provider;
                // The token is fetched while the connection is made; neither needs the other until AUTH.
                let (mut connection, token) =
                    tokio::try_join!(connect, self.token(provider, None, deadline))?;
                match connection.authenticate(username, self.bearer(&token)).await {
                    Ok(()) => {
                        self.note_admission();
                        Ok(connection)
                    }
                    Err(failure) if is_token_refused(&failure) && !self.refuses_any_token() => {
                        observe::connection::token_refused(&endpoint.server);
                        // Its place is needed: a server that allows three connections counts this one until QUIT.
                        connection.quit().await;
                        self.open_with_another_token(provider, &token, failure, deadline).await
                    }
                    Err(failure) => Err(failure.into()),
                }
            }
        }
    }

    /// Exchange Online says a bare `535 5.7.3` for a token that has expired or was revoked: asks for another, once.
    async fn open_with_another_token(
        &self,
        provider: &dyn TokenProvider,
        rejected: &AccessToken,
        refusal: Failure,
        deadline: Moment,
    ) -> Result<Connection, Error> {
        let token = match self.token(provider, Some(rejected), deadline).await {
            Ok(token) => token,
            // The provider has no other: what the mail server said is what somebody must act on.
            Err(error) if error.is_invalid_token() => {
                self.note_refusal();
                return Err(Error::from(refusal).with_source(error));
            }
            Err(error) => return Err(error),
        };
        // A new connection: what a server makes of a second AUTH after a refused one is not defined for XOAUTH2.
        let mut connection = Connection::open(self.0.endpoint.clone(), deadline).await?;
        match connection.authenticate(self.0.endpoint.config.username(), self.bearer(&token)).await {
            Ok(()) => self.note_admission(),
            Err(failure) => {
                if is_token_refused(&failure) {
                    self.note_refusal();
                }
                return Err(failure.into());
            }
        }
        Ok(connection)
    }

    async fn token(
        &self,
        provider: &dyn TokenProvider,
        rejected: Option<&AccessToken>,
        deadline: Moment,
    ) -> Result<AccessToken, Error> {
        let mut request = TokenRequest::new();
        if let Some(rejected) = rejected {
            request = request.with_rejected(rejected);
        }
        let asking = async {
            let token = self.0.endpoint.clock.until(deadline, provider.token(request)).await;
            Ok(token.map_err(|_| self.overdue(Phase::Token))??)
        };
        let span = observe::token::wait(rejected.is_some());
        span.note(span.run(asking).await, |error: &Error| error.kind().name())
    }

    fn overdue(&self, phase: Phase) -> Error {
        Error::overdue(phase, self.0.endpoint.config.timeouts().total())
    }

    fn bearer<'a>(&'a self, token: &'a AccessToken) -> Credentials<'a> {
        let config = &self.0.endpoint.config;
        Credentials::Bearer { token: token.secret(), host: config.host(), port: config.port() }
    }
}

impl Checkout {
    fn reusing(parked: Parked, permit: OwnedSemaphorePermit) -> Self {
        let Parked { connection, mut tally, since: _, opened, messages, reserved: _, place } = parked;
        tally.reuse();
        Self { connection, origin: Origin::Reused, tally, opened, messages, place, permit }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sweeper) = &idle.sweeper {
            sweeper.abort();
        }
        self.places.forget_idle(self.number);
    }
}

/// Counts whoever waits, however the waiting ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells whether another token could help: never for 5.7.139, which is about the account or a policy.
fn is_token_refused(failure: &Failure) -> bool {
    let Cause::AuthRefused { reply, challenge: _ } = &failure.cause else { return false };
    const POLICY: EnhancedStatusCode = EnhancedStatusCode::new(5, 7, 139);
    let cause = cause::classify(Phase::Auth, reply).map(|finding| finding.cause);
    // A token with the same permissions, or a further attempt of too many, would make nothing better.
    let is_hopeless = matches!(cause, Some(ReplyCause::TokenPermission | ReplyCause::SignInRate));
    is_refused_credentials(reply) && reply.enhanced() != Some(POLICY) && !is_hopeless
}

fn is_refused_credentials(reply: &Reply) -> bool {
    reply.code() == 535
}
