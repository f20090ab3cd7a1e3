//! Every way in which a token endpoint fails has its kind, its words, and no secret in them.

mod support;

use std::time::Duration;

use smtp_oauth::oauth::ClientAuthentication;
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault};
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{
    AccessToken, Clock, Error, MemoryStore, TokenError, TokenErrorKind, TokenProvider, TokenRequest, oauth,
};
use support::closed_port::ClosedPort;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const GRANT: &str = "the refresh token grant";

/// Asks once while the fake fails in this way.
async fn failure(fault: TokenFault) -> (FakeEntra, TokenError) {
    let entra = FakeEntra::builder().clock(ManualClock::new().clock()).start().await;
    entra.fail_next(1, fault);
    let cache = entra.app().build().unwrap().refresh_token(entra.store());
    let error = cache.token(TokenRequest::new()).await.unwrap_err();
    assert_holds_no_secret(&entra, &error);
    (entra, error)
}

/// Asks while the fake fails `times` in this way; time passes, by `step` every few milliseconds.
async fn answer_in_time(
    (fault, times): (TokenFault, usize),
    deadline: Duration,
    step: Duration,
) -> (FakeEntra, Result<AccessToken, TokenError>) {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).token_lifetime(2 * deadline).start().await;
    entra.fail_next(times, fault);
    let cache = entra
        .app()
        .deadline(deadline)
        .build()
        .unwrap()
        .refresh_token(entra.store())
        .fetch_deadline(2 * deadline);
    let result = manual.advance_until(step, cache.token(TokenRequest::new())).await;
    if let Err(error) = &result {
        assert_holds_no_secret(&entra, error);
    }
    (entra, result)
}

fn assert_holds_no_secret(entra: &FakeEntra, error: &TokenError) {
    let mut shown = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        shown += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    let secrets = entra.refresh_tokens().into_iter().chain(entra.tokens().all()).chain(entra.client_secret());
    for secret in secrets {
        assert!(!shown.contains(&secret), "{shown}");
    }
    // Not even the beginning of a token that broke off.
    assert!(!shown.contains("EwB-fake"), "{shown}");
}

#[tokio::test]
async fn every_fault_has_its_kind_and_its_words() {
    use TokenErrorKind::{ClientRefused, InvalidResponse, RequestRefused, SignInRequired, Unavailable};
    use TokenFault::*;
    let aadsts = |error, code| AadstsAs { error, code };
    let refused = |what: &str| format!("token endpoint refused {GRANT} ({what})");
    let answered = |what: &str| format!("token endpoint answered {GRANT} with {what}");
    let cases = [
        (Aadsts(70_008), SignInRequired, refused("AADSTS70008")),
        (Aadsts(50_076), SignInRequired, refused("AADSTS50076")),
        (Aadsts(65_001), SignInRequired, refused("AADSTS65001")),
        (aadsts("consent_required", 65_001), SignInRequired, refused("AADSTS65001")),
        (aadsts("login_required", 50_058), SignInRequired, refused("AADSTS50058")),
        (Aadsts(7_000_215), ClientRefused, refused("AADSTS7000215")),
        (Aadsts(7_000_222), ClientRefused, refused("AADSTS7000222")),
        (Aadsts(700_016), ClientRefused, refused("AADSTS700016")),
        (Aadsts(70_011), RequestRefused, refused("AADSTS70011")),
        (Aadsts(90_002), RequestRefused, refused("AADSTS90002")),
        (aadsts("invalid_resource", 500_011), RequestRefused, refused("AADSTS500011")),
        (RefusalWithStatus200(70_008), SignInRequired, refused("AADSTS70008")),
        // Entra calls a loop of requests `invalid_grant`; a new sign-in would not end it.
        (Aadsts(50_196), Unavailable, refused("AADSTS50196")),
        (aadsts("temporarily_unavailable", 90_033), Unavailable, refused("AADSTS90033")),
        (EchoesRequest, RequestRefused, refused("AADSTS900144")),
        (Html, InvalidResponse, answered("`text/html` instead of JSON (HTTP 200)")),
        (Oversized, InvalidResponse, answered("more than 1 MiB")),
        (Redirect, InvalidResponse, answered("a redirect (HTTP 302)")),
        (MalformedJson, InvalidResponse, answered("JSON that is not a token (at `access_token`) (HTTP 200)")),
        (ExpiresInString, InvalidResponse, answered("JSON that is not a token (at `expires_in`) (HTTP 200)")),
        (TokenWithLineBreak, InvalidResponse, answered("a token that cannot be used (HTTP 200)")),
    ];
    for (fault, kind, message) in cases {
        let (entra, error) = failure(fault.clone()).await;
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        assert_eq!(error.to_string(), message, "{fault:?}");
        assert_eq!(entra.requests(), 1, "{fault:?} is not repeated");
        assert_eq!(error.retry_after(), None, "{fault:?}");
    }
}

