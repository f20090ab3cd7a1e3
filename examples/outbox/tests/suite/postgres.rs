//! The same on a real PostgreSQL, on loopback, when `SMTP_OAUTH_INTEROP=1`.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use outbox::store::{Missing, Outbox};
use smtp_oauth::Clock;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::cli::Place;
use super::killed::none_is_lost_or_doubled;

struct Postgres {
    url: String,
    child: Child,
    _directory: TempDir,
}

impl Postgres {
    /// Starts one on a free loopback port; `None` when interoperability is not to be tested.
    async fn start() -> Option<Self> {
        if std::env::var_os("SMTP_OAUTH_INTEROP").is_none_or(|value| value != "1") {
            // Past the test harness, which shows what is printed only when a test fails.
            _ = writeln!(std::io::stderr(), "SKIPPED: needs Debian's postgresql and SMTP_OAUTH_INTEROP=1");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (data, port) = (directory.path().join("data"), free_port().to_string());
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
        let child = program("postgres")
            .args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-D"])
            .arg(&data)
            .spawn()
            .unwrap();
        let url = format!("postgres://outbox@127.0.0.1:{port}/postgres?sslmode=disable");
        let started = Instant::now();
        while Outbox::open(&url, Missing::Create, Clock::system()).await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(Self { url, child, _directory: directory })
    }

    async fn stop(mut self) {
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
    let Some(server) = Postgres::start().await else { return };
    none_is_lost_or_doubled(&Place::new(), &server.url).await;
    server.stop().await;
}

#[tokio::test]
async fn processes_that_start_together_all_find_their_tables_in_postgresql() {
    let Some(server) = Postgres::start().await else { return };
    let opening = (0..8).map(|_| {
        let url = server.url.clone();
        tokio::spawn(async move { Outbox::open(&url, Missing::Create, Clock::system()).await.map(drop) })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
    server.stop().await;
}
