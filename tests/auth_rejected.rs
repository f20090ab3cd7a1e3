//! A refused sign-in: the token is replaced once where that can help, a password never tried twice, the reasons kept.

mod support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{Extensions, FakeExchange, Fault, FaultPoint as At, ManualClock};
use smtp_oauth::{
    AccessToken, Authentication, Clock, Disposition, Error, ErrorKind, InitialResponse, Mailer, Phase,
    TokenFuture, TokenProvider, TokenRequest,
};
use support::{ACCOUNT, HOUR, PASSWORD, RETRY, assert_failure, message, settings};

const FIX: Disposition = Disposition::FixConfiguration;
const REFUSED: &str = "the mail server refused the sign-in (535 5.7.3)";
const BARE: &str = "535 5.7.3 Authentication unsuccessful [SY5P282CA0097.AUSP282.PROD.OUTLOOK.COM]";

/// Returns its tokens in order, the last one for ever, and remembers what it was told about refused ones.
#[derive(Clone, Debug, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    tokens: VecDeque<AccessToken>,
    rejected: Vec<Option<AccessToken>>,
}

impl Scripted {
    fn new(tokens: impl IntoIterator<Item = AccessToken>) -> Self {
        let tokens = tokens.into_iter().collect();
        Self(Arc::new(Mutex::new(Script { tokens, rejected: Vec::new() })))
    }

    /// Returns, for each call so far, the token that the caller said was refused.
    fn calls(&self) -> Vec<Option<AccessToken>> {
        self.0.lock().unwrap().rejected.clone()
    }
}

impl TokenProvider for Scripted {
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> TokenFuture<'a> {
        let mut script = self.0.lock().unwrap();
        script.rejected.push(request.rejected().cloned());
        let token = match script.tokens.len() {
            1 => script.tokens[0].clone(),
            _ => script.tokens.pop_front().unwrap(),
        };
        TokenFuture::ready(Ok(token))
    }
}

fn good(server: &FakeExchange) -> AccessToken {
    server.tokens().issue_access_token(ACCOUNT, HOUR, 1800)
}

/// A token that the server does not know, and that looks valid for an hour.
fn unknown(text: &str) -> AccessToken {
    AccessToken::new(text, Clock::system().now() + HOUR).unwrap()
}

fn mailer(server: &FakeExchange, provider: &Scripted) -> Mailer {
    let config = settings(server).build().unwrap();
    Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(Authentication::oauth(provider.clone()))
        .build()
        .unwrap()
}

async fn failure(mailer: &Mailer) -> Error {
    mailer.submit(&message()).await.unwrap_err()
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_on_a_new_connection_and_the_message_goes_out() {
    let server = FakeExchange::start().await;
    let revoked = unknown("revoked-token");
    let provider = Scripted::new([revoked.clone(), good(&server)]);
    let mailer = mailer(&server, &provider);
    mailer.submit(&message()).await.unwrap();
    let calls = provider.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[0].is_none());
    assert!(calls[1].as_ref().unwrap().is_same(&revoked));
    let attempts: Vec<_> = server.auth_attempts().iter().map(|at| (at.connection, at.accepted)).collect();
    assert_eq!(attempts, [(1, false), (2, true)]);
    assert_eq!((server.message_count(), server.messages()[0].connection), (1, 2));

    mailer.submit(&message()).await.unwrap();
    assert_eq!((provider.calls().len(), server.connections().total), (2, 2), "and is used from then on");
}

#[tokio::test]
async fn a_replacement_that_is_refused_too_is_the_last_try() {
    let server = FakeExchange::start().await;
    let provider = Scripted::new([unknown("first-token"), unknown("second-token"), good(&server)]);
    let error = failure(&mailer(&server, &provider)).await;
    assert_failure(&error, (ErrorKind::AuthenticationRefused, Phase::Auth, FIX, REFUSED), "twice");
    assert!(error.reply().unwrap().text().starts_with("5.7.3 Authentication unsuccessful ["));
    assert_eq!((server.auth_attempts().len(), provider.calls().len()), (2, 2));
    assert_eq!((server.connections().total, server.message_count()), (2, 0));
}

#[tokio::test]
async fn a_provider_without_another_token_is_asked_once_and_no_connection_opened_for_the_same_one() {
    let server = FakeExchange::start().await;
    let provider = Scripted::new([unknown("the-only-token")]);
    let error = failure(&mailer(&server, &provider)).await;
    assert_failure(&error, (ErrorKind::AuthenticationRefused, Phase::Auth, FIX, REFUSED), "same token");
    assert_eq!(error.reply().unwrap().code(), 535);
    assert_eq!((server.auth_attempts().len(), provider.calls().len()), (1, 2));
    assert_eq!(server.connections().total, 1);
}

