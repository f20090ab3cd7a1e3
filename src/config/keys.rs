//! Reads the keys of one table of settings: types, names, unknown keys. What a value means is checked elsewhere.

use std::num::NonZeroU32;
use std::time::Duration;

use super::blank;
use super::problem::{ConfigProblem, Problems};
use super::time;
use super::value::{Table, Value};

/// What else to do about an empty value of a key that is not required, as forms and environments have it.
pub(crate) const LEAVE_OUT: &str = ", or leave the key out: it is empty";

/// Reads a table key by key, keeps every problem, and reports the keys that nobody asked for.
pub(crate) struct Keys<'a> {
    table: &'a Table,
    known: Vec<&'static str>,
    problems: Problems,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(table: &'a Table) -> Self {
        Self { table, known: Vec::new(), problems: Problems::default() }
    }

    /// Returns the value of `key`, and takes `key` for known from now on.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Tells whether `key` has a value, without taking it for known.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    pub(crate) fn problem(&mut self, problem: ConfigProblem) {
        self.problems.push(problem);
    }

    pub(crate) fn accept<T>(&mut self, checked: Result<T, ConfigProblem>) -> Option<T> {
        self.problems.accept(checked)
    }

    /// Reports `key` if it is there, which it must not be.
    pub(crate) fn refuse(&mut self, key: &'static str, mend: &str) {
        if self.value(key).is_some() {
            self.problem(ConfigProblem::new(key, mend.to_owned()));
        }
    }

    /// Reports `key` unless it is there.
    pub(crate) fn require(&mut self, key: &'static str, mend: &'static str) {
        if !self.has(key) {
            self.problem(ConfigProblem::new(key, mend));
        }
    }

    /// Reads a text that must be there, as it is; whether it may be empty is checked elsewhere.
    pub(crate) fn text(&mut self, key: &'static str, mend: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            other => {
                self.problem(ConfigProblem::new(
                    key,
                    format!("{mend}: this must be a text, not {}", other.kind()),
                ));
                None
            }
        }
    }

    /// Reads a text of which there may be none; an empty one is a problem, since it may be a value that was forgotten.
    pub(crate) fn optional_text(&mut self, key: &'static str, mend: &'static str) -> Option<&'a str> {
        let text = self.text(key, mend)?;
        if text.trim().is_empty() {
            self.problem(ConfigProblem::new(key, format!("{mend}{LEAVE_OUT}")).showing(text));
            return None;
        }
        Some(text)
    }

    /// Reads an integer; as text too, since the environment has nothing else.
    pub(crate) fn integer<T: TryFrom<i128>>(&mut self, key: &'static str, mend: &'static str) -> Option<T> {
        let value = self.value(key)?;
        let integer = match value {
            Value::Integer(integer) => Some(*integer),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let integer = integer.and_then(|integer| T::try_from(integer).ok());
        if integer.is_none() {
            self.problem(refused(key, mend.to_owned(), value));
        }
        integer
    }

    /// Reads an integer from 1 on.
    pub(crate) fn positive(&mut self, key: &'static str, mend: &'static str) -> Option<NonZeroU32> {
        let number = self.integer::<u32>(key, mend)?;
        self.accept(NonZeroU32::new(number).ok_or_else(|| ConfigProblem::new(key, mend).showing(number)))
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = match value {
            Value::Boolean(boolean) => Some(*boolean),
            Value::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        if boolean.is_none() {
            self.problem(refused(key, "enter true or false".to_owned(), value));
        }
        boolean
    }

    /// Reads a time: `"30s"`, `"1h 30m"`, or whole seconds.
    pub(crate) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.value(key)?;
        let duration = match value {
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            Value::Text(text) => time::parse(text),
            _ => None,
        };
        if duration.is_none() {
            let mend = "enter a time such as \"30s\", \"5m\" or \"1h 30m\", or whole seconds";
            self.problem(refused(key, mend.to_owned(), value));
        }
        duration
    }

    /// Reads one of a few names, and lists them when it is none.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.choice_or(key, choices, None)
    }

    /// Reads one of a few names; `mend` says what to enter where a list of them would not tell.
    pub(crate) fn choice_or<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        mend: Option<&str>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let chosen = match value {
            Value::Text(text) => choices.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)),
            _ => None,
        };
        if chosen.is_none() {
            let names =
                || choices.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
            let mend = mend.map_or_else(|| format!("enter {}", names()), str::to_owned);
            let pasted = match value {
                Value::Text(text) if !text.trim().is_empty() => blank::at_ends(text),
                _ => None,
            };
            self.problem(refused(key, pasted.unwrap_or(mend), value));
        }
        chosen.map(|(_, choice)| *choice)
    }

    pub(crate) fn table(&mut self, key: &'static str) -> Option<&'a Table> {
        match self.value(key)? {
            Value::Table(table) => Some(table),
            other => {
                let mend = format!("enter a table of keys, not {}", other.kind());
                self.problem(ConfigProblem::new(key, mend));
                None
            }
        }
    }

    /// Adds the problems found in the table `key`.
    pub(crate) fn add_within(&mut self, key: &str, problems: impl IntoIterator<Item = ConfigProblem>) {
        self.problems.extend(problems.into_iter().map(|problem| problem.within(key)));
    }

    /// Takes the problems found so far; keys that were not asked for are none of them.
    pub(crate) fn into_problems(self) -> Problems {
        self.problems
    }

    /// Ends the reading: every key that was not asked for is unknown.
    pub(crate) fn finish(mut self) -> Problems {
        for key in self.table.keys().filter(|key| !self.known.contains(key)) {
            let mend = match nearest(key, &self.known) {
                Some(known) => format!("remove this unknown key, or did you mean {known}?"),
                None => format!("remove this unknown key; known here are {}", self.known.join(", ")),
            };
            // Its value is not shown: it may be a secret under a mistyped name.
            self.problems.push(ConfigProblem::new(escaped(key), mend));
        }
        self.problems
    }
}

/// Makes the problem of a value that cannot be read; every key with such a value can be left out.
fn refused(key: &'static str, mend: String, value: &Value) -> ConfigProblem {
    let is_empty = matches!(value, Value::Text(text) if text.trim().is_empty());
    let mend = if is_empty { mend + LEAVE_OUT } else { mend };
    shown(ConfigProblem::new(key, mend), value)
}

fn shown(problem: ConfigProblem, value: &Value) -> ConfigProblem {
    match value.entered() {
        Some(entered) => problem.showing(entered),
        None => problem.showing(value.kind()),
    }
}

/// Makes a key from a file fit to be printed.
fn escaped(key: &str) -> String {
    if key.is_empty() {
        return "\"\"".to_owned(); // As TOML writes it: a problem names its place.
    }
    key.chars().take(60).flat_map(char::escape_debug).collect()
}

/// Finds the known key that `key` was most likely meant to be.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let allowed = (key.len() / 3).min(3);
    known
        .iter()
        .map(|known| (distance(&key, known), *known))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, known)| known)
}

/// Counts the insertions, removals and replacements between two keys (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(60).enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, above) in to.iter().zip(row.windows(2)) {
            let [diagonal, up] = above else { continue };
            left = (diagonal + usize::from(a != *b)).min(up + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_recognised() {
        let known = ["host", "port", "username", "client_secret", "client_secret_expires"];
        for (key, meant) in [
            ("hots", None),
            ("hos", Some("host")),
            ("user_name", Some("username")),
            ("userName", Some("username")),
            ("client-secret", Some("client_secret")),
            ("clientsecret", Some("client_secret")),
            ("colour", None),
        ] {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
    }
}
