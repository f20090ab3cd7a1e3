//! What a user reads for each refusal: kind, disposition, and a remedy with the addresses filled in.

mod support;

#[cfg(feature = "redis")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis")]
use smtp_oauth::RedisStore;
use smtp_oauth::entra::{self, SendingRight};
use smtp_oauth::testing::{FakeEntra, FakeExchange, Fault, FaultPoint, KnownReply, ManualClock, TokenFault};
use smtp_oauth::{
    Authentication, Chunking, Disposition, Error, ErrorKind, Mailer, ReplyCause, RetryPolicy, Timeouts,
    TokenErrorKind, Who, token,
};
#[cfg(feature = "redis")]
use support::closed_port::ClosedPort;
use support::{ACCOUNT, PASSWORD, envelope, issuing, message, settings};

const LATER: Disposition = Disposition::Retry { after: None };
const FIX: Disposition = Disposition::FixConfiguration;
const DAY: Disposition = Disposition::Retry { after: Some(Duration::from_secs(24 * 60 * 60)) };
const MINUTE: Disposition = Disposition::Retry { after: Some(Duration::from_secs(60)) };

/// Point and reply of the server; kind, disposition and cause of the error; words of the remedy.
type Case = (FaultPoint, &'static str, ErrorKind, Disposition, ReplyCause, &'static [&'static str]);

/// Lets the server refuse a submission and returns what the user gets.
async fn refusal(point: FaultPoint, reply: &str, basic: bool, sender: &str) -> Error {
    let server = FakeExchange::builder()
        .password(ACCOUNT, PASSWORD)
        .fault(point, Fault::reply(reply).always())
        .start()
        .await;
    let config = settings(&server).sender(sender).build().unwrap();
    let authentication = match basic {
        true => Authentication::basic(PASSWORD),
        false => issuing(server.tokens(), 1800),
    };
    let mailer =
        Mailer::builder(config).authentication(authentication).retry(RetryPolicy::never()).build().unwrap();
    let message = smtp_oauth::lettre::Message::builder()
        .from(sender.parse().unwrap())
        .to("reader@example.com".parse().unwrap())
        .subject("Disk almost full")
        .body(String::new())
        .unwrap();
    mailer.submit(&message).await.expect_err(reply)
}

async fn check(cases: &[Case], basic: bool) {
    for (point, reply, kind, disposition, cause, words) in cases {
        let error = refusal(*point, reply, basic, "alerts@contoso.com").await;
        assert_eq!(error.kind(), *kind, "{reply}: {error:#}");
        assert_eq!(error.disposition(), *disposition, "{reply}: {error:#}");
        assert_eq!(error.cause(), Some(*cause), "{reply}: {error:#}");
        let remedy = error.remedy().unwrap_or_else(|| panic!("{reply}: no remedy"));
        let shown = format!("{error:#}");
        assert!(shown.ends_with(&remedy.to_string()), "{shown}");
        assert!(!shown.contains(PASSWORD) && !error.to_string().contains('\n'), "{shown}");
        assert!(!shown.contains("<username>") && !shown.contains("<host>"), "{reply}: {shown}");
        for word in *words {
            assert!(shown.contains(word), "{reply}: `{word}` is missing in\n{shown}");
        }
    }
}

#[tokio::test]
async fn a_refused_sign_in_names_the_switch_to_turn() {
    use ErrorKind::{AuthenticationRefused, ServerUnavailable, Tls};
    use ReplyCause as Cause;
    let cases: &[Case] = &[
        (
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [AM0 2024-07-11T11:46:49.042Z 08DC]",
            AuthenticationRefused,
            FIX,
            Cause::SmtpAuthDisabledForTenant,
            &[
                "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
                "Set-CASMailbox -Identity 'svc-mail@contoso.com'",
                "Exchange administrator",
            ],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
            AuthenticationRefused,
            FIX,
            Cause::SmtpAuthDisabledForMailbox,
            &[
                "Manage email apps: tick Authenticated SMTP",
                "Set-CASMailbox -Identity 'svc-mail@contoso.com'",
            ],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, account locked. Contact your administrator.",
            AuthenticationRefused,
            FIX,
            Cause::AccountLocked,
            &["stop every program"],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, federated STS service was unreachable.",
            ServerUnavailable,
            LATER,
            Cause::FederationUnavailable,
            &["federation server"],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, in new words.",
            AuthenticationRefused,
            FIX,
            Cause::SignInPolicy,
            &["Sign-in logs"],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.3 Authentication unsuccessful [LO4P.PROD.OUTLOOK.COM]",
            AuthenticationRefused,
            FIX,
            Cause::SignInRefused,
            &[
                "belongs to another account than svc-mail@contoso.com",
                "shared mailbox",
                "licence",
                "Enterprise applications",
                "Add-MailboxPermission -Identity 'svc-mail@contoso.com'",
            ],
        ),
        (
            FaultPoint::Auth,
            "504 5.7.4 Unrecognized authentication type",
            AuthenticationRefused,
            FIX,
            Cause::MechanismUnknown,
            &["XOAUTH2"],
        ),
        (
            FaultPoint::Auth,
            "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2. Visit https://aka.ms/smtp_auth_tls.",
            Tls,
            FIX,
            Cause::TlsTooOld,
            &["TLS 1.2"],
        ),
        (
            FaultPoint::Auth,
            "451 4.7.0 Temporary server error. Please try again later. PRX4",
            ServerUnavailable,
            LATER,
            Cause::ServerFault,
            &["Service health"],
        ),
        (
            FaultPoint::Auth,
            "535 5.7.144 XOAUTH2 authentication failed. Invalid API permissions",
            AuthenticationRefused,
            FIX,
            Cause::TokenPermission,
            &["Mail.Send"],
        ),
        (
            FaultPoint::Auth,
            "534-5.7.9 Application-specific password required. For more information, go to\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor x - gsmtp",
            AuthenticationRefused,
            FIX,
            Cause::AppPasswordRequired,
            &["apppasswords"],
        ),
    ];
    check(cases, false).await;
}

#[tokio::test]
async fn a_refused_password_names_the_policy_and_the_date_of_its_end() {
    use ErrorKind::AuthenticationRefused;
    fn case(reply: &'static str, cause: ReplyCause, words: &'static [&'static str]) -> Case {
        (FaultPoint::Auth, reply, AuthenticationRefused, FIX, cause, words)
    }
    let cases = [
        case(
            "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
            ReplyCause::BasicAuthDisabled,
            &["Set-AuthenticationPolicy", "-Identity 'svc-mail@contoso.com'", "December 2026", "OAuth 2.0"],
        ),
        case(
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.",
            ReplyCause::SecurityDefaults,
            &["Manage security defaults", "December 2026"],
        ),
        case(
            "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator.",
            ReplyCause::ConditionalAccess,
            &["Conditional Access", "Exclude > svc-mail@contoso.com", "December 2026"],
        ),
        case(
            "550 5.7.30 Basic authentication is not supported for Client Submission.",
            ReplyCause::BasicAuthRetired,
            &["SMTP.SendAsApp", "December 2026"],
        ),
        case(
            "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
            ReplyCause::WrongCredentials,
            &["password of svc-mail@contoso.com is wrong"],
        ),
        case(
            "535 5.7.3 Authentication unsuccessful",
            ReplyCause::SignInRefused,
            &["multifactor", "December 2026"],
        ),
        case(
            "535-5.7.8 Username and Password not accepted. For more information, go to\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials x - gsmtp",
            ReplyCause::WrongCredentials,
            &["app password"],
        ),
    ];
    check(&cases, true).await;
}

#[tokio::test]
async fn a_refused_message_names_right_quota_or_size() {
    use ErrorKind::{MessageRefused, SenderRefused, ServerRefused, ServerUnavailable};
    use ReplyCause as Cause;
    let cases: &[Case] = &[
        (
            FaultPoint::Body,
            "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as boss@contoso.com; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed",
            SenderRefused,
            FIX,
            Cause::SendAsDenied,
            &[
                "Add-RecipientPermission -Identity 'boss@contoso.com' -AccessRights SendAs -Trustee 'svc-mail@contoso.com'",
                "Send on Behalf",
            ],
        ),
        (
            FaultPoint::Mail,
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            SenderRefused,
            FIX,
            Cause::SendAsDenied,
            &["-Identity 'alerts@contoso.com' -AccessRights SendAs -Trustee 'svc-mail@contoso.com'"],
        ),
        (
            FaultPoint::Body,
            "430 4.2.0 STOREDRV; mailbox logon failure; MapiExceptionLogonFailed",
            ServerUnavailable,
            LATER,
            Cause::MailboxLogonFailed,
            &["Enterprise applications", "-AccessRights FullAccess"],
        ),
        (
            FaultPoint::Body,
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname=x]",
            ServerUnavailable,
            LATER,
            Cause::ConcurrencyLimit,
            &["3 or less"],
        ),
        (
            FaultPoint::Body,
            "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
            ServerUnavailable,
            MINUTE,
            Cause::SubmissionRate,
            &["30 for a mailbox"],
        ),
        (
            FaultPoint::Body,
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed",
            ServerUnavailable,
            DAY,
            Cause::RecipientQuota,
            &["10,000"],
        ),
        (
            FaultPoint::Body,
            "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
            SenderRefused,
            FIX,
            Cause::MailboxFull,
            &["MessageCopyForSMTPClientSubmissionEnabled $false"],
        ),
        (
            FaultPoint::Body,
            "550 5.1.8 Access denied, bad outbound sender",
            SenderRefused,
            FIX,
            Cause::SenderBlocked,
            &["Restricted entities", "-SenderAddress 'alerts@contoso.com'"],
        ),
        (
            FaultPoint::Mail,
            "451 4.4.62 Mail sent to the wrong Office 365 region. ATTR35",
            ServerRefused,
            FIX,
            Cause::WrongServer,
            &["smtp.office365.com"],
        ),
        (
            FaultPoint::Body,
            "552 5.3.4 Message size exceeds fixed maximum message size",
            MessageRefused,
            Disposition::FixMessage,
            Cause::MessageTooLarge,
            &["MaxSendSize"],
        ),
        (
            FaultPoint::Rcpt,
            "550 5.1.1 User unknown",
            ErrorKind::RecipientsRefused,
            Disposition::FixMessage,
            Cause::RecipientUnknown,
            &["recipient's address"],
        ),
        (
            FaultPoint::Mail,
            "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, account has an issue. Contact your administrator. [X]",
            ErrorKind::AuthenticationRefused,
            FIX,
            Cause::AccountBlocked,
            &["Active users > svc-mail@contoso.com"],
        ),
    ];
    check(cases, false).await;
}

#[tokio::test]
async fn every_known_reply_is_recognised_over_the_wire() {
    let known = KnownReply::all();
    assert!(known.len() > 100, "{}", known.len());
    for KnownReply { point, reply, cause, remedy, .. } in known {
        let error = refusal(point, &reply, false, "alerts@contoso.com").await;
        assert_eq!(error.cause(), Some(cause), "{point:?} {reply}: {error:#}");
        // A bare 535 5.7.3 and a denial that names both parties are told more precisely with the settings at hand.
        let shown = error.remedy().unwrap();
        let is_refined = cause == ReplyCause::SignInRefused;
        assert!(is_refined || shown.who() == remedy.who(), "{reply}: {shown}");
        assert!(is_refined || shown.steps().len() == remedy.steps().len(), "{reply}: {shown}");
        for blank in ["<username>", "<sender>", "<host>"] {
            assert!(!shown.to_string().contains(blank), "{reply}: {shown}");
        }
    }
}

#[tokio::test]
async fn another_token_is_tried_only_where_it_could_help() {
    let cases = [
        ("535 5.7.3 Authentication unsuccessful", 2),
        ("535 5.7.143 Expired token", 2),
        ("535 5.7.144 XOAUTH2 authentication failed. Invalid API permissions", 1),
        ("535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", 1),
        ("535 5.7.0 (#AUTH012) Too many bad auth attempts", 1),
    ];
    for (reply, attempts) in cases {
        let server =
            FakeExchange::builder().fault(FaultPoint::Auth, Fault::reply(reply).always()).start().await;
        support::mailer(&server).verify().await.unwrap_err();
        assert_eq!(server.auth_attempts().len(), attempts, "{reply}");
    }
}

#[tokio::test]
async fn a_denied_header_from_is_not_blamed_on_the_envelope() {
    let reply =
        "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed";
    let error = refusal(FaultPoint::Body, reply, false, ACCOUNT).await;
    let remedy = error.remedy().unwrap();
    assert_eq!(
        remedy.summary(),
        "The From of the message is an address that svc-mail@contoso.com is not allowed to send as."
    );
    assert!(remedy.steps()[0].contains("-Identity '<sender>'"), "{remedy}");
}

#[tokio::test]
async fn a_refused_recipient_is_named_in_the_command_that_looks_for_it() {
    let gone =
        Fault::reply("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup");
    let server = FakeExchange::builder().fault(FaultPoint::Rcpt, gone.clone()).start().await;
    let mailer = support::mailer(&server);
    let two = envelope(&["o'brien@example.com", "reader@example.com"]);
    let submission = mailer.submit_raw(&two, b"Subject: x\r\n\r\n").await.unwrap();
    let step = "Get-Recipient -Identity 'o''brien@example.com', when it is in the same organization";
    assert_eq!(submission.refused()[0].remedy().unwrap().steps()[1], step);

    // The only one is no other than the error's; of several it could be any.
    let one = envelope(&["o'brien@example.com"]);
    for (to, count, step) in [
        (one, 1, step),
        (two, 2, "Get-Recipient -Identity '<recipient>', when it is in the same organization"),
    ] {
        server.inject(FaultPoint::Rcpt, gone.clone().times(count));
        let error = mailer.submit_raw(&to, b"Subject: x\r\n\r\n").await.unwrap_err();
        assert_eq!(error.remedy().unwrap().steps()[1], step);
    }
}

#[tokio::test]
async fn an_unknown_reply_is_judged_by_code_and_phase_alone() {
    let cases = [
        (FaultPoint::Mail, "550 we do not like you", ErrorKind::SenderRefused, FIX),
        (FaultPoint::Auth, "550 no", ErrorKind::AuthenticationRefused, FIX),
        (FaultPoint::Auth, "450 not now", ErrorKind::ServerUnavailable, LATER),
        (FaultPoint::Body, "554 no", ErrorKind::MessageRefused, Disposition::FixMessage),
    ];
    for (point, reply, kind, disposition) in cases {
        let error = refusal(point, reply, false, ACCOUNT).await;
        assert_eq!((error.kind(), error.disposition(), error.cause()), (kind, disposition, None), "{reply}");
        assert_eq!(format!("{error:#}"), error.to_string(), "nothing is known, so nothing is added");
    }
}

#[tokio::test]
async fn the_whole_text_reads_well() {
    let reply =
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.";
    let error = refusal(FaultPoint::Auth, reply, false, ACCOUNT).await;
    assert_eq!(
        format!("{error:#}"),
        "the mail server refused the sign-in (535 5.7.139)\n\
         Authenticated SMTP is switched off for the mailbox svc-mail@contoso.com, which stops OAuth too.\n\
         To be done by an Exchange administrator:\n  \
           1. Microsoft 365 admin center > Users > Active users > svc-mail@contoso.com > Mail > Manage email apps: tick Authenticated SMTP\n  \
           2. or Set-CASMailbox -Identity 'svc-mail@contoso.com' -SmtpClientAuthenticationDisabled $false\n  \
           3. wait: the change takes from minutes up to a day\n\
         See https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/authenticated-client-smtp-submission"
    );
}

#[tokio::test]
async fn entras_refusals_come_with_the_page_to_open() {
    type Token = TokenErrorKind;
    let grant = "invalid_grant";
    let cases = [
        (grant, 65001, Token::SignInRequired, Disposition::Reauthenticate, Who::User, "consent"),
        (grant, 700_082, Token::SignInRequired, Disposition::Reauthenticate, Who::User, "90 days"),
        (
            grant,
            500_200,
            Token::SignInRequired,
            Disposition::Reauthenticate,
            Who::User,
            "personal Microsoft account",
        ),
        (
            grant,
            50057,
            Token::AccountRefused,
            FIX,
            Who::UserAdministrator,
            "svc-mail@contoso.com is disabled",
        ),
        (grant, 53003, Token::AccountRefused, FIX, Who::SecurityAdministrator, "Conditional Access"),
        (grant, 50196, Token::Unavailable, LATER, Who::Developer, "token cache"),
        (
            "invalid_client",
            7_000_222,
            Token::ClientRefused,
            FIX,
            Who::ApplicationAdministrator,
            "New client secret",
        ),
        (
            "invalid_client",
            7_000_215,
            Token::ClientRefused,
            FIX,
            Who::ApplicationAdministrator,
            "not its Secret ID",
        ),
        (
            "unauthorized_client",
            700_016,
            Token::ClientRefused,
            FIX,
            Who::ApplicationAdministrator,
            "Application (client) ID",
        ),
        ("invalid_request", 90002, Token::RequestRefused, FIX, Who::Operator, "no such tenant"),
        (
            grant,
            99_999_999,
            Token::SignInRequired,
            Disposition::Reauthenticate,
            Who::User,
            "must sign in again",
        ),
        ("invalid_scope", 99_999_999, Token::RequestRefused, FIX, Who::Operator, "scope"),
    ];
    for (oauth, code, token_kind, disposition, who, words) in cases {
        let (server, entra) = (FakeExchange::start().await, FakeEntra::start().await);
        entra.fail_next(5, TokenFault::AadstsAs { error: oauth, code });
        let app = entra.app().build().unwrap();
        let mailer = Mailer::builder(settings(&server).build().unwrap())
            .authentication(Authentication::oauth(app.refresh_token(entra.store())))
            .retry(RetryPolicy::never())
            .build()
            .unwrap();
        let error = mailer.submit(&message()).await.unwrap_err();
        let token_error = error.token_error().unwrap();
        assert_eq!((token_error.kind(), error.disposition()), (token_kind, disposition), "AADSTS{code}");
        let remedy = error.remedy().unwrap();
        assert_eq!(remedy.who(), who, "AADSTS{code}: {remedy}");
        assert!(remedy.to_string().contains(words), "AADSTS{code}: {remedy}");
        assert!(entra::remedy(token_error).is_some());
    }
}

#[tokio::test]
async fn a_bare_refusal_speaks_of_apps_only_where_an_app_may_have_signed_in() {
    let reply = "535 5.7.3 Authentication unsuccessful";
    let server = FakeExchange::builder().fault(FaultPoint::Auth, Fault::reply(reply).always()).start().await;
    let entra = FakeEntra::start().await;
    let app = entra.app().build().unwrap();
    let delegated = Authentication::oauth(app.refresh_token(entra.store()));
    // Whoever a provider of one's own has tokens for is not known.
    for (authentication, is_app_possible) in [(delegated, false), (issuing(server.tokens(), 1800), true)] {
        let config = settings(&server).build().unwrap();
        let mailer = Mailer::builder(config).authentication(authentication).build().unwrap();
        let remedy = mailer.verify().await.unwrap_err().remedy().unwrap().to_string();
        assert!(remedy.contains("belongs to another account than svc-mail@contoso.com"), "{remedy}");
        assert!(remedy.contains("request https://outlook.office.com/SMTP.Send"), "{remedy}");
        for words in ["app-only", "Get-ServicePrincipal", "Add-MailboxPermission", "/.default"] {
            assert_eq!(remedy.contains(words), is_app_possible, "{words}: {remedy}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_gets_a_remedy_too() {
    let server = FakeExchange::builder()
        .fault(FaultPoint::Greeting, Fault::Garbage(b"HTTP/1.1 400\r\n".to_vec()).always())
        .start()
        .await;
    let error = support::mailer(&server).verify().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(format!("{error:#}").contains("starttls on 587"), "{error:#}");
}

#[tokio::test]
async fn time_that_is_over_gets_a_remedy_for_what_it_was_spent_on() {
    let second = Duration::from_secs(1);
    let cases = [
        (FaultPoint::Greeting, "The mail server localhost does not answer."),
        (FaultPoint::Rcpt, "The mail server localhost stopped answering in the middle of a message."),
    ];
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let mailer = |authentication| {
        let timeouts = Timeouts::new().with_total(60 * second);
        let config = settings(&server).chunking(Chunking::Off).timeouts(timeouts).build().unwrap();
        let mailer = Mailer::builder(config).authentication(authentication).retry(RetryPolicy::never());
        mailer.clock(manual.clock()).build().unwrap()
    };
    let message = message();
    for (silence, summary) in cases {
        server.inject(silence, Fault::Silence);
        let mailer = mailer(issuing(server.tokens(), 1800));
        let error = manual.advance_until(second, mailer.submit(&message)).await.unwrap_err();
        assert_eq!(error.remedy().unwrap().summary(), summary, "{error}");
    }
    let mailer = mailer(Authentication::oauth(token::from_fn(std::future::pending)));
    let error = manual.advance_until(second, mailer.submit(&message)).await.unwrap_err();
    assert_eq!(error.remedy().unwrap().summary(), "No access token came in time.", "{error}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_redis_that_is_down_is_no_reason_to_park_the_message() {
    let (server, entra) = (FakeExchange::start().await, FakeEntra::start().await);
    let port = ClosedPort::bind();
    let store = RedisStore::open(format!("redis://127.0.0.1:{}/", port.port()), "svc").unwrap();
    let mailer = Mailer::builder(settings(&server).build().unwrap())
        .authentication(Authentication::oauth(entra.app().build().unwrap().refresh_token(Arc::new(store))))
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::TokenUnavailable, LATER), "{error:#}");
    assert!(error.to_string().contains(&format!("in Redis at 127.0.0.1:{}", port.port())), "{error}");
    let remedy = error.remedy().unwrap();
    assert_eq!(remedy.who(), Who::Operator);
    assert_eq!(
        remedy.steps()[0],
        "send the message again later: nothing was sent, and the store may only be restarting"
    );
    for (step, words) in remedy.steps()[2..].iter().zip([
        "a file: ",
        "Redis: ",
        "the keyring: ",
        "a store of the program's own: ",
    ]) {
        assert!(step.starts_with(words), "{remedy}");
    }
}

#[tokio::test]
async fn an_app_prints_its_own_set_up() {
    let (server, entra) = (FakeExchange::start().await, FakeEntra::start().await);
    let config = settings(&server).sender("alerts@contoso.com").build().unwrap();
    let script = entra.app().build().unwrap().setup_script(SendingRight::MailboxPermission, &config);
    assert!(script.contains(&entra.client_id()), "{script}");
    assert!(script.contains("Add-RecipientPermission -Identity 'alerts@contoso.com'"), "{script}");
}
