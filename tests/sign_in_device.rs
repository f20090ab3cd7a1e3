//! Signing in with a code on another machine: the polling, its pace, its end, and what survives a dropped future.

use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::oauth::{DeviceEvent, DeviceSignIn, SignedIn};
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault};
use smtp_oauth::{MemoryStore, TokenError, TokenErrorKind, TokenStore, entra, oauth};

const SECOND: Duration = Duration::from_secs(1);

struct Device {
    manual: ManualClock,
    entra: FakeEntra,
    sign_in: DeviceSignIn,
    store: MemoryStore,
}

impl Device {
    async fn start() -> Self {
        let manual = ManualClock::new();
        let entra =
            FakeEntra::builder().clock(manual.clock()).token_length(100).public_client().start().await;
        let sign_in = entra.app().build().unwrap().device_code().start().await.unwrap();
        Self { manual, entra, sign_in, store: MemoryStore::new() }
    }

    async fn finish(&mut self) -> Result<SignedIn, TokenError> {
        self.manual.advance_until(SECOND, self.sign_in.finish(self.store.clone())).await
    }

    /// Lets time pass until something other than waiting happens.
    async fn news(&mut self) -> Option<DeviceEvent> {
        loop {
            match self.manual.advance_until(SECOND, self.sign_in.next_event()).await {
                Some(DeviceEvent::Waiting { .. }) => {}
                other => return other,
            }
        }
    }

    /// Lets the sign-in go on for a moment in which no time passes, and returns what happened, if anything did.
    async fn look(&mut self) -> Option<DeviceEvent> {
        tokio::time::timeout(Duration::from_millis(5), self.sign_in.next_event()).await.ok().flatten()
    }

    fn polls(&self) -> usize {
        self.entra.requests() - 1
    }
}

#[tokio::test]
async fn the_person_is_told_where_to_enter_which_code() {
    let device = Device::start().await;
    assert_eq!(device.sign_in.user_code(), "FAKE00001");
    assert_eq!(device.sign_in.verification_uri(), "https://microsoft.com/devicelogin");
    assert_eq!(device.sign_in.expires_at() - device.manual.clock().now(), time::Duration::minutes(15));
    assert!(device.sign_in.message().contains("enter the code FAKE00001"));
    let request = &device.entra.received()[0];
    assert_eq!(request.path, "/contoso.onmicrosoft.com/oauth2/v2.0/devicecode");
    assert_eq!(
        request.parameter("scope"),
        "https://outlook.office.com/SMTP.Send offline_access openid profile"
    );
    assert_eq!(request.parameter("client_id"), device.entra.client_id());
}

#[tokio::test]
async fn a_sign_in_ends_in_a_stored_refresh_token() {
    let mut device = Device::start().await;
    assert!(device.entra.approve_device(device.sign_in.user_code()));
    let signed_in = device.finish().await.unwrap();
    assert_eq!(signed_in.account(), Some("svc-mail@contoso.com"));
    let stored = device.store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), device.entra.refresh_token());
    assert_eq!(stored.account(), Some("svc-mail@contoso.com"));
    let poll = &device.entra.received()[1];
    assert_eq!(poll.parameter("grant_type"), "urn:ietf:params:oauth:grant-type:device_code");
    assert_eq!(poll.parameter("client_id"), device.entra.client_id());
    assert_eq!(poll.authorization, None);
}

#[tokio::test]
async fn a_confidential_client_proves_itself_at_each_poll() {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let mut sign_in = entra.app().build().unwrap().device_code().start().await.unwrap();
    entra.approve_device(sign_in.user_code());
    manual.advance(5 * SECOND);
    sign_in.finish(MemoryStore::new()).await.unwrap();
    assert_eq!(entra.received()[1].parameter("client_secret"), entra.client_secret().unwrap());
}

