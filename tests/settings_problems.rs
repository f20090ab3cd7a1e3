//! What a user reads when mail server settings cannot be used: every problem at once, with what to enter instead.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::{prop_assert, prop_assert_eq, proptest};
use smtp_oauth::{
    Authentication, AuthenticationMethod, Chunking, Cloud, ConfigError, ConfigProblem, InitialResponse,
    MailProvider, MailServerConfig, Mailer, Office365Profile, SendingLimits, ServerBuilder, Timeouts, Tls,
    TlsVersion, basic_authentication_retirement, token,
};

fn office365() -> ServerBuilder<Office365Profile> {
    Office365Profile::builder().username("svc-mail@contoso.com")
}

fn custom() -> ServerBuilder<MailServerConfig> {
    MailServerConfig::builder().host("mail.contoso.com").username("svc-mail@contoso.com")
}

fn lines(error: &ConfigError) -> Vec<String> {
    error.to_string().lines().map(str::to_owned).collect()
}

/// Asserts that there is one problem, and how it reads.
#[track_caller]
fn assert_reads<T: std::fmt::Debug>(result: Result<T, ConfigError>, line: &str) {
    let error = result.expect_err(line);
    assert_eq!(lines(&error), ["1 problem in the mail settings".to_owned(), format!("  {line}")]);
}

#[test]
fn office365_fixes_what_microsoft_fixes() {
    let profile = office365().sender("Contoso alerts <alerts@contoso.com>").build().unwrap();
    assert!(profile.sends_as_other());
    assert_eq!(
        Office365Profile::authentication_methods(),
        [AuthenticationMethod::OAuth, AuthenticationMethod::Basic]
    );
    let config = MailServerConfig::from(profile);
    assert_eq!((config.host(), config.port(), config.tls()), ("smtp.office365.com", 587, Tls::StartTls));
    assert_eq!(config.tls_settings().minimum_version(), TlsVersion::Tls12);
    assert_eq!((config.max_connections().get(), config.chunking()), (3, Chunking::Off));
    assert_eq!(config.initial_response(), InitialResponse::WhenShort);
    assert_eq!(config.provider(), MailProvider::Exchange(Cloud::Public));
    assert_eq!(config.hello_name(), "[127.0.0.1]");
    assert_eq!(config.refresh_margin(), Duration::from_secs(300));
    assert_eq!(config.authentication_preference(), Office365Profile::authentication_methods());
    assert!(basic_authentication_retirement().contains("December 2026"));
}

#[test]
fn each_cloud_has_its_host() {
    for (cloud, host) in [
        (Cloud::Public, "smtp.office365.com"),
        (Cloud::UsGovernment, "smtp.office365.us"),
        (Cloud::UsGovernmentDod, "outlook-dod.office365.us"),
        (Cloud::China, "smtp.partner.outlook.cn"),
    ] {
        assert_eq!(office365().cloud(cloud).build().unwrap().config().host(), host);
    }
    assert!(office365().cloud(Cloud::China).host("partner.outlook.cn").build().is_ok());
}

#[test]
fn a_custom_server_has_its_own_defaults() {
    let config = custom().build().unwrap();
    assert_eq!((config.port(), config.tls(), config.max_connections().get()), (587, Tls::StartTls, 4));
    assert_eq!((config.chunking(), config.provider()), (Chunking::Auto, MailProvider::Other));
    assert_eq!(config.sender().email.to_string(), "svc-mail@contoso.com");
    assert!(!config.sends_as_other());
    assert_eq!(custom().tls(Tls::Implicit).build().unwrap().port(), 465);
    let exchange = custom().host("SMTP.office365.com").build().unwrap();
    assert_eq!(exchange.provider(), MailProvider::Exchange(Cloud::Public));
    assert_eq!((exchange.chunking(), exchange.max_connections().get()), (Chunking::Off, 3));
}

#[test]
fn office365_says_why_a_port_will_not_do() {
    for (port, reason) in [
        (
            25,
            "25 is for mail between servers, is blocked in many networks, and gives applications no better service",
        ),
        (465, "Exchange Online has no implicit TLS, so nothing answers on 465"),
        (2525, "Exchange Online takes submissions on no other port"),
    ] {
        assert_reads(
            office365().port(port).build(),
            &format!("port (given \"{port}\"): enter 587: {reason}"),
        );
    }
}

