//! A token store in a JSON file: private, replaced atomically, locked between processes. Encrypts nothing.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{StoreFuture, StoreLock, StoredTokens, TokenStore};
use crate::clock::Clock;
use crate::token::{TokenError, TokenErrorKind};

mod disk;

const FIRST_POLL: Duration = Duration::from_millis(5);
const SLOWEST_POLL: Duration = Duration::from_millis(250);

/// Keeps tokens in a JSON file that only its owner may read.
///
/// - The file is created with mode `0600`; one that others can read, or a symbolic link, is refused (Unix). On Windows
///   the directory's access list protects it.
/// - It is replaced atomically: a crash leaves the old content or the new one, never half of it. A file that is not a
///   token store is never overwritten.
/// - A side file with `.lock` appended to the name is locked while a token is refreshed, so that of several processes
///   one asks the authorization server and the others use its answer.
///
/// ```no_run
/// use smtp_oauth::token::store::StoredTokens;
/// use smtp_oauth::{Clock, FileStore, TokenStore};
///
/// # async fn example(refresh_token: String) -> Result<(), smtp_oauth::TokenError> {
/// let store = FileStore::open("/var/lib/mailer/token.json")?;
/// store.seed(&StoredTokens::new(refresh_token, Clock::system().now())).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    path: Arc<Path>,
    lock_path: Arc<Path>,
    clock: Clock,
    lock_deadline: Duration,
}

impl FileStore {
    /// Opens the store at `path`; the file itself need not exist yet, its directory must.
    ///
    /// # Errors
    /// [`TokenErrorKind::Store`] when the path names no file or its directory does not exist.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let path = path.into();
        let Some(name) = path.file_name() else {
            let message = format!("the token file {} has no file name", path.display());
            return Err(TokenError::new(TokenErrorKind::Store, message));
        };
        let directory = disk::directory(&path);
        if !directory.is_dir() {
            let message = format!(
                "the directory {} for the token file does not exist: create it first",
                directory.display()
            );
            return Err(TokenError::new(TokenErrorKind::Store, message));
        }
        let mut lock_name = name.to_owned();
        lock_name.push(".lock");
        let lock_path = path.with_file_name(lock_name).into();
        Ok(Self {
            path: path.into(),
            lock_path,
            clock: Clock::system(),
            lock_deadline: Duration::from_secs(60),
        })
    }

    /// Sets the clock that measures the wait for the lock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how long to wait for the lock: to open its file, and for another process to release it. Default: 60 seconds.
    #[must_use]
    pub fn lock_deadline(mut self, deadline: Duration) -> Self {
        self.lock_deadline = deadline;
        self
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn acquire(&self) -> Result<StoreLock, TokenError> {
        let deadline = self.clock.moment().after(self.lock_deadline);
        let path = self.lock_path.clone();
        // A network file system can keep even this waiting; the thread is then left behind.
        let opening = on_blocking_thread(move || disk::open_lock(&path));
        let opened = self.clock.until(deadline, opening).await;
        let file = opened.unwrap_or_else(|_elapsed| Err(self.lock_stuck()))?;
        // Polled, not `File::lock` on a blocking thread: that thread could not be called back at the deadline.
        let poll = async {
            let mut wait = FIRST_POLL;
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::Error(error)) => return Err(self.lock_failed(error)),
                    Err(TryLockError::WouldBlock) => self.clock.sleep(wait).await,
                }
                wait = (wait * 2).min(SLOWEST_POLL);
            }
        };
        let outcome = self.clock.until(deadline, poll).await;
        outcome.unwrap_or_else(|_elapsed| Err(self.lock_busy()))?;
        Ok(StoreLock::new(LockedFile { _file: file }))
    }

    fn lock_failed(&self, error: std::io::Error) -> TokenError {
        let message = format!("the token lock {} cannot be taken", self.lock_path.display());
        TokenError::new(TokenErrorKind::Store, message).with_source(error)
    }

    fn lock_stuck(&self) -> TokenError {
        let message = format!(
            "the token lock {} could not be opened within {} seconds",
            self.lock_path.display(),
            self.lock_deadline.as_secs()
        );
        TokenError::new(TokenErrorKind::Store, message)
    }

    fn lock_busy(&self) -> TokenError {
        let message = format!(
            "the token lock {} is still held by another process after {} seconds",
            self.lock_path.display(),
            self.lock_deadline.as_secs()
        );
        TokenError::new(TokenErrorKind::Store, message)
    }
}

impl TokenStore for FileStore {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        let path = self.path.clone();
        StoreFuture::new(on_blocking_thread(move || disk::load(&path)))
    }

    fn save<'a>(&'a self, tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        let (path, tokens) = (self.path.clone(), tokens.clone());
        StoreFuture::new(on_blocking_thread(move || disk::save(&path, &tokens)))
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        StoreFuture::new(self.acquire())
    }

    fn location(&self) -> Option<String> {
        Some(format!("the token file {}", self.path.display()))
    }
}

/// Closing the file releases the lock.
struct LockedFile {
    _file: File,
}

/// Runs file I/O where it blocks no other task; it runs to its end even when the caller goes away.
async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TokenError> + Send + 'static,
) -> Result<T, TokenError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(TokenError::new(TokenErrorKind::Store, "the token file could not be worked on")
            .with_source(error))
    })
}
