//! Consecutive messages of a batch overlap on one connection, by choice only.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{Extensions, FakeExchange, Fault, FaultPoint, ReceivedMessage};
use smtp_oauth::{
    Chunking, ConnectionReuse, Disposition, Error, ErrorKind, IntoSubmission, MailServerConfig, Mailer,
    RetryPolicy, SendingLimits, ServerBuilder, Submission, WhenReached,
};
use support::stream::Items;
use support::{envelope, issuing, message, settings};

/// By BDAT and by DATA.
const WAYS: [Chunking; 2] = [Chunking::Auto, Chunking::Off];

const READER: &str = "reader@example.com";
const GONE: &str = "gone@example.com";

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

fn plain(count: usize) -> Vec<(Envelope, Vec<u8>)> {
    (0..count).map(|number| numbered(number, &[READER])).collect()
}

/// Starts a server that does not know [`GONE`], and sends it a first message over the only connection.
async fn warm(chunking: Chunking, extensions: Extensions) -> (FakeExchange, Mailer) {
    let server = FakeExchange::builder()
        .extensions(extensions)
        .refuse_recipient(GONE, "550 5.1.10 Recipient not found")
        .start()
        .await;
    let mailer = build(&server, one_connection(&server, chunking));
    mailer.submit(&message()).await.unwrap();
    server.take_messages();
    (server, mailer)
}

/// What the server has accepted, by the number of the message; none twice.
#[track_caller]
fn stored(server: &FakeExchange) -> BTreeMap<usize, ReceivedMessage> {
    let mut stored = BTreeMap::new();
    for message in server.messages() {
        let body = String::from_utf8_lossy(&message.body).into_owned();
        let number = body.lines().next().unwrap().trim_start_matches("Subject: ").parse().unwrap();
        assert!(stored.insert(number, message).is_none(), "{number} is accepted twice");
    }
    stored
}

/// Asserts that the messages that were not accepted are these, and that the server has all others and no other.
#[track_caller]
fn assert_failed(
    server: &FakeExchange,
    results: &BTreeMap<usize, Result<Submission, Error>>,
    failed: &[(usize, ErrorKind)],
    context: &str,
) {
    let failures: Vec<_> = results
        .iter()
        .filter_map(|(number, result)| Some((*number, result.as_ref().err()?.kind())))
        .collect();
    assert_eq!(failures, failed, "{context}: {results:#?}");
    let accepted: Vec<_> = results.iter().filter(|(_, result)| result.is_ok()).map(|(at, _)| *at).collect();
    let stored: Vec<_> = stored(server).into_keys().collect();
    assert_eq!(stored, accepted, "{context}");
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
    // The first goes by itself.
    for (overlap, count, round_trips) in [(1, 9, 9), (4, 9, 3), (8, 33, 5), (8, 2, 2)] {
        let (server, mailer) = warm(Chunking::Auto, Extensions::exchange_online()).await;
        let before = server.flights()[0];
        let results = submit(&mailer, plain(count), overlap).await;
        let context = format!("{count} messages, {overlap} at a time");
        assert_failed(&server, &results, &[], &context);
        assert_eq!(results.len(), count);
        assert_eq!(server.flights(), [before + round_trips], "{context}");
    }
}

#[tokio::test]
async fn with_data_a_message_is_one_round_trip_instead_of_two() {
    for (overlap, count, round_trips) in [(1, 9, 18), (2, 9, 11), (8, 9, 11)] {
        let (server, mailer) = warm(Chunking::Off, Extensions::exchange_online()).await;
        let before = server.flights()[0];
        let results = submit(&mailer, plain(count), overlap).await;
        let context = format!("{count} messages, {overlap} at a time");
        assert_failed(&server, &results, &[], &context);
        assert_eq!(server.flights(), [before + round_trips], "{context}");
    }
}

#[tokio::test]
async fn what_is_refused_leaves_the_messages_beside_it_untouched() {
    let sender = (
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        ErrorKind::SenderRefused,
    );
    for chunking in WAYS {
        for overlap in [2, 3, 8] {
            let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
            server.inject(FaultPoint::Mail, Fault::reply(sender.0).once().after(2));
            server.inject(
                FaultPoint::Body,
                Fault::reply("452 4.3.1 Insufficient system resources").once().after(5),
            );
            let mut messages = plain(12);
            messages[4] = numbered(4, &[GONE]);
            messages[5] = numbered(5, &[GONE, READER, GONE]);
            messages[11] = numbered(11, &[GONE, GONE]);
            let results = submit(&mailer, messages, overlap).await;
            let context = format!("{chunking:?}, {overlap} at a time");
            // The verdicts are those on 0, 1, 3, 5, 6, 7.
            let failed = [
                (2, sender.1),
                (4, ErrorKind::RecipientsRefused),
                (7, ErrorKind::ServerUnavailable),
                (11, ErrorKind::RecipientsRefused),
            ];
            assert_failed(&server, &results, &failed, &context);
            let part = results[&5].as_ref().unwrap();
            assert_eq!((part.accepted().len(), part.refused().len()), (1, 2), "{context}");
            assert_eq!(stored(&server)[&5].recipient_addresses(), [READER], "{context}");
            assert_eq!(server.connections().total, 1, "{context}");
            mailer.submit(&message()).await.unwrap();
            assert_eq!(server.connections().total, 1, "{context}: the connection is left as it should be");
        }
    }
}

