//! A client certificate with its RSA key, read from PEM (RFC 7468, RFC 5280): signs, and knows when it expires. Checks no chain.

use std::fmt;
use std::sync::Arc;

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, SliceReader, Tag, Tagged};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, SignatureScheme};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::assertion::{AssertionFuture, AssertionKey, AssertionSigner};
use crate::tls::{self, TlsError};
use crate::token::{TokenError, TokenErrorKind};

/// A certificate registered with the app, and its private key; redacted in `Debug`.
///
/// Entra accepts RSA keys only. To make a pair that lasts a year and upload `app.crt` under *Certificates & secrets*:
///
/// ```text
/// openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=mailer -keyout app.key -out app.crt
/// ```
///
/// A key with a password, or both in a PKCS#12 file (`.pfx`, `.p12`), is converted first:
///
/// ```text
/// openssl pkey -in encrypted.key -out app.key
/// openssl pkcs12 -in app.pfx -nodes -out app.pem        # then give app.pem for both
/// ```
#[derive(Clone)]
pub struct ClientCertificate {
    thumbprint: [u8; 32],
    expires_at: OffsetDateTime,
    key: Arc<dyn SigningKey>,
}

/// A certificate or its key cannot be used to sign in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The text has no certificate in it.
    #[error("there is no readable `BEGIN CERTIFICATE` block in the certificate's PEM text")]
    NoCertificate,
    /// The certificate is not one that can be read.
    #[error("the certificate is damaged")]
    Malformed,
    /// The text has no private key in it.
    #[error("there is no readable `BEGIN PRIVATE KEY` block in the key's PEM text")]
    NoKey,
    /// The key has a password.
    #[error(
        "the private key has a password: run `openssl pkey -in encrypted.key -out app.key` and give app.key"
    )]
    Encrypted,
    /// The file is PKCS#12, or DER.
    #[error(
        "this is not PEM but PKCS#12 or DER: run `openssl pkcs12 -in app.pfx -nodes -out app.pem` and give app.pem"
    )]
    NotPem,
    /// The key is not RSA, or the cryptography does not take it.
    #[error("the private key is no RSA key of at least 2048 bits, which is all that can sign `PS256`")]
    NotRsa,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// There is no cryptography to sign with.
    #[error("there is no cryptography to sign with")]
    Crypto(#[source] TlsError),
}

impl ClientCertificate {
    /// Reads a certificate and its private key, each from PEM text; further certificates of a chain are skipped.
    ///
    /// # Errors
    /// [`CertificateError`] when one of them cannot be used, with the command that converts it where there is one.
    pub fn from_pem(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, CertificateError> {
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        if !is_text(certificate) || !is_text(key) {
            return Err(CertificateError::NotPem);
        }
        let certificate =
            CertificateDer::from_pem_slice(certificate).map_err(|_| CertificateError::NoCertificate)?;
        let expires_at = not_after(&certificate).ok_or(CertificateError::Malformed)?;
        let thumbprint = Sha256::digest(&certificate).into();
        let key = signing_key(key)?;
        match CertifiedKey::new(vec![certificate], key.clone()).keys_match() {
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(CertificateError::Mismatch)
            }
            // A provider that cannot tell leaves it to the server.
            Ok(()) | Err(rustls::Error::InconsistentKeys(_)) => Ok(Self { thumbprint, expires_at, key }),
            Err(_) => Err(CertificateError::Malformed),
        }
    }

    /// Returns when the certificate expires.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// Returns the SHA-256 of the certificate in DER: the thumbprint that `openssl x509 -fingerprint -sha256` shows.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }
}

impl AssertionSigner for ClientCertificate {
    fn key(&self) -> AssertionKey {
        AssertionKey::Certificate(self.thumbprint)
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> AssertionFuture<'a, Vec<u8>> {
        let failed = |error| {
            let message = "the client assertion could not be signed";
            TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
        };
        AssertionFuture::new(async move {
            let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]);
            signer
                .ok_or_else(|| failed(CertificateError::NotRsa.to_string().into()))?
                .sign(message)
                .map_err(|error| failed(Box::<dyn std::error::Error + Send + Sync>::from(error.to_string())))
        })
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thumbprint, expires_at, key: _ } = self;
        let thumbprint: String = thumbprint.iter().map(|byte| format!("{byte:02x}")).collect();
        f.debug_struct("ClientCertificate")
            .field("thumbprint", &thumbprint)
            .field("expires_at", expires_at)
            .field("key", &"[redacted]")
            .finish()
    }
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, CertificateError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| missing_key(pem));
    let provider = tls::provider().map_err(CertificateError::Crypto)?;
    let key = match key {
        // The old format has its password in the block's headers, so the block reads as a key.
        Ok(_) if is_encrypted(pem) => return Err(CertificateError::Encrypted),
        Ok(key) => provider.key_provider.load_private_key(key).map_err(|_| CertificateError::NotRsa)?,
        Err(error) => return Err(error),
    };
    match key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]) {
        Some(_) => Ok(key),
        None => Err(CertificateError::NotRsa),
    }
}

fn missing_key(pem: &[u8]) -> CertificateError {
    if is_encrypted(pem) { CertificateError::Encrypted } else { CertificateError::NoKey }
}

fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).lines().any(|line| {
        line.contains("BEGIN ENCRYPTED PRIVATE KEY") || line.starts_with("Proc-Type: 4,ENCRYPTED")
    })
}

/// DER, which PKCS#12 is too, begins with a SEQUENCE and is no text.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0)
}

/// RFC 5280 §4.1: certificate → tbsCertificate → version?, serialNumber, signature, issuer, validity → notAfter.
pub(crate) fn not_after(certificate: &[u8]) -> Option<OffsetDateTime> {
    let certificate = AnyRef::from_der(certificate).ok()?;
    let mut fields = inside(certificate)?;
    let mut fields = inside(AnyRef::decode(&mut fields).ok()?)?;
    let mut next = || AnyRef::decode(&mut fields).ok();
    let first = next()?;
    if first.tag() != Tag::Integer {
        next()?; // The first was the version, which a certificate of version 1 leaves out.
    }
    let (_signature, _issuer, validity) = (next()?, next()?, next()?);
    let mut dates = inside(validity)?;
    let _not_before = AnyRef::decode(&mut dates).ok()?;
    let date = AnyRef::decode(&mut dates).ok()?;
    let since_epoch = match date.tag() {
        Tag::UtcTime => date.decode_as::<UtcTime>().ok()?.to_unix_duration(),
        _ => date.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
    };
    OffsetDateTime::UNIX_EPOCH.checked_add(time::Duration::try_from(since_epoch).ok()?)
}

fn inside(sequence: AnyRef<'_>) -> Option<SliceReader<'_>> {
    (sequence.tag() == Tag::Sequence).then(|| SliceReader::new(sequence.value()).ok()).flatten()
}