#[tokio::test]
async fn a_confidential_client_may_prove_itself_in_the_header() {
    let entra = FakeEntra::builder().client_id("id/1:2").client_secret("a+secret/=~").start().await;
    let endpoint = format!("{}/oauth2/v2.0/devicecode", entra.tenant());
    let client = oauth::Client::builder(entra.token_endpoint(), entra.client_id())
        .device_authorization_endpoint(entra.authority().join(&endpoint).unwrap())
        .authentication(oauth::ClientAuthentication::Basic(entra.client_secret().unwrap().into()));
    let scopes = ["https://outlook.office.com/SMTP.Send", "offline_access"];
    client.build().unwrap().device_code().scopes(scopes).start().await.unwrap();
    let request = &entra.received()[0];
    let authorization = request.authorization.as_deref().unwrap();
    // RFC 6749 §2.3.1: each part form-encoded, then joined: `id%2F1%3A2:a%2Bsecret%2F%3D%7E`.
    assert_eq!(authorization, "Basic aWQlMkYxJTNBMjphJTJCc2VjcmV0JTJGJTNEJTdF");
    assert!(!request.parameters.contains_key("client_secret"), "{request:?}");
}

#[tokio::test]
async fn an_assertion_that_cannot_be_had_ends_it_before_anybody_is_asked() {
    let public = FakeEntra::builder().public_client().start().await;
    let app = public.app().federated_token_file("/no/such/token").build().unwrap();
    let error = app.device_code().start().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert!(error.to_string().contains("/no/such/token"), "{error}");
    assert_eq!(public.requests(), 0);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_at_the_deadline() {
    let mut device = Device::start().await;
    device.entra.fail_next(1, TokenFault::Hang);
    let starting = device.entra.app().build().unwrap().device_code().start();
    let error = device.manual.advance_until(SECOND, starting).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "token endpoint did not answer the device code grant within 30 seconds");
    device.entra.fail_next(1, TokenFault::Hang);
    let Some(DeviceEvent::Retrying { error, .. }) = device.news().await else { panic!("no failure is told") };
    assert_eq!(error.to_string(), "token endpoint did not answer the device code grant within 30 seconds");
    // The person has not noticed anything.
    device.entra.approve_device(device.sign_in.user_code());
    device.finish().await.unwrap();
}

