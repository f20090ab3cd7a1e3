//! SMTP replies (RFC 5321 §4.2) and enhanced status codes (RFC 3463): what the lines say that the stream has collected. Reads no socket.

use std::fmt;

use memchr::memmem;

use super::sasl::Line;

/// Shorter parts of a secret in a reply are taken for chance: ids and host names hold many letters in a row.
const ECHO: usize = 16;
/// A shorter secret would take ordinary words with it.
const SHORTEST: usize = 6;

/// What the server answered to one command: the code and every line of text.
///
/// Anything in the text that could be a secret of ours was replaced by `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    /// The lines, parted by line feeds.
    text: String,
}

/// An enhanced status code such as `5.7.139` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedStatusCode {
    /// 2 success, 4 temporary, 5 permanent.
    pub class: u8,
    /// What the status is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 security.
    pub subject: u16,
    /// The detail within the subject.
    pub detail: u16,
}

impl Reply {
    /// Creates a reply from its code and the text of its lines, each without the code, parted by line feeds.
    pub(crate) fn new(code: u16, text: String) -> Self {
        Self { code, text }
    }

    /// Returns the three-digit code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the text of each line, without the code.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('\n')
    }

    /// Returns the text of all lines, joined by a space.
    pub fn text(&self) -> String {
        self.text.replace('\n', " ")
    }

    /// Returns the enhanced status code, if the first line starts with one of the reply's own class.
    pub fn enhanced(&self) -> Option<EnhancedStatusCode> {
        EnhancedStatusCode::parse(self.text.split([' ', '\n']).next()?)
    }

    /// Tells whether the command succeeded (2yz).
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Tells whether the refusal may go away by itself (4yz).
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// Tells whether the refusal is final (5yz).
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Replaces what echoes one of `secrets`, whole or in a part of at least [`ECHO`] octets.
    pub(crate) fn redact_echoes(&mut self, secrets: &[Line]) {
        // Every fourth place is enough: a longer echo holds a whole run that begins at one of them.
        let is_secret = |word: &[u8]| {
            let mut runs = word.windows(ECHO).step_by(4);
            runs.any(|run| secrets.iter().any(|secret| memmem::find(secret, run).is_some()))
        };
        // A password is shorter than a run, and may hold what parts words.
        let mut texts = secrets.iter().filter(|text| (SHORTEST..=self.text.len()).contains(&text.len()));
        let whole = texts.find(|text| memmem::find(self.text.as_bytes(), text).is_some());
        // Looked at as text only now: that takes a while for a token, and each reply comes by here.
        let whole = whole.and_then(|text| std::str::from_utf8(text).ok());
        redact(&mut self.text, whole.unwrap_or_default(), &is_secret);
    }

    /// Replaces `secret` and what `is_secret` recognises among the words of the text.
    pub(crate) fn redact(&mut self, secret: &str, is_secret: impl Fn(&[u8]) -> bool) {
        redact(&mut self.text, secret, &is_secret);
    }
}

/// Replaces `secret` and what `is_secret` recognises among the words of `text`.
pub(super) fn redact(text: &mut String, secret: &str, is_secret: &impl Fn(&[u8]) -> bool) {
    if !secret.is_empty() && text.contains(secret) {
        *text = text.replace(secret, "[redacted]");
    }
    if text.as_bytes().split(|byte| !is_token_byte(*byte)).any(is_secret) {
        *text = redact_words(text, is_secret);
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'.' | b'~')
}

fn redact_words(line: &str, is_secret: &impl Fn(&[u8]) -> bool) -> String {
    // All of these are ASCII, so that no other character is taken apart.
    let is_between = |c: char| !u8::try_from(c).is_ok_and(is_token_byte);
    line.split_inclusive(is_between)
        .map(|piece| {
            let word = piece.trim_end_matches(is_between);
            match is_secret(word.as_bytes()) {
                true => piece.replacen(word, "[redacted]", 1),
                false => piece.to_owned(),
            }
        })
        .collect()
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        for line in self.lines() {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({self})")
    }
}

impl EnhancedStatusCode {
    /// Creates a code from its three parts.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `class.subject.detail`; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let mut next = |digits: usize| {
            parts.next().filter(|part| {
                (1..=digits).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        let class = next(1)?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let subject = next(3)?.parse().ok()?;
        let detail = next(3)?.parse().ok()?;
        Some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_read_from_the_first_line_only() {
        let cases = [
            ("5.7.139 Authentication unsuccessful", Some((5, 7, 139))),
            ("2.0.0 OK", Some((2, 0, 0))),
            ("5.7.3", Some((5, 7, 3))),
            ("3.0.0 no such class", None),
            ("5.7 too short", None),
            ("5.7.3.1 too long", None),
            ("5.1234.0 too many digits", None),
            ("+5.7.3 sign", None),
            ("Hello [192.0.2.10]", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let reply = Reply::new(535, format!("{line}\n5.9.9 second line"));
            let expected =
                expected.map(|(class, subject, detail)| EnhancedStatusCode { class, subject, detail });
            assert_eq!(reply.enhanced(), expected, "{line}");
        }
    }

    #[test]
    fn an_echoed_secret_is_redacted_and_the_rest_kept() {
        let mut reply = Reply::new(500, "5.3.3 Unrecognized command 'dXNlcj1ib3Nz' [SERVER]".to_owned());
        reply.redact("", |word| word == b"dXNlcj1ib3Nz");
        assert_eq!(reply.text(), "5.3.3 Unrecognized command '[redacted]' [SERVER]");
    }
}
