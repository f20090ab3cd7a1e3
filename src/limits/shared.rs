//! Limits that several processes keep together: what a mailer asks before it sends. Knows no particular server.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::config::SendingLimits;

/// Keeps the sending limits of a mailbox for a fleet of processes; [`RedisLimits`](crate::RedisLimits) is one.
///
/// A mailer keeps its own count as well, and goes by that alone while this fails: a fleet that sends a little too much is
/// slowed down by the server, one that sends nothing is down.
pub trait SharedLimits: fmt::Debug + Send + Sync {
    /// Asks for a place for one message to `recipients` recipients, and counts it if there is one.
    ///
    /// # Errors
    /// When it cannot be known.
    ///
    /// # Cancellation
    /// A dropped future may have counted a message that is then not sent.
    fn reserve<'a>(
        &'a self,
        mailbox: &'a str,
        limits: &'a SendingLimits,
        recipients: u32,
    ) -> ReserveFuture<'a>;

    /// Uncounts recipients that were granted and never named to the server, so that an outage does not use up the day.
    ///
    /// The message itself goes on counting towards its minute. Default: they go on counting too.
    ///
    /// # Errors
    /// When that could not be noted. It is told in an event, and nothing else comes of it.
    ///
    /// # Cancellation
    /// A dropped future may have uncounted them.
    fn release<'a>(&'a self, mailbox: &'a str, recipients: u32) -> ReleaseFuture<'a> {
        let _ = (mailbox, recipients);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The future that [`SharedLimits::release`] returns.
pub type ReleaseFuture<'a> = Pin<Box<dyn Future<Output = Result<(), SharedLimitsError>> + Send + 'a>>;

/// The future that [`SharedLimits::reserve`] returns.
pub type ReserveFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Reservation, SharedLimitsError>> + Send + 'a>>;

/// The answer to a request for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reservation {
    /// The message may go out now, and is counted.
    Granted,
    /// Nothing was counted; there may be a place after this time.
    Wait(Duration),
}

/// The shared count cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SharedLimitsError {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SharedLimitsError {
    /// Creates an error; `message` says what failed, without any secret.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds the cause, which may hold no secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
