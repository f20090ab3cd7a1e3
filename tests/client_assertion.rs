//! Certificates and federated tokens prove who an app is; the fake verifies every signature and claim.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use smtp_oauth::entra::AppBuilder;
use smtp_oauth::oauth::{
    self, AssertionFuture, AssertionKey, AssertionSigner, CertificateError, ClientAssertion,
    ClientAuthentication, ClientCertificate,
};
use smtp_oauth::testing::{AppCertificate, FakeEntra, ManualClock, TokenFault};
use smtp_oauth::{
    AccessToken, MemoryStore, TokenCache, TokenError, TokenErrorKind, TokenProvider, TokenRequest, entra,
};
use time::OffsetDateTime;
use time::macros::datetime;

const EXPIRES: OffsetDateTime = datetime!(2027-03-01 12:00 UTC);

fn pair() -> &'static AppCertificate {
    static PAIR: std::sync::OnceLock<AppCertificate> = std::sync::OnceLock::new();
    PAIR.get_or_init(|| AppCertificate::new(EXPIRES))
}

fn certificate() -> ClientCertificate {
    ClientCertificate::from_pem(pair().certificate_pem(), pair().key_pem()).unwrap()
}

async fn fake() -> (ManualClock, FakeEntra) {
    let manual = ManualClock::new();
    (manual.clone(), FakeEntra::builder().clock(manual.clock()).public_client().start().await)
}

fn cache(app: AppBuilder) -> TokenCache {
    app.build().unwrap().client_credentials()
}

async fn token(cache: &TokenCache) -> Result<AccessToken, TokenError> {
    cache.token(TokenRequest::new()).await
}

