//! A mail server that says whatever a script tells it to, and notes what it heard. Judges nothing.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use smtp_oauth::testing::{CertificateKind, ManualClock, TestAuthority};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::patience::{LONG, patient};

/// Real time for a client to open its next connection.
const WAIT: Duration = Duration::from_millis(20);
/// What a flood has at most.
const FLOOD: usize = 4 << 20;

/// What the server says in place of the reply that would be due, and then.
#[derive(Clone, Debug, Default)]
pub struct Step {
    pub says: Option<Vec<u8>>,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    #[default]
    Continue,
    Close,
    /// Never says another word, and reads on.
    Silence,
    /// Says the same again and again.
    Flood,
}

impl Step {
    /// Reads one step: `!` closes, `?` falls silent, `*` goes on for ever; nothing, or a `=`, is the usual reply.
    pub fn parse(text: &[u8]) -> Self {
        let (then, says) = match text.split_first() {
            Some((b'!', rest)) => (Then::Close, rest),
            Some((b'?', rest)) => (Then::Silence, rest),
            Some((b'*', rest)) => (Then::Flood, rest),
            _ => (Then::Continue, text),
        };
        let usual = says == b"=" || (says.is_empty() && then == Then::Continue);
        Self { says: (!usual).then(|| says.to_vec()), then }
    }
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    None,
    StartTls,
    Implicit,
}

/// Replies as they were said: each with the number of replies, the greeting included, that had been due before.
#[derive(Default)]
pub struct Said {
    octets: Vec<u8>,
    /// Where in `octets` each reply ends.
    ends: Vec<usize>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let said =
            starts.zip(&self.ends).map(|(start, end)| self.octets[start..*end].escape_ascii().to_string());
        f.debug_list().entries(said).finish()
    }
}

impl Said {
    fn add(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
        self.ends.push(self.octets.len());
    }

    /// Returns the code of each reply up to what is none, and in which place it was said (RFC 5321 §4.2).
    pub fn replies(&self) -> Vec<(u16, usize)> {
        self.read().replies
    }

    /// Tells whether something was said that is no reply, or not the whole of one.
    pub fn is_garbled(&self) -> bool {
        self.read().whole < self.octets.len()
    }

    /// Tells whether a reply was said that a client may read or give up: with a line of more than 512 octets, or very many
    /// (RFC 5321 §4.5.3.1.5).
    pub fn is_excessive(&self) -> bool {
        self.read().is_excessive
    }

    /// Reads the replies up to what is none, or too long.
    fn read(&self) -> Reading {
        let mut replies = Vec::new();
        let mut is_excessive = false;
        let (mut at, mut lines, mut first) = (0, 0, None);
        while let Some(length) = self.octets[at..].windows(2).position(|pair| pair == b"\r\n") {
            let line = &self.octets[at..at + length];
            let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok());
            let code = code.filter(|code| (200..600).contains(code) && line[0] != b'+');
            let separator = line.get(3).copied().unwrap_or(b' ');
            lines += 1;
            let fits = first.is_none_or(|first| Some(first) == code) && !line.contains(&b'\n');
            if code.is_none() || !fits || !matches!(separator, b' ' | b'-') {
                break;
            }
            is_excessive = line.len() > 510 || lines > 100;
            if is_excessive {
                break;
            }
            at += length + 2;
            if separator == b' ' {
                let place = self.ends.iter().position(|end| at <= *end).unwrap_or(self.ends.len());
                replies.extend(code.map(|code| (code, place)));
                (lines, first) = (0, None);
            } else {
                first = code;
            }
        }
        let whole = if lines == 0 { at } else { 0 };
        Reading { replies, whole, is_excessive }
    }

    /// Tells whether every reply was said when it was due, none before, as far as they can be read.
    pub fn is_orderly(&self) -> bool {
        self.replies().iter().enumerate().all(|(due, (_, said))| *said == due)
    }
}

/// What can be read of what was said.
struct Reading {
    replies: Vec<(u16, usize)>,
    /// The octets of whole replies.
    whole: usize,
    is_excessive: bool,
}

/// A message that came whole, with the final dot or the last octet of its chunk.
#[derive(Debug)]
pub struct Received {
    pub octets: Vec<u8>,
    /// The place of the reply to MAIL, and to each RCPT, and to the message, among those of the connection.
    pub mail: usize,
    pub recipients: Vec<usize>,
    pub verdict: usize,
    /// The connection it came on.
    pub connection: usize,
}

/// What was heard and said on one connection, after STARTTLS if there was one.
#[derive(Debug, Default)]
pub struct Conversation {
    pub said: Said,
    pub commands: Vec<Vec<u8>>,
    /// The place of the reply to each DATA.
    pub data: Vec<usize>,
    /// The server left without having heard the client out.
    pub left: bool,
}

