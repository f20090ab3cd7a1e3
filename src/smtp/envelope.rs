//! The envelope of a transaction: MAIL and every RCPT, in one flight where PIPELINING is offered (RFC 2920), and what the
//! server said to each. Sends no message.

use std::time::Duration;

use super::command::{self, Parameters};
use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::phase::Phase;
use super::reply::Reply;
use super::transaction::{Order, RecipientPolicy, Undelivered};

/// The commands of an envelope, each with its CRLF.
pub(super) struct Commands {
    pub(super) mail: Vec<u8>,
    pub(super) recipients: Vec<Vec<u8>>,
}

impl Commands {
    pub(super) fn joined(&self) -> Vec<u8> {
        let length = self.mail.len() + self.recipients.iter().map(Vec::len).sum::<usize>();
        let mut group = Vec::with_capacity(length + 32);
        group.extend_from_slice(&self.mail);
        self.recipients.iter().for_each(|line| group.extend_from_slice(line));
        group
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
        let mut commands = Commands {
            mail: Vec::with_capacity(128),
            recipients: Vec::with_capacity(order.recipients.len()),
        };
        command::mail(&mut commands.mail, order.from, &parameters)?;
        for to in order.recipients {
            let mut line = Vec::with_capacity(64);
            command::rcpt(&mut line, to, &parameters)?;
            commands.recipients.push(line);
        }
        Ok(commands)
    }

    pub(super) async fn envelope_in_one_flight(
        &mut self,
        commands: &Commands,
        asks_first: bool,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let mut group = commands.joined();
        if !asks_first {
            group.extend_from_slice(b"DATA\r\n");
        }
        self.owe(commands.recipients.len() + if asks_first { 1 } else { 2 });
        self.send(Phase::Mail, &group, timeouts.envelope()).await?;
        let mut replies = self.envelope_replies(commands, timeouts.envelope()).await?;
        if !asks_first {
            match self.read(Phase::Data, timeouts.data()).await {
                Ok(data) => replies.data = Some(data),
                Err(failure) => {
                    let EnvelopeReplies { mail, recipients, data: _ } = replies;
                    return Err(Undelivered::cut_short(
                        failure,
                        &mail,
                        recipients,
                        commands.recipients.len(),
                    ));
                }
            }
        }
        Ok(replies)
    }

    /// Reads the replies to MAIL and to every RCPT of a group.
    pub(super) async fn envelope_replies(
        &mut self,
        commands: &Commands,
        limit: Duration,
    ) -> Result<EnvelopeReplies, Undelivered> {
        let mail = self.read(Phase::Mail, limit).await?;
        let mut recipients = Vec::with_capacity(commands.recipients.len());
        for _ in &commands.recipients {
            match self.read(Phase::Rcpt, limit).await {
                Ok(reply) => recipients.push(reply),
                Err(failure) => {
                    return Err(Undelivered::cut_short(
                        failure,
                        &mail,
                        recipients,
                        commands.recipients.len(),
                    ));
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
        let mail = self.command(Phase::Mail, &commands.mail, limit).await?;
        let mut replies = EnvelopeReplies { mail, recipients: Vec::new(), data: None };
        if !replies.mail.is_positive() {
            return Ok(replies);
        }
        for line in &commands.recipients {
            match self.command(Phase::Rcpt, line, limit).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(failure) => return Err(Undelivered::from(failure).after_recipients(replies.recipients)),
            }
            if replies.is_closing() {
                break;
            }
        }
        Ok(replies)
    }
}
