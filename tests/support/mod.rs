//! What the tests share: a mailer that talks to a fake, and messages to send.
#![allow(dead_code, reason = "each test file is a crate of its own and uses its part")]

pub mod proxy;

use std::time::Duration;

use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{FakeExchange, IssuedTokens};
use smtp_oauth::{Authentication, Clock, MailServerConfig, Mailer, ServerBuilder, Tls, token};

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
    let config = settings(server).build().unwrap();
    Mailer::builder(config).authentication(issuing(server.tokens(), 1800)).clock(clock).build().unwrap()
}

pub fn message() -> Message {
    Message::builder()
        .from(ACCOUNT.parse().unwrap())
        .to("reader@example.com".parse().unwrap())
        .subject("Disk almost full")
        .body("The disk is almost full.\n.\nA line with a dot stands above.\n".to_owned())
        .unwrap()
}

pub fn envelope(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|recipient| recipient.parse().unwrap()).collect();
    Envelope::new(Some(ACCOUNT.parse().unwrap()), recipients).unwrap()
}
