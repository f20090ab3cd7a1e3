//! Whatever a server does wrong before or during a submission, the error says what it was and whose move it is.

mod support;

use std::error::Error as _;
use std::time::Duration;

use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{
    CertificateKind, Extensions, FakeExchange, FakeExchangeBuilder, Fault, FaultPoint as At, TestAuthority,
};
use smtp_oauth::{
    Authentication, Disposition, Error, ErrorKind, MailServerConfig, Mailer, Phase, ServerBuilder, Tls,
};
use support::closed_port::ClosedPort;
use support::{
    PASSWORD, PHASES, RETRY, assert_failure, assert_failure_or_unknown, data_mailer, data_settings, envelope,
    message,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const FIX: Disposition = Disposition::FixConfiguration;

async fn failure(server: &FakeExchange) -> Error {
    failure_with(data_settings(server), server).await
}

async fn failure_with(settings: ServerBuilder<MailServerConfig>, server: &FakeExchange) -> Error {
    let authentication = support::issuing(server.tokens(), 1800);
    let mailer = Mailer::builder(settings.build().unwrap())
        .retry(RetryPolicy::never())
        .authentication(authentication)
        .build()
        .unwrap();
    mailer.submit(&message()).await.unwrap_err()
}

fn assert_no_auth(server: &FakeExchange, case: &str) {
    let transcript = server.transcript();
    assert!(!transcript.iter().any(|line| line.starts_with("AUTH")), "{case}: {transcript:?}");
    assert!(server.auth_attempts().is_empty(), "{case}");
}

#[tokio::test]
async fn a_server_that_refuses_the_client_at_the_door_is_quoted() {
    let refused = |phase, text| (ErrorKind::ServerRefused, phase, FIX, text);
    let busy = |phase, text| (ErrorKind::ServerUnavailable, phase, RETRY, text);
    let cases = [
        (
            At::Greeting,
            "554 5.7.1 Access denied",
            refused(Phase::Greeting, "the mail server refused the connection (554 5.7.1)"),
        ),
        (
            At::Greeting,
            "421 4.3.2 Service not available",
            busy(Phase::Greeting, "the mail server cannot do it at the moment (421 4.3.2)"),
        ),
        (
            At::Ehlo,
            "550 5.7.1 Bad name",
            refused(Phase::Ehlo, "the mail server refused the connection (550 5.7.1)"),
        ),
        (
            At::Ehlo,
            "421 4.7.66 TLS 1.0 and 1.1 are not supported",
            // Temporary by its code, permanent by its meaning.
            (
                ErrorKind::Tls,
                Phase::Ehlo,
                FIX,
                "the mail server refused the connection for lack of sufficient TLS (421 4.7.66)",
            ),
        ),
        (
            At::EhloAfterTls,
            "502 Not implemented",
            refused(Phase::Ehlo, "the mail server refused the connection (502)"),
        ),
        (
            At::StartTls,
            "454 4.7.0 TLS not available",
            busy(Phase::StartTls, "the mail server cannot do it at the moment (454 4.7.0)"),
        ),
        (
            At::StartTls,
            "502 5.5.1 Not implemented",
            (
                ErrorKind::StartTlsUnavailable,
                Phase::StartTls,
                FIX,
                "the mail server refused STARTTLS (502 5.5.1)",
            ),
        ),
    ];
    for (at, reply, expected) in cases {
        for fault in [Fault::reply(reply), Fault::ReplyThenClose(reply.to_owned())] {
            let case = format!("{at:?}, {fault:?}");
            let server = FakeExchange::builder().fault(at, fault).start().await;
            let error = failure(&server).await;
            assert_failure(&error, expected, &case);
            assert_eq!(error.reply().unwrap().to_string(), reply, "{case}");
            assert_no_auth(&server, &case);
        }
    }
}

#[tokio::test]
async fn any_other_reply_to_starttls_than_220_is_a_no() {
    for reply in ["250 OK", "221 Go ahead", "334 Go ahead", "354 Go ahead"] {
        let server = FakeExchange::builder().fault(At::StartTls, Fault::reply(reply)).start().await;
        let error = failure(&server).await;
        let text = format!("the mail server refused STARTTLS ({})", &reply[..3]);
        assert_failure(&error, (ErrorKind::StartTlsUnavailable, Phase::StartTls, FIX, &text), reply);
        assert_eq!(error.reply().unwrap().to_string(), reply);
        server.wait_for_open(0).await;
        let last = server.transcript().pop().unwrap();
        assert_eq!((last.as_str(), server.message_count()), ("STARTTLS", 0), "{reply}");
        assert_no_auth(&server, reply);
    }
}

#[tokio::test]
async fn without_starttls_nothing_secret_is_said() {
    let extensions = Extensions::exchange_online().without("STARTTLS").auth_before_tls();
    let server = FakeExchange::builder().extensions(extensions).start().await;
    let expected =
        (ErrorKind::StartTlsUnavailable, Phase::StartTls, FIX, "the mail server does not offer STARTTLS");
    assert_failure(&failure(&server).await, expected, "no STARTTLS");
    assert_no_auth(&server, "no STARTTLS");
}

#[tokio::test]
async fn replies_injected_before_tls_end_the_connection() {
    let injections: [&[u8]; 5] = [
        b"250-evil.example\r\n250 AUTH PLAIN\r\n",
        b"250 evil.example\r\n",
        b"250-ev",
        b"2",
        &[b'x'; 20_000],
    ];
    for injection in injections {
        let case = String::from_utf8_lossy(&injection[..injection.len().min(40)]).into_owned();
        let server =
            FakeExchange::builder().fault(At::StartTls, Fault::Inject(injection.to_vec())).start().await;
        let error = failure(&server).await;
        assert_eq!((error.kind(), error.phase()), (ErrorKind::PlaintextInjected, Phase::StartTls), "{case}");
        assert_eq!(error.disposition(), FIX, "{case}");
        assert!(
            error.to_string().ends_with("octets came unencrypted between STARTTLS and the TLS handshake"),
            "{error}"
        );
        assert_no_auth(&server, &case);
    }
}

/// Plays a server up to STARTTLS, answers that in two segments, and returns all that the client says.
async fn inject_in_two_segments(socket: tokio::net::TcpListener, first: &[u8], second: &[u8]) -> Vec<u8> {
    let (stream, _) = socket.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    let mut heard = Vec::new();
    for reply in ["220 mail.example ready\r\n", "250-mail.example\r\n250 STARTTLS\r\n"] {
        output.write_all(reply.as_bytes()).await.unwrap();
        input.read_until(b'\n', &mut heard).await.unwrap();
    }
    output.write_all(first).await.unwrap();
    for _ in 0..8 {
        tokio::task::yield_now().await; // So that the client may read the first segment alone.
    }
    // The client may have gone by now, which is as good.
    let _ = output.write_all(second).await;
    let _ = input.read_to_end(&mut heard).await;
    heard
}

#[tokio::test]
async fn however_injected_bytes_are_cut_they_end_the_connection() {
    let answer = b"220 go\r\n250-evil.example\r\n250 AUTH PLAIN LOGIN XOAUTH2\r\n";
    for cut in 0..=answer.len() {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = MailServerConfig::builder().host("localhost").port(socket.local_addr().unwrap().port());
        let config = config.username(support::ACCOUNT).build().unwrap();
        let authentication = Authentication::basic(PASSWORD);
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(authentication)
            .build()
            .unwrap();
        let (first, second) = answer.split_at(cut);
        let submit = async {
            let error = mailer.submit(&message()).await.unwrap_err();
            drop(mailer);
            error
        };
        let (error, heard) = tokio::join!(submit, inject_in_two_segments(socket, first, second));
        // Cut just behind the 220, the bytes may come when the handshake has begun: no TLS record looks like that.
        let late = cut == 8 && error.kind() == ErrorKind::Tls;
        assert!(error.kind() == ErrorKind::PlaintextInjected || late, "cut at {cut}: {error:?}");
        assert_eq!(error.disposition(), FIX);
        assert!(!heard.windows(4).any(|word| word == b"AUTH"), "cut at {cut}");
    }
}

/// Joins what the sources of an error say.
fn sources(error: &Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!("{error}; "));
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_server_whose_tls_does_not_fit_is_not_talked_to() {
    let garbage = Fault::Garbage(b"500 5.5.1 What is this?\r\n".to_vec());
    let builder = FakeExchange::builder;
    let cases: [(&str, FakeExchangeBuilder, &str); 5] = [
        ("expired", builder().certificate(CertificateKind::Expired), "expired"),
        ("wrong name", builder().certificate(CertificateKind::WrongName), "not valid for"),
        ("TLS 1.1", builder().fault(At::TlsHandshake, Fault::Tls11Only), "ProtocolVersion"),
        ("garbage", builder().implicit_tls().fault(At::TlsHandshake, garbage), "corrupt message"),
        ("TLS 1.2 only", builder().tls12_only(), ""),
    ];
    for (case, builder, reason) in cases {
        let server = builder.start().await;
        let settings = match case {
            "TLS 1.2 only" => data_settings(&server).minimum_tls("1.3"),
            "garbage" => data_settings(&server).tls(Tls::Implicit),
            _ => data_settings(&server),
        };
        let error = failure_with(settings, &server).await;
        let text = "the TLS handshake with the mail server failed";
        assert_failure(&error, (ErrorKind::Tls, Phase::Tls, FIX, text), case);
        assert!(sources(&error).contains(reason), "{case}: {}", sources(&error));
        assert_no_auth(&server, case);
    }
}

#[tokio::test]
async fn a_certificate_from_an_unknown_authority_is_not_trusted() {
    for (tls, builder) in
        [(Tls::StartTls, FakeExchange::builder()), (Tls::Implicit, FakeExchange::builder().implicit_tls())]
    {
        let server = builder.start().await;
        let config = MailServerConfig::builder().host(server.host()).port(server.port()).tls(tls);
        let config = config.username(support::ACCOUNT).extra_roots(TestAuthority::new().root_pem());
        let error = failure_with(config.without_platform_roots(), &server).await;
        let text = "the TLS handshake with the mail server failed";
        assert_failure(&error, (ErrorKind::Tls, Phase::Tls, FIX, text), tls.name());
        assert!(sources(&error).contains("invalid peer certificate"), "{}", sources(&error));
        assert_no_auth(&server, tls.name());
    }
}

#[tokio::test]
async fn a_connection_closed_during_the_handshake_may_work_next_time() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = MailServerConfig::builder().host("localhost").port(socket.local_addr().unwrap().port());
    let config = config.tls(Tls::Implicit).username(support::ACCOUNT).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(Authentication::basic(PASSWORD))
        .build()
        .unwrap();
    let close_after_client_hello = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        let mut hello = [0; 16 * 1024];
        let heard = stream.read(&mut hello).await.unwrap();
        assert_eq!(hello[..heard].first(), Some(&0x16), "a handshake record");
    };
    let (error, ()) =
        tokio::join!(async { mailer.submit(&message()).await.unwrap_err() }, close_after_client_hello);
    let text = "the mail server closed the connection (TLS handshake)";
    assert_failure(&error, (ErrorKind::Disconnected, Phase::Tls, RETRY, text), "close");
}

