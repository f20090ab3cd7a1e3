//! Refresh tokens are rotated, saved before use and shared; an outage does not stop a token that is still good.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault, TokenVerdict};
use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{
    AccessToken, Cloud, MemoryStore, TokenCache, TokenError, TokenErrorKind, TokenProvider, TokenRequest,
    TokenStore, entra, oauth, token,
};

const MINUTE: Duration = Duration::from_secs(60);

async fn fake() -> (ManualClock, FakeEntra) {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder()
        .clock(manual.clock())
        .token_lifetime(60 * MINUTE)
        .token_length(100)
        .start()
        .await;
    (manual, entra)
}

fn cache(entra: &FakeEntra, store: impl TokenStore + 'static) -> TokenCache {
    entra.app().build().unwrap().refresh_token(store).jitter(Duration::ZERO)
}

async fn token(cache: &TokenCache) -> Result<AccessToken, TokenError> {
    cache.token(TokenRequest::new()).await
}

fn text(token: &AccessToken) -> &str {
    token.secret().expose_secret()
}

#[tokio::test]
async fn the_request_is_what_entra_documents() {
    let (_manual, entra) = fake().await;
    let token = token(&cache(&entra, entra.store())).await.unwrap();
    let received = entra.received();
    assert_eq!(received[0].path, "/contoso.onmicrosoft.com/oauth2/v2.0/token");
    assert_eq!(received[0].parameter("grant_type"), "refresh_token");
    assert_eq!(received[0].parameter("scope"), "https://outlook.office.com/SMTP.Send offline_access");
    assert_eq!(received[0].parameter("client_id"), entra.client_id());
    assert_eq!(received[0].parameter("client_secret"), entra.client_secret().unwrap());
    assert_eq!(received[0].authorization, None);
    assert_eq!(token.scopes(), ["https://outlook.office.com/SMTP.Send"]);
    assert_eq!(entra.tokens().verdict(text(&token)), TokenVerdict::Valid(entra.account()));
}

#[tokio::test]
async fn the_cloud_chooses_the_scope() {
    let (_manual, entra) = fake().await;
    let clouds = [
        (Cloud::UsGovernment, "https://outlook.office365.us/SMTP.Send offline_access"),
        (Cloud::China, "https://partner.outlook.cn/SMTP.Send offline_access"),
    ];
    for (cloud, scope) in clouds {
        let app = entra.app().cloud(cloud).build().unwrap();
        token(&app.refresh_token(entra.store())).await.unwrap();
        assert_eq!(entra.received().last().unwrap().parameter("scope"), scope);
    }
}

#[tokio::test]
async fn basic_authentication_form_encodes_id_and_secret() {
    let entra = FakeEntra::builder().client_secret("a b+c:d&e=%ü").start().await;
    let authentication = oauth::ClientAuthentication::Basic("a b+c:d&e=%ü".into());
    let client = oauth::Client::builder(entra.token_endpoint(), entra.client_id())
        .authentication(authentication)
        .build()
        .unwrap();
    let cache = client.refresh_token(entra.store(), ["https://outlook.office.com/SMTP.Send"]);
    token(&cache).await.unwrap();
    assert_eq!(entra.received()[0].parameter("client_secret"), "");
}

#[tokio::test]
async fn a_token_is_used_until_the_margin_and_then_replaced() {
    let (manual, entra) = fake().await;
    let cache = cache(&entra, entra.store());
    let first = token(&cache).await.unwrap();
    manual.advance(54 * MINUTE);
    assert!(token(&cache).await.unwrap().is_same(&first));
    assert_eq!(entra.requests(), 1);
    manual.advance(MINUTE);
    assert!(!token(&cache).await.unwrap().is_same(&first));
    assert_eq!(entra.requests(), 2);
}

#[tokio::test]
async fn processes_that_started_together_do_not_refresh_together() {
    let manual = ManualClock::new();
    let clock = manual.clock();
    let caches: Vec<_> = (0..50)
        .map(|_| {
            let clock = clock.clone();
            let provider = token::from_fn(move || {
                std::future::ready(AccessToken::new("token", clock.now() + 60 * MINUTE))
            });
            TokenCache::new(provider).clock(manual.clock()).refresh_margin(5 * MINUTE).jitter(2 * MINUTE)
        })
        .collect();
    let start = clock.now();
    let first_expiry = start + 60 * MINUTE;
    let refreshed = async || {
        let mut count = 0;
        for cache in &caches {
            let token = cache.token(TokenRequest::new()).await.unwrap();
            count += usize::from(token.expires_at() != first_expiry);
        }
        count
    };
    assert_eq!(refreshed().await, 0);
    manual.advance(53 * MINUTE - MINUTE / 60);
    assert_eq!(refreshed().await, 0, "earlier than margin and jitter");
    manual.advance(MINUTE + MINUTE / 60);
    // By chance none or all of them one time in 2^49.
    assert!((1..50).contains(&refreshed().await), "in the middle of the jitter");
    manual.advance(MINUTE);
    assert_eq!(refreshed().await, 50, "no later than the margin");
}

#[tokio::test]
async fn each_refresh_uses_the_refresh_token_of_the_one_before() {
    let (manual, entra) = fake().await;
    let store = entra.store();
    let cache = cache(&entra, store.clone());
    for _ in 0..3 {
        token(&cache).await.unwrap();
        manual.advance(60 * MINUTE);
    }
    let received = entra.received();
    let used: Vec<_> = received.iter().map(|grant| grant.parameter("refresh_token")).collect();
    let issued = entra.refresh_tokens();
    assert_eq!(used, issued[..3]);
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), issued[3]);
    assert_eq!(stored.account(), Some("svc-mail@contoso.com"));
}

