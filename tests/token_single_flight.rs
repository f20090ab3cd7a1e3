//! Any number of tasks cause one token request, whatever becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault};
use smtp_oauth::{
    AccessToken, FileStore, TokenCache, TokenError, TokenErrorKind, TokenProvider, TokenRequest, TokenStore,
    token,
};
use tokio::sync::Semaphore;

#[path = "support/process.rs"]
mod process;

const HOUR: Duration = Duration::from_secs(3600);

/// A provider that counts its calls and answers when it is let.
fn gated(manual: &ManualClock) -> (TokenCache, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counter, door, clock) = (calls.clone(), gate.clone(), manual.clock());
    let provider = token::from_fn(move || {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let (door, clock) = (door.clone(), clock.clone());
        async move {
            door.acquire().await.unwrap().forget();
            AccessToken::new(format!("token-{number}"), clock.now() + HOUR)
        }
    });
    (TokenCache::new(provider).clock(manual.clock()).jitter(Duration::ZERO), calls, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_cause_one_request() {
    let entra = FakeEntra::start().await;
    let cache = entra.app().build().unwrap().refresh_token(entra.store());
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.token(TokenRequest::new()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(entra.requests(), 1);
    assert_eq!(entra.tokens().count(), 1);
}

/// Does nothing but in a process that the test below starts.
#[tokio::test]
async fn child() {
    if process::role().is_some() {
        let store = FileStore::open(process::store_address()).unwrap();
        let token = process::cache(store).token(TokenRequest::new()).await.unwrap();
        process::say(secrecy::ExposeSecret::expose_secret(token.secret()));
    }
}

#[tokio::test]
async fn eight_processes_with_one_file_cause_one_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.json");
    let entra = FakeEntra::start().await;
    FileStore::open(&path).unwrap().save(&entra.sign_in()).await.unwrap();
    let start = |_| process::Process::start("token", path.to_str().unwrap(), &entra);
    let mut processes: Vec<_> = (0..8).map(start).collect();
    for process in &mut processes {
        assert_eq!(process.hear().await, entra.tokens().all()[0]);
    }
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn tasks_that_failed_together_caused_one_request() {
    let entra = FakeEntra::start().await;
    let cache = entra.app().build().unwrap().refresh_token(entra.store());
    entra.fail_next(64, TokenFault::Aadsts(70_008));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.token(TokenRequest::new()).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().kind(), TokenErrorKind::SignInRequired);
    }
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn a_cancelled_caller_loses_no_token() {
    let (cache, calls, gate) = gated(&ManualClock::new());
    let mut first = Box::pin(cache.token(TokenRequest::new()));
    assert!(poll_once(&mut first).await.is_none());
    drop(first);
    gate.add_permits(1);
    let token = cache.token(TokenRequest::new()).await.unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(token.secret()), "token-1");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn rejected_token_is_refreshed_once_for_all_waiters() {
    let (cache, calls, gate) = gated(&ManualClock::new());
    gate.add_permits(1);
    let refused = cache.token(TokenRequest::new()).await.unwrap();
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let (cache, refused) = (cache.clone(), refused.clone());
            tokio::spawn(async move { cache.token(TokenRequest::new().with_rejected(&refused)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    // One who does not know of the refusal waits too, instead of walking into it.
    let unaware = tokio::spawn({
        let cache = cache.clone();
        async move { cache.token(TokenRequest::new()).await }
    });
    tokio::task::yield_now().await;
    gate.add_permits(1);
    for waiter in waiters.into_iter().chain([unaware]) {
        assert!(!waiter.await.unwrap().unwrap().is_same(&refused));
    }
    // A late one, with a newer token at hand: no request.
    let late = cache.token(TokenRequest::new().with_rejected(&refused)).await.unwrap();
    assert!(!late.is_same(&refused));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_provider_that_only_has_the_refused_token_is_an_error() {
    let manual = ManualClock::new();
    let fixed = AccessToken::new("fixed", manual.clock().now() + HOUR).unwrap();
    let source = fixed.clone();
    let provider = token::from_fn(move || std::future::ready(Ok(source.clone())));
    let cache = TokenCache::new(provider).clock(manual.clock());
    cache.token(TokenRequest::new()).await.unwrap();
    let error = cache.token(TokenRequest::new().with_rejected(&fixed)).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidToken);
    assert_eq!(error.to_string(), "the provider returned the token that the mail server just refused");
}

#[tokio::test]
async fn a_panicking_provider_is_an_error_not_a_hang() {
    let provider = token::from_fn(|| async { panic!("defect in the provider") });
    let cache = TokenCache::new(provider);
    let error = cache.token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[tokio::test]
async fn a_provider_that_hangs_is_dropped_at_the_deadline() {
    let manual = ManualClock::new();
    let cache = TokenCache::new(token::from_fn(std::future::pending)).clock(manual.clock());
    let request = cache.token(TokenRequest::new());
    let error = manual.advance_until(Duration::from_secs(10), request).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "the token provider did not answer within 180 seconds");
}

#[tokio::test]
async fn short_tokens_are_used_and_do_not_cause_a_request_each() {
    let (manual, calls) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
    let (counter, clock) = (calls.clone(), manual.clock());
    let provider = token::from_fn(move || {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(AccessToken::new(format!("t{number}"), clock.now() + Duration::from_secs(120)))
    });
    let cache = TokenCache::new(provider).clock(manual.clock());
    for _ in 0..10 {
        cache.token(TokenRequest::new()).await.unwrap();
        // Longer than any token of this server lives: the best there is.
        cache.token(TokenRequest::new().with_least_validity(HOUR)).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    manual.advance(Duration::from_secs(61));
    cache.token(TokenRequest::new()).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_a_failure_the_provider_rests_as_long_as_the_server_asked() {
    let (manual, calls) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
    let counter = calls.clone();
    let provider = token::from_fn(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let error = TokenError::new(TokenErrorKind::Unavailable, "throttled");
        std::future::ready(Err(error.with_retry_after(Duration::from_secs(90))))
    });
    let cache = TokenCache::new(provider).clock(manual.clock());
    for _ in 0..10 {
        let error = cache.token(TokenRequest::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "throttled");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    manual.advance(Duration::from_secs(90));
    cache.token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_token_that_is_needed_outside_of_a_runtime_is_an_error_not_a_panic() {
    let provider = token::from_fn(std::future::pending);
    let cache = TokenCache::new(provider);
    let mut pending = Box::pin(cache.token(TokenRequest::new()));
    let waker = std::task::Waker::noop();
    let polled = pending.as_mut().poll(&mut std::task::Context::from_waker(waker));
    let std::task::Poll::Ready(Err(error)) = polled else { panic!("not ready") };
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
}

/// Polls once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn the_longest_durations_are_taken_as_they_are() {
    let manual = ManualClock::new();
    let (cache, calls, gate) = gated(&manual);
    let cache = cache.refresh_margin(Duration::MAX).jitter(Duration::MAX).fetch_deadline(Duration::MAX);
    gate.add_permits(2);
    let first = cache.token(TokenRequest::new()).await.unwrap();
    assert!(cache.token(TokenRequest::new()).await.unwrap().is_same(&first));
    let wish = TokenRequest::new().with_least_validity(Duration::MAX);
    assert!(cache.token(wish).await.unwrap().is_same(&first));
    // A margin longer than the token's life counts as half of it.
    manual.advance(HOUR / 2);
    assert!(!cache.token(TokenRequest::new()).await.unwrap().is_same(&first));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_runtime_that_has_ended_is_an_error_not_a_hang() {
    let (cache, calls, _gate) = gated(&ManualClock::new());
    let (sender, done) = std::sync::mpsc::channel();
    // On a thread of its own, which is left behind if it hangs.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _entered = handle.enter();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            let poll = std::pin::pin!(cache.token(TokenRequest::new())).poll(&mut context);
            let _ = sender.send(poll.map(|result| result.map_err(|error| error.kind())));
        }
    });
    let poll = done.recv_timeout(Duration::from_secs(20)).expect("no hang");
    let std::task::Poll::Ready(Err(kind)) = poll else { panic!("{poll:?}") };
    assert_eq!(kind, TokenErrorKind::Unavailable);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_provider_that_panics_is_an_error_for_all_and_asked_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let manual = ManualClock::new();
    let clock = manual.clock();
    let cache = TokenCache::new(token::from_fn(move || {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let clock = clock.clone();
        async move {
            assert!(number > 0, "a fault of the provider");
            AccessToken::new("token", clock.now() + HOUR)
        }
    }))
    .clock(manual.clock());
    let (one, two) = tokio::join!(cache.token(TokenRequest::new()), cache.token(TokenRequest::new()));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::Unavailable);
        let expected = "the token request was abandoned: its task panicked or its runtime stopped";
        assert_eq!(error.to_string(), expected);
    }
    // Not at once: a provider that fails is given a rest, as after any failure.
    manual.advance(Duration::from_secs(60));
    cache.token(TokenRequest::new()).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_shorter_than_the_margin_is_used_and_an_expired_one_is_not() {
    let manual = ManualClock::new();
    for (lifetime, refused) in [
        (Duration::from_secs(60), None),
        (Duration::ZERO, Some("the provider returned a token that has expired")),
    ] {
        let clock = manual.clock();
        let provider =
            token::from_fn(move || std::future::ready(AccessToken::new("token", clock.now() + lifetime)));
        let cache = TokenCache::new(provider).clock(manual.clock());
        let error = cache.token(TokenRequest::new()).await.err();
        assert!(error.iter().all(|error| error.kind() == TokenErrorKind::InvalidToken), "{error:?}");
        assert_eq!(error.map(|error| error.to_string()).as_deref(), refused);
    }
}
