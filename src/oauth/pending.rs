//! A sign-in under way, as a web application keeps it between two requests. Secret-safe in `Debug`, not in serde.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use url::Url;

/// A sign-in that was begun: what must be remembered until the browser comes back.
///
/// Made by [`AuthorizationCode::start`](super::AuthorizationCode::start), which has an example. Serialised, it holds the
/// PKCE verifier, `state` and `nonce` in plain text: keep it in the session on the server, or in an encrypted cookie,
/// bound to this one browser. A browser that comes back without it did not start the sign-in.
#[derive(Clone)]
pub struct PendingSignIn {
    pub(super) url: Url,
    pub(super) state: SecretString,
    pub(super) nonce: SecretString,
    pub(super) verifier: SecretString,
    /// A text, because a `Url` cannot do without the slash that the registration may lack.
    pub(super) redirect: String,
    pub(super) scopes: Vec<String>,
    pub(super) created_at: OffsetDateTime,
}

impl PendingSignIn {
    /// Returns the page to send the browser to. It names the sign-in's `state`: do not log it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns when the sign-in was begun; it can be finished for ten minutes.
    pub fn created_at(&self) -> OffsetDateTime {
        self.created_at
    }
}

impl fmt::Debug for PendingSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, state: _, nonce: _, verifier: _, redirect, scopes, created_at } = self;
        f.debug_struct("PendingSignIn")
            .field("host", &url.host_str())
            .field("redirect", redirect)
            .field("scopes", scopes)
            .field("created_at", created_at)
            .finish_non_exhaustive()
    }
}

/// The serialised form.
#[derive(Serialize, Deserialize)]
struct Kept<Text, Scopes> {
    url: Url,
    state: Text,
    nonce: Text,
    verifier: Text,
    redirect: Text,
    scopes: Scopes,
    #[serde(with = "time::serde::timestamp")]
    created_at: OffsetDateTime,
}

impl Serialize for PendingSignIn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { url, state, nonce, verifier, redirect, scopes, created_at } = self;
        let kept = Kept {
            url: url.clone(),
            state: state.expose_secret(),
            nonce: nonce.expose_secret(),
            verifier: verifier.expose_secret(),
            redirect: redirect.as_str(),
            scopes: scopes.as_slice(),
            created_at: *created_at,
        };
        kept.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PendingSignIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Kept { url, state, nonce, verifier, redirect, scopes, created_at } =
            Kept::<String, Vec<String>>::deserialize(deserializer)?;
        Ok(Self {
            url,
            state: state.into(),
            nonce: nonce.into(),
            verifier: verifier.into(),
            redirect,
            scopes,
            created_at,
        })
    }
}
