//! A token store in the operating system's keyring, which the program chooses. Shares nothing between processes.

use std::fmt;
use std::sync::Arc;

use keyring_core::{Entry, Error};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{StoreFuture, StoreLock, StoredTokens, TokenStore, document};
use crate::token::{TokenError, TokenErrorKind};

/// What Windows' credential manager takes as one secret (`CRED_MAX_CREDENTIAL_BLOB_SIZE`); the least of all keyrings.
const MOST_BYTES: usize = 2560;
/// Far above what any tokens take.
const MOST_PARTS: usize = 64;
/// Begins an entry that only says where the parts are; no JSON begins so.
const PARTED: &str = "parts 1";

/// Keeps tokens in the operating system's keyring, through the store that the program sets with `keyring-core`.
///
/// - Tokens of more than 2,560 bytes, the most that Windows keeps in one entry, are kept in several. They are replaced
///   as a whole: the new parts are written beside the old ones before the first entry points to them.
/// - What is there but cannot be read is reported and never overwritten.
/// - The lock holds within this process only: let one process use the account, or use a
///   [`FileStore`](super::FileStore).
///
/// ```no_run
/// use smtp_oauth::KeyringStore;
///
/// // Once, with the crate for the platform: keyring_core::set_default_store(…)
/// let store = KeyringStore::new("contoso-mailer", "svc-mail@contoso.com");
/// ```
#[derive(Clone)]
pub struct KeyringStore {
    place: Place,
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Whoever works on the entries has it until done, also when the caller, and the lock with it, is gone by then: a
    /// save that began meanwhile would write the same parts. Fair, so that of two saves the later one stays.
    entries: Arc<tokio::sync::Mutex<()>>,
}

/// Where the tokens are.
#[derive(Clone)]
struct Place {
    service: String,
    user: String,
}

/// What the first entry says.
#[derive(PartialEq, Eq)]
struct Index {
    /// `a` or `b`: the parts of one are written while those of the other are in use.
    generation: char,
    parts: usize,
    /// Of the whole text, so that parts of two generations are never taken for one.
    checksum: String,
}

/// What was found.
struct Content {
    text: Zeroizing<Vec<u8>>,
    /// Where its parts were, if it had any.
    index: Option<Index>,
}

impl KeyringStore {
    /// Creates a store for the account `user` of the program `service`; the keyring is asked when it is used.
    pub fn new(service: impl Into<String>, user: impl Into<String>) -> Self {
        let place = Place { service: service.into(), user: user.into() };
        Self { place, lock: Arc::default(), entries: Arc::default() }
    }

    /// Runs the keyring's calls, which block, where they block no other task, and one after another.
    async fn work_on_entries<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, TokenError> + Send + 'static,
    ) -> Result<T, TokenError> {
        let place = self.place.clone();
        let entries = self.entries.clone().lock_owned().await;
        let working = tokio::task::spawn_blocking(move || {
            let _until_done = entries;
            work(&place)
        });
        working.await.unwrap_or_else(|error| {
            let message = "the keyring could not be worked on";
            Err(TokenError::new(TokenErrorKind::Store, message).with_source(error))
        })
    }
}

impl TokenStore for KeyringStore {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        StoreFuture::new(self.work_on_entries(Place::load))
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        let tokens = tokens.clone();
        StoreFuture::new(self.work_on_entries(move |place| place.save(&tokens)))
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        StoreFuture::new(async { Ok(StoreLock::new(self.lock.clone().lock_owned().await)) })
    }

    fn location(&self) -> Option<String> {
        Some(self.place.name())
    }
}

impl fmt::Debug for KeyringStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: Place { service, user }, lock: _, entries: _ } = self;
        f.debug_struct("KeyringStore").field("service", service).field("user", user).finish_non_exhaustive()
    }
}

impl Place {
    fn load(&self) -> Result<Option<StoredTokens>, TokenError> {
        let Some(content) = self.content()? else { return Ok(None) };
        self.read(&content).map(Some)
    }

    fn read(&self, content: &Content) -> Result<StoredTokens, TokenError> {
        document::read(&content.text).map_err(|damage| self.error(&damage.explain()))
    }

