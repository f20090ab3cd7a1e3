//! Names of hosts: the mail server's (RFC 1123) and our own in EHLO (RFC 5321 §4.1.3). Resolves nothing.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::blank;
use super::problem::ConfigProblem;

/// A mail server's DNS name or IP address, valid by construction; an IPv6 address has no brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: String,
    address: Option<IpAddr>,
}

impl Host {
    pub(crate) fn parse(given: &str) -> Result<Self, ConfigProblem> {
        let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(given);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self { name: bare.to_owned(), address: Some(address) });
        }
        if is_dns_name(given) {
            return Ok(Self { name: given.to_ascii_lowercase(), address: None });
        }
        let problem = ConfigProblem::new("host", mend(given));
        // `user:password@host` is a habit from URLs.
        Err(if given.is_empty() || given.contains('@') { problem } else { problem.showing(given) })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// Tells whether the host is this machine: an address of the loopback network, or `localhost` (RFC 6761 §6.3).
    pub(crate) fn is_loopback(&self) -> bool {
        match self.address {
            Some(IpAddr::V4(address)) => address.is_loopback(),
            Some(IpAddr::V6(address)) => address.to_canonical().is_loopback(),
            None => self.name == "localhost",
        }
    }
}

fn mend(given: &str) -> Cow<'static, str> {
    if let Some(mend) = blank::anywhere(given) {
        return Cow::Owned(mend);
    }
    let mend = if given.is_empty() {
        "enter the mail server's name, such as smtp.office365.com"
    } else if given.contains("://") || given.contains('/') || given.contains('@') {
        "enter the server's name alone, such as smtp.office365.com, not a URL"
    } else if given.contains(':') {
        "enter the server's name alone; the port has a setting of its own"
    } else if given.ends_with('.') {
        "enter the server's name without the dot at its end"
    } else if !given.is_ascii() {
        "enter the server's name in its ASCII form (xn--…)"
    } else {
        "enter a DNS name such as smtp.office365.com, or an IP address"
    };
    Cow::Borrowed(mend)
}

/// Tells whether `name` can be a host's: labels of 1 to 63 letters, digits, `-` and `_`, 253 octets in all.
///
/// A last label of digits only is a mistyped IPv4 address (RFC 3696 §2).
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_number
}

/// Checks the name given in EHLO: a DNS name, `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
pub(crate) fn hello_name(given: &str) -> Result<String, ConfigProblem> {
    let literal = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_valid = match literal {
        Some(literal) => match literal.strip_prefix("IPv6:") {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => literal.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_dns_name(given),
    };
    if is_valid {
        return Ok(given.to_owned());
    }
    let mend = blank::anywhere(given).unwrap_or_else(|| {
        "enter this machine's DNS name, or its address in brackets: [192.0.2.1] or [IPv6:2001:db8::1]"
            .to_owned()
    });
    Err(ConfigProblem::new("hello_name", mend).showing(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        let long = format!("{}.example", "a".repeat(63));
        for (given, name, is_loopback) in [
            ("smtp.office365.com", "smtp.office365.com", false),
            ("SMTP.Office365.com", "smtp.office365.com", false),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", false),
            (long.as_str(), long.as_str(), false),
            ("localhost", "localhost", true),
            ("localhost.example", "localhost.example", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.9.9.9", "127.9.9.9", true),
            ("192.0.2.1", "192.0.2.1", false),
            ("[::1]", "::1", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("2001:db8::1", "2001:db8::1", false),
        ] {
            let host = Host::parse(given).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!((host.as_str(), host.is_loopback()), (name, is_loopback), "{given}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_hint() {
        for (given, hint) in [
            ("", "enter the mail server's name"),
            ("smtp://mail.example", "not a URL"),
            ("user:geheim@mail.example", "not a URL"),
            ("mail.example:587", "the port has a setting of its own"),
            ("mail.example.", "without the dot"),
            ("bücher.example", "xn--"),
            ("999.0.2.1", "DNS name"),
            ("mail example", "DNS name"),
            ("mail.example\r\nMAIL", "DNS name"),
            ("mail.example ", "remove the blank at its end"),
            ("mail.\u{200b}example", "remove the invisible character U+200B"),
            ("-mail.example", "DNS name"),
            ("mail..example", "DNS name"),
        ] {
            let problem = Host::parse(given).unwrap_err();
            assert!(problem.mend().contains(hint), "{given}: {problem}");
            assert!(!problem.to_string().contains("geheim"), "{problem}");
        }
    }

    #[test]
    fn ehlo_takes_a_name_or_an_address_in_brackets() {
        for given in ["[127.0.0.1]", "[IPv6:2001:db8::1]", "app-7.contoso.com"] {
            assert_eq!(hello_name(given).as_deref(), Ok(given));
        }
        for given in ["", "127.0.0.1", "[::1]", "a b", "host\r\nMAIL FROM:<>", "[IPv6:127.0.0.1]"] {
            assert!(hello_name(given).is_err(), "{given:?}");
        }
    }
}