#[test]
fn office365_is_never_spoken_to_without_starttls() {
    assert_reads(
        office365().tls(Tls::LoopbackPlaintext).build(),
        "tls (given \"none\"): enter starttls: Exchange Online takes no mail without TLS",
    );
    assert_reads(
        office365().tls(Tls::Implicit).build(),
        "tls (given \"implicit\"): enter starttls: Exchange Online has no implicit TLS",
    );
    assert_reads(
        office365().host("127.0.0.1").port(2525).tls(Tls::LoopbackPlaintext).build(),
        "tls (given \"none\"): enter starttls: Exchange Online is never spoken to without TLS, nor are its fakes",
    );
    assert!(office365().host("localhost").port(2525).build().is_ok());
}

#[test]
fn tls_1_1_is_refused() {
    let line = "minimum_tls (given \"1.1\"): enter 1.2 or 1.3: older versions are not safe (RFC 8996), and Exchange Online refuses them";
    assert_reads(office365().minimum_tls("1.1").build(), line);
    assert_reads(custom().minimum_tls("1.1").build(), line);
    let profile = office365().minimum_tls("1.3").build().unwrap();
    assert_eq!(profile.config().tls_settings().minimum_version(), TlsVersion::Tls13);
}

#[test]
fn a_host_that_is_not_the_clouds_is_named_for_what_it_is() {
    for (cloud, host, right, reason) in [
        (
            Cloud::Public,
            "smtp.office365.us",
            "smtp.office365.com",
            "that is the host of cloud us-government, while cloud is public",
        ),
        (
            Cloud::China,
            "smtp.office365.com",
            "smtp.partner.outlook.cn",
            "that is the host of cloud public, while cloud is china",
        ),
        (
            Cloud::Public,
            "contoso-com.mail.protection.outlook.com",
            "smtp.office365.com",
            "that is where other servers deliver mail for the tenant; nobody can sign in there",
        ),
        (
            Cloud::Public,
            "smtp-legacy.office365.com",
            "smtp.office365.com",
            "that is the host for TLS 1.0 and 1.1, which are not safe",
        ),
        (
            Cloud::Public,
            "192.0.2.1",
            "smtp.office365.com",
            "Exchange Online is reached by name only; its addresses change",
        ),
        (
            Cloud::Public,
            "smtp.gmail.com",
            "smtp.office365.com",
            "that is no host of cloud public; for another server use the general mail server settings, in a settings file profile \"custom\"",
        ),
    ] {
        assert_reads(
            office365().cloud(cloud).host(host).build(),
            &format!("host (given \"{host}\"): enter {right}: {reason}"),
        );
    }
}

#[test]
fn a_sender_that_is_no_address_is_refused() {
    assert_reads(
        office365().sender("alerts").build(),
        "sender (given \"alerts\"): enter a whole address with @ and domain, such as alerts@contoso.com",
    );
    assert_reads(
        office365().test_recipient("a@contoso.com, b@contoso.com").build(),
        "test_recipient (given \"a@contoso.com, b@contoso.com\"): enter one address only",
    );
    assert_reads(
        MailServerConfig::builder().host("mail.contoso.com").username("svc").build(),
        "sender: enter the sender's address; the user name is none that could stand in for it",
    );
    assert_reads(
        Office365Profile::builder().username("svc").sender("a@contoso.com").build(),
        "username (given \"svc\"): enter the whole user principal name, such as svc-mail@contoso.com",
    );
}

#[test]
fn a_user_name_that_cannot_be_one_says_what_to_mend() {
    let server = || MailServerConfig::builder().host("mail.contoso.com").sender("a@contoso.com");
    assert_reads(server().username("svc ").build(), "username (given \"svc \"): remove the blank at its end");
    let long = server().username("x".repeat(321)).build().unwrap_err().to_string();
    let mend = "enter the name that signs in; no server has names of more than 320 octets";
    assert!(long.contains("username (given \"xxx") && long.contains(mend), "{long}");
    server().username("x".repeat(320)).build().unwrap();
}

