//! The step of the access token: asks the mailer's own provider, and says what it gave. Shows no token.

use super::{Diagnose, StepName, StepResult, claims, report};
use crate::authentication::Method;
use crate::config::{MailProvider, is_same_account};
use crate::error::Error;
use crate::smtp::Phase;
use crate::token::{AccessToken, TokenNote, TokenProvider, TokenRequest};

impl Diagnose<'_> {
    pub(super) async fn token(&mut self) -> Result<(), ()> {
        self.started = self.now();
        let Method::OAuth(provider) = self.mailer.authentication() else {
            self.skip(StepName::Token, "a password needs none");
            return Ok(());
        };
        let provider = provider.clone();
        let clock = self.mailer.endpoint().clock.clone();
        let fetched = clock.until(self.deadline(), provider.token(TokenRequest::new())).await;
        // Asked for afterwards: the account is known once the store was read.
        let (facts, warnings) = notes(&*provider, self.mailer.config().username());
        let error = match fetched {
            Ok(Ok(token)) => {
                let facts: Vec<_> = [self.describe(&token)].into_iter().chain(facts).collect();
                let warnings: Vec<_> = self.doubts(&token).into_iter().chain(warnings).collect();
                let (result, finding) = summary(&facts, &warnings);
                self.record(StepName::Token, result, finding, None);
                return Ok(());
            }
            Ok(Err(error)) => error.into(),
            Err(_) => Error::overdue(Phase::Token, self.mailer.config().timeouts().total()),
        };
        let error = self.mailer.explained(error, None);
        let mut finding = report::finding_of(&error);
        if !facts.is_empty() || !warnings.is_empty() {
            finding.push_str(&format!("\nasked: {}", summary(&facts, &warnings).1));
        }
        self.record(StepName::Token, StepResult::Failed, finding, error.remedy());
        Err(())
    }

    /// Says until when the token is good, and for what.
    fn describe(&self, token: &AccessToken) -> String {
        let left = token.expires_at() - self.mailer.endpoint().clock.now();
        let expiry = format!("expires in {} minutes", left.whole_minutes());
        match token.scopes() {
            [] => expiry,
            scopes => format!("{expiry}, granted {}", scopes.join(" ")),
        }
    }

    /// What Exchange Online may refuse the token for.
    fn doubts(&self, token: &AccessToken) -> Vec<String> {
        match self.mailer.config().provider() {
            MailProvider::Exchange(cloud) => claims::doubts(token, cloud, self.mailer.config().username()),
            _ => Vec::new(),
        }
    }
}

/// Sorts what the provider says of itself into facts and warnings.
fn notes(provider: &dyn TokenProvider, username: &str) -> (Vec<String>, Vec<String>) {
    let (mut facts, mut warnings) = (Vec::new(), Vec::new());
    for note in provider.notes() {
        match note {
            TokenNote::Account(account) if is_same_account(&account, username) => {
                facts.push(format!("signed in as {account}"));
            }
            // Only a warning: the name to sign in with and the address of a mailbox may differ.
            TokenNote::Account(account) => warnings.push(format!(
                "{account} has signed in, and the user name is {username}: sign in with {username}, or enter {account} as user name"
            )),
            TokenNote::Delegated => {} // Whose the tokens are says more.
            TokenNote::AppOnly => facts.push("the app signs in as itself".to_owned()),
            TokenNote::Fact(text) => facts.push(text),
            TokenNote::Warning(text) => warnings.push(text),
        }
    }
    (facts, warnings)
}

fn summary(facts: &[String], warnings: &[String]) -> (StepResult, String) {
    let result = if warnings.is_empty() { StepResult::Passed } else { StepResult::Warning };
    let parts: Vec<_> = [facts.join(", ")].into_iter().chain(warnings.iter().cloned()).collect();
    (result, parts.join("; "))
}
