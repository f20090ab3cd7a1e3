//! One connection to the mail server: TCP, TLS, EHLO, and the reading of replies under a deadline.
//!
//! A connection is owned by one task at a time. It knows when a reply is owed or bytes are left over, and is then good
//! for nothing but closing. AUTH is in `auth`, messages are in `transaction`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::capabilities::Capabilities;
use super::command;
use super::dial::connect;
use super::facts::{self, Observer, TlsFacts};
use super::failure::{Cause, Failure, ReplyFault};
use super::phase::Phase;
use super::reply::Reply;
use super::sasl::Line;
use super::stream::{GuardedStream, Transport};
use crate::clock::{Clock, Moment};
use crate::config::{MailServerConfig, Tls};
use crate::observe;

/// How long to look for the server's last words, after a write failed or when it speaks out of turn.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a server may take to close, or to go on, after it has said that it closes.
const LEAVING: Duration = Duration::from_secs(30);

/// Everything needed to open a connection; shared by all connections of a mailer, so that TLS sessions resume.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) config: Arc<MailServerConfig>,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) clock: Clock,
    /// The server offers CHUNKING and was found not to know BDAT.
    no_chunks: Arc<AtomicBool>,
    pub(super) observer: Observer,
    /// The name of the server in spans and metrics.
    pub(crate) server: observe::Server,
}

impl Endpoint {
    pub(crate) fn new(config: MailServerConfig, tls: Arc<ClientConfig>, clock: Clock) -> Self {
        Self {
            server: observe::Server::new(config.host(), config.port()),
            config: Arc::new(config),
            tls,
            clock,
            no_chunks: Arc::default(),
            observer: Observer::default(),
        }
    }

    /// Returns the same endpoint, for another mailbox of the same server.
    pub(crate) fn with_config(&self, config: MailServerConfig) -> Self {
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Returns the same endpoint, with somebody who wants to know how its connections are opened.
    pub(crate) fn observed_by(&self, observer: Observer) -> Self {
        Self { observer, ..self.clone() }
    }

    /// Notes the end of a phase that began at `started`.
    pub(super) fn note(&self, phase: Phase, started: Moment) {
        let took = self.clock.moment().since(started);
        self.observer.note(|facts| facts.phases.push((phase, took)));
        observe::connection::phase_done(&self.server, phase.name(), took);
    }

    /// Tells whether messages go by DATA although the server offers CHUNKING.
    pub(super) fn avoids_chunks(&self) -> bool {
        self.no_chunks.load(Ordering::Relaxed)
    }

    /// Sends by DATA from now on.
    pub(super) fn avoid_chunks(&self) {
        self.no_chunks.store(true, Ordering::Relaxed);
    }

    /// Runs one step within `limit`, and not beyond `deadline`.
    async fn within<F: Future>(
        &self,
        phase: Phase,
        limit: Duration,
        deadline: Moment,
        step: F,
    ) -> Result<F::Output, Failure> {
        let until = self.clock.moment().after(limit).min(deadline);
        self.clock.until(until, step).await.map_err(|_| self.late(phase, limit, deadline))
    }

    /// Says which of the two limits was over.
    pub(super) fn late(&self, phase: Phase, limit: Duration, deadline: Moment) -> Failure {
        match self.clock.moment() >= deadline {
            true => Failure::new(phase, Cause::Overdue(self.config.timeouts().total())),
            false => Failure::new(phase, Cause::Timeout(limit)),
        }
    }
}

/// An open connection.
pub(crate) struct Connection {
    pub(super) endpoint: Endpoint,
    pub(super) stream: GuardedStream,
    pub(super) capabilities: Capabilities,
    /// Commands that were written, wholly or in part, and whose replies have not been read.
    pub(super) owed: u32,
    /// When the submission that uses this connection must be over.
    deadline: Moment,
    /// The connection may have been closed meanwhile: no message is sent before the server has answered.
    pub(super) doubtful: bool,
    /// What this connection signed in with, to keep a server's echo of it out of what people read.
    pub(super) secrets: Vec<Line>,
    /// A transaction was begun and not brought to its end.
    pub(super) in_transaction: bool,
    /// The server has said that it closes.
    pub(super) closing: bool,
    /// It has said yes after that all the same.
    pub(super) goes_on: bool,
    /// It has closed, and not in the middle of a reply.
    gone: bool,
}

impl Connection {
    /// Opens a connection as far as the EHLO reply that names the SASL mechanisms.
    ///
    /// # Cancellation
    /// A dropped future closes the connection.
    pub(crate) async fn open(endpoint: Endpoint, deadline: Moment) -> Result<Self, Failure> {
        let span = observe::connection::connect(&endpoint.server);
        span.note(span.run(Self::establish(endpoint, deadline)).await, Failure::name)
    }

