//! The words of the outbox: what is taken over, claimed, decided, and what becomes of it. Does nothing.

use serde::{Deserialize, Serialize};
use smtp_oauth::lettre::address::Envelope;

/// What became of [`Outbox::enqueue`](crate::store::Outbox::enqueue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    New {
        id: String,
    },
    /// The same message was there already, with this state.
    Known {
        id: String,
        state: String,
    },
}

/// A message that this worker alone may send now.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub id: String,
    pub(crate) claim: String,
    pub envelope: Envelope,
    pub content: Vec<u8>,
    pub attempts: i64,
    pub created: i64,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server is responsible for it now; these recipients are not among those who get it.
    Sent { refused: Vec<Unreached> },
    /// Certainly not sent; to be tried again then.
    Later { at: i64, reason: String },
    /// The same, and it would be so for every other message until then.
    Hold { until: i64, reason: String },
    /// Certainly not sent, and nothing will be before somebody has mended it.
    Pause { reason: String, remedy: String },
    /// It cannot be sent as it is.
    SetAside { reason: String },
    /// It may have been sent.
    Indeterminate { reason: String },
}

/// A recipient who did not get a message that others got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    pub recipient: String,
    pub reason: String,
    pub fate: Fate,
}

/// What happens about such a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Refused,
    /// Goes on as a message of its own, due at this time.
    Later(i64),
    /// Goes on as a message of its own, which may have been sent.
    Indeterminate,
}

/// What a person decides about a message that nobody else may decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Resend,
    Drop,
}
