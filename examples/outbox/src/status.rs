//! The outbox at a glance, for people and as JSON: numbers, reasons and addresses, never a message's content.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::message::Unreached;
use crate::store::{DROPPED, INDETERMINATE, Outbox, Result, SENDING, SET_ASIDE, WAITING};

/// The whole outbox at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// How many messages are in each state.
    pub counts: Vec<(String, i64)>,
    pub paused: Option<Pause>,
    /// Nothing is sent before this, in milliseconds since 1970.
    pub hold_until: Option<i64>,
    pub workers: i64,
    /// Messages that are not sent and say why, oldest first, a hundred at most.
    pub troubled: Vec<Troubled>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Pause {
    pub reason: String,
    pub remedy: String,
}

/// A message with something to tell; never its content.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Troubled {
    pub id: String,
    pub state: String,
    pub recipients: String,
    pub attempts: i64,
    pub due: i64,
    pub reason: Option<String>,
    /// A JSON array of [`Unreached`].
    pub refused: String,
}

impl Status {
    pub fn count(&self, state: &str) -> i64 {
        self.counts.iter().find(|(name, _)| name == state).map_or(0, |(_, count)| *count)
    }

    /// How many messages have not come to an end by themselves or by a person's decision.
    pub fn unfinished(&self) -> i64 {
        self.count(WAITING) + self.count(SENDING)
    }
}

impl Outbox {
    pub async fn status(&self) -> Result<Status> {
        let now = self.now();
        let counts =
            sqlx::query_as("SELECT state, COUNT(*) FROM outbox_messages GROUP BY state ORDER BY state")
                .fetch_all(self.pool())
                .await?;
        let (reason, remedy, hold): (Option<String>, Option<String>, i64) =
            sqlx::query_as("SELECT paused, remedy, hold_until FROM outbox_queue WHERE id = 1")
                .fetch_one(self.pool())
                .await?;
        let (workers,) = sqlx::query_as("SELECT COUNT(*) FROM outbox_workers WHERE alive_until > $1")
            .bind(now)
            .fetch_one(self.pool())
            .await?;
        let troubled = sqlx::query_as(
            "SELECT id, state, recipients, attempts, due, reason, refused FROM outbox_messages \
             WHERE (reason IS NOT NULL AND state <> $1) OR refused <> '[]' OR (state = $2 AND due > $3) \
             ORDER BY id LIMIT 100",
        )
        .bind(DROPPED)
        .bind(WAITING)
        .bind(now)
        .fetch_all(self.pool())
        .await?;
        let paused = reason.map(|reason| Pause { reason, remedy: remedy.unwrap_or_default() });
        Ok(Status { counts, paused, hold_until: (hold > now).then_some(hold), workers, troubled })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let counts = if counts.is_empty() { "empty".to_owned() } else { counts.join(", ") };
        write!(f, "{counts}; workers: {}", self.workers)?;
        if let Some(Pause { reason, remedy }) = &self.paused {
            write!(f, "\nPAUSED: {reason}\n{remedy}\nThen `outbox resume` goes on.")?;
        }
        if let Some(until) = self.hold_until {
            write!(f, "\nnothing is sent before {}", date(until))?;
        }
        self.troubled.iter().try_for_each(|message| write!(f, "\n{message}"))
    }
}

impl fmt::Display for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, recipients, attempts, due, reason, refused } = self;
        let recipients: Vec<String> = serde_json::from_str(recipients).unwrap_or_default();
        write!(f, "{id} is {state}, to {}", recipients.join(", "))?;
        if let Some(reason) = reason {
            write!(f, "\n    {reason}")?;
        }
        for unreached in serde_json::from_str::<Vec<Unreached>>(refused).unwrap_or_default() {
            write!(f, "\n    not to {}", unreached.reason)?;
        }
        match state.as_str() {
            WAITING => write!(
                f,
                "\n    attempts: {attempts}; the next one not before {}, or never: `outbox resolve {id} --drop`",
                date(*due)
            ),
            INDETERMINATE | SET_ASIDE => write!(f, "\n    `outbox resolve {id} --resend` or `--drop`"),
            _ => Ok(()),
        }
    }
}

fn date(milliseconds: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(milliseconds / 1000).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| "an unknown time".to_owned())
}
