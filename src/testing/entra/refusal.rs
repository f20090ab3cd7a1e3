//! The refusals of Entra's token endpoint, word for word, with the status and `error` that go with each code.

use serde_json::json;
use time::OffsetDateTime;
use wiremock::ResponseTemplate;

use super::answer::with_json;

/// A refusal as Entra words it.
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) suberror: Option<&'static str>,
    pub(super) text: String,
}

/// Code, status, `error`, `suberror`, text.
type Known = (u32, u16, &'static str, Option<&'static str>, &'static str);

impl Refusal {
    /// Looks a code up; unknown ones are refusals of the grant.
    pub(super) fn of(code: u32) -> Self {
        const UNKNOWN: Known = (0, 400, "invalid_grant", None, "The request was refused.");
        let known = KNOWN.iter().find(|(known, ..)| *known == code).copied();
        let (_, status, error, suberror, text) = known.unwrap_or(UNKNOWN);
        Self { code, status, error, suberror, text: text.to_owned() }
    }

    pub(super) fn response(self, now: OffsetDateTime, number: usize) -> ResponseTemplate {
        let Self { code, status, error, suberror, text } = self;
        let timestamp = format!("{} {}Z", now.date(), clock_time(now));
        let trace_id = format!("b72a68c3-0926-4b8e-bc35-{number:012}");
        let correlation_id = format!("73f06b0b-33b4-4ee0-83ea-{number:012}");
        let description = format!(
            "AADSTS{code}: {text}\r\nTrace ID: {trace_id}\r\nCorrelation ID: {correlation_id}\r\n\
             Timestamp: {timestamp}"
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

/// Returns the words that go with a code, where they are known.
pub(crate) fn wording(code: u32) -> Option<&'static str> {
    KNOWN.iter().find(|(known, ..)| *known == code).map(|(.., text)| *text)
}

fn clock_time(now: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", now.hour(), now.minute(), now.second())
}

const KNOWN: &[Known] = &[
    (
        7_000_215,
        401,
        "invalid_client",
        None,
        "Invalid client secret provided. Ensure the secret being sent in the request is the client \
         secret value, not the client secret ID, for a secret added to app \
         '6731de76-14a6-49ae-97bc-6eba6914391e'.",
    ),
    (
        7_000_222,
        401,
        "invalid_client",
        None,
        "The provided client secret keys for app '6731de76-14a6-49ae-97bc-6eba6914391e' are expired. \
         Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret.",
    ),
    (
        7_000_218,
        401,
        "invalid_client",
        None,
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    (
        700_025,
        401,
        "invalid_client",
        None,
        "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
    ),
    (
        700_027,
        401,
        "invalid_client",
        None,
        "Client assertion failed signature validation: the key was not found, or the signature is wrong.",
    ),
    (700_024, 401, "invalid_client", None, "Client assertion is not within its valid time range."),
    (50_027, 401, "invalid_client", None, "JWT token is invalid or malformed."),
    (50_013, 401, "invalid_client", None, "Assertion failed: it was presented before."),
    (
        9_001_023,
        400,
        "invalid_request",
        None,
        "The grant type is not supported over the /common or /consumers endpoints. Please use the \
         /organizations or tenant-specific endpoint.",
    ),
    (
        50_194,
        400,
        "invalid_request",
        None,
        "Application is not configured as a multi-tenant application. Use a tenant-specific endpoint.",
    ),
    (
        1_002_012,
        400,
        "invalid_scope",
        None,
        "The provided value for scope is not valid. Client credential flows must have a scope value with \
         /.default suffixed to the resource identifier (application ID URI).",
    ),
    (
        7_000_112,
        401,
        "unauthorized_client",
        None,
        "Application '6731de76-14a6-49ae-97bc-6eba6914391e' is disabled.",
    ),
    (
        700_016,
        400,
        "unauthorized_client",
        None,
        "Application with identifier was not found in the directory 'Contoso'. This can happen if the \
         application has not been installed by the administrator of the tenant.",
    ),
    (
        90_002,
        400,
        "invalid_request",
        None,
        "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the \
         correct cloud.",
    ),
    (
        900_144,
        400,
        "invalid_request",
        None,
        "The request body must contain the following parameter: 'grant_type'.",
    ),
    (
        900_561,
        400,
        "invalid_request",
        None,
        "The endpoint only accepts POST requests. Received a GET request.",
    ),
    (70_003, 400, "unsupported_grant_type", None, "The app requested an unsupported grant type."),
    (70_011, 400, "invalid_scope", None, "The provided value for the input parameter 'scope' is not valid."),
    (
        28_000,
        400,
        "invalid_request",
        None,
        "Provided value for the input parameter scope is not valid because it contains more than one \
         resource.",
    ),
    (
        70_000,
        400,
        "invalid_grant",
        Some("bad_token"),
        "The request was denied because one or more scopes requested are unauthorized or expired. The \
         user must first sign in and grant the client application access to the requested scope.",
    ),
    (
        70_008,
        400,
        "invalid_grant",
        Some("bad_token"),
        "The provided authorization code or refresh token has expired due to inactivity. Send a new \
         interactive authorization request for this user and resource.",
    ),
    (
        700_082,
        400,
        "invalid_grant",
        Some("bad_token"),
        "The refresh token has expired due to inactivity. The token was inactive for 90.00:00:00.",
    ),
    (
        50_173,
        400,
        "invalid_grant",
        Some("bad_token"),
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user \
         might have changed or reset their password.",
    ),
    (
        50_076,
        400,
        "interaction_required",
        Some("basic_action"),
        "Due to a configuration change made by your administrator, or because you moved to a new \
         location, you must use multi-factor authentication to access the resource.",
    ),
    (
        53_003,
        400,
        "invalid_grant",
        None,
        "Access has been blocked by Conditional Access policies. The access policy does not allow token \
         issuance.",
    ),
    (
        65_001,
        400,
        "invalid_grant",
        Some("consent_required"),
        "The user or administrator has not consented to use the application. Send an interactive \
         authorization request for this user and resource.",
    ),
    (
        54_005,
        400,
        "invalid_grant",
        None,
        "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an \
         existing refresh token.",
    ),
    (
        50_011,
        400,
        "invalid_request",
        None,
        "The redirect URI specified in the request does not match the redirect URIs configured for the \
         application.",
    ),
    (
        501_481,
        400,
        "invalid_grant",
        None,
        "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
    ),
    (70_015, 400, "slow_down", None, "The client polls too often."),
    (
        70_016,
        400,
        "authorization_pending",
        None,
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    ),
    (
        70_018,
        400,
        "bad_verification_code",
        None,
        "Invalid verification code due to User typing in wrong user code for device code flow.",
    ),
    (
        70_020,
        400,
        "expired_token",
        None,
        "The provided value for the input parameter 'device_code' is not valid. This device code has expired.",
    ),
    (65_004, 400, "authorization_declined", None, "User declined to consent to access the app."),
    (
        50_196,
        400,
        "invalid_grant",
        None,
        "The server terminated an operation because it encountered a client request loop. Please contact \
         your app vendor.",
    ),
];
