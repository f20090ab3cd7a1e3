//! The clients that are compared, each set up as its documents say and kept connected; the first message connects.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Tls, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use mail_send::smtp::message::{Address, Message};
use mail_send::{SmtpClient, SmtpClientBuilder};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use smtp_oauth::{
    AccessToken, Authentication, Chunking, Clock, InitialResponse, MailServerConfig, Mailer, token,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::load::{ACCOUNT, Load, token};
use crate::sink::{HOST, Sink};

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This crate, by BDAT.
    Chunking,
    /// This crate, by DATA.
    Data,
    /// lettre's pooled transport.
    Lettre,
    /// lettre's connection with `TCP_NODELAY`, and the NOOP that its pool says: lettre freed of its stall.
    LettreNoDelay,
    MailSend,
    /// No client at all: prepared octets, and a count of the lines that come back. What server and machine can do.
    Ceiling,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Chunking, Self::Data, Self::Lettre, Self::LettreNoDelay, Self::MailSend, Self::Ceiling];

    pub fn name(self) -> &'static str {
        match self {
            Self::Chunking => "smtp-oauth, CHUNKING",
            Self::Data => "smtp-oauth, DATA",
            Self::Lettre => "lettre",
            Self::LettreNoDelay => "lettre, NODELAY",
            Self::MailSend => "mail-send",
            Self::Ceiling => "canned octets",
        }
    }
}

/// Where to send, and whom to trust.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub root_pem: String,
}

impl Target {
    pub fn new(sink: &Sink, address: SocketAddr) -> Self {
        Self { address, root_pem: sink.root_pem().to_owned() }
    }

    /// Sets up this crate, with at most so many connections.
    ///
    /// # Errors
    /// The settings are refused, which they are not.
    pub fn mailer(&self, chunking: Chunking, connections: NonZeroU32) -> Result<Mailer, Failed> {
        let config = MailServerConfig::builder()
            .host(HOST)
            .port(self.address.port())
            .tls(smtp_oauth::Tls::StartTls)
            .username(ACCOUNT)
            .extra_roots(&self.root_pem)
            .without_platform_roots()
            .initial_response(InitialResponse::Always)
            .max_connections(connections)
            .chunking(chunking)
            .build()?;
        let provider = token::from_fn(|| async {
            AccessToken::new(token(), Clock::system().now() + Duration::from_secs(3600))
        });
        Ok(Mailer::builder(config).authentication(Authentication::oauth(provider)).build()?)
    }

    /// Sets up lettre's transport, whose pool keeps at most so many connections.
    ///
    /// # Errors
    /// The certificate is refused, which it is not.
    pub fn lettre(&self, connections: u32) -> Result<AsyncSmtpTransport<Tokio1Executor>, Failed> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(HOST)
            .port(self.address.port())
            .tls(Tls::Required(self.lettre_tls()?))
            .hello_name(hello_name())
            .credentials(lettre_credentials())
            .authentication(vec![Mechanism::Xoauth2])
            .pool_config(PoolConfig::new().max_size(connections));
        Ok(transport.build())
    }

    fn lettre_tls(&self) -> Result<TlsParameters, Failed> {
        let root = Certificate::from_pem(self.root_pem.as_bytes())?;
        let tls = TlsParameters::builder(HOST.to_owned())
            .add_root_certificate(root)
            .certificate_store(CertificateStore::None);
        Ok(tls.build_rustls()?)
    }

    async fn lettre_no_delay(&self, tls: TlsParameters) -> Result<AsyncSmtpConnection, Failed> {
        let tcp = TcpStream::connect((HOST, self.address.port())).await?;
        tcp.set_nodelay(true)?;
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(Box::new(tcp), &hello_name()).await?;
        connection.starttls(tls, &hello_name()).await?;
        connection.auth(&[Mechanism::Xoauth2], &lettre_credentials()).await?;
        Ok(connection)
    }

    /// Sets up mail-send.
    ///
    /// # Errors
    /// The certificate is refused, which it is not.
    pub fn mail_send(&self) -> Result<SmtpClientBuilder<String>, Failed> {
        let builder = SmtpClientBuilder::new_with_tls_connector(
            HOST.to_owned(),
            self.address.port(),
            self.connector()?,
        );
        let credentials = mail_send::Credentials::XOauth2 { username: ACCOUNT.to_owned(), secret: token() };
        Ok(builder.implicit_tls(false).helo_host("client.example").credentials(credentials))
    }

    fn connector(&self) -> Result<TlsConnector, Failed> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root_pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn hello_name() -> ClientId {
    ClientId::Domain("client.example".to_owned())
}

fn lettre_credentials() -> Credentials {
    Credentials::new(ACCOUNT.to_owned(), token())
}

/// A client that is ready to connect, or connected.
pub enum Client {
    Own(Mailer),
    Lettre(AsyncSmtpTransport<Tokio1Executor>),
    LettreNoDelay { target: Target, tls: TlsParameters, connection: Option<Box<AsyncSmtpConnection>> },
    MailSend { builder: Box<SmtpClientBuilder<String>>, connection: Option<Box<MailSend>> },
    Ceiling { target: Target, tls: TlsConnector, connection: Option<Box<Canned>> },
}