#[tokio::test]
async fn a_354_for_nobody_is_answered_with_an_empty_message_and_the_next_one_is_sent() {
    let server = FakeExchange::builder()
        .data_without_recipients("354 Start mail input")
        .refuse_recipient(GONE, "550 5.1.10 Recipient not found")
        .start()
        .await;
    let mailer = build(&server, one_connection(&server, Chunking::Off));
    let mut messages = plain(8);
    messages[3] = numbered(3, &[GONE]);
    let results = submit(&mailer, messages, 4).await;
    assert_failed(&server, &results, &[(3, ErrorKind::RecipientsRefused)], "354 for nobody");
    assert_eq!(server.connections().total, 1);
}

#[tokio::test]
async fn behind_a_goodbye_nothing_was_taken_and_everything_is_sent_over_another_connection() {
    let goodbye = || Fault::ReplyThenClose("421 4.3.2 Service not available".into()).once();
    for chunking in WAYS {
        // To MAIL it is how a server says that the connection has served long enough: the message is not to blame.
        for (point, failed) in
            [(FaultPoint::Mail, None), (FaultPoint::Rcpt, Some(4)), (FaultPoint::Body, Some(4))]
        {
            let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
            server.inject(point, goodbye().after(4));
            let results = submit(&mailer, plain(12), 4).await;
            let failed: Vec<_> = failed.map(|at| (at, ErrorKind::ServerUnavailable)).into_iter().collect();
            assert_failed(&server, &results, &failed, &format!("{chunking:?}, {point:?}"));
            assert_eq!(server.connections().total, 2, "{chunking:?}, {point:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_says_goodbye_and_goes_on_is_believed_about_what_it_goes_on_to_accept() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        server.inject(FaultPoint::Rcpt, Fault::reply("421 4.3.2 Service not available").once().after(4));
        let results = submit(&mailer, plain(12), 4).await;
        assert_failed(&server, &results, &[(4, ErrorKind::ServerUnavailable)], &format!("{chunking:?}"));
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_as_many_in_doubt_as_were_under_way_and_no_more() {
    for (chunking, unknown) in [(Chunking::Auto, vec![3, 4, 5]), (Chunking::Off, vec![3])] {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        server.inject(FaultPoint::Body, Fault::Close.once().after(3));
        let results = submit(&mailer, plain(12), 5).await;
        let failed: Vec<_> = unknown.into_iter().map(|at| (at, ErrorKind::Indeterminate)).collect();
        // Of five, 1 and 2 were answered before.
        assert_failed(&server, &results, &failed, &format!("{chunking:?}"));
        for (number, _) in failed {
            let error = results[&number].as_ref().unwrap_err();
            assert_eq!(error.disposition(), Disposition::Indeterminate);
            let text = "the message was sent and its acceptance is unknown: \
                        the mail server closed the connection (verdict on the message)";
            assert_eq!(error.to_string(), text);
        }
    }
}

#[tokio::test]
async fn a_code_that_cannot_stand_where_it_does_ends_all_belief() {
    let cases = [
        (FaultPoint::Rset, "500 5.3.3 Unrecognized command", 0, vec![2, 3, 4]),
        (FaultPoint::Mail, "354 Go on", 2, vec![2, 3, 4]),
        (FaultPoint::Rcpt, "334 dGVzdA==", 2, vec![2, 3, 4]),
        (FaultPoint::Body, "354 Go on", 2, vec![2, 3, 4]),
        // What the server made of the octets of a chunk whose command it does not know, nobody knows.
        (FaultPoint::Body, "500 5.3.3 Unrecognized command", 2, vec![3, 4]),
    ];
    for (point, reply, passes, unknown) in cases {
        let (server, mailer) = warm(Chunking::Auto, Extensions::exchange_online()).await;
        server.inject(point, Fault::reply(reply).once().after(passes));
        let results = submit(&mailer, plain(9), 4).await;
        let stored = stored(&server);
        for (number, result) in &results {
            match result {
                Ok(_) => assert!(stored.contains_key(number), "{reply}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{reply}");
                    assert!(unknown.contains(number), "{number} is unknown after {reply}");
                }
            }
        }
        assert_eq!(
            results.values().filter(|result| result.is_err()).count(),
            unknown.len(),
            "{point:?} {reply}"
        );
        assert_eq!(server.connections().total, 2, "{reply}");
    }
}

#[tokio::test]
async fn a_reply_too_many_behind_the_last_one_owed_ends_the_connection_and_harms_no_message() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        // Of the first message, and of the last of a window.
        let surplus = || Fault::Inject(b"250 2.0.0 OK <surplus@example.com>\r\n".to_vec());
        server.inject(FaultPoint::Body, surplus().once());
        let mut all = BTreeMap::new();
        for count in [1, 3] {
            let offset = all.len();
            let messages = (0..count).map(|number| numbered(offset + number, &[READER])).collect();
            all.extend(
                submit(&mailer, messages, 4).await.into_iter().map(|(at, result)| (offset + at, result)),
            );
        }
        assert_failed(&server, &all, &[], &format!("{chunking:?}"));
        assert_eq!(server.connections().total, 2);
    }
}

#[tokio::test]
async fn a_large_message_is_waited_for_and_follows_when_nothing_is_owed() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        let mut messages = plain(9);
        let large = [text(4), b"0123456789abcdef\r\n".repeat(8_000)].concat();
        messages[4].1 = large.clone();
        let results = submit(&mailer, messages, 4).await;
        assert_failed(&server, &results, &[], &format!("{chunking:?}"));
        assert_eq!(stored(&server)[&4].body, large);
        let order: Vec<_> = server.messages().iter().map(|message| message.body.len() > 64 * 1024).collect();
        assert_eq!(order.iter().position(|is_large| *is_large), Some(4), "nothing overtakes it");
        assert_eq!(server.connections().total, 1);
    }
}

