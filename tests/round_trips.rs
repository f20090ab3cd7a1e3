//! How many times the client waits for the server, counted by the server.

mod support;

use smtp_oauth::testing::{Extensions, FakeExchange};
use smtp_oauth::{Chunking, InitialResponse, Mailer};
use support::{envelope, issuing, message, settings};

/// Sends to one reader, then to 1, 5 and 100; returns the round trips of each submission.
async fn count(server: &FakeExchange, chunking: Chunking) -> [usize; 4] {
    let config =
        settings(server).chunking(chunking).initial_response(InitialResponse::Always).build().unwrap();
    let mailer = Mailer::builder(config).authentication(issuing(server.tokens(), 1800)).build().unwrap();
    let mut counts = [0; 4];
    let mut before = 0;
    for (count, recipients) in counts.iter_mut().zip([1, 1, 5, 100]) {
        let recipients: Vec<_> =
            (0..recipients).map(|number| format!("reader{number}@example.com")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        mailer.submit_raw(&envelope(&recipients), &message().formatted()).await.unwrap();
        let flights = server.flights();
        assert_eq!(flights.len(), 1, "one connection");
        *count = flights[0] - before;
        before = flights[0];
    }
    counts
}

/// What the server cannot see: the TCP handshake and the wait for the greeting.
const BEFORE: usize = 2;

#[tokio::test]
async fn with_chunking_a_message_is_one_round_trip_and_the_first_is_eight() {
    let server = FakeExchange::start().await;
    let [first, one, five, hundred] = count(&server, Chunking::Auto).await;
    assert_eq!((BEFORE + first, one, five, hundred), (8, 1, 1, 1));
}

#[tokio::test]
async fn with_data_a_message_is_two_round_trips_and_the_first_is_nine() {
    let server = FakeExchange::start().await;
    let [first, one, five, hundred] = count(&server, Chunking::Off).await;
    assert_eq!((BEFORE + first, one, five, hundred), (9, 2, 2, 2));
}

#[tokio::test]
async fn without_pipelining_every_command_is_waited_for() {
    let extensions = Extensions::exchange_online().without("PIPELINING");
    let server = FakeExchange::builder().extensions(extensions).start().await;
    let [_, one, five, hundred] = count(&server, Chunking::Off).await;
    assert_eq!((one, five, hundred), (4, 8, 103));
}
