//! One mail transaction (RFC 5321 §3.3) over a connection: MAIL, RCPT and DATA in one flight where PIPELINING is offered
//! (RFC 2920), then the message. Says for each recipient what the server said, and whether the message can have arrived.

use lettre::address::Envelope;

use super::command::{self, Parameters};
use super::connection::Connection;
use super::content::Content;
use super::failure::{Cause, Failure, ReplyFault};
use super::phase::Phase;
use super::reply::Reply;

/// Octets of a message that are prepared at a time; a smaller message goes out in one write.
const PIECE: usize = 32 * 1024;

/// The server took responsibility for the message.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The reply to each RCPT, in the order of the envelope; at least one is positive.
    pub(crate) recipients: Vec<Reply>,
    /// The server's verdict on the message.
    pub(crate) verdict: Reply,
}

/// The server did not take responsibility for the message, as far as the client can know.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) failure: Failure,
    /// The replies to RCPT that had arrived.
    pub(crate) recipients: Vec<Reply>,
    pub(crate) certainty: Certainty,
}

/// What the client knows about a message that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// The server cannot have accepted it: it refused, or never had all of it.
    NotDelivered,
    /// The last octet had gone out and no verdict came (RFC 1047).
    Unknown,
}

/// What came of MAIL, RCPT and DATA.
struct EnvelopeReplies {
    mail: Reply,
    recipients: Vec<Reply>,
    /// `None` when DATA was not sent.
    data: Option<Reply>,
}

impl EnvelopeReplies {
    fn has_recipient(&self) -> bool {
        self.mail.is_positive() && self.recipients.iter().any(Reply::is_positive)
    }
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        Self { failure, recipients: Vec::new(), certainty: Certainty::NotDelivered }
    }
}

impl Undelivered {
    fn refused(phase: Phase, reply: Reply) -> Self {
        Failure::new(phase, Cause::Refused(reply)).into()
    }

    /// A group of commands was answered in part; a server that refuses and closes has said why in what did come.
    fn cut_short(failure: Failure, mail: &Reply, recipients: Vec<Reply>, asked: usize) -> Self {
        let all_refused = recipients.len() == asked && !recipients.iter().any(Reply::is_positive);
        let decisive = recipients.iter().find(|reply| all_refused || reply.code() == 421);
        let refused = match (&failure.cause, decisive) {
            (Cause::Closed(_), _) if !mail.is_positive() => Some((Phase::Mail, mail)),
            (Cause::Closed(_), Some(reply)) => Some((Phase::Rcpt, reply)),
            _ => None,
        };
        let undelivered = match refused {
            Some((phase, reply)) => Self::refused(phase, reply.clone()),
            None => failure.into(),
        };
        undelivered.with_recipients(recipients)
    }

    fn with_recipients(mut self, recipients: Vec<Reply>) -> Self {
        self.recipients = recipients;
        self
    }
}

impl Connection {
    /// Carries one message. Afterwards [`is_clean`](Self::is_clean) says whether the connection can carry another.
    ///
    /// # Cancellation
    /// A dropped future leaves the connection unclean; whether the message arrived is then unknown.
    pub(crate) async fn submit(
        &mut self,
        envelope: &Envelope,
        content: &Content<'_>,
    ) -> Result<Delivery, Undelivered> {
        let (mail, recipients) =
            self.commands(envelope, content).map_err(|cause| Failure::new(Phase::Preparation, cause))?;
        self.in_transaction = true;
        let replies = match self.capabilities.pipelining {
            true => self.envelope_in_one_flight(&mail, &recipients).await?,
            false => self.envelope_step_by_step(&mail, &recipients).await?,
        };
        match &replies.data {
            Some(data) if data.code() == 354 && replies.has_recipient() => {
                let verdict = self.message(content).await;
                self.conclude(replies.recipients, verdict)
            }
            _ => Err(self.abandon(replies).await),
        }
    }

    /// Asks whether the server would take mail from and to these addresses, and sends none.
    pub(super) fn commands(
        &self,
        envelope: &Envelope,
        content: &Content<'_>,
    ) -> Result<(Vec<u8>, Vec<Vec<u8>>), Cause> {
        let parameters = Parameters::for_message(envelope, content, &self.capabilities)?;
        let mut mail = Vec::with_capacity(128);
        command::mail(&mut mail, envelope.from(), parameters)?;
        let recipients = envelope.to().iter().map(|to| {
            let mut line = Vec::with_capacity(64);
            command::rcpt(&mut line, to).map(|()| line)
        });
        Ok((mail, recipients.collect::<Result<_, _>>()?))
    }

    async fn envelope_in_one_flight(
        &mut self,
        mail: &[u8],
        recipients: &[Vec<u8>],
    ) -> Result<EnvelopeReplies, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let mut group = mail.to_vec();
        recipients.iter().for_each(|line| group.extend_from_slice(line));
        group.extend_from_slice(b"DATA\r\n");
        self.owed += u32::try_from(recipients.len()).unwrap_or(u32::MAX).saturating_add(2);
        self.write_or_last_words(Phase::Mail, &group, timeouts.envelope()).await?;

