//! A message goes in, and what the server received is the message.

mod support;

use smtp_oauth::lettre::AsyncTransport;
use smtp_oauth::testing::{BodyCommand, Extensions, FakeExchange};
use smtp_oauth::{Authentication, Disposition, ErrorKind, Mailer, Phase, Tls};
use support::{ACCOUNT, PASSWORD, data_mailer, envelope, mailer, message, settings};

#[tokio::test]
async fn a_message_arrives_as_it_was_and_the_connection_is_kept() {
    let server = FakeExchange::start().await;
    let mailer = mailer(&server);
    let message = message();
    for round in 1..=3 {
        let submission = mailer.submit(&message).await.unwrap();
        assert_eq!(submission.accepted(), message.envelope().to());
        assert!(submission.refused().is_empty());
        assert_eq!(submission.reply().code(), 250);
        assert_eq!(server.message_count(), round);
    }
    let received = &server.messages()[2];
    assert_eq!(received.user.as_deref(), Some(ACCOUNT));
    assert_eq!(received.from, ACCOUNT);
    assert_eq!(received.recipient_addresses(), ["reader@example.com"]);
    assert_eq!(received.body_command, BodyCommand::Bdat);
    assert_eq!(received.body, message.formatted());
    assert_eq!((server.connections().total, server.tokens().count()), (1, 1));
}

#[tokio::test]
async fn every_kind_of_server_gets_the_message() {
    let extensions = Extensions::exchange_online;
    let servers = [
        ("implicit TLS", FakeExchange::builder().implicit_tls(), Tls::Implicit),
        ("TLS 1.2", FakeExchange::builder().tls12_only(), Tls::StartTls),
        (
            "no PIPELINING",
            FakeExchange::builder().extensions(extensions().without("PIPELINING")),
            Tls::StartTls,
        ),
        ("no CHUNKING", FakeExchange::builder().extensions(extensions().without("CHUNKING")), Tls::StartTls),
        ("no SIZE", FakeExchange::builder().extensions(extensions().without("SIZE")), Tls::StartTls),
    ];
    for (name, builder, tls) in servers {
        let server = builder.start().await;
        let config = settings(&server).tls(tls).build().unwrap();
        let authentication = support::issuing(server.tokens(), 1800);
        let mailer = Mailer::builder(config).authentication(authentication).build().unwrap();
        mailer.submit(&message()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(server.messages()[0].body, message().formatted(), "{name}");
    }
}

#[tokio::test]
async fn a_password_signs_in_with_login_or_plain_over_tls_and_without_on_loopback() {
    let extensions = Extensions::exchange_online;
    let builder = || FakeExchange::builder().password(ACCOUNT, PASSWORD);
    let servers = [
        ("LOGIN", builder(), Tls::StartTls),
        ("PLAIN", builder().extensions(extensions().auth("PLAIN")), Tls::StartTls),
        ("LOGIN", builder().plaintext(), Tls::LoopbackPlaintext),
    ];
    for (mechanism, builder, tls) in servers {
        let server = builder.start().await;
        let config = settings(&server).tls(tls).build().unwrap();
        let mailer = Mailer::builder(config).authentication(Authentication::basic(PASSWORD)).build().unwrap();
        mailer.submit(&message()).await.unwrap();
        assert_eq!(server.auth_attempts()[0].mechanism, mechanism);
        assert!(server.auth_attempts()[0].accepted);
    }
}

#[tokio::test]
async fn a_lettre_program_only_changes_the_constructor() {
    async fn send(
        transport: &(impl AsyncTransport<Error = smtp_oauth::Error> + Sync),
        message: smtp_oauth::lettre::Message,
    ) {
        transport.send(message).await.map(drop).unwrap();
    }
    let server = FakeExchange::start().await;
    send(&mailer(&server), message()).await;
    assert_eq!(server.messages()[0].body, message().formatted());
}

#[tokio::test]
async fn refused_recipients_are_named_and_the_others_get_the_message() {
    let server = FakeExchange::builder()
        .refuse_recipient(
            "gone@example.com",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
        )
        .refuse_recipient("full@example.com", "452 4.2.2 Mailbox full")
        .start()
        .await;
    let mailer = mailer(&server);
    let envelope = envelope(&["a@example.com", "gone@example.com", "b@example.com", "full@example.com"]);
    let submission = mailer.submit_raw(&envelope, b"Subject: x\r\n\r\nx\r\n").await.unwrap();
    let accepted: Vec<_> = submission.accepted().iter().map(ToString::to_string).collect();
    assert_eq!(accepted, ["a@example.com", "b@example.com"]);
    let refused: Vec<_> = submission
        .refused()
        .iter()
        .map(|refusal| {
            (refusal.recipient().to_string(), refusal.reply().unwrap().code(), refusal.disposition())
        })
        .collect();
    assert_eq!(
        refused,
        [
            ("gone@example.com".to_owned(), 550, Disposition::FixMessage),
            ("full@example.com".to_owned(), 452, Disposition::Retry { after: None }),
        ]
    );
    assert_eq!(server.messages()[0].recipient_addresses(), ["a@example.com", "b@example.com"]);
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.connections().total, 1, "the connection is as good as before");
}