#[tokio::test]
async fn an_assertion_by_certificate_is_what_entra_documents() {
    let (manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    token(&cache(entra.app().client_certificate(certificate()))).await.unwrap();
    let received = entra.received();
    assert_eq!(received[0].parameter("client_secret"), "");
    assert_eq!(received[0].parameter("client_id"), entra.client_id());
    let parts: Vec<_> = received[0].parameter("client_assertion").split('.').collect();
    let json = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (json(parts[0]), json(parts[1]));
    let thumbprint = URL_SAFE_NO_PAD.encode(certificate().thumbprint());
    assert_eq!(header, serde_json::json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
    let now = manual.clock().now().unix_timestamp();
    assert_eq!(claims["aud"], entra.token_endpoint().as_str());
    assert_eq!((&claims["iss"], &claims["sub"]), (&entra.client_id().into(), &entra.client_id().into()));
    assert_eq!((claims["nbf"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 600)));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 22);
}

#[tokio::test]
async fn each_request_has_an_assertion_of_its_own() {
    let (manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let cache = cache(entra.app().client_certificate(certificate()));
    entra.fail_next(1, TokenFault::ServerError500);
    manual.advance_until(Duration::from_millis(100), token(&cache)).await.unwrap();
    let received = entra.received();
    assert_eq!(received.len(), 2);
    assert_ne!(received[0].parameter("client_assertion"), received[1].parameter("client_assertion"));
}

#[tokio::test]
async fn the_refresh_token_grant_is_signed_too() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let app = entra.app().client_certificate(certificate()).build().unwrap();
    token(&app.refresh_token(entra.store())).await.unwrap();
    let received = entra.received();
    assert_eq!(received[0].parameter("grant_type"), "refresh_token");
    assert!(!received[0].parameter("client_assertion").is_empty());
}

#[tokio::test]
async fn a_sign_in_with_a_code_is_signed_at_every_step() {
    let (manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let app = entra.app().client_certificate(certificate()).build().unwrap();
    let mut sign_in = app.device_code().start().await.unwrap();
    entra.approve_device(sign_in.user_code());
    let store = MemoryStore::new();
    manual.advance_until(Duration::from_secs(1), sign_in.finish(store.clone())).await.unwrap();
    let sign_in = app.authorization_code("https://app.contoso.com/signed-in".parse().unwrap());
    let pending = sign_in.start().unwrap();
    sign_in.finish(&pending, entra.approve(pending.url()), store.clone()).await.unwrap();
    let received = entra.received();
    let assertions: HashSet<_> = received.iter().map(|grant| grant.parameter("client_assertion")).collect();
    assert_eq!((received.len(), assertions.len()), (3, 3), "each has one of its own");
    assert!(
        !assertions.contains("") && received.iter().all(|grant| grant.parameter("client_secret").is_empty())
    );
}

#[tokio::test]
async fn an_assertion_that_is_repeated_is_removed_from_the_error() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let app = entra.app().client_certificate(certificate()).build().unwrap();
    entra.fail_next(1, TokenFault::EchoesRequest);
    let error = app.device_code().start().await.unwrap_err();
    let received = entra.received();
    let assertion = received[0].parameter("client_assertion");
    assert!(!assertion.is_empty() && !format!("{error:?}").contains(assertion), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_registered_is_refused() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(AppCertificate::new(EXPIRES).certificate_pem());
    let error = token(&cache(entra.app().client_certificate(certificate()))).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::ClientRefused);
    assert_eq!(error.to_string(), "token endpoint refused the client credentials grant (AADSTS700027)");
    assert!(entra::remedy(&error).unwrap().summary().contains("certificate"));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_refused() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let slow = ManualClock::starting_at(datetime!(2025-12-31 23:00 UTC));
    let error = token(&cache(entra.app().client_certificate(certificate()).clock(slow.clock()))).await;
    assert_eq!(error.unwrap_err().server_answer().codes, [700_024]);
}

/// Signs as the certificate does, or badly, or not at all.
#[derive(Debug)]
struct Kms {
    inner: ClientCertificate,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Good,
    Bad,
    Down,
}

impl AssertionSigner for Kms {
    fn key(&self) -> AssertionKey {
        self.inner.key()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> AssertionFuture<'a, Vec<u8>> {
        AssertionFuture::new(async move {
            match self.answer {
                Answer::Good => self.inner.sign(message).await,
                Answer::Bad => Ok(vec![7; 256]),
                Answer::Down => Err(TokenError::new(TokenErrorKind::Unavailable, "the KMS is down")),
            }
        })
    }
}

#[tokio::test]
async fn a_key_may_stay_in_a_kms() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let ask = async |answer| {
        let signer = Kms { inner: certificate(), answer };
        token(&cache(entra.app().client_assertion(ClientAssertion::signer(signer)))).await
    };
    ask(Answer::Good).await.unwrap();
    assert_eq!(ask(Answer::Bad).await.unwrap_err().server_answer().codes, [700_027]);
    let requests = entra.requests();
    let error = ask(Answer::Down).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (TokenErrorKind::Unavailable, "the KMS is down"));
    assert_eq!(entra.requests(), requests);
}

#[tokio::test]
async fn a_federated_token_is_read_again_for_each_request() {
    let (manual, entra) = fake().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let cache = cache(entra.app().federated_token_file(&path));
    let error = token(&cache).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    let expected = format!("the federated token file {} cannot be read", path.display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(entra.requests(), 0);
    for text in ["aaa.bbb.ccc", "ddd.eee.fff"] {
        manual.advance(Duration::from_secs(75 * 60));
        entra.distrust_federated_tokens();
        entra.trust_federated_token(text);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        token(&cache).await.unwrap();
        assert_eq!(entra.received().last().unwrap().parameter("client_assertion"), text);
    }
    manual.advance(Duration::from_secs(75 * 60));
    std::fs::write(&path, "no token at all").unwrap();
    let error = token(&cache).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the federated token file {} holds no JWT", path.display()));
}

#[tokio::test]
async fn a_token_given_from_outside_is_asked_for_each_time() {
    let (_manual, entra) = fake().await;
    entra.trust_federated_token("aaa.bbb.ccc");
    let assertion = ClientAssertion::from_fn(|| async { Ok(SecretString::from("aaa.bbb.ccc")) });
    token(&cache(entra.app().client_assertion(assertion))).await.unwrap();
}

#[tokio::test]
async fn an_assertion_that_the_server_repeats_is_not_shown() {
    let (_manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    entra.fail_next(1, TokenFault::EchoesRequest);
    let error = token(&cache(entra.app().client_certificate(certificate()))).await.unwrap_err();
    let received = entra.received();
    let assertion = received[0].parameter("client_assertion");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("client_assertion=[redacted]"), "{shown}");
    assert!(!shown.contains(assertion.rsplit_once('.').unwrap().1), "{shown}");
}

#[tokio::test]
async fn other_servers_know_the_key_by_an_id() {
    #[derive(Debug)]
    struct Named(ClientCertificate);
    impl AssertionSigner for Named {
        fn key(&self) -> AssertionKey {
            AssertionKey::Id("key-1".to_owned())
        }
        fn sign<'a>(&'a self, message: &'a [u8]) -> AssertionFuture<'a, Vec<u8>> {
            self.0.sign(message)
        }
    }
    let (manual, entra) = fake().await;
    entra.register_certificate(pair().certificate_pem());
    let assertion = ClientAssertion::signer(Named(certificate()));
    let client = oauth::Client::builder(entra.token_endpoint(), entra.client_id())
        .authentication(ClientAuthentication::PrivateKeyJwt(assertion))
        .clock(manual.clock())
        .build()
        .unwrap();
    // Entra itself does not know keys by id.
    let error = token(&client.client_credentials(["https://mail.example/.default"])).await.unwrap_err();
    assert_eq!(error.server_answer().codes, [700_027]);
    let header = entra.received()[0].parameter("client_assertion").split('.').next().unwrap().to_owned();
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header, serde_json::json!({"alg": "PS256", "typ": "JWT", "kid": "key-1"}));
}

