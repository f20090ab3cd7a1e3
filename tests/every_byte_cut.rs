//! The connection is cut, or stands still, after every single byte of a session: the outcome and the server's store agree.

mod support;

use std::sync::Arc;
use std::time::Duration;

use smtp_oauth::testing::{FakeExchange, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, Clock, Disposition, Error, Mailer, RetryPolicy, Submission, Timeouts, Tls,
};
use support::proxy::{Cut, Direction, How, Proxy, Seen, Where};
use support::{ACCOUNT, PASSWORD, envelope, settings};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const KEPT: &str = "reader@example.com";
const OTHER: &str = "other@example.com";
const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.dot\r\n";

/// Sessions under way at once.
const AT_ONCE: usize = 16;

/// What is submitted, and how.
#[derive(Clone, Copy, Debug)]
struct Variant {
    tls: Tls,
    chunking: Chunking,
    /// The second recipient is refused.
    refuses: bool,
    retry: RetryPolicy,
}

/// What came of one session.
struct Outcome {
    result: Result<Submission, Error>,
    server: FakeExchange,
    seen: Seen,
}

/// Submits one message through a proxy that cuts the first connection.
async fn session(variant: Variant, cut: Option<Cut>) -> Outcome {
    let Variant { tls, chunking, refuses, retry } = variant;
    let manual = ManualClock::new();
    let mut builder = FakeExchange::builder().clock(manual.clock()).password(ACCOUNT, PASSWORD);
    builder = if tls == Tls::Implicit { builder.implicit_tls() } else { builder.plaintext() };
    if refuses {
        builder = builder.refuse_recipient(OTHER, "550 5.1.10 Recipient not found");
    }
    let server = builder.start().await;
    let proxy = Proxy::start(server.address(), cut).await;
    let minute = Duration::from_secs(60);
    let timeouts = Timeouts::new().with_envelope(minute).with_data(minute).with_body_progress(minute);
    let config = settings(&server)
        .port(proxy.port())
        .tls(tls)
        .chunking(chunking)
        .timeouts(timeouts.with_final_reply(minute))
        .build()
        .unwrap();
    let stalls = cut.is_some_and(|cut| cut.how == How::Stall);
    let mailer = Mailer::builder(config)
        .authentication(Authentication::basic(PASSWORD))
        .clock(if stalls { manual.clock() } else { Clock::system() })
        .retry(retry)
        .build()
        .unwrap();
    let envelope = envelope(&[KEPT, OTHER]);
    let result = {
        let mut submission = std::pin::pin!(mailer.submit_raw(&envelope, MESSAGE));
        tokio::select! {
            result = &mut submission => result,
            // Time passes only once the peer stands still, so that no other deadline is met.
            () = proxy.stalled() => manual.advance_until(Duration::from_secs(15), submission).await,
        }
    };
    drop(mailer);
    // Only when both have hung up is it certain what the server has made of what it was given.
    server.wait_for_open(0).await;
    let seen = proxy.seen();
    Outcome { result, server, seen }
}

/// Where, among the octets to the client, a verdict can be pending: from the reply after which the message goes out to
/// the end of the verdict.
#[derive(Clone, Copy, Debug)]
struct Pending {
    from: usize,
    to: usize,
}

impl Pending {
    /// Finds the place in a session that was not cut.
    fn find(seen: &Seen, chunking: Chunking) -> Self {
        let text = String::from_utf8_lossy(&seen.to_client);
        let end_of = |start: &str| {
            let at = text.find(start).unwrap();
            at + text[at..].find('\n').unwrap() + 1
        };
        let from = if chunking == Chunking::Off { end_of("\n354 ") } else { end_of("\n235 ") };
        Self {
            from,
            to: text.rfind("250 2.0.0 OK <").map(|at| at + text[at..].find('\n').unwrap() + 1).unwrap(),
        }
    }
}

