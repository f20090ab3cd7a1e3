//! The examples as programs, built before the tests that run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Returns the program, which must not be older than its source.
pub fn binary(example: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let path = deps.parent().unwrap().parent().unwrap().join("examples").join(example);
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let files = fs::read_dir(&source).into_iter().flatten().map(|entry| entry.unwrap().path());
    let newest = files.chain([source.with_extension("rs")]).filter_map(|path| modified(&path)).max();
    let built = modified(&path).unwrap_or(SystemTime::UNIX_EPOCH);
    assert!(newest.expect("a source") <= built, "{} is out of date: cargo build --examples", path.display());
    path
}