    async fn establish(endpoint: Endpoint, deadline: Moment) -> Result<Self, Failure> {
        let config = endpoint.config.clone();
        let tcp = connect(&endpoint, deadline).await?;
        let peer = tcp.peer_addr().map_err(|error| Failure::new(Phase::Connect, Cause::Network(error)))?;
        observe::connection::reached(peer);
        let transport: Box<dyn Transport> = match config.tls() {
            Tls::Implicit => handshake(&endpoint, deadline, Box::new(tcp)).await?,
            Tls::StartTls | Tls::LoopbackPlaintext => Box::new(tcp),
        };
        let started = endpoint.clock.moment();
        let mut connection = Self {
            endpoint,
            stream: GuardedStream::new(transport, peer),
            capabilities: Capabilities::default(),
            owed: 0,
            deadline,
            doubtful: false,
            secrets: Vec::new(),
            in_transaction: false,
            closing: false,
            goes_on: false,
            gone: false,
        };
        connection.greeting().await?;
        connection.hello().await?;
        connection.endpoint.note(Phase::Ehlo, started);
        if config.tls() == Tls::StartTls {
            connection.start_tls().await?;
        }
        let offered = connection.capabilities.clone();
        connection.endpoint.observer.note(|facts| facts.offered = Some(offered));
        Ok(connection)
    }

    /// Says that the connection was idle for so long that the server may have closed it.
    ///
    /// The next message then waits until the server has accepted somebody. Sent along in one flight it would be lost
    /// with the connection, and nobody could say whether the server had it.
    pub(crate) fn set_doubtful(&mut self) {
        self.doubtful = true;
    }

    /// Sets when everything that follows must be over, whatever the limits of the phases are.
    pub(crate) fn set_deadline(&mut self, deadline: Moment) {
        self.deadline = deadline;
    }

    /// Returns when a phase that may take `limit` must be over.
    pub(super) fn until(&self, limit: Duration) -> Moment {
        self.endpoint.clock.moment().after(limit).min(self.deadline)
    }

    /// Tells whether the connection can carry another transaction: nothing owed, nothing left over.
    pub(crate) fn is_clean(&self) -> bool {
        self.owed == 0 && !self.in_transaction && !self.closing
    }

    /// Tells whether the server has closed on its good-bye, and so has taken nothing behind that (RFC 5321 §3.8).
    ///
    /// One that stays may yet go on, however late.
    pub(super) fn has_left(&self) -> bool {
        self.closing && self.gone && !self.goes_on
    }

    /// Looks, without waiting, whether an idle connection is still open and silent.
    ///
    /// Anything the server says on its own is a good-bye, such as `421 4.4.2`.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.is_clean() && matches!(self.stream.unread().await, Ok(0))
    }

    /// Says QUIT and waits a moment for the answer and the server's close; errors do not matter any more.
    pub(crate) async fn quit(mut self) {
        let clock = self.endpoint.clock.clone();
        self.deadline = clock.moment().after(LAST_WORDS);
        let good_bye = async {
            if self.is_clean() && self.command(Phase::Quit, b"QUIT\r\n", LAST_WORDS).await.is_ok() {
                // RFC 5321 §4.1.1.10: the server closes first, and has then stopped counting this connection.
                let _ = clock.until(self.deadline, self.stream.reply()).await;
            }
        };
        observe::connection::quit().run(good_bye).await;
    }

