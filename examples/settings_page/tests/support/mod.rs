//! The page over the fakes, and a browser without a window: a cookie jar that sends requests to the router.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use settings_page::form::Form;
use settings_page::{Page, demo, router};
use smtp_oauth::testing::FakeMicrosoft365;
use tower::ServiceExt;
use url::Url;

pub const ORIGIN: &str = "http://localhost:8025";
pub const KEY: &str = "key-of-this-test";

pub struct Site {
    pub page: Arc<Page>,
    pub router: Router,
}

impl Site {
    pub async fn start() -> Self {
        let page = demo::page(Url::parse(ORIGIN).unwrap(), KEY.to_owned()).await.unwrap();
        let page = Arc::new(page);
        Self { router: router(page.clone()), page }
    }

    pub fn tenant(&self) -> &FakeMicrosoft365 {
        &self.page.demo.as_ref().unwrap().tenant
    }

    /// A browser that nobody has signed in with.
    pub fn stranger(&self) -> Browser {
        Browser { router: self.router.clone(), cookie: None }
    }

    /// The administrator's browser.
    pub async fn administrator(&self) -> Browser {
        let mut browser = self.stranger();
        assert_eq!(browser.get(&format!("/enter?key={KEY}")).await.status, StatusCode::SEE_OTHER);
        browser
    }
}

pub struct Browser {
    router: Router,
    pub cookie: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Reads an attribute of the first element that holds `mark`.
    pub fn attribute(&self, mark: &str, name: &str) -> String {
        let start = self.text.find(mark).unwrap_or_else(|| panic!("no {mark} in {}", self.text));
        let start = self.text[..start].rfind('<').unwrap();
        let element = &self.text[start..start + self.text[start..].find('>').unwrap()];
        let value =
            element.split_once(&format!(" {name}=\"")).map(|(_, rest)| rest.split('"').next().unwrap());
        value.unwrap_or_default().replace("&#38;", "&").replace("&amp;", "&")
    }
}

impl Browser {
    pub async fn send(&mut self, request: axum::http::request::Builder, body: String) -> Answer {
        let response = self.response(request, body).await;
        if let Some(cookie) = response.headers().get(header::SET_COOKIE) {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    async fn response(&self, mut request: axum::http::request::Builder, body: String) -> Response {
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    pub async fn get(&mut self, target: &str) -> Answer {
        self.send(Request::get(target).header(header::HOST, "localhost:8025"), String::new()).await
    }

    /// Posts a form as the page's own does.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.get("/").await.attribute("name=\"csrf\"", "value");
        let fields: Vec<_> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.post_from(Some(ORIGIN), path, &fields).await
    }

    /// Presses a button, and returns the page that follows while it is still on its way.
    pub async fn open(&mut self, path: &str) -> Body {
        let csrf = self.get("/").await.attribute("name=\"csrf\"", "value");
        let (request, body) = posted(Some(ORIGIN), path, &[("csrf", csrf.as_str())]);
        self.response(request, body).await.into_body()
    }

    pub async fn post_from(&mut self, origin: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Answer {
        let (request, body) = posted(origin, path, fields);
        self.send(request, body).await
    }

    /// Begins a sign-in, and returns Microsoft's page that the browser is led to.
    pub async fn begin_sign_in(&mut self) -> Url {
        let answer = self.post("/sign-in", &[]).await;
        answer.attribute("http-equiv", "content").strip_prefix("0; url=").unwrap().parse().unwrap()
    }

    /// Comes back from Microsoft's page, and shows the page that follows.
    pub async fn come_back(&mut self, callback: &Url) -> Answer {
        let target = &callback[url::Position::BeforePath..];
        assert_eq!(self.get(target).await.header("location"), "/");
        self.get("/").await
    }
}

fn posted(
    origin: Option<&str>,
    path: &str,
    fields: &[(&str, &str)],
) -> (axum::http::request::Builder, String) {
    let mut request = Request::post(path)
        .header(header::HOST, "localhost:8025")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    (request, url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish())
}

/// The fields of a form as a browser sends them.
pub fn fields(form: &Form) -> Vec<(&'static str, &str)> {
    vec![
        ("method", &form.method),
        ("host", &form.host),
        ("port", &form.port),
        ("tls", &form.tls),
        ("sender", &form.sender),
        ("test_recipient", &form.test_recipient),
        ("username", &form.username),
        ("tenant", &form.tenant),
        ("client_id", &form.client_id),
        ("client_secret", &form.client_secret),
        ("client_secret_expires", &form.client_secret_expires),
        ("password", &form.password),
    ]
}