#[tokio::test]
async fn waiting_is_told_each_second_and_the_server_asked_each_five() {
    let mut device = Device::start().await;
    let mut remaining = Vec::new();
    for _ in 0..7 {
        match device.manual.advance_until(SECOND, device.sign_in.next_event()).await {
            Some(DeviceEvent::Waiting { remaining: left, .. }) => remaining.push(left.as_secs()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(remaining, [900, 899, 898, 897, 896, 895, 894]);
    while device.polls() == 0 {
        device.look().await;
    }
    assert_eq!(device.polls(), 1);
    device.entra.approve_device(device.sign_in.user_code());
    assert!(matches!(device.news().await, Some(DeviceEvent::Approved)));
    assert!(device.sign_in.next_event().await.is_none());
    device.sign_in.finish(device.store.clone()).await.unwrap();
    assert_eq!(device.polls(), 2);
}

#[tokio::test]
async fn slow_down_adds_five_seconds_for_good() {
    let mut device = Device::start().await;
    device.entra.slow_down_polls(2);
    for expected in [10, 15] {
        match device.news().await {
            Some(DeviceEvent::SlowedDown { interval, .. }) => assert_eq!(interval.as_secs(), expected),
            other => panic!("{other:?}"),
        }
    }
    let polls = device.polls();
    for _ in 0..14 {
        device.look().await;
        device.manual.advance(SECOND);
    }
    assert_eq!(device.polls(), polls, "not before 15 seconds have passed");
    device.entra.approve_device(device.sign_in.user_code());
    device.finish().await.unwrap();
}

#[tokio::test]
async fn a_person_who_declines_ends_it() {
    let mut device = Device::start().await;
    device.entra.deny_device(device.sign_in.user_code());
    assert!(device.news().await.is_none());
    for _ in 0..2 {
        let error = device.sign_in.finish(device.store.clone()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
        assert_eq!(error.server_answer().error.as_deref(), Some("authorization_declined"));
        assert_eq!(error.to_string(), "token endpoint refused the device code grant (AADSTS65004)");
    }
    assert_eq!(device.polls(), 1);
    assert!(device.store.load().await.unwrap().is_none());
}

#[tokio::test]
async fn a_code_that_nobody_enters_expires_here_and_there() {
    let mut device = Device::start().await;
    device.manual.advance(Duration::from_secs(900));
    let error = device.sign_in.finish(device.store.clone()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "nobody entered the code in time: start the sign-in again");
    assert_eq!(device.polls(), 0, "a code that has expired is not asked about");

    let mut device = Device::start().await;
    device.entra.expire_device_codes();
    let error = device.finish().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.server_answer().error.as_deref(), Some("expired_token"));
    assert!(entra::remedy(&error).unwrap().steps()[0].contains("start the sign-in again"));
}

#[tokio::test]
async fn failures_are_told_and_tolerated_but_not_five_in_a_row() {
    let mut device = Device::start().await;
    device.entra.fail_next(1, TokenFault::Html);
    device.entra.fail_next(1, TokenFault::ServerError500);
    device.entra.fail_next(1, TokenFault::ThrottledWithRetryAfter(40 * SECOND));
    for (expected, kind) in [
        (5, TokenErrorKind::InvalidResponse),
        (10, TokenErrorKind::Unavailable),
        (40, TokenErrorKind::Unavailable),
    ] {
        match device.news().await {
            Some(DeviceEvent::Retrying { error, after, .. }) => {
                assert_eq!((after.as_secs(), error.kind()), (expected, kind));
            }
            other => panic!("{other:?}"),
        }
    }
    // One answer sets the count back: four more failures do not end it.
    let polls = device.polls();
    device.manual.advance(40 * SECOND);
    while device.polls() == polls {
        assert!(!matches!(device.look().await, Some(DeviceEvent::Retrying { .. })));
    }
    while !matches!(device.look().await, Some(DeviceEvent::Waiting { .. })) {
        device.manual.advance(SECOND);
    }
    device.entra.fail_next(5, TokenFault::ServerError500);
    for _ in 0..4 {
        assert!(matches!(device.news().await, Some(DeviceEvent::Retrying { .. })));
    }
    assert!(device.news().await.is_none());
    let error = device.sign_in.finish(device.store.clone()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "token endpoint failed on the device code grant (HTTP 500)");
}

#[tokio::test]
async fn a_refusal_of_the_app_ends_it_at_once() {
    let mut device = Device::start().await;
    device.entra.fail_next(1, TokenFault::Aadsts(7_000_218));
    let error = device.finish().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ClientRefused);
    assert!(entra::remedy(&error).unwrap().steps()[0].contains("Allow public client flows"));
    assert_eq!(device.polls(), 1);
}

#[tokio::test]
async fn a_dropped_future_loses_no_answer() {
    let mut device = Device::start().await;
    device.entra.approve_device(device.sign_in.user_code());
    device.sign_in.next_event().await;
    device.manual.advance(5 * SECOND);
    // Dropped while the poll that brings the tokens is under way, which works once.
    for _ in 0..3 {
        let finish = device.sign_in.finish(device.store.clone());
        tokio::select! {
            biased;
            _ = finish => break,
            () = std::future::ready(()) => {}
        }
    }
    device.sign_in.finish(device.store.clone()).await.unwrap();
    assert_eq!(device.polls(), 1);
    // The tokens are kept until they are saved, and may be saved elsewhere too.
    let other = MemoryStore::new();
    device.sign_in.finish(other.clone()).await.unwrap();
    assert!(other.load().await.unwrap().is_some());
    assert_eq!(device.polls(), 1);
}

#[tokio::test]
async fn the_endpoint_that_gives_out_codes_may_fail_too() {
    let entra = FakeEntra::builder().public_client().start().await;
    let app = entra.app().build().unwrap();
    let cases = [
        (TokenFault::Html, TokenErrorKind::InvalidResponse),
        (TokenFault::Oversized, TokenErrorKind::InvalidResponse),
        (TokenFault::ServerError500, TokenErrorKind::Unavailable),
        (TokenFault::ThrottledWithRetryAfter(SECOND), TokenErrorKind::Unavailable),
        (TokenFault::Aadsts(700_016), TokenErrorKind::ClientRefused),
    ];
    for (fault, kind) in cases {
        entra.fail_next(1, fault.clone());
        assert_eq!(app.device_code().start().await.unwrap_err().kind(), kind, "{fault:?}");
    }
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    use smtp_oauth::oauth::{Client, HttpClient, HttpFuture, HttpRequest};

    #[derive(Debug)]
    struct Canned(&'static str);

    impl HttpClient for Canned {
        fn execute(&self, _request: HttpRequest) -> HttpFuture<'_> {
            let body = self.0.as_bytes().to_vec();
            let response = http::Response::builder().header("content-type", "application/json").body(body);
            HttpFuture::new(async { Ok(response.unwrap()) })
        }
    }

    let start = |body| async move {
        let endpoint: url::Url = "https://login.example/device".parse().unwrap();
        let client = Client::builder(endpoint.clone(), "id").device_authorization_endpoint(endpoint);
        let client = client.http_client(std::sync::Arc::new(Canned(body))).build().unwrap();
        client.device_code().scopes(["https://mail.google.com/"]).start().await
    };
    let sign_in = start(
        r#"{"device_code":"d","user_code":"u","verification_url":"https://google.com/device","expires_in":18446744073709551615}"#,
    );
    let sign_in = sign_in.await.unwrap();
    assert_eq!(sign_in.message(), "To sign in, open https://google.com/device and enter the code u.");
    for body in [
        r#"{"device_code":"","user_code":"u","verification_uri":"https://a.example","expires_in":1}"#,
        r#"{"device_code":"d","user_code":"u\u001b[2J","verification_uri":"https://a.example","expires_in":1}"#,
        r#"{"device_code":"d","user_code":"u","verification_uri":"http://a.example","expires_in":1}"#,
        r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example/\u001b[2J","expires_in":1}"#,
        r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example"}"#,
        "[]",
    ] {
        assert_eq!(start(body).await.unwrap_err().kind(), TokenErrorKind::InvalidResponse, "{body}");
    }
}

#[tokio::test]
async fn a_missing_permission_and_a_wrong_id_token_are_not_saved() {
    for fault in [TokenFault::LessScope, TokenFault::OtherAudience, TokenFault::NoRefreshToken] {
        let mut device = Device::start().await;
        device.entra.approve_device(device.sign_in.user_code());
        device.entra.fail_next(1, fault);
        device.finish().await.unwrap_err();
        assert!(device.store.load().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn no_secret_is_shown() {
    let mut device = Device::start().await;
    let before = format!("{:?}", device.sign_in);
    device.entra.fail_next(1, TokenFault::EchoesRequest);
    let error = device.finish().await.unwrap_err();
    let shown = format!("{before} {error:?} {:?}", device.sign_in);
    for secret in device.entra.codes().into_iter().chain([device.sign_in.user_code().to_owned()]) {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
}

#[test]
fn the_futures_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    fn is_public<T: Send + Sync + std::fmt::Debug>() {}
    fn check(sign_in: &mut DeviceSignIn, app: &entra::App, store: &MemoryStore) {
        is_send(&app.device_code().start());
        is_send(&sign_in.next_event());
        is_send(&sign_in.finish(store.clone()));
    }
    let _check = check;
    is_public::<DeviceSignIn>();
}
