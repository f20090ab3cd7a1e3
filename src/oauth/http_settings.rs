//! How requests to an authorization server are made, as three builders collect it. Sends none.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::client::ClientError;
use super::http::HttpClient;
use crate::clock::Clock;
use crate::tls::TlsSettings;

/// The HTTP client, or what the default one is made of; and the time that requests may take.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    /// `None` for the default client.
    pub(crate) client: Option<Arc<dyn HttpClient>>,
    pub(crate) tls: TlsSettings,
    pub(crate) clock: Clock,
    pub(crate) deadline: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            client: None,
            tls: TlsSettings::default(),
            clock: Clock::system(),
            deadline: Duration::from_secs(30),
        }
    }
}

impl HttpSettings {
    /// Returns the client for `endpoint`; the default one reaches a loopback endpoint without the system's proxy.
    pub(super) fn client_for(&self, endpoint: &Url) -> Result<Arc<dyn HttpClient>, ClientError> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => default_client(&self.tls, endpoint),
        }
    }
}

#[cfg(feature = "reqwest")]
fn default_client(tls: &TlsSettings, endpoint: &Url) -> Result<Arc<dyn HttpClient>, ClientError> {
    use super::client::is_loopback;
    use super::transport::{Route, Transport};

    let route = if is_loopback(endpoint) { Route::Direct } else { Route::System };
    match Transport::new(tls, route) {
        Ok(transport) => Ok(Arc::new(transport)),
        Err(error) => Err(ClientError::Http(Box::new(error))),
    }
}

#[cfg(not(feature = "reqwest"))]
fn default_client(_tls: &TlsSettings, _endpoint: &Url) -> Result<Arc<dyn HttpClient>, ClientError> {
    Err(ClientError::NoHttpClient)
}
