//! Signing in through a web page: what is sent, what is refused, and that nothing is believed too early.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::oauth::{AuthorizationCode, MissingScope, PendingSignIn, Prompt, SignedIn};
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault};
use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{
    MemoryStore, TokenError, TokenErrorKind, TokenProvider, TokenRequest, TokenStore, Who, entra,
};
use tokio::sync::Semaphore;
use url::Url;

const MINUTE: Duration = Duration::from_secs(60);
const REDIRECT: &str = "https://app.contoso.com/signed-in";

struct Web {
    manual: ManualClock,
    entra: FakeEntra,
    sign_in: AuthorizationCode,
    store: MemoryStore,
}

impl Web {
    async fn new() -> Self {
        let manual = ManualClock::new();
        let entra = FakeEntra::builder().clock(manual.clock()).token_length(100).start().await;
        let sign_in = entra.app().build().unwrap().authorization_code(REDIRECT.parse().unwrap());
        Self { manual, entra, sign_in, store: MemoryStore::new() }
    }

    async fn finish(&self, pending: &PendingSignIn, callback: &Url) -> Result<SignedIn, TokenError> {
        self.sign_in.finish(pending, callback, self.store.clone()).await
    }

    /// Signs in where the token endpoint answers with a fault.
    async fn fault(&self, fault: TokenFault) -> TokenError {
        let pending = self.sign_in.start().unwrap();
        let callback = self.entra.approve(pending.url());
        self.entra.fail_next(1, fault);
        let error = self.finish(&pending, &callback).await.unwrap_err();
        assert!(self.store.load().await.unwrap().is_none(), "nothing was saved: {error}");
        error
    }
}

fn query(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn with(url: &Url, name: &str, value: &str) -> Url {
    let mut changed = url.clone();
    let pairs: Vec<_> = url.query_pairs().into_owned().filter(|(known, _)| known != name).collect();
    changed.query_pairs_mut().clear().extend_pairs(pairs).append_pair(name, value);
    changed
}

#[tokio::test]
async fn the_page_is_asked_for_what_entra_documents() {
    let web = Web::new().await;
    let sign_in = web.sign_in.clone().login_hint("svc-mail@contoso.com").domain_hint("contoso.com");
    let sign_in = sign_in.prompt(Prompt::Consent).parameter("claims", "{}");
    let url = sign_in.start().unwrap().url().clone();
    assert_eq!(url.path(), "/contoso.onmicrosoft.com/oauth2/v2.0/authorize");
    let expected = [
        ("response_type", "code"),
        ("response_mode", "query"),
        ("redirect_uri", REDIRECT),
        ("scope", "https://outlook.office.com/SMTP.Send offline_access openid profile"),
        ("code_challenge_method", "S256"),
        ("login_hint", "svc-mail@contoso.com"),
        ("domain_hint", "contoso.com"),
        ("prompt", "consent"),
        ("claims", "{}"),
    ];
    for (name, value) in expected {
        assert_eq!(query(&url, name), value, "{name}");
    }
    assert_eq!(query(&url, "client_id"), web.entra.client_id());
    let prompts =
        [(Prompt::Login, "login"), (Prompt::None, "none"), (Prompt::SelectAccount, "select_account")];
    for (prompt, expected) in prompts {
        let asked = web.sign_in.clone().prompt(prompt).start().unwrap();
        assert_eq!(query(asked.url(), "prompt"), expected);
    }
    assert!(query(&url, "state").len() >= 22 && query(&url, "nonce").len() >= 22);
    let again = sign_in.start().unwrap().url().clone();
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(query(&url, name), query(&again, name), "{name} is new each time");
    }
}

#[tokio::test]
async fn a_sign_in_ends_in_a_stored_refresh_token() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let signed_in = web.finish(&pending, &callback).await.unwrap();
    assert_eq!(signed_in.account(), Some("svc-mail@contoso.com"));
    assert!(signed_in.scopes().iter().any(|scope| scope == "https://outlook.office.com/SMTP.Send"));

    let grant = &web.entra.received()[0];
    assert_eq!(grant.parameter("grant_type"), "authorization_code");
    assert_eq!(grant.parameter("redirect_uri"), REDIRECT);
    assert_eq!(grant.parameter("client_secret"), web.entra.client_secret().unwrap());
    assert!(grant.parameter("scope").starts_with("https://outlook.office.com/SMTP.Send"));
    assert_eq!(grant.parameter("code_verifier").len(), 43);

    let stored = web.store.load().await.unwrap().unwrap();
    assert_eq!(stored.account(), Some("svc-mail@contoso.com"));
    assert_eq!(stored.refresh_token().expose_secret(), web.entra.refresh_token());
    // The access token is used by whoever sends next, without another request.
    let cache = web.entra.app().build().unwrap().refresh_token(web.store.clone());
    assert!(cache.token(TokenRequest::new()).await.unwrap().is_same(signed_in.access_token()));
    assert_eq!(web.entra.requests(), 1);
}

