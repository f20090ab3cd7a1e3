//! SMTP command lines (RFC 5321 §4.1): the only place that writes one. Refuses what could end a line early.

use std::borrow::Cow;

use lettre::Address;

use super::capabilities::Capabilities;
use super::dsn::Dsn;
use super::failure::Cause;
use super::transaction::Order;

/// A MAIL line with every parameter is within this (RFC 5321 §4.5.3.1.4 and the extensions' additions).
const LONGEST_LINE: usize = 2048;

/// What MAIL and RCPT must declare about a message, checked against what the server offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters<'a> {
    size: Option<u64>,
    eight_bit: bool,
    utf8: bool,
    dsn: Option<&'a Dsn>,
}

impl<'a> Parameters<'a> {
    /// Finds the parameters that the message and the addresses need.
    ///
    /// # Errors
    /// When the server lacks an extension that is needed, or the message is larger than it takes (RFC 1870 §6.1).
    pub(crate) fn for_order(order: &Order<'a>, offered: &Capabilities) -> Result<Self, Cause> {
        let size = order.content.wire_size();
        if let Some(limit) = offered.size.filter(|limit| size > *limit) {
            return Err(Cause::Unsendable(format!(
                "the message has {size} octets and the server takes at most {limit}"
            )));
        }
        let eight_bit = !order.content.is_ascii();
        if eight_bit && !offered.eight_bit_mime {
            return Err(Cause::Unsendable(
                "the message holds 8-bit characters and the server does not offer 8BITMIME; \
                 encode its parts as quoted-printable or base64"
                    .to_owned(),
            ));
        }
        let utf8 = order.from.into_iter().chain(order.recipients).any(|address| !path(address).is_ascii());
        if utf8 && !offered.smtp_utf8 {
            return Err(Cause::Unsendable(
                "an address holds characters outside ASCII and the server does not offer SMTPUTF8".to_owned(),
            ));
        }
        if order.dsn.is_some() && !offered.dsn {
            return Err(Cause::Unsendable(
                "delivery status notifications are asked for and the server does not offer DSN".to_owned(),
            ));
        }
        Ok(Self { size: offered.size_declared.then_some(size), eight_bit, utf8, dsn: order.dsn })
    }
}

/// Returns an address as it goes on the wire: a domain outside ASCII in its ASCII form (RFC 5890) where that is enough.
fn path(address: &Address) -> Cow<'_, str> {
    let whole: &str = address.as_ref();
    if whole.is_ascii() || !address.user().is_ascii() {
        return Cow::Borrowed(whole);
    }
    match idna::domain_to_ascii(address.domain()) {
        Ok(domain) => Cow::Owned(format!("{}@{domain}", address.user())),
        Err(_) => Cow::Borrowed(whole),
    }
}

/// Refuses an address that would end its brackets early, and go on as a parameter or as another address.
fn check(address: &Address) -> Result<(), Cause> {
    let is_open = |text: &str| text.contains([' ', '<', '>', '"']);
    let path = path(address);
    let (local, domain) = path.split_at_checked(address.user().len()).unwrap_or((&path, ""));
    let is_open_local = match local.strip_prefix('"') {
        Some(rest) => !is_quoted(rest),
        None => is_open(local),
    };
    // As it is written: in ASCII, U+FF1E is a `>`.
    match is_open_local || is_open(domain) {
        true => Err(Cause::Unsendable("an address holds a space, < or > outside of quotes".to_owned())),
        false => Ok(()),
    }
}

/// Tells whether a text ends with its first quote that no backslash precedes (RFC 5321 §4.1.2).
fn is_quoted(text: &str) -> bool {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1 == text.len(),
            _ => {}
        }
    }
    false
}

/// Appends a MAIL command (RFC 5321 §4.1.1.2).
pub(crate) fn mail(
    out: &mut Vec<u8>,
    from: Option<&Address>,
    parameters: &Parameters<'_>,
) -> Result<(), Cause> {
    let Parameters { size, eight_bit, utf8, dsn } = parameters;
    from.map_or(Ok(()), check)?;
    let mut line = format!("MAIL FROM:<{}>", from.map(path).unwrap_or_default());
    if let Some(size) = size {
        line.push_str(&format!(" SIZE={size}"));
    }
    if *eight_bit {
        line.push_str(" BODY=8BITMIME");
    }
    if *utf8 {
        line.push_str(" SMTPUTF8");
    }
    if let Some(dsn) = dsn {
        line.push_str(&dsn.mail_parameters());
    }
    push_line(out, &[&line])
}

/// Appends a RCPT command (RFC 5321 §4.1.1.3).
pub(crate) fn rcpt(out: &mut Vec<u8>, to: &Address, parameters: &Parameters<'_>) -> Result<(), Cause> {
    check(to)?;
    let notify = parameters.dsn.map(Dsn::rcpt_parameters).unwrap_or_default();
    push_line(out, &["RCPT TO:<", &path(to), ">", &notify])
}

