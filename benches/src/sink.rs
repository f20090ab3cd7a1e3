//! An SMTP server on 127.0.0.1 that takes messages as fast as it can and keeps none: STARTTLS, AUTH, PIPELINING, CHUNKING.
//!
//! Checks no credentials and no addresses. Answers once everything that has arrived is read, as a pipelining server does
//! (RFC 2920 §3.2), so that a flight of commands is answered in one write.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use memchr::{memchr, memmem};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The name in the certificate.
pub const HOST: &str = "localhost";

const INPUT: usize = 256 * 1024;

const BEFORE_TLS: &[u8] = b"250-sink.example\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 SIZE 157286400\r\n";
const AFTER_TLS: &[u8] =
    b"250-sink.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
    250-ENHANCEDSTATUSCODES\r\n250-AUTH XOAUTH2 PLAIN\r\n250 SIZE 157286400\r\n";

/// A running server; it runs as long as the process.
#[derive(Clone, Debug)]
pub struct Sink {
    address: SocketAddr,
    root_pem: String,
    counts: Arc<Counts>,
}

/// What the server has seen since its start.
#[derive(Debug, Default)]
struct Counts {
    messages: AtomicUsize,
    connections: AtomicUsize,
}

impl Sink {
    /// Starts the server on a thread of its own; port 0 means any that is free.
    ///
    /// # Errors
    /// The port cannot be had, or the certificate cannot be made.
    pub fn start(port: u16) -> io::Result<Self> {
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned(), "127.0.0.1".to_owned()])
            .map_err(io::Error::other)?;
        let root_pem = certified.cert.pem();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).map_err(io::Error::other)?;
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key)
                .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let counts = Arc::<Counts>::default();
        let (bound, address) = mpsc::channel();
        let seen = counts.clone();
        thread::Builder::new()
            .name("sink".to_owned())
            .spawn(move || serve(port, &acceptor, &seen, &bound))?;
        let address = address.recv().map_err(io::Error::other)??;
        Ok(Self { address, root_pem, counts })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate to trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Returns how many messages were taken since the start.
    pub fn messages(&self) -> usize {
        self.counts.messages.load(Ordering::Relaxed)
    }

    /// Returns how many connections were made since the start.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

fn serve(
    port: u16,
    acceptor: &TlsAcceptor,
    counts: &Arc<Counts>,
    bound: &mpsc::Sender<io::Result<SocketAddr>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(bound.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => listener,
            Err(error) => return drop(bound.send(Err(error))),
        };
        if bound.send(listener.local_addr()).is_err() {
            return;
        }
        while let Ok((stream, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::Relaxed);
            let (acceptor, counts) = (acceptor.clone(), counts.clone());
            // A client that goes away ends its session, and nothing else.
            tokio::spawn(async move { drop(session(stream, acceptor, counts).await) });
        }
    });
}

async fn session(stream: TcpStream, acceptor: TlsAcceptor, counts: Arc<Counts>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut plain = Wire::new(stream);
    plain.output.extend_from_slice(b"220 sink.example ESMTP\r\n");
    if plain.commands(BEFORE_TLS, &counts).await? == End::StartTls {
        let mut encrypted = Wire::new(acceptor.accept(plain.stream).await?);
        encrypted.commands(AFTER_TLS, &counts).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    StartTls,
    Quit,
}

/// One connection, before or after STARTTLS.
struct Wire<S> {
    stream: S,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    output: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            input: vec![0; INPUT].into_boxed_slice(),
            start: 0,
            end: 0,
            output: Vec::with_capacity(16 * 1024),
        }
    }

    async fn commands(&mut self, hello: &[u8], counts: &Counts) -> io::Result<End> {
        loop {
            let line = self.line().await?;
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match &verb[..] {
                b"EHLO" => self.output.extend_from_slice(hello),
                b"MAIL" => self.output.extend_from_slice(b"250 2.1.0 Sender OK\r\n"),
                b"RCPT" => self.output.extend_from_slice(b"250 2.1.5 Recipient OK\r\n"),
                b"DATA" => {
                    self.output.extend_from_slice(b"354 Start mail input; end with <CRLF>.<CRLF>\r\n");
                    self.dotted().await?;
                    self.accepted(counts);
                }
                b"BDAT" => {
                    let size = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                    let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
                    self.skip(size.ok_or(io::ErrorKind::InvalidData)?).await?;
                    match line.ends_with(b" LAST") {
                        true => self.accepted(counts),
                        false => self.output.extend_from_slice(b"250 2.0.0 Chunk taken\r\n"),
                    }
                }
                b"AUTH" => {
                    if line.split(|byte| *byte == b' ').count() == 2 {
                        self.output.extend_from_slice(b"334 \r\n");
                        self.line().await?;
                    }
                    self.output.extend_from_slice(b"235 2.7.0 Authentication successful\r\n");
                }
                b"STAR" => {
                    self.output.extend_from_slice(b"220 2.0.0 Go ahead\r\n");
                    self.answer().await?;
                    return Ok(End::StartTls);
                }
                b"NOOP" | b"RSET" => self.output.extend_from_slice(b"250 2.0.0 OK\r\n"),
                b"QUIT" => {
                    self.output.extend_from_slice(b"221 2.0.0 Goodbye\r\n");
                    self.answer().await?;
                    self.stream.shutdown().await?;
                    return Ok(End::Quit);
                }
                _ => self.output.extend_from_slice(b"500 5.5.2 Unknown command\r\n"),
            }
        }
    }

    fn accepted(&mut self, counts: &Counts) {
        counts.messages.fetch_add(1, Ordering::Relaxed);
        self.output.extend_from_slice(b"250 2.0.0 Queued\r\n");
    }

    async fn answer(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            self.output.clear();
        }
        Ok(())
    }

    /// Answers what has been asked, then reads on behind what is unread.
    async fn fill(&mut self) -> io::Result<()> {
        self.answer().await?;
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.stream.read(&mut self.input[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Reads a line and returns it without its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr(b'\n', self.unread()) {
                let line = self.unread()[..at].trim_ascii_end().to_vec();
                self.start += at + 1;
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    /// Reads past `left` octets.
    async fn skip(&mut self, mut left: usize) -> io::Result<()> {
        loop {
            let count = left.min(self.end - self.start);
            self.start += count;
            left -= count;
            if left == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Reads past a message that ends with a dot alone on its line.
    async fn dotted(&mut self) -> io::Result<()> {
        while self.end - self.start < 3 {
            self.fill().await?;
        }
        if self.unread().starts_with(b".\r\n") {
            self.start += 3;
            return Ok(());
        }
        let finder = memmem::Finder::new(b"\r\n.\r\n");
        loop {
            if let Some(at) = finder.find(self.unread()) {
                self.start += at + 5;
                return Ok(());
            }
            // The end may have begun in the last four octets.
            self.start = self.start.max(self.end.saturating_sub(4));
            self.fill().await?;
        }
    }
}
