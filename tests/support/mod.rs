//! What the tests share: a mailer that talks to a fake, and messages to send.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

pub mod closed_port;
pub mod proxy;
pub mod settle;
pub mod stream;

use std::time::{Duration, UNIX_EPOCH};

use smtp_oauth::RetryPolicy;
use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{FakeExchange, FaultPoint as At, IssuedTokens};
use smtp_oauth::{
    Authentication, Chunking, Clock, Disposition, Error, ErrorKind, MailServerConfig, Mailer, Phase,
    ServerBuilder, Tls, token,
};

pub const ACCOUNT: &str = "svc-mail@contoso.com";
pub const PASSWORD: &str = "correct-horse-battery-staple";
pub const HOUR: Duration = Duration::from_secs(3600);

/// Settings for a fake, open for more.
pub fn settings(server: &FakeExchange) -> ServerBuilder<MailServerConfig> {
    MailServerConfig::builder()
        .host(server.host())
        .port(server.port())
        .tls(Tls::StartTls)
        .username(ACCOUNT)
        .sender("Contoso alerts <svc-mail@contoso.com>")
        .test_recipient("admin@contoso.com")
        .extra_roots(server.root_pem())
        .without_platform_roots()
}

/// Issues a token for the account whenever it is asked.
pub fn issuing(tokens: &IssuedTokens, length: usize) -> Authentication {
    let tokens = tokens.clone();
    Authentication::oauth(token::from_fn(move || {
        let tokens = tokens.clone();
        async move { Ok(tokens.issue_access_token(ACCOUNT, HOUR, length)) }
    }))
}

/// A mailer that signs in to the fake with tokens that the fake knows.
pub fn mailer(server: &FakeExchange) -> Mailer {
    mailer_with(server, Clock::system())
}

pub fn mailer_with(server: &FakeExchange, clock: Clock) -> Mailer {
    build(settings(server).build().unwrap(), server, clock)
}

/// Settings that send by DATA, as the profile of Exchange Online does: the server answers before it has the message.
pub fn data_settings(server: &FakeExchange) -> ServerBuilder<MailServerConfig> {
    settings(server).chunking(Chunking::Off)
}

pub fn data_mailer(server: &FakeExchange) -> Mailer {
    data_mailer_with(server, Clock::system())
}

pub fn data_mailer_with(server: &FakeExchange, clock: Clock) -> Mailer {
    build(data_settings(server).build().unwrap(), server, clock)
}

fn build(config: MailServerConfig, server: &FakeExchange, clock: Clock) -> Mailer {
    let builder = Mailer::builder(config).retry(RetryPolicy::never());
    builder.authentication(issuing(server.tokens(), 1800)).clock(clock).build().unwrap()
}

pub fn message() -> Message {
    Message::builder()
        .from(ACCOUNT.parse().unwrap())
        .to("reader@example.com".parse().unwrap())
        .subject("Disk almost full")
        // Two messages of one test are the same even when a second goes by between them.
        .date(UNIX_EPOCH + 400_000 * HOUR)
        .body("The disk is almost full.\n.\nA line with a dot stands above.\n".to_owned())
        .unwrap()
}

pub fn envelope(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|recipient| recipient.parse().unwrap()).collect();
    Envelope::new(Some(ACCOUNT.parse().unwrap()), recipients).unwrap()
}

/// What a failure must say: its kind, its phase, whose move it is, and the line the user reads.
pub type Expected<'a> = (ErrorKind, Phase, Disposition, &'a str);

pub const RETRY: Disposition = Disposition::Retry { after: None };

/// Where a server can go wrong before and after TLS, and what the client calls that stretch.
pub const PHASES: [(At, Phase); 9] = [
    (At::Greeting, Phase::Greeting),
    (At::Ehlo, Phase::Ehlo),
    (At::StartTls, Phase::StartTls),
    (At::EhloAfterTls, Phase::Ehlo),
    (At::Auth, Phase::Auth),
    (At::Mail, Phase::Mail),
    (At::Rcpt, Phase::Rcpt),
    (At::Data, Phase::Data),
    (At::Body, Phase::FinalReply),
];

/// Asserts a failure that, in the phase of the verdict, leaves open whether the message was accepted.
#[track_caller]
pub fn assert_failure_or_unknown(error: &Error, expected: Expected<'_>, case: &str) {
    let (_, phase, _, text) = expected;
    if phase != Phase::FinalReply {
        return assert_failure(error, expected, case);
    }
    let text = format!("the message was sent and its acceptance is unknown: {text}");
    assert_failure(error, (ErrorKind::Indeterminate, phase, Disposition::Indeterminate, &text), case);
}

#[track_caller]
pub fn assert_failure(error: &Error, expected: Expected<'_>, case: &str) {
    let found = (error.kind(), error.phase(), error.disposition(), error.to_string());
    let (kind, phase, disposition, text) = expected;
    assert_eq!(found, (kind, phase, disposition, text.to_owned()), "{case}: {error:?}");
}