        let mail = self.read(Phase::Mail, timeouts.envelope()).await?;
        let mut replies = Vec::with_capacity(recipients.len());
        for _ in recipients {
            match self.read(Phase::Rcpt, timeouts.envelope()).await {
                Ok(reply) => replies.push(reply),
                Err(failure) => {
                    return Err(Undelivered::cut_short(failure, &mail, replies, recipients.len()));
                }
            }
        }
        match self.read(Phase::Data, timeouts.data()).await {
            Ok(data) => Ok(EnvelopeReplies { mail, recipients: replies, data: Some(data) }),
            Err(failure) => Err(Undelivered::cut_short(failure, &mail, replies, recipients.len())),
        }
    }

    async fn envelope_step_by_step(
        &mut self,
        mail: &[u8],
        recipients: &[Vec<u8>],
    ) -> Result<EnvelopeReplies, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let mail = self.command(Phase::Mail, mail, timeouts.envelope()).await?;
        let mut replies =
            EnvelopeReplies { mail, recipients: Vec::with_capacity(recipients.len()), data: None };
        if !replies.mail.is_positive() {
            return Ok(replies);
        }
        for line in recipients {
            match self.command(Phase::Rcpt, line, timeouts.envelope()).await {
                Ok(reply) => replies.recipients.push(reply),
                Err(failure) => return Err(Undelivered::from(failure).with_recipients(replies.recipients)),
            }
        }
        if replies.has_recipient() {
            match self.command(Phase::Data, b"DATA\r\n", timeouts.data()).await {
                Ok(reply) => replies.data = Some(reply),
                Err(failure) => return Err(Undelivered::from(failure).with_recipients(replies.recipients)),
            }
        }
        Ok(replies)
    }

    /// Sends the message after a `354` and returns the verdict.
    async fn message(&mut self, content: &Content<'_>) -> Result<Reply, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        self.owed += 1;
        let mut encoder = content.dotted();
        let mut piece =
            Vec::with_capacity(PIECE.min(usize::try_from(content.wire_size()).unwrap_or(PIECE) + 64));
        loop {
            piece.clear();
            let more = encoder.fill(&mut piece, PIECE);
            self.write_or_last_words(Phase::Body, &piece, timeouts.body_progress()).await?;
            if !more {
                break;
            }
        }
        // From here on the server may have the whole message.
        let unknown = |failure| Undelivered { certainty: Certainty::Unknown, ..Undelivered::from(failure) };
        self.flush(Phase::FinalReply, timeouts.body_progress()).await.map_err(unknown)?;
        self.read(Phase::FinalReply, timeouts.final_reply()).await.map_err(unknown)
    }

    fn conclude(
        &mut self,
        recipients: Vec<Reply>,
        verdict: Result<Reply, Undelivered>,
    ) -> Result<Delivery, Undelivered> {
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(undelivered) => return Err(undelivered.with_recipients(recipients)),
        };
        match verdict.code() {
            421 => Err(Undelivered::refused(Phase::FinalReply, verdict).with_recipients(recipients)),
            200..300 => {
                self.in_transaction = false;
                Ok(Delivery { recipients, verdict })
            }
            400..600 => {
                self.in_transaction = false;
                Err(Undelivered::refused(Phase::FinalReply, verdict).with_recipients(recipients))
            }
            code => {
                let failure = Failure::new(Phase::FinalReply, Cause::Protocol(ReplyFault::Unexpected(code)));
                Err(Undelivered { failure, recipients, certainty: Certainty::Unknown })
            }
        }
    }

    /// Brings the connection back to where MAIL may follow, and says what was refused.
    async fn abandon(&mut self, replies: EnvelopeReplies) -> Undelivered {
        let EnvelopeReplies { mail, recipients, data } = replies;
        let closing = [Some(&mail), data.as_ref()]
            .into_iter()
            .flatten()
            .chain(&recipients)
            .any(|reply| reply.code() == 421);
        let restored = match data.as_ref().map(Reply::code) {
            _ if closing => false,
            // RFC 2920 §3.1: a server may say 354 although it has no recipient; it then gets an empty message.
            Some(354) => self
                .command(Phase::Body, b".\r\n", self.endpoint.config.timeouts().final_reply())
                .await
                .is_ok(),
            Some(code) if code < 400 => {
                let failure = Failure::new(Phase::Data, Cause::Protocol(ReplyFault::Unexpected(code)));
                return Undelivered::from(failure).with_recipients(recipients);
            }
            _ if mail.is_positive() => self.reset().await,
            _ => true,
        };
        self.in_transaction = !restored;
        let refusal = match (mail.is_positive(), recipients.iter().any(Reply::is_positive), data) {
            (false, ..) => (Phase::Mail, Some(mail)),
            (true, false, _) => (Phase::Rcpt, recipients.first().cloned()),
            (true, true, data) => (Phase::Data, data),
        };
        match refusal {
            (phase, Some(reply)) => Undelivered::refused(phase, reply).with_recipients(recipients),
            (phase, None) => {
                Failure::new(phase, Cause::Unsendable("the envelope has no recipient".to_owned())).into()
            }
        }
    }

    async fn reset(&mut self) -> bool {
        let limit = self.endpoint.config.timeouts().envelope();
        self.command(Phase::Reset, b"RSET\r\n", limit).await.is_ok_and(|reply| reply.is_positive())
    }

    /// Writes, and on failure looks for the refusal that a server may send before it closes.
    async fn write_or_last_words(
        &mut self,
        phase: Phase,
        bytes: &[u8],
        stall: std::time::Duration,
    ) -> Result<(), Undelivered> {
        let written = match self.write_slowly(phase, bytes, stall).await {
            Ok(()) if phase != Phase::Body => self.flush(phase, stall).await,
            written => written,
        };
        let Err(failure) = written else { return Ok(()) };
        if matches!(failure.cause, Cause::Closed(_) | Cause::Timeout(_) | Cause::Overdue(_))
            && let Some(reply) = self.last_words(phase).await
            && !reply.is_positive()
        {
            return Err(Undelivered::refused(phase, reply));
        }
        Err(failure.into())
    }
}