#[test]
fn control_characters_never_reach_a_header_or_the_sign_in() {
    assert_reads(
        office365().sender("Alerts\r\nBcc: all@contoso.com <alerts@contoso.com>").build(),
        "sender (given \"Alerts\\r\\nBcc: all@contoso.com <alerts@contoso.com>\"): remove the control characters (line breaks, tabs, NUL); they could start another header",
    );
    assert_reads(
        office365().test_recipient("A\0dmin <admin@contoso.com>").build(),
        "test_recipient (given \"A\\0dmin <admin@contoso.com>\"): remove the control characters (line breaks, tabs, NUL); they could start another header",
    );
    assert_reads(
        office365().sender("a@contoso.com").username("svc@contoso.com\u{1}auth=Bearer x").build(),
        "username (given \"svc@contoso.com\\u{1}auth=Bearer x\"): remove the control characters (line breaks, tabs, NUL); they could end the sign-in message early",
    );
    assert_reads(
        office365().hello_name("x\r\nMAIL FROM:<>").build(),
        "hello_name (given \"x\\r\\nMAIL FROM:<>\"): enter this machine's DNS name, or its address in brackets: [192.0.2.1] or [IPv6:2001:db8::1]",
    );
}

#[test]
fn plaintext_stays_on_this_machine() {
    assert_reads(
        custom().tls(Tls::LoopbackPlaintext).build(),
        "tls (given \"none\"): enter starttls: only a server on this machine may be spoken to without encryption",
    );
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let config = custom().host(host).port(25).tls(Tls::LoopbackPlaintext).build().unwrap();
        assert!(config.is_loopback());
    }
}

#[test]
fn an_access_token_never_travels_in_plain_text() {
    let config = custom().host("127.0.0.1").port(2525).tls(Tls::LoopbackPlaintext).build().unwrap();
    let provider = token::from_fn(|| async { unreachable!("no token is asked for") });
    let builder = Mailer::builder(config.clone()).authentication(Authentication::oauth(provider));
    assert_reads(
        builder.build(),
        "tls (given \"none\"): use `starttls` or `implicit`: an access token never travels unencrypted",
    );
    assert!(Mailer::builder(config).authentication(Authentication::basic("x")).build().is_ok());
}

#[test]
fn a_port_that_does_not_fit_the_encryption_is_refused() {
    assert_reads(
        custom().port(465).build(),
        "port (given \"465\"): enter 587, or set tls to implicit: on 465 TLS comes first (RFC 8314)",
    );
    assert_reads(
        custom().port(587).tls(Tls::Implicit).build(),
        "port (given \"587\"): enter 465, or set tls to starttls: on 25 and 587 the server speaks first, in plain text",
    );
    assert_reads(custom().port(0).build(), "port (given \"0\"): enter the server's port, usually 587");
}

#[test]
fn waits_and_limits_have_bounds() {
    assert_reads(
        custom().timeouts(Timeouts::new().with_connect(Duration::ZERO)).build(),
        "timeouts.connect (given \"0s\"): enter a time longer than zero and at most 24 hours, such as 30s or 5m",
    );
    assert!(custom().timeouts(Timeouts::new().with_total(Duration::MAX)).build().is_err());
    assert_reads(
        custom().refresh_margin(Duration::from_secs(3600)).build(),
        "refresh_margin (given \"1h\"): enter at most 45m: tokens live for an hour or little more, and would never be used",
    );
    let five = NonZeroU32::new(5).unwrap();
    assert_reads(
        office365().max_connections(five).build(),
        "max_connections (given \"5\"): enter at most 3: Exchange Online refuses a mailbox's fourth connection (432 4.3.2)",
    );
    assert_eq!(custom().max_connections(five).build().unwrap().max_connections(), five);
}

