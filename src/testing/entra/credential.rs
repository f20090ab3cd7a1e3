//! How the fake of Entra judges an app's credential: secret, certificate or federated token. Issues nothing.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::answer;
use super::endpoint::ReceivedGrant;
use crate::tls;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Entra accepts assertions of up to a day; this crate promises ten minutes.
const LONGEST_LIFE: i64 = 10 * 60;

/// What an app registration accepts as proof.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) secret: Option<String>,
    pub(super) secret_expired: bool,
    certificates: Vec<CertificateDer<'static>>,
    pub(super) federated_tokens: Vec<String>,
    seen: HashSet<String>,
}

/// What an assertion is held against.
pub(super) struct Expected<'a> {
    pub(super) client_id: &'a str,
    pub(super) audience: &'a str,
    pub(super) now: OffsetDateTime,
}

impl Credentials {
    pub(super) fn of_secret(secret: Option<String>) -> Self {
        Self { secret, ..Self::default() }
    }

    pub(super) fn register(&mut self, certificate_pem: &str) {
        let certificate =
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("a certificate in PEM");
        self.certificates.push(certificate);
    }

    /// Checks what Entra checks; an AADSTS code is a refusal.
    pub(super) fn judge(&mut self, grant: &ReceivedGrant, expected: &Expected<'_>) -> Result<(), u32> {
        let basic = grant.authorization.as_deref().and_then(answer::read_basic);
        let (id, secret) = basic.unwrap_or_else(|| {
            (grant.parameter("client_id").to_owned(), grant.parameter("client_secret").to_owned())
        });
        if id != expected.client_id {
            return Err(700_016);
        }
        let assertion = grant.parameter("client_assertion");
        match &self.secret {
            _ if !assertion.is_empty() => self.judge_assertion(grant, assertion, expected),
            Some(_) if secret.is_empty() => Err(7_000_218),
            Some(known) if *known != secret => Err(7_000_215),
            Some(_) if self.secret_expired => Err(7_000_222),
            None if !secret.is_empty() => Err(700_025),
            None if !self.is_public() => Err(7_000_218),
            _ => Ok(()),
        }
    }

    pub(super) fn is_public(&self) -> bool {
        self.secret.is_none() && self.certificates.is_empty() && self.federated_tokens.is_empty()
    }

    fn judge_assertion(
        &mut self,
        grant: &ReceivedGrant,
        assertion: &str,
        expected: &Expected<'_>,
    ) -> Result<(), u32> {
        if grant.parameter("client_assertion_type") != ASSERTION_TYPE || self.is_public() {
            return Err(if self.is_public() { 700_025 } else { 900_144 });
        }
        if self.federated_tokens.iter().any(|token| token == assertion) {
            return Ok(());
        }
        let (message, signature) = assertion.rsplit_once('.').ok_or(50_027_u32)?;
        let (header, claims) = message.split_once('.').ok_or(50_027_u32)?;
        let (header, claims) = (json(header).ok_or(50_027_u32)?, json(claims).ok_or(50_027_u32)?);
        self.verify(&header, message, &decode(signature).ok_or(50_027_u32)?)?;
        self.judge_claims(&claims, expected)
    }

    fn verify(&self, header: &Value, message: &str, signature: &[u8]) -> Result<(), u32> {
        let thumbprint = header["x5t#S256"].as_str().and_then(decode).unwrap_or_default();
        let named = |known: &&CertificateDer<'_>| Sha256::digest(known).as_slice() == thumbprint;
        let certificate = self.certificates.iter().find(named).ok_or(700_027_u32)?;
        if header["alg"] != "PS256" || header["typ"] != "JWT" {
            return Err(50_027);
        }
        let provider = tls::provider().expect("the tests have cryptography");
        let known = provider.signature_verification_algorithms.mapping;
        let (_, algorithms) = known
            .iter()
            .find(|(scheme, _)| *scheme == SignatureScheme::RSA_PSS_SHA256)
            .expect("every provider verifies RSA-PSS");
        let public = webpki::EndEntityCert::try_from(certificate).expect("checked when it was registered");
        let verified = algorithms
            .iter()
            .any(|algorithm| public.verify_signature(*algorithm, message.as_bytes(), signature).is_ok());
        if verified { Ok(()) } else { Err(700_027) }
    }

    fn judge_claims(&mut self, claims: &Value, expected: &Expected<'_>) -> Result<(), u32> {
        let Expected { client_id, audience, now } = expected;
        if claims["iss"] != *client_id || claims["sub"] != *client_id || claims["aud"] != *audience {
            return Err(50_027);
        }
        let time = |name: &str| claims[name].as_i64().ok_or(50_027_u32);
        let (not_before, expires) = (time("nbf")?, time("exp")?);
        let now = now.unix_timestamp();
        if now < not_before || now >= expires || expires - not_before > LONGEST_LIFE {
            return Err(700_024);
        }
        match claims["jti"].as_str() {
            Some(id) if self.seen.insert(id.to_owned()) => Ok(()),
            _ => Err(50_013),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_slice(&decode(text)?).ok()
}
