//! The messages that every client sends: the same octets, the same envelope.

use lettre::Address;
use lettre::address::Envelope;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

pub const ACCOUNT: &str = "svc-mail@contoso.com";

/// As long as an access token of Entra ID.
const TOKEN: usize = 1800;

/// Returns what everybody signs in with, by XOAUTH2.
pub fn token() -> String {
    "t".repeat(TOKEN)
}

/// One message and whom it goes to.
#[derive(Clone, Debug)]
pub struct Load {
    pub envelope: Envelope,
    pub recipients: Vec<String>,
    pub message: Vec<u8>,
}

impl Load {
    /// Makes a message of `octets` in lines of 78, every tenth of which begins with a dot.
    ///
    /// # Panics
    /// With no recipients, or fewer octets than its header takes.
    pub fn new(recipients: usize, octets: usize) -> Self {
        let recipients: Vec<_> =
            (0..recipients).map(|number| format!("reader{number}@example.com")).collect();
        let addresses = recipients.iter().map(|name| name.parse().expect("an address")).collect();
        let from: Address = ACCOUNT.parse().expect("an address");
        let envelope = Envelope::new(Some(from), addresses).expect("there are recipients");
        let head = format!("From: {ACCOUNT}\r\nTo: undisclosed-recipients:;\r\nSubject: Load\r\n\r\n");
        let plain = [&[b'x'; 76], b"\r\n".as_slice()].concat();
        let dotted = [b".".as_slice(), &plain[1..]].concat();
        let lines = [dotted, plain.repeat(9)].concat();
        let mut message = head.into_bytes();
        message.extend(lines.iter().copied().cycle().take(octets - 2 - message.len()));
        // A CR that the cut has parted from its LF would be a line end of its own.
        if let Some(last) = message.last_mut().filter(|last| **last == b'\r') {
            *last = b'x';
        }
        message.extend_from_slice(b"\r\n");
        assert_eq!(message.len(), octets);
        Self { envelope, recipients, message }
    }
}
