//! A connection with overlapped messages is cut, or stands still, after every single octet: each outcome and the server's store
//! agree, and no message is accepted twice.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{FakeExchange, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, Clock, Disposition, Error, ErrorKind, Mailer, RetryPolicy, Submission,
    Timeouts, Tls,
};
use support::proxy::{Cut, Direction, How, Proxy, Seen, Where};
use support::stream::Items;
use support::{ACCOUNT, PASSWORD, envelope, settings};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const GONE: &str = "gone@example.com";

const MESSAGES: usize = 5;
/// Under way at a time.
const WINDOW: usize = 3;
/// The message that a variant with refusals refuses altogether, and the one of which it refuses one recipient of two.
const REFUSED: usize = 2;
const REFUSED_IN_PART: usize = 3;

/// Octets between two places at which a server stops reading.
const STEP: usize = 400;

/// Sessions under way at once.
const AT_ONCE: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Variant {
    tls: Tls,
    chunking: Chunking,
    refuses: bool,
    /// All but the first are as large as may be under way at a time, so that the client's kernel does not take a window whole.
    large: bool,
    retry: RetryPolicy,
}

struct Outcome {
    results: Vec<Result<Submission, Error>>,
    server: FakeExchange,
    seen: Seen,
}

fn text(number: usize, large: bool) -> Vec<u8> {
    let lines = "0123456789abcdef\r\n".repeat(if large && number > 0 { 1_210 } else { 0 });
    format!("Subject: {number}\r\n\r\n.dot\r\n{lines}").into_bytes()
}

fn recipients(number: usize, refuses: bool, large: bool) -> Vec<String> {
    let own = format!("reader{number}@example.com");
    let copies = (0..if large { 200 } else { 0 }).map(|copy| format!("copy{copy}@example.com"));
    match number {
        REFUSED if refuses => vec![GONE.to_owned()],
        REFUSED_IN_PART if refuses => vec![GONE.to_owned(), own],
        _ => std::iter::once(own).chain(copies).collect(),
    }
}

fn messages(refuses: bool, large: bool) -> Vec<(Envelope, Vec<u8>)> {
    let message = |number| {
        let recipients = recipients(number, refuses, large);
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        (envelope(&recipients), text(number, large))
    };
    (0..MESSAGES).map(message).collect()
}

/// Submits the messages through a proxy that cuts the first connection.
async fn session(variant: Variant, cut: Option<Cut>) -> Outcome {
    let Variant { tls, chunking, refuses, large, retry } = variant;
    let manual = ManualClock::new();
    let mut builder = FakeExchange::builder().clock(manual.clock()).password(ACCOUNT, PASSWORD);
    builder = if tls == Tls::Implicit { builder.implicit_tls() } else { builder.plaintext() };
    let server = builder.refuse_recipient(GONE, "550 5.1.10 Recipient not found").start().await;
    let is_deaf = cut.is_some_and(|cut| cut.how == How::Deaf);
    let proxy = match is_deaf {
        true => Proxy::narrow(server.address(), cut).await,
        false => Proxy::start(server.address(), cut).await,
    };
    let minute = Duration::from_secs(60);
    let timeouts = Timeouts::new().with_envelope(minute).with_data(minute).with_body_progress(minute);
    let config = settings(&server)
        .port(proxy.port())
        .tls(tls)
        .chunking(chunking)
        .max_connections(NonZeroU32::MIN)
        .timeouts(timeouts.with_final_reply(minute))
        .build()
        .unwrap();
    let stalls = cut.is_some_and(|cut| cut.how != How::Close);
    let mailer = Mailer::builder(config)
        .authentication(Authentication::basic(PASSWORD))
        .clock(if stalls { manual.clock() } else { Clock::system() })
        .retry(retry)
        .build()
        .unwrap();
    let results = {
        let window = NonZeroU32::new(u32::try_from(WINDOW).unwrap()).unwrap();
        let mut batch = mailer.submit_all(Items::new(messages(refuses, large))).overlap(window);
        let all = async {
            let mut results = BTreeMap::new();
            while let Some((number, result)) = batch.next().await {
                assert!(results.insert(number, result).is_none(), "{number} is reported twice");
            }
            results
        };
        let mut all = std::pin::pin!(all);
        tokio::select! {
            results = &mut all => results,
            // Time passes only while the first connection stands still, so that no other deadline is met.
            () = time_passes(&manual, &proxy) => all.await,
        }
    };
    assert_eq!(results.len(), MESSAGES);
    drop(mailer);
    let seen = proxy.seen();
    if is_deaf {
        // It does not see the client hang up.
        drop(proxy);
    }
    // Only when both have hung up is it certain what the server has made of what it was given.
    server.wait_for_open(0).await;
    Outcome { results: results.into_values().collect(), server, seen }
}