type SignIn = fn(&FakeExchange) -> Authentication;

#[tokio::test]
async fn a_server_without_a_fitting_mechanism_is_told_nothing() {
    let offer = Extensions::exchange_online;
    let oauth = |server: &FakeExchange| support::issuing(server.tokens(), 1800);
    let basic = |_: &FakeExchange| Authentication::basic(PASSWORD);
    let cases: [(Extensions, SignIn, &str); 4] = [
        (
            offer().without("AUTH"),
            oauth,
            "signing in needs XOAUTH2 or OAUTHBEARER, and the mail server offers no mechanism",
        ),
        (
            offer().auth("LOGIN PLAIN"),
            oauth,
            "signing in needs XOAUTH2 or OAUTHBEARER, and the mail server offers LOGIN, PLAIN",
        ),
        (
            offer().auth("XOAUTH2"),
            basic,
            "signing in needs PLAIN or LOGIN, and the mail server offers XOAUTH2",
        ),
        (
            offer().without("AUTH"),
            basic,
            "signing in needs PLAIN or LOGIN, and the mail server offers no mechanism",
        ),
    ];
    for (extensions, authentication, text) in cases {
        let server = FakeExchange::builder().extensions(extensions).start().await;
        let mailer = Mailer::builder(data_settings(&server).build().unwrap()).retry(RetryPolicy::never());
        let mailer = mailer.authentication(authentication(&server)).build().unwrap();
        let error = mailer.submit(&message()).await.unwrap_err();
        assert_failure(&error, (ErrorKind::MechanismUnavailable, Phase::Auth, FIX, text), text);
        assert_no_auth(&server, text);
    }
}

