//! One mail transaction (RFC 5321 §3.3) over a connection: MAIL, RCPT and DATA in one flight where PIPELINING is offered
//! (RFC 2920), then the message; with CHUNKING (RFC 3030) everything in one. Says for each recipient what the server said,
//! and whether the message can have arrived.

use std::time::Duration;

use lettre::Address;

use super::connection::{Connection, Endpoint, LAST_WORDS};
use super::content::{Content, Encoder};
use super::dsn::Dsn;
use super::envelope::{Commands, EnvelopeReplies};
use super::failure::{Cause, Failure, ReplyFault};
use super::phase::Phase;
use super::reply::Reply;
use crate::config::Chunking;
use crate::observe::connection::{Transaction, phase};

/// A message of more octets is sent only after the server has accepted somebody: a refusal then costs no upload.
pub(super) const LARGEST_UNASKED: u64 = 64 * 1024;

/// Commands and message that fit into one TLS record (RFC 8446 §5.1) are joined and written at once.
const ONE_RECORD: usize = 16 * 1024;

/// How long a refusal may be held back for the sake of the connection; a server that takes longer to say `250` to RSET
/// gets a new one.
const RESET: Duration = Duration::from_secs(5);

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

/// What to submit, and to whom.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) from: Option<&'a Address>,
    pub(crate) recipients: &'a [Address],
    pub(crate) content: &'a Content<'a>,
    pub(crate) policy: RecipientPolicy,
    pub(crate) dsn: Option<&'a Dsn>,
}

/// What happens to a message when the server refuses some of its recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecipientPolicy {
    /// The others get it, and the refused ones are reported. The default.
    #[default]
    AcceptSome,
    /// Nobody gets it; costs one round trip more.
    AllOrNothing,
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Self {
        Self { failure, recipients: Vec::new(), certainty: Certainty::NotDelivered }
    }
}

impl Undelivered {
    pub(crate) fn name(&self) -> &'static str {
        self.failure.name()
    }

    pub(super) fn refused(phase: Phase, reply: Reply) -> Self {
        Failure::new(phase, Cause::Refused(reply)).into()
    }

    /// A group of commands was answered in part; the reason is what was refused in what did come, if it stood in the way.
    pub(super) fn cut_short(failure: Failure, mail: &Reply, recipients: Vec<Reply>, asked: usize) -> Self {
        let all_refused = recipients.len() == asked && !recipients.iter().any(Reply::is_positive);
        let decisive = recipients.iter().find(|reply| all_refused || reply.code() == 421);
        let is_closed = matches!(failure.cause, Cause::Closed(_));
        // Neither yes nor no is a refusal only of a server that leaves with it.
        let is_refusal = |reply: &&Reply| reply.code() >= 400 || is_closed && !reply.is_positive();
        let mail = Some(mail).filter(is_refusal).map(|reply| (Phase::Mail, reply));
        let refused = mail.or_else(|| decisive.filter(is_refusal).map(|reply| (Phase::Rcpt, reply)));
        let undelivered = match refused {
            Some((phase, reply)) => Self::refused(phase, reply.clone()),
            None => failure.into(),
        };
        undelivered.with_recipients(recipients)
    }

    /// Tells whether the server has refused the sender or every recipient.
    fn refuses_everybody(&self, asked: usize) -> bool {
        let nobody = self.recipients.len() == asked && !self.recipients.iter().any(Reply::is_positive);
        matches!(self.failure.cause, Cause::Refused(_)) && (self.failure.phase == Phase::Mail || nobody)
    }

    pub(super) fn unknown(failure: Failure) -> Self {
        Self { certainty: Certainty::Unknown, ..Self::from(failure) }
    }

    pub(super) fn with_recipients(mut self, recipients: Vec<Reply>) -> Self {
        self.recipients = recipients;
        self
    }
}

impl Connection {
    /// Carries one message. Afterwards [`is_clean`](Self::is_clean) says whether the connection can carry another.
    ///
    /// # Cancellation
    /// A dropped future leaves the connection unclean; whether the message arrived is then unknown.
    pub(crate) async fn submit(&mut self, order: &Order<'_>) -> Result<Delivery, Undelivered> {
        let transaction = self.observed(order);
        let result = transaction.run(self.transact(order)).await;
        let Endpoint { clock, server, .. } = &self.endpoint;
        transaction.end(server, clock, result, Undelivered::name)
    }

