//! Certificates for the fakes: one authority, and server certificates that are good or wrong in one known way (RFC 5280).

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::clock::Clock;

/// What is right or wrong with a server certificate of [`TestAuthority`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateKind {
    /// For `localhost` and `127.0.0.1`, valid from yesterday for thirty days. The default.
    #[default]
    Valid,
    /// For the same names, expired yesterday.
    Expired,
    /// Valid, but for `elsewhere.example`.
    WrongName,
}

/// A certificate authority that lives as long as one test.
///
/// Validity is counted from the real date even where a test moves its own clock, because rustls reads the system's.
///
/// ```
/// use smtp_oauth::testing::{CertificateKind, TestAuthority};
///
/// let authority = TestAuthority::new();
/// assert!(authority.root_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// let certificate = authority.issue(CertificateKind::Expired);
/// assert!(certificate.chain_pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// ```
pub struct TestAuthority {
    root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate and its private key, as PEM.
pub struct ServerCertificate {
    chain_pem: String,
    key_pem: String,
}

impl TestAuthority {
    /// Creates an authority with a new key.
    pub fn new() -> Self {
        let key = new_key();
        let mut params = validity(CertificateParams::default(), CertificateKind::Valid);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "smtp-oauth test authority");
        let root_pem = params.self_signed(&key).expect("the key signs").pem();
        Self { root_pem, issuer: Issuer::new(params, key) }
    }

    /// Returns the root certificate, for `TlsSettings::with_extra_roots`.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Issues a server certificate with a new key.
    pub fn issue(&self, kind: CertificateKind) -> ServerCertificate {
        let names: &[&str] = match kind {
            CertificateKind::Valid | CertificateKind::Expired => &["localhost", "127.0.0.1"],
            CertificateKind::WrongName => &["elsewhere.example"],
        };
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = new_key();
        let params = CertificateParams::new(names).expect("these are DNS names and addresses");
        let mut params = validity(params, kind);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority's key signs");
        ServerCertificate { chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// A certificate that an app signs in with, and its private key, as PEM.
pub struct AppCertificate {
    certificate_pem: String,
    key_pem: String,
}

impl AppCertificate {
    /// Makes a self-signed certificate with a new RSA key, as Entra accepts it.
    pub fn new(expires_at: OffsetDateTime) -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        Self::of_key(&key.expect("RSA is compiled in"), expires_at)
    }

    /// Makes one with an elliptic curve key, which Entra refuses.
    pub fn elliptic(expires_at: OffsetDateTime) -> Self {
        Self::of_key(&new_key(), expires_at)
    }

    fn of_key(key: &KeyPair, expires_at: OffsetDateTime) -> Self {
        let mut params = CertificateParams::default();
        params.not_before = expires_at - Duration::days(365);
        params.not_after = expires_at;
        params.distinguished_name.push(DnType::CommonName, "smtp-oauth test app");
        let certificate_pem = params.self_signed(key).expect("the key signs").pem();
        Self { certificate_pem, key_pem: key.serialize_pem() }
    }

    /// Returns the certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for AppCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate_pem, key_pem: _ } = self;
        f.debug_struct("AppCertificate").field("certificate_pem", certificate_pem).finish_non_exhaustive()
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root_pem: _, issuer: _ } = self;
        f.debug_struct("TestAuthority").finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Returns the certificate.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// Returns the private key.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .expect("the authority writes valid PEM")
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the authority writes valid PEM")
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain_pem, key_pem: _ } = self;
        f.debug_struct("ServerCertificate").field("chain_pem", chain_pem).finish_non_exhaustive()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("P-256 is compiled in")
}

fn validity(mut params: CertificateParams, kind: CertificateKind) -> CertificateParams {
    let now = Clock::system().now();
    (params.not_before, params.not_after) = match kind {
        CertificateKind::Expired => (now - Duration::days(30), now - Duration::days(1)),
        CertificateKind::Valid | CertificateKind::WrongName => {
            (now - Duration::days(1), now + Duration::days(30))
        }
    };
    params
}