#[tokio::test]
async fn what_entra_said_is_kept() {
    let (_entra, error) = failure(TokenFault::Aadsts(7_000_215)).await;
    let answer = error.server_answer();
    assert_eq!(answer.status, Some(401));
    assert_eq!(answer.error.as_deref(), Some("invalid_client"));
    assert_eq!(answer.codes, [7_000_215]);
    assert!(answer.description.as_deref().unwrap().starts_with("AADSTS7000215: Invalid client secret"));
    assert_eq!(answer.correlation_id.as_deref(), Some("73f06b0b-33b4-4ee0-83ea-000000000001"));
    assert_eq!(answer.trace_id.as_deref(), Some("b72a68c3-0926-4b8e-bc35-000000000001"));
    assert_eq!(answer.timestamp.as_deref(), Some("2026-01-01 00:00:00Z"));
    let (_entra, error) = failure(TokenFault::Aadsts(50_076)).await;
    assert_eq!(error.server_answer().suberror.as_deref(), Some("basic_action"));
}

#[tokio::test]
async fn throttling_is_not_repeated_and_says_how_long_to_wait() {
    let wait = Duration::from_secs(60);
    let (entra, error) = failure(TokenFault::ThrottledWithRetryAfter(wait)).await;
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("token endpoint is throttling {GRANT} (HTTP 429)"));
    assert_eq!(error.retry_after(), Some(wait));
    assert_eq!(error.server_answer().codes, [90_055]);
    assert_eq!(entra.requests(), 1);

    let (entra, error) = failure(TokenFault::UnavailableWithRetryAfter(wait)).await;
    assert_eq!(error.to_string(), format!("token endpoint failed on {GRANT} (HTTP 503)"));
    assert_eq!(error.retry_after(), Some(wait));
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn a_server_error_is_tried_three_times_and_is_no_refusal() {
    let (entra, result) = answer_in_time((TokenFault::ServerError500, 3), HOUR, SECOND).await;
    let error = result.unwrap_err();
    // The body says `invalid_grant`; a server in trouble proves nothing about the refresh token.
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("token endpoint failed on {GRANT} (HTTP 500)"));
    assert_eq!(error.server_answer().status, Some(500));
    assert_eq!(entra.requests(), 3);
}

#[tokio::test]
async fn a_server_error_that_passes_is_not_noticed() {
    let (entra, result) = answer_in_time((TokenFault::ServerError500, 2), HOUR, SECOND).await;
    result.unwrap();
    assert_eq!(entra.requests(), 3);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_at_the_deadline() {
    let (_entra, result) = answer_in_time((TokenFault::Hang, 1), 30 * SECOND, SECOND).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("token endpoint did not answer {GRANT} within 30 seconds"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let closed = ClosedPort::bind();
    let authority = url::Url::parse(&format!("http://127.0.0.1:{}/", closed.port())).unwrap();
    let app = entra.app().authority(authority).deadline(HOUR).build().unwrap();
    let cache = app.refresh_token(entra.store()).fetch_deadline(HOUR);
    let error = manual.advance_until(SECOND, cache.token(TokenRequest::new())).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "token endpoint at 127.0.0.1 cannot be reached");
    assert_holds_no_secret(&entra, &error);
}

#[tokio::test]
async fn wrong_settings_are_refused_as_entra_refuses_them() {
    let entra = FakeEntra::start().await;
    let other_id = "00000000-1111-4222-8333-444444444444";
    let tenant = || smtp_oauth::entra::Tenant::parse(&entra.tenant()).unwrap();
    let wrong_tenant = smtp_oauth::entra::Tenant::parse("fabrikam.com").unwrap();
    let app = |tenant, id: &str, secret: &str| {
        let app = smtp_oauth::entra::App::builder(tenant, id).authority(entra.authority());
        if secret.is_empty() { app } else { app.client_secret(secret) }
    };
    let (id, secret) = (entra.client_id(), entra.client_secret().unwrap());
    let cases = [
        (app(tenant(), &id, "wrong"), TokenErrorKind::ClientRefused, 7_000_215),
        (app(tenant(), &id, ""), TokenErrorKind::ClientRefused, 7_000_218),
        (app(tenant(), other_id, &secret), TokenErrorKind::ClientRefused, 700_016),
        (app(wrong_tenant, &id, &secret), TokenErrorKind::RequestRefused, 90_002),
    ];
    for (app, kind, code) in cases {
        let cache = app.build().unwrap().refresh_token(entra.store());
        let error = cache.token(TokenRequest::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.server_answer().codes.as_slice()), (kind, [code].as_slice()));
        assert!(smtp_oauth::entra::remedy(&error).is_some(), "{code}");
    }
}