/// Lets time pass from when nothing passes any more until the client has given up.
async fn time_passes(manual: &ManualClock, proxy: &Proxy) {
    proxy.stalled().await;
    manual.advance_until(Duration::from_secs(15), proxy.given_up()).await;
}

/// Counts the whole lines the client was sent that begin with `start`.
fn told(seen: &Seen, start: &str) -> usize {
    let text = String::from_utf8_lossy(&seen.to_client);
    text.split_inclusive("\r\n").filter(|line| line.ends_with("\r\n") && line.starts_with(start)).count()
}

/// Returns the numbers of the messages whose recipients the client has named on the first connection, in order.
fn order(seen: &Seen) -> Vec<usize> {
    let text = String::from_utf8_lossy(&seen.to_server);
    let numbers =
        text.split("RCPT TO:<reader").skip(1).filter_map(|rest| rest.split_once('@')?.0.parse().ok());
    numbers.collect()
}

/// Asserts that the server's store and the outcomes agree; returns the number of messages of unknown fate.
fn judge(variant: Variant, cut: Cut, outcome: &Outcome) -> usize {
    let Outcome { results, server, seen } = outcome;
    let stored = server.messages();
    let context = || {
        let stored: Vec<_> =
            stored.iter().map(|it| (it.connection, it.body[..16].escape_ascii().to_string())).collect();
        format!("{variant:?} {cut:?}: {results:#?}, stored {stored:?}\n{:#?}", server.transcript())
    };
    let mut unknown = Vec::new();
    for (number, result) in results.iter().enumerate() {
        let count = stored.iter().filter(|message| message.body == text(number, variant.large)).count();
        assert!(count <= 1, "{number} is accepted twice: {}", context());
        let kept = recipients(number, variant.refuses, variant.large).into_iter().filter(|to| to != GONE);
        let kept: Vec<_> = kept.collect();
        for message in stored.iter().filter(|message| message.body == text(number, variant.large)) {
            assert_eq!(message.recipient_addresses(), kept, "{}", context());
        }
        match result {
            Ok(submission) => {
                assert_eq!(count, 1, "{number} is said to be accepted: {}", context());
                let accepted: Vec<_> = submission.accepted().iter().map(ToString::to_string).collect();
                assert_eq!(accepted, kept, "{}", context());
            }
            Err(error) if error.disposition() == Disposition::Indeterminate => unknown.push(number),
            Err(error) => {
                assert_eq!(count, 0, "{number} is said not to be accepted: {}", context());
                let is_refused = error.kind() == ErrorKind::RecipientsRefused;
                let may_be_repeated = matches!(error.disposition(), Disposition::Retry { .. });
                assert!(
                    if kept.is_empty() { is_refused || may_be_repeated } else { may_be_repeated },
                    "{}",
                    context()
                );
            }
        }
    }
    let most = if variant.chunking == Chunking::Off { 1 } else { WINDOW };
    assert!(unknown.len() <= most, "{unknown:?} are unknown: {}", context());
    // Where nothing is refused and nothing encrypted, the octets say whose verdict was pending.
    if variant.tls == Tls::LoopbackPlaintext && !variant.refuses {
        // The order is that of the connection; of the last ones the proxy may not have passed so much as the recipient.
        let order = order(seen);
        let place = |number: &usize| order.iter().position(|at| at == number);
        let verdicts = told(seen, "250 2.0.0 OK <");
        let pending = verdicts..verdicts + most;
        let is_pending = |number| place(number).is_none_or(|at| pending.contains(&at));
        assert!(unknown.iter().all(is_pending), "{unknown:?} of {order:?}, {verdicts} told: {}", context());
        if variant.chunking == Chunking::Off {
            let leaves = told(seen, "354 ");
            let had_leave = |number| place(number).is_some_and(|at| at < leaves);
            assert!(unknown.iter().all(had_leave), "{unknown:?} of {order:?} had no leave: {}", context());
        }
    }
    unknown.len()
}

/// What came of how many sessions: by BDAT, messages of unknown fate, connections.
type Tally = BTreeMap<(bool, usize, usize), usize>;

