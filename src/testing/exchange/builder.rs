//! How a fake server is set up before it starts. Opens no socket itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::testing::certificate::{CertificateKind, ServerCertificate, TestAuthority};
use crate::testing::tokens::IssuedTokens;

use super::FakeExchange;
use super::extensions::Extensions;
use super::fault::{Fault, FaultPoint, Script, ScriptedFault};
use super::listener::Listener;
use super::record::Record;
use super::session::{Security, Settings};

/// Sets up a [`FakeExchange`].
pub struct FakeExchangeBuilder {
    clock: Clock,
    tokens: Option<IssuedTokens>,
    passwords: HashMap<String, String>,
    extensions: Extensions,
    authority: Option<TestAuthority>,
    certificate: CertificateKind,
    mode: Mode,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    script: Script,
    command_line_limit: usize,
    auth_line_limit: usize,
    data_without_recipients: String,
    receive_buffer: Option<u32>,
    keeps: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    StartTls,
    Implicit,
    Plaintext,
}

impl FakeExchangeBuilder {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::system(),
            tokens: None,
            passwords: HashMap::new(),
            extensions: Extensions::exchange_online(),
            authority: None,
            certificate: CertificateKind::Valid,
            mode: Mode::StartTls,
            versions: vec![&TLS13, &TLS12],
            script: Script::default(),
            command_line_limit: 2048,
            auth_line_limit: 16 * 1024,
            data_without_recipients: "503 5.5.2 Need rcpt command".to_owned(),
            receive_buffer: None,
            keeps: true,
        }
    }

    /// Sets the clock that dates the greeting and, unless [`tokens`](Self::tokens) is set, lets tokens expire.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the register of tokens that are accepted. Default: an empty one; see [`FakeExchange::tokens`].
    #[must_use]
    pub fn tokens(mut self, tokens: IssuedTokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Lets `user` sign in with a password, by LOGIN or PLAIN.
    #[must_use]
    pub fn password(mut self, user: &str, password: &str) -> Self {
        self.passwords.insert(user.to_lowercase(), password.to_owned());
        self
    }

    /// Sets what EHLO offers. Default: what Exchange Online offers.
    #[must_use]
    pub fn extensions(mut self, extensions: Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// Sets who signs the server's certificate. Default: an authority of its own.
    #[must_use]
    pub fn authority(mut self, authority: TestAuthority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Sets what is right or wrong with the certificate. Default: nothing is wrong.
    #[must_use]
    pub fn certificate(mut self, kind: CertificateKind) -> Self {
        self.certificate = kind;
        self
    }

    /// Starts with the TLS handshake, as on port 465 (RFC 8314).
    #[must_use]
    pub fn implicit_tls(mut self) -> Self {
        self.mode = Mode::Implicit;
        self
    }

    /// Speaks no TLS at all, and offers AUTH all the same.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.mode = Mode::Plaintext;
        self
    }

    /// Speaks TLS 1.2 at most. Default: TLS 1.2 and 1.3.
    #[must_use]
    pub fn tls12_only(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// Sets the longest command line, with its CRLF, other than AUTH. Default: 2048 octets.
    #[must_use]
    pub fn command_line_limit(mut self, octets: usize) -> Self {
        self.command_line_limit = octets;
        self
    }

    /// Sets the longest AUTH line, with its CRLF; longer ones get a `500`. Default: 16 KiB. Postfix has 2048.
    #[must_use]
    pub fn auth_line_limit(mut self, octets: usize) -> Self {
        self.auth_line_limit = octets;
        self
    }

    /// Sets the reply to DATA when every recipient was refused. Default: `503`; RFC 2920 allows `354` and a later `554`.
    #[must_use]
    pub fn data_without_recipients(mut self, reply: &str) -> Self {
        reply.clone_into(&mut self.data_without_recipients);
        self
    }

    /// Sets the size of the kernel's receive buffer, so that [`Fault::StallReading`] holds up a client soon.
    #[must_use]
    pub fn receive_buffer(mut self, octets: u32) -> Self {
        self.receive_buffer = Some(octets);
        self
    }

    /// Counts messages instead of keeping them and their commands: for benchmarks.
    #[must_use]
    pub fn count_only(mut self) -> Self {
        self.keeps = false;
        self
    }

    /// Scripts a fault; a bare [`Fault`] strikes once.
    ///
    /// # Panics
    /// When the fault makes no sense at that point.
    #[must_use]
    pub fn fault(self, point: FaultPoint, fault: impl Into<ScriptedFault>) -> Self {
        self.script.arm(point, fault.into());
        self
    }

    /// Refuses a recipient with `reply`, every time.
    #[must_use]
    pub fn refuse_recipient(self, address: &str, reply: &str) -> Self {
        self.fault(FaultPoint::Rcpt, Fault::reply(reply).always().for_recipient(address))
    }

    /// Starts the server on a free port of 127.0.0.1; its tasks run in the current tokio runtime.
    ///
    /// # Panics
    /// When no port can be opened, or TLS is wanted and no cryptography was compiled in.
    pub async fn start(self) -> FakeExchange {
        let authority = self.authority.unwrap_or_default();
        let acceptor = || acceptor(&authority.issue(self.certificate), &self.versions);
        let security = match self.mode {
            Mode::StartTls => Security::StartTls(acceptor()),
            Mode::Implicit => Security::Implicit(acceptor()),
            Mode::Plaintext => Security::Plaintext,
        };
        let tokens = self.tokens.unwrap_or_else(|| IssuedTokens::new(self.clock.clone()));
        let settings = Arc::new(Settings {
            clock: self.clock,
            tokens,
            passwords: self.passwords,
            extensions: self.extensions,
            security,
            command_line_limit: self.command_line_limit,
            auth_line_limit: self.auth_line_limit,
            data_without_recipients: self.data_without_recipients,
        });
        let listener = Listener {
            settings: settings.clone(),
            script: Arc::new(self.script),
            record: Arc::new(Record::new(self.keeps)),
        };
        FakeExchange::open(listener, authority.root_pem().to_owned(), self.receive_buffer).await
    }
}

impl fmt::Debug for FakeExchangeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeExchangeBuilder")
            .field("extensions", &self.extensions)
            .field("certificate", &self.certificate)
            .field("mode", &self.mode)
            .field("script", &self.script)
            .finish_non_exhaustive()
    }
}

fn acceptor(
    certificate: &ServerCertificate,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsAcceptor {
    let provider = crate::tls::provider().expect("a fake with TLS needs feature `aws-lc-rs` or `ring`");
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the cryptography speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(certificate.chain(), certificate.key())
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}
