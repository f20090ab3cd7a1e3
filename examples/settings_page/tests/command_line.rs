//! The program's start: what it needs, and that nothing is half done when it cannot have it.

use std::path::Path;
use std::process::{Command, Output};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settings-page"));
    command.current_dir(directory).env_remove("SETTINGS_PAGE_KEY").args(arguments).output().unwrap()
}

fn refused(directory: &Path, arguments: &[&str], because: &str) {
    let before = std::fs::read_dir(directory).unwrap().count();
    let output = run(directory, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(because), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty());
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), before, "no file was made");
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_no_file_behind() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, because) in [
        (&["--listen", "8025"][..], "invalid value '8025' for '--listen <ADDRESS:PORT>'"),
        (&["--listen", "0.0.0.0:0"], "is open to the network"),
        (&["--listen", "0.0.0.0:0", "--public-url", "http://mail.contoso.com"], "must be https"),
        (&["--listen", "127.0.0.1:0", "--public-url", "https://contoso.com/mail"], "must have no path"),
        (&["--listen", "127.0.0.1:0", "--public-url", "https://:hunter2@contoso.com"], "and no user"),
        (&["--demo", "--database", "settings.db"], "cannot be used with"),
        (
            &["--listen", "127.0.0.1:0", "--database", "missing/settings.db"],
            "missing/settings.db.key cannot be made",
        ),
        (&["--demon"], "unexpected argument '--demon'"),
    ] {
        refused(directory.path(), arguments, because);
    }
    std::fs::write(directory.path().join("settings.db"), "").unwrap();
    refused(directory.path(), &["--listen", "127.0.0.1:0"], "settings.db.key is not there");
}

#[cfg(unix)]
#[test]
fn a_key_that_is_no_text_is_refused_and_none_made_in_its_place() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["10", env!("CARGO_BIN_EXE_settings-page"), "--listen", "127.0.0.1:0"]);
    let output = command
        .current_dir(directory.path())
        .env("SETTINGS_PAGE_KEY", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("SETTINGS_PAGE_KEY: the key must be"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no key file was made");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(directory.path(), &["--listen", &address], &format!("cannot listen on {address}"));
}

#[test]
fn the_help_names_every_option() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for part in
        ["--demo", "--listen", "--database", "--key-file", "--public-url", "SETTINGS_PAGE_KEY", "Exit codes"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
}
