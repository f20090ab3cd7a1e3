//! A worker: runs one attempt for each job of the queue, and sees to it that every due message has a job.
//!
//! The job library delivers a job at least once, again when it thinks a worker dead. So a job only names a message, and
//! the message's row says whether it may be sent: what the library repeats finds nothing to do.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{BackendExt, BoxDynError, Data, TaskBuilder, TaskId, WorkerBuilder, WorkerBuilderExt};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use smtp_oauth::Mailer;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::{Semaphore, watch};
use ulid::Ulid;

use crate::delivery::attempt;
use crate::message::{Claimed, Outcome};
use crate::store::{Kind, Outbox, OutboxError};

const QUEUE: &str = "smtp-oauth-outbox";
/// How often a worker looks for due messages and for jobs.
const TICK: Duration = Duration::from_millis(200);
/// The pause after the database has failed.
const BREATH: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many messages are under way at a time; more than the mailer has connections would only wait.
    pub at_once: u32,
    /// How long a worker that says nothing counts as alive.
    pub lease: Duration,
}

struct Worker {
    id: String,
    outbox: Outbox,
    mailer: Mailer,
    options: Options,
    /// Each message under way has one; a worker that ends waits for them all.
    places: Arc<Semaphore>,
}

/// Works until told to stop, whatever happens to the database meanwhile; lets what is under way come to its end.
pub async fn work(outbox: &Outbox, mailer: &Mailer, options: Options, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        // A name of its own for each start: the lease of one that broke off must not keep its messages.
        let worker = Arc::new(Worker {
            id: Ulid::generate().to_string(),
            outbox: outbox.clone(),
            mailer: mailer.clone(),
            options,
            places: Arc::new(Semaphore::new(options.at_once as usize)),
        });
        if let Err(error) = worker.serve(&mut stop).await {
            tracing::error!(error = &*error, "the queue cannot be had; starting again");
        }
        _ = tokio::time::timeout(BREATH, stop.wait_for(|stop| *stop)).await;
    }
}

impl Worker {
    async fn serve(self: &Arc<Self>, stop: &mut watch::Receiver<bool>) -> Result<(), BoxDynError> {
        let queue = Jobs::open(&self.outbox).await?;
        self.outbox.renew(&self.id, self.options.lease).await?;
        let caretaker = tokio::spawn(self.clone().take_care(queue.clone()));
        // The two storages have the same methods, but no trait that names them all.
        macro_rules! run {
            ($storage:expr) => {{
                let worker = WorkerBuilder::new(self.id.as_str())
                    .backend($storage.poll_with_interval(TICK))
                    .data(self.clone())
                    .concurrency(self.options.at_once as usize)
                    .build(run_job);
                // Dropped when it is to stop: its jobs are offered to others, and attempts are tasks of their own.
                tokio::select! {
                    ended = worker.run() => ended,
                    _ = stop.wait_for(|stop| *stop) => Ok(()),
                }
            }};
        }
        let batch = self.options.at_once as usize;
        // When the library repeats the jobs of a dead worker, in whole seconds; about messages the lease decides.
        let heartbeat = Duration::from_secs((self.options.lease.as_secs() / 3).max(1));
        let ended = match queue {
            Jobs::Sqlite(pool) => {
                let config = apalis_sqlite::Config::default().queue(QUEUE).batch_size(batch);
                run!(SqliteStorage::<String>::new(&pool).with_config(config.heartbeat_interval(heartbeat)))
            }
            Jobs::Postgres(pool) => {
                let config = apalis_postgres::Config::default().queue(QUEUE).batch_size(batch);
                run!(PostgresStorage::<String>::new(&pool).with_config(config.heartbeat_interval(heartbeat)))
            }
        };
        // The lease is kept up until the last message has its outcome.
        let all = self.places.acquire_many(self.options.at_once).await;
        caretaker.abort();
        drop(all);
        self.outbox.retire(&self.id).await?;
        Ok(ended?)
    }

