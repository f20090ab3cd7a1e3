//! The SQLite database: named records, each sealed as a whole. Knows neither settings nor tokens.
//!
//! Whoever steals the file learns the names of the records; whoever can write to it cannot lead the mail, or the client
//! secret, to another server: what they wrote does not open.

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use zeroize::Zeroizing;

use crate::vault::Vault;

#[derive(Clone)]
pub struct Database {
    pool: SqlitePool,
    vault: Arc<Vault>,
    path: Arc<Path>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the database does not work: {0}")]
    Sqlite(#[from] sqlx::Error),
    #[error("the database file cannot be opened: {0}")]
    File(#[from] std::io::Error),
    #[error(
        "the record `{0}` cannot be opened: the key is not the one it was sealed with, or it was changed"
    )]
    Sealed(&'static str),
    #[error("the record `{0}` is not of this program's version")]
    Format(&'static str),
}

/// A change of several records, made as a whole or not at all.
#[derive(Default)]
pub struct Change(Vec<(&'static str, Option<Zeroizing<Vec<u8>>>)>);

impl Change {
    pub fn put(mut self, name: &'static str, record: &impl Serialize) -> Result<Self, DatabaseError> {
        let text = serde_json::to_vec(record).map_err(|_| DatabaseError::Format(name))?;
        self.0.push((name, Some(Zeroizing::new(text))));
        Ok(self)
    }

    pub fn remove(mut self, name: &'static str) -> Self {
        self.0.push((name, None));
        self
    }
}

impl Database {
    /// Opens the database, makes it if need be, and tries the key on every record.
    pub async fn open(path: &Path, vault: Vault) -> Result<Self, DatabaseError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full); // A refresh token that was rotated must survive a power cut.
        let pool = SqlitePool::connect_with(options).await?;
        let table = "CREATE TABLE IF NOT EXISTS record (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT";
        sqlx::query(table).execute(&pool).await?;
        let database = Self { pool, vault: Arc::new(vault), path: path.into() };
        for name in ["settings", "tokens"] {
            database.unsealed(name).await?;
        }
        Ok(database)
    }

    pub async fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, DatabaseError> {
        let Some(text) = self.unsealed(name).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| DatabaseError::Format(name))
    }

    pub async fn apply(&self, change: Change) -> Result<(), DatabaseError> {
        let mut transaction = self.pool.begin().await?;
        for (name, text) in change.0 {
            let query = match text {
                Some(text) => {
                    let sealed = self.vault.seal(name, &text).ok_or(DatabaseError::Sealed(name))?;
                    sqlx::query("INSERT OR REPLACE INTO record (name, sealed) VALUES (?, ?)")
                        .bind(name)
                        .bind(sealed)
                }
                None => sqlx::query("DELETE FROM record WHERE name = ?").bind(name),
            };
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Returns the path of a file beside the database.
    pub fn beside(&self, extension: &str) -> PathBuf {
        beside(&self.path, extension)
    }

    async fn unsealed(&self, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, DatabaseError> {
        let query = sqlx::query_scalar::<_, Vec<u8>>("SELECT sealed FROM record WHERE name = ?").bind(name);
        let Some(sealed) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        self.vault.open(name, &sealed).map(Some).ok_or(DatabaseError::Sealed(name))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database {}", self.path.display())
    }
}

/// Returns `settings.db.key` for `settings.db` and `key`.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// SQLite gives its other files the mode of the first.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(|_file| ())
}