type MailSend = SmtpClient<TlsStream<TcpStream>>;

impl Client {
    /// Sets a client up; opens no connection.
    ///
    /// # Errors
    /// Its settings are refused, which they are not.
    pub fn new(kind: Kind, target: &Target) -> Result<Self, Failed> {
        Ok(match kind {
            Kind::Chunking => Self::Own(target.mailer(Chunking::Auto, NonZeroU32::MIN)?),
            Kind::Data => Self::Own(target.mailer(Chunking::Off, NonZeroU32::MIN)?),
            Kind::Lettre => Self::Lettre(target.lettre(1)?),
            Kind::LettreNoDelay => {
                Self::LettreNoDelay { target: target.clone(), tls: target.lettre_tls()?, connection: None }
            }
            Kind::MailSend => Self::MailSend { builder: Box::new(target.mail_send()?), connection: None },
            Kind::Ceiling => {
                Self::Ceiling { target: target.clone(), tls: target.connector()?, connection: None }
            }
        })
    }

    /// Sends one message, over a new connection if there is none yet.
    ///
    /// # Errors
    /// Whatever the client reports.
    pub async fn send(&mut self, load: &Load) -> Result<(), Failed> {
        match self {
            Self::Own(mailer) => drop(mailer.submit_raw(&load.envelope, &load.message).await?),
            Self::Lettre(transport) => drop(transport.send_raw(&load.envelope, &load.message).await?),
            Self::LettreNoDelay { target, tls, connection } => {
                let connection = match connection {
                    Some(connection) => {
                        if !connection.test_connected().await {
                            return Err("the connection is lost".into());
                        }
                        connection
                    }
                    None => connection.insert(Box::new(target.lettre_no_delay(tls.clone()).await?)),
                };
                connection.send(&load.envelope, &load.message).await?;
            }
            Self::MailSend { builder, connection } => {
                let connection = match connection {
                    Some(connection) => connection,
                    None => connection.insert(Box::new(builder.connect().await?)),
                };
                send_by_mail_send(connection, load).await?;
            }
            Self::Ceiling { target, tls, connection } => {
                let connection = match connection {
                    Some(connection) => connection,
                    None => connection.insert(Box::new(Canned::connect(target, tls).await?)),
                };
                connection.send(load).await?;
            }
        }
        Ok(())
    }
}

/// Sends one message by mail-send.
///
/// # Errors
/// Whatever mail-send reports.
pub async fn send_by_mail_send(connection: &mut MailSend, load: &Load) -> Result<(), Failed> {
    let address = |email: &'static str| Address { email: email.into(), ..Address::default() };
    let to = |email| Address { email: std::borrow::Cow::Borrowed(email), ..Address::default() };
    connection
        .send(Message {
            mail_from: address(ACCOUNT),
            rcpt_to: load.recipients.iter().map(|name| to(name.as_str())).collect(),
            body: load.message.as_slice().into(),
        })
        .await?;
    Ok(())
}

/// Prepared octets over a connection; knows of replies only how many lines they are.
pub struct Canned {
    stream: TlsStream<TcpStream>,
    flight: Vec<u8>,
    /// What `flight` was prepared for.
    of: (usize, usize),
}

impl Canned {
    async fn connect(target: &Target, tls: &TlsConnector) -> Result<Self, Failed> {
        let mut tcp = TcpStream::connect((HOST, target.address.port())).await?;
        tcp.set_nodelay(true)?;
        lines(&mut tcp, 1).await?;
        tcp.write_all(b"EHLO client.example\r\n").await?;
        lines(&mut tcp, 4).await?;
        tcp.write_all(b"STARTTLS\r\n").await?;
        lines(&mut tcp, 1).await?;
        let stream = tls.connect(ServerName::try_from(HOST)?, tcp).await?;
        Ok(Self { stream, flight: Vec::new(), of: (0, 0) })
    }

    async fn send(&mut self, load: &Load) -> Result<(), Failed> {
        let of = (load.recipients.len(), load.message.len());
        if self.of != of {
            self.of = of;
            self.flight = format!("MAIL FROM:<{ACCOUNT}>\r\n").into_bytes();
            for recipient in &load.recipients {
                self.flight.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
            }
            self.flight.extend_from_slice(format!("BDAT {} LAST\r\n", load.message.len()).as_bytes());
            self.flight.extend_from_slice(&load.message);
        }
        self.stream.write_all(&self.flight).await?;
        self.stream.flush().await?;
        lines(&mut self.stream, load.recipients.len() + 2).await
    }
}

async fn lines(stream: &mut (impl AsyncReadExt + Unpin), mut left: usize) -> Result<(), Failed> {
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err("the server has closed the connection".into());
        }
        left = left.saturating_sub(memchr::memchr_iter(b'\n', &buffer[..count]).count());
    }
    Ok(())
}