#[tokio::test]
async fn consent_may_cover_two_resources_but_the_code_is_redeemed_for_one() {
    let web = Web::new().await;
    let app = web.entra.app().build().unwrap();
    let sign_in = app.authorization_code_with_profile(REDIRECT.parse().unwrap());
    let pending = sign_in.start().unwrap();
    assert!(query(pending.url(), "scope").ends_with("https://graph.microsoft.com/User.Read"));
    let callback = web.entra.approve(pending.url());
    sign_in.finish(&pending, &callback, web.store.clone()).await.unwrap();
    assert!(!web.entra.received()[0].parameter("scope").contains("graph"));
}

#[tokio::test]
async fn a_pending_sign_in_survives_serde_and_hides_its_secrets_from_debug() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let text = serde_json::to_string(&pending).unwrap();
    let kept: PendingSignIn = serde_json::from_str(&text).unwrap();
    assert_eq!(kept.url(), pending.url());
    assert_eq!(kept.created_at(), pending.created_at());
    let callback = web.entra.approve(kept.url());
    let signed_in = web.finish(&kept, &callback).await.unwrap();

    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shown = format!("{kept:?} {pending:?} {signed_in:?} {:?}", web.sign_in);
    let tokens = web.entra.tokens().all().into_iter().chain(web.entra.refresh_tokens());
    let named = ["state", "nonce", "verifier"].map(|name| value[name].as_str().unwrap().to_owned());
    for secret in tokens.chain(named).chain(web.entra.codes()).chain(web.entra.client_secret()) {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
}

#[tokio::test]
async fn a_callback_of_another_sign_in_is_refused_before_anything_in_it_is_believed() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let wrong_state = with(&callback, "state", "somebody-elses");
    let no_state = Url::parse(&callback.as_str().replace("state=", "estate=")).unwrap();
    let error_too = with(&wrong_state, "error", "access_denied");
    for callback in [wrong_state, no_state, error_too] {
        let error = web.finish(&pending, &callback).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
        assert_eq!(error.to_string(), "the callback belongs to another sign-in (wrong `state`)");
        let remedy = smtp_oauth::entra::remedy(&error).unwrap().to_string();
        assert!(remedy.contains("begin the sign-in again, in one tab"), "{remedy}");
    }
    assert_eq!(web.entra.requests(), 0);
}

#[tokio::test]
async fn malformed_callbacks_are_refused_without_a_request() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let cases = [
        (REDIRECT.to_owned(), "the callback of the sign-in has no query"),
        (callback.as_str().replace('?', "#"), "the callback of the sign-in has no query"),
        (format!("{callback}&state=x"), "the callback of the sign-in has a parameter twice"),
        (format!("{callback}&code=x"), "the callback of the sign-in has a parameter twice"),
        (with(&callback, "code", "").into(), "the callback of the sign-in has no code"),
        (
            with(&callback, "iss", "https://evil.example/").into(),
            "the callback comes from another authorization server (wrong `iss`)",
        ),
    ];
    for (callback, message) in cases {
        let error = web.sign_in.finish(&pending, &callback, web.store.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    }
    assert_eq!(web.entra.requests(), 0);
    // Neither a path alone nor the right issuer is a fault.
    let right = with(&callback, "iss", web.entra.authority().as_str());
    let target = &right[url::Position::BeforePath..];
    web.sign_in.finish(&pending, target, web.store.clone()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_on_the_page_says_whose_move_it_is() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let error = web.finish(&pending, &web.entra.deny(pending.url())).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "sign-in was refused (AADSTS65004)");
    assert_eq!(error.server_answer().error.as_deref(), Some("access_denied"));
    assert!(error.server_answer().description.as_deref().unwrap().contains("declined"));
    assert_eq!(entra::remedy(&error).unwrap().summary(), "The consent was declined.");
    let cases = [
        ("temporarily_unavailable", 90_033, TokenErrorKind::Unavailable),
        ("login_required", 50_058, TokenErrorKind::SignInRequired),
        ("unauthorized_client", 700_016, TokenErrorKind::ClientRefused),
        ("invalid_scope", 70_011, TokenErrorKind::RequestRefused),
    ];
    for (name, code, kind) in cases {
        let callback = web.entra.fail_page(pending.url(), name, code);
        assert_eq!(web.finish(&pending, &callback).await.unwrap_err().kind(), kind, "{name}");
    }
}

