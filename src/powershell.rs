//! PowerShell string literals, for lines that an administrator copies. Runs nothing.

/// Writes `text` as a literal that PowerShell expands nothing in.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", escaped(text))
}

/// Prepares `text` to stand between single quotes.
///
/// PowerShell ends such a literal at typographic single quotes too, and a doubled one stands for itself. Control
/// characters are left out: a line break would turn one line into two.
pub(crate) fn escaped(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for char in text.chars().filter(|char| !char.is_control()) {
        literal.push(char);
        if matches!(char, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            literal.push(char);
        }
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_quotes() {
        let cases = [
            ("svc-mail@contoso.com", "'svc-mail@contoso.com'"),
            ("o'brien@contoso.com", "'o''brien@contoso.com'"),
            ("x\u{2019}; Remove-Mailbox y", "'x\u{2019}\u{2019}; Remove-Mailbox y'"),
            ("$(whoami)`n", "'$(whoami)`n'"),
            ("a\r\nb", "'ab'"),
        ];
        for (text, expected) in cases {
            assert_eq!(quoted(text), expected);
        }
    }
}
