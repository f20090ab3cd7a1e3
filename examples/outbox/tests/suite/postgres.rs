//! The same on a real PostgreSQL, on loopback, when `SMTP_OAUTH_INTEROP=1`.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox::store::{Missing, Outbox};
use smtp_oauth::Clock;
use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::cli::Place;
use super::killed::none_is_lost_or_doubled;
use super::{READER, draft, new};

struct Postgres {
    url: String,
    child: Child,
    server: Command,
    #[expect(dead_code, reason = "the data goes when the server does")]
    directory: Arc<TempDir>,
}

impl Postgres {
    /// Starts one on a free loopback port; `None` when interoperability is not to be tested.
    async fn start() -> Option<Self> {
        if std::env::var_os("SMTP_OAUTH_INTEROP").is_none_or(|value| value != "1") {
            // Past the test harness, which shows what is printed only when a test fails.
            _ = writeln!(std::io::stderr(), "SKIPPED: needs Debian's postgresql and SMTP_OAUTH_INTEROP=1");
            return None;
        }
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let data = directory.path().join("data");
        let account = account();
        if let Some((user, group)) = account {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let program = |name: &str| {
            let mut command = Command::new(programs().join(name));
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            command
        };
        let initdb = program("initdb")
            .args(["--username", "outbox", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--pgdata"])
            .arg(&data)
            .status();
        assert!(initdb.await.unwrap().success());
        // Somebody else may take the port before the server does: then it is tried with another.
        for _ in 0..5 {
            let port = free_port().to_string();
            let mut server = program("postgres");
            server.args([
                "-p",
                &port,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
                "-D",
            ]);
            server.arg(&data);
            let url = format!("postgres://outbox@127.0.0.1:{port}/postgres?sslmode=disable");
            let child = server.spawn().unwrap();
            let mut postgres = Self { url, child, server, directory: directory.clone() };
            if postgres.answers().await {
                return Some(postgres);
            }
        }
        panic!("PostgreSQL does not start");
    }

    /// Waits until it answers; false when it has ended instead.
    async fn answers(&mut self) -> bool {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            let opening = Outbox::open(&self.url, Missing::Create, Clock::system());
            if matches!(tokio::time::timeout(Duration::from_secs(5), opening).await, Ok(Ok(_))) {
                return true;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    async fn start_again(&mut self) {
        self.child = self.server.spawn().unwrap();
        assert!(self.answers().await, "its port was taken");
    }

    async fn stop(&mut self) {
        // SIGINT: the server ends its sessions and then itself.
        let pid = self.child.id().unwrap().to_string();
        Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await.unwrap().unwrap();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Finds Debian's newest PostgreSQL, whose server programs are in no `PATH`.
fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("Debian's package postgresql is installed");
    let newest = versions.map(|entry| entry.unwrap().path()).max_by_key(|path| {
        path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or_default()
    });
    newest.unwrap().join("bin")
}

/// Returns the account to run it with: PostgreSQL refuses to run as root.
fn account() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let line =
        accounts.lines().find(|line| line.starts_with("postgres:")).expect("the package made an account");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
    Some((numbers.next()?, numbers.next()?))
}

#[tokio::test]
async fn of_a_thousand_messages_in_postgresql_none_is_lost_or_doubled_when_workers_are_killed() {
    let Some(mut server) = Postgres::start().await else { return };
    none_is_lost_or_doubled(&Place::new(), &server.url).await;
    server.stop().await;
}

#[tokio::test]
async fn processes_that_start_together_all_find_their_tables_in_postgresql() {
    let Some(mut server) = Postgres::start().await else { return };
    let opening = (0..8).map(|_| {
        let url = server.url.clone();
        tokio::spawn(async move { Outbox::open(&url, Missing::Create, Clock::system()).await.map(drop) })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_worker_outlives_a_database_that_goes_away_and_comes_back() {
    let Some(mut server) = Postgres::start().await else { return };
    let (place, tenant) = (Place::new(), FakeMicrosoft365::start().await);
    std::fs::write(place.path().join("mail.toml"), tenant.settings_toml(place.path()).await.unwrap())
        .unwrap();
    let mut worker = place.command(&["work", "--settings", "mail.toml", "--lease", "2"]);
    let mut worker = worker.env("OUTBOX_DATABASE", &server.url).env("RUST_LOG", "off").spawn().unwrap();
    let exchange = tenant.exchange();
    // Its outcome becomes known only while there is no database to record it in.
    exchange.inject(FaultPoint::Body, Fault::Silence);
    let outbox = Outbox::open(&server.url, Missing::Create, Clock::system()).await.unwrap();
    new(&outbox, &draft(READER, "Before")).await;
    tokio::time::timeout(Duration::from_secs(60), exchange.wait_for_silence()).await.unwrap();
    server.stop().await;
    exchange.close_connections(Some("451 4.7.0 Temporary server error. Please try again later. PRX4")).await;
    server.start_again().await;

    let outbox = Outbox::open(&server.url, Missing::Create, Clock::system()).await.unwrap();
    new(&outbox, &draft(READER, "After")).await;
    tokio::time::timeout(Duration::from_secs(60), exchange.wait_for_messages(1)).await.unwrap();
    let known = async {
        loop {
            let status = outbox.status().await.unwrap();
            let reasons: Vec<_> = status.troubled.into_iter().filter_map(|message| message.reason).collect();
            if reasons == ["the mail server cannot do it at the moment (451 4.7.0)"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), known).await.expect("the outcome is recorded after all");
    assert_eq!(exchange.message_count(), 1);
    worker.kill().await.unwrap();
    server.stop().await;
}
