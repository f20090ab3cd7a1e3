//! What is tried again, how patiently, and what never is.

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smtp_oauth::testing::{FakeExchange, FakeMicrosoft365, Fault, FaultPoint, ManualClock};
use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{
    Authentication, Chunking, Clock, Disposition, Error, ErrorKind, Mailer, MemoryStore, RetryPolicy,
    Submission, Timeouts, TokenError, TokenErrorKind, TokenStore, token,
};
use support::settle::{settle, until};
use support::{ACCOUNT, HOUR, issuing, message, settings};

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    server: FakeExchange,
    manual: ManualClock,
    clock: Clock,
    mailer: Mailer,
}

async fn start(policy: RetryPolicy, chunking: Chunking, total: Duration) -> Setup {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let config =
        settings(&server).chunking(chunking).timeouts(Timeouts::new().with_total(total)).build().unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .clock(manual.clock())
        .retry(policy)
        .build()
        .unwrap();
    let clock = manual.clock();
    Setup { server, manual, clock, mailer }
}

impl Setup {
    /// Submits one message; returns the outcome and the time it took.
    async fn submit(&self) -> (Result<Submission, Error>, Duration) {
        let before = self.clock.now();
        let message = message();
        let step = Duration::from_millis(50);
        let result = self.manual.advance_until(step, self.mailer.submit(&message)).await;
        (result, (self.clock.now() - before).unsigned_abs())
    }
}

/// Where a temporary refusal can come before the message is accepted.
const POINTS: [FaultPoint; 10] = [
    FaultPoint::Greeting,
    FaultPoint::Ehlo,
    FaultPoint::StartTls,
    FaultPoint::EhloAfterTls,
    FaultPoint::Auth,
    FaultPoint::Mail,
    FaultPoint::Rcpt,
    FaultPoint::Data,
    FaultPoint::Body,
    FaultPoint::BodyStart,
];

fn temporary(point: FaultPoint) -> Vec<Fault> {
    let mut faults = vec![Fault::ReplyThenClose("421 4.3.2 Service not available".into())];
    if point != FaultPoint::BodyStart {
        faults.push(Fault::reply("451 4.7.0 Temporary server error. Please try again later."));
    }
    faults
}

#[tokio::test]
async fn a_temporary_refusal_in_any_phase_is_tried_again_with_growing_waits() {
    for point in POINTS {
        for fault in temporary(point) {
            let setup = start(RetryPolicy::new(), Chunking::Off, HOUR).await;
            setup.server.inject(point, fault.clone().times(2));
            let (result, took) = setup.submit().await;
            let submission = result.unwrap_or_else(|error| panic!("{point:?} {fault:?}: {error:?}"));
            assert_eq!((submission.accepted().len(), setup.server.message_count()), (1, 1), "{point:?}");
            // One second and two, half of each at random.
            assert!(took >= SECOND * 3 / 2 && took <= SECOND * 5, "{point:?} {fault:?}: {took:?}");
        }
    }
}

#[tokio::test]
async fn after_the_last_attempt_the_refusal_is_the_outcome() {
    for point in POINTS {
        for fault in temporary(point) {
            let setup = start(RetryPolicy::new(), Chunking::Off, HOUR).await;
            setup.server.inject(point, fault.clone().times(3));
            let error = setup.submit().await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ServerUnavailable, "{point:?} {fault:?}: {error:?}");
            assert_eq!(error.disposition(), Disposition::Retry { after: None }, "{point:?}");
            assert_eq!(setup.server.message_count(), 0);
            // All three faults have struck: nothing is left for the next submission.
            setup.submit().await.0.unwrap();
        }
    }
}

#[tokio::test]
async fn never_is_one_attempt() {
    for point in POINTS {
        for fault in temporary(point) {
            let setup = start(RetryPolicy::never(), Chunking::Off, HOUR).await;
            setup.server.inject(point, fault);
            let (result, took) = setup.submit().await;
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ServerUnavailable, "{point:?}");
            assert!(took < SECOND, "{point:?}: {took:?}");
            assert_eq!(setup.server.connections().total, 1, "{point:?}");
        }
    }
}

