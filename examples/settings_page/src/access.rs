//! Who may use the page: the administrator's session, CSRF protection, security headers. A product keeps its own sign-in
//! in place of [`enter`] and keeps the rest.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, OriginalUri, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tower_sessions::Session;
use url::{Position, Url};

use crate::pages::{Failure, Message};
use crate::{Page, pages};

/// Nothing is loaded but the style sheet, nothing runs, and forms lead nowhere else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";
const ADMINISTRATOR: &str = "administrator";
const CSRF: &str = "csrf";

/// Returns 256 random bits as text, for keys, states and CSRF tokens.
pub fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn is_same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[derive(Deserialize)]
pub struct Key {
    #[serde(default)]
    key: String,
}

/// Takes the key that the program printed at its start, and makes this browser the administrator's.
pub async fn enter(
    State(page): State<Arc<Page>>,
    session: Session,
    Query(Key { key }): Query<Key>,
) -> Result<Response, Failure> {
    if !is_same(&key, &page.access_key) {
        return Ok(not_the_administrator());
    }
    // Another id than before: whoever planted a cookie in this browser knows the old one (session fixation).
    session.cycle_id().await?;
    session.insert(ADMINISTRATOR, true).await?;
    session.insert(CSRF, random()?).await?;
    Ok(Redirect::to("/").into_response())
}

/// Lets nobody but the administrator on.
pub async fn require_administrator(
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    match session.get::<bool>(ADMINISTRATOR).await? {
        Some(true) => Ok(next.run(request).await),
        _ => Ok(not_the_administrator()),
    }
}

fn not_the_administrator() -> Response {
    let message = Message {
        title: "Not signed in",
        text: "Open the address that the program printed when it started. If you come from Microsoft's consent page: \
               your consent is recorded there, and you can close this window.",
    };
    (StatusCode::UNAUTHORIZED, pages::html(&message)).into_response()
}

/// Answers under its own name only (another site's name that leads to this address gets nothing), and takes what is
/// posted from its own pages only.
pub async fn require_origin(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    match refusal(&page.public_url, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

fn refusal(public_url: &Url, request: &Request) -> Option<Response> {
    let value = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| value(header::HOST));
    if host != Some(&public_url[Position::BeforeHost..Position::AfterPort]) {
        let text = format!("this page is at {public_url}\n");
        return Some((StatusCode::MISDIRECTED_REQUEST, text).into_response());
    }
    let origin = public_url.origin().ascii_serialization();
    let is_own = value(header::ORIGIN) == Some(origin.as_str());
    (request.method() == Method::POST && !is_own).then(refused)
}

fn refused() -> Response {
    let message = Message {
        title: "Refused",
        text: "This form was not sent by the page that shows it, or the page is from an earlier session. Open the page \
               again; nothing was changed.",
    };
    (StatusCode::FORBIDDEN, pages::html(&message)).into_response()
}

/// Returns the token that every form of this session carries.
pub async fn csrf_token(session: &Session) -> Result<String, Failure> {
    Ok(session.get(CSRF).await?.unwrap_or_default())
}

/// The fields of a form that this session's own page has sent; the only way to a form's fields here.
pub struct Posted<T>(pub T);

#[derive(Deserialize)]
struct Fields<T> {
    #[serde(default)]
    csrf: String,
    #[serde(flatten)]
    rest: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Page>> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, page: &Arc<Page>) -> Result<Self, Response> {
        let session = request.extensions().get::<Session>().cloned();
        let Some(session) = session else { return Err(refused()) };
        let expected = csrf_token(&session).await.map_err(IntoResponse::into_response)?;
        let form = Form::<Fields<T>>::from_request(request, page).await;
        let Form(fields) = form.map_err(IntoResponse::into_response)?;
        if expected.is_empty() || !is_same(&fields.csrf, &expected) {
            return Err(refused());
        }
        Ok(Self(fields.rest))
    }
}

/// Sets the security headers of every answer.
pub async fn secure(
    State(page): State<Arc<Page>>,
    uri: OriginalUri,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let mut set = |name, value| _ = response.headers_mut().insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // Not `no-referrer`: with it browsers send `Origin: null` with every form.
    set(header::REFERRER_POLICY, "same-origin");
    set(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if uri.path() != pages::STYLE {
        set(header::CACHE_CONTROL, "no-store");
    }
    if page.public_url.scheme() == "https" {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

/// Tells whether a browser may be told this address as the page's own.
pub fn check_public_url(url: &Url) -> Result<(), String> {
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => {
            return Err(
                "the page's address must be https, or http on this machine: secrets are typed into it"
                    .to_owned(),
            );
        }
    }
    if url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(
            "the page's address must have no path and no user, such as https://mail.contoso.com/".to_owned()
        );
    }
    Ok(())
}
