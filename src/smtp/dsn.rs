//! Delivery status notifications (RFC 3461): the parameters of MAIL and RCPT that ask for them.

use std::fmt::Write;

/// Which notifications the sender wants about a message; needs a server that offers DSN, as Exchange Online does.
///
/// ```
/// use smtp_oauth::{Dsn, Notify, ReturnContent};
///
/// let dsn = Dsn::new().notify([Notify::Failure, Notify::Delay]).return_content(ReturnContent::Headers).envelope_id("order 17");
/// # let _ = dsn;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dsn {
    notify: Option<Vec<Notify>>,
    return_content: Option<ReturnContent>,
    envelope_id: Option<String>,
}

/// When to notify the sender about a recipient (RFC 3461 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notify {
    /// When the message was delivered.
    Success,
    /// When it could not be delivered.
    Failure,
    /// When delivery takes unusually long.
    Delay,
}

/// How much of the message comes back with a notification of failure (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReturnContent {
    /// All of it.
    Full,
    /// The headers only.
    Headers,
}

impl Dsn {
    /// Asks for what the server does by itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the events to be told of. None of them means never.
    #[must_use]
    pub fn notify(mut self, events: impl IntoIterator<Item = Notify>) -> Self {
        self.notify = Some(events.into_iter().collect());
        self
    }

    /// Sets how much of the message comes back.
    #[must_use]
    pub fn return_content(mut self, content: ReturnContent) -> Self {
        self.return_content = Some(content);
        self
    }

    /// Sets an identifier that comes back with each notification (RFC 3461 §4.4); at most 100 characters are sent.
    #[must_use]
    pub fn envelope_id(mut self, id: impl Into<String>) -> Self {
        self.envelope_id = Some(id.into());
        self
    }

    /// Writes the parameters of MAIL.
    pub(super) fn mail_parameters(&self) -> String {
        let mut parameters = String::new();
        match self.return_content {
            Some(ReturnContent::Full) => parameters.push_str(" RET=FULL"),
            Some(ReturnContent::Headers) => parameters.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &self.envelope_id {
            parameters.push_str(" ENVID=");
            parameters.push_str(&xtext(id.chars().take(100)));
        }
        parameters
    }

    /// Writes the parameters of RCPT.
    pub(super) fn rcpt_parameters(&self) -> String {
        let Some(events) = &self.notify else { return String::new() };
        let events: Vec<_> = events
            .iter()
            .map(|event| match event {
                Notify::Success => "SUCCESS",
                Notify::Failure => "FAILURE",
                Notify::Delay => "DELAY",
            })
            .collect();
        match events.is_empty() {
            true => " NOTIFY=NEVER".to_owned(),
            false => format!(" NOTIFY={}", events.join(",")),
        }
    }
}

/// Encodes as RFC 3461 §4 says: `+` and two hexadecimal digits for what is not printable ASCII.
fn xtext(text: impl Iterator<Item = char>) -> String {
    let mut encoded = String::new();
    for c in text {
        match c {
            '!'..='~' if c != '+' && c != '=' => encoded.push(c),
            _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "+{byte:02X}");
            }),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_as_rfc_3461_says() {
        let dsn = Dsn::new()
            .notify([Notify::Failure, Notify::Delay])
            .envelope_id("a+b=c\r\nü")
            .return_content(ReturnContent::Full);
        assert_eq!(dsn.mail_parameters(), " RET=FULL ENVID=a+2Bb+3Dc+0D+0A+C3+BC");
        assert_eq!(dsn.rcpt_parameters(), " NOTIFY=FAILURE,DELAY");
        assert_eq!((Dsn::new().mail_parameters().as_str(), Dsn::new().rcpt_parameters().as_str()), ("", ""));
        assert_eq!(Dsn::new().notify([]).rcpt_parameters(), " NOTIFY=NEVER");
    }
}
