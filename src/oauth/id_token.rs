//! The ID token (OIDC Core §2): who signed in. Checks no signature: it must come straight from the endpoint.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// What an ID token says about the person who signed in.
///
/// Its signature is not checked: OIDC Core §3.1.3.7 lets the TLS connection to the token endpoint vouch for
/// it. Audience and `nonce` are checked. Names are for display and comparison, never proof of who somebody is.
#[derive(Clone, PartialEq)]
pub struct IdToken {
    claims: Map<String, Value>,
}

/// Why an ID token is not one for this sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Unreadable,
    Audience,
    Nonce,
}

impl Flaw {
    /// Finishes the sentence "the sign-in was answered with ...".
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Unreadable => "an ID token that cannot be read",
            Self::Audience => "an ID token for another app",
            Self::Nonce => "an ID token of another sign-in",
        }
    }
}

impl IdToken {
    /// Reads the claims and checks that they are for `client_id` and, when one was sent, carry the `nonce`.
    pub(super) fn read(
        text: &SecretString,
        client_id: &str,
        nonce: Option<&SecretString>,
    ) -> Result<Self, Flaw> {
        let mut parts = text.expose_secret().split('.');
        let payload = parts.nth(1).ok_or(Flaw::Unreadable)?;
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| Flaw::Unreadable)?;
        let mut claims: Map<String, Value> =
            serde_json::from_slice(&payload).map_err(|_| Flaw::Unreadable)?;
        if !is_audience(claims.get("aud"), client_id) {
            return Err(Flaw::Audience);
        }
        let sent = claims.remove("nonce");
        if let Some(nonce) = nonce {
            let sent = sent.as_ref().and_then(Value::as_str).unwrap_or_default();
            if !is_same_secret(sent, nonce.expose_secret()) {
                return Err(Flaw::Nonce);
            }
        }
        Ok(Self { claims })
    }

    /// Returns a claim that is a text, such as `oid` or `tid`.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Returns the identifier of the person at this server, for this app (`sub`).
    pub fn subject(&self) -> Option<&str> {
        self.claim("sub")
    }

    /// Returns the name by which the person signed in, or else the address: whatever the server says.
    pub fn username(&self) -> Option<&str> {
        self.names().next()
    }

    /// Returns every name of the person, the one to show first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        ["preferred_username", "upn", "email"].into_iter().filter_map(|name| self.claim(name))
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claims } = self;
        let names: Vec<&String> = claims.keys().collect();
        f.debug_struct("IdToken").field("username", &self.username()).field("claims", &names).finish()
    }
}

fn is_audience(audience: Option<&Value>, client_id: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one.eq_ignore_ascii_case(client_id),
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).any(|one| one.eq_ignore_ascii_case(client_id))
        }
        _ => false,
    }
}

/// Compares in a time that does not tell how much of a guess is right.
pub(crate) fn is_same_secret(given: &str, expected: &str) -> bool {
    let difference = given.bytes().zip(expected.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other));
    let is_same_length = given.len() == expected.len();
    std::hint::black_box(difference) == 0 && is_same_length && !expected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> SecretString {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)).into()
    }

    #[test]
    fn audience_and_nonce_are_checked() {
        let nonce = SecretString::from("n-1");
        let cases = [
            (r#"{"aud":"app","nonce":"n-1"}"#, Ok(())),
            (r#"{"aud":["other","APP"],"nonce":"n-1"}"#, Ok(())),
            (r#"{"aud":"other","nonce":"n-1"}"#, Err(Flaw::Audience)),
            (r#"{"nonce":"n-1"}"#, Err(Flaw::Audience)),
            (r#"{"aud":"app","nonce":"n-2"}"#, Err(Flaw::Nonce)),
            (r#"{"aud":"app"}"#, Err(Flaw::Nonce)),
            (r#"["aud"]"#, Err(Flaw::Unreadable)),
        ];
        for (claims, expected) in cases {
            let read = IdToken::read(&token(claims), "app", Some(&nonce));
            assert_eq!(read.map(|_| ()), expected, "{claims}");
        }
        for text in ["", "one", "a.%%%.c"] {
            assert_eq!(IdToken::read(&text.into(), "app", None), Err(Flaw::Unreadable), "{text}");
        }
    }

    #[test]
    fn secrets_are_the_same_only_whole() {
        assert!(is_same_secret("abc", "abc"));
        for other in ["", "ab", "abcd", "abd"] {
            assert!(!is_same_secret(other, "abc"), "{other}");
        }
        assert!(!is_same_secret("", ""));
    }
}
