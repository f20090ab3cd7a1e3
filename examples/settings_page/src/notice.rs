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

    /// Tells of a submission that failed.
    pub fn submission(title: &str, error: &smtp_oauth::Error) -> Self {
        Self::failure(title, error, error.token_error(), error.remedy().as_ref())
    }

    /// Tells of a failed sign-in or consent.
    pub fn token(title: &str, error: &TokenError) -> Self {
        let remedy = smtp_oauth::entra::remedy(error);
        Self::failure(title, error, Some(error), remedy.as_ref())
    }

    /// Tells of an error with all its causes, what Microsoft said, and what can be done about it.
    fn failure(title: &str, error: &dyn Error, token: Option<&TokenError>, remedy: Option<&Remedy>) -> Self {
        let mut lines = vec![sentence(&error.to_string())];
        let said = token.and_then(|token| token.server_answer().description.as_deref());
        lines.extend(said.and_then(|said| said.lines().next()).map(|said| format!("Microsoft said: {said}")));
        let mut source = error.source();
        while let Some(cause) = source {
            lines.push(sentence(&cause.to_string()));
            source = cause.source();
        }
        Self { is_failure: true, title: title.to_owned(), lines, advice: remedy.map(Advice::from) }
    }

    pub async fn leave(self, session: &Session) -> Result<(), Failure> {
        Ok(session.insert(KEY, self).await?)
    }

    pub async fn take(session: &Session) -> Result<Option<Self>, Failure> {
        Ok(session.remove(KEY).await?)
    }
}
