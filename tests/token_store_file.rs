//! The token file is private, whole, refused when it is not safe, and locked between processes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;
use smtp_oauth::testing::{FakeEntra, ManualClock};
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{
    AccessToken, Clock, FileStore, TokenError, TokenErrorKind, TokenProvider, TokenRequest, TokenStore,
};
use tempfile::TempDir;

fn tokens(refresh_token: &str) -> StoredTokens {
    let now = ManualClock::new().clock().now();
    let access = AccessToken::new("access-secret", now + Duration::from_secs(3600)).unwrap();
    StoredTokens::new(refresh_token, now)
        .with_account("svc-mail@contoso.com")
        .with_access_token("scope", access.with_scopes(["scope"]))
}

fn open(directory: &TempDir) -> (FileStore, std::path::PathBuf) {
    let path = directory.path().join("token.json");
    (FileStore::open(&path).unwrap(), path)
}

fn assert_store_error(error: &TokenError, path: &Path, words: &str) {
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let expected = format!("the token file {} {words}", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_saved_is_loaded_by_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    assert!(store.load().await.unwrap().is_none());
    assert!(names(&directory).is_empty(), "opening and loading create nothing");
    store.save(&tokens("refresh-secret-1")).await.unwrap();
    store.save(&tokens("refresh-secret-2")).await.unwrap();
    let loaded = FileStore::open(&path).unwrap().load().await.unwrap().unwrap();
    assert_eq!(loaded.refresh_token().expose_secret(), "refresh-secret-2");
    assert_eq!(loaded.account(), Some("svc-mail@contoso.com"));
    assert_eq!(loaded.access_token("scope").unwrap().secret().expose_secret(), "access-secret");
    assert_eq!(loaded.access_token("scope").unwrap().scopes(), ["scope"]);
    assert_eq!(names(&directory), ["token.json"], "no temporary file is left behind");
    assert!(fs::read_to_string(&path).unwrap().contains("\"version\": 1"));
}

#[tokio::test]
async fn a_directory_that_does_not_exist_is_named() {
    let error = FileStore::open("/no/such/directory/token.json").unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert_eq!(
        error.to_string(),
        "the directory /no/such/directory for the token file does not exist: create it first"
    );
    assert!(FileStore::open("/").is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    store.save(&tokens("refresh-secret")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    drop(store.lock().await.unwrap());
    assert_eq!(mode(&directory.path().join("token.json.lock")), 0o600);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let words = format!("is open to others (mode 0640): run `chmod 600 {}`", path.display());
    assert_store_error(&store.load().await.unwrap_err(), &path, &words);
    assert_store_error(&store.save(&tokens("other-secret")).await.unwrap_err(), &path, &words);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let kept = store.load().await.unwrap().unwrap();
    assert_eq!(kept.refresh_token().expose_secret(), "refresh-secret");
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let words = "is a symbolic link: give the path of the file itself";
    assert_store_error(&store.load().await.unwrap_err(), &path, words);
    assert_store_error(&store.save(&tokens("refresh-secret")).await.unwrap_err(), &path, words);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_nobody_waits_for_it() {
    type Place = fn(&Path);
    let fifo: Place =
        |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let cases: [(&str, Place); 2] = [("FIFO", fifo), ("directory", |path| fs::create_dir(path).unwrap())];
    for (case, place) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (store, path) = open(&directory);
        let lock_path = directory.path().join("token.json.lock");
        place(&path);
        place(&lock_path);
        // A thread that hangs in the kernel would keep the runtime from ending too: say so, and end.
        let Ok(error) = tokio::time::timeout(Duration::from_secs(20), store.lock()).await else {
            eprintln!("{case}: the lock is waited for");
            std::process::exit(1);
        };
        assert_store_error(&error.unwrap_err(), &lock_path, "is not a regular file: remove it");
        let words = "is not a regular file";
        assert_store_error(&store.load().await.unwrap_err(), &path, words);
        assert_store_error(&store.save(&tokens("refresh-secret")).await.unwrap_err(), &path, words);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_as_lock_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _path) = open(&directory);
    let (target, lock_path) = (directory.path().join("target"), directory.path().join("token.json.lock"));
    std::os::unix::fs::symlink(&target, &lock_path).unwrap();
    let error = store.lock().await.unwrap_err();
    assert_store_error(&error, &lock_path, "is a symbolic link: remove it");
    assert!(!target.exists());
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    store.save(&tokens("refresh-secret")).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let half = whole.split_at(whole.find("access-secret").unwrap() + 4).0;
    let spoilt = whole.replace("access-secret", "access secret");
    let cases = [
        (spoilt.as_str(), "holds an access token that cannot be one: remove it and sign in again"),
        (half, "is damaged at line 8, column 20: restore it, or remove it and sign in again"),
        ("", "is damaged at line 1, column 0: restore it, or remove it and sign in again"),
        ("{\"version\": 9}", "has version 9, which this program does not know: update the program"),
    ];
    for (text, words) in cases {
        fs::write(&path, text).unwrap();
        assert_store_error(&store.load().await.unwrap_err(), &path, words);
        assert_store_error(&store.save(&tokens("other-secret")).await.unwrap_err(), &path, words);
        assert_store_error(&store.seed(&tokens("other-secret")).await.unwrap_err(), &path, words);
        drop(store.lock().await.unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn a_file_too_large_for_tokens_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    store.save(&tokens("refresh-secret")).await.unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1024 * 1024 + 1).unwrap();
    let words = "is too large to be a token file";
    assert_store_error(&store.load().await.unwrap_err(), &path, words);
    assert_store_error(&store.save(&tokens("other-secret")).await.unwrap_err(), &path, words);
    assert_eq!(fs::metadata(&path).unwrap().len(), 1024 * 1024 + 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_went_away_is_an_error_and_no_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    let path = below.join("token.json");
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.path(), path);
    fs::remove_dir(&below).unwrap();
    let lock_path = below.join("token.json.lock");
    assert_store_error(&store.save(&tokens("refresh-secret")).await.unwrap_err(), &path, "cannot be written");
    assert_store_error(&store.lock().await.unwrap_err(), &lock_path, "cannot be opened");
    // In its place is something that holds no files: nobody can know what was stored.
    fs::write(&below, "").unwrap();
    let error = store.load().await.unwrap_err();
    assert_store_error(&error, &path, "cannot be examined");
    assert!(std::error::Error::source(&error).unwrap().is::<std::io::Error>());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_neither_taken_nor_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let leftover = |number| format!(".token.json.{}-{number}.tmp", std::process::id());
    for number in 0..50 {
        fs::write(directory.path().join(leftover(number)), "left over").unwrap();
    }
    store.save(&tokens("refresh-secret-1")).await.unwrap();
    for number in 50..1000 {
        fs::write(directory.path().join(leftover(number)), "left over").unwrap();
    }
    let error = store.save(&tokens("refresh-secret-2")).await.unwrap_err();
    assert_store_error(&error, &path, "cannot be written");
    for number in 0..1000 {
        assert_eq!(fs::read_to_string(directory.path().join(leftover(number))).unwrap(), "left over");
    }
    let kept = store.load().await.unwrap().unwrap();
    assert_eq!(kept.refresh_token().expose_secret(), "refresh-secret-1");
}

/// Says to this very program, started again, where to save under a limit on the size of files.
const LIMITED: &str = "SMTP_OAUTH_TEST_LIMITED";

#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_takes_no_more_leaves_the_old_tokens_and_nothing_else() {
    if let Some(path) = std::env::var_os(LIMITED) {
        let path = Path::new(&path);
        let store = FileStore::open(path).unwrap();
        let error = store.save(&tokens("refresh-secret-2")).await.unwrap_err();
        return assert_store_error(&error, path, "cannot be replaced");
    }
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    store.save(&tokens("refresh-secret-1")).await.unwrap();
    // As on a full disk, a write fails; the superuser's too.
    let limited = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("a_disk_that_takes_no_more_leaves_the_old_tokens_and_nothing_else")
        .env(LIMITED, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success() && said.contains("1 passed"), "{limited:?}");
    assert_eq!(names(&directory), ["token.json"]);
    let kept = store.load().await.unwrap().unwrap();
    assert_eq!(kept.refresh_token().expose_secret(), "refresh-secret-1");
}

/// A runtime whose only thread for blocking work is taken, as by a disk that does not answer, until the sender is dropped.
fn stuck_runtime() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    (runtime, hold)
}

#[test]
fn a_lock_file_that_cannot_be_opened_in_time_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let (runtime, hold) = stuck_runtime();
    let manual = ManualClock::new();
    let store = store.clock(manual.clock()).lock_deadline(Duration::from_secs(20));
    let step = Duration::from_secs(1);
    let error = runtime.block_on(manual.advance_until(step, store.lock())).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let expected = format!("the token lock {}.lock could not be opened within 20 seconds", path.display());
    assert_eq!(error.to_string(), expected);
    drop(hold);
}

#[test]
fn a_runtime_that_has_ended_is_an_error_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    for error in [
        handle.block_on(store.load()).map(drop).unwrap_err(),
        handle.block_on(store.save(&tokens("refresh-secret"))).unwrap_err(),
    ] {
        assert_eq!(error.kind(), TokenErrorKind::Store);
        assert_eq!(error.to_string(), "the token file could not be worked on");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn the_lock_keeps_a_second_process_waiting_and_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let (first, path) = open(&directory);
    let manual = ManualClock::new();
    let second = FileStore::open(&path).unwrap().clock(manual.clock());
    let held = first.lock().await.unwrap();
    let error = manual.advance_until(Duration::from_secs(5), second.lock()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let lock_path = directory.path().join("token.json.lock");
    let expected =
        format!("the token lock {} is still held by another process after 60 seconds", lock_path.display());
    assert_eq!(error.to_string(), expected);
    // Replacing the token file under the lock does not lose the lock.
    first.save(&tokens("refresh-secret")).await.unwrap();
    let waiting = second.lock();
    drop(held);
    drop(waiting.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_processes_one_refreshes() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let entra = FakeEntra::start().await;
    assert!(store.seed(&entra.sign_in()).await.unwrap());
    let processes: Vec<_> = (0..8)
        .map(|_| {
            let store = FileStore::open(&path).unwrap().clock(Clock::system());
            let cache = entra.app().build().unwrap().refresh_token(store);
            tokio::spawn(async move { cache.token(TokenRequest::new()).await.unwrap() })
        })
        .collect();
    let mut seen = Vec::new();
    for process in processes {
        seen.push(process.await.unwrap());
    }
    assert!(seen.iter().all(|token| token.is_same(&seen[0])));
    assert_eq!(entra.requests(), 1);
    let stored = store.load().await.unwrap().unwrap();
    assert_eq!(stored.refresh_token().expose_secret(), entra.refresh_token());
}

#[tokio::test]
async fn an_empty_store_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let (store, path) = open(&directory);
    let entra = FakeEntra::start().await;
    let cache = entra.app().build().unwrap().refresh_token(std::sync::Arc::new(store));
    let error = smtp_oauth::Error::from(cache.token(TokenRequest::new()).await.unwrap_err());
    assert_eq!(error.kind(), smtp_oauth::ErrorKind::SignInRequired);
    assert_eq!(error.disposition(), smtp_oauth::Disposition::Reauthenticate);
    let expected = format!("no refresh token is stored in the token file {}: sign in first", path.display());
    assert_eq!(error.to_string(), expected);
    assert!(format!("{error:#}").contains("`TokenStore::seed`"), "{error:#}");
}