#[test]
fn more_than_exchange_online_allows_is_warned_of() {
    let warnings = |limits: SendingLimits| office365().limits(limits).build().unwrap().config().warnings();
    assert!(warnings(SendingLimits::exchange_online()).is_empty());
    let allowed = SendingLimits::exchange_online();
    for (limits, warning) in [
        (
            allowed.with_messages_per_minute(NonZeroU32::new(31)),
            "limits.messages_per_minute is 31, while Exchange Online allows a mailbox 30 messages a minute: it delays the others to later minutes, or refuses them for a while",
        ),
        (
            allowed.with_recipients_per_day(None),
            "limits.recipients_per_day is none, while Exchange Online allows a mailbox 10,000 recipients in 24 hours: it refuses the others until there is room again (554 5.2.0)",
        ),
    ] {
        assert_eq!(warnings(limits), [warning]);
    }
    assert_eq!(warnings(SendingLimits::new()).len(), 2);
    let relay = office365().host("localhost").port(2525).max_connections(NonZeroU32::MAX).build().unwrap();
    assert_eq!(
        relay.config().warnings(),
        [
            "max_connections is 4294967295, while Exchange Online allows a mailbox 3 connections at once: it refuses each one beyond (432 4.3.2), and messages are delayed"
        ]
    );
    assert!(custom().limits(SendingLimits::new()).build().unwrap().warnings().is_empty());
}

#[test]
fn roots_must_be_certificates_and_there_must_be_some() {
    assert_reads(
        custom().extra_roots("-----BEGIN PRIVATE KEY-----\nZ2VoZWlt\n-----END PRIVATE KEY-----").build(),
        "extra_roots: enter PEM with the roots' `BEGIN CERTIFICATE` blocks: the root certificates hold no `BEGIN CERTIFICATE` block",
    );
    assert_reads(
        custom().without_platform_roots().build(),
        "trust_platform_roots: add root certificates, or trust the operating system's: without either no server is trusted",
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let error = Office365Profile::builder()
        .host("smtp.office365.us")
        .port(25)
        .tls(Tls::LoopbackPlaintext)
        .minimum_tls("1.0")
        .sender("alerts")
        .test_recipient("admin")
        .hello_name("a b")
        .timeouts(Timeouts::new().with_auth(Duration::ZERO))
        .build()
        .unwrap_err();
    let fields: Vec<_> = error.problems().iter().map(ConfigProblem::field).collect();
    assert_eq!(
        fields,
        [
            "host",
            "port",
            "tls",
            "minimum_tls",
            "username",
            "sender",
            "test_recipient",
            "timeouts.auth",
            "hello_name"
        ]
    );
    assert_eq!(lines(&error).len(), 10);
    assert_eq!(lines(&error)[0], "9 problems in the mail settings");
}

#[test]
fn long_values_are_cut_and_urls_with_passwords_are_not_shown() {
    let error = custom().sender("x".repeat(5000)).build().unwrap_err();
    assert_eq!(error.problems()[0].given().unwrap().chars().count(), 101);
    let error = custom().host("smtp://svc:geheim@mail.contoso.com").build().unwrap_err();
    assert_eq!(error.problems()[0].given(), None);
    assert!(!format!("{error} {error:?}").contains("geheim"));
    assert_eq!(
        error.problems()[0].mend(),
        "enter the server's name alone, such as smtp.office365.com, not a URL"
    );
}

proptest! {
    #[test]
    fn whatever_is_entered_is_answered_by_one_line_each(
        host in ".{0,40}",
        sender in "(\\PC|[\\x00-\\x1f]){0,20}( <a@contoso.com>)?",
        username in ".{0,20}(@contoso.com)?",
        hello_name in ".{0,20}",
        minimum_tls in ".{0,5}",
    ) {
        let built = MailServerConfig::builder()
            .host(host)
            .sender(sender)
            .username(username)
            .hello_name(hello_name)
            .minimum_tls(minimum_tls)
            .build();
        match built {
            Ok(config) => {
                // lettre would panic here on a name with CR, LF or NUL.
                smtp_oauth::lettre::Message::builder()
                    .from(config.sender().clone())
                    .to(config.sender().clone())
                    .body(String::new())
                    .unwrap();
            }
            Err(error) => {
                prop_assert_eq!(lines(&error).len(), error.problems().len() + 1);
                prop_assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n'));
            }
        }
    }
}