#[tokio::test]
async fn a_response_without_a_refresh_token_keeps_the_old_one() {
    let (_manual, entra) = fake().await;
    entra.without_rotation();
    let store = entra.store();
    token(&cache(&entra, store.clone())).await.unwrap();
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
}

#[tokio::test]
async fn a_second_process_adopts_what_the_first_obtained() {
    let (manual, entra) = fake().await;
    let store = entra.store();
    let first = token(&cache(&entra, store.clone())).await.unwrap();
    let second = cache(&entra, store.clone());
    assert!(token(&second).await.unwrap().is_same(&first));
    assert_eq!(entra.requests(), 1);
    // Refused by the mail server: the stored token is that very one, so it is asked for.
    let third = second.token(TokenRequest::new().with_rejected(&first)).await.unwrap();
    assert!(!third.is_same(&first));
    manual.advance(56 * MINUTE);
    let fourth = token(&cache(&entra, store)).await.unwrap();
    assert!(!fourth.is_same(&third));
    assert_eq!(entra.requests(), 3);
}

#[tokio::test]
async fn an_outage_does_not_stop_a_token_that_is_still_good() {
    let (manual, entra) = fake().await;
    let cache = cache(&entra, entra.store());
    let first = token(&cache).await.unwrap();
    manual.advance(56 * MINUTE);
    entra.fail_next(100, TokenFault::ThrottledWithRetryAfter(3 * MINUTE));
    for _ in 0..5 {
        assert!(token(&cache).await.unwrap().is_same(&first));
    }
    assert_eq!(entra.requests(), 2, "one failed refresh, then the server is left alone");
    // Not good enough for a caller who needs longer, nor for one whom the mail server refused it.
    let wanted = TokenRequest::new().with_least_validity(5 * MINUTE);
    assert_eq!(cache.token(wanted).await.unwrap_err().kind(), TokenErrorKind::Unavailable);
    let error = cache.token(TokenRequest::new().with_rejected(&first)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(3 * MINUTE));
    manual.advance(3 * MINUTE);
    entra.recover();
    assert!(!token(&cache).await.unwrap().is_same(&first));
}

#[tokio::test]
async fn an_outage_stops_an_expired_token() {
    let (manual, entra) = fake().await;
    let cache = cache(&entra, entra.store());
    token(&cache).await.unwrap();
    manual.advance(61 * MINUTE);
    entra.fail_next(1, TokenFault::ThrottledWithRetryAfter(MINUTE));
    assert_eq!(token(&cache).await.unwrap_err().kind(), TokenErrorKind::Unavailable);
}

#[tokio::test]
async fn an_empty_store_asks_for_a_sign_in_and_notices_it() {
    let (_manual, entra) = fake().await;
    let store = MemoryStore::new();
    let cache = cache(&entra, store.clone());
    let error = token(&cache).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "no refresh token is stored: sign in first");
    assert!(store.seed(&entra.sign_in()).await.unwrap());
    assert!(!store.seed(&entra.sign_in()).await.unwrap(), "a stored token is not replaced");
    token(&cache).await.unwrap();
}

#[tokio::test]
async fn a_refused_refresh_token_is_not_sent_again_but_a_new_one_at_once() {
    let (manual, entra) = fake().await;
    let store = entra.store();
    let cache = cache(&entra, store.clone());
    entra.expire_refresh_tokens();
    for _ in 0..5 {
        let error = token(&cache).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        assert_eq!(error.to_string(), "token endpoint refused the refresh token grant (AADSTS700082)");
        assert!(entra::remedy(&error).unwrap().steps()[0].starts_with("sign in again"));
    }
    assert_eq!(entra.requests(), 1);
    // A policy may have changed meanwhile, so it is tried again some time.
    manual.advance(10 * MINUTE);
    token(&cache).await.unwrap_err();
    assert_eq!(entra.requests(), 2);
    store.save(&entra.sign_in()).await.unwrap();
    token(&cache).await.unwrap();
    assert_eq!(entra.requests(), 3);
}

/// A store whose disk is full.
#[derive(Debug)]
struct FullDisk {
    store: MemoryStore,
    full: AtomicBool,
}

impl TokenStore for FullDisk {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.store.load()
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        if self.full.load(Ordering::SeqCst) {
            let error = TokenError::new(TokenErrorKind::Store, "the disk is full");
            return StoreFuture::new(std::future::ready(Err(error)));
        }
        self.store.save(tokens)
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        self.store.lock()
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_saved_is_not_handed_out() {
    let (_manual, entra) = fake().await;
    let before = entra.refresh_token();
    let store = std::sync::Arc::new(FullDisk {
        store: MemoryStore::from(StoredTokens::new(before.as_str(), time::OffsetDateTime::UNIX_EPOCH)),
        full: AtomicBool::new(true),
    });
    let cache = cache(&entra, store.clone());
    let error = token(&cache).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert_eq!(error.to_string(), "the disk is full");
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), before);
    assert_eq!(stored.access_tokens().count(), 0);
    store.full.store(false, Ordering::SeqCst);
    token(&cache).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_caller_does_not_lose_a_rotated_refresh_token() {
    let (_manual, entra) = fake().await;
    let store = entra.store();
    let cache = cache(&entra, store.clone());
    let mut cancelled = Box::pin(token(&cache));
    tokio::select! {
        biased;
        _ = &mut cancelled => panic!("an answer without a request"),
        () = std::future::ready(()) => drop(cancelled),
    }
    let token = token(&cache).await.unwrap();
    assert_eq!(entra.requests(), 1);
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
    assert!(stored.access_token("https://outlook.office.com/SMTP.Send").unwrap().is_same(&token));
}
