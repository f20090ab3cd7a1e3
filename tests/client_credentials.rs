//! An app signs in as itself, by secret, certificate or federated token; every refusal says whose move it is.

use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::entra::{self, Tenant};
use smtp_oauth::oauth::{self, ClientAuthentication};
use smtp_oauth::testing::{FakeEntra, ManualClock, TokenFault, TokenVerdict};
use smtp_oauth::{AccessToken, Cloud, TokenCache, TokenError, TokenErrorKind, TokenProvider, TokenRequest};

const SCOPE: &str = "https://outlook.office365.com/.default";

async fn token(cache: &TokenCache) -> Result<AccessToken, TokenError> {
    cache.token(TokenRequest::new()).await
}

#[tokio::test]
async fn the_request_is_what_entra_documents() {
    let entra = FakeEntra::start().await;
    let token = token(&entra.app().build().unwrap().client_credentials()).await.unwrap();
    let received = entra.received();
    assert_eq!(received[0].path, "/contoso.onmicrosoft.com/oauth2/v2.0/token");
    assert_eq!(received[0].parameter("grant_type"), "client_credentials");
    assert_eq!(received[0].parameter("scope"), SCOPE);
    assert_eq!(received[0].parameter("client_id"), entra.client_id());
    assert_eq!(received[0].parameter("client_secret"), entra.client_secret().unwrap());
    assert_eq!(received[0].authorization, None);
    let verdict = entra.tokens().verdict(token.secret().expose_secret());
    assert_eq!(verdict, TokenVerdict::Valid(entra.account()));
    assert!(entra.refresh_tokens().is_empty());
}

#[tokio::test]
async fn the_cloud_chooses_the_resource() {
    let expected = [
        (Cloud::Public, SCOPE),
        (Cloud::UsGovernment, "https://outlook.office365.us/.default"),
        (Cloud::UsGovernmentDod, "https://outlook-dod.office365.us/.default"),
        (Cloud::China, "https://partner.outlook.cn/.default"),
    ];
    let entra = FakeEntra::start().await;
    for (cloud, scope) in expected {
        token(&entra.app().cloud(cloud).build().unwrap().client_credentials()).await.unwrap();
        assert_eq!(entra.received().last().unwrap().parameter("scope"), scope);
    }
}

#[tokio::test]
async fn a_token_is_cached_until_it_is_about_to_expire() {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let cache = entra.app().build().unwrap().client_credentials();
    let first = token(&cache).await.unwrap();
    manual.advance(Duration::from_secs(60 * 60));
    assert!(token(&cache).await.unwrap().is_same(&first));
    manual.advance(Duration::from_secs(11 * 60));
    assert!(!token(&cache).await.unwrap().is_same(&first));
    assert_eq!(entra.requests(), 2);
}

#[tokio::test]
async fn a_tenant_that_stands_for_many_is_refused_before_any_request() {
    for name in ["organizations", "common", "consumers"] {
        let entra = FakeEntra::builder().tenant(name).start().await;
        let error = token(&entra.app().build().unwrap().client_credentials()).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Configuration);
        let expected = format!(
            "an app signs in to one tenant: `{name}` stands for many, give the tenant's id or domain"
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(entra.requests(), 0);
    }
}

#[tokio::test]
async fn entra_refuses_such_a_tenant_too() {
    for (name, code) in [("common", 9_001_023), ("consumers", 9_001_023), ("organizations", 50_194)] {
        let entra = FakeEntra::builder().tenant(name).start().await;
        let client = oauth::Client::builder(entra.token_endpoint(), entra.client_id())
            .authentication(ClientAuthentication::Post(entra.client_secret().unwrap().into()))
            .build()
            .unwrap();
        let error = token(&client.client_credentials([SCOPE])).await.unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::RequestRefused);
        assert_eq!(error.server_answer().error.as_deref(), Some("invalid_request"));
        assert!(error.to_string().contains(&format!("AADSTS{code}")), "{error}");
    }
}

#[tokio::test]
async fn an_app_without_a_credential_is_told_so_before_any_request() {
    let entra = FakeEntra::builder().public_client().start().await;
    let error = token(&entra.app().build().unwrap().client_credentials()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    let expected = "the client credentials grant needs a client secret, a certificate or a federated token";
    assert_eq!(error.to_string(), expected);
    assert_eq!(entra.requests(), 0);
}

#[tokio::test]
async fn a_wrong_secret_and_an_expired_one_are_told_apart() {
    let entra = FakeEntra::start().await;
    let wrong = entra.app().client_secret("8Q~another-secret").build().unwrap().client_credentials();
    let wrong = token(&wrong).await.unwrap_err();
    let right = entra.app().build().unwrap().client_credentials();
    entra.expire_client_secret();
    let expired = token(&right).await.unwrap_err();
    for (error, code) in [(&wrong, 7_000_215), (&expired, 7_000_222)] {
        assert_eq!(error.kind(), TokenErrorKind::ClientRefused);
        assert_eq!(error.server_answer().codes, [code]);
        let expected = format!("token endpoint refused the client credentials grant (AADSTS{code})");
        assert_eq!(error.to_string(), expected);
    }
    let summary = |error| entra::remedy(error).unwrap().summary().to_owned();
    assert_ne!(summary(&wrong), summary(&expired));
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_again_and_then_reported() {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let cache = entra.app().build().unwrap().client_credentials();
    entra.fail_next(1, TokenFault::ThrottledWithRetryAfter(Duration::from_secs(60)));
    let error = token(&cache).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    manual.advance(Duration::from_secs(60));
    token(&cache).await.unwrap();
    for (fault, message) in [
        (
            TokenFault::Html,
            "token endpoint answered the client credentials grant with `text/html` instead of JSON (HTTP 200)",
        ),
        (
            TokenFault::Redirect,
            "token endpoint answered the client credentials grant with a redirect (HTTP 302)",
        ),
        (
            TokenFault::TokenWithLineBreak,
            "token endpoint answered the client credentials grant with a token that cannot be used (HTTP 200)",
        ),
    ] {
        let cache = entra.app().build().unwrap().client_credentials();
        entra.fail_next(1, fault);
        let error = token(&cache).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (TokenErrorKind::InvalidResponse, message));
    }
}

#[tokio::test]
async fn a_scope_that_is_not_all_there_is_is_refused_by_entra() {
    let entra = FakeEntra::start().await;
    let client = oauth::Client::builder(entra.token_endpoint(), entra.client_id())
        .authentication(ClientAuthentication::Post(entra.client_secret().unwrap().into()))
        .build()
        .unwrap();
    let cache = client.client_credentials(["https://outlook.office365.com/SMTP.SendAsApp"]);
    assert_eq!(token(&cache).await.unwrap_err().kind(), TokenErrorKind::RequestRefused);
}

#[test]
fn more_than_one_credential_is_a_problem() {
    let tenant = Tenant::parse("contoso.com").unwrap();
    let error = entra::App::builder(tenant, "6731de76-14a6-49ae-97bc-6eba6914391e")
        .client_secret("8Q~secret")
        .federated_token_file("/run/token")
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the app registration's settings do not work: the app has more than one credential: give a client secret, a \
         certificate or a federated token"
    );
}
