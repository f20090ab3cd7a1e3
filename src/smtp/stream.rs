//! The guarded byte stream to the network: sits above TLS, reads replies whole, and bounds what a server may send. Knows
//! no command and no deadline.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::failure::{Cause, ReplyFault};
use super::reply::Reply;

/// RFC 5321 §4.5.3.1.5 says 512 octets; some servers put URLs in.
const LONGEST_LINE: usize = 2048;
const MOST_LINES: usize = 128;
const MOST_BYTES: usize = 64 * 1024;
/// How much is read ahead while the server does not take what is written.
pub(super) const MOST_AHEAD: usize = 512 * 1024;
/// What is read at a time; a reply seldom has more than a few hundred octets.
const READ: usize = 4096;

/// What carries the bytes: a TCP socket, or TLS on one.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// Octets out and replies in.
pub(crate) struct GuardedStream {
    /// `None` while a TLS handshake has it, and for ever if that fails.
    transport: Option<Box<dyn Transport>>,
    peer: SocketAddr,
    /// Where the transport puts what it reads; kept, because making one zeroes it.
    chunk: Box<[u8]>,
    incoming: Vec<u8>,
    /// What of `incoming` has been read as replies.
    taken: usize,
    collecting: Collector,
    ended: bool,
}

/// The lines of a reply that has not come to its end.
#[derive(Default)]
struct Collector {
    code: u16,
    text: String,
    lines: usize,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Completed {
    Line,
    Reply,
}

impl GuardedStream {
    pub(crate) fn new(transport: Box<dyn Transport>, peer: SocketAddr) -> Self {
        Self {
            transport: Some(transport),
            peer,
            chunk: vec![0; READ].into_boxed_slice(),
            incoming: Vec::new(),
            taken: 0,
            collecting: Collector::default(),
            ended: false,
        }
    }

    /// Reads one reply to its end.
    ///
    /// # Cancellation
    /// A dropped future loses nothing: the next call goes on.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Cause> {
        poll_fn(|context| self.poll_reply(context)).await
    }

