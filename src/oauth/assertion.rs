//! Client assertions (RFC 7523 §2.2): a signed JWT, or a token from elsewhere, in place of a client secret. Sends nothing.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::certificate::ClientCertificate;
use crate::tls;
use crate::token::{TokenError, TokenErrorKind};

/// What Kubernetes' workload identity webhook sets to the path of the projected token.
const FEDERATED_TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// As long as MSAL's. An assertion is used once, within a request's deadline; the rest is for clocks that differ.
const LIFETIME: time::Duration = time::Duration::minutes(10);
/// Far above the size of any token, so that a wrong path does not fill a request.
const MOST_FILE_BYTES: u64 = 64 * 1024;

/// Proves to the token endpoint who the app is, without a secret that is sent (RFC 7523 §2.2, OpenID `private_key_jwt`).
///
/// A new assertion is made for each request. Clones share the key.
///
/// ```no_run
/// use smtp_oauth::oauth::{Client, ClientAssertion, ClientAuthentication, ClientCertificate};
///
/// let certificate = ClientCertificate::from_pem(std::fs::read("app.crt")?, std::fs::read("app.key")?)?;
/// let endpoint = url::Url::parse("https://login.example.com/token")?;
/// let client = Client::builder(endpoint, "client-id")
///     .authentication(ClientAuthentication::PrivateKeyJwt(ClientAssertion::certificate(certificate)))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientAssertion(Source);

#[derive(Clone)]
enum Source {
    Certificate(Arc<ClientCertificate>),
    Signer(Arc<dyn AssertionSigner>),
    File(Arc<Path>),
    Given(Arc<dyn Fn() -> AssertionFuture<'static, SecretString> + Send + Sync>),
}

/// What an assertion is made for.
pub(super) struct Audience<'a> {
    pub(super) token_endpoint: &'a str,
    pub(super) client_id: &'a str,
    pub(super) now: OffsetDateTime,
}

impl ClientAssertion {
    /// Signs with a certificate's private key (`PS256`, and `x5t#S256` to name the certificate).
    pub fn certificate(certificate: ClientCertificate) -> Self {
        Self(Source::Certificate(Arc::new(certificate)))
    }

    /// Signs with a key that this program cannot read, such as one in a KMS or an HSM.
    pub fn signer(signer: impl AssertionSigner + 'static) -> Self {
        Self(Source::Signer(Arc::new(signer)))
    }

    /// Takes the assertion from a file, which is read again for each request, because its writer replaces it.
    ///
    /// For workload identity federation: the file holds a token of another issuer that the app registration trusts.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into().into()))
    }

    /// Takes the assertion from the file that `AZURE_FEDERATED_TOKEN_FILE` names, as workload identity sets it.
    ///
    /// # Errors
    /// [`TokenErrorKind::Configuration`] when the variable is not set.
    pub fn workload_identity() -> Result<Self, TokenError> {
        match std::env::var_os(FEDERATED_TOKEN_FILE).filter(|path| !path.is_empty()) {
            Some(path) => Ok(Self::file(path)),
            None => {
                let message =
                    format!("{FEDERATED_TOKEN_FILE} is not set: workload identity is not set up here");
                Err(TokenError::new(TokenErrorKind::Configuration, message))
            }
        }
    }

    /// Takes the assertion from an async closure, such as one that asks another issuer for it.
    pub fn from_fn<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SecretString, TokenError>> + Send + 'static,
    {
        Self(Source::Given(Arc::new(move || AssertionFuture::new(fetch()))))
    }

    /// Returns when the certificate expires; `None` when there is none, or a signer keeps it.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        match &self.0 {
            Source::Certificate(certificate) => Some(certificate.expires_at()),
            Source::Signer(_) | Source::File(_) | Source::Given(_) => None,
        }
    }

    /// Makes an assertion for one request.
    pub(super) async fn assert(&self, audience: &Audience<'_>) -> Result<SecretString, TokenError> {
        let assertion = match &self.0 {
            Source::Certificate(certificate) => sign(&**certificate, audience).await?,
            Source::Signer(signer) => sign(&**signer, audience).await?,
            Source::File(path) => read(path.clone()).await?,
            Source::Given(fetch) => fetch().await?,
        };
        let is_jwt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let text = assertion.expose_secret();
        if text.split('.').count() == 3 && text.bytes().all(is_jwt) {
            return Ok(assertion);
        }
        Err(TokenError::new(TokenErrorKind::Configuration, format!("{} holds no JWT", self.name())))
    }

    fn name(&self) -> String {
        match &self.0 {
            Source::Certificate(_) | Source::Signer(_) => "the signed client assertion".to_owned(),
            Source::File(path) => format!("the federated token file {}", path.display()),
            Source::Given(_) => "the given client assertion".to_owned(),
        }
    }
}

impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Certificate(certificate) => certificate.fmt(f),
            Source::Signer(signer) => signer.fmt(f),
            Source::File(path) => write!(f, "File({})", path.display()),
            Source::Given(_) => f.write_str("Given"),
        }
    }
}

/// Signs client assertions with a key that stays where it is: a KMS, an HSM, an agent.
///
/// ```
/// use smtp_oauth::oauth::{AssertionFuture, AssertionKey, AssertionSigner};
///
/// #[derive(Debug)]
/// struct Vault { thumbprint: [u8; 32] }
///
/// impl AssertionSigner for Vault {
///     fn key(&self) -> AssertionKey {
///         AssertionKey::Certificate(self.thumbprint)
///     }
///
///     fn sign<'a>(&'a self, message: &'a [u8]) -> AssertionFuture<'a, Vec<u8>> {
///         AssertionFuture::new(async move { Ok(ask_the_vault(message).await) })
///     }
/// }
/// # async fn ask_the_vault(_message: &[u8]) -> Vec<u8> { Vec::new() }
/// ```
pub trait AssertionSigner: fmt::Debug + Send + Sync {
    /// Returns how the server finds the public key.
    fn key(&self) -> AssertionKey;

    /// Signs `message` with `PS256`: RSASSA-PSS, SHA-256, a salt of 32 bytes (RFC 7518 §3.5).
    ///
    /// # Errors
    /// A [`TokenError`]; [`TokenErrorKind::Unavailable`] when trying again later can help.
    fn sign<'a>(&'a self, message: &'a [u8]) -> AssertionFuture<'a, Vec<u8>>;
}

/// How the header of an assertion names the key (RFC 7515 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssertionKey {
    /// `x5t#S256`: the SHA-256 of the certificate in DER. What Entra asks for.
    Certificate([u8; 32]),
    /// `kid`: the id under which the key is registered with other servers.
    Id(String),
}

/// The future an [`AssertionSigner`] returns.
pub struct AssertionFuture<'a, T>(Pin<Box<dyn Future<Output = Result<T, TokenError>> + Send + 'a>>);

impl<'a, T> AssertionFuture<'a, T> {
    /// Wraps a future.
    pub fn new(future: impl Future<Output = Result<T, TokenError>> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for AssertionFuture<'_, T> {
    type Output = Result<T, TokenError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for AssertionFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssertionFuture")
    }
}

async fn sign(signer: &dyn AssertionSigner, audience: &Audience<'_>) -> Result<SecretString, TokenError> {
    let Audience { token_endpoint, client_id, now } = audience;
    let header = match signer.key() {
        AssertionKey::Certificate(thumbprint) => {
            json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": encode(&thumbprint) })
        }
        AssertionKey::Id(id) => json!({ "alg": "PS256", "typ": "JWT", "kid": id }),
    };
    let claims = json!({
        "aud": token_endpoint,
        "iss": client_id,
        "sub": client_id,
        "jti": unique_id()?,
        "nbf": now.unix_timestamp(),
        "iat": now.unix_timestamp(),
        "exp": (*now + LIFETIME).unix_timestamp(),
    });
    let text = |value: &Value| encode(value.to_string().as_bytes());
    let message = format!("{}.{}", text(&header), text(&claims));
    let signature = signer.sign(message.as_bytes()).await?;
    Ok(format!("{message}.{}", encode(&signature)).into())
}

/// RFC 7519 §4.1.7: the server refuses an assertion that it has seen before.
fn unique_id() -> Result<String, TokenError> {
    let failed = |message, error| TokenError::new(TokenErrorKind::Configuration, message).with_source(error);
    let provider = tls::provider().map_err(|error| failed("there is no cryptography to sign with", error))?;
    let mut id = [0; 16];
    provider.secure_random.fill(&mut id).map_err(|_| {
        TokenError::new(TokenErrorKind::Unavailable, "the operating system gave no random numbers")
    })?;
    Ok(encode(&id))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn read(path: Arc<Path>) -> Result<SecretString, TokenError> {
    use std::io::Read;

    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = zeroize::Zeroizing::new(String::new());
        std::fs::File::open(path)?.take(MOST_FILE_BYTES).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(SecretString::from(text.trim()))
    });
    let result = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    result.map_err(|error| {
        let message = format!("the federated token file {shown} cannot be read");
        TokenError::new(TokenErrorKind::Configuration, message).with_source(error)
    })
}
