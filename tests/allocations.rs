//! What a message costs in memory: allocations and octets of the client's thread, in bounds with little slack.
//!
//! The server runs on a thread of its own and is not counted. A round that another thread disturbs may only cost more, so
//! the cheapest of a few rounds counts.

mod support;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use allocation_counter::AllocationInfo;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::FakeExchange;
use smtp_oauth::{
    AccessToken, Authentication, Chunking, Clock, Mailer, Tls, TokenCache, TokenProvider, TokenRequest, token,
};
use support::{ACCOUNT, HOUR, PASSWORD, envelope, issuing, settings};
use tokio::runtime::{Builder, Runtime};

const KIB: usize = 1024;
const MESSAGES: u64 = 20;

/// A client on this thread, and a server on another one.
struct Bench {
    client: Runtime,
    mailer: Mailer,
    _server: FakeExchange,
    _server_thread: Runtime,
}

impl Bench {
    fn new(chunking: Chunking, tls: Tls) -> Self {
        let server_thread = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = FakeExchange::builder().count_only().password(ACCOUNT, PASSWORD);
        let server = if tls == Tls::LoopbackPlaintext { server.plaintext() } else { server };
        let server = server_thread.block_on(server.start());
        let config = settings(&server).tls(tls).chunking(chunking).build().unwrap();
        let authentication = match tls {
            Tls::LoopbackPlaintext => Authentication::basic(PASSWORD),
            _ => issuing(server.tokens(), 1800),
        };
        let mailer = Mailer::builder(config).authentication(authentication).build().unwrap();
        let client = Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, mailer, _server: server, _server_thread: server_thread }
    }

    /// Returns what the cheapest of some rounds of submissions allocated; the connection is warm.
    fn cheapest(&self, envelope: &Envelope, message: &[u8], rounds: usize, messages: u64) -> AllocationInfo {
        let submit = || self.client.block_on(self.mailer.submit_raw(envelope, message)).unwrap();
        submit();
        let rounds =
            (0..rounds).map(|_| allocation_counter::measure(|| (0..messages).for_each(|_| drop(submit()))));
        rounds.min_by_key(|round| (round.count_total, round.bytes_total)).unwrap()
    }
}

/// A message of `size` octets in lines of 78, some of which begin with a dot.
fn message(size: usize) -> Vec<u8> {
    let line = [b"....".as_slice(), &[b'x'; 72], b"\r\n"].concat();
    let mut message = b"From: svc-mail@contoso.com\r\nSubject: Size\r\n\r\n".to_vec();
    message.extend(line.repeat(size / line.len() + 1));
    // Not between a CR and its LF: the message then needs no change on its way.
    message.truncate(size - 2 - usize::from(message[size - 3] == b'\r'));
    message.extend(b"\r\n");
    message
}

/// Asserts that a warm message of 2 KiB to so many recipients takes no more allocations and octets than that.
///
/// The feature `metrics` is on; without a recorder its records cost nothing.
#[track_caller]
fn assert_allocates(chunking: Chunking, recipients: usize, most: (u64, u64)) {
    let bench = Bench::new(chunking, Tls::StartTls);
    let names: Vec<_> = (0..recipients).map(|number| format!("reader{number}@example.com")).collect();
    let envelope = envelope(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let spent = bench.cheapest(&envelope, &message(2 * KIB), 5, MESSAGES);
    let each = (spent.count_total / MESSAGES, spent.bytes_total / MESSAGES);
    println!("{chunking:?}, {recipients} recipients: {} allocations, {} octets a message", each.0, each.1);
    assert!(each.0 <= most.0, "{} allocations a message, more than {}", each.0, most.0);
    assert!(each.1 <= most.1, "{} octets a message, more than {}", each.1, most.1);
}

#[test]
fn a_warm_message_by_bdat_takes_few_allocations() {
    assert_allocates(Chunking::Auto, 1, (18, 8_600));
}

#[test]
fn a_warm_message_by_data_takes_few_allocations() {
    assert_allocates(Chunking::Off, 1, (20, 8_700));
}

#[test]
fn a_hundred_recipients_take_few_allocations_each() {
    assert_allocates(Chunking::Auto, 100, (224, 40_500));
}

/// A recorder that keeps nothing and allocates nothing, and counts how often it is told something.
#[derive(Default)]
struct Asked(AtomicU64);

impl Recorder for Asked {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.fetch_add(1, Ordering::Relaxed);
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.fetch_add(1, Ordering::Relaxed);
        Histogram::noop()
    }
}

#[test]
fn a_recorder_of_metrics_makes_no_message_take_more_allocations() {
    let bench = Bench::new(Chunking::Auto, Tls::StartTls);
    let (envelope, message) = (envelope(&["reader@example.com"]), message(2 * KIB));
    let spent = || bench.cheapest(&envelope, &message, 5, MESSAGES).count_total;
    let unrecorded = spent();
    let recorder = Asked::default();
    let recorded = metrics::with_local_recorder(&recorder, spent);
    let each = recorder.0.into_inner() / (1 + 5 * MESSAGES);
    assert!(each >= 10, "only {each} metrics were recorded for a message");
    assert_eq!(recorded, unrecorded);
}

/// Sends 25 MiB and returns the octets that were allocated meanwhile, in all and at once.
fn large(chunking: Chunking, tls: Tls) -> (u64, u64) {
    let bench = Bench::new(chunking, tls);
    let spent = bench.cheapest(&envelope(&["reader@example.com"]), &message(25 * KIB * KIB), 2, 1);
    println!(
        "{chunking:?}, {tls:?}, 25 MiB: {} octets in all, {} at once",
        spent.bytes_total, spent.bytes_max
    );
    (spent.bytes_total, spent.bytes_max)
}

#[test]
fn a_message_of_25_mib_is_not_copied() {
    for (chunking, most) in [(Chunking::Auto, 6 * KIB as u64), (Chunking::Off, 39 * KIB as u64)] {
        let (in_all, _) = large(chunking, Tls::LoopbackPlaintext);
        assert!(in_all <= most, "{in_all} octets by {chunking:?}, more than {most}");
    }
}

/// rustls makes a buffer for each record, up to its limit of 64 KiB and one more; how many, depends on how fast they go out.
#[test]
fn a_message_of_25_mib_is_encrypted_in_small_buffers() {
    for chunking in [Chunking::Auto, Chunking::Off] {
        let (_, at_once) = large(chunking, Tls::StartTls);
        assert!(at_once <= 88 * KIB as u64, "{at_once} octets at once by {chunking:?}");
    }
}

#[test]
fn a_cached_token_is_handed_out_without_allocation() {
    let provider =
        token::from_fn(|| async { AccessToken::new("x".repeat(2000), Clock::system().now() + HOUR) });
    let cache = TokenCache::new(provider);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cache.token(TokenRequest::new())).unwrap();
    let spent = allocation_counter::measure(|| {
        for _ in 0..1000 {
            let mut asking = pin!(cache.token(TokenRequest::new()));
            let polled = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Ok(_))), "a cached token is there at once");
        }
    });
    assert_eq!(spent.count_total, 0);
}