/// The server; every connection takes up the script where the last one left it.
pub struct Server {
    pub extensions: Vec<u8>,
    pub encryption: Encryption,
    pub clock: ManualClock,
    /// What the server cannot say before it was told.
    secrets: Vec<&'static [u8]>,
    steps: std::vec::IntoIter<Step>,
    pub conversations: Vec<Conversation>,
    pub received: Vec<Received>,
}

/// The connection is over.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

struct Line<'a> {
    conversation: &'a mut Conversation,
    wire: Box<dyn Wire>,
    unread: Vec<u8>,
    silent: bool,
}

impl Server {
    pub fn new(
        steps: Vec<Step>,
        encryption: Encryption,
        extensions: Vec<u8>,
        clock: ManualClock,
        secrets: Vec<&'static [u8]>,
    ) -> Self {
        Self {
            secrets,
            extensions,
            encryption,
            clock,
            steps: steps.into_iter(),
            conversations: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Serves one connection after the other, until the client is gone and everything it said was heard.
    pub async fn serve(&mut self, listener: &TcpListener, certificate: &Certificate, gone: &Notify) {
        loop {
            let stream = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = gone.notified() => return,
                // The client waits for something else than this server, such as a limit of its own.
                () = tokio::time::sleep(WAIT) => {
                    self.clock.advance(LONG);
                    continue;
                }
            };
            let Ok((stream, _)) = stream else { continue };
            let _ = stream.set_nodelay(true);
            self.converse(stream, certificate).await;
        }
    }

    async fn converse(&mut self, stream: TcpStream, certificate: &Certificate) {
        self.conversations.push(Conversation::default());
        let mut wire: Box<dyn Wire> = Box::new(stream);
        if self.encryption == Encryption::Implicit {
            match self.patient(certificate.acceptor.accept(wire)).await {
                Ok(encrypted) => wire = Box::new(encrypted),
                Err(_) => return,
            }
        }
        let mut conversation = Conversation::default();
        let mut line = Line { conversation: &mut conversation, wire, unread: Vec::new(), silent: false };
        let _over = self.dialogue(&mut line, certificate).await;
        if let Some(last) = self.conversations.last_mut() {
            *last = conversation;
        }
    }

    async fn patient<F: Future>(&self, work: F) -> F::Output {
        patient(&self.clock, work).await
    }

    async fn dialogue(&mut self, line: &mut Line<'_>, certificate: &Certificate) -> Result<(), Over> {
        let connection = self.conversations.len() - 1;
        let mut authenticating = 0;
        let (mut mail, mut recipients) = (None, Vec::new());
        self.answer(line, b"220 mail.example ready\r\n").await?;
        loop {
            let command = self.read_line(line).await?;
            line.conversation.commands.push(command.clone());
            let due = line.conversation.said.ends.len();
            let word = command.split(|byte| matches!(byte, b' ' | b'\r' | b'\n')).next().unwrap_or_default();
            match word.to_ascii_uppercase().as_slice() {
                _ if authenticating > 0 => {
                    let usual: &[u8] = if authenticating > 1 { b"334 \r\n" } else { b"235 2.7.0 Hello\r\n" };
                    let code = self.answer(line, usual).await?;
                    authenticating = if code == Some(334) { 1 } else { 0 };
                }
                b"EHLO" => drop(self.answer(line, &self.extensions.clone()).await?),
                b"STARTTLS" => {
                    if self.answer(line, b"220 2.0.0 Go ahead\r\n").await? == Some(220) {
                        self.upgrade(line, certificate).await?;
                    }
                }
                b"AUTH" => {
                    let initial = command.split(|byte| *byte == b' ').count() > 2;
                    let usual: &[u8] = if initial { b"235 2.7.0 Hello\r\n" } else { b"334 \r\n" };
                    let code = self.answer(line, usual).await?;
                    let login = command.ends_with(b"LOGIN\r\n");
                    authenticating = if code == Some(334) { 1 + usize::from(login) } else { 0 };
                }
                b"MAIL" => {
                    (mail, recipients) = (Some(due), Vec::new());
                    self.answer(line, b"250 2.1.0 Sender OK\r\n").await?;
                }
                b"RCPT" => {
                    recipients.push(due);
                    self.answer(line, b"250 2.1.5 Recipient OK\r\n").await?;
                }
                b"DATA" => {
                    line.conversation.data.push(due);
                    if self.answer(line, b"354 Go ahead\r\n").await? == Some(354) {
                        let octets = self.read_dotted(line).await?;
                        self.accept(line, octets, connection, mail.take(), &mut recipients).await?;
                    }
                }
                b"BDAT" => {
                    let size = command.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                    let octets = self.read_exact(line, size.unwrap_or_default()).await?;
                    self.accept(line, octets, connection, mail.take(), &mut recipients).await?;
                }
                b"RSET" => {
                    (mail, recipients) = (None, Vec::new());
                    self.answer(line, b"250 2.0.0 Reset\r\n").await?;
                }
                b"QUIT" => {
                    self.answer(line, b"221 2.0.0 Bye\r\n").await?;
                    return Ok(());
                }
                _ => drop(self.answer(line, b"500 5.5.2 What is this?\r\n").await?),
            }
        }
    }

    async fn accept(
        &mut self,
        line: &mut Line<'_>,
        octets: Vec<u8>,
        connection: usize,
        mail: Option<usize>,
        recipients: &mut Vec<usize>,
    ) -> Result<(), Over> {
        let verdict = line.conversation.said.ends.len();
        let recipients = std::mem::take(recipients);
        if let Some(mail) = mail {
            self.received.push(Received { octets, mail, recipients, verdict, connection });
        }
        self.answer(line, b"250 2.0.0 OK <1@mail.example>\r\n").await.map(drop)
    }

    async fn upgrade(&mut self, line: &mut Line<'_>, certificate: &Certificate) -> Result<(), Over> {
        // Octets before the handshake are the beginning of a handshake.
        let plain = std::mem::replace(&mut line.wire, Box::new(tokio::io::empty()));
        line.wire = Box::new(self.patient(certificate.acceptor.accept(plain)).await?);
        *line.conversation = Conversation::default();
        Ok(())
    }

    /// Says the next step, or the usual reply; returns the code of what was said, if it begins like a reply.
    async fn answer(&mut self, line: &mut Line<'_>, usual: &[u8]) -> Result<Option<u16>, Over> {
        let step = if line.silent { Step::default() } else { self.steps.next().unwrap_or_default() };
        let mut says = step.says.unwrap_or_else(|| usual.to_vec());
        let knows_secret = line.conversation.commands.iter().any(|command| command.starts_with(b"AUTH"));
        if !knows_secret && self.secrets.iter().any(|secret| memmem::find(&says, secret).is_some()) {
            says = usual.to_vec();
        }
        if line.silent {
            line.conversation.said.add(b"");
            return Ok(None);
        }
        line.conversation.said.add(&says);
        self.say(line, &says).await?;
        match step.then {
            Then::Continue => {}
            Then::Silence => line.silent = true,
            Then::Close => {
                line.conversation.left = true;
                return Err(Over);
            }
            Then::Flood => {
                let piece = says.repeat((16 * 1024 / says.len().max(1)).max(1));
                for _ in 0..FLOOD / piece.len().max(1024) {
                    line.conversation.said.octets.extend_from_slice(&says);
                    self.say(line, &piece).await?;
                }
                line.silent = true;
            }
        }
        Ok(says.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()))
    }

