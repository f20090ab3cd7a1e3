//! SMTP command lines taken apart (RFC 5321 §4.1). Judges their form, not their order.

/// A verb and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command<'a> {
    pub(super) verb: String,
    pub(super) argument: &'a str,
}

/// A reverse-path or forward-path with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) address: String,
    pub(super) parameters: Vec<String>,
}

/// The argument of BDAT (RFC 3030 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) size: u64,
    pub(super) last: bool,
}

impl<'a> Command<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        Self { verb: verb.to_ascii_uppercase(), argument: argument.trim() }
    }

    /// Returns the line as it may be shown: without the message of an AUTH command.
    pub(super) fn redacted(&self, line: &str) -> String {
        if self.verb != "AUTH" {
            return line.to_owned();
        }
        match self.argument.split_once(' ') {
            Some((mechanism, _)) => format!("AUTH {mechanism} <redacted>"),
            None => line.to_owned(),
        }
    }
}

impl Path {
    /// Reads `FROM:<address> parameters`, or the same with `TO`.
    pub(super) fn parse(argument: &str, keyword: &str) -> Option<Self> {
        let (found, rest) = argument.split_once(':')?;
        let rest = rest.trim_start().strip_prefix('<')?;
        let end = end_of_address(rest)?;
        let (address, parameters) = rest.split_at_checked(end)?;
        let parameters = parameters.strip_prefix('>')?;
        if !found.trim().eq_ignore_ascii_case(keyword)
            || !(parameters.is_empty() || parameters.starts_with(' '))
        {
            return None;
        }
        let parameters = parameters.split_whitespace().map(str::to_owned).collect();
        Some(Self { address: address.to_owned(), parameters })
    }

    /// Returns the value of a parameter; empty for a parameter without one.
    pub(super) fn parameter(&self, wanted: &str) -> Option<&str> {
        self.parameters.iter().find_map(|parameter| {
            let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            keyword.eq_ignore_ascii_case(wanted).then_some(value)
        })
    }
}

impl Chunk {
    /// Reads `size` or `size LAST`.
    pub(super) fn parse(argument: &str) -> Option<Self> {
        let (size, last) = match argument.split_once(' ') {
            None => (argument, false),
            Some((size, last)) if last.trim().eq_ignore_ascii_case("LAST") => (size, true),
            Some(_) => return None,
        };
        Some(Self { size: size.parse().ok()?, last })
    }
}

/// Finds the closing bracket; one inside a quoted local part closes nothing.
fn end_of_address(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    text.char_indices().find_map(|(at, char)| {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some(at),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_with_its_parameters() {
        let path = Path::parse("FROM:<a@b.example> SIZE=10 SMTPUTF8", "FROM").unwrap();
        assert_eq!(path.address, "a@b.example");
        assert_eq!(path.parameter("size"), Some("10"));
        assert_eq!(path.parameter("SMTPUTF8"), Some(""));
        assert_eq!(path.parameter("BODY"), None);
        assert_eq!(Path::parse("TO:<\"a>b\"@c.example>", "TO").unwrap().address, "\"a>b\"@c.example");
        assert_eq!(Path::parse("FROM:<>", "FROM").unwrap().address, "");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for argument in ["", "FROM", "FROM:a@b", "FROM:<a@b", "TO:<a@b>", "FROM:<a@b>SIZE=1"] {
            assert_eq!(Path::parse(argument, "FROM"), None, "{argument}");
        }
    }

    #[test]
    fn a_chunk_says_its_size_and_whether_it_is_the_last() {
        assert_eq!(Chunk::parse("12"), Some(Chunk { size: 12, last: false }));
        assert_eq!(Chunk::parse("0 last"), Some(Chunk { size: 0, last: true }));
        for argument in ["", "x", "-1", "1 2", "1 LAST 2"] {
            assert_eq!(Chunk::parse(argument), None, "{argument}");
        }
    }
}
