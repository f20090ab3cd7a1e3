//! What a user of another mail service than Exchange Online gets: its host, its rules, and a message sent by its way to sign in.

mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use smtp_oauth::testing::{Extensions, FakeExchange, IssuedTokens};
use smtp_oauth::{
    Authentication, AuthenticationMethod, Chunking, Clock, ConfigError, MailProvider, MailServerConfig,
    Mailer, ServerBuilder, Tls, token,
};

use support::{ACCOUNT, PASSWORD, message};

const OAUTH: AuthenticationMethod = AuthenticationMethod::OAuth;
const BASIC: AuthenticationMethod = AuthenticationMethod::Basic;

fn service(provider: MailProvider) -> ServerBuilder<MailServerConfig> {
    MailServerConfig::for_provider(provider).username(ACCOUNT)
}

#[track_caller]
fn assert_reads(result: Result<MailServerConfig, ConfigError>, expected: &[&str]) {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().skip(1).map(str::trim).collect::<Vec<_>>(), expected);
}

#[test]
fn a_service_needs_no_more_than_a_user_name() {
    for (provider, host, port, tls, methods) in [
        (MailProvider::OutlookCom, "smtp-mail.outlook.com", 587, Tls::StartTls, &[OAUTH][..]),
        (MailProvider::HighVolumeEmail, "smtp.hve.mx.microsoft", 587, Tls::StartTls, &[OAUTH, BASIC]),
        (MailProvider::AzureCommunicationServices, "smtp.azurecomm.net", 587, Tls::StartTls, &[BASIC]),
        (MailProvider::Gmail, "smtp.gmail.com", 465, Tls::Implicit, &[OAUTH, BASIC]),
        (MailProvider::Yahoo, "smtp.mail.yahoo.com", 465, Tls::Implicit, &[OAUTH, BASIC]),
        (MailProvider::Aol, "smtp.aol.com", 465, Tls::Implicit, &[OAUTH, BASIC]),
    ] {
        let config = service(provider).build().unwrap();
        assert_eq!((config.host(), config.port(), config.tls()), (host, port, tls));
        assert_eq!((config.provider(), config.authentication_preference()), (provider, methods));
        // Whoever enters the host alone gets the same service.
        let by_name = MailServerConfig::builder().host(host).username(ACCOUNT).build().unwrap();
        assert_eq!(by_name, config);
    }
}

#[test]
fn what_a_service_would_refuse_is_refused_here() {
    assert_reads(
        service(MailProvider::Gmail).host("smtp.googlemail.example").build(),
        &["host (given \"smtp.googlemail.example\"): enter smtp.gmail.com: that is no host of Gmail"],
    );
    assert_reads(
        service(MailProvider::Gmail).port(2525).build(),
        &["port (given \"2525\"): enter 465: Gmail takes no other port with tls implicit"],
    );
    assert_reads(
        service(MailProvider::OutlookCom).tls(Tls::Implicit).build(),
        &["tls (given \"implicit\"): enter starttls: Outlook.com has no implicit TLS"],
    );
    assert_reads(
        MailServerConfig::for_provider(MailProvider::Yahoo).username("svc-mail").sender(ACCOUNT).build(),
        &["username (given \"svc-mail\"): enter the whole address of the account, such as name@example.com"],
    );
    let starttls = service(MailProvider::Gmail).tls(Tls::StartTls).build().unwrap();
    assert_eq!(starttls.port(), 587);
}

#[test]
fn each_service_has_its_limits() {
    let hve = service(MailProvider::HighVolumeEmail).build().unwrap();
    assert_eq!(hve.refresh_margin(), Duration::from_secs(20 * 60));
    assert_eq!(hve.limits().recipients_per_message(), NonZeroU32::new(50));
    assert_eq!(hve.chunking(), Chunking::Off);
    let gmail = service(MailProvider::Gmail).build().unwrap();
    assert_eq!(gmail.limits().recipients_per_message(), NonZeroU32::new(100));
    assert_eq!(gmail.chunking(), Chunking::Auto);
    let outlook = service(MailProvider::OutlookCom).build().unwrap();
    assert_eq!(outlook.max_connections().get(), 3);
}

