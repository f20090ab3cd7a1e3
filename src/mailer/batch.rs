//! Many messages: keeps every connection busy and says what became of each message. Carries none itself.

use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use lettre::Message;
use lettre::address::Envelope;
use tokio::task::JoinSet;

use super::overlap::{Lanes, Seat};
use super::{Mailer, SubmitOptions};
use crate::error::{Error, ErrorKind};
use crate::observe::Span;
use crate::outcome::Submission;

/// More would only be taken from the stream sooner: no connection has so many under way.
const MOST_OVERLAPPED: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// What can be submitted: a message with recipients in its headers, or a formatted one with its envelope.
///
/// ```
/// use smtp_oauth::{IntoSubmission, lettre::address::Envelope};
///
/// let envelope = Envelope::new(None, vec!["reader@example.com".parse()?])?;
/// let (envelope, text) = (envelope, b"Subject: x\r\n\r\nx\r\n".to_vec()).into_submission();
/// # let _ = (envelope, text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait IntoSubmission {
    /// Returns the envelope and the formatted message (RFC 5322).
    fn into_submission(self) -> (Envelope, Vec<u8>);
}

impl IntoSubmission for Message {
    fn into_submission(self) -> (Envelope, Vec<u8>) {
        (self.envelope().clone(), self.formatted())
    }
}

impl IntoSubmission for (Envelope, Vec<u8>) {
    fn into_submission(self) -> (Envelope, Vec<u8>) {
        self
    }
}

/// Submissions of a stream of messages, under way; made by [`Mailer::submit_all`].
///
/// They go on while nobody asks for the next outcome, until as many wait to be asked for as there may be connections.
/// With [`overlap`](Self::overlap) it is more of them.
#[must_use = "nothing is taken from the stream until the batch is polled"]
pub struct Batch<S> {
    mailer: Mailer,
    /// `None` once it has ended.
    source: Option<Pin<Box<S>>>,
    running: JoinSet<(usize, Result<Submission, Error>)>,
    /// The most messages that are taken and not reported.
    most: usize,
    /// `None` without overlap.
    lanes: Option<Arc<Lanes>>,
    taken: usize,
    progress: BatchProgress,
}

/// How far a batch has come, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchProgress {
    /// Accepted by the server, for one recipient at least.
    pub done: usize,
    /// Refused by the server for good: the message, its sender or all of its recipients.
    pub refused: usize,
    /// Failed in another way, those included that may have been accepted.
    pub failed: usize,
    /// Taken from the stream or, as far as the stream says, still in it.
    pub waiting: usize,
}

