//! The messages of a batch overlapped on its connections: who writes them, who reads their replies, and when a connection is
//! given back. What the octets are is in `smtp::overlap`.
//!
//! Each message has a task of its own, as without overlap; what they share is a line in which they wait, and a [`Lane`] for
//! each connection. A lane belongs to the task whose message is answered next. It writes messages from the line behind its
//! own, reads the replies to its own, and hands the lane to the task of the message that follows. So no task reads or writes
//! for longer than its own message takes, and a batch that is dropped drops its connections with its tasks.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lettre::address::Envelope;
use tokio::sync::oneshot;

use super::Inner;
use super::delivery::throttles;
use crate::clock::Moment;
use crate::error::Error;
use crate::observe::Span;
use crate::observe::connection::{Transaction, Turn, checkout};
use crate::pool::{Checkout, Origin};
use crate::smtp::content::Content;
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::overlap::{Behind, Flight, Heard, MOST_REPLIES, MOST_UNANSWERED, Overlap, Sent, replies};
use crate::smtp::transaction::{Certainty, Delivery, Order, Undelivered};
use crate::smtp::{Phase, RecipientPolicy};

/// A message that whoever leads its lane can write.
pub(super) type Parcel = (Envelope, Vec<u8>);

/// A message's place in its batch.
pub(super) struct Seat {
    pub(super) lanes: Arc<Lanes>,
    pub(super) parcel: Arc<Parcel>,
}

/// The line of a batch, and how many lanes serve it.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The most lanes: one for each connection.
    most: usize,
    /// The most messages under way on a connection.
    window: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Lanes, those included whose connection is yet to be had.
    lanes: usize,
    line: VecDeque<Waiting>,
    numbers: u64,
}

/// A message in the line.
#[derive(Debug)]
struct Waiting {
    number: u64,
    parcel: Arc<Parcel>,
    /// As it goes on the wire.
    octets: u64,
    /// Of the submission.
    span: Span,
    turn: Turn,
    task: oneshot::Sender<Call>,
}

/// What the task of a message in the line, or of one that another has written, is to do.
#[derive(Debug)]
enum Call {
    /// Open a lane.
    Open,
    /// Lead this one.
    Lead(Box<Lane>),
    /// Send it without overlap: nothing of it was taken.
    Alone,
    /// Report this: it may have been accepted.
    Lost(Undelivered),
}

/// A connection and the messages under way on it.
#[derive(Debug)]
struct Lane {
    checkout: Checkout,
    /// The message of whoever leads, if it was written.
    front: Option<(Sent, Transaction)>,
    behind: VecDeque<Written>,
    /// Messages since the connection was checked out.
    carried: usize,
    /// It carries no further message: one was written in part, or the server has spoken out of turn, or time is over.
    is_spent: bool,
}

/// A message that was written for its task.
#[derive(Debug)]
struct Written {
    sent: Sent,
    transaction: Transaction,
    task: oneshot::Sender<Call>,
}

