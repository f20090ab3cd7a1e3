//! What goes wrong, where, and how often: the script that a fake server follows. Performs no I/O.

use std::sync::Mutex;

/// The point of a session at which a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultPoint {
    /// The `220` after the connection is accepted.
    Greeting,
    /// The reply to EHLO or HELO without STARTTLS before it.
    Ehlo,
    /// The `220` to STARTTLS.
    StartTls,
    /// In place of the TLS handshake.
    TlsHandshake,
    /// The reply to EHLO after STARTTLS.
    EhloAfterTls,
    /// The empty `334` to AUTH without an initial response.
    AuthChallenge,
    /// The final reply to AUTH.
    Auth,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT; see [`ScriptedFault::for_recipient`].
    Rcpt,
    /// The `354` to DATA.
    Data,
    /// Before the first octet of a body is read, after the `354` or behind the BDAT line.
    BodyStart,
    /// The reply to one BDAT, its octets read; the last one included.
    Bdat,
    /// The final reply to a whole message, by DATA or BDAT.
    Body,
    /// The reply to RSET.
    Rset,
    /// The reply to NOOP.
    Noop,
    /// The reply to QUIT.
    Quit,
}

/// What happens in place of the normal reply.
///
/// ```
/// use smtp_oauth::testing::{Fault, FakeExchange, FaultPoint};
///
/// # async fn example() {
/// let server = FakeExchange::builder()
///     .fault(FaultPoint::Greeting, Fault::ReplyThenClose("421 4.3.2 Service not available".into()).once())
///     .fault(FaultPoint::Body, Fault::Silence.always().after(2))
///     .start()
///     .await;
/// server.inject(FaultPoint::Mail, Fault::reply("451 4.7.0 Temporary server error. Please try again later. PRX4"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// This reply instead, lines separated by `\n`; a positive one has the effect of the normal reply.
    Reply(String),
    /// This reply, then the connection is closed.
    ReplyThenClose(String),
    /// No reply: the server reads on, throws away what it reads and never answers.
    Silence,
    /// No reply: the server stops reading, so that a client that writes much is held up.
    ///
    /// It does not see the client close either: the connection counts as open until the server ends it.
    StallReading,
    /// The connection is closed without a reply.
    Close,
    /// One reply line that never ends.
    EndlessReply,
    /// A reply of endless many lines.
    EndlessLines,
    /// These octets instead of a reply.
    Garbage(Vec<u8>),
    /// The normal reply, with these octets behind it in the same write.
    Inject(Vec<u8>),
    /// At [`FaultPoint::Auth`]: a `334` with this JSON, and this reply when the client has answered it (RFC 7628 §3.2.3).
    ErrorChallenge {
        /// The challenge before Base64.
        json: String,
        /// The final reply.
        reply: String,
    },
    /// At [`FaultPoint::TlsHandshake`]: the fatal alert `protocol_version` of a server that knows TLS 1.1 at most.
    Tls11Only,
}

/// A fault with the number of times it strikes; once unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptedFault {
    fault: Fault,
    remaining: Option<u32>,
    passes: u32,
    recipient: Option<String>,
}

impl Fault {
    /// Answers with this reply instead.
    pub fn reply(text: impl Into<String>) -> Self {
        Self::Reply(text.into())
    }

    /// Sends the error challenge that Gmail sends for a bad token, and then `535 5.7.8`.
    pub fn error_challenge() -> Self {
        Self::ErrorChallenge {
            json: r#"{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}"#.to_owned(),
            reply: "535 5.7.8 Username and Password not accepted.".to_owned(),
        }
    }

    /// Strikes once.
    pub fn once(self) -> ScriptedFault {
        self.times(1)
    }

    /// Strikes `count` times.
    pub fn times(self, count: u32) -> ScriptedFault {
        ScriptedFault { fault: self, remaining: Some(count), passes: 0, recipient: None }
    }

    /// Strikes every time.
    pub fn always(self) -> ScriptedFault {
        ScriptedFault { fault: self, remaining: None, passes: 0, recipient: None }
    }

    fn fits(&self, point: FaultPoint) -> bool {
        match self {
            Self::ErrorChallenge { .. } => point == FaultPoint::Auth,
            Self::Tls11Only => point == FaultPoint::TlsHandshake,
            _ => true,
        }
    }
}

impl ScriptedFault {
    /// Lets the first `passes` occasions pass.
    #[must_use]
    pub fn after(mut self, passes: u32) -> Self {
        self.passes = passes;
        self
    }

    /// Strikes only for this recipient, at [`FaultPoint::Rcpt`].
    #[must_use]
    pub fn for_recipient(mut self, address: impl Into<String>) -> Self {
        self.recipient = Some(address.into());
        self
    }

    fn strikes(&mut self, address: Option<&str>) -> bool {
        let concerned = match (&self.recipient, address) {
            (None, _) => true,
            (Some(wanted), Some(given)) => wanted.eq_ignore_ascii_case(given),
            (Some(_), None) => false,
        };
        if !concerned || self.remaining == Some(0) {
            return false;
        }
        if self.passes > 0 {
            self.passes -= 1;
            return false;
        }
        self.remaining = self.remaining.map(|count| count - 1);
        true
    }
}

impl From<Fault> for ScriptedFault {
    fn from(fault: Fault) -> Self {
        fault.once()
    }
}

/// The faults still to come, shared by all sessions of a server.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Vec<(FaultPoint, ScriptedFault)>>);

impl Script {
    pub(super) fn arm(&self, point: FaultPoint, fault: ScriptedFault) {
        assert!(fault.fault.fits(point), "{:?} makes no sense at {point:?}", fault.fault);
        self.0.lock().expect("no holder of this lock panics").push((point, fault));
    }

    pub(super) fn clear(&self) {
        self.0.lock().expect("no holder of this lock panics").clear();
    }

    /// Takes the fault that strikes now; the one armed first wins.
    pub(super) fn take(&self, point: FaultPoint, address: Option<&str>) -> Option<Fault> {
        let mut armed = self.0.lock().expect("no holder of this lock panics");
        let position = armed.iter_mut().position(|(at, fault)| *at == point && fault.strikes(address))?;
        let fault = armed[position].1.fault.clone();
        if armed[position].1.remaining == Some(0) {
            armed.remove(position);
        }
        Some(fault)
    }
}
