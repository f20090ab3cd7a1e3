//! The truth about every message: its row, and the only statements that change it. Sends nothing, knows no job library.
//!
//! A message goes from `waiting` through `sending` to `sent`, back to `waiting`, to `set aside` or to `indeterminate`.
//! Each step is one atomic statement that names the state it starts from, so two workers cannot both take it.

use std::fmt;
use std::fs::OpenOptions;
use std::str::FromStr;
use std::time::Duration;

use smtp_oauth::Clock;
use smtp_oauth::lettre::Address;
use smtp_oauth::lettre::address::Envelope;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection};
use ulid::Ulid;

use crate::compose::Draft;
use crate::message::{Claimed, Decision, Enqueued, Fate, Outcome, Unreached};

const SCHEMA: &str = include_str!("schema.sql");
pub(crate) const WAITING: &str = "waiting";
pub(crate) const SENDING: &str = "sending";
pub(crate) const SENT: &str = "sent";
pub(crate) const SET_ASIDE: &str = "set aside";
pub(crate) const INDETERMINATE: &str = "indeterminate";
pub(crate) const DROPPED: &str = "dropped";
/// How many jobs one look at the table may create.
const OFFERED_AT_ONCE: i64 = 64;

/// What went wrong with the outbox itself.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// What was asked for cannot be done; nothing was changed.
    #[error("{0}")]
    Refused(String),
    #[error("the outbox's database cannot be used")]
    Database(#[from] sqlx::Error),
    #[error("a row of the outbox cannot be read")]
    Row(#[from] serde_json::Error),
}

pub type Result<T> = std::result::Result<T, OutboxError>;

/// Sender, recipients, content, attempts and the time of arrival of a message that was claimed.
type Taken = (String, String, Vec<u8>, i64, i64);

/// The outbox in its database; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    pool: AnyPool,
    clock: Clock,
    url: String,
}

/// Where the outbox is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// Whether a database that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Create,
    Refuse,
}

impl Outbox {
    /// Opens the outbox at a URL such as `sqlite:outbox.db` or `postgres://user@host/database`.
    pub async fn open(url: &str, missing: Missing, clock: Clock) -> Result<Self> {
        install_default_drivers();
        let kind = kind_of(url)?;
        let whole = match (kind, missing) {
            (Kind::Postgres, _) => url.to_owned(),
            (Kind::Sqlite, Missing::Create) => {
                make_private(url)?;
                format!("{url}?mode=rwc")
            }
            (Kind::Sqlite, Missing::Refuse) => format!("{url}?mode=rw"),
        };
        // Before the pool, which goes on trying for half a minute, whatever the fault.
        let mut first = AnyConnection::connect(&whole).await.map_err(|error| unusable(kind, url, error))?;
        prepare(kind, &mut first).await.map_err(|error| unusable(kind, url, error))?;
        first.close().await?;
        let options = AnyPoolOptions::new().max_connections(4);
        let pool = options
            .after_connect(move |connection, _| Box::pin(prepare(kind, connection)))
            .connect_lazy(&whole)?;
        let outbox = Self { pool, clock, url: url.to_owned() };
        match missing {
            Missing::Create => outbox.create_tables(kind).await?,
            Missing::Refuse => outbox.find_tables().await?,
        }
        Ok(outbox)
    }

    /// Creates what is not there. Several processes may do so at once, and all but one of them may fail.
    async fn create_tables(&self, kind: Kind) -> Result<()> {
        let schema = SCHEMA.replace("{bytes}", if kind == Kind::Sqlite { "BLOB" } else { "BYTEA" });
        // Readers and the one writer do not wait for each other; the file remembers it.
        let mode = if kind == Kind::Sqlite { "PRAGMA journal_mode = WAL;" } else { "" };
        let mut created = Ok(());
        for _ in 0..3 {
            let schema = sqlx::AssertSqlSafe(format!("{mode}\n{schema}"));
            created = sqlx::raw_sql(schema).execute(&self.pool).await.map(drop);
            if created.is_ok() {
                break;
            }
        }
        Ok(created?)
    }