    /// Counts the bytes that have arrived and belong to no reply that was asked for; never waits.
    ///
    /// `Err` means that the connection is closed.
    pub(crate) async fn unread(&mut self) -> io::Result<usize> {
        poll_fn(|context| {
            if self.buffered() == 0
                && let Poll::Ready(result) = self.poll_fill(context)
            {
                result?;
                if self.ended {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            Poll::Ready(Ok(self.buffered()))
        })
        .await
    }

    /// Takes the transport out, for a TLS handshake.
    pub(crate) fn take_transport(&mut self) -> Option<Box<dyn Transport>> {
        self.transport.take()
    }

    /// Puts the transport back in, with TLS on it.
    pub(crate) fn put_transport(&mut self, transport: Box<dyn Transport>) {
        self.transport = Some(transport);
    }

    /// Writes some of `bytes`, taking in meanwhile what the server says, so that neither side waits for the other.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_write(context, bytes)).await
    }

    /// Sends what is still buffered, taking in what the server says as [`write`](Self::write) does.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Counts the bytes that were read and belong to no reply yet.
    pub(crate) fn buffered(&self) -> usize {
        self.incoming.len() - self.taken + self.collecting.bytes
    }

    fn poll_reply(&mut self, context: &mut Context<'_>) -> Poll<Result<Reply, Cause>> {
        loop {
            match self.next_line().map_err(Cause::Protocol)? {
                Some(Completed::Reply) => {
                    let Collector { code, text, lines: _, bytes: _ } = std::mem::take(&mut self.collecting);
                    return Poll::Ready(Ok(Reply::new(code, text)));
                }
                Some(Completed::Line) => {}
                None if self.ended => return Poll::Ready(Err(Cause::Closed(None))),
                None => ready!(self.poll_fill(context)).map_err(|error| Cause::Closed(Some(error)))?,
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = pinned(&mut self.transport)?.poll_write(context, bytes)?;
        if written.is_ready() {
            return written.map(Ok);
        }
        match self.listen(context)? {
            // It will not say another word, a verdict on the rest least of all.
            true => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            false => Poll::Pending,
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended
            || pinned(&mut self.transport)?.poll_flush(context)?.is_ready()
            || self.listen(context)?
        {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Takes in what the server says while nothing more can be written; tells whether it has ended.
    fn listen(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        // A server that answers before it reads on must not be left waiting. Read until nothing is there, or what comes
        // next wakes nobody.
        while !self.ended && self.incoming.len() < MOST_AHEAD && self.poll_fill(context)?.is_ready() {}
        Ok(self.ended)
    }

    /// Reads once from the transport into `incoming`.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let mut buffer = ReadBuf::new(&mut self.chunk);
        ready!(pinned(&mut self.transport)?.poll_read(context, &mut buffer))?;
        self.ended = buffer.filled().is_empty();
        self.incoming.drain(..std::mem::take(&mut self.taken));
        self.incoming.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Takes the next whole line from `incoming` into the reply that is being read.
    fn next_line(&mut self) -> Result<Option<Completed>, ReplyFault> {
        let waiting = self.incoming.get(self.taken..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', waiting) else {
            return match waiting.len() {
                0..LONGEST_LINE => Ok(None),
                _ => Err(ReplyFault::LineTooLong),
            };
        };
        if end >= LONGEST_LINE {
            return Err(ReplyFault::LineTooLong);
        }
        let (line, _) = waiting.split_at(end + 1);
        let completed = self.collecting.add(line)?;
        self.taken += line.len();
        if self.taken == self.incoming.len() {
            self.incoming.clear();
            self.taken = 0;
        }
        Ok(Some(completed))
    }
}

impl fmt::Debug for GuardedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No content: what is buffered may be a secret's echo.
        f.debug_struct("GuardedStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn pinned(transport: &mut Option<Box<dyn Transport>>) -> io::Result<Pin<&mut dyn Transport>> {
    match transport {
        Some(transport) => Ok(Pin::new(&mut **transport)),
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

impl Collector {
    fn add(&mut self, line: &[u8]) -> Result<Completed, ReplyFault> {
        let line = line.strip_suffix(b"\r\n").ok_or(ReplyFault::Malformed)?;
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyFault::Malformed)?;
        let code = std::str::from_utf8(digits)
            .ok()
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|code| code.parse().ok())
            .filter(|code| (200..600).contains(code))
            .ok_or(ReplyFault::Malformed)?;
        // RFC 5321 §4.2: `250` alone, without a space, ends a reply too.
        let (more, text) = match rest.split_first() {
            None => (Completed::Reply, rest),
            Some((b' ', text)) => (Completed::Reply, text),
            Some((b'-', text)) => (Completed::Line, text),
            Some(_) => return Err(ReplyFault::Malformed),
        };
        if self.lines > 0 && code != self.code {
            return Err(ReplyFault::Malformed);
        }
        self.code = code;
        self.bytes += line.len() + 2;
        if self.lines == MOST_LINES {
            return Err(ReplyFault::TooManyLines);
        }
        if self.bytes > MOST_BYTES {
            return Err(ReplyFault::TooManyBytes);
        }
        if self.lines > 0 {
            self.text.push('\n');
        }
        push_printable(&mut self.text, text);
        self.lines += 1;
        Ok(more)
    }
}

/// Adds `text`, with what a terminal or a log should not be given replaced.
fn push_printable(to: &mut String, text: &[u8]) {
    let text = text.trim_ascii_end();
    match std::str::from_utf8(text) {
        Ok(ascii) if text.iter().all(|byte| matches!(byte, b' '..=b'~')) => to.push_str(ascii),
        _ => {
            let shown = |c: char| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '?' } else { c };
            to.extend(String::from_utf8_lossy(text).chars().map(shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Reads one reply from `bytes`.
    async fn read(bytes: &[u8]) -> (Result<Reply, Cause>, GuardedStream) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut stream = GuardedStream::new(Box::new(ours), ([127, 0, 0, 1], 25).into());
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        (stream.reply().await, stream)
    }

    #[tokio::test]
    async fn replies_are_kept_whole() {
        let long = format!("550 5.1.1 {}\r\n", "x".repeat(1500));
        let cases: [(&[u8], u16, &[&str]); 6] = [
            (b"250 2.0.0 OK\r\n", 250, &["2.0.0 OK"]),
            (b"250-a\r\n250-b\r\n250 c\r\n", 250, &["a", "b", "c"]),
            (b"250\r\n", 250, &[""]),
            (b"535 caf\xe9 \x1b[31m\r\n", 535, &["caf? ?[31m"]),
            (b"260 odd second digit\r\n", 260, &["odd second digit"]),
            (long.as_bytes(), 550, &[long[4..].trim_end()]),
        ];
        for (bytes, code, lines) in cases {
            let (reply, mut stream) = read(bytes).await;
            let reply = reply.unwrap();
            assert_eq!((reply.code(), &*reply.lines().collect::<Vec<_>>()), (code, lines));
            assert!(stream.unread().await.is_err(), "the peer has gone, and nothing is left");
        }
    }

    #[tokio::test]
    async fn what_is_no_reply_is_named() {
        let endless = vec![b'x'; 100_000];
        let lines = b"250-x\r\n".repeat(1000);
        let wide = format!("250-{}\r\n", "x".repeat(2000)).repeat(100);
        let cases: [(&[u8], ReplyFault); 8] = [
            (&endless, ReplyFault::LineTooLong),
            (&lines, ReplyFault::TooManyLines),
            (wide.as_bytes(), ReplyFault::TooManyBytes),
            (b"250-a\r\n550 b\r\n", ReplyFault::Malformed),
            (b"250 a\n", ReplyFault::Malformed),
            (b"HTTP/1.1 400 Bad Request\r\n", ReplyFault::Malformed),
            (b"2500 a\r\n", ReplyFault::Malformed),
            (b"\r\n", ReplyFault::Malformed),
        ];
        for (bytes, fault) in cases {
            let read = read(bytes).await.0;
            assert!(
                matches!(read, Err(Cause::Protocol(found)) if found == fault),
                "{read:?} is not {fault:?}"
            );
        }
    }

    /// A server that takes nothing and says `left` octets without waiting.
    struct Flood {
        left: usize,
    }

    impl AsyncRead for Flood {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = out.remaining().min(self.left);
            self.left -= count;
            out.put_slice(&vec![b'x'; count]);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }

    impl AsyncWrite for Flood {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn no_more_than_its_share_is_read_ahead_while_writing() {
        for said in [0, 1000, 1 << 20] {
            let flood = Box::new(Flood { left: said });
            let mut stream = GuardedStream::new(flood, ([127, 0, 0, 1], 25).into());
            {
                let mut write = std::pin::pin!(stream.write(b"QUIT\r\n"));
                for _ in 0..3 {
                    let pending = poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_pending()));
                    assert!(pending.await, "{said}");
                }
            }
            let read = stream.incoming.len();
            assert!((said.min(MOST_AHEAD)..MOST_AHEAD + READ).contains(&read), "{read} of {said}");
        }
    }

    #[tokio::test]
    async fn what_was_read_is_forgotten_although_more_has_always_arrived() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let mut stream = GuardedStream::new(Box::new(ours), ([127, 0, 0, 1], 25).into());
        theirs.write_all(b"2").await.unwrap();
        for _ in 0..20_000 {
            theirs.write_all(b"50 OK\r\n2").await.unwrap();
            assert_eq!(stream.reply().await.unwrap().code(), 250);
        }
        assert!(stream.incoming.len() < READ, "{}", stream.incoming.len());
    }

    #[tokio::test]
    async fn a_server_that_answers_before_it_reads_on_is_heard_while_what_is_buffered_is_sent() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let ours = tokio::io::BufWriter::with_capacity(1 << 10, ours);
        let mut stream = GuardedStream::new(Box::new(ours), ([127, 0, 0, 1], 25).into());
        assert_eq!(stream.write(&b"NOOP\r\n".repeat(100)).await.unwrap(), 600);
        let serve = async {
            for _ in 0..100 {
                theirs.read_exact(&mut [0; 6]).await.unwrap();
                theirs.write_all(b"250 OK\r\n").await.unwrap();
            }
        };
        let ask = async {
            stream.flush().await.unwrap();
            for _ in 0..100 {
                assert_eq!(stream.reply().await.unwrap().code(), 250);
            }
        };
        let both = async { tokio::join!(ask, serve) };
        tokio::time::timeout(Duration::from_secs(5), both).await.expect("neither waits for the other");
    }

    #[tokio::test]
    async fn bytes_nobody_asked_for_are_counted() {
        let (reply, mut stream) = read(b"220 go\r\n250-injected\r\n").await;
        assert_eq!(reply.unwrap().code(), 220);
        assert_eq!(stream.unread().await.unwrap(), 14);
    }
}
