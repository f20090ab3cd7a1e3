//! What the page tells after something was done: kept in the session until the next page shows it.

use std::error::Error;

use serde::{Deserialize, Serialize};
use smtp_oauth::{Remedy, TokenError, Who};
use tower_sessions::Session;

use crate::form::sentence;
use crate::pages::Failure;

const KEY: &str = "notice";

#[derive(Serialize, Deserialize)]
pub struct Notice {
    pub is_failure: bool,
    pub title: String,
    pub lines: Vec<String>,
    pub advice: Option<Advice>,
}

/// A remedy of the library, as the templates show it.
#[derive(Serialize, Deserialize)]
pub struct Advice {
    pub summary: String,
    pub steps: Vec<String>,
    pub who: String,
    pub link: Option<String>,
}

impl From<&Remedy> for Advice {
    fn from(remedy: &Remedy) -> Self {
        Self {
            summary: remedy.summary().to_owned(),
            steps: remedy.steps().to_vec(),
            who: match remedy.who() {
                Who::Nobody => "Nothing has to be changed:".to_owned(),
                who => format!("To be done by {who}:"),
            },
            link: remedy.link().map(str::to_owned),
        }
    }
}

impl Notice {
    pub fn success(title: impl Into<String>, line: impl Into<String>) -> Self {
        Self { is_failure: false, title: title.into(), lines: vec![line.into()], advice: None }
    }

    /// Tells of an error with all its causes, and what can be done about it.
    pub fn failure(title: &str, error: &(dyn Error + 'static), remedy: Option<&Remedy>) -> Self {
        let mut lines = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            lines.push(sentence(&error.to_string()));
            if let Some(token) = error.downcast_ref::<TokenError>()
                && let Some(said) = token.server_answer().description.as_deref()
            {
                lines.extend(said.lines().next().map(|said| format!("Microsoft said: {said}")));
            }
            next = error.source();
        }
        Self { is_failure: true, title: title.to_owned(), lines, advice: remedy.map(Advice::from) }
    }

    /// Tells of a failed sign-in or consent.
    pub fn token(title: &str, error: &TokenError) -> Self {
        let remedy = smtp_oauth::entra::remedy(error);
        Self::failure(title, error, remedy.as_ref())
    }

    pub async fn leave(self, session: &Session) -> Result<(), Failure> {
        Ok(session.insert(KEY, self).await?)
    }

    pub async fn take(session: &Session) -> Result<Option<Self>, Failure> {
        Ok(session.remove(KEY).await?)
    }
}
