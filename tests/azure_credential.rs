//! Mail is sent with tokens of an Azure credential; its cache and its failures are what the Azure SDK's are.
#![cfg(feature = "azure")]

mod support;

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind as AzureErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{RawResponse, StatusCode};
use smtp_oauth::entra::AzureCredential;
use smtp_oauth::testing::{FakeExchange, IssuedTokens, ManualClock};
use smtp_oauth::{
    Authentication, Clock, Cloud, Disposition, ErrorKind, Mailer, Mailers, RetryPolicy, TokenCache,
    TokenErrorKind, TokenProvider, TokenRequest,
};
use support::{ACCOUNT, HOUR, message, settings};
use time::OffsetDateTime;

const SCOPE: &str = "https://outlook.office365.com/.default";

/// Keeps its token until five minutes before the expiry, as the credentials of `azure_identity` do.
struct Identity {
    clock: Clock,
    tokens: IssuedTokens,
    held: Mutex<Option<AccessToken>>,
    /// Requests of all credentials of this identity.
    requests: Arc<AtomicUsize>,
    scopes: Mutex<Vec<String>>,
}

impl Identity {
    fn new(server: &FakeExchange, clock: Clock, requests: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            tokens: server.tokens().clone(),
            held: Mutex::default(),
            requests: requests.clone(),
            scopes: Mutex::default(),
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity { secret: \"indiscreet\" }")
    }
}

#[async_trait::async_trait]
impl TokenCredential for Identity {
    async fn get_token(
        &self,
        scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.scopes.lock().unwrap().extend(scopes.iter().map(|scope| (*scope).to_owned()));
        let now = self.clock.now();
        let mut held = self.held.lock().unwrap();
        if let Some(token) = held.as_ref().filter(|token| token.expires_on > now + Duration::from_secs(300)) {
            return Ok(token.clone());
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let token = AccessToken::new(self.tokens.issue(ACCOUNT, HOUR, 1800), now + HOUR);
        Ok(held.insert(token).clone())
    }
}

/// Fails as often as it is asked.
#[derive(Debug)]
struct Failing(fn() -> azure_core::Error);

#[async_trait::async_trait]
impl TokenCredential for Failing {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Err(self.0())
    }
}

fn mailer(server: &FakeExchange, provider: AzureCredential) -> Mailer {
    Mailer::builder(settings(server).build().unwrap())
        .authentication(Authentication::oauth(provider))
        .retry(RetryPolicy::never())
        .build()
        .unwrap()
}

#[tokio::test]
async fn mail_is_sent_with_the_credential_s_token() {
    let server = FakeExchange::start().await;
    let requests = Arc::default();
    let identity = Identity::new(&server, Clock::system(), &requests);
    let provider = AzureCredential::new(identity.clone());
    assert!(!format!("{provider:?}").contains("indiscreet"), "{provider:?}");
    let mailer = mailer(&server, provider);
    for _ in 0..3 {
        mailer.submit(&message()).await.unwrap();
    }
    mailer.verify().await.unwrap();
    assert_eq!((server.message_count(), requests.load(Ordering::SeqCst)), (3, 1));
    assert_eq!(*identity.scopes.lock().unwrap(), [SCOPE], "the token is cached here, too");
}

#[tokio::test]
async fn the_cloud_chooses_the_scope() {
    let server = FakeExchange::start().await;
    let requests = Arc::default();
    let identity = Identity::new(&server, Clock::system(), &requests);
    for cloud in [Cloud::Public, Cloud::UsGovernment, Cloud::UsGovernmentDod, Cloud::China] {
        let provider = AzureCredential::new(identity.clone()).cloud(cloud);
        provider.token(TokenRequest::new()).await.unwrap();
    }
    let provider = AzureCredential::new(identity.clone()).scope("https://example.com/.default");
    provider.token(TokenRequest::new()).await.unwrap();
    let expected = [
        SCOPE,
        "https://outlook.office365.us/.default",
        "https://outlook-dod.office365.us/.default",
        "https://partner.outlook.cn/.default",
        "https://example.com/.default",
    ];
    assert_eq!(*identity.scopes.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_token_is_replaced_in_time_although_the_credential_keeps_it() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let requests = Arc::default();
    let identity = Identity::new(&server, manual.clock(), &requests);
    let cache = TokenCache::new(AzureCredential::new(identity.clone())).clock(manual.clock());
    let mut least = HOUR;
    for _ in 0..6 * 60 * 6 {
        let token = cache.token(TokenRequest::new()).await.unwrap();
        let left: Duration = (token.expires_at() - manual.clock().now()).try_into().unwrap();
        assert!(left <= HOUR, "the expiry is the credential's");
        least = least.min(left);
        manual.advance(Duration::from_secs(10));
    }
    assert!(least >= Duration::from_secs(120), "{least:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 7, "one for each 57 minutes of six hours");
    // The credential is asked a few times more around each expiry, and not for each message.
    let asked = identity.scopes.lock().unwrap().len();
    assert!(asked <= 30, "{asked}");
}

#[tokio::test]
async fn a_refused_token_leads_to_a_new_request_where_the_credential_can_be_renewed() {
    let server = Arc::new(FakeExchange::start().await);
    let requests = Arc::<AtomicUsize>::default();
    let make = {
        let (server, requests) = (server.clone(), requests.clone());
        move || -> azure_core::Result<Arc<dyn TokenCredential>> {
            Ok(Identity::new(&server, Clock::system(), &requests))
        }
    };
    let mailer = mailer(&server, AzureCredential::new(make().unwrap()).renewed_by(make));
    mailer.submit(&message()).await.unwrap();
    for expected in 2..4 {
        server.tokens().revoke_all();
        server.close_connections(None).await;
        mailer.submit(&message()).await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), expected);
    }
    assert_eq!(server.message_count(), 3);
}

