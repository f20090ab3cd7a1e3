//! A token file on disk: permissions, atomic replacement, the lock file. Blocks, so it runs on a blocking thread.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::super::StoredTokens;
use super::super::document::{self, Damage};
use crate::token::{TokenError, TokenErrorKind};

/// Far above the size of any token file, so that a wrong path does not fill the memory.
const MOST_BYTES: u64 = 1024 * 1024;

/// Returns the directory that holds `path`.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads the file; `None` when there is none.
pub(super) fn load(path: &Path) -> Result<Option<StoredTokens>, TokenError> {
    let Some(text) = read_private(path)? else { return Ok(None) };
    document::read(&text).map(Some).map_err(|damage| damaged(path, &damage))
}

/// Replaces the file: a reader sees the old content or the new, also after a power failure.
pub(super) fn save(path: &Path, tokens: &StoredTokens) -> Result<(), TokenError> {
    // Never replace something that is not ours, such as another program's file under a mistyped path.
    load(path)?;
    let text = document::write(tokens).map_err(|error| failed(path, "cannot be written", error))?;
    let (mut file, temporary) =
        create_beside(path).map_err(|error| failed(path, "cannot be written", error))?;
    let written =
        file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(path, "cannot be replaced", error)
    })?;
    // Some network file systems refuse this; the new content is in place all the same.
    let _ = sync_directory(directory(path));
    Ok(())
}

/// Opens the file that is locked in place of the token file, which changes its identity at each replacement.
pub(super) fn open_lock(path: &Path) -> Result<File, TokenError> {
    const IRREGULAR: &str = "is not a regular file: remove it";
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => return Err(refused(path, "is a symbolic link: remove it")),
        Ok(found) if !found.is_file() => return Err(refused(path, IRREGULAR)),
        // Whatever is wrong, if it is not just that there is none yet, opening it will say.
        Ok(_) | Err(_) => {}
    }
    // For reading too: Linux then opens a FIFO, put there since, without waiting for somebody at its other end.
    let file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(path)
        .map_err(|error| failed(path, "cannot be opened", error))?;
    let opened = file.metadata().map_err(|error| failed(path, "cannot be examined", error))?;
    if opened.is_file() { Ok(file) } else { Err(refused(path, IRREGULAR)) }
}

fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, TokenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "cannot be examined", error)),
    };
    if found.is_symlink() {
        return Err(refused(path, "is a symbolic link: give the path of the file itself"));
    }
    if !found.is_file() {
        return Err(refused(path, "is not a regular file"));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        // Removed meanwhile, by a sign-out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "cannot be opened", error)),
    };
    let opened = file.metadata().map_err(|error| failed(path, "cannot be examined", error))?;
    if !opened.is_file() {
        return Err(refused(path, "is not a regular file"));
    }
    check_private(path, &opened)?;
    if opened.len() > MOST_BYTES {
        return Err(refused(path, "is too large to be a token file"));
    }
    // One allocation, because each smaller one would be left behind with a part of the secrets in it.
    let capacity = usize::try_from(opened.len()).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|error| failed(path, "cannot be read", error))?;
    Ok(Some(text))
}

#[cfg(unix)]
fn check_private(path: &Path, opened: &Metadata) -> Result<(), TokenError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = opened.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = path.display();
    let message =
        format!("the token file {shown} is open to others (mode {mode:04o}): run `chmod 600 {shown}`");
    Err(TokenError::new(TokenErrorKind::Store, message))
}

#[cfg(not(unix))]
fn check_private(_path: &Path, _opened: &Metadata) -> Result<(), TokenError> {
    Ok(())
}

/// Creates a file next to `path`, on the same file system, so that the rename is atomic.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default();
    let mut last = io::ErrorKind::AlreadyExists.into();
    // A crashed process with the same id may have left its file; another container's may be in use. Take neither.
    for _ in 0..100 {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let temporary = path.with_file_name(temporary);
        match private(OpenOptions::new().write(true).create_new(true)).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(path: &Path, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TokenError {
    let message = format!("the token file {} {what}", path.display());
    TokenError::new(TokenErrorKind::Store, message).with_source(error)
}

fn refused(path: &Path, why: &str) -> TokenError {
    TokenError::new(TokenErrorKind::Store, format!("the token file {} {why}", path.display()))
}

fn damaged(path: &Path, damage: &Damage) -> TokenError {
    refused(path, &damage.explain())
}
