//! Authenticated connections: opened with a fresh token, handed out by value, taken back only when clean.
//!
//! A connection that is handed out belongs to its holder: whatever makes the holder drop it (an error, a deadline, a
//! cancelled future) closes it, so none comes back with a reply owed. The pool knows nothing of messages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authentication::{Authentication, Method};
use crate::clock::Moment;
use crate::error::Error;
use crate::smtp::connection::{Connection, Endpoint};
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::sasl::Credentials;
use crate::smtp::{EnhancedStatusCode, Phase, Reply};
use crate::token::{AccessToken, TokenRequest};

/// Exchange Server drops idle sessions after five minutes; Exchange Online publishes no figure.
const IDLE_LIMIT: Duration = Duration::from_secs(100);

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
    idle: Mutex<VecDeque<Parked>>,
}

#[derive(Debug)]
struct Parked {
    connection: Connection,
    since: Moment,
}

/// A connection in use, and the right to use one.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) connection: Connection,
    pub(crate) origin: Origin,
    permit: OwnedSemaphorePermit,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Opened,
    Reused,
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, authentication: Authentication) -> Self {
        let most = usize::try_from(endpoint.config.max_connections().get()).unwrap_or(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { endpoint, authentication, permits, idle: Mutex::default() }))
    }

    /// Hands out an idle connection, or opens one; waits for its turn, in order, when all are in use.
    ///
    /// # Cancellation
    /// A dropped future opens nothing and takes nothing.
    pub(crate) async fn checkout(&self, deadline: Moment) -> Result<Checkout, Error> {
        let permit = self.permit(deadline).await?;
        while let Some(mut connection) = self.pop_idle() {
            connection.set_deadline(deadline);
            if connection.is_alive().await {
                return Ok(Checkout { connection, origin: Origin::Reused, permit });
            }
        }
        let connection = self.open(deadline).await?;
        Ok(Checkout { connection, origin: Origin::Opened, permit })
    }

    /// Opens a new connection, whatever is idle.
    pub(crate) async fn checkout_new(&self, deadline: Moment) -> Result<Checkout, Error> {
        let permit = self.permit(deadline).await?;
        // Make room: idle connections count towards the server's limit too.
        drop(self.pop_idle());
        let connection = self.open(deadline).await?;
        Ok(Checkout { connection, origin: Origin::Opened, permit })
    }

    /// Takes a connection back, if it can carry another transaction.
    pub(crate) fn park(&self, checkout: Checkout) {
        let Checkout { connection, permit, origin: _ } = checkout;
        if connection.is_clean() {
            let since = self.0.endpoint.clock.moment();
            self.idle().push_back(Parked { connection, since });
        }
        drop(permit);
    }

    async fn permit(&self, deadline: Moment) -> Result<OwnedSemaphorePermit, Error> {
        let permit = self.0.endpoint.clock.until(deadline, self.0.permits.clone().acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(self.overdue(Phase::Preparation)),
        }
    }

    /// Takes the connection that was used last, and closes those that were idle for too long.
    fn pop_idle(&self) -> Option<Connection> {
        let now = self.0.endpoint.clock.moment();
        let mut idle = self.idle();
        idle.retain(|parked| now.since(parked.since) < IDLE_LIMIT);
        idle.pop_back().map(|parked| parked.connection)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Parked>> {
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
                        drop(connection);
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
        let token = self.0.endpoint.clock.until(deadline, provider.token(request)).await;
        Ok(token.map_err(|_| self.overdue(Phase::Token))??)
    }

    fn overdue(&self, phase: Phase) -> Error {
        Error::overdue(phase, self.0.endpoint.config.timeouts().total())
    }

    fn bearer<'a>(&'a self, token: &'a AccessToken) -> Credentials<'a> {
        let config = &self.0.endpoint.config;
        Credentials::Bearer { token: token.secret(), host: config.host(), port: config.port() }
    }
}

/// Tells whether another token could help: never for 5.7.139, which is about the account or a policy.
fn is_token_refused(failure: &Failure) -> bool {
    let Cause::AuthRefused { reply, challenge: _ } = &failure.cause else { return false };
    const POLICY: EnhancedStatusCode = EnhancedStatusCode::new(5, 7, 139);
    is_refused_credentials(reply) && reply.enhanced() != Some(POLICY)
}

fn is_refused_credentials(reply: &Reply) -> bool {
    reply.code() == 535
}
