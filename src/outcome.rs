//! What became of a submission: who was accepted, who was refused, and whose move it is. Decides nothing.

use std::fmt;
use std::time::Duration;

use lettre::Address;

use crate::cause::{self, ReplyCause, Verdict};
use crate::remedy::{Blanks, Remedy};
use crate::smtp::{Phase, Reply};

/// A message the server took responsibility for, for at least one recipient (RFC 5321 §4.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    accepted: Vec<Address>,
    refused: Vec<Refusal>,
    verdict: Reply,
}

/// A recipient for whom the message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    recipient: Address,
    reply: Option<Reply>,
    disposition: Disposition,
}

/// Whose move it is after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// Nobody's: the same submission can be repeated later, not before `after` if that is known.
    Retry {
        /// How long the server asked to wait, or until a limit that is known leaves room again.
        after: Option<Duration>,
    },
    /// A person must sign in again.
    Reauthenticate,
    /// The administrator must change a setting, here, in Entra or in Exchange.
    FixConfiguration,
    /// The message or its recipients cannot be sent as they are.
    FixMessage,
    /// The message may have been accepted; sending it again may deliver it twice (RFC 1047).
    Indeterminate,
}

impl Disposition {
    /// Returns its name in spans and metrics, such as `fix_configuration`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Reauthenticate => "reauthenticate",
            Self::FixConfiguration => "fix_configuration",
            Self::FixMessage => "fix_message",
            Self::Indeterminate => "indeterminate",
        }
    }
}

impl Submission {
    pub(crate) fn new(accepted: Vec<Address>, refused: Vec<Refusal>, verdict: Reply) -> Self {
        Self { accepted, refused, verdict }
    }

    /// Returns the recipients the server accepted, in the order of the envelope.
    pub fn accepted(&self) -> &[Address] {
        &self.accepted
    }

    /// Returns the recipients for whom the message was not accepted, and why; empty when all were accepted.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Returns the server's reply to the message (to its first transaction, if there were several), such as
    /// `250 2.0.0 OK <id> [Hostname=…]`.
    pub fn reply(&self) -> &Reply {
        &self.verdict
    }

    /// Returns the Message-ID under which Exchange Online stored the message, with its angle brackets.
    ///
    /// It can differ from the one in the message; recipients see this one. `None` when the server names none.
    pub fn message_id(&self) -> Option<&str> {
        let line = self.verdict.lines().next()?;
        let start = line.find('<')?;
        let (_, id) = line.split_at(start);
        let (id, _) = id.split_at(id.find('>')? + 1);
        id.contains('@').then_some(id)
    }
}

impl Refusal {
    /// The server refused this recipient: a 4yz reply may be followed by success later, a 5yz one will not, unless the
    /// cause is known to be otherwise.
    pub(crate) fn by_reply(recipient: Address, reply: Reply) -> Self {
        let finding = cause::classify(Phase::Rcpt, &reply);
        let disposition = match finding.and_then(|finding| finding.verdict) {
            Some(Verdict::Later) => {
                Disposition::Retry { after: finding.and_then(|found| found.cause.window()) }
            }
            None if reply.is_transient() => Disposition::Retry { after: None },
            None | Some(Verdict::Recipients | Verdict::Message) => Disposition::FixMessage,
            Some(_) => Disposition::FixConfiguration,
        };
        Self { recipient, reply: Some(reply), disposition }
    }

    /// The transaction for this recipient failed, after another part of the submission had been accepted.
    pub(crate) fn by_failure(recipient: Address, reply: Option<Reply>, disposition: Disposition) -> Self {
        Self { recipient, reply, disposition }
    }

    /// Pairs each refused recipient with the server's reply.
    pub(crate) fn list(recipients: &[Address], replies: &[Reply]) -> Vec<Self> {
        let pairs = recipients.iter().zip(replies);
        let refused = pairs.filter(|(_, reply)| !reply.is_positive());
        refused.map(|(recipient, reply)| Self::by_reply(recipient.clone(), reply.clone())).collect()
    }

    /// Returns the recipient.
    pub fn recipient(&self) -> &Address {
        &self.recipient
    }

    /// Returns what the server said; `None` when the connection failed in a later transaction of a split submission.
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }

    /// Returns why the server refused, if its reply is one of those known here.
    pub fn cause(&self) -> Option<ReplyCause> {
        let finding = cause::classify(Phase::Rcpt, self.reply.as_ref()?)?;
        Some(finding.cause)
    }

    /// Returns what can be done about it, if the server's reply is one of those known here.
    ///
    /// The recipient's address is filled in. A refusal does not know the settings: where a step needs them, it says
    /// `<username>`, `<sender>` or `<host>`.
    ///
    /// ```
    /// # async fn run(mailer: smtp_oauth::Mailer, message: smtp_oauth::lettre::Message) -> Result<(), smtp_oauth::Error> {
    /// for refusal in mailer.submit(&message).await?.refused() {
    ///     let remedy = refusal.remedy().map(|remedy| remedy.to_string());
    ///     eprintln!("{refusal}\n{}", remedy.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn remedy(&self) -> Option<Remedy> {
        let finding = cause::classify(Phase::Rcpt, self.reply.as_ref()?)?;
        let blanks = Blanks { recipient: Some(self.recipient.as_ref()), ..Blanks::default() };
        Some(finding.advice.fill(&blanks))
    }

    /// Returns whose move it is for this recipient.
    ///
    /// [`Indeterminate`](Disposition::Indeterminate) means that this recipient may have got the message.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Some(reply) => write!(f, "{}: {reply}", self.recipient),
            None => write!(f, "{}: the connection failed before the server had answered", self.recipient),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_message_id_is_read_from_exchanges_reply() {
        let cases = [
            (
                "2.0.0 OK <abc@SYBP282.PROD.OUTLOOK.COM> [Hostname=SYBP282]",
                Some("<abc@SYBP282.PROD.OUTLOOK.COM>"),
            ),
            ("2.0.0 Ok: queued as 4F1A", None),
            ("2.0.0 OK <no at sign>", None),
            ("2.0.0 OK >odd< ", None),
        ];
        for (line, id) in cases {
            let submission = Submission::new(Vec::new(), Vec::new(), Reply::new(250, line.to_owned()));
            assert_eq!(submission.message_id(), id, "{line}");
        }
    }
}
