//! What users of the outbox rely on.

mod cli;
mod killed;
mod outcomes;
mod postgres;

use std::path::Path;

use outbox::compose::Draft;
use outbox::delivery::attempt;
use outbox::demo;
use outbox::message::{Claimed, Enqueued, Outcome};
use outbox::store::{Missing, Outbox};
use smtp_oauth::Mailer;
use smtp_oauth::testing::{FakeExchange, FakeMicrosoft365, ManualClock};
use tempfile::TempDir;

const LEASE: std::time::Duration = std::time::Duration::from_secs(30);
const READER: &str = "reader@example.com";

/// A tenant, an outbox and a worker called `worker`, all on one clock.
struct Stage {
    manual: ManualClock,
    tenant: FakeMicrosoft365,
    outbox: Outbox,
    mailer: Mailer,
    directory: TempDir,
}

impl Stage {
    async fn start() -> Self {
        let manual = ManualClock::new();
        let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&url(directory.path()), Missing::Create, manual.clock()).await.unwrap();
        let mailer = demo::mailer(&tenant, &manual, &outbox).unwrap();
        outbox.renew("worker", LEASE).await.unwrap();
        Self { manual, tenant, outbox, mailer, directory }
    }

    fn exchange(&self) -> &FakeExchange {
        self.tenant.exchange()
    }

    async fn add(&self, to: &str) -> String {
        new(&self.outbox, &draft(to, "Hello")).await
    }

    /// Lets time pass in which the worker gives signs of life.
    async fn pass(&self, seconds: u64) {
        self.manual.advance(std::time::Duration::from_secs(seconds));
        self.outbox.renew("worker", LEASE).await.unwrap();
    }

    async fn claim(&self, id: &str) -> Option<Claimed> {
        self.outbox.claim(id, "worker").await.unwrap()
    }

    /// Makes one attempt at a message and records it, as a job does.
    async fn send(&self, id: &str) -> Outcome {
        let claimed = self.claim(id).await.expect("the message may be sent");
        let outcome = attempt(&self.outbox, &self.mailer, &claimed).await;
        assert!(self.outbox.finish(&claimed, &outcome).await.unwrap());
        outcome
    }

    async fn state(&self, id: &str) -> String {
        self.outbox.state(id).await.unwrap().unwrap().0
    }

    /// Returns the rows that a question to the database gives.
    async fn ask(&self, question: &'static str) -> Vec<(String, Option<Vec<u8>>)> {
        let pool = sqlx::AnyPool::connect(&url(self.directory.path())).await.unwrap();
        sqlx::query_as(question).fetch_all(&pool).await.unwrap()
    }
}

fn url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("outbox.db").display())
}

fn draft(to: &str, subject: &str) -> Draft {
    let to: Vec<_> = to.split(' ').map(str::to_owned).collect();
    Draft::plain("svc-mail@contoso.com", &to, subject, "Hello!\n").unwrap()
}

async fn new(outbox: &Outbox, draft: &Draft) -> String {
    match outbox.enqueue(draft, None).await.unwrap() {
        Enqueued::New { id } => id,
        known => panic!("{known:?}"),
    }
}
