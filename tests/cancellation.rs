//! A submission is dropped after any number of polls: the next one on the same mailer arrives alone and intact.

mod support;

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use smtp_oauth::testing::{BodyCommand, FakeExchange};
use smtp_oauth::{Chunking, Mailer, RetryPolicy};
use support::proxy::Proxy;
use support::{envelope, issuing, settings};

/// Polls `future` up to `polls` times and drops it; `None` if that was not enough.
async fn for_polls<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // Dropped right after the poll, while the socket is still busy.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Cold,
    Warm,
}

/// Longer than what is asked about first, so that BDAT is dropped at more than one place.
fn large() -> Vec<u8> {
    let mut text = b"Subject: dropped\r\n\r\n".to_vec();
    text.extend(b"MAIL FROM:<a@example.com>\r\n".repeat(3_000));
    text
}

/// Drops one submission after `polls`, and sends another; returns whether the first one was done by then.
async fn drop_after(polls: usize, chunking: Chunking, start: Start, text: &[u8]) -> bool {
    let server = FakeExchange::builder()
        .refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found")
        .start()
        .await;
    // The proxy's crumbs make many polls of one reply.
    let proxy = Proxy::trickle(server.address(), if start == Start::Cold { 64 } else { 24 }).await;
    let config = settings(&server)
        .port(proxy.port())
        .chunking(chunking)
        .max_connections(NonZeroU32::MIN)
        .build()
        .unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let mut expected = 0;
    if start == Start::Warm {
        mailer.submit_raw(&envelope(&["warm@example.com"]), b"Subject: warm\r\n\r\n").await.unwrap();
        expected += 1;
    }
    let first = envelope(&["first@example.com", "gone@example.com", "also@example.com"]);
    let done = for_polls(polls, mailer.submit_raw(&first, text)).await;
    let second = b"Subject: second\r\n\r\n.\r\nEnd\r\n";
    let to_second = envelope(&["second@example.com"]);
    let next = mailer.submit_raw(&to_second, second);
    let submission =
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("nothing hangs").unwrap();
    let context = format!("{chunking:?}, {start:?}, {polls} polls");
    assert_eq!((submission.accepted().len(), submission.refused().len()), (1, 0), "{context}");
    mailer.close().await;
    server.wait_for_open(0).await;

    let mut messages = server.messages();
    messages.retain(|message| message.body != text);
    assert!(server.message_count() - messages.len() <= 1, "{context}: doubled");
    assert_eq!(messages.len(), expected + 1, "{context}");
    let arrived = messages.last().unwrap();
    assert_eq!(arrived.body, second, "{context}");
    assert_eq!(arrived.recipient_addresses(), ["second@example.com"], "{context}");
    assert_eq!(arrived.body_command == BodyCommand::Bdat, chunking == Chunking::Auto, "{context}");
    assert!(server.connections().peak <= 2, "{context}: the dropped connection and its successor");
    if let Some(done) = done {
        let submission = done.unwrap();
        assert_eq!((submission.accepted().len(), submission.refused().len()), (2, 1), "{context}");
        return true;
    }
    false
}

async fn every_poll(chunking: Chunking, start: Start, text: &[u8]) {
    // How often a socket is ready differs from run to run: go on until several were done in a row.
    let mut done = 0;
    let mut polls = 0;
    while done < 3 {
        done = if drop_after(polls, chunking, start, text).await { done + 1 } else { 0 };
        polls += 1;
        assert!(polls < 5_000, "a submission that never ends");
    }
    println!("{chunking:?}, {start:?}, {} octets: dropped after each of {polls} polls", text.len());
}

const SMALL: &[u8] = b"Subject: dropped\r\n\r\nMAIL FROM:<a@example.com>\r\n";

#[tokio::test]
async fn a_first_submission_by_data_is_dropped_after_any_poll() {
    every_poll(Chunking::Off, Start::Cold, SMALL).await;
}

#[tokio::test]
async fn a_first_submission_by_bdat_is_dropped_after_any_poll() {
    every_poll(Chunking::Auto, Start::Cold, SMALL).await;
}

#[tokio::test]
async fn a_later_submission_by_data_is_dropped_after_any_poll() {
    every_poll(Chunking::Off, Start::Warm, SMALL).await;
    every_poll(Chunking::Off, Start::Warm, &large()).await;
}

#[tokio::test]
async fn a_later_submission_by_bdat_is_dropped_after_any_poll() {
    every_poll(Chunking::Auto, Start::Warm, SMALL).await;
    every_poll(Chunking::Auto, Start::Warm, &large()).await;
}
