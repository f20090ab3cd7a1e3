//! What is wrong with settings: every problem at once, each with the field, the value and the remedy. Checks nothing itself.

use std::borrow::Cow;
use std::fmt;

/// The longest part of a given value that is kept, in characters.
const SHOWN: usize = 100;

/// One setting that cannot be used, with what to enter instead.
///
/// [`ConfigError`] has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    field: Cow<'static, str>,
    given: Option<String>,
    mend: Cow<'static, str>,
}

impl ConfigProblem {
    pub(crate) fn new(field: impl Into<Cow<'static, str>>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), given: None, mend: mend.into() }
    }

    /// Keeps the refused value; never called with a secret, nor with a value that may hold one.
    pub(crate) fn showing(mut self, value: impl fmt::Display) -> Self {
        let text = value.to_string();
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        self.given = Some(shown);
        self
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
    /// `None` when nothing was given, and for a secret or a value that may hold one. It is not escaped: print it with
    /// `{:?}`, as `Display` of this type does.
    pub fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    /// Returns what to enter instead, and why.
    pub fn mend(&self) -> &str {
        &self.mend
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => write!(f, "{} (given {given:?}): {}", self.field, self.mend),
            None => write!(f, "{}: {}", self.field, self.mend),
        }
    }
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
