//! SMTP command lines (RFC 5321 §4.1): the only place that writes one. Refuses what could end a line early.

use lettre::Address;
use lettre::address::Envelope;

use super::capabilities::Capabilities;
use super::content::Content;
use super::failure::Cause;

/// A MAIL line with every parameter is within this (RFC 5321 §4.5.3.1.4 and the extensions' additions).
const LONGEST_LINE: usize = 2048;

/// What MAIL must declare about a message, checked against what the server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    size: Option<u64>,
    eight_bit: bool,
    utf8: bool,
}

impl Parameters {
    /// Finds the parameters that the message and the addresses need.
    ///
    /// # Errors
    /// When the server lacks an extension that is needed, or the message is larger than it takes (RFC 1870 §6.1).
    pub(crate) fn for_message(
        envelope: &Envelope,
        content: &Content<'_>,
        offered: &Capabilities,
    ) -> Result<Self, Cause> {
        let size = content.wire_size();
        if let Some(limit) = offered.size.filter(|limit| size > *limit) {
            return Err(Cause::Unsendable(format!(
                "the message has {size} octets and the server takes at most {limit}"
            )));
        }
        let eight_bit = !content.is_ascii();
        if eight_bit && !offered.eight_bit_mime {
            return Err(Cause::Unsendable(
                "the message holds 8-bit characters and the server does not offer 8BITMIME; \
                 encode its parts as quoted-printable or base64"
                    .to_owned(),
            ));
        }
        let utf8 = envelope.from().into_iter().chain(envelope.to()).any(|address| !is_ascii(address));
        if utf8 && !offered.smtp_utf8 {
            return Err(Cause::Unsendable(
                "an address holds characters outside ASCII and the server does not offer SMTPUTF8".to_owned(),
            ));
        }
        Ok(Self { size: offered.size_declared.then_some(size), eight_bit, utf8 })
    }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

/// Appends a MAIL command (RFC 5321 §4.1.1.2).
pub(crate) fn mail(out: &mut Vec<u8>, from: Option<&Address>, parameters: Parameters) -> Result<(), Cause> {
    let Parameters { size, eight_bit, utf8 } = parameters;
    let mut line = format!("MAIL FROM:<{}>", from.map_or("", AsRef::<str>::as_ref));
    if let Some(size) = size {
        line.push_str(&format!(" SIZE={size}"));
    }
    if eight_bit {
        line.push_str(" BODY=8BITMIME");
    }
    if utf8 {
        line.push_str(" SMTPUTF8");
    }
    push_line(out, &line)
}

/// Appends a RCPT command (RFC 5321 §4.1.1.3).
pub(crate) fn rcpt(out: &mut Vec<u8>, to: &Address) -> Result<(), Cause> {
    push_line(out, &format!("RCPT TO:<{to}>"))
}

/// Appends a command line, unless it could end early or is too long.
pub(crate) fn push_line(out: &mut Vec<u8>, line: &str) -> Result<(), Cause> {
    if line.len() + 2 > LONGEST_LINE {
        return Err(Cause::Unsendable(format!(
            "an address of {} octets is too long for a command",
            line.len()
        )));
    }
    if line.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(Cause::Unsendable("an address holds a control character".to_owned()));
    }
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(to: &str) -> Envelope {
        let from = "alerts@contoso.com".parse().unwrap();
        Envelope::new(Some(from), vec![to.parse().unwrap()]).unwrap()
    }

    fn offered() -> Capabilities {
        Capabilities {
            eight_bit_mime: true,
            smtp_utf8: true,
            size: Some(100),
            size_declared: true,
            ..Capabilities::default()
        }
    }

    #[test]
    fn mail_declares_what_the_message_needs() {
        let text = "Grüße\r\n";
        let parameters = Parameters::for_message(
            &envelope("jürgen@example.com"),
            &Content::new(text.as_bytes()),
            &offered(),
        );
        let mut line = Vec::new();
        mail(&mut line, Some(&"a@b.c".parse().unwrap()), parameters.unwrap()).unwrap();
        assert_eq!(line, b"MAIL FROM:<a@b.c> SIZE=9 BODY=8BITMIME SMTPUTF8\r\n");
        let mut line = Vec::new();
        mail(&mut line, None, Parameters { size: None, eight_bit: false, utf8: false }).unwrap();
        assert_eq!(line, b"MAIL FROM:<>\r\n");
    }

    #[test]
    fn what_the_server_cannot_take_is_said_before_sending() {
        let plain = Capabilities::default();
        let cases = [
            (envelope("a@b.c"), "ü\r\n", &plain, "8BITMIME"),
            (envelope("jürgen@b.c"), "a\r\n", &plain, "SMTPUTF8"),
            (envelope("a@b.c"), &"x".repeat(101), &offered(), "103 octets and the server takes at most 100"),
        ];
        for (envelope, text, offered, expected) in cases {
            match Parameters::for_message(&envelope, &Content::new(text.as_bytes()), offered) {
                Err(Cause::Unsendable(message)) => assert!(message.contains(expected), "{message}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_address_cannot_smuggle_a_command() {
        let evil = Address::new_dangerous("a", "b.c>\r\nRCPT TO:<evil@b.c");
        let mut out = Vec::new();
        assert!(rcpt(&mut out, &evil).is_err());
        assert!(rcpt(&mut out, &Address::new_dangerous("x".repeat(3000), "b.c")).is_err());
        assert!(out.is_empty());
    }
}