#[tokio::test]
async fn a_refused_token_that_the_credential_keeps_is_reported_as_the_server_s_refusal() {
    let server = FakeExchange::start().await;
    let requests = Arc::default();
    let mailer = mailer(&server, AzureCredential::new(Identity::new(&server, Clock::system(), &requests)));
    mailer.submit(&message()).await.unwrap();
    server.tokens().revoke_all();
    server.close_connections(None).await;
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::AuthenticationRefused, Disposition::FixConfiguration)
    );
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "the provider returned the token that the mail server just refused");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_renewal_that_fails_says_why() {
    let server = FakeExchange::start().await;
    let requests = Arc::default();
    let identity = Identity::new(&server, Clock::system(), &requests);
    let provider = AzureCredential::new(identity)
        .renewed_by(|| Err(azure_core::Error::with_message(AzureErrorKind::Credential, "no identity here")));
    let mailer = mailer(&server, provider);
    mailer.submit(&message()).await.unwrap();
    server.tokens().revoke_all();
    server.close_connections(None).await;
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenRefused);
    assert_eq!(error.source().unwrap().to_string(), "no identity here");
}

/// What `azure_identity` makes of an answer: the response in an error of its own, and the credential's around it.
fn refused(status: StatusCode, retry_after: Option<&'static str>, body: &'static str) -> azure_core::Error {
    let mut headers = Headers::new();
    if let Some(value) = retry_after {
        headers.insert("retry-after", value);
    }
    let raw_response = Some(Box::new(RawResponse::from_bytes(status, headers, body)));
    let kind = AzureErrorKind::HttpResponse { status, error_code: None, raw_response };
    let inner = azure_core::Error::new(kind, "AADSTS: something");
    azure_core::Error::with_error(
        AzureErrorKind::Credential,
        inner,
        "ClientSecretCredential authentication failed. AADSTS: something",
    )
}

