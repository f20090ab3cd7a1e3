//! A diagnosis tells which step fails, goes on as long as something can be learnt, and shows no secret.

mod support;

use std::time::Duration;

use serde_json::Value;
use smtp_oauth::entra::ClientSecret;
use smtp_oauth::testing::{
    CertificateKind, Extensions, FakeExchange, FakeMicrosoft365, Fault, FaultPoint, ManualClock,
    TestAuthority, TokenFault,
};
use smtp_oauth::{
    Authentication, Clock, Diagnose, Diagnosis, DiagnosisStep, MailServerConfig, Mailer, Office365Profile,
    RetryPolicy, StepName, StepResult, Tls, TokenErrorKind, Who, diagnose, token,
};
use support::{ACCOUNT, HOUR, PASSWORD, issuing, mailer, settings};

const NAMES: [StepName; 9] = [
    StepName::Settings,
    StepName::Resolve,
    StepName::Connect,
    StepName::Tls,
    StepName::Ehlo,
    StepName::Token,
    StepName::Authentication,
    StepName::Envelope,
    StepName::TestMessage,
];

/// One letter a step: passed, Warning, FAILED, skipped.
fn marks(diagnosis: &Diagnosis) -> String {
    let names: Vec<_> = diagnosis.steps().iter().map(DiagnosisStep::name).collect();
    assert_eq!(names, NAMES, "every step is told, in order");
    let mark = |result| match result {
        StepResult::Passed => 'p',
        StepResult::Warning => 'W',
        StepResult::Failed => 'F',
        _ => 's',
    };
    diagnosis.steps().iter().map(|step| mark(step.result())).collect()
}

fn step(diagnosis: &Diagnosis, name: StepName) -> String {
    diagnosis.steps().iter().find(|step| step.name() == name).unwrap().to_string()
}

#[track_caller]
fn assert_failure(diagnosis: &Diagnosis, expected: &str, words: &[&str]) {
    assert_eq!(marks(diagnosis), expected, "{diagnosis}");
    assert!(!diagnosis.is_healthy());
    let failed = diagnosis.first_failure().unwrap().to_string();
    for word in words {
        assert!(failed.contains(word), "`{word}` is missing in\n{failed}");
    }
}

#[tokio::test]
async fn a_healthy_tenant_passes_and_nothing_is_sent() {
    let tenant = FakeMicrosoft365::start().await;
    let diagnosis = diagnose(&tenant.mailer()).await;
    assert_eq!(marks(&diagnosis), "pppppppps", "{diagnosis}");
    assert!(diagnosis.is_healthy() && diagnosis.first_failure().is_none());
    assert!(tenant.exchange().messages().is_empty());
    let transcript = tenant.exchange().transcript();
    let envelope: Vec<_> = transcript.iter().skip_while(|line| !line.starts_with("MAIL")).collect();
    assert_eq!(envelope, ["MAIL FROM:<svc-mail@contoso.com>", "RCPT TO:<admin@contoso.com>", "RSET", "QUIT"]);
    for (name, words) in [
        (StepName::Settings, "user svc-mail@contoso.com"),
        (StepName::Resolve, "localhost is 127.0.0.1"),
        (StepName::Tls, "1 certificate, valid for localhost until 20"),
        (StepName::Ehlo, "AUTH LOGIN XOAUTH2"),
        (
            StepName::Token,
            "granted https://outlook.office.com/SMTP.Send, from 127.0.0.1 by refresh token grant, client id \
             6731de76-14a6-49ae-97bc-6eba6914391e, signed in as svc-mail@contoso.com",
        ),
        (StepName::Authentication, "signed in as svc-mail@contoso.com"),
        (StepName::Envelope, "mail to admin@contoso.com; nothing was sent"),
    ] {
        let step = step(&diagnosis, name);
        assert!(step.contains(words), "{step}");
    }
}

#[tokio::test]
async fn a_test_message_is_sent_when_asked_for_and_everything_passed() {
    let tenant = FakeMicrosoft365::start().await;
    let mailer = tenant.mailer();
    let diagnosis = Diagnose::new(&mailer).send_test().run().await;
    assert_eq!(marks(&diagnosis), "ppppppppp", "{diagnosis}");
    assert_eq!(tenant.exchange().messages()[0].recipient_addresses(), ["admin@contoso.com"]);

    tenant.exchange().refuse_recipient("admin@contoso.com", "550 5.1.10 RecipientNotFound");
    let diagnosis = Diagnose::new(&mailer).send_test().run().await;
    assert_failure(&diagnosis, "pppppppFs", &["550 5.1.10"]);
    assert_eq!(tenant.exchange().message_count(), 1);

    tenant.exchange().clear_faults();
    let denied =
        "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as alerts@contoso.com; STOREDRV";
    tenant.exchange().inject(FaultPoint::Body, Fault::reply(denied).always());
    let diagnosis = Diagnose::new(&mailer).send_test().run().await;
    assert_failure(
        &diagnosis,
        "ppppppppF",
        &["5.2.252", "Add-RecipientPermission -Identity 'alerts@contoso.com'"],
    );
}

