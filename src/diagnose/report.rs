//! The result of a diagnosis as data, as text and as Markdown. Holds no secret.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::remedy::Remedy;

/// A step of a diagnosis; [`Diagnose`](crate::Diagnose) has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepName {
    /// What the settings say, and what about them deserves attention.
    Settings,
    /// The server's name in DNS.
    Resolve,
    /// The TCP connection.
    Connect,
    /// The TLS handshake and the certificate.
    Tls,
    /// What the server offers.
    Ehlo,
    /// The access token.
    Token,
    /// Signing in to the mail server.
    Authentication,
    /// Whether the server takes mail from the sender, and to the test recipient.
    Envelope,
    /// The test message.
    TestMessage,
}

/// How a step went; [`Diagnose`](crate::Diagnose) has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepResult {
    /// As it should.
    Passed,
    /// It works, and something about it deserves attention.
    Warning,
    /// It does not work.
    Failed,
    /// It was not tried; the finding says why.
    Skipped,
}

/// One step with its finding; [`Diagnose`](crate::Diagnose) has an example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiagnosisStep {
    name: StepName,
    result: StepResult,
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    took: Duration,
    finding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<Remedy>,
}

/// What each step from the settings to the test message has shown; [`diagnose`](crate::diagnose) has an example.
///
/// `Display` is for a terminal, [`to_markdown`](Self::to_markdown) for a support ticket, `Serialize` for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    steps: Vec<DiagnosisStep>,
}

impl DiagnosisStep {
    pub(super) fn new(
        name: StepName,
        result: StepResult,
        took: Duration,
        mut finding: String,
        remedy: Option<Remedy>,
    ) -> Self {
        // A server's words must not move the cursor of a terminal.
        finding.retain(|char| char == '\n' || !char.is_control());
        Self { name, result, took, finding, remedy }
    }

    /// Returns which step it is.
    pub fn name(&self) -> StepName {
        self.name
    }

    /// Returns how it went.
    pub fn result(&self) -> StepResult {
        self.result
    }

    /// Returns how long it took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns what it has shown.
    pub fn finding(&self) -> &str {
        &self.finding
    }

    /// Returns what can be done about a failure, when it is one of those known here.
    pub fn remedy(&self) -> Option<&Remedy> {
        self.remedy.as_ref()
    }
}

impl Diagnosis {
    pub(super) fn new(steps: Vec<DiagnosisStep>) -> Self {
        Self { steps }
    }

    /// Returns the steps in the order in which they were done.
    pub fn steps(&self) -> &[DiagnosisStep] {
        &self.steps
    }

    /// Tells whether no step failed.
    pub fn is_healthy(&self) -> bool {
        self.first_failure().is_none()
    }

    /// Returns the first step that failed, which is the one to look at.
    pub fn first_failure(&self) -> Option<&DiagnosisStep> {
        self.steps.iter().find(|step| step.result == StepResult::Failed)
    }

    /// Renders it for a support ticket.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("| step | result | ms | finding |\n|---|---|---|---|\n");
        for step in &self.steps {
            let DiagnosisStep { name, result, took, finding, remedy: _ } = step;
            let finding = escaped(finding).replace('\n', "<br>");
            text.push_str(&format!("| {name} | {result} | {} | {finding} |\n", took.as_millis()));
        }
        for step in &self.steps {
            if let Some(remedy) = &step.remedy {
                text.push_str(&format!("\n**{}**\n\n```text\n{remedy}\n```\n", step.name));
            }
        }
        text
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut diagnosis = serializer.serialize_struct("Diagnosis", 2)?;
        diagnosis.serialize_field("healthy", &self.is_healthy())?;
        diagnosis.serialize_field("steps", &self.steps)?;
        diagnosis.end()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DiagnosisStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, result, took, finding, remedy } = self;
        let (first, rest) = finding.split_once('\n').unwrap_or((finding, ""));
        write!(f, "{:<8}  {name}: {first} ({} ms)", result.to_string(), took.as_millis())?;
        for line in rest.lines() {
            write!(f, "\n          {line}")?;
        }
        match remedy {
            Some(remedy) => write!(f, "\n          {}", remedy.to_string().replace('\n', "\n          ")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "settings",
            Self::Resolve => "name resolution",
            Self::Connect => "connection",
            Self::Tls => "TLS",
            Self::Ehlo => "EHLO",
            Self::Token => "access token",
            Self::Authentication => "sign-in",
            Self::Envelope => "sender and recipient",
            Self::TestMessage => "test message",
        })
    }
}

impl fmt::Display for StepResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

/// One paragraph of what went wrong: the error, what the server said, and the causes.
pub(super) fn finding_of(error: &Error) -> String {
    let mut finding = error.to_string();
    if let Some(reply) = error.reply() {
        finding.push_str(&format!("\nthe server said: {reply}"));
    }
    if let Some(challenge) = error.challenge() {
        finding.push_str(&format!("\nand before that: {challenge}"));
    }
    if let Some(description) =
        error.token_error().and_then(|error| error.server_answer().description.as_deref())
    {
        // Entra ends it with trace ids on lines of their own; others say one line.
        let first = description.lines().next().unwrap_or_default();
        finding.push_str(&format!("\nthe sign-in service said: {first}"));
    }
    let mut source = error.source();
    while let Some(cause) = source {
        finding.push_str(&format!("\nbecause: {cause}"));
        source = cause.source();
    }
    finding
}

/// Keeps what a server said from becoming markup; `<username>` would otherwise vanish as a tag.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => escaped.extend(['\\', char]),
            other => escaped.push(other),
        }
    }
    escaped
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}
