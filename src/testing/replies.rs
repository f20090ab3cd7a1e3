//! Every refusal the crate's tables know, for tests and documentation that must not drift from them. Sends nothing.

use super::exchange::FaultPoint;
use crate::cause::{self, ReplyCause};
use crate::remedy::{Blanks, Remedy};
use crate::smtp;

/// A reply as a server sends it, and what it means.
///
/// ```
/// use smtp_oauth::testing::{FakeExchange, Fault, KnownReply};
///
/// # async fn example() {
/// for known in KnownReply::all() {
///     let server = FakeExchange::builder().fault(known.point, Fault::reply(known.reply)).start().await;
///     // … the submission fails with known.cause
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownReply {
    /// Where a server says it.
    pub point: FaultPoint,
    /// The reply, for [`Fault::reply`](super::Fault::reply).
    pub reply: String,
    /// Why the server says it.
    pub cause: ReplyCause,
    /// What to do about it, with `<username>` and the like where addresses are filled in.
    pub remedy: Remedy,
}

impl KnownReply {
    /// Returns every reply in the order of the tables, at least one a row.
    pub fn all() -> Vec<Self> {
        let replies = cause::samples().filter_map(|(phase, reply)| {
            let finding = cause::classify(phase, &reply)?;
            let code = reply.code();
            let mut lines = reply.lines();
            let last = format!("{code} {}", lines.next_back()?);
            let lines: Vec<_> = lines.map(|line| format!("{code}-{line}")).chain([last]).collect();
            Some(Self {
                point: in_fake(phase)?,
                reply: lines.join("\n"),
                cause: finding.cause,
                remedy: finding.advice.fill(&Blanks::default()),
            })
        });
        replies.collect()
    }
}

/// The fake names the point before the reply, the client the wait for it.
fn in_fake(phase: smtp::Phase) -> Option<FaultPoint> {
    Some(match phase {
        smtp::Phase::Greeting => FaultPoint::Greeting,
        smtp::Phase::Ehlo => FaultPoint::EhloAfterTls,
        smtp::Phase::Auth => FaultPoint::Auth,
        smtp::Phase::Mail => FaultPoint::Mail,
        smtp::Phase::Rcpt => FaultPoint::Rcpt,
        smtp::Phase::Data => FaultPoint::Data,
        smtp::Phase::FinalReply => FaultPoint::Body,
        _ => return None,
    })
}
