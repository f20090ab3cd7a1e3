//! Where the refresh token is kept: a `TokenStore` of the library over this program's own database.

use std::fs::{File, TryLockError};
use std::time::Duration;

use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{TokenError, TokenErrorKind, TokenStore};

use crate::database::{Change, Database, DatabaseError};

pub const RECORD: &str = "tokens";
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct SqliteTokens(Database);

impl SqliteTokens {
    pub fn new(database: Database) -> Self {
        Self(database)
    }

    /// Waits for the lock file beside the database: between tasks and between processes, and the system gives it back
    /// when a process dies.
    ///
    /// A write transaction would be no lock here: it would keep `save`, on another connection, waiting for itself.
    async fn locked(&self) -> Result<StoreLock, TokenError> {
        let refused = |error| {
            TokenError::new(TokenErrorKind::Store, "the token lock cannot be taken").with_source(error)
        };
        let file = File::options().create(true).append(true).open(self.0.beside("lock")).map_err(refused)?;
        let wait = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
                    Err(TryLockError::Error(error)) => return Err(refused(error)),
                }
            }
        };
        match tokio::time::timeout(LOCK_DEADLINE, wait).await {
            Ok(taken) => taken.map(|()| StoreLock::new(Locked { _file: file })),
            Err(_elapsed) => Err(TokenError::new(
                TokenErrorKind::Store,
                "the token lock was not given back within a minute",
            )),
        }
    }
}

/// Closing the file gives the lock back.
struct Locked {
    _file: File,
}

impl TokenStore for SqliteTokens {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        StoreFuture::new(async { self.0.read(RECORD).await.map_err(store_error) })
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        let (database, change) = (self.0.clone(), Change::default().put(RECORD, tokens));
        StoreFuture::new(async move {
            // In a task of its own: a write that was begun ends even when nobody waits for it any more.
            let saving = tokio::spawn(async move { database.apply(change?).await });
            let saved = saving.await.map_err(|error| {
                TokenError::new(TokenErrorKind::Store, "saving the tokens was abandoned").with_source(error)
            })?;
            saved.map_err(store_error)
        })
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        StoreFuture::new(self.locked())
    }

    fn location(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }
}

fn store_error(error: DatabaseError) -> TokenError {
    TokenError::new(TokenErrorKind::Store, "the tokens in the database cannot be used").with_source(error)
}
