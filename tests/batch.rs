//! A stream of messages goes in, and what became of each comes out as soon as it is known.

mod support;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{FakeExchange, Fault, FaultPoint};
use smtp_oauth::{BatchProgress, Disposition, ErrorKind, Mailer, RetryPolicy};
use support::settle::{settle, until};
use support::{envelope, issuing, message, settings};

/// A stream of what an iterator holds, that counts what was taken and is not always ready.
struct Queue<I> {
    items: I,
    taken: Arc<AtomicUsize>,
    hesitates: bool,
}

impl<I: Iterator + Unpin> Stream for Queue<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.hesitates = !self.hesitates;
        if self.hesitates {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let item = self.items.next();
        if item.is_some() {
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

fn queue<I: Iterator>(items: I) -> (Queue<I>, Arc<AtomicUsize>) {
    let taken = Arc::<AtomicUsize>::default();
    (Queue { items, taken: taken.clone(), hesitates: false }, taken)
}

async fn start() -> (FakeExchange, Mailer) {
    let server = FakeExchange::builder()
        .refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found")
        .start()
        .await;
    let config = settings(&server).max_connections(NonZeroU32::new(3).unwrap()).build().unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    (server, mailer)
}

fn numbered(number: usize, to: &str) -> (Envelope, Vec<u8>) {
    (envelope(&[to]), format!("Subject: {number}\r\n\r\n").into_bytes())
}

#[tokio::test]
async fn every_message_is_sent_once_over_all_connections_and_reported_once() {
    let (server, mailer) = start().await;
    let (messages, taken) = queue((0..100).map(|number| numbered(number, "reader@example.com")));
    let mut batch = mailer.submit_all(messages);
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    let mut seen = BTreeSet::new();
    while let Some((number, result)) = batch.next().await {
        result.unwrap();
        assert!(seen.insert(number));
        let BatchProgress { done, waiting, .. } = batch.progress();
        assert_eq!((done, waiting), (seen.len(), 100 - seen.len()));
        let ahead = taken.load(Ordering::SeqCst) - seen.len();
        assert!(ahead <= 3, "memory holds {ahead} messages");
    }
    assert!(batch.next().await.is_none());
    assert_eq!(seen, (0..100).collect());
    assert_eq!((server.message_count(), server.connections().peak), (100, 3));
    let bodies: BTreeSet<_> = server.messages().into_iter().map(|message| message.body).collect();
    assert_eq!(bodies.len(), 100);
}

#[tokio::test]
async fn built_messages_go_in_as_they_are_and_the_batch_is_a_stream() {
    let (server, mailer) = start().await;
    let message = message();
    let (messages, _) = queue(std::iter::repeat_n(message.clone(), 5));
    let mut batch = std::pin::pin!(mailer.submit_all(messages));
    assert_eq!(batch.size_hint(), (5, Some(5)));
    let mut count = 0;
    while let Some((_, result)) = std::future::poll_fn(|context| batch.as_mut().poll_next(context)).await {
        result.unwrap();
        count += 1;
    }
    assert_eq!((count, batch.size_hint()), (5, (0, Some(0))));
    assert_eq!(server.messages()[4].body, message.formatted());
}

#[tokio::test]
async fn one_that_fails_does_not_stop_the_others() {
    let (server, mailer) = start().await;
    server.inject(FaultPoint::Body, Fault::Close.once().after(4));
    let messages = (0..20)
        .map(|number| numbered(number, if number == 7 { "gone@example.com" } else { "reader@example.com" }));
    let mut batch = mailer.submit_all(queue(messages).0);
    let mut failures = Vec::new();
    while let Some((number, result)) = batch.next().await {
        if let Err(error) = result {
            failures.push((number, error.kind(), error.disposition()));
        }
    }
    let progress = batch.progress();
    assert_eq!((progress.done, progress.refused, progress.failed, progress.waiting), (18, 1, 1, 0));
    assert!(failures.contains(&(7, ErrorKind::RecipientsRefused, Disposition::FixMessage)), "{failures:?}");
    assert!(
        failures.iter().any(|(_, kind, whose)| {
            (*kind, *whose) == (ErrorKind::Indeterminate, Disposition::Indeterminate)
        }),
        "{failures:?}"
    );
    assert_eq!(server.message_count(), 18);
}

#[tokio::test]
async fn outcomes_come_in_order_of_completion() {
    let (server, mailer) = start().await;
    mailer.submit(&message()).await.unwrap();
    server.inject(FaultPoint::Body, Fault::Silence);
    let messages = (0..10).map(|number| numbered(number, "reader@example.com"));
    let mut batch = mailer.submit_all(queue(messages).0);
    let mut seen = BTreeSet::new();
    for _ in 0..9 {
        let (number, result) = batch.next().await.unwrap();
        result.unwrap();
        seen.insert(number);
    }
    assert_eq!(seen.len(), 9, "one of the first is held up and holds nobody up");
    assert_eq!(batch.progress().waiting, 1);
    // What is under way is dropped with the batch.
    drop(batch);
    server.wait_for_open(2).await;
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.message_count(), 11);
}

#[tokio::test]
async fn submissions_go_on_while_nobody_asks_for_their_outcome() {
    let (server, mailer) = start().await;
    let (messages, taken) = queue((0..10).map(|number| numbered(number, "reader@example.com")));
    let mut batch = mailer.submit_all(messages);
    batch.next().await.unwrap().1.unwrap();
    // At least two are under way, and a third if the stream was quick to give it.
    server.wait_for_messages(3).await;
    until(|| server.message_count() == taken.load(Ordering::SeqCst)).await;
    settle().await;
    assert_eq!(taken.load(Ordering::SeqCst), server.message_count());
    assert!(server.message_count() <= 4, "no more than asked for");
}

#[tokio::test]
async fn an_empty_stream_ends_at_once_and_opens_nothing() {
    let (server, mailer) = start().await;
    let mut batch = mailer.submit_all(queue(std::iter::empty::<(Envelope, Vec<u8>)>()).0);
    assert!(batch.next().await.is_none());
    assert_eq!((batch.progress(), server.connections().total), (BatchProgress::default(), 0));
}
