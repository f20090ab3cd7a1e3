//! A Redis server by its URL: reads the URL without showing it, and connects. Knows no key and no script.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult};
use rustls::crypto::CryptoProvider;
use secrecy::{ExposeSecret, SecretString};

use crate::tls::{self, TlsError};

#[derive(Clone)]
pub(crate) struct RedisServer {
    client: Client,
    address: String,
}

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisUrlError {
    // Its own error may quote the URL, password and all.
    #[error("the Redis URL cannot be read: it must look like rediss://user:password@host:port/0")]
    Malformed,
    #[error("there is no cryptography for TLS to Redis")]
    Cryptography(#[source] TlsError),
}

impl RedisServer {
    /// Reads `redis://` and `rediss://` (TLS); connects to nothing.
    pub(crate) fn open(url: &SecretString) -> Result<Self, RedisUrlError> {
        let info = url.expose_secret().into_connection_info().map_err(|_| RedisUrlError::Malformed)?;
        let address = info.addr().to_string();
        let client = Client::open(info).map_err(|_| RedisUrlError::Malformed)?;
        if url.expose_secret().starts_with("rediss:") {
            choose_cryptography().map_err(RedisUrlError::Cryptography)?;
        }
        Ok(Self { client, address })
    }

    /// Returns host and port, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connects; the caller has the deadline.
    pub(crate) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// The `redis` crate takes rustls' process-wide default, and panics when rustls cannot tell which that is.
fn choose_cryptography() -> Result<(), TlsError> {
    if CryptoProvider::get_default().is_none() {
        // Somebody else may have been quicker, which is as good.
        let _ = CryptoProvider::install_default((*tls::provider()?).clone());
    }
    Ok(())
}