#[tokio::test]
async fn a_final_refusal_is_not_tried_again() {
    for point in [FaultPoint::Mail, FaultPoint::Rcpt, FaultPoint::Data, FaultPoint::Body] {
        let setup = start(RetryPolicy::new(), Chunking::Off, HOUR).await;
        setup.server.inject(point, Fault::reply("550 5.7.1 No"));
        let (result, took) = setup.submit().await;
        assert_eq!(result.unwrap_err().reply().unwrap().code(), 550, "{point:?}");
        assert!(took < SECOND, "{point:?}: {took:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_accepted_is_never_sent_again() {
    for chunking in [Chunking::Off, Chunking::Auto] {
        for fault in [Fault::Close, Fault::Silence, Fault::Garbage(b"what?\r\n".to_vec())] {
            let setup = start(RetryPolicy::new(), chunking, HOUR).await;
            setup.submit().await.0.unwrap();
            setup.server.inject(FaultPoint::Body, fault.clone());
            let error = setup
                .manual
                .advance_until(Duration::from_secs(20), setup.mailer.submit(&message()))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate, "{fault:?}");
            assert_eq!(error.disposition(), Disposition::Indeterminate, "{fault:?}");
            let sent = setup.server.transcript().iter().filter(|line| line.starts_with("MAIL")).count();
            assert_eq!(sent, 2, "{fault:?}: one attempt each");
        }
    }
}

#[tokio::test]
async fn attempts_end_with_the_total() {
    let policy = RetryPolicy::new()
        .with_attempts(NonZeroU32::new(1000).unwrap())
        .with_first_wait(Duration::from_secs(4))
        .with_longest_wait(Duration::from_secs(4));
    let setup = start(policy, Chunking::Off, Duration::from_secs(30)).await;
    setup.server.inject(FaultPoint::Mail, Fault::reply("451 4.7.0 Temporary server error").always());
    let (result, took) = setup.submit().await;
    assert_eq!(result.unwrap_err().reply().unwrap().code(), 451, "the reason, not that time is up");
    assert!(took > Duration::from_secs(20) && took <= Duration::from_secs(31), "{took:?}");
}

#[tokio::test]
async fn waiting_in_vain_for_a_connection_to_try_again_does_not_hide_the_refusal() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let config = settings(&server)
        .max_connections(NonZeroU32::MIN)
        .timeouts(Timeouts::new().with_total(30 * SECOND))
        .build()
        .unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .clock(manual.clock())
        .retry(RetryPolicy::new().with_first_wait(10 * SECOND))
        .build()
        .unwrap();
    let in_background = || {
        let mailer = mailer.clone();
        tokio::spawn(async move { mailer.submit(&message()).await })
    };
    server.inject(FaultPoint::Mail, Fault::reply("451 4.3.0 Mailbox server is offline"));
    let refused = in_background();
    until(|| mailer.pool_status().idle == 1).await;
    settle().await;
    // Meanwhile another message has the only connection, and for longer.
    manual.advance(SECOND);
    server.inject(FaultPoint::Body, Fault::Silence);
    let other = in_background();
    server.wait_for_silence().await;
    manual.advance(10 * SECOND);
    until(|| mailer.pool_status().waiting == 1).await;
    manual.advance(19 * SECOND);
    let error = refused.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::ServerUnavailable, Disposition::Retry { after: None })
    );
    assert!(error.to_string().contains("451 4.3.0"), "{error}");
    other.abort();
}

