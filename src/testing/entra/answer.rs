//! The bodies that the fake of Entra answers with, word for word like the real ones. Judges no request.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use wiremock::ResponseTemplate;

use super::TokenFault;

/// Long enough that every client's deadline comes first.
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A refusal as Entra words it.
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) suberror: Option<&'static str>,
    pub(super) text: String,
}

impl Refusal {
    /// Looks a code up; unknown ones are refusals of the grant.
    pub(super) fn of(code: u32) -> Self {
        let (status, error, text) = match code {
            7_000_215 => (
                401,
                "invalid_client",
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '6731de76-14a6-49ae-97bc-6eba6914391e'.",
            ),
            7_000_222 => (
                401,
                "invalid_client",
                "The provided client secret keys for app '6731de76-14a6-49ae-97bc-6eba6914391e' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.",
            ),
            7_000_218 => (
                401,
                "invalid_client",
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            ),
            700_025 => (
                401,
                "invalid_client",
                "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
            ),
            7_000_112 => (
                401,
                "unauthorized_client",
                "Application '6731de76-14a6-49ae-97bc-6eba6914391e' is disabled.",
            ),
            700_016 => (
                400,
                "unauthorized_client",
                "Application with identifier was not found in the directory 'Contoso'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
            ),
            90_002 => (
                400,
                "invalid_request",
                "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.",
            ),
            900_144 => (
                400,
                "invalid_request",
                "The request body must contain the following parameter: 'grant_type'.",
            ),
            900_561 => {
                (400, "invalid_request", "The endpoint only accepts POST requests. Received a GET request.")
            }
            70_003 => (400, "unsupported_grant_type", "The app requested an unsupported grant type."),
            70_011 => (
                400,
                "invalid_scope",
                "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid.",
            ),
            28_000 => (
                400,
                "invalid_request",
                "Provided value for the input parameter scope is not valid because it contains more than one resource.",
            ),
            70_000 => (
                400,
                "invalid_grant",
                "The request was denied because one or more scopes requested are unauthorized or expired. The user must first sign in and grant the client application access to the requested scope.",
            ),
            70_008 => (
                400,
                "invalid_grant",
                "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.",
            ),
            700_082 => (
                400,
                "invalid_grant",
                "The refresh token has expired due to inactivity. The token was inactive for 90.00:00:00.",
            ),
            50_173 => (
                400,
                "invalid_grant",
                "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
            ),
            50_076 => (
                400,
                "interaction_required",
                "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource.",
            ),
            53_003 => (
                400,
                "invalid_grant",
                "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
            ),
            65_001 => (
                400,
                "invalid_grant",
                "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.",
            ),
            50_196 => (
                400,
                "invalid_grant",
                "The server terminated an operation because it encountered a client request loop. Please contact your app vendor.",
            ),
            _ => (400, "invalid_grant", "The request was refused."),
        };
        let suberror = match code {
            50_076 => Some("basic_action"),
            65_001 => Some("consent_required"),
            70_000 | 70_008 | 700_082 | 50_173 => Some("bad_token"),
            _ => None,
        };
        Self { code, status, error, suberror, text: text.to_owned() }
    }

    pub(super) fn response(self, now: OffsetDateTime, number: usize) -> ResponseTemplate {
        let Self { code, status, error, suberror, text } = self;
        let timestamp = format!("{} {}Z", now.date(), clock_time(now));
        let trace_id = format!("b72a68c3-0926-4b8e-bc35-{number:012}");
        let correlation_id = format!("73f06b0b-33b4-4ee0-83ea-{number:012}");
        let description = format!(
            "AADSTS{code}: {text}\r\nTrace ID: {trace_id}\r\nCorrelation ID: {correlation_id}\r\nTimestamp: {timestamp}"
        );
        let mut body = json!({
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        if let Some(suberror) = suberror {
            body["suberror"] = suberror.into();
        }
        with_json(status, &body)
    }
}

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
            &json!({ "error": "temporarily_unavailable", "error_description": "AADSTS90055: Tenant throttled.", "error_codes": [90_055] }),
        )
        .insert_header("retry-after", wait.as_secs().to_string()),
        TokenFault::ServerError500 => with_json(
            500,
            &json!({ "error": "invalid_grant", "error_description": "AADSTS90033: A transient error has occurred. Please try again.", "error_codes": [90_033] }),
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

fn with_json(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body.to_string(), "application/json; charset=utf-8")
}

fn clock_time(now: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", now.hour(), now.minute(), now.second())
}
