//! One submission from start to end: limits, connections, repeated attempts, recipients split over transactions.

use lettre::Address;
use lettre::address::Envelope;

use super::overlap::Seat;
use super::{Inner, SubmitOptions};
use crate::cause::{self, ReplyCause};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::observe::submission as observe;
use crate::outcome::{Disposition, Refusal, Submission};
use crate::pool::{Checkout, Origin};
use crate::smtp::content::Content;
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::transaction::{Certainty, Delivery, Order, Undelivered};
use crate::smtp::{EnhancedStatusCode, Phase, RecipientPolicy, Reply};

/// RFC 5321 §4.5.3.1.10: the server takes no more recipients in this transaction, but would in another.
const TOO_MANY_RECIPIENTS: EnhancedStatusCode = EnhancedStatusCode::new(4, 5, 3);

/// What has become of the recipients so far.
#[derive(Default)]
struct Progress {
    accepted: Vec<Address>,
    refused: Vec<Refusal>,
    verdict: Option<Reply>,
}

impl Inner {
    /// Carries one message to every recipient, in as many transactions as it takes.
    pub(super) async fn deliver(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
        mut seat: Option<&Seat>,
    ) -> Result<Submission, Error> {
        let deadline = self.deadline();
        let content = Content::new(message);
        let most = self.recipients_per_transaction(envelope, options)?;
        let mut waiting = envelope.to().to_vec();
        let mut progress = Progress::default();
        while !waiting.is_empty() {
            let rest = waiting.split_off(most.min(waiting.len()));
            let order = Order {
                from: envelope.from(),
                recipients: &waiting,
                content: &content,
                policy: options.recipients,
                dsn: options.dsn.as_ref(),
            };
            // A part of the recipients is not what others of the batch would write.
            let seat = seat.take().filter(|_| rest.is_empty());
            match self.transact(&order, deadline, seat).await {
                Ok(delivery) => {
                    let again = progress.add(std::mem::take(&mut waiting), delivery);
                    waiting = again.into_iter().chain(rest).collect();
                }
                Err(error) if progress.accepted.is_empty() => return Err(error),
                Err(error) => {
                    progress.fail(waiting, rest, &error);
                    break;
                }
            }
        }
        let Progress { accepted, refused, verdict } = progress;
        match verdict {
            Some(verdict) => Ok(Submission::new(accepted, refused, verdict)),
            None => Err(Error::unsendable("the envelope has no recipient")),
        }
    }

    fn recipients_per_transaction(
        &self,
        envelope: &Envelope,
        options: &SubmitOptions,
    ) -> Result<usize, Error> {
        let most = self.endpoint.config.limits().recipients_per_message();
        let most = most.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX));
        let count = envelope.to().len();
        if count > most && options.recipients == RecipientPolicy::AllOrNothing {
            return Err(Error::unsendable(format!(
                "{count} recipients do not fit into one transaction of {most}, so it cannot be all or nothing"
            )));
        }
        Ok(most)
    }

    /// Carries out one transaction, again if that is safe and allowed.
    async fn transact(
        &self,
        order: &Order<'_>,
        deadline: Moment,
        mut seat: Option<&Seat>,
    ) -> Result<Delivery, Error> {
        let recipients = u32::try_from(order.recipients.len()).unwrap_or(u32::MAX);
        let mut failures = 0;
        let mut last = None;
        loop {
            let ticket = self.pool.unless_closed(self.limiter.admit(recipients, deadline)).await??;
            let outcome = self.attempt(order, deadline, seat.take()).await;
            let error = match outcome {
                Ok(delivery) => {
                    drop(ticket);
                    self.limiter.accepted();
                    return Ok(delivery);
                }
                Err(error) => error,
            };
            if error.phase() < Phase::Mail {
                ticket.spare_recipients().await;
            } else {
                drop(ticket);
            }
            if error.cause().is_some_and(ReplyCause::throttles) {
                self.limiter.slow_down();
            }
            if let Some(last) = last.take()
                && (error.kind(), error.phase()) == (ErrorKind::Timeout, Phase::Preparation)
            {
                return Err(last); // It says more than that there was no connection to try again.
            }
            failures += 1;
            let may_repeat = matches!(
                error.kind(),
                ErrorKind::Network
                    | ErrorKind::Timeout
                    | ErrorKind::Disconnected
                    | ErrorKind::ServerUnavailable
                    | ErrorKind::TokenUnavailable
            );
            let Some(wait) = self.retry.wait(failures).filter(|_| may_repeat) else { return Err(error) };
            let clock = &self.endpoint.clock;
            let next = clock.moment().after(wait.max(error.retry_after().unwrap_or_default()));
            if next >= deadline {
                return Err(error);
            }
            let pause = next.since(clock.moment());
            error.tell(|fault| observe::retrying(&self.endpoint.server, failures, pause, fault));
            if self.pool.unless_closed(clock.sleep_until(next)).await.is_err() {
                return Err(error); // It says more than that the mailer was closed meanwhile.
            }
            last = Some(error);
        }
    }

    /// Carries out one transaction on whatever connection works; in its seat first, if it has one.
    async fn attempt(
        &self,
        order: &Order<'_>,
        deadline: Moment,
        mut seat: Option<&Seat>,
    ) -> Result<Delivery, Error> {
        loop {
            let (origin, result) = match seat.take() {
                // Boxed, because its state is large and would be moved for each message that is sent without it.
                Some(seat) => match Box::pin(self.overlapped(seat, order, deadline)).await? {
                    Some(attempted) => attempted,
                    None => continue,
                },
                None => {
                    let mut checkout = self.connection(deadline).await?;
                    let result = checkout.connection.submit(order).await;
                    let origin = checkout.origin;
                    self.pool.park(checkout);
                    (origin, result)
                }
            };
            let Undelivered { failure, recipients, certainty } = match result {
                Ok(delivery) => return Ok(delivery),
                // The server had closed the idle connection before it accepted anything: all that was lost is a
                // connection, so the message cannot arrive twice. Each round uses up one that was idle.
                Err(undelivered) if origin == Origin::Reused && is_stale(&undelivered) => {
                    observe::stale();
                    continue;
                }
                // The server offered BDAT and refuses it: certainly nothing was accepted, and DATA is tried once.
                Err(undelivered) if undelivered.failure.phase == Phase::Chunk => {
                    observe::chunking_refused();
                    continue;
                }
                Err(undelivered) => undelivered,
            };
            let error = Error::from(failure)
                .with_refused(Refusal::list(order.recipients, &recipients), order.recipients.len());
            return Err(match certainty {
                Certainty::NotDelivered => error,
                Certainty::Unknown => error.into_indeterminate(),
            });
        }
    }

    /// Waits for a connection, and for the server if it has said that it is too much.
    pub(super) async fn connection(&self, deadline: Moment) -> Result<Checkout, Error> {
        let turn = self.pool.turn(deadline).await?;
        // After the turn: whoever waited for it while the server said that it is too much must hear of it.
        self.pool.unless_closed(self.limiter.resume(deadline)).await??;
        self.pool.checkout(turn, deadline).await
    }
}