    /// Waits for the server's first words (RFC 5321 §3.1).
    async fn greeting(&mut self) -> Result<(), Failure> {
        self.owed += 1;
        let limit = self.endpoint.config.timeouts().greeting();
        let span = observe::connection::phase(Phase::Greeting.name());
        let reply = span.note(span.run(self.read(Phase::Greeting, limit)).await, Failure::name)?;
        expect(Phase::Greeting, 220, reply).map(drop)
    }

    /// Says EHLO and learns what the server offers.
    async fn hello(&mut self) -> Result<(), Failure> {
        let config = &self.endpoint.config;
        let limit = config.timeouts().ehlo();
        let mut line = Vec::new();
        command::push_line(&mut line, &["EHLO ", config.hello_name()])
            .map_err(|cause| Failure::new(Phase::Ehlo, cause))?;
        let reply = self.command(Phase::Ehlo, &line, limit).await?;
        self.capabilities = Capabilities::from_reply(&expect(Phase::Ehlo, 250, reply)?);
        Ok(())
    }

    /// Upgrades to TLS (RFC 3207) and asks again what the server offers.
    async fn start_tls(&mut self) -> Result<(), Failure> {
        let fail = |cause| Err(Failure::new(Phase::StartTls, cause));
        if !self.capabilities.starttls {
            return fail(Cause::StartTlsMissing);
        }
        let limit = self.endpoint.config.timeouts().starttls();
        let reply = self.command(Phase::StartTls, b"STARTTLS\r\n", limit).await?;
        if reply.code() != 220 {
            return fail(Cause::Refused(reply));
        }
        // RFC 3207 §6 warns of a man in the middle who adds replies before TLS starts. The server speaks next only
        // after our ClientHello, so a single byte here is one too many.
        match self.stream.unread().await {
            Ok(0) => {}
            Ok(bytes) => return fail(Cause::Injected { bytes }),
            Err(error) => return fail(Cause::Closed(Some(error))),
        }
        let plain = self.stream.take_transport().ok_or(Failure::new(Phase::StartTls, Cause::Closed(None)))?;
        let encrypted = handshake(&self.endpoint, self.deadline, plain).await?;
        self.stream.put_transport(encrypted);

        // RFC 3207 §4.2: what the server said before TLS does not count.
        self.capabilities = Capabilities::default();
        self.hello().await
    }

    /// Sends one command and reads its reply, both within one limit.
    pub(super) async fn command(
        &mut self,
        phase: Phase,
        line: &[u8],
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let span = observe::connection::phase(phase.name());
        span.note(span.run(self.write_and_read(phase, line, limit)).await, Failure::name)
    }

    async fn write_and_read(&mut self, phase: Phase, line: &[u8], limit: Duration) -> Result<Reply, Failure> {
        let clock = self.endpoint.clock.clone();
        let deadline = self.until(limit);
        self.owed += 1;
        clock
            .until(deadline, write_all(&mut self.stream, line))
            .await
            .map_err(|_| self.endpoint.late(phase, limit, self.deadline))?
            .map_err(|error| Failure::new(phase, Cause::Closed(Some(error))))?;
        self.read_until(phase, deadline, limit).await
    }

    /// Reads the next reply that is owed, within `limit`; there may be none when the server has said that it closes.
    pub(super) async fn read(&mut self, phase: Phase, limit: Duration) -> Result<Reply, Failure> {
        let is_leaving = self.closing && !self.goes_on;
        let limit = if is_leaving { limit.min(LEAVING) } else { limit };
        let deadline = self.until(limit);
        self.read_until(phase, deadline, limit).await
    }

    async fn read_until(
        &mut self,
        phase: Phase,
        deadline: Moment,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let clock = self.endpoint.clock.clone();
        let mut reply = clock
            .until(deadline, self.stream.reply())
            .await
            .map_err(|_| self.endpoint.late(phase, limit, self.deadline))?
            .map_err(|cause| {
                self.gone |= is_close(&cause) && self.stream.buffered() == 0;
                Failure::new(phase, cause)
            })?;
        reply.redact_echoes(&self.secrets);
        self.owed = self.owed.saturating_sub(1);
        observe::connection::reply(phase.name(), reply.code(), reply.enhanced());
        // RFC 5321 §3.8: the server closes now, whatever was asked; as a rule.
        let is_goodbye = reply.code() == 421;
        self.goes_on = !is_goodbye && (self.goes_on || self.closing && reply.is_positive());
        self.closing |= is_goodbye;
        Ok(reply)
    }