#[tokio::test]
async fn no_more_than_64_kib_are_unanswered_at_a_time() {
    let (server, mailer) = warm(Chunking::Auto, Extensions::exchange_online()).await;
    let before = server.flights()[0];
    let mut messages = plain(9);
    for (number, (_, text)) in messages.iter_mut().enumerate() {
        *text = [self::text(number), b"0123456789abcdef\r\n".repeat(1_600)].concat();
    }
    let results = submit(&mailer, messages, 8).await;
    assert_failed(&server, &results, &[], "28 KiB each");
    // The first, then two at a time.
    assert_eq!(server.flights(), [before + 5]);
}

#[tokio::test]
async fn one_that_cannot_be_sent_is_told_why_and_the_others_go_on() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online().without("8BITMIME")).await;
        let mut messages = plain(9);
        messages[5].1 = "Subject: 5\r\n\r\nGrüße\r\n".into();
        let results = submit(&mailer, messages, 4).await;
        assert_failed(&server, &results, &[(5, ErrorKind::Unsendable)], &format!("{chunking:?}"));
        assert_eq!(server.connections().total, 1);
    }
}

#[tokio::test]
async fn a_server_without_pipelining_gets_one_message_at_a_time_as_ever() {
    for chunking in WAYS {
        let mut counts = Vec::new();
        for overlap in [1, 8] {
            let (server, mailer) = warm(chunking, Extensions::exchange_online().without("PIPELINING")).await;
            let results = submit(&mailer, plain(9), overlap).await;
            assert_failed(&server, &results, &[], &format!("{chunking:?}"));
            counts.push((server.flights(), server.transcript()));
        }
        assert_eq!(counts[0], counts[1], "{chunking:?}");
    }
}

#[tokio::test]
async fn a_server_without_chunking_gets_envelopes_behind_messages() {
    let (server, mailer) = warm(Chunking::Auto, Extensions::exchange_online().without("CHUNKING")).await;
    let before = server.flights()[0];
    let results = submit(&mailer, plain(9), 4).await;
    assert_failed(&server, &results, &[], "without CHUNKING");
    assert_eq!(server.flights(), [before + 11]);
}

#[tokio::test]
async fn a_server_that_offers_bdat_and_does_not_know_it_is_given_one_message_to_say_so() {
    let server = FakeExchange::builder()
        .fault(FaultPoint::Body, Fault::reply("500 5.3.3 Unrecognized command").once())
        .start()
        .await;
    let mailer = build(&server, one_connection(&server, Chunking::Auto));
    let results = submit(&mailer, plain(9), 4).await;
    assert_failed(&server, &results, &[], "unknown BDAT");
    let chunks = server.transcript().iter().filter(|line| line.starts_with("BDAT")).count();
    assert_eq!(chunks, 1);
}

