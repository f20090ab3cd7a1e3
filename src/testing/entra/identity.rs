//! Who an account of the fake is: in ID tokens, and at Graph's `/me`. Signs nothing: the signature is a fake too.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

use super::answer::with_json;
use super::endpoint::State;
use super::sign_in::{Subject, TENANT_ID};
use crate::testing::TokenVerdict;

/// The tenant of personal accounts.
const CONSUMERS_ID: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Writes the ID token for an account, as Entra's v2 endpoint does.
pub(super) fn id_token(state: &State, subject: &Subject) -> String {
    let account = &subject.account;
    let now = state.clock.now().unix_timestamp();
    let tenant = if is_personal(account) { CONSUMERS_ID } else { TENANT_ID };
    let mut claims = json!({
        "ver": "2.0",
        "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
        "aud": state.client_id,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "sub": format!("fake-subject-of-{account}"),
        "oid": object_id(account),
        "tid": tenant,
        "preferred_username": account,
        "name": display_name(account),
    });
    if let Some(nonce) = &subject.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    encode(&claims)
}

/// Rewrites one claim.
pub(super) fn with_claim(token: &str, name: &str, value: &str) -> String {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|payload| serde_json::from_slice::<Value>(&payload).ok());
    let mut claims = claims.unwrap_or_else(|| json!({}));
    claims[name] = value.into();
    encode(&claims)
}

fn encode(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "fake" });
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode("fake signature"))
}

/// Answers `GET /v1.0/me`.
pub(super) fn me(state: &State, request: &Request) -> ResponseTemplate {
    let header = request.headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let verdict = state.tokens.verdict(token);
    match verdict {
        TokenVerdict::Valid(account) if state.graph_tokens.contains(token) => with_json(
            200,
            &json!({
                "id": object_id(&account),
                "userPrincipalName": account,
                "mail": account,
                "displayName": display_name(&account),
            }),
        ),
        _ => with_json(
            401,
            &json!({ "error": { "code": "InvalidAuthenticationToken", "message": "Invalid audience." } }),
        ),
    }
}

fn is_personal(account: &str) -> bool {
    account.ends_with("@outlook.com") || account.ends_with("@hotmail.com")
}

fn object_id(account: &str) -> String {
    let number = account.bytes().fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 0xffff_ffff);
    format!("0b1ec71d-0000-4000-8000-{number:012x}")
}

fn display_name(account: &str) -> &str {
    account.split('@').next().unwrap_or_default()
}
