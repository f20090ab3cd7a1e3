//! The bodies that the fake of Entra answers with, tokens and faults. Judges no request, refuses none.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::TokenFault;

/// Long enough that every client's deadline comes first.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes the body of a success.
pub(super) fn token_body(
    scopes: &[&str],
    lifetime: Duration,
    access_token: &str,
    refresh_token: Option<&str>,
) -> Value {
    let granted: Vec<&str> = scopes.iter().copied().filter(|scope| *scope != "offline_access").collect();
    let mut body = json!({
        "token_type": "Bearer",
        "scope": granted.join(" "),
        "expires_in": lifetime.as_secs(),
        "ext_expires_in": lifetime.as_secs(),
        "access_token": access_token,
    });
    if let Some(refresh_token) = refresh_token {
        body["refresh_token"] = refresh_token.into();
    }
    body
}

pub(super) fn granted(body: &Value) -> ResponseTemplate {
    with_json(200, body)
}

/// Ends a good answer in the middle of the access token, so that the parser has seen a part of it.
pub(super) fn broken_off(body: &Value) -> ResponseTemplate {
    let text = format!("{{\"token_type\":\"Bearer\",\"access_token\":{}", body["access_token"]);
    let cut = text.len() - 10;
    ResponseTemplate::new(200).set_body_raw(text[..cut].to_owned(), "application/json; charset=utf-8")
}

/// Answers with a fault that needs no token.
pub(super) fn of_fault(fault: &TokenFault) -> ResponseTemplate {
    const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head></html>";
    match fault {
        TokenFault::ThrottledWithRetryAfter(wait) => with_json(
            429,
            &json!({
                "error": "temporarily_unavailable",
                "error_description": "AADSTS90055: Tenant throttled.",
                "error_codes": [90_055],
            }),
        )
        .insert_header("retry-after", wait.as_secs().to_string()),
        TokenFault::ServerError500 => with_json(
            500,
            &json!({
                "error": "invalid_grant",
                "error_description": "AADSTS90033: A transient error has occurred. Please try again.",
                "error_codes": [90_033],
            }),
        ),
        TokenFault::UnavailableWithRetryAfter(wait) => ResponseTemplate::new(503)
            .set_body_raw("<h2>Our services aren't available right now</h2>", "text/html")
            .insert_header("retry-after", wait.as_secs().to_string()),
        TokenFault::Oversized => {
            ResponseTemplate::new(200).set_body_raw(vec![b' '; 2 * 1024 * 1024], "application/json")
        }
        TokenFault::Redirect => {
            ResponseTemplate::new(302).insert_header("location", "http://portal.example/sign-in")
        }
        TokenFault::Hang => ResponseTemplate::new(200).set_delay(FOR_EVER),
        _ => ResponseTemplate::new(200).set_body_raw(PAGE, "text/html; charset=utf-8"),
    }
}

/// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
pub(super) fn read_basic(header: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ")?).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

pub(super) fn with_json(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body.to_string(), "application/json; charset=utf-8")
}
