//! Delivered messages: finds them in the Maildir, and takes off the trace header fields that Postfix put on top (RFC 5321 §4.4).
//! Delivers nothing itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The one Maildir that every message to example.test is delivered to, a file for each recipient.
#[derive(Debug)]
pub(crate) struct Maildir {
    path: PathBuf,
}

/// One recipient's copy of a message.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    /// The address in `MAIL FROM`, empty for the null sender.
    pub(crate) sender: String,
    /// The address in `RCPT TO`.
    pub(crate) recipient: String,
    /// What Postfix prepended: Return-Path, X-Original-To, Delivered-To, and Received, whose `with` tells ESMTPSA
    /// (TLS, signed in) from UTF8SMTPSA.
    pub(crate) trace: String,
    /// The message as it was submitted, byte for byte, its line ends CRLF again.
    ///
    /// The servers refuse a lone LF, so each LF in the file was a CRLF. One thing is lost: a message that did not end in CRLF
    /// (BDAT allows that) does now.
    pub(crate) content: Vec<u8>,
}

impl Maildir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Waits until a recipient has at least `count` messages and returns them all, oldest first.
    ///
    /// Delivery comes shortly after the 250, and Postfix tells nobody of it, so this polls; it blocks the thread, which
    /// nothing else needs meanwhile.
    ///
    /// # Panics
    /// When they have not arrived after ten seconds.
    pub(crate) fn wait_for(&self, recipient: &str, count: usize) -> Vec<Delivered> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut found = self.all();
            found.retain(|delivered| delivered.recipient == recipient);
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "{} of {count} messages for {recipient}", found.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything delivered so far, oldest first.
    ///
    /// To prove that something was *not* delivered, submit another message after it and wait for that one.
    pub(crate) fn all(&self) -> Vec<Delivered> {
        // The directory comes with the first message, and a file appears in it whole.
        let Ok(entries) = std::fs::read_dir(self.path.join("new")) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.expect("Maildir entry").path()).collect();
        files.sort_by_key(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        files.iter().map(|path| read(path)).collect()
    }
}

fn read(file: &Path) -> Delivered {
    strip_trace(&std::fs::read(file).expect("message file"))
}

fn strip_trace(file: &[u8]) -> Delivered {
    let mut lines = file.split_inclusive(|&byte| byte == b'\n');
    let mut trace = String::new();
    for name in ["Return-Path:", "X-Original-To:", "Delivered-To:", "Received:"] {
        let line = lines.next().map(String::from_utf8_lossy).expect("trace header field");
        assert!(line.starts_with(name), "{name} expected in {line}");
        trace.push_str(&line);
    }
    let mut rest: Vec<u8> = Vec::with_capacity(file.len());
    // Received is folded; the first line that is not a continuation was submitted.
    let mut in_trace = true;
    for line in lines {
        in_trace &= line.starts_with(b"\t");
        if in_trace {
            trace.push_str(&String::from_utf8_lossy(line));
        } else {
            rest.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            rest.extend_from_slice(b"\r\n");
        }
    }
    let field = |name: &str| {
        let value = trace.lines().find_map(|line| line.strip_prefix(name)).expect("trace header field");
        value.trim_matches([' ', '<', '>']).to_owned()
    };
    Delivered { sender: field("Return-Path:"), recipient: field("Delivered-To:"), content: rest, trace }
}

#[cfg(test)]
mod tests {
    use super::strip_trace;

    #[test]
    fn trace_ends_before_the_first_line_that_was_submitted() {
        let file = b"Return-Path: <boss@example.test>\nX-Original-To: a@example.test\nDelivered-To: a@example.test\n\
            Received: from client.test (localhost [127.0.0.1])\n\tby mail.example.test (Postfix) with ESMTPSA id 1\n\
            \tfor <a@example.test>; Mon, 23 Nov 2026 12:34:47 +0000 (UTC)\nReceived: ours\n\tfolded\n\nlone\rcr\n";
        let delivered = strip_trace(file);
        assert_eq!(delivered.sender, "boss@example.test");
        assert_eq!(delivered.recipient, "a@example.test");
        assert!(delivered.trace.ends_with("(UTC)\n"), "{}", delivered.trace);
        assert_eq!(delivered.content, b"Received: ours\r\n\tfolded\r\n\r\nlone\rcr\r\n");
    }
}
