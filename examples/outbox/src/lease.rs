//! Who is alive: each worker renews a lease, and what a worker was sending whose lease is over is indeterminate.

use std::time::Duration;

use crate::store::{INDETERMINATE, Outbox, Result, SENDING, milliseconds};

/// A worker that has been dead for so long left nothing behind that anybody asks for.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

impl Outbox {
    /// Says that `worker` is alive for another `lease`; writes only once a quarter of it is over.
    pub async fn renew(&self, worker: &str, lease: Duration) -> Result<()> {
        let until = self.now().saturating_add(milliseconds(lease));
        sqlx::query(
            "INSERT INTO outbox_workers (id, alive_until) VALUES ($1, $2) ON CONFLICT (id) \
             DO UPDATE SET alive_until = excluded.alive_until WHERE outbox_workers.alive_until <= $3",
        )
        .bind(worker)
        .bind(until)
        .bind(until.saturating_sub(milliseconds(lease / 4)))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Gives the lease of a worker back that has nothing under way any more.
    pub async fn retire(&self, worker: &str) -> Result<()> {
        sqlx::query("DELETE FROM outbox_workers WHERE id = $1").bind(worker).execute(self.pool()).await?;
        Ok(())
    }

    /// Finds what dead workers were sending: nobody knows how far they came. Returns how many there were.
    pub async fn bury_the_dead(&self) -> Result<u64> {
        let now = self.now();
        let found = sqlx::query(
            "UPDATE outbox_messages SET state = $1, reason = $2 WHERE state = $3 AND NOT EXISTS \
               (SELECT 1 FROM outbox_workers w WHERE w.id = outbox_messages.worker AND w.alive_until > $4)",
        )
        .bind(INDETERMINATE)
        .bind("the worker died while it was sending this: it may have arrived")
        .bind(SENDING)
        .bind(now)
        .execute(self.pool())
        .await?;
        sqlx::query("DELETE FROM outbox_workers WHERE alive_until < $1")
            .bind(now.saturating_sub(milliseconds(FORGOTTEN)))
            .execute(self.pool())
            .await?;
        Ok(found.rows_affected())
    }
}
