//! The extensions a fake server offers in its EHLO reply (RFC 5321 §4.1.1.1). Gives no meaning to most of them.

/// The keyword lines of an EHLO reply.
///
/// Starts from what `smtp.office365.com` offers; `STARTTLS` appears before TLS only and `AUTH` in its place afterwards.
///
/// ```
/// use smtp_oauth::testing::Extensions;
///
/// let offered = Extensions::exchange_online().without("CHUNKING").size(1_000).auth("PLAIN LOGIN XOAUTH2");
/// assert!(!offered.offers("CHUNKING"));
/// assert!(offered.offers("PIPELINING"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extensions {
    lines: Vec<String>,
    auth: AuthOffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthOffer {
    AfterTls,
    Always,
}

impl Extensions {
    /// Returns what Exchange Online offers, in its order.
    pub fn exchange_online() -> Self {
        let lines = [
            "SIZE 157286400",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
            "AUTH LOGIN XOAUTH2",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ];
        Self { lines: lines.map(str::to_owned).into(), auth: AuthOffer::AfterTls }
    }

    /// Returns an offer of nothing at all.
    pub fn none() -> Self {
        Self { lines: Vec::new(), auth: AuthOffer::AfterTls }
    }

    /// Adds a line, in place of the one with the same keyword if there is one.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        match self.lines.iter_mut().find(|known| keyword(known).eq_ignore_ascii_case(keyword(line))) {
            Some(known) => line.clone_into(known),
            None => self.lines.push(line.to_owned()),
        }
        self
    }

    /// Removes the line with this keyword; the server then does not know its commands either.
    #[must_use]
    pub fn without(mut self, removed: &str) -> Self {
        self.lines.retain(|line| !keyword(line).eq_ignore_ascii_case(removed));
        self
    }

    /// Sets the largest message, in octets (RFC 1870).
    #[must_use]
    pub fn size(self, octets: u64) -> Self {
        self.with(&format!("SIZE {octets}"))
    }

    /// Sets the mechanisms, separated by spaces. The server knows XOAUTH2, OAUTHBEARER, LOGIN and PLAIN.
    #[must_use]
    pub fn auth(self, mechanisms: &str) -> Self {
        self.with(&format!("AUTH {mechanisms}"))
    }

    /// Offers `AUTH` before TLS as well, to lure a client into showing its secret.
    #[must_use]
    pub fn auth_before_tls(mut self) -> Self {
        self.auth = AuthOffer::Always;
        self
    }

    /// Returns whether an extension is offered, before or after TLS.
    pub fn offers(&self, wanted: &str) -> bool {
        self.line(wanted).is_some()
    }

    pub(super) fn largest_message(&self) -> u64 {
        let limit =
            self.line("SIZE").and_then(|line| line.split(' ').nth(1)).and_then(|size| size.parse().ok());
        limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX) // RFC 1870 §4: zero means no fixed maximum.
    }

    pub(super) fn offers_mechanism(&self, mechanism: &str, secured: bool) -> bool {
        let offered = secured || self.auth == AuthOffer::Always;
        offered
            && self.line("AUTH").is_some_and(|line| line.split(' ').skip(1).any(|known| known == mechanism))
    }

    pub(super) fn offered(&self, secured: bool) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(move |line| match keyword(line) {
            "STARTTLS" => !secured,
            "AUTH" => secured || self.auth == AuthOffer::Always,
            _ => true,
        })
    }

    fn line(&self, wanted: &str) -> Option<&str> {
        self.lines.iter().map(String::as_str).find(|line| keyword(line).eq_ignore_ascii_case(wanted))
    }
}

impl Default for Extensions {
    fn default() -> Self {
        Self::exchange_online()
    }
}

fn keyword(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}