#[test]
fn an_smtp_user_name_of_azure_communication_services_is_no_address() {
    let config = MailServerConfig::for_provider(MailProvider::AzureCommunicationServices)
        .username("contoso-mail.6731de76-14a6-49ae-97bc-6eba6914391e.contoso")
        .sender("donotreply@contoso.com")
        .build()
        .unwrap();
    let mailer = Mailer::builder(config).authentication(Authentication::basic("secret")).build().unwrap();
    assert!(mailer.warnings().is_empty());
}

#[test]
fn a_way_to_sign_in_that_the_service_ended_is_a_problem_of_the_settings() {
    let never = || Authentication::oauth(token::from_fn(|| async { unreachable!("no token is asked for") }));
    for (provider, authentication, problem) in [
        (
            MailProvider::OutlookCom,
            Authentication::basic("secret"),
            "authentication: use oauth: Outlook.com takes no passwords since 2024-09-16",
        ),
        (
            MailProvider::AzureCommunicationServices,
            never(),
            "authentication: use basic: Azure Communication Services signs in with an SMTP user name, and with the \
             app's client secret as the password",
        ),
    ] {
        let config = service(provider).build().unwrap();
        let error = Mailer::builder(config).authentication(authentication).build().unwrap_err();
        assert_eq!(error.to_string(), format!("1 problem in the mail settings\n  {problem}"));
    }
}

#[test]
fn a_sender_that_the_service_does_not_take_is_warned_of() {
    for (provider, words) in [
        (MailProvider::HighVolumeEmail, "refuses (5.7.62)"),
        (MailProvider::Gmail, "replaces by the account's address"),
        (MailProvider::Yahoo, "verified send-only address"),
        (MailProvider::Aol, "verified send-only address"),
    ] {
        let config = service(provider).sender("alerts@contoso.com").build().unwrap();
        let mailer = Mailer::builder(config).authentication(Authentication::basic("secret")).build().unwrap();
        let [warning] = mailer.warnings().try_into().expect("one warning");
        assert!(warning.starts_with("svc-mail@contoso.com sends as alerts@contoso.com, which "), "{warning}");
        assert!(warning.contains(words), "{warning}");
    }
}

/// A fake in the place of a service: over TLS, with its way to sign in.
async fn sends(
    provider: MailProvider,
    tls: Tls,
    mechanisms: &str,
    method: AuthenticationMethod,
) -> Vec<String> {
    let tokens = IssuedTokens::new(Clock::system());
    let builder = FakeExchange::builder()
        .extensions(Extensions::exchange_online().auth(mechanisms))
        .tokens(tokens.clone())
        .password(ACCOUNT, PASSWORD);
    let server = if tls == Tls::Implicit { builder.implicit_tls() } else { builder }.start().await;
    let config = service(provider)
        .host(server.host())
        .port(server.port())
        .tls(tls)
        .extra_roots(server.root_pem())
        .without_platform_roots()
        .build()
        .unwrap();
    let authentication = match method {
        AuthenticationMethod::Basic => Authentication::basic(PASSWORD),
        _ => support::issuing(&tokens, 200),
    };
    let mailer = Mailer::builder(config).authentication(authentication).build().unwrap();
    let submission = mailer.submit(&message()).await.unwrap();
    assert!(submission.refused().is_empty());
    server.messages().into_iter().map(|received| received.user.unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_message_reaches_each_kind_of_service() {
    use MailProvider::{Gmail, HighVolumeEmail, Other, OutlookCom, Yahoo};

    for (provider, tls, mechanisms, method) in [
        (OutlookCom, Tls::StartTls, "LOGIN XOAUTH2", OAUTH),
        (HighVolumeEmail, Tls::StartTls, "LOGIN XOAUTH2", OAUTH),
        (Gmail, Tls::Implicit, "LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH", OAUTH),
        (Yahoo, Tls::Implicit, "PLAIN LOGIN XOAUTH2 OAUTHBEARER", BASIC),
        (Other, Tls::StartTls, "OAUTHBEARER", OAUTH),
    ] {
        assert_eq!(sends(provider, tls, mechanisms, method).await, [ACCOUNT], "{provider:?}");
    }
}