    /// Writes `rest`, giving up when none of it is taken for `stall` at a time; what was not taken is left in it.
    pub(super) async fn write_slowly(
        &mut self,
        phase: Phase,
        rest: &mut &[u8],
        stall: Duration,
    ) -> Result<(), Failure> {
        while !rest.is_empty() {
            let written = self
                .endpoint
                .within(phase, stall, self.deadline, self.stream.write(rest))
                .await?
                .and_then(|count| if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
                .map_err(|error| Failure::new(phase, Cause::Closed(Some(error))))?;
            *rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends what is still buffered, giving up after `stall`.
    pub(super) async fn flush(&mut self, phase: Phase, stall: Duration) -> Result<(), Failure> {
        self.endpoint
            .within(phase, stall, self.deadline, self.stream.flush())
            .await?
            .map_err(|error| Failure::new(phase, Cause::Closed(Some(error))))
    }

    /// After a failed write: the refusal the server may have sent before it closed.
    pub(super) async fn last_words(&mut self, phase: Phase) -> Option<Reply> {
        self.in_transaction = true;
        self.read(phase, LAST_WORDS).await.ok()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("stream", &self.stream)
            .field("capabilities", &self.capabilities)
            .field("owed", &self.owed)
            .field("in_transaction", &self.in_transaction)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// Tells whether the server has closed, as far as this end can see. A reset too is how it closes on commands that it has not
/// read; many end TLS by closing TCP.
fn is_close(cause: &Cause) -> bool {
    match cause {
        Cause::Closed(None) => true,
        Cause::Closed(Some(error)) => {
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// Takes a reply for what its code says.
fn expect(phase: Phase, code: u16, reply: Reply) -> Result<Reply, Failure> {
    match reply.code() {
        found if found == code => Ok(reply),
        400..600 => Err(Failure::new(phase, Cause::Refused(reply))),
        found => Err(Failure::new(phase, Cause::Protocol(ReplyFault::Unexpected(found)))),
    }
}

async fn write_all(stream: &mut GuardedStream, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write(rest).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = rest.get(written..).unwrap_or_default(),
        }
    }
    stream.flush().await
}

/// Does the TLS handshake, checking the certificate against the host name of the settings.
async fn handshake(
    endpoint: &Endpoint,
    deadline: Moment,
    plain: Box<dyn Transport>,
) -> Result<Box<dyn Transport>, Failure> {
    let Endpoint { config, tls, clock, .. } = endpoint;
    let name = ServerName::try_from(config.host().to_owned())
        .map_err(|error| Failure::new(Phase::Tls, Cause::Tls(io::Error::other(error))))?;
    let limit = config.timeouts().tls();
    let started = clock.moment();
    let connecting = async {
        let connecting = TlsConnector::from(tls.clone()).connect(name, plain);
        let connected = endpoint.within(Phase::Tls, limit, deadline, connecting).await?;
        connected.map_err(|error| match error.kind() {
            // Not a word about what did not fit: the server went away, and may be back.
            io::ErrorKind::UnexpectedEof => Failure::new(Phase::Tls, Cause::Closed(Some(error))),
            _ => Failure::new(Phase::Tls, Cause::Tls(error)),
        })
    };
    let span = observe::connection::phase(Phase::Tls.name());
    let encrypted = span.note(span.run(connecting).await, Failure::name)?;
    endpoint.note(Phase::Tls, started);
    let session = encrypted.get_ref().1;
    observe::connection::encrypted(facts::tls_version(session));
    endpoint.observer.note(|facts| facts.tls = Some(TlsFacts::of(session)));
    Ok(Box::new(encrypted))
}