/// Appends a command line, given in parts, unless it could end early or is too long.
pub(crate) fn push_line(out: &mut Vec<u8>, parts: &[&str]) -> Result<(), Cause> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length + 2 > LONGEST_LINE {
        return Err(Cause::Unsendable(format!("an address of {length} octets is too long for a command")));
    }
    if parts.iter().any(|part| part.bytes().any(|byte| byte < 0x20 || byte == 0x7f)) {
        return Err(Cause::Unsendable("an address holds a control character".to_owned()));
    }
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::super::transaction::RecipientPolicy;
    use super::*;

    fn offered() -> Capabilities {
        Capabilities {
            eight_bit_mime: true,
            smtp_utf8: true,
            size: Some(100),
            size_declared: true,
            ..Capabilities::default()
        }
    }

    /// Writes MAIL and RCPT for a message to `to`.
    fn lines(to: &str, text: &str, dsn: Option<&Dsn>, offered: &Capabilities) -> Result<String, String> {
        let from: Address = "alerts@contoso.com".parse().unwrap();
        let recipients = [to.parse().unwrap()];
        let content = Content::new(text.as_bytes());
        let policy = RecipientPolicy::AcceptSome;
        let order = Order { from: Some(&from), recipients: &recipients, content: &content, policy, dsn };
        let written = Parameters::for_order(&order, offered).and_then(|parameters| {
            let mut out = Vec::new();
            mail(&mut out, order.from, &parameters)?;
            rcpt(&mut out, &recipients[0], &parameters)?;
            Ok(String::from_utf8(out).unwrap())
        });
        written.map_err(|cause| match cause {
            Cause::Unsendable(message) => message,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn parameters_are_those_the_message_needs() {
        let dsn = Dsn::new().envelope_id("x").notify([]);
        let with_dsn = Capabilities { dsn: true, ..offered() };
        let none = Capabilities::default();
        let cases = [
            ("a@b.c", "Grüße\r\n", None, &offered(), " SIZE=9 BODY=8BITMIME", "a@b.c>"),
            ("jürgen@b.c", "x\r\n", None, &offered(), " SIZE=3 SMTPUTF8", "jürgen@b.c>"),
            ("a@exämple.test", "x\r\n", None, &none, "", "a@xn--exmple-cua.test>"),
            ("a@b.c", "x\r\n", Some(&dsn), &with_dsn, " SIZE=3 ENVID=x", "a@b.c> NOTIFY=NEVER"),
        ];
        for (to, text, dsn, offered, mail, rcpt) in cases {
            let expected = format!("MAIL FROM:<alerts@contoso.com>{mail}\r\nRCPT TO:<{rcpt}\r\n");
            assert_eq!(lines(to, text, dsn, offered).unwrap(), expected);
        }
    }

    #[test]
    fn what_the_server_cannot_take_is_said_before_sending() {
        let plain = Capabilities::default();
        let long = "x".repeat(101);
        let dsn = Dsn::new();
        let cases = [
            ("a@b.c", "ü\r\n", None, &plain, "8BITMIME"),
            ("jürgen@b.c", "a\r\n", None, &plain, "SMTPUTF8"),
            ("a@b.c", "a\r\n", Some(&dsn), &plain, "DSN"),
            ("a@b.c", &long, None, &offered(), "103 octets and the server takes at most 100"),
        ];
        for (to, text, dsn, offered, expected) in cases {
            let message = lines(to, text, dsn, offered).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_address_cannot_smuggle_a_command() {
        let parameters = Parameters { size: None, eight_bit: false, utf8: false, dsn: None };
        let mut out = Vec::new();
        let evil = Address::new_dangerous("a", "b.c>\r\nRCPT TO:<evil@b.c");
        assert!(rcpt(&mut out, &evil, &parameters).is_err());
        assert!(rcpt(&mut out, &Address::new_dangerous("x".repeat(3000), "b.c"), &parameters).is_err());
        for (user, domain) in [
            ("a> NOTIFY=NEVER X=<a", "b.c"),
            ("a", "b.c> NOTIFY=NEVER"),
            ("a b", "c.d"),
            ("\"a\" b\"", "c.d"),
            ("\"a\\\"", "c.d"),
            ("a", "\"b.c"),
            ("a", "b\u{a0}c.d"),
            ("a", "b.c\u{ff1e}"),
        ] {
            let evil = Address::new_dangerous(user, domain);
            assert!(rcpt(&mut out, &evil, &parameters).is_err(), "{evil}");
            assert!(mail(&mut out, Some(&evil), &parameters).is_err(), "{evil}");
        }
        assert!(out.is_empty());
        for quoted in ["\"a b>\"@c.d", "\"a\\\"b\"@c.d"] {
            rcpt(&mut out, &quoted.parse().unwrap(), &parameters).unwrap();
            assert_eq!(std::mem::take(&mut out), format!("RCPT TO:<{quoted}>\r\n").into_bytes());
        }
        mail(&mut out, None, &parameters).unwrap();
        assert_eq!(out, b"MAIL FROM:<>\r\n");
    }
}
