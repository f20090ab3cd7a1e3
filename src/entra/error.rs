//! What can be wrong with an app's settings, and which AADSTS codes mean an outage. Prints no setting's value.

use std::fmt;

use super::aadsts;
use crate::oauth::ClientError;
use crate::token::{ServerAnswer, TokenErrorKind};

/// The settings of an [`App`](super::App) do not work; lists every problem at once.
#[derive(Debug)]
pub struct AppError {
    problems: Vec<AppProblem>,
}

/// One thing that is wrong with the settings of an app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppProblem {
    /// The client id is no GUID, which every application id of Entra is.
    #[error("the client id must be the `Application (client) ID` of the app registration, a GUID")]
    ClientId,
    /// The client secret is empty or has blanks around it.
    #[error("the client secret is empty or has blanks around it: copy it again")]
    MalformedSecret,
    /// The client secret is a GUID: the *Secret ID* was copied instead of the *Value*.
    #[error(
        "the client secret is the `Secret ID`: copy the `Value` next to it, or make a new secret if it is hidden"
    )]
    SecretId,
    /// More than one of client secret, certificate and federated token was given.
    #[error("the app has more than one credential: give a client secret, a certificate or a federated token")]
    SeveralCredentials,
    /// The token endpoint or the HTTP client cannot be used.
    #[error("{}", .0)]
    Client(#[source] ClientError),
}

impl AppError {
    pub(super) fn new(problems: Vec<AppProblem>) -> Self {
        Self { problems }
    }

    /// Returns every problem.
    pub fn problems(&self) -> &[AppProblem] {
        &self.problems
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the app registration's settings do not work: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for AppError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problems.iter().find_map(|problem| match problem {
            AppProblem::Client(error) => std::error::Error::source(error),
            AppProblem::ClientId
            | AppProblem::MalformedSecret
            | AppProblem::SecretId
            | AppProblem::SeveralCredentials => None,
        })
    }
}

/// Says what a known code means where the `error` field does not: Entra reports outages, throttling and accounts that
/// an administrator has blocked as `invalid_grant` too, and a new sign-in would help none of them.
///
/// An unknown code leaves it to the `error` field and the HTTP status.
pub(super) fn classify(answer: &ServerAnswer) -> Option<TokenErrorKind> {
    answer.codes.first().and_then(|code| aadsts::find(*code)).and_then(|row| row.kind)
}
