//! Tells spans, log and metrics what became of a submission. Decides nothing.

use crate::error::Error;
use crate::observe;
use crate::outcome::{Refusal, Submission};
use crate::smtp::Reply;

pub(super) fn conclude(observed: observe::submission::Submission<'_>, result: &Result<Submission, Error>) {
    match result {
        Ok(submission) => {
            let (accepted, refused) = (submission.accepted().len(), submission.refused().len());
            observed.accepted(accepted, refused, submission.message_id(), named(submission.refused()));
        }
        Err(error) => error.tell(|fault| observed.failed(fault, named(error.refused()))),
    }
}

fn named(refusals: &[Refusal]) -> impl Iterator<Item = observe::submission::Refused<'_>> {
    refusals.iter().map(|refusal| observe::submission::Refused {
        recipient: refusal.recipient(),
        reply_code: refusal.reply().map(Reply::code),
        disposition: refusal.disposition().name(),
    })
}