    async fn say(&self, line: &mut Line<'_>, octets: &[u8]) -> Result<(), Over> {
        let said = self.patient(async {
            line.wire.write_all(octets).await?;
            line.wire.flush().await
        });
        let said = said.await;
        // What the client had said before it closed is never read.
        line.conversation.left |= said.is_err();
        Ok(said?)
    }

    async fn fill(&self, line: &mut Line<'_>) -> Result<(), Over> {
        let mut piece = [0; 16 * 1024];
        match self.patient(line.wire.read(&mut piece)).await {
            Ok(0) => Err(Over),
            Err(_) => {
                // A connection that breaks may have had more in it.
                line.conversation.left = true;
                Err(Over)
            }
            Ok(count) => {
                line.unread.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    async fn read_until(&self, line: &mut Line<'_>, end: &[u8]) -> Result<Vec<u8>, Over> {
        let mut searched = 0;
        loop {
            let found = line.unread[searched..].windows(end.len()).position(|window| window == end);
            if let Some(at) = found {
                return Ok(line.unread.drain(..searched + at + end.len()).collect());
            }
            searched = line.unread.len().saturating_sub(end.len());
            self.fill(line).await?;
        }
    }

    async fn read_line(&self, line: &mut Line<'_>) -> Result<Vec<u8>, Over> {
        self.read_until(line, b"\r\n").await
    }

    async fn read_exact(&self, line: &mut Line<'_>, size: usize) -> Result<Vec<u8>, Over> {
        while line.unread.len() < size {
            self.fill(line).await?;
        }
        Ok(line.unread.drain(..size).collect())
    }

    /// Reads to the first line that is a dot, and takes the stuffed ones away (RFC 5321 §4.5.2).
    async fn read_dotted(&self, line: &mut Line<'_>) -> Result<Vec<u8>, Over> {
        let mut message = Vec::new();
        loop {
            let text = self.read_line(line).await?;
            match text.strip_prefix(b".") {
                Some(b"\r\n") => return Ok(message),
                Some(rest) => message.extend_from_slice(rest),
                None => message.extend_from_slice(&text),
            }
        }
    }
}

/// What the server shows, and what a client must trust.
pub struct Certificate {
    pub root_pem: String,
    acceptor: TlsAcceptor,
}

impl Certificate {
    pub fn new() -> Self {
        let authority = TestAuthority::new();
        let issued = authority.issue(CertificateKind::Valid);
        let chain = CertificateDer::pem_slice_iter(issued.chain_pem().as_bytes());
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem().as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
            .unwrap();
        Self { root_pem: authority.root_pem().to_owned(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}
