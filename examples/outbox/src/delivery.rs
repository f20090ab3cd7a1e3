//! One attempt at one message: sends it and says what became of it. Decides by `smtp_oauth::Disposition` alone.

use std::time::Duration;

use smtp_oauth::{Disposition, Error, ErrorKind, Mailer, Submission};

use crate::message::{Claimed, Fate, Outcome, Unreached};
use crate::store::{Outbox, milliseconds};

/// The wait after a first failure for which the server named none; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// RFC 5321 §4.5.4.1: the give-up time generally needs to be at least four or five days.
const GIVE_UP: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// Sends a claimed message once.
///
/// The mailer must not retry by itself (`RetryPolicy::never`) nor wait for its limits (`WhenReached::Fail`): while it
/// does, the message counts as being sent, and a death of the process makes it indeterminate for no reason.
pub async fn attempt(outbox: &Outbox, mailer: &Mailer, claimed: &Claimed) -> Outcome {
    match mailer.submit_raw(&claimed.envelope, &claimed.content).await {
        Ok(submission) => Outcome::Sent { refused: unreached(&submission, claimed, outbox.now()) },
        Err(error) => failure(&error, claimed, outbox.now()),
    }
}

fn failure(error: &Error, claimed: &Claimed, now: i64) -> Outcome {
    let reason = error.to_string();
    match error.disposition() {
        Disposition::Indeterminate => Outcome::Indeterminate { reason },
        Disposition::FixMessage => Outcome::SetAside { reason },
        Disposition::FixConfiguration | Disposition::Reauthenticate => Outcome::Pause {
            remedy: error.remedy().map(|remedy| remedy.to_string()).unwrap_or_default(),
            reason: format!("{reason} (message {})", claimed.id),
        },
        Disposition::Retry { after } if concerns_everybody(error.kind()) => {
            // A limit that depends on messages under way has room again as soon as one of them is over.
            let soon =
                if error.kind() == ErrorKind::LimitReached { Duration::from_secs(1) } else { FIRST_WAIT };
            Outcome::Hold { until: now.saturating_add(milliseconds(after.unwrap_or(soon))), reason }
        }
        Disposition::Retry { .. } if now.saturating_sub(claimed.created) >= milliseconds(GIVE_UP) => {
            Outcome::SetAside { reason: format!("given up after five days: {reason}") }
        }
        Disposition::Retry { after } => Outcome::Later { at: later(after, claimed, now), reason },
        // A disposition of a later version of the crate: a person decides.
        _ => Outcome::Indeterminate { reason },
    }
}

/// Tells whether the next message would fail for the same reason.
fn concerns_everybody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::LimitReached | ErrorKind::Network | ErrorKind::TokenUnavailable)
}

fn later(after: Option<Duration>, claimed: &Claimed, now: i64) -> i64 {
    let doublings = u32::try_from(claimed.attempts.saturating_sub(1)).unwrap_or(0).min(16);
    let wait = after.unwrap_or_else(|| FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT));
    now.saturating_add(milliseconds(wait))
}

fn unreached(submission: &Submission, claimed: &Claimed, now: i64) -> Vec<Unreached> {
    let refused = submission.refused().iter().map(|refusal| Unreached {
        recipient: refusal.recipient().to_string(),
        reason: refusal.to_string(),
        fate: match refusal.disposition() {
            Disposition::Retry { after } => Fate::Later(later(after, claimed, now)),
            Disposition::Indeterminate => Fate::Indeterminate,
            _ => Fate::Refused,
        },
    });
    refused.collect()
}