#[tokio::test]
async fn a_replayed_callback_is_refused_and_what_was_stored_stays() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    web.finish(&pending, &callback).await.unwrap();
    let stored = web.store.load().await.unwrap().unwrap();
    let error = web.finish(&pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "token endpoint refused the authorization code grant (AADSTS54005)");
    let after = web.store.load().await.unwrap().unwrap();
    assert_eq!(after.refresh_token().expose_secret(), stored.refresh_token().expose_secret());
}

#[tokio::test]
async fn a_pending_sign_in_expires_after_ten_minutes() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    web.manual.advance(10 * MINUTE + Duration::from_secs(1));
    let callback = web.entra.approve(pending.url());
    let error = web.finish(&pending, &callback).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "the sign-in took more than 10 minutes: start again");
    assert_eq!(web.entra.requests(), 0);
}

#[tokio::test]
async fn a_code_of_one_sign_in_does_not_fit_the_verifier_of_another() {
    let web = Web::new().await;
    let (mine, theirs) = (web.sign_in.start().unwrap(), web.sign_in.start().unwrap());
    let stolen = query(&web.entra.approve(theirs.url()), "code");
    let callback = with(&web.entra.approve(mine.url()), "code", &stolen);
    let error = web.finish(&mine, &callback).await.unwrap_err();
    assert_eq!(error.to_string(), "token endpoint refused the authorization code grant (AADSTS501481)");
}

#[tokio::test]
async fn answers_that_do_not_belong_to_the_sign_in_are_not_saved() {
    let web = Web::new().await;
    let cases = [
        (TokenFault::NoIdToken, "sign-in was answered with no ID token"),
        (TokenFault::OtherNonce, "sign-in was answered with an ID token of another sign-in"),
        (TokenFault::OtherAudience, "sign-in was answered with an ID token for another app"),
    ];
    for (fault, message) in cases {
        let error = web.fault(fault).await;
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    }
    for fault in [TokenFault::MalformedJson, TokenFault::Html, TokenFault::Redirect, TokenFault::Oversized] {
        assert_eq!(web.fault(fault.clone()).await.kind(), TokenErrorKind::InvalidResponse, "{fault:?}");
    }
    assert_eq!(web.fault(TokenFault::NoRefreshToken).await.kind(), TokenErrorKind::RequestRefused);
}

#[tokio::test]
async fn a_missing_permission_is_named_with_where_to_add_it() {
    let web = Web::new().await;
    let error = web.fault(TokenFault::LessScope).await;
    assert_eq!(error.kind(), TokenErrorKind::RequestRefused);
    assert_eq!(error.to_string(), "sign-in did not grant the permission `SMTP.Send`");
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<MissingScope>().unwrap();
    assert_eq!(source.scope(), "https://outlook.office.com/SMTP.Send");
    assert_eq!(
        source.to_string(),
        "`https://outlook.office.com/SMTP.Send` is not among the granted scopes: openid profile"
    );
    let remedy = entra::remedy(&error).unwrap();
    assert_eq!(remedy.summary(), "The sign-in did not grant the app the permission SMTP.Send.");
    assert_eq!(remedy.who(), Who::ApplicationAdministrator);
    assert!(remedy.steps()[0].contains("API permissions"), "{remedy}");
}

#[tokio::test]
async fn throttling_is_passed_on_with_its_wait_and_no_secret_comes_back_in_an_error() {
    let web = Web::new().await;
    let error = web.fault(TokenFault::ThrottledWithRetryAfter(MINUTE)).await;
    assert_eq!((error.kind(), error.retry_after()), (TokenErrorKind::Unavailable, Some(MINUTE)));
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    web.entra.fail_next(1, TokenFault::EchoesRequest);
    let error = web.finish(&pending, &callback).await.unwrap_err();
    let shown = format!("{error:?} {error}");
    let verifier = web.entra.received().pop().unwrap().parameter("code_verifier").to_owned();
    for secret in [verifier, query(&callback, "code"), web.entra.client_secret().unwrap()] {
        assert!(!secret.is_empty() && !shown.contains(&secret), "{secret} in {shown}");
    }
}

/// A store whose disk is full.
#[derive(Debug)]
struct FullDisk(MemoryStore);

