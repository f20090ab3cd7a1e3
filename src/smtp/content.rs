//! Message content on the wire: line ends made CRLF and dots stuffed in one streaming pass (RFC 5321 §2.3.8, §4.5.2).
//!
//! A bare CR or LF never passes: what one server takes for a line end and the next does not is how mail is smuggled.
//! Changing such a message breaks a signature (DKIM) made over it; messages built by lettre have none.

use memchr::{memchr2, memmem};

/// What a piece may have beyond the room given: a few dots, a line end that is not parted, and the end of the message.
const SLACK: usize = 64;

/// A message and what one look at it has shown.
#[derive(Clone, Copy)]
pub(crate) struct Content<'a> {
    bytes: &'a [u8],
    /// Octets on the wire after line ends are made CRLF, before dots are stuffed (RFC 1870 §3).
    wire_size: u64,
    clean: bool,
    ascii: bool,
}

impl<'a> Content<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut content = Self { bytes, wire_size: 0, clean: true, ascii: bytes.is_ascii() };
        let mut inserted = 0;
        let mut rest = bytes;
        while let Some(at) = memchr2(b'\r', b'\n', rest) {
            let (_, end) = rest.split_at(at);
            let taken = match end {
                [b'\r', b'\n', ..] => 2,
                _ => {
                    content.clean = false;
                    inserted += 1;
                    1
                }
            };
            rest = end.get(taken..).unwrap_or_default();
        }
        // RFC 5321 §4.1.1.4: the line before the final dot ends in CRLF.
        if !rest.is_empty() {
            inserted += 2;
        }
        content.wire_size = (bytes.len() + inserted) as u64;
        content
    }

    pub(crate) fn wire_size(&self) -> u64 {
        self.wire_size
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// Returns the message as it is, when not a byte of it needs to change for BDAT.
    pub(crate) fn verbatim(&self) -> Option<&'a [u8]> {
        (self.clean && self.wire_size == self.bytes.len() as u64).then_some(self.bytes)
    }

    /// Starts writing the message for DATA: dots stuffed, final dot included.
    pub(crate) fn dotted(&self) -> Encoder<'a> {
        Encoder::new(self, Dots::Stuffed)
    }

    /// Starts writing the message for BDAT.
    pub(crate) fn plain(&self) -> Encoder<'a> {
        Encoder::new(self, Dots::Plain)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Stuffed,
    Plain,
}

/// Writes a message piece by piece into a buffer of the caller's.
pub(crate) struct Encoder<'a> {
    rest: &'a [u8],
    clean: bool,
    dots: Dots,
    at_line_start: bool,
    finished: bool,
}

impl<'a> Encoder<'a> {
    fn new(content: &Content<'a>, dots: Dots) -> Self {
        Self { rest: content.bytes, clean: content.clean, dots, at_line_start: true, finished: false }
    }

    /// Says for how many octets a buffer needs room that [`fill`](Self::fill) is to fill with up to about `room`. A
    /// message of fewer octets that has many dots or bare line ends to change needs more.
    pub(crate) fn room_for(&self, room: usize) -> usize {
        self.rest.len().min(room) + SLACK
    }

