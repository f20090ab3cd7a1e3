//! The blocking mailer: the same outcomes without async, and no trap inside a runtime.
#![cfg(feature = "blocking")]

mod support;

use std::time::Duration;

use smtp_oauth::lettre::Transport;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{FakeExchange, FakeMicrosoft365, Fault, FaultPoint, ManualClock};
use smtp_oauth::{Disposition, ErrorKind, RecipientPolicy, SubmitOptions, Who, blocking};
use support::message;
use tokio::runtime::Runtime;

fn start() -> (Runtime, FakeExchange, blocking::Mailer) {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(FakeExchange::start());
    let mailer = blocking::Mailer::new(support::mailer(&server)).unwrap();
    (runtime, server, mailer)
}

#[test]
fn messages_go_out_one_after_the_other_over_one_connection() {
    let (_runtime, server, mailer) = start();
    mailer.verify().unwrap();
    for _ in 0..3 {
        mailer.submit(&message()).unwrap();
    }
    mailer.send(&message()).unwrap(); // as a lettre transport
    mailer.send_test().unwrap();
    assert_eq!((server.message_count(), server.connections().total), (5, 2), "one of them for verify");
    mailer.close().unwrap();
    assert_eq!(mailer.submit(&message()).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn options_count_and_the_pool_can_be_looked_at() {
    let (_runtime, server, mailer) = start();
    server.refuse_recipient("gone@example.com", "550 5.1.10 Not found");
    let options = SubmitOptions::new().recipients(RecipientPolicy::AllOrNothing);
    let both = support::envelope(&["reader@example.com", "gone@example.com"]);
    let error = mailer.submit_with(&both, b"Subject: x\r\n\r\n", &options).unwrap_err();
    assert_eq!(error.disposition(), Disposition::FixMessage);
    assert_eq!(mailer.submit_raw(&both, b"Subject: x\r\n\r\n").unwrap().refused().len(), 1);
    assert_eq!(server.message_count(), 1);
    let status = mailer.pool_status();
    assert_eq!((status.in_use, status.idle, status.waiting), (0, 1, 0));
    assert_eq!(mailer.warnings(), support::mailer(&server).warnings());
}

#[test]
fn a_refusal_is_the_same_error_as_without_blocking() {
    let (_runtime, server, mailer) = start();
    server.inject(
        FaultPoint::Mail,
        Fault::reply("550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    );
    let error = mailer.submit(&message()).unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::SenderRefused, Disposition::FixConfiguration)
    );
}

#[test]
fn threads_share_a_mailer() {
    let (_runtime, server, mailer) = start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| mailer.submit(&message()).unwrap());
        }
    });
    assert_eq!(server.message_count(), 8);
    assert!(server.connections().peak <= 4);
}

#[tokio::test]
async fn inside_a_runtime_it_says_so_and_can_be_dropped() {
    let server = FakeExchange::start().await;
    let mailer = blocking::Mailer::new(support::mailer(&server)).unwrap();
    let error = mailer.submit(&message()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsideRuntime);
    assert_eq!(error.to_string(), "a blocking mailer was called from within an async runtime");
    let remedy = error.remedy().unwrap();
    assert_eq!(remedy.who(), Who::Developer);
    assert!(remedy.steps()[0].contains("smtp_oauth::Mailer and await it"), "{error:#}");
    drop(mailer);

    let mailer = blocking::Mailer::new(support::mailer(&server)).unwrap();
    let refused = tokio::task::spawn_blocking({
        let mailer = mailer.clone();
        move || mailer.submit(&message()).is_err()
    });
    assert!(refused.await.unwrap(), "tokio's blocking threads cannot be told apart");
    let plain = std::thread::spawn(move || mailer.submit(&message()).map(drop));
    while !plain.is_finished() {
        tokio::task::yield_now().await;
    }
    plain.join().unwrap().unwrap();
}

fn from(mailbox: &str) -> Envelope {
    Envelope::new(Some(mailbox.parse().unwrap()), vec!["reader@example.com".parse().unwrap()]).unwrap()
}

#[test]
fn many_mailboxes_send_from_one_thread_each_signed_in_as_itself() {
    let runtime = Runtime::new().unwrap();
    let tenant = runtime.block_on(FakeMicrosoft365::start());
    let mailers = blocking::Mailers::new(tenant.mailers()).unwrap();
    let names: Vec<_> = (0..6).map(|number| format!("team-{number}@contoso.com")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            tenant.grant_access(name);
            let mailers = &mailers;
            scope.spawn(move || mailers.submit_raw(&from(name), b"Subject: x\r\n\r\n").unwrap());
        }
    });
    for message in tenant.messages() {
        assert_eq!(message.user.as_deref(), Some(message.from.as_str()));
    }
    mailers.send_raw(&from(&names[0]), b"Subject: as a transport of lettre\r\n\r\n").unwrap();
    mailers.mailbox(&names[1]).unwrap().send_test().unwrap();
    assert_eq!((tenant.exchange().message_count(), tenant.exchange().connections().total), (8, 6));
    assert_eq!((mailers.status().connections, tenant.entra().requests()), (6, 1));
    mailers.close().unwrap();
    runtime.block_on(tenant.exchange().wait_for_open(0));
    assert_eq!(mailers.submit_raw(&from(&names[0]), b"x\r\n").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn what_is_kept_of_a_mailbox_that_was_only_asked_for_goes_by_itself() {
    let runtime = Runtime::new().unwrap();
    let manual = ManualClock::new();
    let tenant = runtime.block_on(FakeMicrosoft365::start_with_clock(manual.clock()));
    let mailers = blocking::Mailers::new(tenant.mailers()).unwrap();
    drop(mailers.mailbox("alerts@contoso.com").unwrap());
    // Not by `status`, which looks itself.
    let gone = async {
        while !format!("{mailers:?}").contains("mailboxes: 0") {
            tokio::task::yield_now().await;
        }
    };
    let gone = manual.advance_until(Duration::from_secs(60), gone);
    let gone = async { tokio::time::timeout(Duration::from_secs(20), gone).await };
    runtime.block_on(gone).expect("it goes without being asked for");
}

#[tokio::test]
async fn many_mailboxes_inside_a_runtime_say_so_too() {
    let tenant = FakeMicrosoft365::start().await;
    let mailers = blocking::Mailers::new(tenant.mailers()).unwrap();
    let error = mailers.submit_raw(&from(&tenant.account()), b"x\r\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InsideRuntime);
    assert_eq!(mailers.close().unwrap_err().kind(), ErrorKind::InsideRuntime);
    assert_eq!(
        mailers.mailbox(tenant.account()).unwrap().verify().unwrap_err().kind(),
        ErrorKind::InsideRuntime
    );
    assert_eq!(tenant.exchange().connections().total, 0);
}
