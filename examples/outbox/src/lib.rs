//! An outbox: messages that survive a dying process, are never doubled silently, and say whose move it is.
//!
//! `store` holds the truth, one row for each message; `delivery` makes one attempt at one message; `worker` runs
//! attempts as jobs; `limits` keeps what several processes may send together; `compose` checks what comes in.

pub mod compose;
pub mod delivery;
pub mod demo;
pub mod limits;
pub mod mailer;
pub mod store;
pub mod worker;