#[tokio::test]
async fn with_every_recipient_refused_nothing_is_sent_and_the_connection_stays_in_step() {
    for data in ["354 Start mail input", "503 5.5.1 no valid recipients", "554 5.5.1 no valid recipients"] {
        let server = FakeExchange::builder()
            .data_without_recipients(data)
            .refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found")
            .start()
            .await;
        for (mailer, body_command) in [(mailer(&server), "BDAT"), (data_mailer(&server), "DATA")] {
            let context = format!("{body_command}, {data}");
            let gone = envelope(&["gone@example.com"]);
            let error = mailer.submit_raw(&gone, b"x\r\n").await.unwrap_err();
            let found = (error.kind(), error.phase(), error.disposition());
            assert_eq!(
                found,
                (ErrorKind::RecipientsRefused, Phase::Rcpt, Disposition::FixMessage),
                "{context}"
            );
            assert_eq!(
                error.to_string(),
                "the mail server refused every recipient (550 5.1.10)",
                "{context}"
            );
            assert_eq!(error.refused()[0].recipient().to_string(), "gone@example.com", "{context}");
            assert!(server.transcript().iter().any(|line| line.starts_with(body_command)), "{context}");
            mailer.submit(&message()).await.unwrap();
            let message = server.take_messages().pop().unwrap();
            assert_eq!(message.recipient_addresses(), ["reader@example.com"], "{context}");
            drop(mailer);
            server.wait_for_open(0).await;
        }
        assert_eq!(server.connections().total, 2, "{data}");
    }
}

#[tokio::test]
async fn verify_signs_in_and_says_goodbye() {
    let server = FakeExchange::start().await;
    mailer(&server).verify().await.unwrap();
    let commands = &server.sessions()[0].commands;
    assert!(commands.last().is_some_and(|last| last == "QUIT"), "{commands:?}");
    assert!(!commands.iter().any(|command| command.starts_with("MAIL")), "{commands:?}");
}

#[tokio::test]
async fn the_test_message_goes_to_the_test_recipient_or_says_that_there_is_none() {
    let server = FakeExchange::start().await;
    mailer(&server).send_test().await.unwrap();
    assert_eq!(server.messages()[0].recipient_addresses(), ["admin@contoso.com"]);

    let config = smtp_oauth::MailServerConfig::builder().host("localhost").username(ACCOUNT).build().unwrap();
    let mailer = Mailer::builder(config).authentication(Authentication::basic(PASSWORD)).build().unwrap();
    let error = mailer.send_test().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::Configuration, Disposition::FixConfiguration)
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("test_recipient: enter the address that test messages go to"), "{source}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_before_anything_is() {
    let server = FakeExchange::builder()
        .extensions(Extensions::exchange_online().without("8BITMIME").without("SMTPUTF8").size(200))
        .start()
        .await;
    let mailer = mailer(&server);
    let cases = [
        (envelope(&["a@example.com"]), "x".repeat(300), "302 octets and the server takes at most 200"),
        (envelope(&["a@example.com"]), "ü\r\n".to_owned(), "8BITMIME"),
        (envelope(&["jürgen@example.com"]), "u\r\n".to_owned(), "SMTPUTF8"),
    ];
    for (envelope, text, expected) in cases {
        let error = mailer.submit_raw(&envelope, text.as_bytes()).await.unwrap_err();
        assert_eq!((error.kind(), error.disposition()), (ErrorKind::Unsendable, Disposition::FixMessage));
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(!server.transcript().iter().any(|command| command.starts_with("MAIL")));
    mailer.submit(&message()).await.unwrap_err(); // longer than 200 octets
    assert_eq!(server.connections().total, 1, "the connection is kept");
}