/// What the SDK says; what that comes to, as kind, text and seconds to wait.
type Case = (fn() -> azure_core::Error, TokenErrorKind, &'static str, Option<u64>);

#[tokio::test]
async fn every_failure_says_whose_move_it_is() {
    use azure_core::Error;
    const WRONG_SECRET: &str = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215],"correlation_id":"9e7fa4b5"}"#;
    const MISSING_APP: &str = r#"{"error":"unauthorized_client","error_description":"AADSTS700016: not found","error_codes":[700016]}"#;
    const NOT_A_SECRET: &str = "the request was refused at the moment";
    let cases: [Case; 12] = [
        (
            || refused(StatusCode::Unauthorized, None, WRONG_SECRET),
            TokenErrorKind::ClientRefused,
            "the token request of the Azure credential was refused (AADSTS7000215)",
            None,
        ),
        (
            || refused(StatusCode::BadRequest, None, MISSING_APP),
            TokenErrorKind::ClientRefused,
            "the token request of the Azure credential was refused (AADSTS700016)",
            None,
        ),
        (
            || refused(StatusCode::BadRequest, None, r#"{"error":"invalid_scope"}"#),
            TokenErrorKind::RequestRefused,
            "the token request of the Azure credential was refused (invalid_scope)",
            None,
        ),
        (
            || refused(StatusCode::BadRequest, None, "Identity not found"),
            TokenErrorKind::RequestRefused,
            "the token request of the Azure credential was refused (HTTP 400)",
            None,
        ),
        (
            || refused(StatusCode::TooManyRequests, Some("17"), "{}"),
            TokenErrorKind::Unavailable,
            "the token request of the Azure credential was refused (HTTP 429)",
            Some(17),
        ),
        (
            || refused(StatusCode::ServiceUnavailable, Some("9999999"), ""),
            TokenErrorKind::Unavailable,
            "the token request of the Azure credential was refused (HTTP 503)",
            Some(86_400),
        ),
        (
            || refused(StatusCode::Gone, None, ""),
            TokenErrorKind::Unavailable,
            "the token request of the Azure credential was refused (HTTP 410)",
            None,
        ),
        (
            || Error::with_message(AzureErrorKind::Connection, "connection refused"),
            TokenErrorKind::Unavailable,
            "the Azure credential cannot get a token at the moment",
            None,
        ),
        (
            || {
                let io = Error::new(AzureErrorKind::Io, std::io::Error::other("reset"));
                Error::with_error(
                    AzureErrorKind::Credential,
                    io,
                    "ManagedIdentityCredential authentication failed.",
                )
            },
            TokenErrorKind::Unavailable,
            "the Azure credential cannot get a token at the moment",
            None,
        ),
        (
            || Error::with_message(AzureErrorKind::Other, NOT_A_SECRET),
            TokenErrorKind::Unavailable,
            "the Azure credential cannot get a token at the moment",
            None,
        ),
        (
            || Error::with_message(AzureErrorKind::DataConversion, "expected value at line 1 column 1"),
            TokenErrorKind::InvalidResponse,
            "the Azure credential was given something that is no token",
            None,
        ),
        (
            || Error::with_message(AzureErrorKind::Credential, "Azure CLI not found on PATH"),
            TokenErrorKind::Configuration,
            "the Azure credential cannot get a token here",
            None,
        ),
    ];
    for (make, kind, text, seconds) in cases {
        let provider = AzureCredential::new(Arc::new(Failing(make)));
        let error = provider.token(TokenRequest::new()).await.unwrap_err();
        let found = (error.kind(), error.to_string(), error.retry_after());
        assert_eq!(found, (kind, text.to_owned(), seconds.map(Duration::from_secs)), "{:?}", make());
        let said = error.source().unwrap().to_string();
        assert!(make().to_string().contains(&said) || said.contains(&make().to_string()), "{said}");
    }
    let wrong = Failing(|| refused(StatusCode::Unauthorized, None, WRONG_SECRET));
    let error = AzureCredential::new(Arc::new(wrong)).token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.server_answer().correlation_id.as_deref(), Some("9e7fa4b5"));
    assert!(smtp_oauth::entra::remedy(&error).unwrap().summary().contains("secret"));
}

#[tokio::test]
async fn a_failure_shows_no_secret_and_keeps_to_one_line() {
    let leaky = Failing(|| {
        let assertion = "eyJhbGciOiJQUzI1NiJ9.".repeat(10);
        let body = format!("{{\"error\":\"x\",\"access_token\":\"{assertion}\"}}").into_bytes();
        let status = StatusCode::BadRequest;
        let raw_response = Some(Box::new(RawResponse::from_bytes(status, Headers::new(), body)));
        let kind = AzureErrorKind::HttpResponse { status, error_code: None, raw_response };
        azure_core::Error::with_message(
            kind,
            format!("refused\r\n client_assertion: {assertion} \u{1b}[31mred"),
        )
    });
    let server = FakeExchange::start().await;
    let error = mailer(&server, AzureCredential::new(Arc::new(leaky))).verify().await.unwrap_err();
    let shown = format!("{error:#} {error:?}");
    assert!(!shown.contains("eyJ"), "{shown}");
    let said = error.source().unwrap().to_string();
    assert_eq!(said, "refused client_assertion: [redacted] [31mred");
}

#[tokio::test]
async fn a_malformed_token_is_refused() {
    #[derive(Debug)]
    struct Malformed;
    #[async_trait::async_trait]
    impl TokenCredential for Malformed {
        async fn get_token(
            &self,
            _scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            Ok(AccessToken::new("a\r\nQUIT", OffsetDateTime::UNIX_EPOCH))
        }
    }
    let error = AzureCredential::new(Arc::new(Malformed)).token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::InvalidToken);
}

#[tokio::test]
async fn one_identity_sends_from_many_mailboxes() {
    let server = FakeExchange::start().await;
    let requests = Arc::default();
    let identity = Identity::new(&server, Clock::system(), &requests);
    let mailers = Mailers::builder(settings(&server).build().unwrap())
        .authentication(Authentication::oauth(AzureCredential::new(identity)))
        .build()
        .unwrap();
    for name in ["a@contoso.com", "b@contoso.com"] {
        server.tokens().grant_access(ACCOUNT, name);
        mailers.mailbox(name).unwrap().send_test().await.unwrap();
    }
    assert_eq!((server.message_count(), requests.load(Ordering::SeqCst)), (2, 1));
}
