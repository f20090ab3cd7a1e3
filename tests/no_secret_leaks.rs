//! No token, password or message gets into a log line, a `Debug`, a `Display` or an error's sources.

mod support;

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{
    Extensions, FakeEntra, FakeExchange, FakeExchangeBuilder, Fault, FaultPoint as At, ManualClock,
    TokenFault,
};
use smtp_oauth::{
    AccessToken, Authentication, Clock, Error, InitialResponse, Mailer, MemoryStore, Submission, Tls,
    TokenCache, TokenFuture, TokenProvider, TokenRequest,
};
use support::{ACCOUNT, HOUR, PASSWORD, envelope, settings};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const WRONG_PASSWORD: &str = "Tr0ub4dor-and-3-more-words";
const MARKER: &str = "Quarterly-figures-before-publication-7731";
/// Shorter runs of a secret are found by chance.
const RUN: usize = 12;

/// Writes down everything that any crate traces, at every level.
struct Capture;

static LOG: Mutex<String> = Mutex::new(String::new());

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let _ = write!(self.0, " {field}={}", chain(value));
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut log = LOG.lock().unwrap();
        log.push_str(span.metadata().name());
        span.record(&mut Fields(&mut log));
        log.push('\n');
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut LOG.lock().unwrap()));
    }

    fn event(&self, event: &Event<'_>) {
        let mut log = LOG.lock().unwrap();
        log.push_str(event.metadata().target());
        event.record(&mut Fields(&mut log));
        log.push('\n');
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn capture() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        tracing::subscriber::set_global_default(Capture).unwrap();
        tracing::info!("captured");
    });
}

/// Shows an error as logs do: every form of it, and of everything it was caused by.
fn chain(error: &dyn StdError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, " {error} {error:?} {error:#?}");
        source = error.source();
    }
    text
}

fn debug(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

/// The forms in which a secret travels: itself, and its base64 wherever it begins in what was encoded.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for skipped in 0..3 {
        let rest = &secret.as_bytes()[skipped..];
        forms.push(STANDARD_NO_PAD.encode(&rest[..rest.len() / 3 * 3]));
    }
    forms
}

#[track_caller]
fn assert_clean(text: &str, secrets: &[String], case: &str) {
    let runs: HashSet<&[u8]> = text.as_bytes().windows(RUN).collect();
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        let leaked = form.as_bytes().windows(RUN).find(|run| runs.contains(run));
        if let Some(leaked) = leaked.map(String::from_utf8_lossy) {
            let line = text.lines().find(|line| line.contains(&*leaked)).unwrap_or_default();
            panic!("{case}: {leaked} in {}", line.chars().take(2000).collect::<String>());
        }
    }
}

#[track_caller]
fn assert_log_is_clean(secrets: &[String], case: &str) {
    let log = LOG.lock().unwrap();
    assert!(log.contains("captured"), "the capture works");
    assert!(
        !cfg!(feature = "tracing") || log.contains("smtp_oauth::connection"),
        "and of this crate's events too"
    );
    assert_clean(&log, secrets, case);
}

/// Hands out tokens that the server knows, or one that it does not.
#[derive(Clone, Debug)]
struct Provider(AccessToken);

impl TokenProvider for Provider {
    fn token<'a>(&'a self, _request: TokenRequest<'a>) -> TokenFuture<'a> {
        TokenFuture::ready(Ok(self.0.clone()))
    }
}

async fn submit(mailer: &Mailer) -> Result<Submission, Error> {
    let text = format!("Subject: figures\r\n\r\n{MARKER}\r\n.\r\n{MARKER}\r\n");
    mailer.submit_raw(&envelope(&["reader@example.com"]), text.as_bytes()).await
}

/// Submits and returns everything the outcome shows; it must be a success or a failure as `good` says.
async fn shown(mailer: &Mailer, good: bool, case: &str) -> String {
    let outcome = submit(mailer).await;
    assert_eq!(outcome.is_ok(), good, "{case}: {outcome:?}");
    match outcome {
        Ok(submission) => debug(&submission),
        Err(error) => format!("{} {:?} {:?}", chain(&error), error.reply(), error.challenge()),
    }
}

