//! The register of tokens that `FakeEntra` writes and `FakeExchange` reads: no token works that was not issued.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::Clock;
use crate::token::AccessToken;

/// The access tokens that were issued, for whom and until when; clones share one register.
#[derive(Clone)]
pub struct IssuedTokens {
    clock: Clock,
    register: Arc<Mutex<Register>>,
}

#[derive(Default)]
struct Register {
    issued: u64,
    tokens: HashMap<String, Entry>,
    /// For an account, in lower case, the other mailboxes that its tokens open.
    access: HashMap<String, HashSet<String>>,
}

struct Entry {
    account: String,
    expires_at: OffsetDateTime,
    revoked: bool,
}

/// What the register says about a token that a client presented.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenVerdict {
    /// The token is good, for this account.
    Valid(String),
    /// The token was good once.
    Expired,
    /// The token was withdrawn by [`IssuedTokens::revoke_all`].
    Revoked,
    /// No such token was ever issued.
    Unknown,
}

impl IssuedTokens {
    /// Creates an empty register that reads expiry from `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, register: Arc::default() }
    }

    /// Issues a token of `length` characters for `account`; no two are alike.
    pub fn issue(&self, account: &str, lifetime: Duration, length: usize) -> String {
        let mut register = self.register();
        register.issued += 1;
        let mut token = format!("EwB-fake-access-token-{}-", register.issued);
        while token.len() < length {
            token.extend(('A'..='Z').cycle().nth(token.len()));
        }
        let expires_at = self.clock.now() + lifetime;
        register
            .tokens
            .insert(token.clone(), Entry { account: account.to_owned(), expires_at, revoked: false });
        token
    }

    /// Issues a token as [`issue`](Self::issue) does, ready for a [`TokenProvider`](crate::TokenProvider) to return.
    pub fn issue_access_token(&self, account: &str, lifetime: Duration, length: usize) -> AccessToken {
        let expires_at = self.clock.now() + lifetime;
        let token = self.issue(account, lifetime, length);
        AccessToken::new(token, expires_at).expect("letters and digits only")
    }

    /// Judges a token that a client presented.
    pub fn verdict(&self, token: &str) -> TokenVerdict {
        match self.register().tokens.get(token) {
            None => TokenVerdict::Unknown,
            Some(entry) if entry.revoked => TokenVerdict::Revoked,
            Some(entry) if entry.expires_at <= self.clock.now() => TokenVerdict::Expired,
            Some(entry) => TokenVerdict::Valid(entry.account.clone()),
        }
    }

    /// Lets the tokens of `account` sign in as `mailbox` too, as an app's do that has Full Access to it.
    pub fn grant_access(&self, account: &str, mailbox: &str) {
        let mut register = self.register();
        register.access.entry(account.to_lowercase()).or_default().insert(mailbox.to_lowercase());
    }

    /// Returns whether a token is good, and lets `user` in.
    pub fn opens(&self, token: &str, user: &str) -> bool {
        let TokenVerdict::Valid(account) = self.verdict(token) else { return false };
        let (account, user) = (account.to_lowercase(), user.to_lowercase());
        account == user
            || self.register().access.get(&account).is_some_and(|mailboxes| mailboxes.contains(&user))
    }

    /// Withdraws every token issued so far, as an administrator's "revoke sessions" does.
    pub fn revoke_all(&self) {
        for entry in self.register().tokens.values_mut() {
            entry.revoked = true;
        }
    }

    /// Returns how many tokens were issued.
    pub fn count(&self) -> u64 {
        self.register().issued
    }

    /// Returns every token issued, for a test that searches logs for them.
    pub fn all(&self) -> Vec<String> {
        self.register().tokens.keys().cloned().collect()
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().expect("no holder of this lock panics")
    }
}

impl fmt::Debug for IssuedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTokens").field("count", &self.count()).finish_non_exhaustive()
    }
}