    /// Begins to measure a transaction.
    pub(crate) fn observed(&self, order: &Order<'_>) -> Transaction {
        Transaction::begin(&self.endpoint.clock, order.recipients.len(), order.content.wire_size())
    }

    async fn transact(&mut self, order: &Order<'_>) -> Result<Delivery, Undelivered> {
        let commands = self.commands(order).map_err(|cause| Failure::new(Phase::Preparation, cause))?;
        self.in_transaction = true;
        self.hear_unasked(Phase::Mail).await?;
        let Order { content, policy, .. } = order;
        let chunks = self.sends_chunks();
        let asks_first = *policy == RecipientPolicy::AllOrNothing;
        let doubtful = std::mem::take(&mut self.doubtful);
        if chunks
            && self.capabilities.pipelining
            && !asks_first
            && !doubtful
            && content.wire_size() <= LARGEST_UNASKED
        {
            return self.single_flight(commands, content).await;
        }
        let mut replies = match self.capabilities.pipelining {
            true => {
                let envelope = self.envelope_in_one_flight(commands, chunks || asks_first);
                let span = phase(Phase::Mail.name());
                span.note(span.run(envelope).await, Undelivered::name)?
            }
            false => self.envelope_step_by_step(&commands).await?,
        };
        if !replies.may_proceed(*policy) {
            return Err(self.abandon(replies).await);
        }
        if chunks {
            return self.chunk(content, replies.recipients).await;
        }
        if replies.data.is_none() {
            let limit = self.endpoint.config.timeouts().data();
            match self.command(Phase::Data, b"DATA\r\n", limit).await {
                Ok(data) => replies.data = Some(data),
                Err(failure) => return Err(Undelivered::from(failure).with_recipients(replies.recipients)),
            }
        }
        if !replies.has_leave() {
            return Err(self.abandon(replies).await);
        }
        let verdict = self.message(content, &[]).await;
        self.conclude(replies.recipients, verdict)
    }

    /// Tells whether messages go out by BDAT on this connection.
    pub(super) fn sends_chunks(&self) -> bool {
        self.capabilities.chunking
            && self.endpoint.config.chunking() == Chunking::Auto
            && !self.endpoint.avoids_chunks()
    }