/// Asserts that the server's store and the outcome agree; returns the outcome in one word.
fn judge(variant: Variant, cut: Cut, pending: Option<Pending>, outcome: &Outcome) -> &'static str {
    let Outcome { result, server, seen } = outcome;
    let stored = server.messages();
    let context = format!("{variant:?} {cut:?}: {result:?}, stored {}", stored.len());
    for message in &stored {
        assert_eq!(message.body, MESSAGE, "{context}");
        let kept: &[&str] = if variant.refuses { &[KEPT] } else { &[KEPT, OTHER] };
        assert_eq!(message.recipient_addresses(), kept, "{context}");
    }
    match result {
        Ok(submission) => {
            assert_eq!(stored.len(), 1, "{context}");
            assert_eq!(submission.accepted().len(), if variant.refuses { 1 } else { 2 }, "{context}");
            assert_eq!(submission.refused().len(), usize::from(variant.refuses), "{context}");
            "accepted"
        }
        Err(error) if error.disposition() == Disposition::Indeterminate => {
            assert!(stored.len() <= 1, "{context}");
            match pending {
                Some(Pending { from, to }) => {
                    let told = seen.to_client.len();
                    assert!((from..to).contains(&told), "{context}: not pending at {told} of {from}..{to}");
                }
                None => {
                    assert!(server.auth_attempts().iter().any(|attempt| attempt.accepted), "{context}");
                }
            }
            "indeterminate"
        }
        Err(error) => {
            assert_eq!(stored.len(), 0, "{context}");
            assert!(matches!(error.disposition(), Disposition::Retry { .. }), "{context}");
            // The verdict was told whole, so it must have been heard.
            assert!(pending.is_none_or(|pending| seen.to_client.len() < pending.to), "{context}");
            "not sent"
        }
    }
}

/// Runs a session for each cut and prints what came of them.
async fn run(name: &str, cuts: Vec<(Variant, Cut, Option<Pending>)>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let count = cuts.len();
    let mut sessions = JoinSet::new();
    for (variant, cut, pending) in cuts {
        let permit = permits.clone().acquire_owned().await.unwrap();
        sessions.spawn(async move {
            let outcome = session(variant, Some(cut)).await;
            drop(permit);
            judge(variant, cut, pending, &outcome)
        });
    }
    let mut tally = std::collections::BTreeMap::<_, usize>::new();
    for word in sessions.join_all().await {
        *tally.entry(word).or_default() += 1;
    }
    println!("{name}: {count} cuts, {tally:?}");
    assert!(tally.len() >= 2, "cuts that change nothing prove nothing");
}

fn variants(tls: Tls, retry: RetryPolicy) -> Vec<Variant> {
    let mut all = Vec::new();
    for chunking in [Chunking::Off, Chunking::Auto] {
        for refuses in [false, true] {
            all.push(Variant { tls, chunking, refuses, retry });
        }
    }
    all
}

/// Every byte of both directions of a plain session.
async fn every_byte(variants: Vec<Variant>, how: How) -> Vec<(Variant, Cut, Option<Pending>)> {
    let mut cuts = Vec::new();
    for variant in variants {
        let whole = session(variant, None).await;
        let pending = Pending::find(&whole.seen, variant.chunking);
        let lengths = [
            (Direction::ToServer, whole.seen.to_server.len()),
            (Direction::ToClient, whole.seen.to_client.len()),
        ];
        for (direction, length) in lengths {
            for octets in 0..=length {
                let place = Where::After(octets);
                cuts.push((variant, Cut { direction, place, how }, Some(pending)));
            }
        }
    }
    cuts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_after_any_byte() {
    let cuts = every_byte(variants(Tls::LoopbackPlaintext, RetryPolicy::never()), How::Close).await;
    run("closed, plain text", cuts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_stands_still_after_any_byte() {
    let cuts = every_byte(variants(Tls::LoopbackPlaintext, RetryPolicy::never()), How::Stall).await;
    run("stalled, plain text", cuts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_after_any_byte_and_another_that_does_not() {
    let retry = RetryPolicy::new().with_first_wait(Duration::from_millis(1));
    let mut variants = variants(Tls::LoopbackPlaintext, retry);
    variants.retain(|variant| variant.refuses);
    let cuts = every_byte(variants, How::Close).await;
    // The octets of the second connection are not counted, so the place of the verdict says nothing here.
    run("closed, plain text, tried again", cuts.into_iter().map(|(v, c, _)| (v, c, None)).collect()).await;
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
                        let place = Where::Record { record, beside };
                        cuts.push((variant, Cut { direction, place, how }, None));
                    }
                }
            }
        }
    }
    run("closed or stalled, TLS", cuts).await;
}
