//! What the server offers in its EHLO reply (RFC 5321 §4.1.1.1). Sends no command.

use super::reply::Reply;

/// The extensions of one EHLO reply; forgotten and asked for again after STARTTLS (RFC 3207 §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) starttls: bool,
    pub(crate) pipelining: bool,
    pub(crate) chunking: bool,
    pub(crate) eight_bit_mime: bool,
    pub(crate) smtp_utf8: bool,
    pub(crate) dsn: bool,
    /// The largest message in octets (RFC 1870); `None` when not declared or unlimited.
    pub(crate) size: Option<u64>,
    /// SIZE was offered, with or without a figure.
    pub(crate) size_declared: bool,
    /// The SASL mechanisms in upper case.
    pub(crate) mechanisms: Vec<String>,
}

impl Capabilities {
    pub(crate) fn from_reply(reply: &Reply) -> Self {
        let mut found = Self::default();
        // The first line is the server's name.
        for line in reply.lines().skip(1) {
            found.add(line);
        }
        found
    }

    fn add(&mut self, line: &str) {
        // Old servers write `AUTH=LOGIN`; the parameter list is the same.
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "STARTTLS" => self.starttls = true,
            "PIPELINING" => self.pipelining = true,
            "CHUNKING" => self.chunking = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtp_utf8 = true,
            "DSN" => self.dsn = true,
            "SIZE" => {
                self.size_declared = true;
                // RFC 1870 §4: zero means that no fixed maximum is in force.
                self.size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            }
            "AUTH" => {
                for mechanism in words.map(str::to_ascii_uppercase) {
                    if !self.mechanisms.contains(&mechanism) {
                        self.mechanisms.push(mechanism);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn offers(&self, mechanism: &str) -> bool {
        self.mechanisms.iter().any(|offered| offered == mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Capabilities {
        Capabilities::from_reply(&Reply::new(250, lines.join("\n")))
    }

    #[test]
    fn exchange_after_starttls() {
        let found = read(&[
            "SY5P282CA0097.outlook.office365.com Hello [192.0.2.10]",
            "SIZE 157286400",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "AUTH LOGIN XOAUTH2",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ]);
        assert!(found.pipelining && found.dsn && found.eight_bit_mime && found.chunking && found.smtp_utf8);
        assert!(!found.starttls);
        assert_eq!(found.size, Some(157_286_400));
        assert!(found.offers("XOAUTH2") && found.offers("LOGIN") && !found.offers("PLAIN"));
    }

    #[test]
    fn odd_spellings_are_understood_and_the_name_is_no_extension() {
        let found = read(&["PIPELINING", "auth=plain login", "AUTH PLAIN", "size 0", "starttls"]);
        assert!(!found.pipelining, "the first line is a host name");
        assert_eq!(found.mechanisms, ["PLAIN", "LOGIN"]);
        assert_eq!((found.size, found.size_declared), (None, true));
        assert!(found.starttls);
    }
}