    fn save(&self, tokens: &StoredTokens) -> Result<(), TokenError> {
        // Never replace something that is not ours.
        let old = self.content()?;
        old.as_ref().map(|old| self.read(old)).transpose()?;
        let old = old.and_then(|old| old.index);
        let text = document::write(tokens).map_err(|error| self.failed("cannot be written", error))?;
        if text.len() <= MOST_BYTES {
            self.put(&self.user, &text)?;
        } else {
            let generation = if old.as_ref().is_some_and(|old| old.generation == 'a') { 'b' } else { 'a' };
            self.put_parts(&text, generation)?;
        }
        // What nothing points to any more; a part that stays behind does no harm.
        if let Some(old) = old {
            for number in 0..old.parts {
                let _ = self.entry(&self.part(old.generation, number)).and_then(|entry| {
                    entry.delete_credential().map_err(|error| self.failed("cannot be cleared", error))
                });
            }
        }
        Ok(())
    }

    fn put_parts(&self, text: &[u8], generation: char) -> Result<(), TokenError> {
        let parts = text.len().div_ceil(MOST_BYTES);
        if parts > MOST_PARTS {
            let most = MOST_PARTS * MOST_BYTES;
            return Err(self.error(&format!("cannot take tokens of more than {most} bytes")));
        }
        for (number, part) in text.chunks(MOST_BYTES).enumerate() {
            self.put(&self.part(generation, number), part)?;
        }
        let index = Index { generation, parts, checksum: checksum(text) };
        self.put(&self.user, index.to_string().as_bytes())
    }

    fn content(&self) -> Result<Option<Content>, TokenError> {
        let Some(first) = self.get(&self.user)? else { return Ok(None) };
        if !first.starts_with(PARTED.as_bytes()) {
            return Ok(Some(Content { text: first, index: None }));
        }
        let damaged = || self.error("is damaged: remove it and sign in again");
        let index = Index::parse(&first).ok_or_else(damaged)?;
        // One allocation, because each smaller one would be left behind with a part of the secrets in it.
        let mut text = Zeroizing::new(Vec::with_capacity(index.parts * MOST_BYTES));
        for number in 0..index.parts {
            let part = self.get(&self.part(index.generation, number))?.ok_or_else(damaged)?;
            text.extend_from_slice(&part);
        }
        if checksum(&text) != index.checksum {
            return Err(damaged());
        }
        Ok(Some(Content { text, index: Some(index) }))
    }

    fn part(&self, generation: char, number: usize) -> String {
        format!("{}#{generation}{number}", self.user)
    }

    fn get(&self, user: &str) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
        match self.entry(user)?.get_secret() {
            Ok(secret) => Ok(Some(Zeroizing::new(secret))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(self.failed("cannot be read", harmless(error))),
        }
    }

    fn put(&self, user: &str, secret: &[u8]) -> Result<(), TokenError> {
        self.entry(user)?.set_secret(secret).map_err(|error| self.failed("cannot be saved", harmless(error)))
    }

    fn entry(&self, user: &str) -> Result<Entry, TokenError> {
        Entry::new(&self.service, user).map_err(|error| match error {
            Error::NoDefaultStore => TokenError::new(
                TokenErrorKind::Configuration,
                "no keyring was chosen: call keyring_core::set_default_store with the platform's store first",
            ),
            error => self.failed("cannot be opened", harmless(error)),
        })
    }

    fn error(&self, what: &str) -> TokenError {
        TokenError::new(TokenErrorKind::Store, self.message(what))
    }

    fn failed(&self, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TokenError {
        TokenError::new(TokenErrorKind::Store, self.message(what)).with_source(error)
    }

    fn message(&self, what: &str) -> String {
        format!("{} {what}", self.name())
    }

    fn name(&self) -> String {
        format!("the keyring entry `{}` of `{}`", self.user, self.service)
    }
}

impl Index {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(PARTED)?;
        let mut words = text.split_ascii_whitespace();
        let generation = words.next()?.chars().next()?;
        let parts = words.next()?.parse().ok().filter(|parts| *parts <= MOST_PARTS)?;
        Some(Self { generation, parts, checksum: words.next()?.to_owned() })
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, parts, checksum } = self;
        write!(f, "{PARTED} {generation} {parts} {checksum}")
    }
}

fn checksum(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two of the keyring's errors hold the secret that was read.
fn harmless(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        Error::BadEncoding(_) | Error::BadDataFormat(..) => "the entry holds bytes that are no secret".into(),
        error => Box::new(error),
    }
}
