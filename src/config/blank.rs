//! Blanks and invisible characters that copying brings along, named for who must remove them. Changes no value.

/// Says what to remove when `given` has a blank or an invisible character at its start or end.
///
/// ```text
/// remove the blank at its end
/// remove the invisible character U+200B at its end
/// ```
pub(crate) fn at_ends(given: &str) -> Option<String> {
    let name = |char: char, end: &str| Some(format!("{} at its {end}", name(char)?));
    let start = given.chars().next().and_then(|char| name(char, "start"));
    let end = given.chars().next_back().and_then(|char| name(char, "end"));
    let both = [start, end].into_iter().flatten().collect::<Vec<_>>();
    (!both.is_empty()).then(|| format!("remove {}", both.join(" and ")))
}

/// Says what to remove from a value that may have none at all: that at its ends, or else the first invisible character.
pub(crate) fn anywhere(given: &str) -> Option<String> {
    let within = || given.chars().find(|char| is_invisible(*char)).and_then(name);
    at_ends(given).or_else(|| within().map(|name| format!("remove {name}")))
}

fn name(char: char) -> Option<String> {
    match char {
        ' ' => Some("the blank".to_owned()),
        '\t' => Some("the tab".to_owned()),
        '\r' | '\n' => Some("the line break".to_owned()),
        _ if is_invisible(char) => Some(format!("the invisible character U+{:04X}", u32::from(char))),
        _ => None,
    }
}

/// Tells whether nothing or no more than a gap is seen of `char`: a space of another kind, a control character, or one of
/// those of Unicode that only steer how text is laid out.
fn is_invisible(char: char) -> bool {
    let is_space = char.is_whitespace() && !matches!(char, ' ' | '\t' | '\r' | '\n');
    let is_layout = matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}');
    is_space || is_layout || (char.is_control() && !matches!(char, '\t' | '\r' | '\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_removed_is_named() {
        for (given, mend) in [
            ("a ", Some("remove the blank at its end")),
            (" a", Some("remove the blank at its start")),
            ("\ta\r\n", Some("remove the tab at its start and the line break at its end")),
            ("a\u{200b}", Some("remove the invisible character U+200B at its end")),
            ("\u{feff}a", Some("remove the invisible character U+FEFF at its start")),
            ("a\u{a0}", Some("remove the invisible character U+00A0 at its end")),
            ("a\0", Some("remove the invisible character U+0000 at its end")),
            ("a b\u{200b}c", None),
            ("ü", None),
            ("", None),
        ] {
            assert_eq!(at_ends(given).as_deref(), mend, "{given:?}");
        }
        assert_eq!(anywhere("a\u{ad}b").as_deref(), Some("remove the invisible character U+00AD"));
        assert_eq!(anywhere("a b"), None);
    }
}