#[tokio::test]
async fn a_test_message_without_a_recipient_says_which_setting_is_missing() {
    let server = FakeExchange::start().await;
    let config = MailServerConfig::builder()
        .host(server.host())
        .port(server.port())
        .username(ACCOUNT)
        .extra_roots(server.root_pem())
        .without_platform_roots();
    let mailer = Mailer::builder(config.build().unwrap()).authentication(issuing(server.tokens(), 900));
    let mailer = mailer.build().unwrap();
    let diagnosis = Diagnose::new(&mailer).send_test().run().await;
    assert_failure(&diagnosis, "ppppppppF", &["test_recipient"]);
}

#[tokio::test]
async fn steps_are_shown_in_order_as_they_are_done() {
    let tenant = FakeMicrosoft365::start().await;
    let mailer = tenant.mailer();
    let mut shown = Vec::new();
    let diagnosis = Diagnose::new(&mailer).on_step(|step| shown.push(step.clone())).run().await;
    assert_eq!(shown, diagnosis.steps());
}

#[tokio::test]
async fn what_is_done_is_shown_while_the_next_step_hangs() {
    let server =
        FakeExchange::builder().fault(FaultPoint::EhloAfterTls, Fault::Silence.always()).start().await;
    let mailer = mailer(&server);
    let shown = std::sync::Mutex::new(Vec::new());
    let diagnosis = Diagnose::new(&mailer).on_step(|step| shown.lock().unwrap().push(step.name())).run();
    tokio::select! {
        diagnosis = diagnosis => panic!("nothing hung:\n{diagnosis}"),
        () = server.wait_for_silence() => {}
    }
    assert_eq!(*shown.lock().unwrap(), NAMES[..4]);
}

#[tokio::test]
async fn a_server_that_is_not_reached_does_not_keep_the_token_from_being_checked() {
    let server = FakeExchange::start().await;
    // Bound and never listening: refused, and no other test gets the port meanwhile.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = silent.local_addr().unwrap().port();
    let with = |config: MailServerConfig| {
        let builder = Mailer::builder(config).retry(RetryPolicy::never());
        builder.authentication(issuing(server.tokens(), 900)).build().unwrap()
    };
    let unknown = with(settings(&server).host("mail.invalid").build().unwrap());
    assert_failure(&diagnose(&unknown).await, "pFssspsss", &["mail.invalid", "check host and port"]);
    let refused = with(settings(&server).port(closed).build().unwrap());
    assert_failure(&diagnose(&refused).await, "ppFsspsss", &["cannot reach the mail server (TCP connect)"]);
}

#[tokio::test]
async fn a_connection_that_cannot_be_trusted_fails_at_tls() {
    for (kind, words) in
        [(CertificateKind::Expired, "expired"), (CertificateKind::WrongName, "not valid for name")]
    {
        let server = FakeExchange::builder().certificate(kind).start().await;
        let diagnosis = diagnose(&mailer(&server)).await;
        assert_failure(&diagnosis, "pppFspsss", &[words, "There is no trustworthy TLS connection"]);
    }
    let server = FakeExchange::start().await;
    let stranger = TestAuthority::new();
    // Not `settings`: extra roots add up.
    let config = MailServerConfig::builder()
        .host(server.host())
        .port(server.port())
        .username(ACCOUNT)
        .extra_roots(stranger.root_pem())
        .without_platform_roots();
    let mailer = Mailer::builder(config.build().unwrap()).authentication(issuing(server.tokens(), 900));
    let diagnosis = diagnose(&mailer.build().unwrap()).await;
    assert_failure(&diagnosis, "pppFspsss", &["invalid peer certificate"]);

    let server =
        FakeExchange::builder().extensions(Extensions::exchange_online().without("STARTTLS")).start().await;
    let diagnosis = diagnose(&support::mailer(&server)).await;
    assert_failure(&diagnosis, "pppFspsss", &["does not offer STARTTLS", "SMTP inspection"]);
}