impl<S> Batch<S>
where
    S: Stream<Item: IntoSubmission>,
{
    pub(super) fn new(mailer: Mailer, source: S) -> Self {
        let most = connections(&mailer);
        let (source, running) = (Some(Box::pin(source)), JoinSet::new());
        Self { mailer, source, running, most, lanes: None, taken: 0, progress: BatchProgress::default() }
    }

    /// Sets how many messages may be under way on one connection at a time. Default: 1, each is waited for; at most 1,000.
    ///
    /// More are worth it where the server is far away, as the round trip no longer bounds the rate: by BDAT `messages` fit
    /// into each round trip, by DATA one does instead of half of one, whatever the number above 1. Sending limits hold all
    /// the same.
    ///
    /// The price is paid when a connection is lost or falls silent: by BDAT up to `messages` of them, not one, may then end as
    /// [`Indeterminate`](crate::Disposition::Indeterminate), because they had gone out and their verdicts had not come. By
    /// DATA it is one at most, as ever. The others are certain: what the server has not taken is sent again over another
    /// connection, and nothing is sent twice without your knowledge.
    ///
    /// A server that does not offer PIPELINING gets one at a time all the same, and so do messages of more than 64 KiB and
    /// the first one on each connection. A message that is refused leaves the others untouched. The batch takes up to twice
    /// as many messages from the stream as may be under way, so that there is always one to follow, but not more than the
    /// sending limits allow in a minute.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use smtp_oauth::{Mailer, lettre::Message};
    ///
    /// async fn send_all(mailer: &Mailer, messages: impl futures_core::Stream<Item = Message>) {
    ///     let window = NonZeroU32::new(8).expect("it is not zero");
    ///     let mut batch = mailer.submit_all(messages).overlap(window);
    ///     while let Some((number, result)) = batch.next().await {
    ///         if let Err(error) = result {
    ///             eprintln!("message {number}: {error}");
    ///         }
    ///     }
    /// }
    /// ```
    pub fn overlap(mut self, messages: NonZeroU32) -> Self {
        let messages = messages.min(MOST_OVERLAPPED);
        let connections = connections(&self.mailer);
        let overlaps = messages > NonZeroU32::MIN;
        let each = usize::try_from(messages.get()).unwrap_or(usize::MAX).saturating_mul(2);
        // The time of a message begins when it is taken, so none is taken that the limits hold back for minutes.
        let limit = self.mailer.config().limits().messages_per_minute();
        let limit = limit.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX));
        let most = connections.saturating_mul(each).min(limit.max(connections));
        self.most = if overlaps { most } else { connections };
        self.lanes = overlaps.then(|| Arc::new(Lanes::new(connections, messages)));
        self
    }

    /// Waits for the next outcome, in order of completion; `None` after the last one.
    ///
    /// # Cancellation
    /// A dropped future loses nothing: the next call goes on.
    pub async fn next(&mut self) -> Option<(usize, Result<Submission, Error>)> {
        poll_fn(|context| self.poll_outcome(context)).await
    }

    /// Returns how far the batch has come.
    pub fn progress(&self) -> BatchProgress {
        let BatchProgress { done, refused, failed, waiting: _ } = self.progress;
        let ahead = self.source.as_ref().map_or(0, |source| source.size_hint().0);
        let under_way = self.taken - done - refused - failed;
        BatchProgress { waiting: under_way.saturating_add(ahead), ..self.progress }
    }

    fn poll_outcome(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<Submission, Error>)>> {
        self.fill(context);
        match self.running.poll_join_next(context) {
            Poll::Ready(Some(joined)) => {
                // Nobody else can abort the task, so it has panicked, and the caller is to see that.
                let (number, result) =
                    joined.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
                self.progress.count(&result);
                // The place is taken again before the caller looks at the outcome.
                self.fill(context);
                Poll::Ready(Some((number, result)))
            }
            Poll::Ready(None) if self.source.is_none() => Poll::Ready(None),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Takes messages from the stream until every connection has what it can carry.
    fn fill(&mut self, context: &mut Context<'_>) {
        while self.running.len() < self.most
            && let Some(source) = &mut self.source
        {
            match source.as_mut().poll_next(context) {
                Poll::Ready(Some(message)) => {
                    let parcel = Arc::new(message.into_submission());
                    let (number, mailer) = (self.taken, self.mailer.clone());
                    self.taken += 1;
                    let seat = self.lanes.clone().map(|lanes| Seat { lanes, parcel: parcel.clone() });
                    let submission = async move {
                        let ((envelope, text), options) = (&*parcel, SubmitOptions::default());
                        (number, mailer.submit_in(envelope, text, &options, seat.as_ref()).await)
                    };
                    self.running.spawn(Span::current().run(submission));
                }
                Poll::Ready(None) => self.source = None,
                Poll::Pending => return,
            }
        }
    }
}

fn connections(mailer: &Mailer) -> usize {
    usize::try_from(mailer.config().max_connections().get()).unwrap_or(usize::MAX)
}

impl BatchProgress {
    fn count(&mut self, result: &Result<Submission, Error>) {
        let counter = match result.as_ref().map_err(Error::kind) {
            Ok(_) => &mut self.done,
            Err(ErrorKind::SenderRefused | ErrorKind::RecipientsRefused | ErrorKind::MessageRefused) => {
                &mut self.refused
            }
            Err(_) => &mut self.failed,
        };
        *counter += 1;
    }
}

impl<S> Stream for Batch<S>
where
    S: Stream<Item: IntoSubmission>,
{
    type Item = (usize, Result<Submission, Error>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_outcome(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.source.as_ref().map_or((0, Some(0)), Stream::size_hint);
        let running = self.running.len();
        (least.saturating_add(running), most.and_then(|most| most.checked_add(running)))
    }
}

impl<S> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mailer, source: _, running, most: _, lanes: _, taken, progress } = self;
        f.debug_struct("Batch")
            .field("mailer", mailer)
            .field("running", &running.len())
            .field("taken", taken)
            .field("progress", progress)
            .finish_non_exhaustive()
    }
}