    /// MAIL, every RCPT, BDAT and the message in one write: one round trip (RFC 2920, RFC 3030 §4.2).
    async fn single_flight(
        &mut self,
        commands: Commands,
        content: &Content<'_>,
    ) -> Result<Delivery, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let Commands { mut group, recipients } = commands;
        group.extend_from_slice(chunk_head(content).as_bytes());
        self.owe(recipients + 2);
        let verbatim = content.verbatim();
        let separate = verbatim.filter(|body| group.len() + body.len() > ONE_RECORD);
        match (separate, verbatim) {
            // Copying a body that needs a record of its own anyway would gain nothing.
            (Some(_), _) => {}
            (None, Some(body)) => group.extend_from_slice(body),
            (None, None) => drop(content.plain().fill(&mut group, usize::MAX)),
        }
        self.write_or_last_words(Phase::Mail, &group, timeouts.envelope()).await?;
        if let Some(body) = separate {
            self.write_or_last_words(Phase::Body, body, timeouts.body_progress()).await?;
        }
        // From here on the server may have the whole message, until a reply says that it has no use for it.
        self.flush_and_listen(Phase::FinalReply, timeouts.body_progress()).await?;
        let (replies, verdict) = self.flight_replies(recipients).await?;
        if !replies.has_recipient() {
            return Err(self.nobody(replies, verdict.is_ok()).await);
        }
        self.conclude_chunk(replies.recipients, verdict.map_err(Undelivered::unknown))
    }

    /// Reads the replies to an envelope and to the message that was sent along with it.
    pub(super) async fn flight_replies(
        &mut self,
        asked: usize,
    ) -> Result<(EnvelopeReplies, Result<Reply, Failure>), Undelivered> {
        let limit = self.endpoint.config.timeouts().envelope();
        let replies = match self.envelope_replies(asked, limit).await {
            Ok(replies) => replies,
            // A refusal of everybody is certain, whatever happened to the connection then.
            Err(undelivered) if undelivered.refuses_everybody(asked) || self.has_left() => {
                return Err(undelivered);
            }
            Err(undelivered) => return Err(Undelivered { certainty: Certainty::Unknown, ..undelivered }),
        };
        let limit = self.endpoint.config.timeouts().final_reply();
        let verdict = self.read(Phase::FinalReply, limit).await;
        Ok((replies, verdict))
    }

    /// Everybody was refused. Whatever was said about the message, or not: it has nowhere to go.
    pub(super) async fn nobody(&mut self, replies: EnvelopeReplies, is_answered: bool) -> Undelivered {
        self.in_transaction = match is_answered {
            true => replies.mail.is_positive() && !self.reset().await,
            false => true,
        };
        replies.refusal()
    }

    /// The message by BDAT, once the server has accepted somebody.
    async fn chunk(
        &mut self,
        content: &Content<'_>,
        recipients: Vec<Reply>,
    ) -> Result<Delivery, Undelivered> {
        let verdict = self.chunk_verdict(content).await;
        self.conclude_chunk(recipients, verdict)
    }

    async fn chunk_verdict(&mut self, content: &Content<'_>) -> Result<Reply, Undelivered> {
        let head = chunk_head(content);
        self.owe(1);
        let stall = self.endpoint.config.timeouts().body_progress();
        match content.verbatim() {
            Some(body) => {
                let writing = async {
                    self.hear_unasked(Phase::Body).await?;
                    self.write_or_last_words(Phase::Body, head.as_bytes(), stall).await?;
                    self.write_or_last_words(Phase::Body, body, stall).await.map(drop)
                };
                let span = phase(Phase::Body.name());
                span.note(span.run(writing).await, Undelivered::name)?;
            }
            None => self.write_pieces(content.plain(), head.as_bytes(), &[]).await?,
        }
        self.final_reply().await
    }

    /// A server that offers CHUNKING and does not know BDAT has not read the message as one.
    pub(super) fn conclude_chunk(
        &mut self,
        recipients: Vec<Reply>,
        verdict: Result<Reply, Undelivered>,
    ) -> Result<Delivery, Undelivered> {
        match verdict {
            Ok(reply) if matches!(reply.code(), 500..=504) => {
                // The octets of the message may be taken for commands: nothing more is said on this connection.
                self.endpoint.avoid_chunks();
                Err(Undelivered::refused(Phase::Chunk, reply).with_recipients(recipients))
            }
            verdict => self.conclude(recipients, verdict),
        }
    }

    pub(super) fn owe(&mut self, replies: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(replies).unwrap_or(u32::MAX));
    }

    /// Sends the message after a `354`, with `tail` behind it, and returns the verdict.
    pub(super) async fn message(&mut self, content: &Content<'_>, tail: &[u8]) -> Result<Reply, Undelivered> {
        self.owe(1);
        self.write_pieces(content.dotted(), &[], tail).await?;
        self.final_reply().await
    }

    /// Writes a message between `head` and `tail` in pieces of bounded size.
    ///
    /// The tail is of the next message: that it cannot be written is no failure of this one.
    async fn write_pieces(
        &mut self,
        mut encoder: Encoder<'_>,
        head: &[u8],
        tail: &[u8],
    ) -> Result<(), Undelivered> {
        let stall = self.endpoint.config.timeouts().body_progress();
        let writing = async {
            let mut piece = Vec::with_capacity(head.len() + encoder.room_for(PIECE));
            piece.extend_from_slice(head);
            loop {
                let more = encoder.fill(&mut piece, PIECE);
                self.hear_unasked(Phase::Body).await?;
                if !more {
                    let end = piece.len();
                    piece.extend_from_slice(tail);
                    return self.write_up_to(Phase::Body, &piece, end, stall).await.map(drop);
                }
                self.write_or_last_words(Phase::Body, &piece, stall).await?;
                piece.clear();
            }
        };
        let span = phase(Phase::Body.name());
        span.note(span.run(writing).await, Undelivered::name)
    }

    /// Waits for the verdict. From here on the server may have the whole message.
    async fn final_reply(&mut self) -> Result<Reply, Undelivered> {
        let timeouts = *self.endpoint.config.timeouts();
        let waiting = async {
            self.flush_and_listen(Phase::FinalReply, timeouts.body_progress()).await?;
            self.read(Phase::FinalReply, timeouts.final_reply()).await.map_err(Undelivered::unknown)
        };
        let span = phase(Phase::FinalReply.name());
        span.note(span.run(waiting).await, Undelivered::name)
    }

    pub(super) fn conclude(
        &mut self,
        recipients: Vec<Reply>,
        verdict: Result<Reply, Undelivered>,
    ) -> Result<Delivery, Undelivered> {
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(undelivered) => {
                let goodbye = recipients.iter().find(|reply| reply.code() == 421);
                let undelivered = match goodbye.filter(|_| self.has_left()) {
                    Some(reply) => Undelivered::refused(Phase::Rcpt, reply.clone()),
                    None => undelivered,
                };
                return Err(undelivered.with_recipients(recipients));
            }
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
    pub(super) async fn abandon(&mut self, replies: EnvelopeReplies) -> Undelivered {
        let restored = match replies.data.as_ref().map(Reply::code) {
            _ if self.closing => false,
            // RFC 2920 §3.1: a server may say 354 although it has no recipient; it then gets an empty message.
            Some(354) => {
                let limit = self.endpoint.config.timeouts().final_reply();
                let refused = self.command(Phase::Body, b".\r\n", limit).await;
                refused.is_ok_and(|reply| !reply.is_positive())
            }
            Some(code) if code < 400 => {
                let failure = Failure::new(Phase::Data, Cause::Protocol(ReplyFault::Unexpected(code)));
                return Undelivered::from(failure).with_recipients(replies.recipients);
            }
            // Even when MAIL was refused: Postfix remembers the size that was too large until RSET.
            _ => self.reset().await,
        };
        self.in_transaction = !restored;
        replies.refusal()
    }

    pub(super) async fn reset(&mut self) -> bool {
        if self.closing {
            return false;
        }
        let limit = self.endpoint.config.timeouts().envelope().min(RESET);
        self.command(Phase::Reset, b"RSET\r\n", limit).await.is_ok_and(|reply| reply.is_positive())
    }

    /// Writes commands and sends them off.
    pub(super) async fn send(
        &mut self,
        phase: Phase,
        bytes: &[u8],
        stall: Duration,
    ) -> Result<(), Undelivered> {
        self.write_or_last_words(phase, bytes, stall).await?;
        Ok(self.flush(phase, stall).await?)
    }

    /// Hears what the server says when it is not its turn: good-bye as a rule, and never the verdict on what is yet to be
    /// sent. Taken for one, it would make a message accepted that the server never had.
    async fn hear_unasked(&mut self, phase: Phase) -> Result<(), Undelivered> {
        // A connection that is closed is met by the write that follows.
        if matches!(self.stream.unread().await, Ok(0) | Err(_)) {
            return Ok(());
        }
        let reply = self.read(phase, LAST_WORDS).await?;
        match reply.code() {
            400..600 => Err(Undelivered::refused(phase, reply)),
            code => Err(Failure::new(phase, Cause::Protocol(ReplyFault::Unexpected(code))).into()),
        }
    }

    /// Writes, and on failure looks for the refusal that a server may send before it closes.
    fn write_or_last_words(
        &mut self,
        phase: Phase,
        bytes: &[u8],
        stall: Duration,
    ) -> impl Future<Output = Result<usize, Undelivered>> {
        self.write_up_to(phase, bytes, bytes.len(), stall)
    }

    /// The same, but a failure behind `end` is none; returns how many octets were taken.
    pub(super) async fn write_up_to(
        &mut self,
        phase: Phase,
        bytes: &[u8],
        end: usize,
        stall: Duration,
    ) -> Result<usize, Undelivered> {
        let mut rest = bytes;
        let written = self.write_slowly(phase, &mut rest, stall).await;
        let taken = bytes.len() - rest.len();
        let Some(failure) = written.err().filter(|_| taken < end) else { return Ok(taken) };
        if matches!(failure.cause, Cause::Closed(_) | Cause::Timeout(_) | Cause::Overdue(_))
            && let Some(reply) = self.last_words(phase).await
            && !reply.is_positive()
        {
            return Err(Undelivered::refused(phase, reply));
        }
        Err(failure.into())
    }

    /// Sends off what ends with the message; a connection that broke is still read to its end.
    pub(super) async fn flush_and_listen(
        &mut self,
        phase: Phase,
        stall: Duration,
    ) -> Result<(), Undelivered> {
        match self.flush(phase, stall).await {
            Err(Failure { cause: Cause::Closed(_), .. }) | Ok(()) => Ok(()),
            Err(failure) => Err(Undelivered::unknown(failure)),
        }
    }
}

/// The command before a message that goes in one chunk (RFC 3030 §2).
pub(super) fn chunk_head(content: &Content<'_>) -> String {
    format!("BDAT {} LAST\r\n", content.wire_size())
}
