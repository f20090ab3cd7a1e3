//! A server's metadata are read from the server itself and believed as far as it can vouch for them.

use std::time::Duration;

use serde_json::{Value, json};
use smtp_oauth::oauth::{Discovery, DiscoveryError, ServerMetadata};
use smtp_oauth::testing::{FakeEntra, ManualClock};
use smtp_oauth::{MemoryStore, TokenProvider, TokenRequest};
use url::Url;
use wiremock::matchers::{any, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const OPENID: &str = "/realms/mail/.well-known/openid-configuration";
const RFC8414: &str = "/.well-known/oauth-authorization-server/realms/mail";

fn issuer(server: &MockServer) -> Url {
    Url::parse(&format!("{}/realms/mail", server.uri())).unwrap()
}

fn document(server: &MockServer) -> Value {
    let issuer = issuer(server);
    json!({
        "issuer": issuer.as_str(),
        "token_endpoint": format!("{issuer}/token"),
        "authorization_endpoint": format!("{issuer}/auth"),
        "device_authorization_endpoint": format!("{issuer}/device"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "something_else": {"that": "nobody reads"},
    })
}

async fn serving(at: &str, response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).and(path(at)).respond_with(response).mount(&server).await;
    server
}

async fn fetch(server: &MockServer) -> Result<ServerMetadata, DiscoveryError> {
    Discovery::new(issuer(server)).fetch().await
}

async fn refused(edit: impl FnOnce(&mut Value)) -> DiscoveryError {
    let server = MockServer::start().await;
    let mut document = document(&server);
    edit(&mut document);
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_json(document)).mount(&server).await;
    fetch(&server).await.unwrap_err()
}

#[tokio::test]
async fn both_documents_are_found() {
    for at in [OPENID, RFC8414] {
        let server = MockServer::start().await;
        let response = ResponseTemplate::new(200).set_body_json(document(&server));
        Mock::given(path(at)).respond_with(response).mount(&server).await;
        let found = fetch(&server).await.unwrap();
        assert_eq!(found.issuer(), issuer(&server).as_str());
        assert!(found.token_endpoint().as_str().ends_with("/realms/mail/token"));
        assert!(found.authorization_endpoint().unwrap().as_str().ends_with("/realms/mail/auth"));
        assert!(found.device_authorization_endpoint().unwrap().as_str().ends_with("/realms/mail/device"));
        assert_eq!(found.authentication_methods(), ["client_secret_basic", "private_key_jwt"]);
    }
}

#[tokio::test]
async fn a_client_from_discovery_knows_where_people_sign_in() {
    let server = MockServer::start().await;
    let response = ResponseTemplate::new(200).set_body_json(document(&server));
    Mock::given(path(OPENID)).respond_with(response).mount(&server).await;
    let found = fetch(&server).await.unwrap();
    let client = found.client("mailer").build().unwrap();
    assert!(client.authorization_endpoint().is_some() && client.device_authorization_endpoint().is_some());
    assert_eq!(client.authorization_endpoint(), found.authorization_endpoint());
    assert_eq!(client.device_authorization_endpoint(), found.device_authorization_endpoint());
    let yahoo = ServerMetadata::yahoo().client("mailer").build().unwrap();
    assert!(yahoo.authorization_endpoint().is_some());
    assert_eq!(yahoo.device_authorization_endpoint(), None);
}

#[tokio::test]
async fn a_client_from_discovery_gets_tokens() {
    let entra = FakeEntra::builder().public_client().start().await;
    let server = MockServer::start().await;
    let mut document = document(&server);
    document["token_endpoint"] = entra.token_endpoint().as_str().into();
    Mock::given(path(OPENID))
        .respond_with(ResponseTemplate::new(200).set_body_json(document))
        .mount(&server)
        .await;
    let client = fetch(&server).await.unwrap().client(entra.client_id()).build().unwrap();
    let cache = client.refresh_token(entra.store(), ["https://mail.example/send"]);
    cache.token(TokenRequest::new()).await.unwrap();
    let empty = client.refresh_token(MemoryStore::new(), ["https://mail.example/send"]);
    empty.token(TokenRequest::new()).await.unwrap_err();
}

