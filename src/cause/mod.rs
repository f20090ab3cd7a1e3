//! What a server's refusal means: from reply code, enhanced status code, text and phase to a cause and its remedy.
//!
//! The tables are data: the first row that fits wins, particular ones before general ones. Reads no settings.

mod exchange_account;
mod exchange_delivery;
mod exchange_sign_in;
mod exchange_submission;
mod other_providers;
mod reply_cause;
mod row;
mod standard;

pub use reply_cause::ReplyCause;

pub(crate) use exchange_account::SEND_AS;
pub(crate) use reply_cause::Verdict;
#[cfg(any(test, feature = "testing"))]
pub(crate) use row::samples;
pub(crate) use row::{Finding, classify};

/// Every table, in the order of the search.
const TABLES: [&[row::Row]; 6] = [
    exchange_sign_in::ROWS,
    exchange_account::ROWS,
    exchange_submission::ROWS,
    other_providers::ROWS,
    exchange_delivery::ROWS,
    standard::ROWS,
];