impl Progress {
    /// Sorts the recipients of a transaction; returns those that the server would take in another one.
    fn add(&mut self, recipients: Vec<Address>, delivery: Delivery) -> Vec<Address> {
        let mut again = Vec::new();
        for (recipient, reply) in recipients.into_iter().zip(delivery.recipients) {
            if reply.is_positive() {
                self.accepted.push(recipient);
            } else if is_too_many(&reply) {
                // At least one was accepted, so each further transaction gets further.
                again.push(recipient);
            } else {
                self.refused.push(Refusal::by_reply(recipient, reply));
            }
        }
        self.verdict.get_or_insert(delivery.verdict);
        again
    }

    /// A later transaction failed: its recipients share its fate, and the rest were not tried.
    fn fail(&mut self, failed: Vec<Address>, untried: Vec<Address>, error: &Error) {
        let refused_by_name =
            |recipient: &Address| error.refused().iter().find(|refusal| refusal.recipient() == recipient);
        for recipient in failed {
            let refusal = match refused_by_name(&recipient) {
                Some(refusal) => refusal.clone(),
                None => Refusal::by_failure(recipient, error.reply().cloned(), error.disposition()),
            };
            self.refused.push(refusal);
        }
        let not_tried = |recipient| Refusal::by_failure(recipient, None, Disposition::Retry { after: None });
        self.refused.extend(untried.into_iter().map(not_tried));
    }
}

fn is_too_many(reply: &Reply) -> bool {
    // RFC 5321 §4.5.3.1.10 asks for 452; some servers say 552 for it.
    matches!(reply.code(), 452 | 552)
        && (reply.enhanced() == Some(TOO_MANY_RECIPIENTS) || reply.text().contains("oo many recipients"))
}

/// Tells whether an idle connection turned out to be closed before the server accepted anything.
fn is_stale(undelivered: &Undelivered) -> bool {
    let Undelivered { failure, recipients, certainty } = undelivered;
    let closed = match &failure.cause {
        Cause::Closed(_) => true,
        Cause::Refused(reply) => reply.code() == 421 && !throttles(failure),
        _ => false,
    };
    closed && recipients.is_empty() && *certainty == Certainty::NotDelivered
}

/// Tells whether the server says that it is too much.
pub(super) fn throttles(Failure { phase, cause }: &Failure) -> bool {
    let Cause::Refused(reply) = cause else { return false };
    cause::classify(*phase, reply).is_some_and(|finding| finding.cause.throttles())
}
