//! The query with which a browser comes back from a sign-in page (RFC 6749 §4.1.2): read strictly. Redeems no code.

use secrecy::SecretString;
use url::Url;

use super::error::{Classify, of_callback};
use super::id_token::is_same_secret;
use crate::token::{TokenError, TokenErrorKind};

/// What came back from the browser does not answer the sign-in; found as the source of a
/// [`TokenError`](crate::TokenError).
///
/// Two sign-ins at once, a page from the browser's history, or somebody else's address; nothing in it was believed.
/// [`entra::remedy`](crate::entra::remedy) says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the browser came back with something that does not answer the sign-in")]
pub struct WrongCallback(());

/// No sign-in page sends more.
const MOST_BYTES: usize = 16 * 1024;

/// The parameters of one callback, each at most once.
pub(crate) struct Callback(Vec<(String, String)>);

impl Callback {
    /// Reads a whole URL or its path and query; a fragment is no part of it.
    ///
    /// # Errors
    /// [`TokenErrorKind::InvalidResponse`] when there is no query, or a parameter stands there twice (RFC 6749 §3.1).
    pub(crate) fn parse(callback: &str) -> Result<Self, TokenError> {
        let query = callback.split('#').next().and_then(|url| url.split_once('?')).map(|(_, query)| query);
        let Some(query) = query.filter(|query| query.len() <= MOST_BYTES) else {
            return Err(invalid("the callback of the sign-in has no query"));
        };
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).into_owned() {
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(invalid("the callback of the sign-in has a parameter twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Tells whether this answers the request that carried `state`.
    pub(crate) fn is_answer_to(&self, state: &str) -> bool {
        is_same_secret(self.get("state").unwrap_or_default(), state)
    }

    /// Checks `state`, and only then believes anything else.
    ///
    /// # Errors
    /// [`TokenErrorKind::InvalidResponse`] for another state; the server's refusal, when it is one.
    pub(crate) fn check(&self, what: &str, state: &str, classify: Classify) -> Result<(), TokenError> {
        if !self.is_answer_to(state) {
            return Err(invalid("the callback belongs to another sign-in (wrong `state`)"));
        }
        match self.get("error") {
            Some(error) => {
                let description = self.get("error_description").map(str::to_owned);
                Err(of_callback(what, error.to_owned(), description, classify))
            }
            None => Ok(()),
        }
    }

    /// Returns the authorization code, when the issuer that is named, if one is, serves `page`.
    ///
    /// RFC 9207: a code of another server must not be sent to this one. Issuers are compared by origin, because Entra's
    /// depends on the account's tenant, which is not known yet.
    pub(super) fn code(&self, page: &Url) -> Result<SecretString, TokenError> {
        if let Some(issuer) = self.get("iss")
            && Url::parse(issuer).ok().is_none_or(|issuer| issuer.origin() != page.origin())
        {
            return Err(invalid("the callback comes from another authorization server (wrong `iss`)"));
        }
        let code = self.get("code").ok_or_else(|| invalid("the callback of the sign-in has no code"))?;
        Ok(SecretString::from(code))
    }
}

fn invalid(message: &str) -> TokenError {
    TokenError::new(TokenErrorKind::InvalidResponse, message).with_source(WrongCallback(()))
}
