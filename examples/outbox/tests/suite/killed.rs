//! Workers that are killed (SIGKILL) at any point, again and again: nothing is lost, nothing is doubled.

use std::collections::HashMap;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use outbox::compose::Draft;
use outbox::store::{Missing, Outbox};
use smtp_oauth::Clock;
use smtp_oauth::testing::FakeMicrosoft365;
use tokio::process::{Child, Command};

use super::cli::Place;
use super::{READER, new, url};

const MESSAGES: usize = 1000;
/// As short as can be: a worker that is late is thought dead, and its outcomes come late.
const LEASE: Duration = Duration::from_secs(1);
const LIMITS: &str = "\n[server.limits]\nmessages_per_minute = 1000000\nrecipients_per_day = 1000000\n";

#[tokio::test]
async fn of_a_thousand_messages_none_is_lost_or_doubled_when_workers_are_killed() {
    let place = Place::new();
    let database = url(place.path());
    none_is_lost_or_doubled(&place, &database).await;
}

/// Lets two processes send a thousand messages while they are killed in turn; counts what arrived.
pub async fn none_is_lost_or_doubled(place: &Place, database: &str) {
    let started = Instant::now();
    let tenant = FakeMicrosoft365::start().await;
    let settings = tenant.settings_toml(place.path()).await.unwrap() + LIMITS;
    std::fs::write(place.path().join("mail.toml"), settings).unwrap();
    let outbox = Outbox::open(database, Missing::Create, Clock::system()).await.unwrap();
    let start = || -> Child {
        let mut command = place.command(&["work", "--settings", "mail.toml", "--lease", "1"]);
        command.env("OUTBOX_DATABASE", database).env("RUST_LOG", "off").stdin(Stdio::null()).spawn().unwrap()
    };
    let mut workers = [start(), start()];
    let filling = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            let mut ids = Vec::new();
            for number in 0..MESSAGES {
                let content = format!("From: svc-mail@contoso.com\r\nX-Number: {number}\r\n\r\nHello!\r\n");
                let draft = Draft::formatted("svc-mail@contoso.com", &[READER.to_owned()], content.into());
                ids.push(new(&outbox, &draft.unwrap()).await);
            }
            ids
        }
    });

    let exchange = tenant.exchange();
    let (mut kills, mut stops) = (0, 0);
    while exchange.message_count() < MESSAGES * 9 / 10 {
        // Any number of messages later, and any time after that: before, in the middle of and after a transaction.
        let count = exchange.message_count() + fastrand::usize(0..40);
        let arrived = tokio::time::timeout(Duration::from_secs(10), exchange.wait_for_messages(count)).await;
        if arrived.is_err() && outbox.status().await.unwrap().unfinished() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..20_000))).await;
        let worker = &mut workers[fastrand::usize(0..2)];
        if kills % 12 == 6 {
            // Not dead, only thought so: its lease runs out while it stands still, and then it goes on.
            signal(worker, "-STOP").await;
            tokio::time::sleep(LEASE + Duration::from_millis(fastrand::u64(0..1000))).await;
            signal(worker, "-CONT").await;
            stops += 1;
            tokio::time::timeout(Duration::from_secs(1), exchange.wait_for_messages(count + 40)).await.ok();
        }
        worker.kill().await.unwrap();
        *worker = start();
        kills += 1;
        assert!(
            started.elapsed() < Duration::from_secs(240),
            "{kills} kills, {} arrived",
            exchange.message_count()
        );
    }
    let ids = filling.await.unwrap();
    while outbox.status().await.unwrap().unfinished() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = outbox.status().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(240) && status.paused.is_none(), "{status:?}");
    }
    for worker in &mut workers {
        worker.kill().await.unwrap();
    }

    let mut arrived = HashMap::<usize, usize>::new();
    for message in exchange.messages() {
        let text = String::from_utf8(message.body).unwrap();
        let (_, rest) = text.split_once("X-Number: ").unwrap();
        *arrived.entry(rest.lines().next().unwrap().parse().unwrap()).or_default() += 1;
    }
    let (mut indeterminate, mut of_them_arrived) = (0, 0);
    for (number, id) in ids.iter().enumerate() {
        let times = arrived.get(&number).copied().unwrap_or_default();
        let (state, reason) = outbox.state(id).await.unwrap().unwrap();
        match state.as_str() {
            "sent" => assert_eq!(times, 1, "message {number} is sent"),
            "indeterminate" => {
                assert!(times <= 1, "message {number} arrived {times} times");
                indeterminate += 1;
                of_them_arrived += times;
            }
            other => panic!("message {number} is {other}: {reason:?}"),
        }
    }
    assert!(kills >= 10, "{kills} kills prove little");
    let report = format!(
        "{MESSAGES} messages, {kills} kills, {stops} stops: {} sent once, {indeterminate} indeterminate ({of_them_arrived} of them \
         arrived), none lost, none doubled; {:?}",
        MESSAGES - indeterminate,
        started.elapsed()
    );
    _ = writeln!(std::io::stderr(), "{report}");
}

async fn signal(worker: &Child, signal: &str) {
    let pid = worker.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}
