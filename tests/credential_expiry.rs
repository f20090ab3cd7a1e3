//! Secrets, certificates and refresh tokens expire: the program can know when, is warned, and can keep alive what it can.

use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::entra::{self, ClientSecret};
use smtp_oauth::oauth::{ClientCertificate, KeepAlive};
use smtp_oauth::testing::{AppCertificate, FakeEntra, ManualClock};
use smtp_oauth::{MemoryStore, TokenErrorKind, TokenProvider, TokenRequest, TokenStore};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn fake() -> (ManualClock, FakeEntra) {
    let manual = ManualClock::new();
    (manual.clone(), FakeEntra::builder().clock(manual.clock()).start().await)
}

#[tokio::test]
async fn the_expiry_of_the_credential_can_be_asked_for() {
    let (manual, entra) = fake().await;
    let day = manual.clock().now() + 90 * DAY;
    assert_eq!(entra.app().build().unwrap().credential_expiry(), None);
    let secret = ClientSecret::new(entra.client_secret().unwrap()).with_expires_at(day);
    assert_eq!(entra.app().client_secret(secret).build().unwrap().credential_expiry(), Some(day));
    let pair = AppCertificate::new(day);
    let certificate = ClientCertificate::from_pem(pair.certificate_pem(), pair.key_pem()).unwrap();
    let public = FakeEntra::builder().public_client().start().await;
    let app = public.app().client_certificate(certificate).build().unwrap();
    assert_eq!(app.credential_expiry(), Some(day));
    let federated = public.app().federated_token_file("/run/token").build().unwrap();
    assert_eq!(federated.credential_expiry(), None);
}

#[tokio::test]
async fn a_young_refresh_token_is_left_alone_and_an_old_one_renewed() {
    let (manual, entra) = fake().await;
    let (app, store) = (entra.app().build().unwrap(), entra.store());
    manual.advance(30 * DAY);
    assert_eq!(app.keep_alive(store.clone(), 30 * DAY).await.unwrap(), KeepAlive::Fresh(30 * DAY));
    assert_eq!(entra.requests(), 0);
    manual.advance(DAY);
    assert_eq!(app.keep_alive(store.clone(), 30 * DAY).await.unwrap(), KeepAlive::Renewed);
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.age(manual.clock().now()), Duration::ZERO);
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
    // A sender that wakes up now uses the access token of the renewal.
    app.refresh_token(store.clone()).token(TokenRequest::new()).await.unwrap();
    assert_eq!(entra.requests(), 1);
    assert_eq!(app.keep_alive(store, 30 * DAY).await.unwrap(), KeepAlive::Fresh(Duration::ZERO));
}

#[test]
fn a_secret_is_warned_of_in_time_and_only_if_its_end_is_known() {
    let now = ManualClock::new().clock().now();
    let secret = ClientSecret::from(secrecy::SecretString::from("secret"));
    assert!(!secret.is_expiring_within(365 * DAY, now), "nobody knows when");
    let secret = secret.with_expires_at(now + 30 * DAY);
    assert!(secret.is_expiring_within(30 * DAY, now) && !secret.is_expiring_within(29 * DAY, now));
    assert!(secret.is_expiring_within(Duration::ZERO, now + 31 * DAY), "it has expired");
}

#[tokio::test]
async fn keeping_alive_says_that_it_needs_a_runtime_that_runs() {
    let (manual, entra) = fake().await;
    let (app, store) = (entra.app().build().unwrap(), entra.store());
    manual.advance(31 * DAY);
    // On a thread of its own, which belongs to no runtime.
    let outside = std::thread::spawn(move || {
        let poll = |handle: Option<&tokio::runtime::Handle>| {
            let _entered = handle.map(tokio::runtime::Handle::enter);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let mut renewal = std::pin::pin!(app.keep_alive(store.clone(), 30 * DAY));
            match renewal.as_mut().poll(&mut context) {
                std::task::Poll::Ready(renewed) => renewed.unwrap_err(),
                std::task::Poll::Pending => panic!("nothing can be waited for"),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        (poll(None), poll(Some(&handle)))
    });
    let (without, ended) = outside.join().unwrap();
    assert_eq!(without.kind(), TokenErrorKind::Configuration);
    assert_eq!(without.to_string(), "a refresh token can only be renewed within a Tokio runtime");
    assert_eq!(ended.kind(), TokenErrorKind::Unavailable);
    assert_eq!(ended.to_string(), "the renewal was abandoned: its task panicked or its runtime stopped");
    assert_eq!(entra.requests(), 0);
}

#[tokio::test]
async fn of_many_that_keep_it_alive_one_asks() {
    let (manual, entra) = fake().await;
    let (app, store) = (entra.app().build().unwrap(), entra.store());
    manual.advance(31 * DAY);
    let (one, two, three) = tokio::join!(
        app.keep_alive(store.clone(), 30 * DAY),
        app.keep_alive(store.clone(), 30 * DAY),
        app.keep_alive(store.clone(), 30 * DAY),
    );
    let renewed = [one, two, three].into_iter().filter(|done| *done.as_ref().unwrap() == KeepAlive::Renewed);
    assert_eq!(renewed.count(), 1);
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn a_renewal_that_nobody_waits_for_is_finished() {
    let (manual, entra) = fake().await;
    let (app, store) = (entra.app().build().unwrap(), entra.store());
    manual.advance(31 * DAY);
    {
        let mut renewal = std::pin::pin!(app.keep_alive(store.clone(), 30 * DAY));
        tokio::select! {
            biased;
            _ = &mut renewal => panic!("an answer without a request"),
            () = std::future::ready(()) => {}
        }
    }
    tokio::task::yield_now().await;
    let _renewed = store.lock().await.unwrap();
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(entra.requests(), 1);
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
}

#[tokio::test]
async fn a_refresh_token_past_help_needs_a_sign_in() {
    let (manual, entra) = fake().await;
    let (app, store) = (entra.app().build().unwrap(), entra.store());
    manual.advance(91 * DAY);
    entra.expire_refresh_tokens();
    let error = app.keep_alive(store, 30 * DAY).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.server_answer().codes, [700_082]);
    let error = app.keep_alive(MemoryStore::new(), 30 * DAY).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "no refresh token is stored: sign in first");
}

#[tokio::test]
async fn each_way_a_refresh_token_ends_is_recognised_and_explained() {
    let (_manual, entra) = fake().await;
    let mut remedies = Vec::new();
    for code in [70_008, 700_082, 50_173, 70_043, 70_000, 65_001] {
        let cache = entra.app().build().unwrap().refresh_token(entra.store());
        entra.fail_next(1, smtp_oauth::testing::TokenFault::Aadsts(code));
        let error = cache.token(TokenRequest::new()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired, "{code}");
        assert!(error.to_string().ends_with(&format!("(AADSTS{code})")), "{error}");
        remedies.push(entra::remedy(&error).expect("a remedy").summary().to_owned());
    }
    remedies.dedup();
    assert_eq!(remedies.len(), 5, "only the two codes for expiry share one: {remedies:?}");
}