#[tokio::test]
async fn an_http_client_of_ones_own_is_bounded_too() {
    #[derive(Debug)]
    struct Endless;
    impl oauth::HttpClient for Endless {
        fn execute(&self, _request: oauth::HttpRequest) -> oauth::HttpFuture<'_> {
            oauth::HttpFuture::new(async { Ok(http::Response::new(vec![b' '; 2 * 1024 * 1024])) })
        }
    }
    let entra = FakeEntra::start().await;
    let app = entra.app().http_client(std::sync::Arc::new(Endless)).build().unwrap();
    let error = app.refresh_token(entra.store()).token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    assert_eq!(error.to_string(), format!("token endpoint answered {GRANT} with more than 1 MiB"));
}

/// Answers everybody the same.
#[derive(Clone, Debug)]
struct Canned {
    status: u16,
    retry_after: Option<&'static str>,
    body: String,
}

impl oauth::HttpClient for Canned {
    fn execute(&self, _request: oauth::HttpRequest) -> oauth::HttpFuture<'_> {
        let mut response =
            http::Response::builder().status(self.status).header("content-type", "application/json");
        if let Some(wait) = self.retry_after {
            response = response.header("retry-after", wait);
        }
        let response = response.body(self.body.clone().into_bytes()).unwrap();
        oauth::HttpFuture::new(async { Ok(response) })
    }
}

async fn canned(status: u16, retry_after: Option<&'static str>, body: String) -> TokenError {
    let entra = FakeEntra::start().await;
    let http = std::sync::Arc::new(Canned { status, retry_after, body });
    let app = entra.app().http_client(http).build().unwrap();
    app.refresh_token(entra.store()).token(TokenRequest::new()).await.unwrap_err()
}

#[tokio::test]
async fn a_refusal_that_passes_says_how_long_to_wait_and_one_that_stays_does_not() {
    let wait = Some("60");
    let error = canned(400, wait, r#"{"error":"temporarily_unavailable"}"#.to_owned()).await;
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(error.to_string(), format!("token endpoint refused {GRANT} (temporarily_unavailable)"));
    let error = canned(400, wait, r#"{"error":"invalid_grant"}"#.to_owned()).await;
    assert_eq!((error.kind(), error.retry_after()), (TokenErrorKind::SignInRequired, None));
}

#[tokio::test]
async fn an_endless_description_is_cut_between_its_characters() {
    let body = serde_json::json!({"error": "invalid_grant", "error_description": "ä".repeat(3000)});
    let error = canned(400, None, body.to_string()).await;
    assert_eq!(error.server_answer().description.as_deref(), Some("ä".repeat(2000).as_str()));
}

#[tokio::test]
async fn a_token_that_is_no_bearer_token_is_refused() {
    let body = r#"{"access_token":"a-secret","token_type":"mac","expires_in":3600}"#;
    let error = canned(200, None, body.to_owned()).await;
    assert_eq!(error.kind(), TokenErrorKind::InvalidResponse);
    let expected = format!("token endpoint answered {GRANT} with a token that is no bearer token (HTTP 200)");
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("a-secret"), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_is_lost_and_an_http_client_that_gives_up_are_temporary() {
    #[derive(Debug)]
    struct Impatient;
    impl oauth::HttpClient for Impatient {
        fn execute(&self, _request: oauth::HttpRequest) -> oauth::HttpFuture<'_> {
            let error = oauth::HttpError::new(oauth::HttpErrorKind::Timeout, "it took too long");
            oauth::HttpFuture::new(async { Err(error) })
        }
    }
    let entra = FakeEntra::start().await;
    let app = entra.app().http_client(std::sync::Arc::new(Impatient)).build().unwrap();
    let error = app.refresh_token(entra.store()).token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("token endpoint did not answer {GRANT} in time"));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hanging_up = tokio::spawn(async move {
        // Reads the request first, so that it is a lost connection and not a refused one.
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await.unwrap();
        drop(stream);
        listener // Kept, so that whoever repeats the request would be seen to.
    });
    let authority = url::Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let app = entra.app().authority(authority).build().unwrap();
    let error = app.refresh_token(entra.store()).token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("connection to the token endpoint was lost during {GRANT}"));
    assert_holds_no_secret(&entra, &error);
    // It may have rotated the refresh token: the same request is not sent again.
    let listener = hanging_up.await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(again.is_err(), "{again:?}");
}

