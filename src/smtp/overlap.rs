//! Consecutive messages overlapped on one connection: the next one's commands are written before the last one's replies are
//! read (RFC 2920 §3.1, RFC 3030 §4.2). Says what the replies to each mean; who follows whom is decided by the mailer.
//!
//! By BDAT whole transactions follow each other, so several messages may be in doubt when the connection is lost. By DATA
//! only the next envelope does, because no message is written before its `354`: one at most is in doubt.
//!
//! Replies are told apart by their order alone. Where nothing is owed, what has arrived is looked at first, as before any
//! transaction. Behind that, a surplus reply shifts all that follow until nothing is owed again: what came for one message
//! is then taken for another's. A code that is impossible where it stands shows it, and no reply is believed any more.

use super::connection::Connection;
use super::content::Content;
use super::envelope::{Commands, EnvelopeReplies};
use super::failure::{Cause, Failure, ReplyFault};
use super::phase::Phase;
use super::reply::Reply;
use super::stream::MOST_AHEAD;
use super::transaction::{
    Certainty, Delivery, LARGEST_UNASKED, Order, RecipientPolicy, Undelivered, chunk_head,
};

/// The most octets of messages that are unanswered at a time; a larger message follows when nothing is owed.
pub(crate) const MOST_UNANSWERED: u64 = LARGEST_UNASKED;

/// The most replies that are due at a time where messages follow each other. The server may have to say them all before it
/// reads on, so they must fit into what is read ahead.
pub(crate) const MOST_REPLIES: usize = MOST_AHEAD / LONGEST_REPLY_LINE;

/// RFC 5321 §4.5.3.1.5.
const LONGEST_REPLY_LINE: usize = 512;

/// How messages follow each other on a connection without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// Whole transactions, by BDAT.
    Chunks,
    /// The next envelope behind each message, by DATA.
    Envelopes,
}

/// What was written of a message and is yet to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) overlap: Overlap,
    /// The octets of the message, if they are on their way.
    pub(crate) octets: u64,
    recipients: usize,
    after_reset: bool,
}

impl Sent {
    /// Counts the replies.
    pub(crate) fn replies(self) -> usize {
        replies(self.recipients, self.after_reset)
    }
}

/// Counts the replies to a message.
pub(crate) fn replies(recipients: usize, after_reset: bool) -> usize {
    recipients + 2 + usize::from(after_reset)
}

/// Messages that are written together.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    octets: Vec<u8>,
    /// Where in `octets` each message ends.
    ends: Vec<usize>,
}

impl Flight {
    /// Counts the messages.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// What the server said about a message that was written behind others.
#[derive(Debug)]
pub(crate) enum Heard {
    Verdict(Result<Delivery, Undelivered>),
    /// It had said good-bye before it came to this message, and has taken nothing of it (RFC 5321 §3.8).
    Untouched,
}

/// What became of the messages that were written behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The next reply is theirs.
    Next,
    /// Their replies will not come, and nothing of them was taken.
    Untouched,
    /// Their replies will not come, and they may have been accepted.
    Unknown,
}

impl Connection {
    /// Returns how messages can follow each other here; `None` where each must be waited for, or none can follow.
    pub(crate) fn overlap(&self) -> Option<Overlap> {
        (self.capabilities.pipelining && !self.closing).then(|| match self.sends_chunks() {
            true => Overlap::Chunks,
            false => Overlap::Envelopes,
        })
    }

    /// Tells whether octets have arrived that nobody has read: as a rule, the next reply need not be waited for.
    pub(crate) async fn has_unread(&mut self) -> bool {
        !matches!(self.stream.unread().await, Ok(0))
    }

    /// Adds a transaction to a flight; `behind` another one it begins with RSET, because that one may be refused: the state
    /// after a refused BDAT is not defined (RFC 3030 §4.2).
    pub(crate) fn append(
        &mut self,
        flight: &mut Flight,
        order: &Order<'_>,
        after_reset: bool,
    ) -> Result<Sent, Cause> {
        let Commands { group, recipients } = self.commands(order)?;
        let out = &mut flight.octets;
        if after_reset {
            out.extend_from_slice(b"RSET\r\n");
        }
        out.extend_from_slice(&group);
        out.extend_from_slice(chunk_head(order.content).as_bytes());
        order.content.plain().fill(out, usize::MAX);
        flight.ends.push(out.len());
        let octets = order.content.wire_size();
        let sent = Sent { overlap: Overlap::Chunks, octets, recipients, after_reset };
        self.owe(sent.replies());
        Ok(sent)
    }

    /// Writes a flight; returns how many of its messages were taken to their last octet, the first `needed` in any case.
    pub(crate) async fn write_flight(
        &mut self,
        flight: &Flight,
        needed: usize,
    ) -> Result<usize, Undelivered> {
        let Flight { octets, ends } = flight;
        let end = needed.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or_default();
        let stall = self.endpoint.config.timeouts().body_progress();
        let taken = self.write_up_to(Phase::Body, octets, end, stall).await?;
        Ok(ends.iter().filter(|end| **end <= taken).count())
    }

