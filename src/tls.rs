//! One TLS configuration for the mail server and the token endpoint: roots, least version, cryptography. Opens no socket.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use rustls_platform_verifier::Verifier;

/// The oldest TLS version that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), the oldest that Exchange Online accepts. The default.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Returns the number as it is written in settings.
    pub fn number(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// Reads a version number; `None` for versions that are unknown or too old to be safe (RFC 8996).
    pub fn parse(number: &str) -> Option<Self> {
        [Self::Tls12, Self::Tls13].into_iter().find(|version| version.number() == number)
    }

    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Tls12 => &FROM_1_2,
            Self::Tls13 => FROM_1_2.split_at(1).0,
        }
    }
}

/// Which servers are trusted, and the oldest TLS version spoken with them.
///
/// Default: the operating system's roots, TLS 1.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    minimum_version: TlsVersion,
    extra_roots: Roots,
    platform_roots: PlatformRoots,
}

/// Whether the operating system's root certificates are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PlatformRoots {
    #[default]
    Trusted,
    Ignored,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Roots(Vec<CertificateDer<'static>>);

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.0.len())
    }
}

impl TlsSettings {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the oldest TLS version that is accepted. Default: TLS 1.2.
    #[must_use]
    pub fn with_minimum_version(mut self, version: TlsVersion) -> Self {
        self.minimum_version = version;
        self
    }

    /// Trusts the certificates in `pem` as well as the operating system's roots.
    ///
    /// # Errors
    /// [`TlsError`] when the text holds no certificate, or one that cannot be read.
    pub fn with_extra_roots(mut self, pem: &str) -> Result<Self, TlsError> {
        let mut found = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::new("the root certificates are not valid PEM", error))?;
        if found.is_empty() {
            return Err(TlsError::bare("the root certificates hold no `BEGIN CERTIFICATE` block"));
        }
        let mut store = RootCertStore::empty();
        for certificate in &found {
            store
                .add(certificate.clone())
                .map_err(|error| TlsError::new("a root certificate cannot be used", error))?;
        }
        self.extra_roots.0.append(&mut found);
        Ok(self)
    }

    /// Trusts only the extra roots, not the operating system's: for a server with a private certificate authority.
    #[must_use]
    pub fn without_platform_roots(mut self) -> Self {
        self.platform_roots = PlatformRoots::Ignored;
        self
    }

    /// Returns the oldest TLS version that is accepted.
    pub fn minimum_version(&self) -> TlsVersion {
        self.minimum_version
    }

    /// Builds the configuration that every connection of one mailer shares, so that sessions resume.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider()?;
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.minimum_version.supported())
            .map_err(|error| {
                TlsError::new("the TLS versions and the cryptography do not fit together", error)
            })?
            .dangerous() // The verifiers below check chain and name; rustls only offers this door for choosing one.
            .with_custom_certificate_verifier(self.verifier(provider)?)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let roots = self.extra_roots.0.clone();
        match self.platform_roots {
            PlatformRoots::Trusted => Verifier::new_with_extra_roots(roots, provider)
                .map(|verifier| Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
                .map_err(|error| {
                    TlsError::new("the operating system's root certificates cannot be loaded", error)
                }),
            PlatformRoots::Ignored => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots);
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
                    .build()
                    .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
                    .map_err(|error| TlsError::new("no root certificate is trusted", error))
            }
        }
    }
}

/// Picks the process's own choice first, then what this crate was compiled with.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>, TlsError> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Ok(installed.clone());
    }
    #[cfg(feature = "aws-lc-rs")]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    Err(TlsError::bare(
        "no cryptography was compiled in: enable feature `aws-lc-rs` or `ring`, or install a rustls CryptoProvider",
    ))
}

/// The TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TlsError {
    message: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TlsError {
    fn new(message: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { message, source: Some(Box::new(source)) }
    }

    fn bare(message: &'static str) -> Self {
        Self { message, source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_too_old_do_not_parse() {
        assert_eq!(TlsVersion::parse("1.2"), Some(TlsVersion::Tls12));
        assert_eq!(TlsVersion::parse("1.3"), Some(TlsVersion::Tls13));
        for number in ["1.0", "1.1", "1", "", "ssl3"] {
            assert_eq!(TlsVersion::parse(number), None, "{number}");
        }
    }

    #[test]
    fn text_without_a_certificate_is_no_root() {
        let error = TlsSettings::new().with_extra_roots("hello").unwrap_err();
        assert_eq!(error.to_string(), "the root certificates hold no `BEGIN CERTIFICATE` block");
    }
}