    async fn find_tables(&self) -> Result<()> {
        match sqlx::query("SELECT id FROM outbox_queue").fetch_optional(&self.pool).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(sqlx::Error::Database(_)) => {
                Err(OutboxError::Refused("there is no outbox in this database".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub fn kind(&self) -> Kind {
        kind_of(&self.url).unwrap_or(Kind::Sqlite)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// The time, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        i64::try_from(self.clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// Takes a message over: from here on it cannot be lost. With a key that was used before, only says so.
    pub async fn enqueue(&self, draft: &Draft, key: Option<&str>) -> Result<Enqueued> {
        self.enqueue_in(&mut *self.pool.acquire().await?, draft, key).await
    }

    /// The same in a transaction of the caller's: the message is sent if, and only if, that one is committed.
    pub async fn enqueue_in(
        &self,
        connection: &mut AnyConnection,
        draft: &Draft,
        key: Option<&str>,
    ) -> Result<Enqueued> {
        let id = Ulid::generate().to_string();
        let (digest, now) = (draft.digest(), self.now());
        let recipients: Vec<_> = draft.recipients().iter().map(ToString::to_string).collect();
        let inserted = sqlx::query(
            "INSERT INTO outbox_messages (id, dedup_key, digest, sender, recipients, content, state, due, created) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (dedup_key) DO NOTHING",
        )
        .bind(&id)
        .bind(key)
        .bind(digest)
        .bind(draft.sender().to_string())
        .bind(serde_json::to_string(&recipients)?)
        .bind(draft.content(&id))
        .bind(WAITING)
        .bind(now)
        .execute(&mut *connection)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Enqueued::New { id });
        }
        let (id, state, known): (String, String, String) =
            sqlx::query_as("SELECT id, state, digest FROM outbox_messages WHERE dedup_key = $1")
                .bind(key)
                .fetch_one(connection)
                .await?;
        if known != digest {
            return Err(OutboxError::Refused(format!(
                "another message has this key already: {id} ({state}); nothing was changed"
            )));
        }
        Ok(Enqueued::Known { id, state })
    }

    /// Takes a message for sending. From this commit on, a death of the worker leaves it indeterminate.
    ///
    /// `None` when it is somebody else's, not due, paused, or when this worker's lease is over.
    pub async fn claim(&self, id: &str, worker: &str) -> Result<Option<Claimed>> {
        let claim = Ulid::generate().to_string();
        let row = match self.take(id, &claim, worker).await {
            Ok(row) => row,
            Err(error) => {
                // It may have been carried out all the same, and certainly nothing is sent.
                self.unclaim(id, &claim, WAITING, None).await;
                return Err(error.into());
            }
        };
        let Some((sender, recipients, content, attempts, created)) = row else { return Ok(None) };
        let Some(envelope) = envelope(&sender, &recipients) else {
            self.unclaim(id, &claim, SET_ASIDE, Some("its addresses cannot be read")).await;
            return Ok(None);
        };
        Ok(Some(Claimed { id: id.to_owned(), claim, envelope, content, attempts, created }))
    }

    async fn take(&self, id: &str, claim: &str, worker: &str) -> sqlx::Result<Option<Taken>> {
        // Not by itself: the row of a statement that returns one is there before its commit, whose failure sqlx
        // does not tell.
        let mut transaction = self.pool.begin().await?;
        let taken = sqlx::query_as(
            "UPDATE outbox_messages SET state = $1, claim = $2, worker = $3, attempts = attempts + 1 \
             WHERE id = $4 AND state = $5 AND due <= $6 \
               AND EXISTS (SELECT 1 FROM outbox_workers WHERE id = $3 AND alive_until > $6) \
               AND NOT EXISTS (SELECT 1 FROM outbox_queue WHERE paused IS NOT NULL OR hold_until > $6) \
             RETURNING sender, recipients, content, attempts, created",
        )
        .bind(SENDING)
        .bind(claim)
        .bind(worker)
        .bind(id)
        .bind(WAITING)
        .bind(self.now())
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(taken)
    }

    /// Gives a message back before anything of it was sent, as soon as the database can be had; what a person decided
    /// meanwhile stands.
    async fn unclaim(&self, id: &str, claim: &str, state: &str, reason: Option<&str>) {
        let unclaim = "UPDATE outbox_messages SET state = $1, reason = $2 WHERE id = $3 AND claim = $4 \
                       AND state IN ($5, $6)";
        let query = || {
            let unclaim = sqlx::query(unclaim).bind(state).bind(reason).bind(id).bind(claim);
            unclaim.bind(SENDING).bind(INDETERMINATE)
        };
        while let Err(error) = query().execute(&self.pool).await {
            tracing::error!(
                id,
                error = &error as &dyn std::error::Error,
                "trying again to give the message back"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Records what became of an attempt; false when a person has decided about the message meanwhile.
    ///
    /// It also comes in time when the worker was thought dead: what is known takes the place of what was feared.
    pub async fn finish(&self, claimed: &Claimed, outcome: &Outcome) -> Result<bool> {
        let now = self.now();
        let (state, due, reason) = match outcome {
            Outcome::Sent { .. } => (SENT, now, None),
            Outcome::Later { at, reason } => (WAITING, *at, Some(reason)),
            // The queue has the time: who resumes it means this message too.
            Outcome::Hold { reason, .. } => (WAITING, now, Some(reason)),
            Outcome::Pause { reason, .. } => (WAITING, now, Some(reason)),
            Outcome::SetAside { reason } => (SET_ASIDE, now, Some(reason)),
            Outcome::Indeterminate { reason } => (INDETERMINATE, now, Some(reason)),
        };
        // What concerned every message says nothing about how often this one has failed.
        let uncounted = i64::from(matches!(outcome, Outcome::Hold { .. } | Outcome::Pause { .. }));
        let mut unreached: &[Unreached] = &[];
        let mut transaction = self.pool.begin().await?;
        // Before its content is forgotten; undone below if the attempt has no say any more.
        if let Outcome::Sent { refused } = outcome {
            unreached = refused;
            for unreached in refused {
                let (state, due) = match unreached.fate {
                    Fate::Refused => continue,
                    Fate::Later(at) => (WAITING, at),
                    Fate::Indeterminate => (INDETERMINATE, now),
                };
                sqlx::query(
                    "INSERT INTO outbox_messages \
                       (id, digest, sender, recipients, content, state, due, attempts, reason, created) \
                     SELECT $1, digest, sender, $2, content, $3, $4, attempts, $5, created \
                     FROM outbox_messages WHERE id = $6",
                )
                .bind(Ulid::generate().to_string())
                .bind(serde_json::to_string(&[&unreached.recipient])?)
                .bind(state)
                .bind(due)
                .bind(&unreached.reason)
                .bind(&claimed.id)
                .execute(&mut *transaction)
                .await?;
            }
        }
        let recorded = sqlx::query(
            "UPDATE outbox_messages SET state = $1, reason = $2, due = $3, refused = $4, \
               attempts = attempts - $5, content = CASE WHEN $1 = $6 THEN NULL ELSE content END \
             WHERE id = $7 AND claim = $8 AND state IN ($9, $10)",
        )
        .bind(state)
        .bind(reason)
        .bind(due)
        .bind(serde_json::to_string(unreached)?)
        .bind(uncounted)
        .bind(SENT)
        .bind(&claimed.id)
        .bind(&claimed.claim)
        .bind(SENDING)
        .bind(INDETERMINATE)
        .execute(&mut *transaction)
        .await?;
        if recorded.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        match outcome {
            Outcome::Pause { reason, remedy } => {
                // The first reason stays: the others follow from it.
                let pause =
                    "UPDATE outbox_queue SET paused = $1, remedy = $2 WHERE id = 1 AND paused IS NULL";
                sqlx::query(pause).bind(reason).bind(remedy).execute(&mut *transaction).await?;
            }
            Outcome::Hold { until, .. } => {
                let hold = "UPDATE outbox_queue SET hold_until = $1 WHERE id = 1 AND hold_until < $1";
                sqlx::query(hold).bind(until).execute(&mut *transaction).await?;
            }
            _ => {}
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Lists the messages that are due and have no living job, each with the name for a new one, and notes that name.
    ///
    /// `jobs` is the job library's table.
    pub async fn offer(&self, jobs: &'static str) -> Result<Vec<(String, Ulid)>> {
        let waiting: Vec<(String, Option<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT m.id, m.job FROM outbox_messages m WHERE m.state = $1 AND m.due <= $2 \
               AND NOT EXISTS (SELECT 1 FROM outbox_queue WHERE paused IS NOT NULL OR hold_until > $2) \
               AND NOT EXISTS (SELECT 1 FROM {jobs} j WHERE j.id = m.job AND (j.status = 'Pending' \
                 OR (j.status IN ('Queued', 'Running') AND EXISTS \
                   (SELECT 1 FROM outbox_workers w WHERE w.id = j.lock_by AND w.alive_until > $2)))) \
             ORDER BY m.due, m.id LIMIT $3"
        )))
        .bind(WAITING)
        .bind(self.now())
        .bind(OFFERED_AT_ONCE)
        .fetch_all(&self.pool)
        .await?;
        let mut offered = Vec::new();
        for (id, known) in waiting {
            let job = Ulid::generate();
            // Of two workers that look at the same time, one wins; were both to, the claim would still let one send.
            let noted = "UPDATE outbox_messages SET job = $1 WHERE id = $2 AND job IS NOT DISTINCT FROM $3 AND state = $4";
            let noted = sqlx::query(noted).bind(job.to_string()).bind(&id).bind(known).bind(WAITING);
            if noted.execute(&self.pool).await?.rows_affected() == 1 {
                offered.push((id, job));
            }
        }
        Ok(offered)
    }

    /// Goes on after a pause; false when there was none.
    pub async fn resume(&self) -> Result<bool> {
        let resume = "UPDATE outbox_queue SET paused = NULL, remedy = NULL, hold_until = 0 \
                      WHERE id = 1 AND (paused IS NOT NULL OR hold_until > $1)";
        Ok(sqlx::query(resume).bind(self.now()).execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Carries out a person's decision.
    pub async fn resolve(&self, id: &str, decision: Decision) -> Result<()> {
        let (to, from, content) = match decision {
            Decision::Resend => (WAITING, [INDETERMINATE, SET_ASIDE, SET_ASIDE], "content"),
            Decision::Drop => (DROPPED, [INDETERMINATE, SET_ASIDE, WAITING], "NULL"),
        };
        let resolved = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE outbox_messages SET state = $1, due = $2, content = {content} WHERE id = $3 AND state IN ($4, $5, $6)"
        )))
        .bind(to)
        .bind(self.now())
        .bind(id);
        let resolved = from.into_iter().fold(resolved, |query, state| query.bind(state));
        if resolved.execute(&self.pool).await?.rows_affected() == 1 {
            return Ok(());
        }
        let state: Option<(String,)> = sqlx::query_as("SELECT state FROM outbox_messages WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Err(OutboxError::Refused(match state {
            None => format!("there is no message {id}"),
            Some((state,)) => format!("message {id} is {state}: there is nothing to decide about it"),
        }))
    }

    /// Returns the state of one message and why it is in it.
    pub async fn state(&self, id: &str) -> Result<Option<(String, Option<String>)>> {
        let state = sqlx::query_as("SELECT state, reason FROM outbox_messages WHERE id = $1").bind(id);
        Ok(state.fetch_optional(&self.pool).await?)
    }
}

pub(crate) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Sees to it that every commit reaches the disk: SQLite's default, spelled out.
async fn prepare(kind: Kind, connection: &mut AnyConnection) -> sqlx::Result<()> {
    if kind == Kind::Sqlite {
        let pragmas = "PRAGMA synchronous = FULL; PRAGMA busy_timeout = 30000";
        sqlx::raw_sql(pragmas).execute(connection).await?;
    }
    Ok(())
}

/// Makes the file of SQLite's where it is not there, for its owner alone: whole messages are in it. SQLite gives its
/// other files the mode of the first.
fn make_private(url: &str) -> Result<()> {
    let refused = |reason: &dyn fmt::Display| {
        OutboxError::Refused(format!("there is no outbox that can be opened at {url}: {reason}"))
    };
    let sqlite = SqliteConnectOptions::from_str(url).map_err(|error| refused(&error))?;
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(sqlite.get_filename()).map(drop).map_err(|error| refused(&error))
}

/// A file that is not there or no database is what was entered wrongly; anything else is a failure.
fn unusable(kind: Kind, url: &str, error: sqlx::Error) -> OutboxError {
    match (kind, error.as_database_error()) {
        (Kind::Sqlite, Some(reason)) => {
            OutboxError::Refused(format!("there is no outbox that can be opened at {url}: {reason}"))
        }
        // Without the URL, which may hold a password.
        (Kind::Postgres, None) if matches!(error, sqlx::Error::Configuration(_)) => OutboxError::Refused(
            "what was given is no address of a database: postgres://USER@HOST/DATABASE".to_owned(),
        ),
        _ => error.into(),
    }
}

fn envelope(sender: &str, recipients: &str) -> Option<Envelope> {
    let recipients: Vec<String> = serde_json::from_str(recipients).ok()?;
    let recipients: std::result::Result<Vec<Address>, _> = recipients.iter().map(|to| to.parse()).collect();
    Envelope::new(Some(sender.parse().ok()?), recipients.ok()?).ok()
}

fn kind_of(url: &str) -> Result<Kind> {
    match url.split_once(':') {
        Some(("sqlite", path)) if path.trim_start_matches('/') == ":memory:" => Err(OutboxError::Refused(
            "a database in memory keeps nothing: name a file, sqlite:PATH".to_owned(),
        )),
        Some(("sqlite", path)) if !path.is_empty() && !path.contains('?') => Ok(Kind::Sqlite),
        Some(("postgres" | "postgresql", _)) => Ok(Kind::Postgres),
        // Not shown: it may hold a password.
        _ => Err(OutboxError::Refused(
            "the database is named by a URL: sqlite:PATH, or postgres://USER@HOST/DATABASE".to_owned(),
        )),
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Outbox").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_commit_in_sqlite_reaches_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("outbox.db").display());
        let outbox = Outbox::open(&url, Missing::Create, Clock::system()).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut connection = outbox.pool.acquire().await.unwrap();
            let ask = sqlx::query_as("PRAGMA synchronous");
            let (full,): (i64,) = ask.fetch_one(&mut *connection).await.unwrap();
            assert_eq!(full, 2, "FULL");
            connections.push(connection);
        }
    }

    async fn outbox_with_a_message(directory: &tempfile::TempDir) -> (Outbox, String) {
        let url = format!("sqlite:{}", directory.path().join("outbox.db").display());
        let outbox = Outbox::open(&url, Missing::Create, Clock::system()).await.unwrap();
        let draft =
            Draft::plain("alerts@contoso.com", &["reader@example.com".to_owned()], "Hi", "Hi").unwrap();
        let Enqueued::New { id } = outbox.enqueue(&draft, None).await.unwrap() else { panic!("it is new") };
        outbox.renew("worker", Duration::from_secs(30)).await.unwrap();
        (outbox, id)
    }

    #[tokio::test]
    async fn a_message_whose_claim_is_not_committed_is_not_sent() {
        let directory = tempfile::tempdir().unwrap();
        let (outbox, id) = outbox_with_a_message(&directory).await;
        // Fails at the commit and no earlier, as a full disk may; only while the message is claimed.
        let trap = "CREATE TABLE elsewhere (id TEXT PRIMARY KEY); \
                    CREATE TABLE trap (id TEXT REFERENCES elsewhere DEFERRABLE INITIALLY DEFERRED); \
                    CREATE TRIGGER spring AFTER UPDATE ON outbox_messages WHEN NEW.state = 'sending' \
                    BEGIN INSERT INTO trap VALUES (NEW.id); END";
        sqlx::raw_sql(trap).execute(&outbox.pool).await.unwrap();
        let claimed = outbox.claim(&id, "worker").await;
        assert!(matches!(claimed, Err(OutboxError::Database(_))), "{claimed:?}");
        assert_eq!(outbox.state(&id).await.unwrap(), Some((WAITING.to_owned(), None)));
    }

    #[tokio::test]
    async fn a_message_that_a_person_dropped_is_not_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let (outbox, id) = outbox_with_a_message(&directory).await;
        let claimed = outbox.claim(&id, "worker").await.unwrap().unwrap();
        outbox.retire("worker").await.unwrap();
        outbox.bury_the_dead().await.unwrap();
        outbox.resolve(&id, Decision::Drop).await.unwrap();
        outbox.unclaim(&id, &claimed.claim, WAITING, None).await;
        assert_eq!(outbox.state(&id).await.unwrap().unwrap().0, DROPPED);
    }
}
