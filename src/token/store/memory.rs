//! A token store in memory: for tests, and for programs that sign in at every start. Survives no restart.

use std::sync::{Arc, Mutex, PoisonError};

use super::{StoreFuture, StoreLock, StoredTokens, TokenStore};

/// Keeps tokens for as long as the program runs; clones share one content.
///
/// A rotated refresh token is gone when the program ends: use a [`FileStore`](super::FileStore) to keep it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Option<StoredTokens>>>,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Creates a store that holds these tokens.
impl From<StoredTokens> for MemoryStore {
    fn from(tokens: StoredTokens) -> Self {
        Self { content: Arc::new(Mutex::new(Some(tokens))), lock: Arc::default() }
    }
}

impl TokenStore for MemoryStore {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        StoreFuture::new(async { Ok(self.content.lock().unwrap_or_else(PoisonError::into_inner).clone()) })
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        StoreFuture::new(async {
            *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokens.clone());
            Ok(())
        })
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        StoreFuture::new(async { Ok(StoreLock::new(self.lock.clone().lock_owned().await)) })
    }
}
