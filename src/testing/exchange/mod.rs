//! A fake of Exchange Online's SMTP server: real octets, real TLS, scripted faults. Delivers nothing.

mod builder;
mod command;
mod extensions;
mod fault;
mod listener;
mod record;
mod sasl;
mod session;
mod transaction;
mod wire;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tokens::IssuedTokens;

pub use builder::FakeExchangeBuilder;
pub use extensions::Extensions;
pub use fault::{Fault, FaultPoint, ScriptedFault};
pub use record::{
    AuthAttempt, BodyCommand, ConnectionCounts, Handshake, ReceivedMessage, ReceivedRecipient, SessionRecord,
};

use listener::{Closing, Listener};

/// An SMTP server on 127.0.0.1 that behaves as `smtp.office365.com` does; dropping it closes every connection.
///
/// ```
/// use std::time::Duration;
/// use smtp_oauth::testing::FakeExchange;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = FakeExchange::start().await;
/// let token = server.tokens().issue("alerts@contoso.com", Duration::from_secs(3600), 1800);
/// // … connect to `server.host()` and `server.port()`, trusting `server.root_pem()`, and send with `token` …
/// # let _ = token;
/// assert!(server.messages().is_empty());
/// # }
/// ```
pub struct FakeExchange {
    address: SocketAddr,
    root_pem: String,
    listener: Listener,
    closing: watch::Sender<Closing>,
    task: JoinHandle<()>,
}

impl FakeExchange {
    /// Starts a server with default settings.
    ///
    /// # Panics
    /// See [`FakeExchangeBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Sets up a server.
    pub fn builder() -> FakeExchangeBuilder {
        FakeExchangeBuilder::new()
    }

    #[allow(
        clippy::unused_async,
        reason = "opening a socket needs a runtime, and `async` is how a caller has one"
    )]
    async fn open(listener: Listener, root_pem: String, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        if let Some(octets) = receive_buffer {
            socket.set_recv_buffer_size(octets).expect("the kernel takes the size");
        }
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("127.0.0.1 has a free port");
        let socket = socket.listen(1024).expect("the port is ours");
        let address = socket.local_addr().expect("the socket is bound");
        let (closing, orders) = watch::channel(None);
        let task = tokio::spawn(listener.clone().run(socket, orders));
        Self { address, root_pem, listener, closing, task }
    }

    /// Returns the name to connect to, which is also the one in the certificate: `localhost`.
    pub fn host(&self) -> &'static str {
        "localhost"
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the address and port, for a test that connects by itself.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate that signed the server's.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Returns the register of accepted tokens.
    pub fn tokens(&self) -> &IssuedTokens {
        &self.listener.settings.tokens
    }

    /// Scripts a fault from now on; a bare [`Fault`] strikes once.
    ///
    /// # Panics
    /// When the fault makes no sense at that point.
    pub fn inject(&self, point: FaultPoint, fault: impl Into<ScriptedFault>) {
        self.listener.script.arm(point, fault.into());
    }

    /// Refuses a recipient with `reply` from now on.
    pub fn refuse_recipient(&self, address: &str, reply: &str) {
        self.inject(FaultPoint::Rcpt, Fault::reply(reply).always().for_recipient(address));
    }

    /// Forgets every fault still to come, refused recipients included.
    pub fn clear_faults(&self) {
        self.listener.script.clear();
    }

    /// Returns the messages accepted so far, in order.
    pub fn messages(&self) -> Vec<ReceivedMessage> {
        self.listener.record.state().messages.clone()
    }

    /// Returns the messages accepted so far and forgets them, without copying.
    pub fn take_messages(&self) -> Vec<ReceivedMessage> {
        std::mem::take(&mut self.listener.record.state().messages)
    }

    /// Returns how many messages were accepted.
    pub fn message_count(&self) -> usize {
        self.listener.record.state().message_count
    }

    /// Returns whether any command was read; always false with [`count_only`](FakeExchangeBuilder::count_only).
    pub fn received_any(&self) -> bool {
        !self.listener.record.transcript().is_empty()
    }

    /// Returns how many connections there were and are.
    pub fn connections(&self) -> ConnectionCounts {
        self.listener.record.state().counts
    }

    /// Returns how many connections there were and are on which `user` has signed in.
    pub fn connections_of(&self, user: &str) -> ConnectionCounts {
        self.listener.record.state().users.get(&user.to_lowercase()).copied().unwrap_or_default()
    }

    /// Returns every connection since the start, in order.
    pub fn sessions(&self) -> Vec<SessionRecord> {
        self.listener.record.sessions()
    }

    /// Returns the turns of the client in each session, in order.
    ///
    /// A turn begins with the first octets after the server has said something: each one is a round trip that the
    /// client waited for. The greeting is none; a TLS handshake counts 1, a full one of TLS 1.2 counts 2.
    pub fn flights(&self) -> Vec<usize> {
        self.sessions().iter().map(|session| session.flights).collect()
    }

    /// Returns the TLS handshake of each session that had one, in order.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.sessions().into_iter().filter_map(|session| session.handshake).collect()
    }

    /// Returns the AUTH commands that ran to their final reply, in order.
    pub fn auth_attempts(&self) -> Vec<AuthAttempt> {
        self.listener.record.state().attempts.clone()
    }

    /// Returns the command lines of all sessions in order of arrival, secrets redacted.
    pub fn transcript(&self) -> Vec<String> {
        self.listener.record.transcript()
    }

    /// Waits until a [`Fault::Silence`] or [`Fault::StallReading`] has struck.
    pub async fn wait_for_silence(&self) {
        self.wait_for_silences(1).await;
    }

    /// Waits until [`Fault::Silence`] or [`Fault::StallReading`] have struck `count` times since the start.
    pub async fn wait_for_silences(&self, count: usize) {
        self.listener.record.wait_until(|state| state.silences >= count).await;
    }

    /// Waits until `count` messages have been accepted since the start.
    pub async fn wait_for_messages(&self, count: usize) {
        self.listener.record.wait_until(|state| state.message_count >= count).await;
    }

    /// Waits until exactly `count` connections are open.
    pub async fn wait_for_open(&self, count: usize) {
        self.listener.record.wait_until(|state| state.counts.open == count).await;
    }

    /// Closes every open connection, as a server does with idle ones, after sending `reply` if there is one.
    ///
    /// Resolves when they are closed. New connections are accepted all the while.
    pub async fn close_connections(&self, reply: Option<&str>) {
        let before = self.connections().total; // Counted first: these all hear the order.
        self.closing.send_replace(reply.map(Arc::from));
        let record = &self.listener.record;
        record.wait_until(|state| state.is_over_up_to(before)).await;
    }
}

impl Drop for FakeExchange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for FakeExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeExchange")
            .field("address", &self.address)
            .field("connections", &self.connections())
            .field("messages", &self.message_count())
            .finish_non_exhaustive()
    }
}