#[tokio::test]
async fn sending_limits_hold_for_each_message() {
    for chunking in WAYS {
        let server = FakeExchange::start().await;
        let limits = SendingLimits::new()
            .with_messages_per_minute(NonZeroU32::new(5))
            .with_when_reached(WhenReached::Fail);
        let mailer = build(&server, one_connection(&server, chunking).limits(limits));
        let results = submit(&mailer, plain(8), 8).await;
        let reached = results.values().filter_map(|result| result.as_ref().err()).map(Error::kind);
        assert_eq!(reached.collect::<Vec<_>>(), [ErrorKind::LimitReached; 3], "{chunking:?}");
        assert_eq!(server.message_count(), 5);
    }
}

#[tokio::test]
async fn a_server_that_says_it_is_too_much_gets_no_more_than_was_under_way() {
    // The window ends with the third; the next envelope is under way behind it.
    for (chunking, last) in [(Chunking::Auto, 3), (Chunking::Off, 4)] {
        let server = FakeExchange::start().await;
        let limits = SendingLimits::new().with_when_reached(WhenReached::Fail);
        let mailer = build(&server, one_connection(&server, chunking).limits(limits));
        let busy = Fault::reply("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded");
        server.inject(FaultPoint::Body, busy.once().after(3));
        let results = submit(&mailer, plain(12), 3).await;
        let mut failed = vec![(3, ErrorKind::ServerUnavailable)];
        failed.extend((last + 1..12).map(|number| (number, ErrorKind::LimitReached)));
        assert_failed(&server, &results, &failed, &format!("{chunking:?}"));
    }
}

#[tokio::test]
async fn a_connection_carries_as_many_messages_as_it_may() {
    for chunking in WAYS {
        let server = FakeExchange::start().await;
        let reuse = ConnectionReuse::new().with_messages(NonZeroU32::new(4));
        let mailer = build(&server, one_connection(&server, chunking).reuse(reuse));
        let results = submit(&mailer, plain(10), 3).await;
        assert_failed(&server, &results, &[], &format!("{chunking:?}"));
        let connections: Vec<_> = server.messages().iter().map(|message| message.connection).collect();
        assert_eq!(connections, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3], "{chunking:?}");
    }
}

#[tokio::test]
async fn another_submission_gets_its_turn_after_a_window() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        let mut batch = mailer.submit_all(Items::new(plain(60))).overlap(window(4));
        batch.next().await.unwrap().1.unwrap();
        let other = async {
            mailer.submit_raw(&envelope(&["other@example.com"]), &text(1_000)).await.unwrap();
            server.message_count()
        };
        let rest = async { while batch.next().await.is_some() {} };
        let (count, ()) = tokio::join!(other, rest);
        assert!(count < 20, "{chunking:?}: {count} messages were before it");
        assert_eq!((stored(&server).len(), server.connections().total), (61, 1), "{chunking:?}");
    }
}

#[tokio::test]
async fn every_connection_is_used_before_messages_overlap() {
    let server = FakeExchange::start().await;
    let config = one_connection(&server, Chunking::Auto).max_connections(NonZeroU32::new(3).unwrap());
    let mailer = build(&server, config);
    let results = submit(&mailer, plain(40), 4).await;
    assert_failed(&server, &results, &[], "three connections");
    let mut each = [0; 3];
    server.messages().iter().for_each(|message| each[message.connection - 1] += 1);
    assert!(each.iter().all(|count| *count > 4), "{each:?}");
}

#[tokio::test]
async fn a_dropped_batch_drops_its_connection_with_all_that_is_under_way() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        server.inject(FaultPoint::Body, Fault::Silence.once().after(2));
        let mut batch = mailer.submit_all(Items::new(plain(9))).overlap(window(4));
        for _ in 0..2 {
            batch.next().await.unwrap().1.unwrap();
        }
        server.wait_for_silence().await;
        drop(batch);
        server.wait_for_open(0).await;
        let results = submit(&mailer, plain(2), 4).await;
        assert!(results.values().all(Result::is_ok), "{chunking:?}: {results:?}");
    }
}

#[tokio::test]
async fn a_closed_mailer_finishes_what_is_under_way_and_sends_nothing_more() {
    for chunking in WAYS {
        let (server, mailer) = warm(chunking, Extensions::exchange_online()).await;
        let mut batch = mailer.submit_all(Items::new(plain(60))).overlap(window(4));
        batch.next().await.unwrap().1.unwrap();
        let mut results = BTreeMap::new();
        let rest = async {
            while let Some((number, result)) = batch.next().await {
                results.insert(number, result);
            }
        };
        let ((), ()) = tokio::join!(mailer.close(), rest);
        let failures: Vec<_> =
            results.values().filter_map(|result| result.as_ref().err()).map(Error::kind).collect();
        assert!(failures.len() > 40, "{chunking:?}: {}", failures.len());
        assert!(failures.iter().all(|kind| *kind == ErrorKind::Closed), "{chunking:?}: {failures:?}");
        assert_eq!(stored(&server).len(), 60 - failures.len(), "{chunking:?}");
    }
}