    /// Reads the replies to the first of the messages that are unanswered; `is_last` says that there is no other.
    pub(crate) async fn hear_whole(&mut self, sent: Sent, is_last: bool) -> (Heard, Behind) {
        let due = self.owed.saturating_sub(u32::try_from(sent.replies()).unwrap_or(u32::MAX));
        self.in_transaction = true;
        let reset = self.reset_reply(sent).await;
        let was_closing = self.closing;
        let result = match reset {
            Ok(()) => self.whole_replies(sent, is_last).await,
            Err(undelivered) => Err(undelivered),
        };
        let is_believed = result.as_ref().err().is_none_or(|Undelivered { failure, .. }| {
            failure.phase != Phase::Chunk && !matches!(failure.cause, Cause::Protocol(_))
        });
        let behind = match is_believed && self.owed == due {
            true => Behind::Next,
            false if self.has_left() => Behind::Untouched,
            false => Behind::Unknown,
        };
        let heard = match result {
            Err(undelivered) if was_closing && self.took_nothing(&undelivered) => Heard::Untouched,
            result => Heard::Verdict(result),
        };
        (heard, behind)
    }

    /// Tells whether the server has taken nothing of a message that is behind its good-bye.
    fn took_nothing(&self, undelivered: &Undelivered) -> bool {
        let is_certain = undelivered.certainty == Certainty::NotDelivered && !self.goes_on;
        is_certain || self.has_left()
    }

    /// Reads the reply to the RSET before a message, if there was one.
    async fn reset_reply(&mut self, sent: Sent) -> Result<(), Undelivered> {
        let stall = self.endpoint.config.timeouts().body_progress();
        // From here on the server may have every message that was written.
        self.flush_and_listen(Phase::FinalReply, stall).await?;
        if sent.after_reset {
            let limit = self.endpoint.config.timeouts().envelope();
            // One that comes later than this would be taken for the next.
            let reply = self.read(Phase::Reset, limit).await.map_err(Undelivered::unknown)?;
            if is_neither(&reply) || !reply.is_positive() && !self.closing {
                return Err(impossible(&reply));
            }
        }
        Ok(())
    }

    async fn whole_replies(&mut self, sent: Sent, is_last: bool) -> Result<Delivery, Undelivered> {
        let (replies, verdict) = match self.flight_replies(sent.recipients).await {
            Ok(answered) => answered,
            Err(undelivered) => {
                return Err(match &undelivered.failure.cause {
                    Cause::Refused(reply) if is_neither(reply) => impossible(reply),
                    _ => undelivered,
                });
            }
        };
        if let Some(reply) = out_of_place(&replies) {
            return Err(impossible(reply).with_recipients(replies.recipients));
        }
        match replies.has_recipient() {
            true => self.conclude_chunk(replies.recipients, verdict.map_err(Undelivered::unknown)),
            false if is_last => Err(self.nobody(replies, verdict.is_ok()).await),
            // The next message begins with RSET.
            false => Err(replies.refusal()),
        }
    }

    /// Returns the envelope of a message that is to be written behind the last octet of another.
    pub(crate) fn envelope(&self, order: &Order<'_>) -> Result<(Vec<u8>, Sent), Cause> {
        let Commands { mut group, recipients } = self.commands(order)?;
        group.extend_from_slice(b"DATA\r\n");
        let sent = Sent { overlap: Overlap::Envelopes, octets: 0, recipients, after_reset: false };
        Ok((group, sent))
    }

    /// Sends the envelope of a message before which nothing is owed; returns the replies to RCPT when the message may follow.
    pub(crate) async fn ask_leave(&mut self, order: &Order<'_>) -> Result<Vec<Reply>, Undelivered> {
        let commands = self.commands(order).map_err(|cause| Failure::new(Phase::Preparation, cause))?;
        self.in_transaction = true;
        let replies = self.envelope_in_one_flight(commands, false).await?;
        self.leave(replies, order.policy).await
    }

    /// The same for an envelope that was written behind the message before.
    pub(crate) async fn hear_leave(
        &mut self,
        sent: Sent,
        order: &Order<'_>,
    ) -> Result<Vec<Reply>, Undelivered> {
        self.in_transaction = true;
        let replies = self.envelope_and_data_replies(sent.recipients).await?;
        match out_of_place(&replies) {
            // Its message was not written.
            Some(reply) => Err(Undelivered { certainty: Certainty::NotDelivered, ..impossible(reply) }),
            None => self.leave(replies, order.policy).await,
        }
    }

    async fn leave(
        &mut self,
        replies: EnvelopeReplies,
        policy: RecipientPolicy,
    ) -> Result<Vec<Reply>, Undelivered> {
        match replies.may_proceed(policy) && replies.has_leave() {
            true => Ok(replies.recipients),
            false => Err(self.abandon(replies).await),
        }
    }

    /// Sends a message after its `354`, with the envelope of the next behind it, and reads the verdict.
    pub(crate) async fn carry(
        &mut self,
        content: &Content<'_>,
        recipients: Vec<Reply>,
        next: Option<&(Vec<u8>, Sent)>,
    ) -> (Result<Delivery, Undelivered>, Behind) {
        let tail = match next {
            Some((envelope, sent)) => {
                self.owe(sent.replies());
                &envelope[..]
            }
            None => &[],
        };
        let verdict = self.message(content, tail).await;
        let result = self.conclude(recipients, verdict);
        match self.in_transaction || self.closing {
            true => (result, Behind::Untouched),
            false => (result, Behind::Next),
        }
    }
}

/// A reply that cannot stand where it does, so that none can be told from another any more.
fn impossible(reply: &Reply) -> Undelivered {
    let cause = Cause::Protocol(ReplyFault::Unexpected(reply.code()));
    Undelivered::unknown(Failure::new(Phase::FinalReply, cause))
}

/// Finds a reply to MAIL or RCPT that is neither yes nor no.
fn out_of_place(replies: &EnvelopeReplies) -> Option<&Reply> {
    std::iter::once(&replies.mail).chain(&replies.recipients).find(|reply| is_neither(reply))
}

fn is_neither(reply: &Reply) -> bool {
    reply.code() / 100 == 3
}
