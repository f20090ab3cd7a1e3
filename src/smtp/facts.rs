//! What is learnt while a connection is opened: kept for a diagnosis, and free of cost for everybody else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConnection;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use super::capabilities::Capabilities;
use super::phase::Phase;

/// Everything learnt so far, also when the connection failed in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The phases that came to their end, with the time each took.
    pub(crate) phases: Vec<(Phase, Duration)>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Option<TlsFacts>,
    /// What the server offered last.
    pub(crate) offered: Option<Capabilities>,
}

#[derive(Clone, Debug)]
pub(crate) struct TlsFacts {
    pub(crate) version: &'static str,
    pub(crate) cipher_suite: String,
    /// The server's certificate first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// Where facts are written, if anybody wants them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observer(Option<Arc<Notebook>>);

#[derive(Debug, Default)]
struct Notebook {
    facts: Mutex<Facts>,
    written: Notify,
}

impl Observer {
    pub(crate) fn watching() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn note(&self, write: impl FnOnce(&mut Facts)) {
        if let Some(notebook) = &self.0 {
            write(&mut notebook.facts.lock().unwrap_or_else(PoisonError::into_inner));
            notebook.written.notify_one();
        }
    }

    /// Waits until something was noted since the last wait; for ever when nobody watches.
    pub(crate) async fn changed(&self) {
        match &self.0 {
            Some(notebook) => notebook.written.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Returns what was noted.
    pub(crate) fn facts(&self) -> Facts {
        let facts =
            self.0.as_ref().map(|notebook| notebook.facts.lock().unwrap_or_else(PoisonError::into_inner));
        facts.map(|facts| facts.clone()).unwrap_or_default()
    }
}

impl TlsFacts {
    pub(super) fn of(connection: &ClientConnection) -> Self {
        let cipher_suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let chain = connection.peer_certificates().unwrap_or_default();
        Self {
            version: tls_version(connection),
            cipher_suite: cipher_suite.unwrap_or_default(),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
        }
    }
}

pub(super) fn tls_version(connection: &ClientConnection) -> &'static str {
    use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
    match connection.protocol_version() {
        Some(TLSv1_3) => "TLS 1.3",
        Some(TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    }
}