impl TokenStore for FullDisk {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.0.load()
    }

    fn save<'a>(&'a self, _tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        let error = TokenError::new(TokenErrorKind::Store, "the disk is full");
        StoreFuture::new(std::future::ready(Err(error)))
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        self.0.lock()
    }
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_saved_is_no_sign_in() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let error = web.sign_in.finish(&pending, &callback, FullDisk(MemoryStore::new())).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (TokenErrorKind::Store, "the disk is full"));
}

/// A store with a fault in its code.
#[derive(Debug)]
struct Broken(MemoryStore);

impl TokenStore for Broken {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.0.load()
    }

    fn save<'a>(&'a self, _tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        panic!("a fault of the store")
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        self.0.lock()
    }
}

#[tokio::test]
async fn a_store_that_panics_does_not_take_the_program_along() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let error = web.sign_in.finish(&pending, &callback, Broken(MemoryStore::new())).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let expected = "saving the sign-in was abandoned: its task panicked or its runtime stopped";
    assert_eq!(error.to_string(), expected);
}

/// A store whose disk is slow, with a permit for each save that may go on.
#[derive(Clone, Debug)]
struct SlowDisk {
    store: MemoryStore,
    begun: Arc<Semaphore>,
    permits: Arc<Semaphore>,
}

impl TokenStore for SlowDisk {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        self.store.load()
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        StoreFuture::new(async {
            self.begun.add_permits(1);
            self.permits.acquire().await.unwrap().forget();
            self.store.save(tokens).await
        })
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        self.store.lock()
    }
}

#[tokio::test]
async fn a_dropped_sign_in_is_saved_before_its_lock_is_free() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let callback = web.entra.approve(pending.url());
    let (begun, permits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let disk = SlowDisk { store: web.store.clone(), begun, permits };
    tokio::select! {
        result = web.sign_in.finish(&pending, &callback, disk.clone()) => panic!("{result:?}"),
        begun = disk.begun.acquire() => begun.unwrap().forget(),
    }
    disk.permits.add_permits(1);
    let _lock = web.store.lock().await.unwrap();
    let stored = web.store.load().await.unwrap().expect("the save was finished");
    assert_eq!(stored.refresh_token().expose_secret(), web.entra.refresh_token());
}

#[tokio::test]
async fn redirect_urls_and_clients_that_cannot_work_are_refused_at_once() {
    let web = Web::new().await;
    let app = web.entra.app().build().unwrap();
    for redirect in ["http://app.contoso.com/", "https://app.contoso.com/#part", "myapp://signed-in"] {
        let error = app.authorization_code(redirect.parse().unwrap()).start().unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Configuration, "{redirect}");
    }
    let client = smtp_oauth::oauth::Client::builder(web.entra.token_endpoint(), "id").build().unwrap();
    let error = client.authorization_code(REDIRECT.parse().unwrap()).start().unwrap_err();
    assert_eq!(error.to_string(), "the client has no authorization endpoint: nobody can sign in");
    let page: Url = "http://login.example/authorize".parse().unwrap();
    let client =
        smtp_oauth::oauth::Client::builder(web.entra.token_endpoint(), "id").authorization_endpoint(page);
    assert!(client.build().is_err());
}

#[tokio::test]
async fn the_fakes_page_can_be_clicked_through() {
    let web = Web::new().await;
    let pending = web.sign_in.start().unwrap();
    let page = web.entra.browse(pending.url()).await.unwrap();
    assert!(page.contains("Pick an account"), "{page}");
    let link = page.split("href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let response = web.entra.browse(&web.entra.authority().join(&link).unwrap()).await.unwrap();
    let location = response.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    web.finish(&pending, &location.parse().unwrap()).await.unwrap();
}

#[test]
fn the_futures_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    fn check(sign_in: &AuthorizationCode, pending: &PendingSignIn, store: &MemoryStore) {
        is_send(&sign_in.finish(pending, "", store.clone()));
        is_send(&sign_in.clone().listen());
    }
    let _check = check;
}

#[tokio::test]
async fn a_sign_in_begun_at_one_server_is_never_finished_at_another() {
    let (first, second) = (FakeEntra::start().await, FakeEntra::start().await);
    let redirect: Url = REDIRECT.parse().unwrap();
    let begun = first.app().build().unwrap().authorization_code(redirect.clone());
    let pending = begun.start().unwrap();
    let callback = first.approve(pending.url());
    let other = second.app().build().unwrap().authorization_code(redirect);
    let error = other.finish(&pending, callback.as_str(), MemoryStore::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert_eq!(error.to_string(), "the sign-in was begun with another client or server");
    assert_eq!(second.requests(), 0, "the code went nowhere");
    begun.finish(&pending, callback.as_str(), MemoryStore::new()).await.unwrap();
}