#[tokio::test]
async fn a_close_between_two_attempts_does_not_hide_the_refusal() {
    let Setup { server, mailer, .. } = start(RetryPolicy::new(), Chunking::Off, HOUR).await;
    server.inject(FaultPoint::Mail, Fault::reply("451 4.3.0 Try again later").always());
    let submitting = tokio::spawn({
        let mailer = mailer.clone();
        async move { mailer.submit(&message()).await }
    });
    until(|| mailer.pool_status().idle == 1).await; // The attempt is over when the connection is back.
    mailer.close().await;
    let error = submitting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerUnavailable);
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    assert_eq!(error.reply().unwrap().code(), 451);
    assert_eq!(mailer.submit(&message()).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_even_if_nothing_is_tried_again() {
    let setup = start(RetryPolicy::never(), Chunking::Off, HOUR).await;
    let refused = "535 5.7.3 Authentication unsuccessful [SY5P282CA0097.AUSP282.PROD.OUTLOOK.COM]";
    setup.server.inject(FaultPoint::Auth, Fault::reply(refused));
    setup.submit().await.0.unwrap();
    assert_eq!((setup.server.tokens().count(), setup.server.connections().peak), (2, 1));

    let setup = start(RetryPolicy::new(), Chunking::Off, HOUR).await;
    setup.server.inject(FaultPoint::Auth, Fault::reply(refused).times(2));
    let error = setup.submit().await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationRefused);
    assert_eq!((setup.server.tokens().count(), setup.server.connections().total), (2, 2));
}

#[tokio::test]
async fn a_token_endpoint_that_asks_to_wait_is_asked_again_when_it_said() {
    let manual = ManualClock::new();
    let server = Arc::new(FakeExchange::builder().clock(manual.clock()).start().await);
    let requests = Arc::<AtomicUsize>::default();
    let provider = token::from_fn({
        let (server, requests) = (server.clone(), requests.clone());
        move || {
            let first = requests.fetch_add(1, Ordering::SeqCst) == 0;
            let token = server.tokens().issue_access_token(ACCOUNT, HOUR, 1800);
            async move {
                if first {
                    let error = TokenError::new(TokenErrorKind::Unavailable, "throttled");
                    return Err(error.with_retry_after(Duration::from_secs(40)));
                }
                Ok(token)
            }
        }
    });
    let mailer = Mailer::builder(settings(&server).build().unwrap())
        .authentication(Authentication::oauth(provider))
        .clock(manual.clock())
        .build()
        .unwrap();
    let before = manual.clock().now();
    manual.advance_until(SECOND / 2, mailer.submit(&message())).await.unwrap();
    let took = (manual.clock().now() - before).unsigned_abs();
    assert!(took >= Duration::from_secs(40) && took < Duration::from_secs(50), "{took:?}");
    assert_eq!((requests.load(Ordering::SeqCst), server.message_count()), (2, 1));
}

/// A token store that is restarted: it fails twice, and then it has the tokens.
#[derive(Debug)]
struct Restarted {
    store: MemoryStore,
    failures: AtomicUsize,
}

impl TokenStore for Restarted {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.store.load()
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        self.store.save(tokens)
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        if self.failures.fetch_add(1, Ordering::SeqCst) < 2 {
            let error = TokenError::new(TokenErrorKind::Store, "the vault is being restarted");
            return StoreFuture::new(std::future::ready(Err(error)));
        }
        self.store.lock()
    }
}

#[tokio::test]
async fn a_token_store_that_is_down_for_a_moment_is_asked_again() {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let tokens = StoredTokens::new(tenant.entra().refresh_token(), manual.clock().now());
    let store = Arc::new(Restarted { store: MemoryStore::from(tokens), failures: AtomicUsize::new(0) });
    let app = tenant.entra().app().clock(manual.clock()).build().unwrap();
    let mailer = tenant
        .mailer_builder()
        .authentication(Authentication::oauth(app.refresh_token(store.clone())))
        .build()
        .unwrap();
    manual.advance_until(SECOND / 2, mailer.submit(&message())).await.unwrap();
    assert_eq!((store.failures.load(Ordering::SeqCst), tenant.exchange().message_count()), (3, 1));
}