#[tokio::test]
async fn refusals_that_another_token_cannot_mend_are_final() {
    let cases = [
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. [X]",
            (
                ErrorKind::AuthenticationRefused,
                Phase::Auth,
                FIX,
                "the mail server refused the sign-in (535 5.7.139)",
            ),
        ),
        (
            "454 4.7.0 Temporary authentication failure",
            (
                ErrorKind::ServerUnavailable,
                Phase::Auth,
                RETRY,
                "the mail server cannot sign anybody in at the moment (454 4.7.0)",
            ),
        ),
        (
            "421 4.7.0 Too many errors",
            (
                ErrorKind::ServerUnavailable,
                Phase::Auth,
                RETRY,
                "the mail server cannot sign anybody in at the moment (421 4.7.0)",
            ),
        ),
        (
            "534 5.7.9 Please log in with your web browser",
            (
                ErrorKind::AuthenticationRefused,
                Phase::Auth,
                FIX,
                "the mail server refused the sign-in (534 5.7.9)",
            ),
        ),
        (
            "504 5.7.4 Unrecognized authentication type",
            (
                ErrorKind::AuthenticationRefused,
                Phase::Auth,
                FIX,
                "the mail server refused the sign-in (504 5.7.4)",
            ),
        ),
    ];
    for (reply, expected) in cases {
        for fault in [Fault::reply(reply), Fault::ReplyThenClose(reply.to_owned())] {
            let server = FakeExchange::builder().fault(At::Auth, fault).start().await;
            let provider = Scripted::new([good(&server), good(&server)]);
            let error = failure(&mailer(&server, &provider)).await;
            assert_failure(&error, expected, reply);
            assert_eq!(error.reply().unwrap().to_string(), reply);
            assert_eq!(error.challenge(), None);
            assert_eq!((provider.calls().len(), server.connections().total), (1, 1), "{reply}");
        }
    }
}

#[tokio::test]
async fn an_error_challenge_is_answered_and_both_it_and_the_refusal_are_kept() {
    for (mechanism, answer) in [("XOAUTH2", ""), ("OAUTHBEARER", "<redacted>")] {
        let server = FakeExchange::builder()
            .extensions(Extensions::exchange_online().auth(mechanism))
            .fault(At::Auth, Fault::error_challenge().always())
            .start()
            .await;
        let provider = Scripted::new([good(&server), good(&server)]);
        let error = failure(&mailer(&server, &provider)).await;
        let text = "the mail server refused the sign-in (535 5.7.8)";
        assert_failure(&error, (ErrorKind::AuthenticationRefused, Phase::Auth, FIX, text), mechanism);
        let json = r#"{"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}"#;
        assert_eq!(error.challenge(), Some(json), "{mechanism}");
        assert_eq!(error.reply().unwrap().text(), "5.7.8 Username and Password not accepted.", "{mechanism}");
        let first = &server.sessions()[0].commands;
        assert!(first.ends_with(&[answer.to_owned(), "QUIT".to_owned()]), "{first:?}");
        assert_eq!(server.connections().total, 2, "a 535 after a challenge is worth another token too");
    }
}

#[tokio::test]
async fn a_token_that_expired_meanwhile_is_replaced_before_it_is_refused() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let config = settings(&server).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(support::issuing(server.tokens(), 1800));
    let mailer = mailer.clock(manual.clock()).build().unwrap();
    for count in 1..=3 {
        mailer.submit(&message()).await.unwrap();
        assert_eq!(
            (server.tokens().count(), server.connections().total),
            (count, usize::try_from(count).unwrap())
        );
        manual.advance(HOUR);
    }
    assert!(server.auth_attempts().iter().all(|attempt| attempt.accepted));
}

#[tokio::test]
async fn tokens_revoked_by_an_administrator_are_replaced_when_the_next_connection_needs_one() {
    let server = FakeExchange::start().await;
    let mailer = support::mailer(&server);
    mailer.submit(&message()).await.unwrap();
    server.tokens().revoke_all();
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.auth_attempts().len(), 1, "the connection that is signed in goes on");
    server.close_connections(None).await;
    mailer.submit(&message()).await.unwrap();
    let accepted: Vec<_> = server.auth_attempts().iter().map(|attempt| attempt.accepted).collect();
    assert_eq!((accepted, server.tokens().count()), (vec![true, false, true], 2));
}

#[tokio::test]
async fn the_token_of_another_account_is_refused() {
    let server = FakeExchange::start().await;
    let others = || server.tokens().issue_access_token("somebody@contoso.com", HOUR, 1800);
    let provider = Scripted::new([others(), others()]);
    let error = failure(&mailer(&server, &provider)).await;
    assert_failure(&error, (ErrorKind::AuthenticationRefused, Phase::Auth, FIX, REFUSED), "another's");
    let attempts = server.auth_attempts();
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|attempt| attempt.user.as_deref() == Some(ACCOUNT)));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_because_accounts_are_locked_for_less() {
    for mechanism in ["LOGIN", "PLAIN"] {
        let extensions = Extensions::exchange_online().auth(mechanism);
        let server = FakeExchange::builder().extensions(extensions).password(ACCOUNT, PASSWORD).start().await;
        let config = settings(&server).build().unwrap();
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(Authentication::basic("wrong-password"))
            .build()
            .unwrap();
        let error = failure(&mailer).await;
        assert_failure(&error, (ErrorKind::AuthenticationRefused, Phase::Auth, FIX, REFUSED), mechanism);
        assert_eq!((server.auth_attempts().len(), server.connections().total), (1, 1), "{mechanism}");
    }
}