impl Lanes {
    pub(super) fn new(connections: usize, window: NonZeroU32) -> Self {
        let window = usize::try_from(window.get()).unwrap_or(usize::MAX);
        Self { most: connections, window, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the first message from the line, if it `fits`.
    fn take(&self, fits: impl FnOnce(&Waiting) -> bool) -> Option<Waiting> {
        let line = &mut self.state().line;
        line.front().is_some_and(fits).then(|| line.pop_front()).flatten()
    }

    /// Takes a message from the line that waits no longer, unless it was called.
    fn leave(&self, number: u64) -> Option<Waiting> {
        let line = &mut self.state().line;
        let at = line.iter().position(|waiting| waiting.number == number)?;
        line.remove(at)
    }

    /// A lane has ended: whoever waits opens another.
    fn end(&self) -> Option<Waiting> {
        let mut state = self.state();
        let next = state.line.pop_front();
        state.lanes -= usize::from(next.is_none());
        next
    }
}

impl Waiting {
    /// Counts the replies to it behind another message.
    fn replies(&self) -> usize {
        replies(self.parcel.0.to().len(), true)
    }
}

impl Lane {
    fn new(checkout: Checkout) -> Box<Self> {
        Box::new(Self { checkout, front: None, behind: VecDeque::new(), carried: 1, is_spent: false })
    }

    fn count(&mut self) {
        self.carried += 1;
        self.checkout.carry_another();
    }

    /// Tells the tasks of the messages that follow what became of them.
    fn dissolve(&mut self, call: impl Fn() -> Call) {
        for Written { sent: _, transaction, task } in self.behind.drain(..) {
            let call = call();
            if let Call::Lost(undelivered) = &call {
                transaction.fail(undelivered.name());
            }
            // Without its task the batch was dropped.
            let _ = task.send(call);
        }
    }
}

impl Inner {
    /// Carries a message over a connection on which others of its batch are under way; `None` when nothing of it was taken
    /// for a reason that is not its own.
    pub(super) async fn overlapped(
        &self,
        Seat { lanes, parcel }: &Seat,
        order: &Order<'_>,
        deadline: Moment,
    ) -> Result<Option<(Origin, Result<Delivery, Undelivered>)>, Error> {
        match self.called(lanes, parcel.clone(), order.content.wire_size(), deadline).await? {
            Call::Open => {
                let checkout = self.connection(deadline).await;
                let mut checkout = checkout.inspect_err(|_| self.end(lanes))?;
                let origin = checkout.origin;
                // By itself: the connection may turn out to be closed, and the server not to know BDAT.
                let result = checkout.connection.submit(order).await;
                self.heed(&result);
                self.pass_on(lanes, Lane::new(checkout));
                Ok(Some((origin, result)))
            }
            Call::Lead(lane) => {
                let heard = self.lead(lanes, lane, order, deadline).await;
                Ok(heard.map(|result| (Origin::Reused, result)))
            }
            Call::Alone => Ok(None),
            Call::Lost(undelivered) => Ok(Some((Origin::Reused, Err(undelivered)))),
        }
    }

    /// Waits in the line until the message is called; opens a lane instead while there may be more.
    async fn called(
        &self,
        lanes: &Lanes,
        parcel: Arc<Parcel>,
        octets: u64,
        deadline: Moment,
    ) -> Result<Call, Error> {
        let (clock, server) = (&self.endpoint.clock, &self.endpoint.server);
        let (task, mut call) = oneshot::channel();
        let number = {
            let mut state = lanes.state();
            if state.lanes < lanes.most {
                state.lanes += 1;
                return Ok(Call::Open);
            }
            state.numbers += 1;
            let (number, span, turn) = (state.numbers, Span::current(), Turn::begin(clock));
            state.line.push_back(Waiting { number, parcel, octets, span, turn, task });
            number
        };
        let error = match self.pool.unless_closed(clock.until(deadline, &mut call)).await {
            Ok(Ok(called)) => return Ok(called.unwrap_or_else(|_| Call::lost(Cause::Closed(None)))),
            Ok(Err(_)) => Error::overdue(Phase::Preparation, self.endpoint.config.timeouts().total()),
            Err(closed) => closed,
        };
        match lanes.leave(number) {
            Some(waiting) => waiting.turn.end(server, clock, Err(error), |error| error.kind().name()),
            // Under way: its lane has limits of its own.
            None => Ok(call.await.unwrap_or_else(|_| Call::lost(Cause::Closed(None)))),
        }
    }

    /// Carries the message that is answered next, and hands the lane on.
    async fn lead(
        &self,
        lanes: &Lanes,
        mut lane: Box<Lane>,
        order: &Order<'_>,
        deadline: Moment,
    ) -> Option<Result<Delivery, Undelivered>> {
        checkout().scope(|| lane.checkout.hand_on());
        lane.checkout.connection.set_deadline(deadline);
        let is_over = self.endpoint.clock.moment() >= deadline;
        // A turn that comes with the deadline is none.
        if is_over && lane.front.is_none() {
            self.pass_on(lanes, lane);
            let cause = Cause::Overdue(self.endpoint.config.timeouts().total());
            return Some(Err(Failure::new(Phase::Preparation, cause).into()));
        }
        // Whatever else were written would be lost with the message whose time is over.
        lane.is_spent |= is_over;
        let connection = &mut lane.checkout.connection;
        // Whatever was said out of turn, the next reply would be taken for another's.
        if lane.front.is_none() && !connection.is_alive().await {
            lane.is_spent = true;
            self.pass_on(lanes, lane);
            return None;
        }
        let is_small = order.content.wire_size() <= MOST_UNANSWERED;
        let (overlap, sent, transaction) = match lane.front.take() {
            Some((sent, transaction)) => (sent.overlap, Some(sent), transaction),
            None => match connection.overlap().filter(|_| is_small) {
                Some(overlap) => (overlap, None, connection.observed(order)),
                None => {
                    let result = lane.checkout.connection.submit(order).await;
                    self.heed(&result);
                    self.pass_on(lanes, lane);
                    return Some(result);
                }
            },
        };
        let (heard, behind) = match overlap {
            Overlap::Chunks => transaction.run(self.lead_chunks(lanes, &mut lane, sent, order)).await,
            Overlap::Envelopes => transaction.run(self.lead_envelopes(lanes, &mut lane, sent, order)).await,
        };
        match (behind, &heard) {
            (Behind::Next, _) => {}
            (Behind::Untouched, _) => lane.dissolve(|| Call::Alone),
            (Behind::Unknown, Heard::Verdict(Err(undelivered))) => {
                lane.dissolve(|| Call::lost(undelivered.failure.cause.of_connection()));
            }
            (Behind::Unknown, _) => lane.dissolve(|| Call::lost(Cause::Closed(None))),
        }
        if let Heard::Verdict(result) = &heard {
            self.heed(result);
        }
        self.pass_on(lanes, lane);
        let (clock, server) = (&self.endpoint.clock, &self.endpoint.server);
        match heard {
            Heard::Verdict(result) => Some(transaction.end(server, clock, result, Undelivered::name)),
            Heard::Untouched => None,
        }
    }

    /// Slows down before the lane is handed on, if the server says that it is too much.
    fn heed(&self, result: &Result<Delivery, Undelivered>) {
        if result.as_ref().is_err_and(|undelivered| throttles(&undelivered.failure)) {
            self.limiter.slow_down();
        }
    }

    /// Writes as many messages behind its own as the window holds, then hears what becomes of its own.
    async fn lead_chunks(
        &self,
        lanes: &Lanes,
        lane: &mut Lane,
        sent: Option<Sent>,
        order: &Order<'_>,
    ) -> (Heard, Behind) {
        let refused = |undelivered| (Heard::Verdict(Err(undelivered)), Behind::Untouched);
        let mut flight = Flight::default();
        let own = match sent {
            Some(sent) => sent,
            None => match lane.checkout.connection.append(&mut flight, order, false) {
                Ok(sent) => sent,
                Err(cause) => return refused(Failure::new(Phase::Preparation, cause).into()),
            },
        };
        // What has arrived is read first, so that the next write has room for more than one.
        let joined = match sent.is_none() || !lane.checkout.connection.has_unread().await {
            true => self.join(lanes, lane, own, &mut flight),
            false => Vec::new(),
        };
        let needed = usize::from(sent.is_none());
        match lane.checkout.connection.write_flight(&flight, needed).await {
            Ok(whole) => {
                lane.behind.extend(joined);
                let partly = flight.len() - whole;
                lane.is_spent |= partly > 0;
                for Written { task, .. } in lane.behind.drain(lane.behind.len() - partly..) {
                    let _ = task.send(Call::Alone);
                }
            }
            Err(undelivered) => {
                lane.behind.extend(joined);
                return refused(undelivered);
            }
        }
        let is_last = lane.behind.is_empty() && !lane.is_spent;
        lane.checkout.connection.hear_whole(own, is_last).await
    }

    /// Adds messages from the line to a flight behind `own`.
    fn join(&self, lanes: &Lanes, lane: &mut Lane, own: Sent, flight: &mut Flight) -> Vec<Written> {
        let mut joined = Vec::new();
        let under_way = || std::iter::once(own).chain(lane.behind.iter().map(|written| written.sent));
        let mut octets: u64 = under_way().map(|sent| sent.octets).sum();
        let mut due: usize = under_way().map(Sent::replies).sum();
        // Meanwhile BDAT may have been refused on another connection.
        while 1 + lane.behind.len() + joined.len() < lanes.window
            && lane.checkout.connection.overlap() == Some(Overlap::Chunks)
            && let Some(waiting) = self.next(lanes, lane, |waiting| {
                octets + waiting.octets <= MOST_UNANSWERED && due + waiting.replies() <= MOST_REPLIES
            })
        {
            let written = self.written(waiting, |order| {
                let sent = lane.checkout.connection.append(flight, order, true)?;
                Ok((sent, lane.checkout.connection.observed(order)))
            });
            if let Some(Written { sent, .. }) = &written {
                octets += sent.octets;
                due += sent.replies();
            }
            joined.extend(written);
        }
        joined
    }

    /// Asks leave for its own message, and sends it with the next one's envelope behind it.
    async fn lead_envelopes(
        &self,
        lanes: &Lanes,
        lane: &mut Lane,
        sent: Option<Sent>,
        order: &Order<'_>,
    ) -> (Heard, Behind) {
        let connection = &mut lane.checkout.connection;
        let leave = match sent {
            Some(sent) => connection.hear_leave(sent, order).await,
            None => connection.ask_leave(order).await,
        };
        let recipients = match leave {
            Ok(recipients) => recipients,
            Err(undelivered) => return (Heard::Verdict(Err(undelivered)), Behind::Next),
        };
        let mut envelope = None;
        if let Some(waiting) = self.next(lanes, lane, |waiting| waiting.octets <= MOST_UNANSWERED) {
            lane.behind.extend(self.written(waiting, |order| {
                let next = envelope.insert(lane.checkout.connection.envelope(order)?);
                Ok((next.1, lane.checkout.connection.observed(order)))
            }));
        }
        let (result, behind) =
            lane.checkout.connection.carry(order.content, recipients, envelope.as_ref()).await;
        (Heard::Verdict(result), behind)
    }

    /// Takes the next message from the line, if the lane may carry another and it `fits`.
    fn next(&self, lanes: &Lanes, lane: &mut Lane, fits: impl FnOnce(&Waiting) -> bool) -> Option<Waiting> {
        let has_had_its_turn = lane.carried >= lanes.window;
        let may_go_on = !lane.is_spent
            && lane.checkout.connection.overlap().is_some()
            && !self.limiter.is_paused()
            && self.pool.may_keep(&lane.checkout, has_had_its_turn);
        let waiting = may_go_on.then(|| lanes.take(fits)).flatten();
        waiting.inspect(|_| lane.count())
    }

    /// Writes a message for its task; one that cannot be sent is told why when it tries by itself.
    fn written(
        &self,
        waiting: Waiting,
        write: impl FnOnce(&Order<'_>) -> Result<(Sent, Transaction), Cause>,
    ) -> Option<Written> {
        let Waiting { number: _, parcel, octets: _, span, turn, task } = waiting;
        let (envelope, text) = &*parcel;
        let content = Content::new(text);
        let order = Order {
            from: envelope.from(),
            recipients: envelope.to(),
            content: &content,
            policy: RecipientPolicy::default(),
            dsn: None,
        };
        self.over(turn);
        match span.scope(|| write(&order)) {
            Ok((sent, transaction)) => Some(Written { sent, transaction, task }),
            Err(_) => {
                let _ = task.send(Call::Alone);
                None
            }
        }
    }

    /// Hands the lane to the task of the message that is answered next, or of the next in the line; else gives the
    /// connection back.
    fn pass_on(&self, lanes: &Lanes, mut lane: Box<Lane>) {
        let task = match lane.behind.pop_front() {
            Some(Written { sent, transaction, task }) => {
                lane.front = Some((sent, transaction));
                Some(task)
            }
            None if lane.checkout.connection.is_clean() => {
                let next = self.next(lanes, &mut lane, |_| true);
                next.map(|Waiting { turn, task, .. }| {
                    self.over(turn);
                    task
                })
            }
            None => None,
        };
        match task {
            // Without its task the batch was dropped, and the connection goes with it.
            Some(task) => drop(task.send(Call::Lead(lane))),
            None => {
                self.pool.park(lane.checkout);
                self.end(lanes);
            }
        }
    }

    fn end(&self, lanes: &Lanes) {
        if let Some(Waiting { turn, task, .. }) = lanes.end() {
            self.over(turn);
            let _ = task.send(Call::Open);
        }
    }

    fn over(&self, turn: Turn) {
        let never: Result<(), std::convert::Infallible> = Ok(());
        let _ = turn.end(&self.endpoint.server, &self.endpoint.clock, never, |never| match *never {});
    }
}

impl Call {
    fn lost(cause: Cause) -> Self {
        let failure = Failure::new(Phase::FinalReply, cause);
        Self::Lost(Undelivered { failure, recipients: Vec::new(), certainty: Certainty::Unknown })
    }
}
