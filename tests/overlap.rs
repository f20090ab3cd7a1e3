//! Consecutive messages of a batch overlap on one connection, by choice only.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{Extensions, FakeExchange, FakeExchangeBuilder};
use smtp_oauth::{
    Chunking, Error, IntoSubmission, MailServerConfig, Mailer, RetryPolicy, ServerBuilder, Submission,
};
use support::stream::Items;
use support::{envelope, issuing, message, settings};

const BOTH: [Chunking; 2] = [Chunking::Auto, Chunking::Off];

fn window(messages: u32) -> NonZeroU32 {
    NonZeroU32::new(messages).unwrap()
}

fn one_connection(server: &FakeExchange, chunking: Chunking) -> ServerBuilder<MailServerConfig> {
    settings(server).chunking(chunking).max_connections(NonZeroU32::MIN)
}

fn build(server: &FakeExchange, settings: ServerBuilder<MailServerConfig>) -> Mailer {
    Mailer::builder(settings.build().unwrap())
        .authentication(issuing(server.tokens(), 1800))
        .retry(RetryPolicy::never())
        .build()
        .unwrap()
}

/// A message that tells its number, to `to`.
fn numbered(number: usize, to: &[&str]) -> (Envelope, Vec<u8>) {
    (envelope(to), text(number))
}

fn text(number: usize) -> Vec<u8> {
    format!("Subject: {number}\r\n\r\n.dot\r\n").into_bytes()
}

async fn submit<T: IntoSubmission + Unpin>(
    mailer: &Mailer,
    messages: Vec<T>,
    overlap: u32,
) -> BTreeMap<usize, Result<Submission, Error>> {
    let mut batch = mailer.submit_all(Items::new(messages)).overlap(window(overlap));
    let mut results = BTreeMap::new();
    while let Some((number, result)) = batch.next().await {
        assert!(results.insert(number, result).is_none(), "{number} is reported twice");
    }
    results
}

#[tokio::test]
async fn with_chunking_a_window_of_messages_is_one_round_trip() {
    for (overlap, count, round_trips) in [(1, 9, 9), (4, 9, 3), (8, 33, 5), (8, 2, 2)] {
        let server = FakeExchange::start().await;
        let mailer = build(&server, one_connection(&server, Chunking::Auto));
        mailer.submit(&message()).await.unwrap();
        let before = server.flights()[0];
        let messages = (0..count).map(|number| numbered(number, &["reader@example.com"])).collect();
        let results = submit(&mailer, messages, overlap).await;
        assert!(results.values().all(Result::is_ok), "{results:?}");
        assert_eq!(results.len(), count);
        assert_eq!(server.flights(), [before + round_trips], "{count} messages, {overlap} at a time");
        assert_eq!(server.message_count(), 1 + count);
    }
}

#[tokio::test]
async fn with_data_a_message_is_one_round_trip_instead_of_two() {
    for (overlap, count, round_trips) in [(1, 9, 18), (2, 9, 11), (8, 9, 11)] {
        let server = FakeExchange::start().await;
        let mailer = build(&server, one_connection(&server, Chunking::Off));
        mailer.submit(&message()).await.unwrap();
        let before = server.flights()[0];
        let messages = (0..count).map(|number| numbered(number, &["reader@example.com"])).collect();
        let results = submit(&mailer, messages, overlap).await;
        assert!(results.values().all(Result::is_ok), "{results:?}");
        assert_eq!(server.flights(), [before + round_trips], "{count} messages, {overlap} at a time");
        assert_eq!(server.message_count(), 1 + count);
    }
}
