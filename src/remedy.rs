//! What is wrong and what to do about it, in the words of the pages it is done on. Classifies nothing.

use std::fmt;

use serde::Serialize;

use crate::powershell;

/// What is wrong, who can put it right, and the steps to take.
///
/// `Display` prints it over several lines, without a line break at the end. Steps that are a line of PowerShell are for
/// Exchange Online PowerShell (`Connect-ExchangeOnline`) and can be copied as they stand, except that an address that
/// is not known appears as `<username>`, `<sender>` or `<recipient>`.
///
/// ```
/// use smtp_oauth::{Remedy, Who};
///
/// let remedy = Remedy::new("The account has no licence.", Who::UserAdministrator)
///     .with_step("Microsoft 365 admin center > Users > Active users > Licenses and apps: tick Exchange Online");
/// assert!(remedy.to_string().starts_with("The account has no licence.\nTo be done by"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    summary: String,
    steps: Vec<String>,
    who: Who,
    link: Option<String>,
}

/// Who can carry out a remedy: the least role that Microsoft documents for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Who {
    /// Nobody has to do anything but wait.
    Nobody,
    /// The person whose account signs in.
    User,
    /// The owner of the recipient's mailbox.
    Recipient,
    /// Whoever set up this program: its settings, or its host's network.
    Operator,
    /// Whoever wrote the program that sends.
    Developer,
    /// An *Exchange Administrator*.
    ExchangeAdministrator,
    /// A *User Administrator*.
    UserAdministrator,
    /// An *Application Administrator*, or the owner of the app registration.
    ApplicationAdministrator,
    /// A *Security Administrator* or *Conditional Access Administrator*.
    SecurityAdministrator,
    /// The administrator of a mail server or domain outside Microsoft 365.
    ServerAdministrator,
}

impl Remedy {
    /// Starts a remedy from one sentence of what is wrong.
    pub fn new(summary: impl Into<String>, who: Who) -> Self {
        Self { summary: summary.into(), steps: Vec::new(), who, link: None }
    }

    /// Adds a step behind the others.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<String>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// Sets the page that explains it.
    #[must_use]
    pub fn with_link(mut self, link: impl Into<String>) -> Self {
        self.link = Some(link.into());
        self
    }

    /// Returns what is wrong, in one sentence.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Returns the steps in the order in which they are to be taken.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Returns who can take them.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Returns the page of the vendor that explains it.
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        if !self.steps.is_empty() {
            match self.who {
                Who::Nobody => f.write_str("\nNothing has to be changed:")?,
                who => write!(f, "\nTo be done by {who}:")?,
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "\n  {}. {step}", index + 1)?;
        }
        match &self.link {
            Some(link) => write!(f, "\nSee {link}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::User => "the user whose account signs in",
            Self::Recipient => "the owner of the recipient's mailbox",
            Self::Operator => "whoever runs this program",
            Self::Developer => "the developer of this program",
            Self::ExchangeAdministrator => "an Exchange administrator",
            Self::UserAdministrator => "a user administrator",
            Self::ApplicationAdministrator => "an application administrator",
            Self::SecurityAdministrator => "a security administrator",
            Self::ServerAdministrator => "the mail server's administrator",
        })
    }
}

/// A remedy as a table holds it: `{username}`, `{sender}`, `{recipient}`, `{host}` and `{port}` stand for what is known when it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) who: Who,
    pub(crate) summary: &'static str,
    pub(crate) steps: &'static [&'static str],
    pub(crate) link: &'static str,
}

/// What is known of the settings; `None` leaves `<username>` and the like for the reader to fill in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blanks<'a> {
    pub(crate) username: Option<&'a str>,
    pub(crate) sender: Option<&'a str>,
    pub(crate) recipient: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    pub(crate) port: Option<&'a str>,
}

impl Advice {
    /// Fills in what is known.
    pub(crate) fn fill(&self, blanks: &Blanks<'_>) -> Remedy {
        let mut remedy = Remedy::new(blanks.fill(self.summary), self.who).with_link(self.link);
        remedy.steps = self.steps.iter().map(|step| blanks.fill(step)).collect();
        remedy
    }
}

impl Blanks<'_> {
    /// Replaces every placeholder; one between single quotes is escaped for PowerShell.
    pub(crate) fn fill(&self, template: &str) -> String {
        let mut filled = String::with_capacity(template.len() + 32);
        let mut rest = template;
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
        {
            filled.push_str(before);
            let value = match name {
                "username" => self.username,
                "sender" => self.sender,
                "recipient" => self.recipient,
                "host" => self.host,
                "port" => self.port,
                _ => None,
            };
            match value {
                Some(value) if before.ends_with('\'') => filled.push_str(&powershell::escaped(value)),
                Some(value) => filled.push_str(value),
                None => filled.extend(["<", name, ">"]),
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_sentence_steps_and_page() {
        let advice = Advice {
            who: Who::ExchangeAdministrator,
            summary: "{username} may not send as {sender}.",
            steps: &["Get-RecipientPermission '{sender}'", "wait an hour"],
            link: "https://learn.microsoft.com/x",
        };
        let blanks =
            Blanks { username: Some("a@contoso.com"), sender: Some("o'b@contoso.com"), ..Blanks::default() };
        assert_eq!(
            advice.fill(&blanks).to_string(),
            "a@contoso.com may not send as o'b@contoso.com.\n\
             To be done by an Exchange administrator:\n  \
               1. Get-RecipientPermission 'o''b@contoso.com'\n  \
               2. wait an hour\n\
             See https://learn.microsoft.com/x"
        );
        assert_eq!(Blanks::default().fill("'{sender}' {host}{"), "'<sender>' <host>{");
    }
}
