//! The sending limits of a mailbox, kept in the outbox's database by all workers together. Waits for nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use smtp_oauth::{ReleaseFuture, Reservation, ReserveFuture, SendingLimits, SharedLimits, SharedLimitsError};

use crate::store::Outbox;

const MINUTE: i64 = 60 * 1000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Counts what was sent in a table next to the messages.
#[derive(Clone, Debug)]
pub struct OutboxLimits(Outbox);

impl OutboxLimits {
    pub fn new(outbox: Outbox) -> Self {
        Self(outbox)
    }

    async fn ask(&self, mailbox: &str, limits: &SendingLimits, recipients: u32) -> sqlx::Result<Reservation> {
        let (mailbox, now) = (mailbox.to_ascii_lowercase(), self.0.now());
        let number = |limit: Option<NonZeroU32>| limit.map_or(i64::MAX, |limit| i64::from(limit.get()));
        let mut transaction = self.0.pool().begin().await?;
        // Locks the row, and so everybody else out, until the commit; in SQLite it locks the database.
        sqlx::query("UPDATE outbox_queue SET id = id WHERE id = 1").execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM outbox_sent WHERE at <= $1")
            .bind(now - DAY)
            .execute(&mut *transaction)
            .await?;
        let mut free = now;
        // When the limit is 30, there is room a minute after the 30th latest.
        let blocking: Option<(i64,)> = sqlx::query_as(
            "SELECT at FROM outbox_sent WHERE mailbox = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3",
        )
        .bind(&mailbox)
        .bind(now - MINUTE)
        .bind(number(limits.messages_per_minute()) - 1)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((at,)) = blocking {
            free = free.max(at + MINUTE);
        }
        let (today, oldest): (i64, i64) = sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(recipients), 0) AS BIGINT), COALESCE(MIN(at), 0) \
             FROM outbox_sent WHERE mailbox = $1",
        )
        .bind(&mailbox)
        .fetch_one(&mut *transaction)
        .await?;
        if today.saturating_add(i64::from(recipients)) > number(limits.recipients_per_day()) {
            free = free.max(oldest + DAY);
        }
        if free > now {
            return Ok(Reservation::Wait(Duration::from_millis(free.abs_diff(now))));
        }
        sqlx::query("INSERT INTO outbox_sent (mailbox, at, recipients) VALUES ($1, $2, $3)")
            .bind(&mailbox)
            .bind(now)
            .bind(i64::from(recipients))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Reservation::Granted)
    }
}

impl SharedLimits for OutboxLimits {
    fn reserve<'a>(
        &'a self,
        mailbox: &'a str,
        limits: &'a SendingLimits,
        recipients: u32,
    ) -> ReserveFuture<'a> {
        Box::pin(async move {
            let failed =
                |error| SharedLimitsError::new("the outbox's database cannot count").with_source(error);
            self.ask(mailbox, limits, recipients).await.map_err(failed)
        })
    }

    fn release<'a>(&'a self, mailbox: &'a str, recipients: u32) -> ReleaseFuture<'a> {
        Box::pin(async move {
            // A counterweight in the day's sum, dated so that it is no message of this minute.
            let released =
                sqlx::query("INSERT INTO outbox_sent (mailbox, at, recipients) VALUES ($1, $2, $3)")
                    .bind(mailbox.to_ascii_lowercase())
                    .bind(self.0.now() - MINUTE)
                    .bind(-i64::from(recipients));
            let failed =
                |error| SharedLimitsError::new("the outbox's database cannot count").with_source(error);
            released.execute(self.0.pool()).await.map(drop).map_err(failed)
        })
    }
}