#[tokio::test]
async fn a_long_token_follows_the_challenge_and_a_short_one_travels_with_the_command() {
    let cases = [
        (100, InitialResponse::WhenShort, true),
        (2500, InitialResponse::WhenShort, false),
        (9000, InitialResponse::WhenShort, false),
        (100, InitialResponse::Always, true),
        (2500, InitialResponse::Always, true),
        (9000, InitialResponse::Always, true),
    ];
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for (length, initial_response, expected) in cases {
            // A continuation must pass where an AUTH line may not: Postfix's limit.
            let limit = if initial_response == InitialResponse::Always { 16 * 1024 } else { 512 };
            let extensions = Extensions::exchange_online().auth(mechanism);
            let server = FakeExchange::builder().extensions(extensions).auth_line_limit(limit).start().await;
            let config = settings(&server).initial_response(initial_response).build().unwrap();
            let mailer = Mailer::builder(config)
                .retry(RetryPolicy::never())
                .authentication(support::issuing(server.tokens(), length));
            mailer.build().unwrap().submit(&message()).await.unwrap();
            let attempt = &server.auth_attempts()[0];
            assert_eq!(attempt.secret.as_ref().unwrap().len(), length);
            assert_eq!(attempt.initial_response, expected, "{mechanism}, {length}, {initial_response:?}");
        }
    }
}

/// Asserts that nothing an error shows holds a run of `secret`.
#[track_caller]
fn assert_redacted(error: &Error, secret: &str, case: &str) {
    let shown = format!("{error} {error:?} {error:#?} {:?} {:?}", error.reply(), error.challenge());
    for run in secret.as_bytes().windows(12).map(|run| std::str::from_utf8(run).unwrap()) {
        assert!(!shown.contains(run), "{case}: {run} in {shown}");
    }
}

#[tokio::test]
async fn a_server_that_echoes_the_auth_line_does_not_get_it_into_the_error() {
    const TOKEN: &str =
        "eyJ0eXAiOiJKV1QiLCJub25jZSI6Ik5fS3pY.c2VjcmV0LXBheWxvYWQtb2YtdGhlLXRva2Vu.U2lnbmF0dXJlLV9-";
    let line = BASE64.encode(format!("user={ACCOUNT}\x01auth=Bearer {TOKEN}\x01\x01"));
    let (half, middle) = (&line[..line.len() / 2], &line[40..100]);
    let cut = &TOKEN[..40];
    let echoes = [
        format!("500 5.3.3 Unrecognized command 'AUTH XOAUTH2 {line}'"),
        format!("500 5.3.3 Unrecognized command 'AUTH XOAUTH2 {half}'"),
        format!("500 5.3.3 Unrecognized command 'AUTH XOAUTH2 {half}...'"),
        format!("500 5.3.3 Unrecognized command '...{middle}...'"),
        format!("500 5.3.3 Unrecognized command={half}"),
        format!("500-5.3.3 Unrecognized command\n500-{half}\n500 {}", &line[line.len() / 2..]),
        format!("501 5.5.4 bad token {TOKEN}"),
        format!("501 5.5.4 bad token \"{cut}...\""),
        format!("535 5.7.8 auth=Bearer {TOKEN}"),
    ];
    for echo in echoes {
        let server = FakeExchange::builder().fault(At::Auth, Fault::reply(&*echo).always()).start().await;
        let error = failure(&mailer(&server, &Scripted::new([unknown(TOKEN)]))).await;
        assert_eq!((error.kind(), error.phase()), (ErrorKind::AuthenticationRefused, Phase::Auth), "{echo}");
        assert_redacted(&error, &line, &echo);
        assert_redacted(&error, TOKEN, &echo);
        let kept = error.reply().unwrap().to_string();
        assert!(kept.contains("[redacted]") && kept.starts_with(&echo[..3]), "{kept}");
    }
    for echo in [TOKEN, cut, &line, half] {
        let json = format!(r#"{{"status":"400","token":"{echo}"}}"#);
        let fault = Fault::ErrorChallenge { json, reply: BARE.to_owned() };
        let server = FakeExchange::builder().fault(At::Auth, fault.always()).start().await;
        let error = failure(&mailer(&server, &Scripted::new([unknown(TOKEN)]))).await;
        assert_redacted(&error, &line, echo);
        assert_redacted(&error, TOKEN, echo);
        assert!(error.challenge().unwrap().contains("[redacted]"), "{:?}", error.challenge());
    }
}