/// Runs a session for each cut and prints what came of them.
async fn run(name: &str, cuts: Vec<(Variant, Cut)>) -> Tally {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let count = cuts.len();
    let mut sessions = JoinSet::new();
    for (variant, cut) in cuts {
        let permit = permits.clone().acquire_owned().await.unwrap();
        sessions.spawn(async move {
            let outcome = session(variant, Some(cut)).await;
            drop(permit);
            let unknown = judge(variant, cut, &outcome);
            let connections = outcome.server.connections().total;
            (variant.chunking == Chunking::Auto, unknown, connections)
        });
    }
    let mut tally = Tally::new();
    for outcome in sessions.join_all().await {
        *tally.entry(outcome).or_default() += 1;
    }
    println!("{name}: {count} cuts, (by BDAT, of unknown fate, connections) {tally:?}");
    let reached = |chunks: bool| tally.keys().filter(|it| it.0 == chunks).map(|it| it.1).max();
    assert!(reached(true).is_none_or(|most| most == WINDOW), "the window was never full");
    assert!(reached(false).is_none_or(|most| most == 1), "nothing was ever in doubt");
    tally
}

fn variants(tls: Tls, retry: RetryPolicy) -> Vec<Variant> {
    let mut all = Vec::new();
    for chunking in [Chunking::Off, Chunking::Auto] {
        for refuses in [false, true] {
            all.push(Variant { tls, chunking, refuses, large: false, retry });
        }
    }
    all
}

/// Every octet of both directions from the first MAIL on; what comes before is cut in `every_byte_cut`.
async fn every_byte(variants: Vec<Variant>, how: How) -> Vec<(Variant, Cut)> {
    let mut cuts = Vec::new();
    for variant in variants {
        let Seen { to_server, to_client, .. } = session(variant, None).await.seen;
        let at = |text: &[u8], start: &str| String::from_utf8_lossy(text).find(start).unwrap();
        let ranges = [
            (Direction::ToServer, at(&to_server, "MAIL"), to_server.len()),
            (Direction::ToClient, at(&to_client, "\n235 "), to_client.len()),
        ];
        for (direction, from, to) in ranges {
            cuts.extend(
                (from..=to).map(|octets| (variant, Cut { direction, place: Where::After(octets), how })),
            );
        }
    }
    cuts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_after_any_byte() {
    run("closed", every_byte(variants(Tls::LoopbackPlaintext, RetryPolicy::never()), How::Close).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_stands_still_after_any_byte() {
    let mut variants = variants(Tls::LoopbackPlaintext, RetryPolicy::never());
    variants.retain(|variant| !variant.refuses);
    run("stalled", every_byte(variants, How::Stall).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_after_any_byte_and_failures_that_are_tried_again() {
    let retry = RetryPolicy::new().with_first_wait(Duration::from_millis(1));
    let mut variants = variants(Tls::LoopbackPlaintext, retry);
    variants.retain(|variant| variant.refuses);
    run("closed, tried again", every_byte(variants, How::Close).await).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_reading_in_the_middle_of_a_window() {
    let mut cuts = Vec::new();
    for variant in variants(Tls::LoopbackPlaintext, RetryPolicy::never()) {
        let variant = Variant { large: true, ..variant };
        let seen = session(variant, None).await.seen;
        let text = String::from_utf8_lossy(&seen.to_server);
        let window = text.match_indices("MAIL FROM").nth(1).unwrap().0;
        cuts.extend((0..20_000).step_by(STEP).map(|octets| {
            let place = Where::After(window + octets);
            (variant, Cut { direction: Direction::ToServer, place, how: How::Deaf })
        }));
    }
    let tally = run("deaf", cuts).await;
    let is_taken_in_part = |(by_bdat, unknown, connections): &(bool, usize, usize)| {
        *by_bdat && (1..WINDOW).contains(unknown) && *connections > 1
    };
    assert!(tally.keys().any(is_taken_in_part), "no window was written in part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_connection_that_is_cut_at_or_beside_the_end_of_any_record() {
    let mut cuts = Vec::new();
    for how in [How::Close, How::Stall] {
        for variant in variants(Tls::Implicit, RetryPolicy::never()) {
            let seen = session(variant, None).await.seen;
            let records = [
                (Direction::ToServer, seen.records_to_server),
                (Direction::ToClient, seen.records_to_client),
            ];
            for (direction, records) in records {
                for record in 0..records {
                    for beside in [-1, 0, 1] {
                        cuts.push((variant, Cut { direction, place: Where::Record { record, beside }, how }));
                    }
                }
            }
        }
    }
    run("closed or stalled, TLS", cuts).await;
}