#[tokio::test]
async fn a_server_that_turns_clients_away_fails_at_ehlo() {
    let busy = Fault::ReplyThenClose("421 4.3.2 Service not available".into());
    for (phase, expected) in [(FaultPoint::Greeting, "pppsFpsss"), (FaultPoint::EhloAfterTls, "ppppFpsss")] {
        let server = FakeExchange::builder().fault(phase, busy.clone().always()).start().await;
        let diagnosis = diagnose(&mailer(&server)).await;
        assert_failure(&diagnosis, expected, &["421 4.3.2"]);
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_had_does_not_keep_the_server_from_being_checked() {
    let wait = Duration::from_secs(30);
    let cases = [
        (TokenFault::Html, "What answers at the token endpoint is no sign-in service"),
        (TokenFault::ThrottledWithRetryAfter(wait), "AADSTS90055"),
        (TokenFault::Aadsts(700_082), "has expired, as it does after 90 days"),
        (TokenFault::Aadsts(7_000_215), "enter the secret's Value, not its Secret ID"),
        (TokenFault::Aadsts(7_000_222), "The client secret has expired."),
        (TokenFault::Aadsts(65_001), "Nobody has consented"),
    ];
    for (fault, words) in cases {
        let tenant = FakeMicrosoft365::start().await;
        tenant.entra().fail_next(9, fault);
        let diagnosis = diagnose(&tenant.mailer()).await;
        assert_failure(&diagnosis, "pppppFsss", &[words, "asked: from 127.0.0.1 by refresh token grant"]);
        assert_eq!(tenant.exchange().auth_attempts().len(), 0);
    }
}

#[tokio::test]
async fn both_sides_are_told_when_both_fail() {
    let tenant = FakeMicrosoft365::start().await;
    tenant.entra().revoke_refresh_tokens();
    tenant.exchange().inject(FaultPoint::Greeting, Fault::ReplyThenClose("554 5.3.2 no".into()).always());
    let app = tenant.entra().app().build().unwrap();
    let store = tenant.entra().store();
    tenant.entra().revoke_refresh_tokens();
    let mailer = Mailer::builder(tenant.server().build().unwrap())
        .authentication(Authentication::oauth(app.refresh_token(store)))
        .build()
        .unwrap();
    let diagnosis = diagnose(&mailer).await;
    assert_eq!(marks(&diagnosis), "pppsFFsss", "{diagnosis}");
    assert_eq!(diagnosis.first_failure().unwrap().name(), StepName::Ehlo);
}

#[tokio::test]
async fn a_refused_sign_in_names_the_switch() {
    let cases = [
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
            "Set-TransportConfig",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
            "tick Authenticated SMTP",
        ),
        (
            "535 5.7.139 Authentication unsuccessful, account locked. Contact your administrator.",
            "stop every program",
        ),
        ("535 5.7.3 Authentication unsuccessful", "belongs to another account"),
    ];
    for (reply, words) in cases {
        let tenant = FakeMicrosoft365::start().await;
        tenant.exchange().inject(FaultPoint::Auth, Fault::reply(reply).always());
        let diagnosis = diagnose(&tenant.mailer()).await;
        assert_failure(&diagnosis, "ppppppFss", &[words, reply]);
        assert_eq!(diagnosis.first_failure().unwrap().name(), StepName::Authentication);
        tenant.exchange().clear_faults();
        assert!(diagnose(&tenant.mailer()).await.is_healthy());
    }
}

#[tokio::test]
async fn a_refused_envelope_names_the_sender_or_the_recipient() {
    let cases = [
        (
            FaultPoint::Mail,
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            "Add-RecipientPermission -Identity 'alerts@contoso.com' -AccessRights SendAs -Trustee 'svc-mail@contoso.com'",
        ),
        (FaultPoint::Rcpt, "550 5.1.10 RESOLVER.ADR.RecipientNotFound", "recipient"),
    ];
    for (phase, reply, words) in cases {
        let tenant = FakeMicrosoft365::start().await;
        tenant.exchange().inject(phase, Fault::reply(reply).always());
        let app = tenant.entra().app().build().unwrap();
        let config = tenant.server().sender("alerts@contoso.com").build().unwrap();
        let tokens = app.refresh_token(tenant.entra().store());
        let mailer = Mailer::builder(config).authentication(Authentication::oauth(tokens)).build().unwrap();
        let diagnosis = diagnose(&mailer).await;
        assert_failure(&diagnosis, "WppppppFs", &[words, reply]);
        assert!(tenant.exchange().transcript().contains(&"RSET".to_owned()));
        assert!(tenant.exchange().messages().is_empty());
    }
}

#[tokio::test]
async fn what_works_today_and_not_for_long_is_a_warning() {
    let time = ManualClock::starting_at(Clock::system().now());
    let tenant = FakeMicrosoft365::start_with_clock(time.clock()).await;
    let secret = tenant.entra().client_secret().unwrap();
    let diagnosed = async |days: i64| {
        let expiry = time.clock().now() + time::Duration::days(days) + time::Duration::HOUR;
        let secret = ClientSecret::new(secret.clone()).with_expires_at(expiry);
        let app = tenant.entra().app().client_secret(secret).build().unwrap();
        let mailer = Mailer::builder(tenant.server().build().unwrap())
            .authentication(Authentication::oauth(app.refresh_token(tenant.entra().store())))
            .clock(time.clock())
            .build()
            .unwrap();
        diagnose(&mailer).await
    };
    let soon = diagnosed(12).await;
    assert_eq!(marks(&soon), "pppppWpps", "{soon}");
    assert!(
        soon.is_healthy() && step(&soon, StepName::Token).contains("in 12 days: make a new one"),
        "{soon}"
    );
    let late = diagnosed(300).await;
    assert_eq!(marks(&late), "pppppppps", "{late}");
    assert!(step(&late, StepName::Token).contains("the client secret works until"), "{late}");
}

#[tokio::test]
async fn a_token_that_does_not_fit_the_mailbox_is_a_warning_before_exchange_refuses_it() {
    let server = FakeExchange::start().await;
    let tokens = server.tokens().clone();
    let profile = Office365Profile::builder()
        .host(server.host())
        .port(server.port())
        .username(ACCOUNT)
        .sender("alerts@contoso.com")
        .extra_roots(server.root_pem())
        .without_platform_roots();
    let granted = Authentication::oauth(token::from_fn(move || {
        let tokens = tokens.clone();
        async move {
            let token = tokens.issue_access_token("someone@contoso.com", HOUR, 900);
            Ok(token.with_scopes(["https://outlook.office.com/IMAP.AccessAsUser.All"]))
        }
    }));
    let mailer = Mailer::builder(profile.build().unwrap()).authentication(granted).build().unwrap();
    let diagnosis = diagnose(&mailer).await;
    assert_failure(&diagnosis, "WppppWFss", &["535 5.7.3"]);
    assert!(step(&diagnosis, StepName::Settings).contains("needs the permission Send As"), "{diagnosis}");
    assert!(step(&diagnosis, StepName::Token).contains("lack SMTP.Send"), "{diagnosis}");
    assert!(step(&diagnosis, StepName::Token).contains("API permissions"), "{diagnosis}");
}

#[tokio::test]
async fn the_account_that_signed_in_is_compared_with_the_user_name() {
    let tenant = FakeMicrosoft365::start().await;
    let app = tenant.entra().app().build().unwrap();
    let config = tenant.server().username("shared@contoso.com").sender(ACCOUNT).build().unwrap();
    let tokens = app.refresh_token(tenant.entra().store());
    let mailer = Mailer::builder(config).authentication(Authentication::oauth(tokens)).build().unwrap();
    let diagnosis = diagnose(&mailer).await;
    assert_failure(&diagnosis, "WppppWFss", &["535 5.7.3"]);
    let token = step(&diagnosis, StepName::Token);
    assert!(
        token.contains("svc-mail@contoso.com has signed in, and the user name is shared@contoso.com"),
        "{token}"
    );
}

#[tokio::test]
async fn a_password_needs_no_token_and_a_server_on_this_machine_no_tls() {
    let server = FakeExchange::builder().password(ACCOUNT, PASSWORD).plaintext().start().await;
    let config = settings(&server).tls(Tls::LoopbackPlaintext).build().unwrap();
    let with = |password: &str| {
        Mailer::builder(config.clone()).authentication(Authentication::basic(password)).build().unwrap()
    };
    let diagnosis = diagnose(&with(PASSWORD)).await;
    assert_eq!(marks(&diagnosis), "pppspspps", "{diagnosis}");
    assert!(diagnosis.is_healthy() && !diagnosis.to_string().contains(PASSWORD));
    let diagnosis = diagnose(&with("wrong-horse-battery")).await;
    assert_failure(&diagnosis, "pppspsFss", &["refused user name and password", "OAuth 2.0"]);
    assert!(!format!("{diagnosis:?}{diagnosis}").contains("wrong-horse"));
}

#[tokio::test]
async fn a_diagnosis_is_data_for_programs_and_text_for_people() {
    let tenant = FakeMicrosoft365::start().await;
    let reply = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. | <b> \u{1b}[2J";
    tenant.exchange().inject(FaultPoint::Auth, Fault::reply(reply).always());
    let diagnosis = diagnose(&tenant.mailer()).await;

    let json: Value = serde_json::to_value(&diagnosis).unwrap();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["steps"].as_array().unwrap().len(), NAMES.len());
    assert_eq!(json["steps"][0]["name"], "settings");
    assert_eq!(json["steps"][8]["name"], "test_message");
    assert_eq!(json["steps"][8]["result"], "skipped");
    let failed = &json["steps"][6];
    assert_eq!((&failed["name"], &failed["result"]), (&"authentication".into(), &"failed".into()));
    assert!(failed["milliseconds"].is_u64());
    assert!(failed["finding"].as_str().unwrap().contains("\nthe server said: 535 5.7.139"));
    assert_eq!(failed["remedy"]["who"], "exchange_administrator");
    assert!(failed["remedy"]["steps"][0].as_str().unwrap().starts_with("Set-CASMailbox"));
    assert!(failed["remedy"]["link"].as_str().unwrap().starts_with("https://learn.microsoft.com/"));
    assert!(json["steps"][5].get("remedy").is_none());

    let markdown = diagnosis.to_markdown();
    assert!(
        markdown.starts_with("| step | result | ms | finding |\n|---|---|---|---|\n| settings | passed |")
    );
    assert!(markdown.contains("\\| &lt;b>") && !markdown.contains("<b>"), "{markdown}");
    assert!(markdown.contains("**sign-in**\n\n```text\nAuthenticated SMTP is switched off"), "{markdown}");
    let text = diagnosis.to_string();
    assert!(text.contains("FAILED    sign-in: ") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(diagnosis.first_failure().unwrap().remedy().unwrap().who(), Who::ExchangeAdministrator);
}

#[tokio::test]
async fn no_rendering_shows_a_secret() {
    let faults: [Option<TokenFault>; 3] =
        [None, Some(TokenFault::EchoesRequest), Some(TokenFault::MalformedJson)];
    for fault in faults {
        let tenant = FakeMicrosoft365::start().await;
        let failing = fault.is_some();
        tenant.entra().fail_next(9, fault.unwrap_or(TokenFault::Html));
        if !failing {
            tenant.entra().recover();
            tenant.exchange().inject(FaultPoint::Auth, Fault::error_challenge().always());
        }
        let diagnosis = diagnose(&tenant.mailer()).await;
        assert!(!diagnosis.is_healthy());
        let json = serde_json::to_string(&diagnosis).unwrap();
        let shown = format!("{diagnosis:?}{diagnosis}{}{json}", diagnosis.to_markdown());
        let secrets = tenant.entra().tokens().all().into_iter().chain(tenant.entra().refresh_tokens());
        for secret in secrets.chain(tenant.entra().client_secret()) {
            let start = secret.get(..24).unwrap_or(&secret);
            assert!(!shown.contains(start), "{start} in {shown}");
        }
    }
}

#[tokio::test]
async fn an_error_of_ones_own_provider_is_told_as_it_is() {
    let server = FakeExchange::start().await;
    let failing = token::from_fn(|| async {
        let mut answer = token::ServerAnswer::default();
        answer.description = Some("Session not active".to_owned());
        Err(smtp_oauth::TokenError::new(TokenErrorKind::Unavailable, "the vault is sealed")
            .with_server_answer(answer))
    });
    let builder = Mailer::builder(settings(&server).build().unwrap());
    let mailer = builder.authentication(Authentication::oauth(failing)).build().unwrap();
    let diagnosis = diagnose(&mailer).await;
    let port = format!("-Port {}", server.port());
    assert_failure(
        &diagnosis,
        "pppppFsss",
        &["access token: the vault is sealed (", "the sign-in service said: Session not active"],
    );
    let failed = diagnosis.first_failure().unwrap();
    assert!(!failed.finding().contains("because") && !failed.finding().contains("Entra"), "{failed}");
    drop(server);
    let diagnosis = diagnose(&mailer).await;
    let unreachable = diagnosis.first_failure().unwrap().remedy().unwrap();
    assert!(unreachable.to_string().contains(&port), "{unreachable}");
}
