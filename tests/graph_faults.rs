//! Microsoft Graph refuses, is busy, answers nonsense, hangs or is not there: each has its kind and its words.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::oauth::{HttpClient, HttpFuture, HttpRequest};
use smtp_oauth::testing::{FakeEntra, ManualClock};
use smtp_oauth::{Cloud, TokenError, TokenErrorKind};
use url::Url;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

#[path = "support/closed_port.rs"]
mod closed_port;

async fn me_at(graph: &str) -> TokenError {
    let entra = FakeEntra::start().await;
    let app = entra.app().graph(graph.parse().unwrap()).build().unwrap();
    app.me(entra.store()).await.unwrap_err()
}

async fn answering(response: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET")).and(path("/v1.0/me")).respond_with(response).mount(&server).await;
    server
}

#[tokio::test]
async fn every_answer_has_its_kind_and_its_words() {
    let status = ResponseTemplate::new;
    let minute = Duration::from_secs(60);
    let busy = |code| status(code).insert_header("retry-after", "60");
    let cases = [
        (busy(429), TokenErrorKind::Unavailable, "is busy (HTTP 429)", Some(minute)),
        (status(408), TokenErrorKind::Unavailable, "is busy (HTTP 408)", None),
        (busy(503), TokenErrorKind::Unavailable, "is busy (HTTP 503)", Some(minute)),
        (busy(403), TokenErrorKind::RequestRefused, "refused the access token (HTTP 403)", None),
        (status(404), TokenErrorKind::InvalidResponse, "gave an unexpected answer (HTTP 404)", None),
        (
            status(302).insert_header("location", "https://evil.example/"),
            TokenErrorKind::InvalidResponse,
            "gave an unexpected answer (HTTP 302)",
            None,
        ),
        (
            status(200).set_body_string("<html>somebody@contoso.com</html>"),
            TokenErrorKind::InvalidResponse,
            "did not say who the account is",
            None,
        ),
    ];
    for (response, kind, words, retry_after) in cases {
        let server = answering(response).await;
        let error = me_at(&server.uri()).await;
        assert_eq!((error.kind(), error.retry_after()), (kind, retry_after), "{words}");
        assert_eq!(error.to_string(), format!("Microsoft Graph {words}"));
        assert!(!format!("{error:?}").contains("EwB-fake"), "{error:?}");
    }
}

#[tokio::test]
async fn it_is_not_waited_for_beyond_the_deadline() {
    let day = Duration::from_secs(24 * 60 * 60);
    let server = answering(ResponseTemplate::new(200).set_delay(day)).await;
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    let app = entra.app().graph(server.uri().parse().unwrap()).build().unwrap();
    let step = Duration::from_secs(1);
    let error = manual.advance_until(step, app.me(entra.store())).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "Microsoft Graph did not answer within 30 seconds");
}

#[tokio::test]
async fn it_may_not_be_there_at_all() {
    let closed = closed_port::ClosedPort::bind();
    let error = me_at(&format!("http://127.0.0.1:{}/", closed.port())).await;
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.to_string(), "Microsoft Graph cannot be reached");
}

#[tokio::test]
async fn no_token_goes_where_it_could_be_read_on_the_way() {
    let error = me_at("http://graph.example/").await;
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert_eq!(error.to_string(), "the address of Microsoft Graph must be https");
    let error = me_at("mailto:graph@example.com").await;
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    assert_eq!(error.to_string(), "the address of Microsoft Graph is no base of a URL");
}

/// Hands out a token and an account, and notes where it was asked for them.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<String>>);

impl HttpClient for Noting {
    fn execute(&self, request: HttpRequest) -> HttpFuture<'_> {
        self.0.lock().unwrap().push(request.uri().to_string());
        let body = serde_json::json!({
            "token_type": "Bearer", "access_token": "a", "expires_in": 3600, "scope": "User.Read",
            "id": "1", "userPrincipalName": "svc-mail@contoso.com",
        });
        HttpFuture::new(async move {
            let mut response = http::Response::new(serde_json::to_vec(&body).unwrap());
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            Ok(response)
        })
    }
}

#[tokio::test]
async fn the_cloud_chooses_the_graph_that_is_asked() {
    let entra = FakeEntra::start().await;
    for cloud in Cloud::ALL {
        let http = Arc::new(Noting::default());
        let tenant = smtp_oauth::entra::Tenant::parse("contoso.onmicrosoft.com").unwrap();
        let app = smtp_oauth::entra::App::builder(tenant, entra.client_id())
            .cloud(cloud)
            .client_secret("secret")
            .http_client(http.clone())
            .build()
            .unwrap();
        let me = app.me(entra.store()).await.unwrap();
        assert_eq!((me.user_principal_name.as_str(), me.mail), ("svc-mail@contoso.com", None));
        let asked = http.0.lock().unwrap().pop().unwrap();
        let asked = Url::parse(&asked).unwrap();
        assert_eq!((asked.host_str(), asked.path()), (Some(cloud.graph_host()), "/v1.0/me"));
    }
}