/// The most memory this process has had, where the system tells.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[tokio::test]
async fn what_is_no_reply_is_given_up_in_bounded_time_and_memory_in_every_phase() {
    let faults = [
        (Fault::EndlessReply, "a reply line without end"),
        (Fault::EndlessLines, "a reply with too many lines"),
        (Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "something that is no SMTP reply"),
        (Fault::Garbage(b"250 a bare line feed\n".to_vec()), "something that is no SMTP reply"),
        (Fault::Garbage(b"\0\xff\xfe\r\n".to_vec()), "something that is no SMTP reply"),
    ];
    let before = peak_memory_kib();
    for (at, phase) in PHASES {
        for (fault, what) in &faults {
            let case = format!("{at:?}, {what}");
            let server = FakeExchange::builder().fault(at, fault.clone().always()).start().await;
            let failure = tokio::time::timeout(Duration::from_secs(10), failure(&server));
            let error = failure.await.unwrap_or_else(|_| panic!("{case}: no end in sight"));
            let text = format!("the mail server sent {what} ({phase})");
            assert_failure_or_unknown(&error, (ErrorKind::Protocol, phase, FIX, &text), &case);
            server.wait_for_open(0).await;
        }
    }
    if let (Some(before), Some(after)) = (before, peak_memory_kib()) {
        assert!(after - before < 48 * 1024, "{} KiB more than before", after - before);
    }
}

