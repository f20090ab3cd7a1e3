//! The envelope of a transaction: MAIL and every RCPT, in one flight where PIPELINING is offered (RFC 2920), and what the
//! server said to each. Sends no message.

use std::time::Duration;

use super::command::{self, Parameters};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::phase::Phase;
use super::reply::Reply;
use super::transaction::{Order, RecipientPolicy, Undelivered};

/// The commands of an envelope, each with its CRLF, one behind the other.
pub(super) struct Commands {
    pub(super) group: Vec<u8>,
    pub(super) recipients: usize,
}

impl Commands {
    /// Returns MAIL and then each RCPT.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        // `push_line` lets no line end into a line.
        self.group.split_inclusive(|byte| *byte == b'\n')
    }
}

/// What came of MAIL, RCPT and DATA.
pub(super) struct EnvelopeReplies {
    pub(super) mail: Reply,
    pub(super) recipients: Vec<Reply>,
    /// `None` when DATA was not sent.
    pub(super) data: Option<Reply>,
}

impl EnvelopeReplies {
    pub(super) fn has_recipient(&self) -> bool {
        self.mail.is_positive() && self.recipients.iter().any(Reply::is_positive)
    }

    pub(super) fn may_proceed(&self, policy: RecipientPolicy) -> bool {
        let all = self.recipients.iter().all(Reply::is_positive);
        !self.is_closing() && self.has_recipient() && (all || policy == RecipientPolicy::AcceptSome)
    }

    /// Tells whether DATA was answered with the leave to send the message.
    pub(super) fn has_leave(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.code() == 354)
    }

    pub(super) fn is_closing(&self) -> bool {
        [Some(&self.mail), self.data.as_ref()]
            .into_iter()
            .flatten()
            .chain(&self.recipients)
            .any(|reply| reply.code() == 421)
    }

    /// Finds the reply that kept the message from being sent.
    pub(super) fn refusal(self) -> Undelivered {
        let Self { mail, recipients, data } = self;
        let find = |wanted: fn(&Reply) -> bool| recipients.iter().find(|reply| wanted(reply));
        let closing = find(|reply| reply.code() == 421);
        // Of several refusals the one that may go away speaks for the message, as trying again gets further; but where
        // all recipients must be accepted, the one that stays.
        let refused = match recipients.iter().any(Reply::is_positive) {
            true => find(Reply::is_permanent).or_else(|| find(Reply::is_transient)),
            false => find(Reply::is_transient).or_else(|| find(|reply| !reply.is_positive())),
        };
        let refused = closing.or(refused).cloned();
        let data = data.filter(|data| closing.is_none() && data.code() >= 400);
        let (phase, reply) = match (mail.is_positive(), data) {
            (false, _) => (Phase::Mail, Some(mail)),
            (true, Some(data)) if recipients.iter().any(Reply::is_positive) => (Phase::Data, Some(data)),
            (true, _) => (Phase::Rcpt, refused),
        };
        match reply {
            Some(reply) => Undelivered::refused(phase, reply).with_recipients(recipients),
            None => Failure::new(phase, Cause::Unsendable("the envelope has no recipient".to_owned())).into(),
        }
    }
}

impl Connection {
    /// Writes the commands of the envelope; says why not, before anything is sent.
    pub(super) fn commands(&self, order: &Order<'_>) -> Result<Commands, Cause> {
        let parameters = Parameters::for_order(order, &self.capabilities)?;
        let paths =
            order.from.into_iter().chain(order.recipients).map(|path| AsRef::<str>::as_ref(path).len());
        let mut group =
            Vec::with_capacity(128 + paths.map(|length| length + "RCPT TO:<>\r\n".len()).sum::<usize>());
        command::mail(&mut group, order.from, &parameters)?;
        for to in order.recipients {
            command::rcpt(&mut group, to, &parameters)?;
        }
        Ok(Commands { group, recipients: order.recipients.len() })
    }

    pub(super) async fn envelope_in_one_flight(
        &mut self,
        commands: Commands,
        asks_first: bool,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let Commands { mut group, recipients } = commands;
        if !asks_first {
            group.extend_from_slice(b"DATA\r\n");
        }
        self.owe(recipients + if asks_first { 1 } else { 2 });
        self.send(Phase::Mail, &group, timeouts.envelope()).await?;
        match asks_first {
            true => self.envelope_replies(recipients, timeouts.envelope()).await,
            false => self.envelope_and_data_replies(recipients).await,
        }
    }

    /// Reads the replies to a group that ends with DATA.
    pub(super) async fn envelope_and_data_replies(
        &mut self,
        asked: usize,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let limit = self.endpoint.config.timeouts().envelope();
        let replies = self.envelope_replies(asked, limit).await?;
        let limit = self.endpoint.config.timeouts().data();
        match self.read(Phase::Data, limit).await {
            Ok(data) => Ok(EnvelopeReplies { data: Some(data), ..replies }),
            Err(failure) => Err(Undelivered::cut_short(failure, &replies.mail, replies.recipients, asked)),
        }
    }

    /// Reads the replies to MAIL and to every RCPT of a group.
    pub(super) async fn envelope_replies(
        &mut self,
        asked: usize,
        limit: Duration,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let mail = self.read(Phase::Mail, limit).await?;
        let mut recipients = Vec::with_capacity(asked);
        for _ in 0..asked {
            match self.read(Phase::Rcpt, limit).await {
                Ok(reply) => recipients.push(reply),
                Err(failure) => {
                    return Err(Undelivered::cut_short(failure, &mail, recipients, asked));
                }
            }
        }
        Ok(EnvelopeReplies { mail, recipients, data: None })
    }

    pub(super) async fn envelope_step_by_step(
        &mut self,
        commands: &Commands,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let limit = self.endpoint.config.timeouts().envelope();
        let mut lines = commands.lines();
        let mail = self.command(Phase::Mail, lines.next().unwrap_or_default(), limit).await?;
        let mut replies = EnvelopeReplies { mail, recipients: Vec::new(), data: None };
        if !replies.mail.is_positive() {
            return Ok(replies);
        }
        for line in lines {
            match self.command(Phase::Rcpt, line, limit).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(failure) => return Err(Undelivered::from(failure).with_recipients(replies.recipients)),
            }
            if replies.is_closing() {
                break;
            }
        }
        Ok(replies)
    }
}
