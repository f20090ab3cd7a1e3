//! What is wrong with settings: every problem at once, each with the field, the value and the remedy. Checks nothing itself.

use std::borrow::Cow;
use std::fmt;

use super::value::{Table, Value};

/// The longest part of a given value that is kept, in characters.
const SHOWN: usize = 100;

const WITHHELD: &str = "(not shown, as it looks like a secret)";

/// One setting that cannot be used, with what to enter instead.
///
/// [`ConfigError`] has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    field: Cow<'static, str>,
    given: Given,
    mend: Cow<'static, str>,
}

/// What is kept of a refused value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    /// It looked like a secret.
    Withheld,
    Shown(String),
}

impl ConfigProblem {
    pub(crate) fn new(field: impl Into<Cow<'static, str>>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), given: Given::Nothing, mend: mend.into() }
    }

    /// Keeps the refused value, unless it looks like a secret that was pasted into the wrong field; never called with what
    /// is meant to be one.
    pub(crate) fn showing(mut self, value: impl fmt::Display) -> Self {
        let text = value.to_string();
        if is_like_a_secret(&text) {
            self.given = Given::Withheld;
            return self;
        }
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        self.given = Given::Shown(shown);
        self
    }

    /// Shows what was entered in `table` in place of what was made of it, where a value is shown at all.
    pub(crate) fn showing_entered(self, table: &Table) -> Self {
        match (&self.given, table.at(&self.field).and_then(Value::entered)) {
            (Given::Shown(_), Some(entered)) => self.showing(entered),
            _ => self,
        }
    }

    /// Puts the table's name before the field: `port` in `server` is `server.port`.
    pub(crate) fn within(mut self, table: &str) -> Self {
        self.field = Cow::Owned(format!("{table}.{}", self.field));
        self
    }

    /// Returns the setting's name, with the tables it is in: `server.port`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the value that was refused, cut after 100 characters.
    ///
    /// `None` when nothing was given, and for a secret or a value that may hold one, such as a client secret that was pasted
    /// into another field; `Display` then says that it is withheld. It is not escaped: print it with
    /// `{:?}`, as `Display` of this type does.
    pub fn given(&self) -> Option<&str> {
        match &self.given {
            Given::Shown(given) => Some(given),
            Given::Nothing | Given::Withheld => None,
        }
    }

    /// Returns what to enter instead, and why.
    pub fn mend(&self) -> &str {
        &self.mend
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Given::Shown(given) => write!(f, "{} (given {given:?}): {}", self.field, self.mend),
            Given::Withheld => {
                write!(f, "{} {WITHHELD}: {}", self.field, self.mend)
            }
            Given::Nothing => write!(f, "{}: {}", self.field, self.mend),
        }
    }
}

/// Tells whether `text` looks like a client secret or a token, which is easily pasted into a field next to its own.
///
/// A host, a path or a name that looks so is withheld for nothing, which harms little; a password cannot be told.
pub(crate) fn is_like_a_secret(text: &str) -> bool {
    // Entra's client secrets are three characters, a digit, `Q~` and 34 more.
    let is_client_secret =
        |word: &str| word.len() >= 32 && word.get(3..).is_some_and(|rest| rest.get(1..3) == Some("Q~"));
    // The rest is of one piece and at random: the parts of a JWT or a refresh token, Google's `GOCSPX-…`, a key.
    let is_random = |part: &str| {
        let has = |kind: fn(&u8) -> bool| part.bytes().any(|byte| kind(&byte));
        part.len() >= 24
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
    };
    let is_of_token = |char: char| char.is_ascii_alphanumeric() || "-_~+=".contains(char);
    text.split_whitespace().any(is_client_secret) || text.split(|char| !is_of_token(char)).any(is_random)
}

/// Quotes a value within a sentence, unless it looks like a secret.
pub(crate) fn quoted(text: &str) -> String {
    if is_like_a_secret(text) { WITHHELD.to_owned() } else { format!("{text:?}") }
}

