//! A cache before a token provider: one request at a time, refreshed before expiry.
/// Placeholder.
#[derive(Debug)]
pub struct TokenCache;
