//! An outbox: messages that survive a dying process, are never doubled silently, and say whose move it is.
//!
//! `store` holds the truth, one row for each message, and `lease` says who is alive; `delivery` makes one attempt at one
//! message; `worker` runs attempts as jobs; `limits` keeps what several processes may send together; `compose` checks
//! what comes in; `status` tells what is going on.

pub mod compose;
pub mod delivery;
pub mod demo;
mod lease;
pub mod limits;
pub mod mailer;
pub mod message;
pub mod status;
pub mod store;
pub mod worker;
