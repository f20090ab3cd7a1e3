//! Finds in a server's words what it was sent, however it was encoded, and removes it. Knows no field of an answer.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use url::form_urlencoded;
use zeroize::Zeroizing;

/// Shorter runs of a secret are not taken for an echo of a part of it.
const SHORTEST_RUN: usize = 8;
/// Base64 of less than three octets is found in any text.
const SHORTEST_BASE64: usize = 4;
const REDACTED: &str = "[redacted]";

/// The encodings of all secrets of a request, each of which may come back.
pub(super) struct Forms(Vec<Zeroizing<String>>);

/// Recognises the forms, whole or in part.
pub(super) struct Echo<'f> {
    /// Any run counts, since a server may cut the echo anywhere and escape the rest in a way of its own. In a set, so
    /// that an answer made to be searched slowly is not.
    runs: HashSet<&'f [u8]>,
    short: Vec<&'f str>,
}

impl Forms {
    pub(super) fn of(secrets: &[&str]) -> Self {
        let mut forms = Vec::new();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            let form: Zeroizing<String> =
                Zeroizing::new(form_urlencoded::byte_serialize(secret.as_bytes()).collect());
            // RFC 6749 §2.3.1: HTTP Basic takes the secret form-encoded; some servers log it decoded.
            forms.extend(base64(secret).into_iter().chain(base64(&form)));
            forms.extend([form, percent_encoded(secret)].into_iter().flat_map(both_cases));
            forms.push(Zeroizing::new((*secret).to_owned()));
        }
        Self(forms)
    }

    pub(super) fn echo(&self) -> Echo<'_> {
        let (short, long): (Vec<&str>, Vec<&str>) =
            self.0.iter().map(|form| form.as_str()).partition(|form| form.len() < SHORTEST_RUN);
        Echo { runs: long.iter().flat_map(|form| form.as_bytes().windows(SHORTEST_RUN)).collect(), short }
    }
}

impl Echo<'_> {
    /// Returns `text` without what it repeats; a word that holds a part of a secret goes as a whole.
    pub(super) fn removed_from(&self, text: &str) -> String {
        let hidden = self.hidden(text);
        let is_hidden = |start: usize, part: &str| hidden.iter().skip(start).take(part.len()).any(|is| *is);
        let mut rest = String::with_capacity(text.len());
        let mut start = 0;
        for piece in text.split_inclusive(|c| !is_word_char(c)) {
            let (word, end) = piece.split_at(piece.trim_end_matches(|c| !is_word_char(c)).len());
            for part in [word, end] {
                match is_hidden(start, part) {
                    false => rest.push_str(part),
                    true if rest.ends_with(REDACTED) => {}
                    true => rest.push_str(REDACTED),
                }
                start += part.len();
            }
        }
        rest
    }

    /// Tells of each octet of `text` whether it belongs to a secret.
    fn hidden(&self, text: &str) -> Vec<bool> {
        let mut hidden = vec![false; text.len()];
        let mut hide = |start: usize, len: usize| {
            hidden.iter_mut().skip(start).take(len).for_each(|is| *is = true);
        };
        for (start, run) in text.as_bytes().windows(SHORTEST_RUN).enumerate() {
            if self.runs.contains(run) {
                hide(start, SHORTEST_RUN);
            }
        }
        for form in &self.short {
            text.match_indices(form).for_each(|(start, found)| hide(start, found.len()));
        }
        hidden
    }
}

/// What encoded secrets consist of; without `=` and `&`, so that the names of parameters stay readable.
fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '.' | '~' | '%')
}

/// The base64 of `secret` from its first, second and third octet on: one of them is what stands in the base64 of a
/// text around it. Whole groups only, because the last one depends on what follows.
fn base64(secret: &str) -> Vec<Zeroizing<String>> {
    let rests = (0..3).filter_map(|skipped| secret.as_bytes().get(skipped..));
    let groups = rests.filter_map(|rest| rest.get(..rest.len() / 3 * 3));
    groups
        .flat_map(|groups| [STANDARD_NO_PAD.encode(groups), URL_SAFE_NO_PAD.encode(groups)])
        .filter(|form| form.len() >= SHORTEST_BASE64)
        .map(Zeroizing::new)
        .collect()
}

/// RFC 3986 §2.3: unlike in forms, `~` stays as it is, and a space is no plus sign.
fn percent_encoded(secret: &str) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::with_capacity(3 * secret.len()));
    for byte in secret.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') => form.push(c),
            _ => form.push_str(&format!("%{byte:02X}")),
        }
    }
    form
}

/// RFC 3986 §2.1: the digits of a percent-encoding may be of either case.
fn both_cases(form: Zeroizing<String>) -> [Zeroizing<String>; 2] {
    let mut lower = Zeroizing::new(String::with_capacity(form.len()));
    let mut digits = 0_u8;
    for c in form.chars() {
        lower.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { digits.saturating_sub(1) };
    }
    [form, lower]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_removed_and_nothing_else() {
        let forms = Forms::of(&["Abc8Q~s3cr3t/of the+app", "1.AR8A-refresh-token", "hunter2", ""]);
        let echo = forms.echo();
        let cases = [
            ("secret=Abc8Q~s3cr3t/of the+app&x=1", "secret=[redacted]&x=1"),
            ("secret=Abc8Q%7Es3cr3t%2Fof+the%2Bapp&x=1", "secret=[redacted]&x=1"),
            ("secret=Abc8Q%7es3cr3t%2fof+the%2bapp", "secret=[redacted]"),
            ("secret=Abc8Q~s3cr3t%2Fof%20the%2Bapp", "secret=[redacted]"),
            // `id:` and the secret, the secret after one octet, and after two, as it is and form-encoded.
            ("Basic aWQ6QWJjOFF+czNjcjN0L29mIHRoZSthcHA=", "Basic [redacted]="),
            ("Basic OkFiYzhRfnMzY3IzdC9vZiB0aGUrYXBw", "Basic [redacted]"),
            ("Basic eDpBYmM4UX5zM2NyM3Qvb2YgdGhlK2FwcA==", "Basic [redacted]=="),
            ("Basic aWQ6QWJjOFElN0VzM2NyM3QlMkZvZit0aGUlMkJhcHA=", "Basic [redacted]="),
            ("cut off: 1.AR8A-refr", "cut off: [redacted]"),
            ("the password 'hunter2' is wrong", "the password '[redacted]' is wrong"),
            ("AADSTS700082: The refresh token has expired.", "AADSTS700082: The refresh token has expired."),
            ("grüße an die app", "grüße an die app"),
        ];
        for (text, expected) in cases {
            assert_eq!(echo.removed_from(text), expected);
        }
    }

    #[test]
    fn a_secret_that_is_not_ascii_splits_no_character() {
        let forms = Forms::of(&["pässwörtér-ü"]);
        assert_eq!(forms.echo().removed_from("say pässwörtér-ü or ö"), "say [redacted] or ö");
    }
}
