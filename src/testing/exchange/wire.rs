//! The octets of one connection: lines and chunks in, replies out, TLS between. Knows no command.

use std::future::poll_fn;
use std::io::{self, BufRead};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::record::Handshake;

/// Holds several pipelined transactions, and any command line that is not an attack.
const INPUT: usize = 64 * 1024;
/// Room made at once for a chunk whose size the client announces.
const CHUNK: usize = 32 * 1024 * 1024;

/// The connection is over, by the client's will or the script's.
#[derive(Debug)]
pub(super) struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// What came in place of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    TooLong,
}

/// One connection with buffers on both sides.
pub(super) struct Wire {
    stream: Stream,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    answered: bool,
    flights: Arc<AtomicUsize>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Upgrading,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, flights: Arc<AtomicUsize>) -> Self {
        let input = vec![0; INPUT].into_boxed_slice();
        Self {
            stream: Stream::Plain(stream),
            input,
            start: 0,
            end: 0,
            output: Vec::new(),
            answered: false,
            flights,
        }
    }

    /// Adds a reply to the output; lines are separated by `\n`.
    pub(super) fn reply(&mut self, text: &str) {
        for line in text.lines() {
            self.output.extend_from_slice(line.as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
    }

    /// Adds octets to the output as they are.
    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    /// Writes the output in one go.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await?;
            self.output.clear();
            self.answered = true;
        }
        Ok(())
    }

    /// Reads one line that ends in CRLF, and returns it without.
    pub(super) async fn line(&mut self) -> Result<Line, Ended> {
        let mut searched = 0;
        let mut too_long = false;
        loop {
            let pending = &self.input[self.start..self.end];
            match end_of_line(pending, searched) {
                Some(length) if too_long => {
                    self.start += length;
                    return Ok(Line::TooLong);
                }
                Some(length) => {
                    let text = String::from_utf8_lossy(&pending[..length - 2]).into_owned();
                    self.start += length;
                    return Ok(Line::Text(text));
                }
                None if pending.len() == INPUT => {
                    too_long = true;
                    self.start = self.end - 1; // It may be the CR of the line end.
                    searched = 0;
                }
                None => searched = pending.len(),
            }
            self.fill().await?;
        }
    }

    /// Reads a body up to the line with a single dot, unstuffs it, and returns it unless it is longer than `limit`.
    pub(super) async fn dotted(&mut self, limit: u64) -> Result<Option<Vec<u8>>, Ended> {
        let mut body = Vec::new();
        let mut line = 0; // Where in `body` the current line starts; only CRLF ends one.
        let mut too_long = false;
        loop {
            if self.start == self.end {
                self.fill().await?;
            }
            let pending = &self.input[self.start..self.end];
            let length = line_feed(pending).unwrap_or(pending.len());
            body.extend_from_slice(&pending[..length]);
            self.start += length;
            if !body[line..].ends_with(b"\r\n") {
                continue;
            }
            if &body[line..] == b".\r\n" {
                body.truncate(line);
                return Ok((!too_long).then_some(body));
            }
            if body[line] == b'.' {
                body.remove(line); // RFC 5321 §4.5.2. Moves one line, not the body.
            }
            too_long |= body.len() as u64 > limit;
            if too_long {
                body.clear();
            }
            line = body.len();
        }
    }

    /// Reads exactly `size` octets behind `body`, which is all that BDAT says about where its octets end.
    pub(super) async fn chunk(&mut self, size: u64, body: &mut Vec<u8>) -> Result<(), Ended> {
        let size = usize::try_from(size).map_err(|_| Ended)?;
        body.reserve(size.min(CHUNK));
        let buffered = size.min(self.end - self.start);
        body.extend_from_slice(&self.input[self.start..self.start + buffered]);
        self.start += buffered;
        let missing = (size - buffered) as u64;
        if missing > 0 && ((&mut self.stream).take(missing).read_to_end(body).await? as u64) < missing {
            return Err(Ended);
        }
        Ok(())
    }

    /// Reads exactly `size` octets and forgets them.
    pub(super) async fn skip(&mut self, mut size: u64) -> Result<(), Ended> {
        loop {
            let taken = size.min((self.end - self.start) as u64);
            self.start += usize::try_from(taken).map_err(|_| Ended)?;
            size -= taken;
            if size == 0 {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// Reads and forgets whatever comes, until the client closes.
    pub(super) async fn ignore(&mut self) -> Ended {
        loop {
            self.start = self.end;
            if let Err(ended) = self.receive().await {
                return ended;
            }
        }
    }

    /// Writes `octets` again and again, until the client closes.
    pub(super) async fn pour(&mut self, octets: &[u8]) -> Ended {
        loop {
            self.octets(octets);
            if let Err(ended) = self.flush().await {
                return ended;
            }
        }
    }

    /// Closes in good order: output first, then TLS, then TCP.
    pub(super) async fn close(&mut self) -> Ended {
        let flushed = self.flush().await;
        if flushed.is_ok() {
            // An error here means that the client closed first, which is as good.
            let _ = self.stream.shutdown().await;
        }
        Ended
    }

    /// Answers the handshake; input from before it is thrown away (RFC 3207 §4.2).
    pub(super) async fn secure(&mut self, acceptor: &TlsAcceptor) -> Result<Handshake, Handshake> {
        self.start = self.end;
        let Stream::Plain(plain) = std::mem::replace(&mut self.stream, Stream::Upgrading) else {
            return Err(Handshake::Failed("TLS inside TLS".to_owned()));
        };
        let tls = acceptor.accept(plain).await.map_err(|error| Handshake::Failed(error.to_string()))?;
        let (_, session) = tls.get_ref();
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let retried = session.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
        let full_1_2 = session.protocol_version() == Some(ProtocolVersion::TLSv1_2) && !resumed;
        self.flights.fetch_add(1 + usize::from(retried || full_1_2), Ordering::SeqCst);
        self.stream = Stream::Tls(Box::new(tls));
        self.answered = true;
        Ok(if resumed { Handshake::Resumed } else { Handshake::Full })
    }

    /// Takes more input, after sending what the client may be waiting for.
    ///
    /// Octets that are here already, half a command included, mean that the client is still writing: its replies wait,
    /// and go out in one write.
    async fn fill(&mut self) -> Result<(), Ended> {
        if self.start == self.end && !self.output.is_empty() {
            let here = poll_fn(|cx| Poll::Ready(self.poll_receive(cx))).await;
            if matches!(here, Poll::Ready(Ok(()))) {
                return Ok(());
            }
            self.flush().await?;
            if here.is_ready() {
                return Err(Ended);
            }
        }
        self.receive().await
    }

    /// Takes more input.
    pub(super) async fn receive(&mut self) -> Result<(), Ended> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut room = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let received = room.filled().len();
        if received == 0 {
            return Poll::Ready(Err(Ended));
        }
        self.end += received;
        if std::mem::take(&mut self.answered) {
            self.flights.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the length of the first line with its CRLF; the first `searched` octets are known to hold none.
fn end_of_line(octets: &[u8], searched: usize) -> Option<usize> {
    let mut from = searched;
    while let Some(length) = line_feed(&octets[from..]) {
        from += length;
        if octets[..from].ends_with(b"\r\n") {
            return Some(from);
        }
    }
    None
}

/// Returns the length up to and with the first LF; the standard library's search is fast even where it is not optimised.
fn line_feed(octets: &[u8]) -> Option<usize> {
    let mut rest = octets;
    let length = rest.skip_until(b'\n').expect("a slice can always be read");
    octets[..length].ends_with(b"\n").then_some(length)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Upgrading => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Upgrading => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => {
                ready!(Pin::new(stream).poll_shutdown(cx))?;
                Poll::Ready(Ok(()))
            }
            Self::Upgrading => Poll::Ready(Ok(())),
        }
    }
}