/// A server, by the name of what it does, and whether it takes the message.
type Case = (&'static str, fn() -> FakeExchangeBuilder, bool);

fn offering(mechanisms: &str) -> FakeExchangeBuilder {
    FakeExchange::builder().extensions(Extensions::exchange_online().auth(mechanisms))
}

fn failing(at: At, fault: Fault) -> FakeExchangeBuilder {
    FakeExchange::builder().fault(at, fault.always())
}

const SERVERS: [Case; 12] = [
    ("good", FakeExchange::builder, true),
    ("OAUTHBEARER and PLAIN", || offering("OAUTHBEARER PLAIN"), true),
    ("refused", || failing(At::Auth, Fault::reply("535 5.7.3 Authentication unsuccessful")), false),
    ("policy", || failing(At::Auth, Fault::reply("535 5.7.139 Authentication unsuccessful")), false),
    ("challenge", || failing(At::Auth, Fault::error_challenge()), false),
    ("no mechanism", || offering("GSSAPI"), false),
    ("closed at AUTH", || failing(At::Auth, Fault::Close), false),
    ("garbage at AUTH", || failing(At::Auth, Fault::Garbage(b"\0\x01\r\n".to_vec())), false),
    ("refused sender", || failing(At::Mail, Fault::reply("550 5.7.60 no")), false),
    ("refused message", || failing(At::Body, Fault::reply("554 5.2.0 STOREDRV")), false),
    ("closed in the body", || failing(At::BodyStart, Fault::Close), false),
    ("closed at the verdict", || failing(At::Body, Fault::Close), false),
];

#[tokio::test]
async fn sessions_with_tokens_leave_no_trace_of_them() {
    capture();
    for (case, builder, good) in SERVERS {
        for length in [60, 1800] {
            for initial_response in [InitialResponse::WhenShort, InitialResponse::Always] {
                let server = builder().start().await;
                let token = server.tokens().issue_access_token(ACCOUNT, HOUR, length);
                let config = settings(&server).initial_response(initial_response).build().unwrap();
                let authentication = Authentication::oauth(Provider(token.clone()));
                let how = debug(&authentication);
                let builder =
                    Mailer::builder(config).retry(RetryPolicy::never()).authentication(authentication);
                let how = how + &debug(&builder);
                let mailer = builder.build().unwrap();
                let outcome = shown(&mailer, good, case).await;
                let secrets = [server.tokens().all(), vec![MARKER.to_owned()]].concat();
                assert_clean(&(how + &outcome + &debug(&mailer)), &secrets, case);
                assert_log_is_clean(&secrets, case);
            }
        }
    }
}

#[tokio::test]
async fn sessions_with_passwords_leave_no_trace_of_them() {
    capture();
    for (case, builder, good) in SERVERS {
        for password in [PASSWORD, WRONG_PASSWORD] {
            let server = builder().password(ACCOUNT, PASSWORD).start().await;
            let authentication = Authentication::basic(password);
            let how = debug(&authentication);
            let builder = Mailer::builder(settings(&server).build().unwrap())
                .retry(RetryPolicy::never())
                .authentication(authentication);
            let how = how + &debug(&builder);
            let mailer = builder.build().unwrap();
            let outcome = shown(&mailer, good && password == PASSWORD, case).await;
            let secrets = [password, MARKER].map(str::to_owned);
            assert_clean(&(how + &outcome + &debug(&mailer)), &secrets, case);
            assert_log_is_clean(&secrets, case);
        }
    }
}

#[tokio::test]
async fn a_server_that_repeats_a_secret_does_not_get_it_into_a_log() {
    capture();
    let token = "eyJ0eXAiOiJKV1QiLCJub25jZSI6Ik5fS3pY.c2VjcmV0LXBheWxvYWQtb2YtdGhlLXRva2Vu.U2lnbmF0dXJlLV9-";
    let bearer = AccessToken::new(token, Clock::system().now() + HOUR).unwrap();
    let oauth = STANDARD.encode(format!("user={ACCOUNT}\x01auth=Bearer {token}\x01\x01"));
    let basic = STANDARD.encode(PASSWORD);
    let cases = [
        (Authentication::oauth(Provider(bearer)), token, oauth),
        (Authentication::basic(PASSWORD), PASSWORD, basic),
    ];
    for (authentication, secret, line) in cases {
        let faults = [
            Fault::reply(format!("500 5.3.3 Unrecognized command 'AUTH XOAUTH2 {line}'")),
            Fault::reply(format!("500 5.3.3 Unrecognized command '{}...'", &line[..line.len() / 2 + 8])),
            Fault::reply(format!("535-5.7.8 No {secret}\n535 5.7.8 {line}")),
            Fault::Garbage(format!("{line}\r\n{secret}\r\n").into_bytes()),
            Fault::Inject(format!("250 {line} {secret}\r\n").into_bytes()),
            Fault::ErrorChallenge {
                json: format!("{{\"token\":\"{secret}\"}}"),
                reply: format!("535 5.7.8 {line}"),
            },
        ];
        for fault in faults {
            let case = format!("{fault:?}");
            let server = FakeExchange::builder().fault(At::Auth, fault.always()).start().await;
            let config = settings(&server).build().unwrap();
            let mailer = Mailer::builder(config)
                .retry(RetryPolicy::never())
                .authentication(authentication.clone())
                .build()
                .unwrap();
            let outcome = shown(&mailer, false, &case).await;
            let secrets = [secret, MARKER].map(str::to_owned);
            assert_clean(&outcome, &secrets, &case);
            assert_log_is_clean(&secrets, &case);
        }
    }
}

#[tokio::test]
async fn plaintext_on_loopback_is_logged_no_more_than_tls() {
    capture();
    let server = FakeExchange::builder().plaintext().password(ACCOUNT, PASSWORD).start().await;
    let config = settings(&server).tls(Tls::LoopbackPlaintext).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(Authentication::basic(PASSWORD))
        .build()
        .unwrap();
    let outcome = shown(&mailer, true, "plaintext").await;
    let secrets = [PASSWORD, MARKER].map(str::to_owned);
    assert_clean(&outcome, &secrets, "plaintext");
    assert_log_is_clean(&secrets, "plaintext");
}

/// What was sent to the fake under `names`.
fn sent(entra: &FakeEntra, names: &[&str]) -> Vec<String> {
    let received = entra.received();
    let values = received.iter().flat_map(|grant| names.iter().map(|name| grant.parameter(name).to_owned()));
    values.filter(|value| !value.is_empty()).collect()
}

#[tokio::test]
async fn sign_ins_leave_no_trace_of_codes_and_tokens() {
    capture();
    let faults = [
        None,
        Some(TokenFault::EchoesRequest),
        Some(TokenFault::LessScope),
        Some(TokenFault::OtherNonce),
        Some(TokenFault::MalformedJson),
        Some(TokenFault::TokenWithLineBreak),
    ];
    for fault in faults {
        let case = format!("{fault:?}");
        let manual = ManualClock::new();
        let entra =
            FakeEntra::builder().clock(manual.clock()).client_secret("Zq8~7hWn.Kx2Lr5Vt9").start().await;
        let app = entra.app().build().unwrap();
        let store = MemoryStore::new();

        let redirect = "https://app.contoso.com/signed-in".parse().unwrap();
        let sign_in = app.authorization_code(redirect);
        let pending = sign_in.start().unwrap();
        let callback = entra.approve(pending.url());
        fault.iter().for_each(|fault| entra.fail_next(1, fault.clone()));
        let by_browser = sign_in.finish(&pending, &callback, store.clone()).await;

        let mut sign_in_by_code = app.device_code().start().await.unwrap();
        entra.approve_device(sign_in_by_code.user_code());
        fault.iter().for_each(|fault| entra.fail_next(1, fault.clone()));
        let finished = sign_in_by_code.finish(store.clone());
        let by_code = manual.advance_until(std::time::Duration::from_secs(1), finished).await;
        fault.iter().for_each(|fault| entra.fail_next(1, fault.clone()));
        let as_app = app.client_credentials().token(TokenRequest::new()).await;

        let mut shown = debug(&(&app, &sign_in, &sign_in_by_code, &store));
        shown += &debug(&(&by_browser, &by_code, &as_app));
        for error in [by_browser.as_ref().err(), by_code.as_ref().err(), as_app.as_ref().err()] {
            shown += &error.map(|error| chain(error)).unwrap_or_default();
        }
        assert!(fault.is_some() || (by_browser.is_ok() && by_code.is_ok() && as_app.is_ok()), "{shown}");
        let log = LOG.lock().unwrap().clone();
        assert!(log.contains("hyper"), "the capture works");
        let text = shown + &debug(&pending) + &log;
        let secrets = [sent(&entra, &["client_secret", "code_verifier"]), entra.tokens().all()].concat();
        assert_clean(&text, &[secrets, entra.refresh_tokens()].concat(), &case);
        // The fake's codes are made of words, which others use too.
        let codes = sent(&entra, &["code", "device_code"]);
        assert!(codes.len() >= 2, "{case}");
        for code in codes.iter().flat_map(|code| forms(code)) {
            assert!(!text.contains(&code), "{case}: {code}");
        }
    }
}

#[test]
fn nothing_that_holds_a_token_shows_it() {
    let secret = "EwB-a-token-that-nobody-may-read-0123456789";
    let token =
        AccessToken::new(secret, Clock::system().now() + HOUR).unwrap().with_scopes(["SMTP.SendAsApp"]);
    let provider = Provider(token.clone());
    let cache = TokenCache::new(provider.clone());
    let invalid = AccessToken::new(format!("{secret}\r\n"), Clock::system().now()).unwrap_err();
    let shown = [
        debug(&token),
        debug(&TokenRequest::new().with_rejected(&token)),
        debug(&provider),
        debug(&cache),
        debug(&Authentication::oauth(cache.clone())),
        debug(&smtp_oauth::token::from_fn({
            let token = token.clone();
            move || std::future::ready(Ok(token.clone()))
        })),
        debug(&TokenFuture::ready(Ok(token.clone()))),
        debug(&Authentication::basic(secret)),
        chain(&invalid),
    ];
    assert_clean(&shown.concat(), &[secret.to_owned()], "Debug");
}

#[tokio::test]
async fn nothing_that_is_set_up_with_a_secret_shows_it() {
    use smtp_oauth::oauth::{Client, ClientAssertion, ClientAuthentication};

    let (secret, assertion) = ("Zq8~7hWn.Kx2Lr5Vt9", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2lnbmVk");
    let entra = FakeEntra::builder().client_secret(secret).start().await;
    let given = ClientAssertion::from_fn(move || std::future::ready(Ok(assertion.into())));
    let mut shown = String::new();
    for authentication in [
        ClientAuthentication::Post(secret.into()),
        ClientAuthentication::Basic(secret.into()),
        ClientAuthentication::PrivateKeyJwt(given),
    ] {
        shown += &debug(&authentication);
        let client =
            Client::builder(entra.token_endpoint(), entra.client_id()).authentication(authentication);
        shown += &debug(&client);
        let client = client.build().unwrap();
        shown += &debug(&client);
        shown += &debug(&client.refresh_token(entra.store(), ["scope"]));
    }
    assert!(shown.contains("Post([redacted])") && shown.contains("PrivateKeyJwt(Given)"), "{shown}");

    // A private key that was pasted along with a certificate.
    let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n";
    let server = FakeExchange::start().await;
    let builder = settings(&server).extra_roots(format!("{}{key}", server.root_pem()));
    shown += &debug(&builder);
    let config = settings(&server).build().unwrap();
    let mailer = Mailer::builder(config).authentication(Authentication::basic(PASSWORD)).build().unwrap();
    shown += &debug(&smtp_oauth::Diagnose::new(&mailer));
    #[cfg(feature = "blocking")]
    {
        shown += &debug(&smtp_oauth::blocking::Mailer::new(mailer.clone()).unwrap());
    }
    #[cfg(feature = "redis")]
    {
        let url = format!("redis://mailer:{PASSWORD}@127.0.0.1:6379/");
        let (limits, store) =
            (smtp_oauth::RedisLimits::open(url.as_str()), smtp_oauth::RedisStore::open(url.as_str(), "x"));
        shown += &debug(&(limits.unwrap(), store.unwrap()));
        assert!(shown.contains("127.0.0.1:6379"), "{shown}");
    }
    let body = key.lines().nth(1).unwrap();
    let secrets = [secret, assertion, PASSWORD, body, entra.refresh_token().as_str()].map(str::to_owned);
    assert_clean(&shown, &secrets, "Debug");
}

/// Shows that the search finds what it looks for: every form, at every alignment, whole or cut.
#[test]
fn a_leak_would_be_found() {
    let found = |text: String| {
        std::panic::catch_unwind(|| assert_clean(&text, &[MARKER.to_owned()], "a leak")).is_err()
    };
    for prefix in ["", "u", "us", "user=\x01"] {
        assert!(found(format!("AUTH {}", STANDARD.encode(format!("{prefix}{MARKER}\x01")))), "{prefix}");
    }
    assert!(found(format!("... {}", &MARKER[3..20])));
    assert!(!found("Quarterly reports".to_owned()));
}

#[tokio::test]
async fn a_server_that_echoes_the_secret_later_does_not_get_it_into_an_error_or_a_submission() {
    let server = FakeExchange::builder().password(ACCOUNT, PASSWORD).start().await;
    let token = server.tokens().issue_access_token(ACCOUNT, HOUR, 1800);
    let text = secrecy::ExposeSecret::expose_secret(token.secret()).to_owned();
    let line = STANDARD.encode(format!("user={ACCOUNT}\x01auth=Bearer {text}\x01\x01"));
    let oauth = Authentication::oauth(smtp_oauth::token::from_fn(move || {
        let token = token.clone();
        async move { Ok(token) }
    }));
    let echoes = [
        (oauth.clone(), text.clone()),
        (oauth.clone(), text[300..340].to_owned()),
        (oauth, line[1000..1060].to_owned()),
        (Authentication::basic(PASSWORD), PASSWORD.to_owned()),
    ];
    for (authentication, echo) in echoes {
        let config = settings(&server).build().unwrap();
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(authentication)
            .build()
            .unwrap();
        server.inject(At::Mail, Fault::reply(format!("550 5.7.1 no mail for {echo} here")));
        let error = mailer.submit(&support::message()).await.unwrap_err();
        assert!(!format!("{error:?} {error:#}").contains(&echo), "{error:?}");
        assert_eq!(error.reply().unwrap().text(), "5.7.1 no mail for [redacted] here");
        server.inject(At::Body, Fault::reply(format!("250 2.0.0 OK {echo}")));
        let submission = mailer.submit(&support::message()).await.unwrap();
        assert_eq!(submission.reply().text(), "2.0.0 OK [redacted]");
    }
}