/// The settings cannot be used; lists every problem, not just the first.
///
/// `Display` prints a line with their number, then one line for each. No line holds a secret.
///
/// ```
/// use smtp_oauth::Office365Profile;
///
/// let error = Office365Profile::builder().username("svc-mail@contoso.com").port(465).minimum_tls("1.1").build().unwrap_err();
/// let fields: Vec<_> = error.problems().iter().map(|problem| problem.field()).collect();
/// assert_eq!(fields, ["port", "minimum_tls"]);
/// assert!(error.to_string().starts_with("2 problems in the mail settings\n  port (given \"465\"): enter 587"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// Returns the problems; there is at least one.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }

    /// Shows what was entered in `table` in place of what was made of it.
    pub(crate) fn showing_entered(self, table: &Table) -> Self {
        Self { problems: self.problems.into_iter().map(|problem| problem.showing_entered(table)).collect() }
    }

    pub(crate) fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the mail settings", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigProblem> for ConfigError {
    fn from(problem: ConfigProblem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl IntoIterator for Problems {
    type Item = ConfigProblem;
    type IntoIter = std::vec::IntoIter<ConfigProblem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The problems found so far; validation goes on past each of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Vec<ConfigProblem>);

impl Problems {
    pub(crate) fn push(&mut self, problem: ConfigProblem) {
        self.0.push(problem);
    }

    pub(crate) fn extend(&mut self, problems: impl IntoIterator<Item = ConfigProblem>) {
        self.0.extend(problems);
    }

    /// Keeps the problem of a failed check, so that the checks after it still run.
    pub(crate) fn accept<T>(&mut self, checked: Result<T, ConfigProblem>) -> Option<T> {
        checked.map_err(|problem| self.push(problem)).ok()
    }

    /// Tells whether `field` has a problem.
    pub(crate) fn concern(&self, field: &str) -> bool {
        self.0.iter().any(|problem| problem.field == field)
    }

    /// Adds the problems of fields that have none yet, so that no field is reported twice.
    pub(crate) fn extend_new(&mut self, found: Self) {
        let known = self.0.len();
        for problem in found.0 {
            if !self.0.iter().take(known).any(|earlier| earlier.field == problem.field) {
                self.0.push(problem);
            }
        }
    }

    /// Returns `value` when there was no problem; a missing value without a problem is a defect of ours, and reported.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            None if self.0.is_empty() => {
                self.push(ConfigProblem::new("settings", "enter the required settings"));
                Err(ConfigError { problems: self.0 })
            }
            _ => Err(ConfigError { problems: self.0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_what_belongs_into_settings() {
        for secret in [
            "abc8Q~dEfGhIjKlMnOpQrStUvWxYz0123456789a",
            "a.c8Q~d.f-h_j~l.n-p_r~t.v-x_z~1.3-5_7~9a",
            "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3gifQ.c2ln",
            "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",
            "1//0gk3JhX9aQvLm2Tz7RwYp0Bd5NcEuFsH-L9IrW",
            "/run/k3JhX9aQvLm2Tz7RwYp0Bd5NcEuFsH/token.json",
        ] {
            assert!(is_like_a_secret(secret), "{secret}");
        }
        for harmless in [
            "6731de76-14a6-49ae-97bc-6eba6914391e",
            "6731DE76-14A6-49AE-97BC-6EBA6914391E",
            "contoso.onmicrosoft.com",
            "MailServer01.Production.Contoso.Example.com",
            "/var/lib/ContosoMailer/Production/tokens-2027.json",
            "https://id.example.com/realms/mail/protocol/openid-connect/token",
            "Contoso's newsletter of January 2027 <news@contoso.com>",
            "587",
            "",
        ] {
            assert!(!is_like_a_secret(harmless), "{harmless}");
        }
    }
}