#[test]
fn workload_identity_that_is_not_set_up_is_named() {
    let error = ClientAssertion::workload_identity().unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Configuration);
    let expected = "AZURE_FEDERATED_TOKEN_FILE is not set: workload identity is not set up here";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_cannot_sign_is_refused_with_the_way_out() {
    let refused = |certificate: &[u8], key: &[u8]| {
        ClientCertificate::from_pem(certificate, key).unwrap_err().to_string()
    };
    let (good, key) = (pair().certificate_pem().as_bytes(), pair().key_pem().as_bytes());
    let elliptic = AppCertificate::elliptic(EXPIRES);
    let other = AppCertificate::new(EXPIRES);
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHzBJ\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = pair()
        .key_pem()
        .replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n");
    let password =
        "the private key has a password: run `openssl pkey -in encrypted.key -out app.key` and give app.key";
    assert_eq!(refused(good, encrypted), password);
    assert_eq!(refused(good, old.as_bytes()), password);
    let not_pem = "this is not PEM but PKCS#12 or DER: run `openssl pkcs12 -in app.pfx -nodes -out app.pem` and give app.pem";
    assert_eq!(refused(b"\x30\x82\x0a\xff\x00", b"\x30\x82\x0a\xff\x00"), not_pem);
    let not_rsa = "the private key is no RSA key of at least 2048 bits, which is all that can sign `PS256`";
    assert_eq!(refused(elliptic.certificate_pem().as_bytes(), elliptic.key_pem().as_bytes()), not_rsa);
    assert_eq!(
        refused(good, other.key_pem().as_bytes()),
        "the private key does not belong to the certificate"
    );
    assert!(matches!(ClientCertificate::from_pem(key, key), Err(CertificateError::NoCertificate)));
    assert!(matches!(ClientCertificate::from_pem(good, good), Err(CertificateError::NoKey)));
    let damaged = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    assert!(matches!(ClientCertificate::from_pem(damaged, key), Err(CertificateError::Malformed)));
}

#[test]
fn a_certificate_is_read_for_its_expiry_and_hides_its_key() {
    assert_eq!(certificate().expires_at(), EXPIRES);
    // RFC 5280 §4.1.2.5: from 2050 on the date has another type.
    let far = AppCertificate::new(datetime!(2051-06-30 00:00 UTC));
    let far = ClientCertificate::from_pem(far.certificate_pem(), far.key_pem()).unwrap();
    assert_eq!(far.expires_at(), datetime!(2051-06-30 00:00 UTC));
    let shown = format!("{:?} {:?}", certificate(), ClientAssertion::certificate(certificate()));
    assert!(shown.contains("[redacted]"), "{shown}");
    let secret_line = pair().key_pem().lines().nth(3).unwrap();
    assert!(!shown.contains(secret_line));
}