    /// Keeps the lease, notices dead workers, and offers due messages as jobs.
    async fn take_care(self: Arc<Self>, queue: Jobs) {
        let mut ticks = tokio::time::interval(TICK.min(self.options.lease / 4));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.look_after(&queue).await {
                Ok(0) => {}
                Ok(dead) => {
                    tracing::warn!(messages = dead, "a worker died while sending: see `outbox status`")
                }
                Err(error) => tracing::error!(error = &*error, "the outbox cannot be looked after"),
            }
        }
    }

    async fn look_after(&self, queue: &Jobs) -> Result<u64, BoxDynError> {
        self.outbox.renew(&self.id, self.options.lease).await?;
        let dead = self.outbox.bury_the_dead().await?;
        let offered = self.outbox.offer(queue.table()).await?;
        queue.push(&offered).await?;
        queue.forget_done().await?;
        Ok(dead)
    }

    /// Makes an attempt at a message, if it may be sent, and records the outcome, which must not be lost.
    async fn send(&self, id: &str) -> Result<(), OutboxError> {
        let Some(claimed) = self.outbox.claim(id, &self.id).await? else { return Ok(()) };
        let task = tokio::spawn({
            let (outbox, mailer, claimed) = (self.outbox.clone(), self.mailer.clone(), claimed.clone());
            async move { attempt(&outbox, &mailer, &claimed).await }
        });
        let broke_off =
            |_| Outcome::Indeterminate { reason: "the attempt broke off: it may have arrived".to_owned() };
        self.record(&claimed, &task.await.unwrap_or_else(broke_off)).await;
        Ok(())
    }

    async fn record(&self, claimed: &Claimed, outcome: &Outcome) {
        let id = &claimed.id;
        loop {
            match self.outbox.finish(claimed, outcome).await {
                Ok(true) => return log(id, outcome),
                Ok(false) => {
                    return tracing::warn!(
                        id,
                        ?outcome,
                        "somebody decided about this message before it was known"
                    );
                }
                Err(error) => {
                    tracing::error!(
                        id,
                        error = &error as &dyn std::error::Error,
                        "trying again to record the outcome"
                    );
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// What a job does, in a task of its own: whoever drops this future must not break an attempt off.
async fn run_job(id: String, worker: Data<Arc<Worker>>) -> Result<(), BoxDynError> {
    let worker: Arc<Worker> = (*worker).clone();
    let place = worker.places.clone().acquire_owned().await?;
    let task = tokio::spawn(async move {
        let sent = worker.send(&id).await;
        drop(place);
        sent
    });
    Ok(task.await??)
}

fn log(id: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Sent { refused } => tracing::info!(id, refused = refused.len(), "sent"),
        Outcome::Later { reason, .. } => tracing::info!(id, reason, "to be sent later"),
        Outcome::Hold { reason, .. } => tracing::info!(id, reason, "everything waits"),
        Outcome::Pause { reason, .. } => tracing::error!(reason, "paused: see `outbox status`"),
        Outcome::SetAside { reason } => tracing::error!(id, reason, "set aside"),
        Outcome::Indeterminate { reason } => tracing::error!(id, reason, "waits for `outbox resolve`"),
    }
}

/// The job library's tables.
#[derive(Clone)]
enum Jobs {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Jobs {
    /// Opens the queue and creates its tables, past the storages' own `setup`: SQLite's turns `synchronous` off.
    async fn open(outbox: &Outbox) -> Result<Self, BoxDynError> {
        match outbox.kind() {
            Kind::Sqlite => {
                let options = SqliteConnectOptions::from_str(outbox.url())?
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(Duration::from_secs(30));
                let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
                SqliteStorage::migrations().run(&pool).await?;
                Ok(Self::Sqlite(pool))
            }
            Kind::Postgres => {
                let pool = PgPoolOptions::new().max_connections(4).connect(outbox.url()).await?;
                PostgresStorage::migrations().run(&pool).await?;
                Ok(Self::Postgres(pool))
            }
        }
    }

    fn table(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "Jobs",
            Self::Postgres(_) => "apalis.jobs",
        }
    }

    async fn push(&self, messages: &[(String, Ulid)]) -> Result<(), BoxDynError> {
        let mut jobs = Vec::new();
        for (message, job) in messages {
            let job =
                TaskBuilder::new(serde_json::to_vec(message)?).task_id(TaskId::from_string(job.to_string()));
            // The library repeats nothing: a message whose job has failed is offered again.
            jobs.push(job.max_attempts(1).build());
        }
        if jobs.is_empty() {
            return Ok(());
        }
        match self {
            Self::Sqlite(pool) => {
                let mut transaction = pool.begin().await?;
                apalis_sqlite::queries::push_tasks(&mut *transaction, QUEUE, &jobs).await?;
                transaction.commit().await?;
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await?;
                apalis_postgres::queries::push_tasks(&mut *connection, QUEUE, jobs).await?;
            }
        }
        Ok(())
    }

    async fn forget_done(&self) -> Result<(), BoxDynError> {
        match self {
            Self::Sqlite(pool) => {
                let done = "DELETE FROM Jobs WHERE job_type = $1 AND status IN ('Done', 'Failed', 'Killed')";
                sqlx::query(done).bind(QUEUE).execute(pool).await?;
            }
            Self::Postgres(pool) => {
                let done =
                    "DELETE FROM apalis.jobs WHERE job_type = $1 AND status IN ('Done', 'Failed', 'Killed')";
                sqlx::query(done).bind(QUEUE).execute(pool).await?;
            }
        }
        Ok(())
    }
}