#[tokio::test]
async fn a_connection_closed_before_the_last_octet_may_be_tried_again() {
    for (at, phase) in PHASES {
        let server = FakeExchange::builder().fault(at, Fault::Close).start().await;
        let error = failure(&server).await;
        let text = format!("the mail server closed the connection ({phase})");
        assert_failure_or_unknown(&error, (ErrorKind::Disconnected, phase, RETRY, &text), &format!("{at:?}"));
        assert!(error.reply().is_none());
        assert_eq!((server.message_count(), server.connections().total), (0, 1), "{at:?}: tried once");
    }
}

#[tokio::test]
async fn a_connection_closed_amid_a_large_message_may_be_tried_again() {
    let server = FakeExchange::builder().fault(At::BodyStart, Fault::Close).start().await;
    let mailer = data_mailer(&server);
    let large = "0123456789abcdef\r\n".repeat(20 << 16);
    let error = mailer.submit_raw(&envelope(&["a@example.com"]), large.as_bytes()).await.unwrap_err();
    let text = "the mail server closed the connection (message transfer)";
    assert_failure(&error, (ErrorKind::Disconnected, Phase::Body, RETRY, text), "close");
    mailer.submit(&message()).await.unwrap();
    assert_eq!((server.message_count(), server.connections().total), (1, 2));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_a_matter_of_the_network() {
    let closed = ClosedPort::bind();
    let cases = [
        ("127.0.0.1", Phase::Connect, "cannot reach the mail server (TCP connect)"),
        ("mail.invalid", Phase::Resolve, "cannot reach the mail server (name resolution)"),
    ];
    for (host, phase, text) in cases {
        let config = MailServerConfig::builder()
            .host(host)
            .port(closed.port())
            .username(support::ACCOUNT)
            .build()
            .unwrap();
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(Authentication::basic(PASSWORD))
            .build()
            .unwrap();
        let error = mailer.submit(&message()).await.unwrap_err();
        assert_failure(&error, (ErrorKind::Network, phase, RETRY, text), host);
        assert!(error.source().is_some(), "the system's own words are kept");
    }
}

#[tokio::test]
async fn what_a_server_says_before_it_has_the_message_is_no_verdict_on_it() {
    let unexpected = |phase, text| (ErrorKind::Protocol, phase, FIX, text);
    let cases = [
        (
            At::Data,
            "250 2.0.0 OK",
            unexpected(
                Phase::Body,
                "the mail server sent a 250 reply that does not belong here (message transfer)",
            ),
        ),
        (
            At::Data,
            "421 4.3.2 Service not active",
            (
                ErrorKind::ServerUnavailable,
                Phase::Body,
                RETRY,
                "the mail server cannot do it at the moment (421 4.3.2)",
            ),
        ),
        (
            At::Auth,
            "250 2.1.0 Sender OK",
            unexpected(Phase::Mail, "the mail server sent a 250 reply that does not belong here (MAIL)"),
        ),
    ];
    for (at, early, expected) in cases {
        let fault = Fault::Inject(format!("{early}\r\n").into_bytes());
        let server = FakeExchange::builder().fault(at, fault).start().await;
        assert_failure(&failure(&server).await, expected, early);
        server.wait_for_open(0).await;
        assert_eq!(server.message_count(), 0, "{early}");
    }
}
