//! Authenticated connections: opened with a fresh token, handed out by value, taken back only when clean.
//!
//! A connection that is handed out belongs to its holder: whatever makes the holder drop it (an error, a deadline, a
//! cancelled future) closes it, so none comes back with a reply owed. The pool knows nothing of messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;

use crate::authentication::{Authentication, Method};
use crate::cause::{self, ReplyCause};
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::observe;
use crate::observe::connection::{Close, Tally};
use crate::smtp::connection::{Connection, Endpoint};
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::sasl::Credentials;
use crate::smtp::{EnhancedStatusCode, Phase, Reply};
use crate::token::{AccessToken, TokenRequest};

/// A server closes an idle connection after minutes; one that was used just now is hardly being closed.
const DOUBTFUL: Duration = Duration::from_secs(5);

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
    closed: watch::Sender<bool>,
    waiting: AtomicUsize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    parked: VecDeque<Parked>,
    /// The task that closes connections that stay idle; there is one while there are any.
    sweeper: Option<AbortHandle>,
    /// When it looks again; `None` while it is about to.
    wakes: Option<Moment>,
}

#[derive(Debug)]
struct Parked {
    connection: Connection,
    tally: Tally,
    since: Moment,
    opened: Moment,
    messages: u32,
}

/// A connection in use, and the right to use one.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) connection: Connection,
    pub(crate) origin: Origin,
    tally: Tally,
    opened: Moment,
    messages: u32,
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
    /// Submissions waiting for a connection.
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
    pub(crate) fn new(endpoint: Endpoint, authentication: Authentication) -> Self {
        let most = usize::try_from(endpoint.config.max_connections().get()).unwrap_or(Semaphore::MAX_PERMITS);
        let most = most.min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most));
        Self(Arc::new(Shared {
            endpoint,
            authentication,
            permits,
            most,
            closed: watch::Sender::new(false),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
        }))
    }

    pub(crate) fn authentication(&self) -> &Method {
        &self.0.authentication.0
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let Shared { permits, most, waiting, .. } = &*self.0;
        let in_use = most.saturating_sub(permits.available_permits());
        PoolStatus {
            in_use,
            idle: self.idle().parked.len(),
            waiting: waiting.load(Ordering::Relaxed),
            most: *most,
        }
    }

    /// Waits, in order, until a connection may be used.
    ///
    /// # Cancellation
    /// A dropped future, and a dropped turn, let in the next.
    pub(crate) async fn turn(&self, deadline: Moment) -> Result<Turn, Error> {
        let Endpoint { clock, server, .. } = &self.0.endpoint;
        let turn = observe::connection::Turn::begin(clock, server);
        let permit = turn.run(self.permit(deadline)).await;
        turn.end(permit, |error| error.kind().name()).map(Turn)
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
        while let Some(Parked { mut connection, mut tally, opened, messages, since }) = self.pop_idle() {
            connection.set_deadline(deadline);
            if self.0.endpoint.clock.moment().since(since) > DOUBTFUL {
                connection.set_doubtful();
            }
            if connection.is_alive().await {
                tally.reuse();
                return Ok(Checkout { connection, origin: Origin::Reused, tally, opened, messages, permit });
            }
            tally.close(Close::Gone);
        }
        self.open_checkout(permit, deadline).await
    }

    /// Opens a new connection, whatever is idle.
    pub(crate) async fn checkout_new(&self, deadline: Moment) -> Result<Checkout, Error> {
        let permit = self.permit(deadline).await?;
        // Make room: idle connections count towards the server's limit too.
        if let Some(parked) = self.pop_idle() {
            parked.tally.close(Close::Replaced);
        }
        self.open_checkout(permit, deadline).await
    }

    async fn open_checkout(&self, permit: OwnedSemaphorePermit, deadline: Moment) -> Result<Checkout, Error> {
        let Endpoint { clock, server, .. } = &self.0.endpoint;
        let connection = self.open(deadline).await.inspect_err(|error| {
            observe::connection::open_failed(server, error.kind().name());
        })?;
        let (tally, opened) = (Tally::opened(server), clock.moment());
        Ok(Checkout { connection, origin: Origin::Opened, tally, opened, messages: 0, permit })
    }

    /// Takes a connection back after a message, if it can carry another.
    pub(crate) fn park(&self, checkout: Checkout) {
        let Checkout { connection, tally, permit, opened, messages, origin: _ } = checkout;
        let since = self.0.endpoint.clock.moment();
        let mut parked = Parked { connection, tally, since, opened, messages: messages.saturating_add(1) };
        if !parked.connection.is_clean() {
            parked.tally.close(Close::Unclean);
            return;
        }
        let mut idle = self.idle();
        // Read under the lock, so that `close` finds whatever is put in before it.
        let closed = self.is_closed().then_some(Close::MailerClosed);
        if let Some(reason) = closed.or_else(|| self.overstay(&parked, since)) {
            drop(idle);
            retire(parked, reason, permit);
            return;
        }
        parked.tally.park();
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
        drop(idle);
        drop(permit);
    }

    /// Lets nobody in any more, waits until all connections in use have come back or `deadline`, and says QUIT on them.
    pub(crate) async fn close(&self, deadline: Moment) {
        let Shared { endpoint, permits, most, closed, .. } = &*self.0;
        closed.send_replace(true);
        let drained = async {
            let idle = std::mem::take(&mut self.idle().parked);
            for Parked { connection, tally, .. } in idle {
                connection.quit().await;
                tally.close(Close::MailerClosed);
            }
            // Nobody waits for one any more, so this is all that are in use.
            let _all = permits.acquire_many(u32::try_from(*most).unwrap_or(u32::MAX)).await;
        };
        // Those who have not finished by then lose nothing but the pool.
        let _ = endpoint.clock.until(deadline, drained).await;
        permits.close();
    }

    fn is_closed(&self) -> bool {
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

    /// Takes the connection that was used last, and closes those that must not be used any more.
    fn pop_idle(&self) -> Option<Parked> {
        let now = self.0.endpoint.clock.moment();
        let mut idle = self.idle();
        self.retire_expired(&mut idle, now);
        idle.parked.pop_back()
    }

    /// Closes what must not be used any more.
    fn retire_expired(&self, idle: &mut Idle, now: Moment) {
        let (kept, expired) = std::mem::take(&mut idle.parked)
            .into_iter()
            .partition::<Vec<_>, _>(|parked| self.overstay(parked, now).is_none());
        idle.parked = kept.into();
        for parked in expired {
            let reason = self.overstay(&parked, now).unwrap_or(Close::Idle);
            // Without a permit there is no time for a good-bye: somebody else needs the connection's place at once.
            match self.0.permits.clone().try_acquire_owned() {
                Ok(permit) => retire(parked, reason, permit),
                Err(_) => parked.tally.close(reason),
            }
        }
    }

    /// Closes what must not be used any more; says when to look again, if anything is left.
    fn sweep(&self) -> Option<Moment> {
        let now = self.0.endpoint.clock.moment();
        let mut idle = self.idle();
        self.retire_expired(&mut idle, now);
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
        parked.since.after(reuse.idle()).min(parked.opened.after(reuse.age()))
    }

    /// Says why a connection must not be used any more.
    fn overstay(&self, parked: &Parked, now: Moment) -> Option<Close> {
        let reuse = self.0.endpoint.config.reuse();
        if now.since(parked.since) >= reuse.idle() {
            return Some(Close::Idle);
        }
        if now.since(parked.opened) >= reuse.age() {
            return Some(Close::Age);
        }
        reuse.messages().is_some_and(|most| parked.messages >= most.get()).then_some(Close::Messages)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
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
            Method::OAuth(_) => {
                // The token is fetched while the connection is made; neither needs the other until AUTH.
                let (mut connection, token) = tokio::try_join!(connect, self.token(None, deadline))?;
                match connection.authenticate(username, self.bearer(&token)).await {
                    Ok(()) => Ok(connection),
                    Err(failure) if is_token_refused(&failure) => {
                        observe::connection::token_refused(&endpoint.server);
                        // Its place is needed: a server that allows three connections counts this one until QUIT.
                        connection.quit().await;
                        self.open_with_another_token(&token, failure, deadline).await
                    }
                    Err(failure) => Err(failure.into()),
                }
            }
        }
    }

    /// Exchange Online says a bare `535 5.7.3` for a token that has expired or was revoked: asks for another, once.
    async fn open_with_another_token(
        &self,
        rejected: &AccessToken,
        refusal: Failure,
        deadline: Moment,
    ) -> Result<Connection, Error> {
        let token = match self.token(Some(rejected), deadline).await {
            Ok(token) => token,
            // The provider has no other: what the mail server said is what somebody must act on.
            Err(error) if error.is_invalid_token() => return Err(Error::from(refusal).with_source(error)),
            Err(error) => return Err(error),
        };
        // A new connection: what a server makes of a second AUTH after a refused one is not defined for XOAUTH2.
        let mut connection = Connection::open(self.0.endpoint.clone(), deadline).await?;
        connection.authenticate(self.0.endpoint.config.username(), self.bearer(&token)).await?;
        Ok(connection)
    }

    async fn token(&self, rejected: Option<&AccessToken>, deadline: Moment) -> Result<AccessToken, Error> {
        let Method::OAuth(provider) = &self.0.authentication.0 else {
            return Err(Error::unsendable("there is no token provider"));
        };
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

/// Says QUIT and closes; the server counts the connection until it has heard that, and so does the pool.
fn retire(Parked { connection, tally, .. }: Parked, reason: Close, permit: OwnedSemaphorePermit) {
    tally.close(reason);
    tokio::spawn(async move {
        connection.quit().await;
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

impl Drop for Shared {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sweeper) = &idle.sweeper {
            sweeper.abort();
        }
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