    /// Appends up to about `room` octets to `out`; returns whether there is more.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, room: usize) -> bool {
        let full = out.len().saturating_add(room);
        while !self.rest.is_empty() && out.len() < full {
            let space = full - out.len();
            match self.clean {
                true => self.push_lines(out, space),
                false => self.push_line(out, space),
            }
        }
        if self.rest.is_empty() && !self.finished {
            self.finished = true;
            if !self.at_line_start {
                out.extend_from_slice(b"\r\n");
            }
            if self.dots == Dots::Stuffed {
                out.extend_from_slice(b".\r\n");
            }
        }
        !self.finished
    }

    /// Copies as much as fits of a message whose line ends are all CRLF.
    fn push_lines(&mut self, out: &mut Vec<u8>, space: usize) {
        let (mut piece, _) = self.rest.split_at(space.min(self.rest.len()));
        if self.dots == Dots::Stuffed {
            if self.at_line_start && piece.first() == Some(&b'.') {
                out.push(b'.');
            }
            // Stop behind the CRLF before the next dot; the dot is then at the start of a line.
            if let Some(at) = memmem::find(piece, b"\r\n.") {
                piece = piece.split_at(at + 2).0;
            }
        }
        // Never part a CR from its LF, so that "at the start of a line" is known from the last byte alone.
        if piece.last() == Some(&b'\r') && piece.len() < self.rest.len() {
            piece = self.rest.split_at(piece.len() + 1).0;
        }
        out.extend_from_slice(piece);
        self.advance(piece);
    }

    /// Copies one line, or what fits of it, and ends it with CRLF however it ended.
    fn push_line(&mut self, out: &mut Vec<u8>, space: usize) {
        if self.dots == Dots::Stuffed && self.at_line_start && self.rest.first() == Some(&b'.') {
            out.push(b'.');
        }
        let (window, _) = self.rest.split_at(space.min(self.rest.len()));
        let Some(at) = memchr2(b'\r', b'\n', window) else {
            out.extend_from_slice(window);
            self.advance(window);
            return;
        };
        let (line, end) = self.rest.split_at(at);
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        let skip = if end.starts_with(b"\r\n") { 2 } else { 1 };
        self.rest = end.get(skip..).unwrap_or_default();
        self.at_line_start = true;
    }

    fn advance(&mut self, piece: &[u8]) {
        self.rest = self.rest.get(piece.len()..).unwrap_or_default();
        self.at_line_start = piece.last() == Some(&b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(mut encoder: Encoder<'_>, room: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        loop {
            let mut piece = Vec::new();
            let more = encoder.fill(&mut piece, room);
            wire.extend(piece);
            if !more {
                return wire;
            }
        }
    }

    /// What a server makes of DATA: removes the stuffed dots and the final one.
    fn received(wire: &[u8]) -> Vec<u8> {
        let body = wire.strip_suffix(b".\r\n").expect("the final dot");
        let mut message = Vec::new();
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        message
    }

    #[test]
    fn smuggling_attempts_arrive_as_ordinary_lines() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"a\n.\r\nMAIL", b"a\r\n..\r\nMAIL\r\n.\r\n"),
            (b"a\r.\r\nMAIL", b"a\r\n..\r\nMAIL\r\n.\r\n"),
            (b"a\n.\nMAIL", b"a\r\n..\r\nMAIL\r\n.\r\n"),
            (b"a\r\n.\rMAIL", b"a\r\n..\r\nMAIL\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a\r\r\nb\r\n", b"a\r\n\r\nb\r\n.\r\n"),
            (b"", b".\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
        ];
        for (message, wire) in cases {
            assert_eq!(encode(Content::new(message).dotted(), 64), wire, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn a_whole_message_is_appended_to_the_commands_before_it() {
        let mut group = b"BDAT 3 LAST\r\n".to_vec();
        assert!(!Content::new(b"a\n").plain().fill(&mut group, usize::MAX));
        assert_eq!(group, b"BDAT 3 LAST\r\na\r\n");
    }

    proptest! {
        #[test]
        fn what_arrives_is_the_message_with_crlf_line_ends(
            message in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60),
            room in 1_usize..20,
        ) {
            let content = Content::new(&message);
            let plain = encode(content.plain(), room);
            prop_assert_eq!(plain.len() as u64, content.wire_size());
            if let Some(verbatim) = content.verbatim() {
                prop_assert_eq!(verbatim, &plain[..]);
            }
            let dotted = encode(content.dotted(), room);
            for wire in [&plain, &dotted] {
                let without = wire.escape_ascii().to_string().replace("\\r\\n", "");
                prop_assert!(!without.contains("\\r") && !without.contains("\\n"), "bare line end in {}", without);
            }
            prop_assert_eq!(received(&dotted), plain);
            // The end of the message is the only place where a server may see the end.
            let end = memmem::find(&dotted, b"\r\n.\r\n").map(|at| at + 5);
            prop_assert!(end.is_none_or(|end| end == dotted.len()));
        }
    }
}