#[tokio::test]
async fn another_issuers_document_is_refused() {
    let error = refused(|document| document["issuer"] = "https://evil.example/realms/mail".into()).await;
    assert!(matches!(error, DiscoveryError::IssuerMismatch { .. }));
    let shown = error.to_string();
    assert!(shown.contains("are those of `https://evil.example/realms/mail`"), "{shown}");
    let error = refused(|document| {
        let with_slash = format!("{}/", document["issuer"].as_str().unwrap());
        document["issuer"] = with_slash.into();
    });
    assert!(matches!(error.await, DiscoveryError::IssuerMismatch { .. }));
}

#[tokio::test]
async fn an_endpoint_in_the_clear_is_refused() {
    let error = refused(|document| document["token_endpoint"] = "http://mail.example/token".into()).await;
    assert_eq!(
        error.to_string(),
        "the metadata name a token_endpoint on `mail.example` that cannot be trusted: it must be an https URL on a \
         public host"
    );
    let error = refused(|document| document["authorization_endpoint"] = "javascript:alert(1)".into()).await;
    assert!(matches!(error, DiscoveryError::Endpoint { name: "authorization_endpoint", .. }));
}

#[tokio::test]
async fn a_document_that_is_none_is_an_error_that_names_the_place() {
    let error = refused(|document| *document = json!(["nothing"])).await;
    assert!(matches!(error, DiscoveryError::Malformed { .. }), "{error}");
    let error = refused(|document| document["token_endpoint"] = json!("not a url")).await;
    assert!(matches!(error, DiscoveryError::Malformed { .. }), "{error}");
    let error = refused(|document| document["token_endpoint"] = Value::Null).await;
    assert_eq!(error.to_string(), "the metadata of 127.0.0.1 name no token endpoint");
}

#[tokio::test]
async fn answers_that_are_no_document_are_errors() {
    let page = ResponseTemplate::new(200).set_body_raw("<html>", "text/html");
    let error = fetch(&serving(OPENID, page).await).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 answered something other than JSON instead of its metadata");
    let redirect = ResponseTemplate::new(302).insert_header("location", "https://evil.example/");
    let error = fetch(&serving(OPENID, redirect).await).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 answered HTTP 302 instead of its metadata");
    let error = fetch(&serving("/elsewhere", ResponseTemplate::new(200)).await).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Status { status: 404, .. }));
    let throttled = ResponseTemplate::new(429).insert_header("retry-after", "60");
    let error = fetch(&serving(OPENID, throttled).await).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Status { status: 429, .. }));
    let huge = ResponseTemplate::new(200).set_body_raw(vec![b' '; 2 << 20], "application/json");
    let error = fetch(&serving(OPENID, huge).await).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_there_is_an_error() {
    let hang = ResponseTemplate::new(200).set_delay(Duration::from_secs(24 * 60 * 60));
    let server = serving(OPENID, hang).await;
    let manual = ManualClock::new();
    let discovery = Discovery::new(issuer(&server)).clock(manual.clock());
    let error = manual.advance_until(Duration::from_secs(10), discovery.fetch()).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 did not answer with its metadata within 30 seconds");
    let error = Discovery::new(Url::parse("http://127.0.0.1:1").unwrap()).fetch().await.unwrap_err();
    assert_eq!(error.to_string(), "the metadata of 127.0.0.1 cannot be fetched");
}

#[tokio::test]
async fn the_deadline_can_be_set() {
    let hang = ResponseTemplate::new(200).set_delay(Duration::from_secs(24 * 60 * 60));
    let server = serving(OPENID, hang).await;
    let manual = ManualClock::new();
    let discovery = Discovery::new(issuer(&server)).clock(manual.clock()).deadline(Duration::from_secs(5));
    let error = manual.advance_until(Duration::from_secs(1), discovery.fetch()).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 did not answer with its metadata within 5 seconds");
}

#[tokio::test]
async fn an_issuer_that_must_not_be_asked_is_not() {
    for text in [
        "http://mail.example",
        "https://mail.example/?a=b",
        "https://user@mail.example",
        "ftp://mail.example",
    ] {
        let error = Discovery::new(Url::parse(text).unwrap()).fetch().await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Issuer { .. }), "{text}");
    }
}
