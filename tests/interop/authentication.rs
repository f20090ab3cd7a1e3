//! Signing in to Dovecot through Postfix (RFC 4954, RFC 7628): who gets in, and what the error says for who does not.

use std::time::{Duration, Instant};

use smtp_oauth::{Authentication, Disposition, ErrorKind, InitialResponse, Phase};

use crate::client::{Issuer, envelope, mailer_with, note, settings};
use crate::{ASSISTANT, BOSS, Limits, PASSWORD, Servers, Service};

/// Dovecot's challenges to a refused token: XOAUTH2 as Google began it, OAUTHBEARER as RFC 7628 §3.2.2 has it.
const CHALLENGES: [(Service, &str); 2] = [
    (Service::Submission, r#"{"status":"401","schemes":"bearer","scope":"mail"}"#),
    (Service::Minimal, r#"{"status":"invalid_token"}"#),
];

/// No answer of these servers takes longer, however busy the machine is.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test]
async fn tokens_of_any_length_and_passwords_sign_in() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    // Postfix cuts an AUTH line after 2048 octets; all but the first go after the server's 334.
    let tokens = [20, 1500, 2049, 8 << 10].map(|length| "x".repeat(length));
    let mut expected = Vec::new();
    for token in &tokens {
        servers.tokens().accept(token, BOSS);
        let bearer = || Issuer::new(&[token]).authentication();
        expected.push((Service::Submission, "XOAUTH2", bearer()));
        expected.push((Service::Minimal, "OAUTHBEARER", bearer()));
    }
    expected.push((Service::Submission, "PLAIN", Authentication::basic(PASSWORD)));
    let mut methods = Vec::new();
    for (count, (service, method, authentication)) in expected.into_iter().enumerate() {
        let mailer = mailer_with(settings(&servers, service), authentication);
        mailer.submit_raw(&envelope(["alice"]), &note(method)).await.unwrap();
        let delivered = servers.maildir().wait_for("alice@example.test", count + 1);
        assert_eq!(delivered[count].content, note(method));
        assert_eq!(delivered[count].sender, BOSS);
        assert!(delivered[count].trace.contains(" with ESMTPSA id "), "{}", delivered[count].trace);
        methods.push(format!("sasl_method={method}, sasl_username={BOSS}"));
    }
    let log = servers.log();
    let logged: Vec<_> = log.lines().filter_map(|line| Some(&line[line.find("sasl_method=")?..])).collect();
    assert_eq!(logged, methods);
    assert_eq!(servers.tokens().asked(), tokens.iter().flat_map(|it| [it, it]).cloned().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_challenge_is_kept() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let tokens = servers.tokens();
    for expired in ["expired-1", "expired-2"] {
        tokens.accept(expired, BOSS);
        tokens.expire(expired);
    }
    for other in ["other-1", "other-2"] {
        tokens.accept(other, ASSISTANT);
    }
    tokens.accept("good", BOSS);
    let cases: [(&[&str], usize); 4] = [
        (&["unheard-of-1", "unheard-of-2", "good"], 2),
        (&["expired-1", "expired-2", "good"], 2),
        (&["other-1", "other-2", "good"], 2),
        // The provider has no other one: asking the server again would change nothing.
        (&["expired-1", "expired-1", "good"], 1),
    ];
    for (service, challenge) in CHALLENGES {
        for (provided, attempts) in cases {
            let before = tokens.asked().len();
            let issuer = Issuer::new(provided);
            let mailer = mailer_with(settings(&servers, service), issuer.authentication());
            let started = Instant::now();
            let error = mailer.submit_raw(&envelope(["alice"]), &note("refused")).await.unwrap_err();
            assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
            assert_eq!((error.kind(), error.phase()), (ErrorKind::AuthenticationRefused, Phase::Auth));
            assert_eq!(error.disposition(), Disposition::FixConfiguration);
            assert_eq!(error.challenge(), Some(challenge), "{error:?}");
            assert!(provided.iter().all(|token| !format!("{error:?}").contains(token)), "{error:?}");
            assert_eq!(issuer.asked(), 2, "{provided:?}");
            assert_eq!(tokens.asked()[before..], provided[..attempts], "{service:?}");

            mailer.submit_raw(&envelope(["alice"]), &note("accepted")).await.unwrap();
            assert_eq!(issuer.asked(), 3, "the refused token is not tried again");
        }
    }
    let issuer = Issuer::new(&["expired-1", "good"]);
    let mailer = mailer_with(settings(&servers, Service::Submission), issuer.authentication());
    mailer.submit_raw(&envelope(["alice"]), &note("accepted")).await.unwrap();
    assert_eq!(issuer.asked(), 2);
    let delivered = servers.maildir().wait_for("alice@example.test", 9);
    assert!(delivered.iter().all(|message| message.content == note("accepted")));
}

#[tokio::test]
async fn what_no_other_token_or_password_could_mend_is_refused_in_bounded_time() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let long = "x".repeat(2049);
    servers.tokens().accept(&long, BOSS);
    let submission = || settings(&servers, Service::Submission);
    let on_the_line = submission().initial_response(InitialResponse::Always);
    let cases = [
        ("a wrong password", submission(), Authentication::basic("incorrect horse"), 1),
        ("another user's password", submission(), Authentication::basic("battery staple"), 1),
        // Postfix cuts the line and finds that what is left is no base64.
        ("a long token on the AUTH line", on_the_line, Issuer::new(&[&long]).authentication(), 1),
        // No challenge: Dovecot could not ask about the token.
        ("no introspection", submission(), Issuer::new(&["one", "two"]).authentication(), 2),
    ];
    servers.tokens().unavailable(true);
    let mut sessions = 0;
    for (name, settings, authentication, attempts) in cases {
        let mailer = mailer_with(settings, authentication);
        let started = Instant::now();
        let error = mailer.verify().await.unwrap_err();
        assert!(started.elapsed() < SOON, "{name}: {:?}", started.elapsed());
        assert_eq!((error.kind(), error.phase()), (ErrorKind::AuthenticationRefused, Phase::Auth), "{name}");
        assert_eq!(error.to_string(), "the mail server refused the sign-in (535 5.7.8)", "{name}");
        assert_eq!(error.challenge(), None, "{name}");
        sessions += attempts;
        let ended = servers.sessions(Service::Submission, sessions);
        assert_eq!(ended.len(), sessions, "{name}");
        assert!(ended.iter().all(|counts| counts.contains(" auth=0/1 ")), "{name}: {ended:?}");
    }
    // A password is of no use where tokens alone are taken.
    let mailer = mailer_with(settings(&servers, Service::Minimal), Authentication::basic(PASSWORD));
    let error = mailer.verify().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MechanismUnavailable);
    let expected = "signing in needs PLAIN or LOGIN, and the mail server offers OAUTHBEARER";
    assert_eq!(error.to_string(), expected);
}
