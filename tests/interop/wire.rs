//! A bare SMTP client: lines out, reply lines in. Knows nothing of our own client, so that the harness can be proved without it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Servers, Service};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to one of the services; replies are returned as their lines.
pub(crate) struct Wire {
    stream: BufReader<Box<dyn Stream>>,
}

impl Wire {
    /// Connects in the clear and returns the greeting too.
    pub(crate) async fn connect(servers: &Servers, service: Service) -> (Self, Vec<String>) {
        let tcp = TcpStream::connect(("127.0.0.1", servers.port(service))).await.expect("connection");
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        let mut wire = Self { stream: BufReader::new(Box::new(tcp)) };
        let greeting = wire.reply().await;
        (wire, greeting)
    }

    /// Connects, starts TLS and says EHLO; returns the reply to that EHLO too.
    pub(crate) async fn secure(servers: &Servers, service: Service) -> (Self, Vec<String>) {
        let (mut wire, _) = Self::connect(servers, service).await;
        wire.command("EHLO client.test").await;
        let reply = wire.command("STARTTLS").await;
        assert!(reply[0].starts_with("220 "), "{reply:?}");
        let tcp = wire.stream.into_inner();
        let name = ServerName::try_from("localhost").expect("server name");
        let tls = tls_connector(&servers.ca_pem()).connect(name, tcp).await.expect("TLS");
        let mut wire = Self { stream: BufReader::new(Box::new(tls)) };
        let ehlo = wire.command("EHLO client.test").await;
        (wire, ehlo)
    }

    /// Sends one line and reads the reply to it.
    pub(crate) async fn command(&mut self, line: &str) -> Vec<String> {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
        self.stream.flush().await.expect("write");
    }

    /// Reads one reply, as lines without their line ends.
    pub(crate) async fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.stream.read_line(&mut line).await.expect("reply");
            assert!(count > 0, "connection closed after {lines:?}");
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
            if !more {
                return lines;
            }
        }
    }
}

fn tls_connector(ca_pem: &str) -> tokio_rustls::TlsConnector {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).expect("PEM")).expect("CA certificate");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}
