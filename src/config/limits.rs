//! How much a mailbox may send, and how long a connection is kept. Counts nothing; see `crate::limits` and `crate::pool`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::problem::ConfigProblem;
use super::time::written;

/// More connections at once than that Exchange Online refuses a mailbox.
pub(super) const EXCHANGE_CONNECTIONS: u32 = 3;

/// The sending limits of a mailbox, kept on this side so that the server need not refuse.
///
/// They are counted for each [`Mailer`](crate::Mailer), its clones included. The default is no limit; the profile of
/// Exchange Online starts from [`exchange_online`](Self::exchange_online).
///
/// ```
/// use smtp_oauth::{SendingLimits, WhenReached};
/// use std::num::NonZeroU32;
///
/// let limits = SendingLimits::exchange_online()
///     .with_messages_per_minute(NonZeroU32::new(10))
///     .with_when_reached(WhenReached::Fail);
/// assert_eq!(limits.recipients_per_day(), NonZeroU32::new(10_000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendingLimits {
    messages_per_minute: Option<NonZeroU32>,
    recipients_per_day: Option<NonZeroU32>,
    recipients_per_message: Option<NonZeroU32>,
    when_reached: WhenReached,
}

/// What a submission does when a sending limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenReached {
    /// Waits its turn, as long as its total time allows. The default.
    #[default]
    Wait,
    /// Fails at once, saying when there will be room.
    Fail,
}

impl SendingLimits {
    /// Creates limits that allow everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the limits of an Exchange Online mailbox: 30 messages a minute, 10,000 recipients a day, 500 a message.
    ///
    /// Source: learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements; the recipients of a
    /// message are the mailbox's default, which an administrator can set from 1 to 1000 (`Set-Mailbox -RecipientLimits`).
    pub fn exchange_online() -> Self {
        Self {
            messages_per_minute: NonZeroU32::new(30),
            recipients_per_day: NonZeroU32::new(10_000),
            recipients_per_message: NonZeroU32::new(500),
            when_reached: WhenReached::Wait,
        }
    }

    /// Says of each limit that is higher than Exchange Online's what becomes of what goes beyond that.
    pub(super) fn beyond_exchange_online(&self) -> impl Iterator<Item = String> {
        let exchange = Self::exchange_online();
        let rows = [
            (
                "messages_per_minute",
                self.messages_per_minute,
                exchange.messages_per_minute,
                "30 messages a minute: it delays the others to later minutes, or refuses them for a while",
            ),
            (
                "recipients_per_day",
                self.recipients_per_day,
                exchange.recipients_per_day,
                "10,000 recipients in 24 hours: it refuses the others until there is room again (554 5.2.0)",
            ),
        ];
        rows.into_iter().filter_map(|(key, limit, allowed, fact)| {
            let given = match limit {
                Some(limit) if Some(limit) <= allowed => return None,
                Some(limit) => limit.to_string(),
                None => "none".to_owned(),
            };
            Some(format!("limits.{key} is {given}, while Exchange Online allows a mailbox {fact}"))
        })
    }

    /// Sets how many messages may go out in any 60 seconds; `None` for no limit.
    #[must_use]
    pub fn with_messages_per_minute(mut self, messages: Option<NonZeroU32>) -> Self {
        self.messages_per_minute = messages;
        self
    }

    /// Sets how many recipients may be addressed in any 24 hours, repeated ones counted again; `None` for no limit.
    ///
    /// Attempts that end before any recipient was named to the server are not counted.
    #[must_use]
    pub fn with_recipients_per_day(mut self, recipients: Option<NonZeroU32>) -> Self {
        self.recipients_per_day = recipients;
        self
    }

    /// Sets how many recipients one transaction may have; a submission to more is split. `None` for no limit.
    #[must_use]
    pub fn with_recipients_per_message(mut self, recipients: Option<NonZeroU32>) -> Self {
        self.recipients_per_message = recipients;
        self
    }

    /// Sets what happens when a limit is reached. Default: [`WhenReached::Wait`].
    #[must_use]
    pub fn with_when_reached(mut self, when_reached: WhenReached) -> Self {
        self.when_reached = when_reached;
        self
    }

    /// Returns how many messages may go out in any 60 seconds.
    pub fn messages_per_minute(&self) -> Option<NonZeroU32> {
        self.messages_per_minute
    }

    /// Returns how many recipients may be addressed in any 24 hours.
    pub fn recipients_per_day(&self) -> Option<NonZeroU32> {
        self.recipients_per_day
    }

    /// Returns how many recipients one transaction may have.
    pub fn recipients_per_message(&self) -> Option<NonZeroU32> {
        self.recipients_per_message
    }

    /// Returns what happens when a limit is reached.
    pub fn when_reached(&self) -> WhenReached {
        self.when_reached
    }
}

/// How long an authenticated connection is kept for the next message.
///
/// Exchange Online publishes no limits; Exchange Server closes idle sessions after 5 minutes and any session after 10
/// (`Set-ReceiveConnector`), and the defaults stay below that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionReuse {
    idle: Duration,
    age: Duration,
    messages: Option<NonZeroU32>,
}

impl Default for ConnectionReuse {
    fn default() -> Self {
        Self { idle: Duration::from_secs(120), age: Duration::from_secs(9 * 60), messages: None }
    }
}

impl ConnectionReuse {
    /// Creates the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a connection may be idle. Default: 2 minutes; zero keeps none.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets the age from which a connection carries no further message. Default: 9 minutes.
    #[must_use]
    pub fn with_age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets how many messages a connection may carry. Default: `None`, no limit.
    #[must_use]
    pub fn with_messages(mut self, messages: Option<NonZeroU32>) -> Self {
        self.messages = messages;
        self
    }

    /// Returns how long a connection may be idle.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Returns the age from which a connection carries no further message.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Returns how many messages a connection may carry.
    pub fn messages(&self) -> Option<NonZeroU32> {
        self.messages
    }

    /// Returns the problem of each time that is too long to be meant.
    pub(crate) fn problems(&self) -> impl Iterator<Item = ConfigProblem> {
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        [("idle", self.idle), ("age", self.age)].into_iter().filter(|(_, time)| *time > LONGEST).map(
            |(name, time)| {
                ConfigProblem::new(name, "enter at most 24 hours, such as 2m")
                    .showing(written(time))
                    .within("reuse")
            },
        )
    }
}
