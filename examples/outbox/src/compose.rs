//! Checks what is to be sent before the outbox takes it over. Stores nothing.

use sha2::{Digest, Sha256};
use smtp_oauth::lettre::Address;
use smtp_oauth::lettre::message::{Mailbox, Message, header::ContentType};

/// Exchange Online takes no larger message than 150 MB.
pub const LARGEST: usize = 150 * 1024 * 1024;

/// A message that can be sent as far as can be told from here.
#[derive(Clone, Debug)]
pub struct Draft {
    sender: Address,
    recipients: Vec<Address>,
    content: Vec<u8>,
    digest: String,
}

impl Draft {
    /// Takes a formatted message (RFC 5322); sender and recipients are those of the envelope.
    pub fn formatted(from: &str, to: &[String], content: Vec<u8>) -> Result<Self, String> {
        let (from, to) = (mailbox("from", from)?, mailboxes(to)?);
        check(&content)?;
        let digest = digest(&from, &to, &[&content]);
        Ok(Self::new(from, to, content, digest))
    }

    /// Writes a plain text message.
    pub fn plain(from: &str, to: &[String], subject: &str, text: &str) -> Result<Self, String> {
        let (from, to) = (mailbox("from", from)?, mailboxes(to)?);
        no_control_characters("subject", subject)?;
        let mut message =
            Message::builder().from(from.clone()).subject(subject).header(ContentType::TEXT_PLAIN);
        for recipient in &to {
            message = message.to(recipient.clone());
        }
        let message = message.body(text.to_owned()).map_err(|error| format!("no message: {error}"))?;
        // Of what was entered: the message itself is dated, and differs each time.
        let digest = digest(&from, &to, &[subject.as_bytes(), text.as_bytes()]);
        Ok(Self::new(from, to, message.formatted(), digest))
    }

    fn new(from: Mailbox, to: Vec<Mailbox>, content: Vec<u8>, digest: String) -> Self {
        let recipients = to.into_iter().map(|mailbox| mailbox.email).collect();
        Self { sender: from.email, recipients, content, digest }
    }

    pub fn sender(&self) -> &Address {
        &self.sender
    }

    pub fn recipients(&self) -> &[Address] {
        &self.recipients
    }

    /// Tells the same message from another one.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the message with a Message-ID: one that arrives twice after all can be recognised by it.
    pub fn content(&self, id: &str) -> Vec<u8> {
        if has_field(&self.content, "message-id") {
            return self.content.clone();
        }
        let field = format!("Message-ID: <{id}@{}>\r\n", self.sender.domain());
        [field.as_bytes(), &self.content].concat()
    }
}

fn digest(from: &Mailbox, to: &[Mailbox], parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    let addresses = std::iter::once(from).chain(to).map(|mailbox| mailbox.email.to_string().into_bytes());
    for part in addresses.chain(parts.iter().map(|part| part.to_vec())) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mailboxes(to: &[String]) -> Result<Vec<Mailbox>, String> {
    if to.is_empty() {
        return Err("name at least one recipient with --to".to_owned());
    }
    to.iter().map(|to| mailbox("to", to)).collect()
}

fn mailbox(option: &str, given: &str) -> Result<Mailbox, String> {
    no_control_characters(option, given)?;
    given.parse().map_err(|error| format!("--{option} {given:?} is no address: {error}"))
}

fn no_control_characters(option: &str, given: &str) -> Result<(), String> {
    match given.chars().any(char::is_control) {
        true => Err(format!("--{option} contains a line break or another control character")),
        false => Ok(()),
    }
}

/// Refuses what is no message at all; what a server may think of it is its business.
fn check(content: &[u8]) -> Result<(), String> {
    let problem = if content.is_empty() {
        "it is empty"
    } else if content.len() > LARGEST {
        "it is larger than 150 MiB"
    } else if content.contains(&0) {
        "it contains a NUL"
    } else if content.starts_with(b"From ") {
        "it begins with the `From ` line of a mailbox file: remove that line"
    } else if content.starts_with(b" ") || !fields(content).all(|name| name.is_some_and(is_field_name)) {
        "its first lines are no header fields (RFC 5322 §2.2): is the empty line before the text missing?"
    } else if !has_field(content, "from") {
        "it has no From field (RFC 5322 §3.6)"
    } else {
        return Ok(());
    };
    Err(format!("what was entered is no message: {problem}"))
}

fn has_field(content: &[u8], wanted: &str) -> bool {
    fields(content).flatten().any(|name| name.trim_ascii_end().eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Lists the names of the header's fields; `None` for a line that has none.
fn fields(content: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let lines = content.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let header = lines.take_while(|line| !line.is_empty());
    let unfolded = header.filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"));
    unfolded.map(|line| Some(line.split_at(line.iter().position(|byte| *byte == b':')?).0))
}

fn is_field_name(name: &[u8]) -> bool {
    // RFC 5322 §4.5 allows blanks before the colon, in messages that are read.
    let name = name.trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}