const CLIENT_SECRET: &str = "Abc8Q~s3cr3t+of/the=app~~";
const REFRESH_TOKEN: &str = "1.AR8A/refresh+tok~en==";

/// Asks `http`, or the fake's endpoint, with secrets that look different in every encoding.
async fn echoed(
    entra: &FakeEntra,
    authentication: ClientAuthentication,
    http: Option<std::sync::Arc<dyn oauth::HttpClient>>,
) -> TokenError {
    let client =
        oauth::Client::builder(entra.token_endpoint(), entra.client_id()).authentication(authentication);
    let client = http.into_iter().fold(client, oauth::ClientBuilder::http_client).build().unwrap();
    let store = MemoryStore::from(StoredTokens::new(REFRESH_TOKEN, Clock::system().now()));
    client.refresh_token(store, ["scope"]).token(TokenRequest::new()).await.unwrap_err()
}

#[track_caller]
fn assert_holds_no_echo(error: &TokenError) {
    let shown = format!("{error:?} {:?}", Error::from(error.clone()));
    assert!(shown.contains("[redacted]"), "{shown}");
    // `aWQ6` and `QWJj` are how `id:` and `Abc` begin in base64.
    let parts =
        ["Abc8Q", "s3cr3t", "the=app", "AR8A", "tok~en", "tok%7", "refresh%", "refresh+", "QWJj", "Basic N"];
    for part in parts {
        assert!(!shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn an_echo_of_the_request_is_redacted_as_it_was_encoded() {
    let entra = FakeEntra::start().await;
    for authentication in
        [ClientAuthentication::Post(CLIENT_SECRET.into()), ClientAuthentication::Basic(CLIENT_SECRET.into())]
    {
        entra.fail_next(1, TokenFault::EchoesRequest);
        let error = echoed(&entra, authentication, None).await;
        let description = error.server_answer().description.as_deref().unwrap();
        assert!(description.contains("refresh_token=[redacted]"), "{description}");
        assert_holds_no_echo(&error);
    }
}

#[tokio::test]
async fn an_echo_is_redacted_wherever_it_is() {
    #[derive(Debug)]
    struct Parrot(&'static str);
    impl oauth::HttpClient for Parrot {
        fn execute(&self, request: oauth::HttpRequest) -> oauth::HttpFuture<'_> {
            let authorization = request.headers().get("authorization");
            let authorization = authorization.map(|value| value.to_str().unwrap()).unwrap_or_default();
            let echo = format!("{} {authorization}", String::from_utf8_lossy(request.body()));
            let fields = [
                "error",
                "error_description",
                "suberror",
                "correlation_id",
                "trace_id",
                "timestamp",
                "claims",
            ];
            let body: serde_json::Map<_, _> =
                fields.into_iter().map(|field| (field.to_owned(), echo.clone().into())).collect();
            let mut response = http::Response::new(serde_json::to_vec(&body).unwrap());
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            let content_type = if self.0.is_empty() { echo.as_str() } else { self.0 };
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            oauth::HttpFuture::new(async { Ok(response) })
        }
    }
    let entra = FakeEntra::start().await;
    for content_type in ["application/json", ""] {
        for authentication in [
            ClientAuthentication::Post(CLIENT_SECRET.into()),
            ClientAuthentication::Basic(CLIENT_SECRET.into()),
        ] {
            let parrot = std::sync::Arc::new(Parrot(content_type));
            let error = echoed(&entra, authentication, Some(parrot)).await;
            assert_eq!(error.server_answer().claims.is_some(), !content_type.is_empty());
            assert_holds_no_echo(&error);
        }
    }
}
