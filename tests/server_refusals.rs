//! A refusal is reported as the server put it, and the connection carries the next message if the server lets it.

mod support;

use std::pin::pin;
use std::time::Duration;

use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{
    BodyCommand, Extensions, FakeExchange, FakeExchangeBuilder, Fault, FaultPoint as At, ManualClock,
};
use smtp_oauth::{Authentication, Disposition, Error, ErrorKind, MailServerConfig, Mailer, Phase, Tls};
use support::{RETRY, assert_failure, data_mailer, envelope, message};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const MESSAGE: Disposition = Disposition::FixMessage;
const NEXT: &[u8] = b"Subject: next\r\n\r\n..a line with dots\r\n";

/// With PIPELINING, and without.
fn servers() -> [(&'static str, FakeExchangeBuilder); 2] {
    let alone = Extensions::exchange_online().without("PIPELINING");
    [("pipelined", FakeExchange::builder()), ("one by one", FakeExchange::builder().extensions(alone))]
}

async fn failure(mailer: &Mailer) -> Error {
    mailer
        .submit_raw(&envelope(&["first@example.com"]), b"Subject: first\r\n\r\nfirst\r\n")
        .await
        .unwrap_err()
}

/// Sends another message and asserts that it, and nothing else, arrived over the `connection`th connection.
async fn assert_next_arrives_alone(server: &FakeExchange, mailer: &Mailer, connection: usize, case: &str) {
    let submission = mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await;
    let submission = submission.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert_eq!(submission.accepted().len(), 1, "{case}");
    let messages = server.messages();
    assert_eq!(messages.len(), 1, "{case}");
    assert_eq!(messages[0].recipient_addresses(), ["next@example.com"], "{case}");
    assert_eq!((messages[0].body.as_slice(), messages[0].body_command), (NEXT, BodyCommand::Data), "{case}");
    assert_eq!((messages[0].connection, server.connections().total), (connection, connection), "{case}");
}

/// The kind of a refusal, whose move it is, and the text in front of its numbers.
type Meaning = (ErrorKind, Disposition, &'static str);

/// What a server says, where, and what is made of it.
const ORDERLY: [(At, Phase, &str, Meaning); 13] = [
    (At::Mail, Phase::Mail, "451 4.7.0 Temporary server error", BUSY),
    (At::Mail, Phase::Mail, "452 4.3.1 Insufficient system resources", BUSY),
    (At::Mail, Phase::Mail, "550 5.7.60 Client does not have permissions to send as this sender", SENDER),
    (At::Rcpt, Phase::Rcpt, "451 4.4.4 Mail received as unauthenticated", BUSY),
    (At::Rcpt, Phase::Rcpt, "452 4.5.3 Too many recipients", BUSY),
    (At::Rcpt, Phase::Rcpt, "550 5.1.10 Recipient not found", RECIPIENTS),
    (At::Data, Phase::Data, "451 4.3.0 Try later", BUSY),
    (At::Data, Phase::Data, "554 5.5.1 No", REFUSED),
    (At::Body, Phase::FinalReply, "451 4.7.500 Server busy", BUSY),
    (At::Body, Phase::FinalReply, "452 4.3.1 Out of space", BUSY),
    (At::Body, Phase::FinalReply, "550 5.7.1 Spam", REFUSED),
    (At::Body, Phase::FinalReply, "552 5.3.4 Too large", REFUSED),
    (At::Body, Phase::FinalReply, "554-5.2.0\n554 5.2.0 STOREDRV.Submission.Exception", REFUSED),
];
const BUSY: Meaning = (ErrorKind::ServerUnavailable, RETRY, "the mail server cannot do it at the moment");
const SENDER: Meaning =
    (ErrorKind::SenderRefused, Disposition::FixConfiguration, "the mail server refused the sender");
const RECIPIENTS: Meaning =
    (ErrorKind::RecipientsRefused, MESSAGE, "the mail server refused every recipient");
const REFUSED: Meaning = (ErrorKind::MessageRefused, MESSAGE, "the mail server refused the message");

#[tokio::test]
async fn after_an_orderly_refusal_the_connection_carries_the_next_message() {
    for (at, phase, reply, (kind, disposition, text)) in ORDERLY {
        let said: Vec<_> = reply.lines().map(|line| &line[4..]).collect();
        let enhanced = said[0].split(' ').next().unwrap();
        let text = format!("{text} ({} {enhanced})", &reply[..3]);
        for (mode, builder) in servers() {
            let case = format!("{at:?}, {reply}, {mode}");
            let server = builder.fault(at, Fault::reply(reply)).start().await;
            let mailer = data_mailer(&server);
            let error = failure(&mailer).await;
            assert_failure(&error, (kind, phase, disposition, &text), &case);
            assert_eq!(error.reply().unwrap().lines().collect::<Vec<_>>(), said, "{case}");
            assert_next_arrives_alone(&server, &mailer, 1, &case).await;
        }
    }
}

#[tokio::test]
async fn after_a_421_the_next_message_takes_a_new_connection() {
    let reply = "421 4.3.2 Service not active";
    let phases = [
        (At::Mail, Phase::Mail),
        (At::Rcpt, Phase::Rcpt),
        (At::Data, Phase::Data),
        (At::Body, Phase::FinalReply),
    ];
    for (at, phase) in phases {
        for fault in [Fault::reply(reply), Fault::ReplyThenClose(reply.to_owned())] {
            for (mode, builder) in servers() {
                let case = format!("{fault:?} at {at:?}, {mode}");
                let server = builder.fault(at, fault.clone()).start().await;
                let mailer = data_mailer(&server);
                let error = failure(&mailer).await;
                let text = "the mail server cannot do it at the moment (421 4.3.2)";
                assert_failure(&error, (ErrorKind::ServerUnavailable, phase, RETRY, text), &case);
                assert_eq!(error.reply().unwrap().to_string(), reply, "{case}");
                assert_next_arrives_alone(&server, &mailer, 2, &case).await;
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_is_reported_although_the_server_closes_behind_it() {
    let cases = [
        (
            At::Mail,
            "550 5.7.60 Not permitted to send as this sender",
            (
                ErrorKind::SenderRefused,
                Phase::Mail,
                Disposition::FixConfiguration,
                "the mail server refused the sender (550 5.7.60)",
            ),
        ),
        (
            At::Rcpt,
            "550 5.7.1 Relaying denied",
            (
                ErrorKind::RecipientsRefused,
                Phase::Rcpt,
                MESSAGE,
                "the mail server refused every recipient (550 5.7.1)",
            ),
        ),
        (
            At::Data,
            "554 5.7.1 Denied",
            (
                ErrorKind::MessageRefused,
                Phase::Data,
                MESSAGE,
                "the mail server refused the message (554 5.7.1)",
            ),
        ),
        (
            At::Body,
            "554 5.7.1 Denied",
            (
                ErrorKind::MessageRefused,
                Phase::FinalReply,
                MESSAGE,
                "the mail server refused the message (554 5.7.1)",
            ),
        ),
    ];
    for (at, reply, expected) in cases {
        for (mode, builder) in servers() {
            let case = format!("{at:?}, {mode}");
            let server = builder.fault(at, Fault::ReplyThenClose(reply.to_owned())).start().await;
            let mailer = data_mailer(&server);
            let error = failure(&mailer).await;
            assert_failure(&error, expected, &case);
            assert_eq!(error.reply().unwrap().to_string(), reply, "{case}");
            assert_next_arrives_alone(&server, &mailer, 2, &case).await;
        }
    }
}

#[tokio::test]
async fn a_refusal_that_comes_while_the_message_is_being_written_is_read() {
    let large = "0123456789abcdef\r\n".repeat(20 << 16);
    let reply = "552 5.3.4 Message size exceeds fixed maximum message size";
    for round in 0..4 {
        let server = FakeExchange::builder().fault(At::BodyStart, Fault::ReplyThenClose(reply.to_owned()));
        let server = server.start().await;
        let mailer = data_mailer(&server);
        let envelope = envelope(&["first@example.com"]);
        let error = mailer.submit_raw(&envelope, large.as_bytes()).await.unwrap_err();
        let text = "the mail server refused the message (552 5.3.4)";
        assert_failure(
            &error,
            (ErrorKind::MessageRefused, Phase::Body, MESSAGE, text),
            &format!("round {round}"),
        );
        assert_next_arrives_alone(&server, &mailer, 2, "after the early refusal").await;
    }
}

#[tokio::test]
async fn a_reply_too_many_costs_the_connection_and_no_message() {
    let server = FakeExchange::builder();
    let server = server.fault(At::Body, Fault::Inject(b"250 2.0.0 OK, again\r\n".to_vec())).start().await;
    let mailer = data_mailer(&server);
    let first = envelope(&["first@example.com"]);
    mailer.submit_raw(&first, b"Subject: first\r\n\r\nfirst\r\n").await.unwrap();
    mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await.unwrap();
    let bodies: Vec<_> = server.messages().into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [&b"Subject: first\r\n\r\nfirst\r\n"[..], NEXT]);
    assert_eq!(server.connections().total, 2, "the one with a reply left over is not used again");
}

#[tokio::test]
async fn recipients_refused_before_the_failure_are_still_named() {
    let server = FakeExchange::builder()
        .refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found")
        .fault(At::Body, Fault::reply("451 4.7.500 Server busy"))
        .start()
        .await;
    let mailer = data_mailer(&server);
    let both = envelope(&["here@example.com", "gone@example.com"]);
    let error = mailer.submit_raw(&both, b"x\r\n").await.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ServerUnavailable, Phase::FinalReply));
    let refused: Vec<_> = error.refused().iter().map(|refusal| refusal.recipient().to_string()).collect();
    assert_eq!(refused, ["gone@example.com"]);
    assert_eq!(mailer.submit(&message()).await.unwrap().accepted().len(), 1);
    assert_eq!(server.connections().total, 1);
}

/// Plays a server that takes every command, answers the message after its first octets, and reads no further.
async fn refuse_and_stop_reading(
    socket: TcpListener,
    refusal: &str,
    then: Then,
    stopped: &Notify,
) -> TcpStream {
    let (stream, _) = socket.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let replies = [
        "220 ready",
        "250-mail.example\r\n250 AUTH PLAIN",
        "235 2.7.0 OK",
        "250 2.1.0 OK",
        "250 2.1.5 OK",
        "354 Go on",
    ];
    for reply in replies {
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
        stream.read_line(&mut String::new()).await.unwrap();
    }
    stream.write_all(format!("{refusal}\r\n").as_bytes()).await.unwrap();
    match then {
        Then::Stall => stopped.notify_one(),
        Then::CloseOneWay => stream.shutdown().await.unwrap(),
    }
    stream.into_inner()
}

/// What the server does behind its refusal; its socket stays open, unread.
#[derive(Clone, Copy, Debug)]
enum Then {
    Stall,
    CloseOneWay,
}

#[tokio::test]
async fn a_refusal_is_read_although_the_server_reads_no_further() {
    let large = "0123456789abcdef\r\n".repeat(20 << 16);
    let to = envelope(&["first@example.com"]);
    for then in [Then::Stall, Then::CloseOneWay] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let manual = ManualClock::new();
        let config = MailServerConfig::builder().host("127.0.0.1").port(socket.local_addr().unwrap().port());
        let config = config.tls(Tls::LoopbackPlaintext).username(support::ACCOUNT).build().unwrap();
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(Authentication::basic(support::PASSWORD));
        let mailer = mailer.clock(manual.clock()).build().unwrap();
        let stopped = Notify::new();
        let submit = async {
            let mut submit = pin!(mailer.submit_raw(&to, large.as_bytes()));
            // Time passes only where nothing but time can tell; the real limit is for a test that fails.
            tokio::select! {
                outcome = tokio::time::timeout(Duration::from_secs(5), &mut submit) => outcome.unwrap(),
                () = stopped.notified() => manual.advance_until(Duration::from_secs(30), submit).await,
            }
        };
        let refusal = "552 5.3.4 Message too large";
        let (outcome, _open) = tokio::join!(submit, refuse_and_stop_reading(socket, refusal, then, &stopped));
        let text = "the mail server refused the message (552 5.3.4)";
        let expected = (ErrorKind::MessageRefused, Phase::Body, MESSAGE, text);
        assert_failure(&outcome.unwrap_err(), expected, &format!("{then:?}"));
    }
}

/// Answers a submission to two recipients, the second with good-bye, and ends with `last`.
async fn leave(socket: TcpListener, last: &str) -> std::io::Result<()> {
    let (socket, _) = socket.accept().await?;
    let mut socket = BufReader::new(socket);
    socket.write_all(b"220 ready\r\n").await?;
    let mut line = String::new();
    while !line.starts_with("BDAT") {
        line.clear();
        socket.read_line(&mut line).await?;
        match line.split(' ').next() {
            Some("EHLO") => {
                socket
                    .write_all(b"250-server\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n")
                    .await?;
            }
            Some("AUTH") => socket.write_all(b"235 2.7.0 welcome\r\n").await?,
            _ => {}
        }
    }
    let mut text = vec![0; line.split(' ').nth(1).unwrap().parse().unwrap()];
    socket.read_exact(&mut text).await?;
    let replies = "250 2.1.0 OK\r\n250 2.1.5 OK\r\n421 4.3.2 Service not available\r\n";
    socket.write_all(format!("{replies}{last}").as_bytes()).await
}

#[tokio::test]
async fn a_server_that_breaks_off_behind_its_goodbye_leaves_in_doubt_what_it_was_about_to_say() {
    let unavailable = "the mail server cannot do it at the moment (421 4.3.2)";
    let cases = [
        ("", Disposition::Retry { after: None }, unavailable),
        (
            "250 2.0.0 que",
            Disposition::Indeterminate,
            "the message was sent and its acceptance is unknown: the mail server closed the connection (verdict on the \
             message)",
        ),
    ];
    for (last, disposition, text) in cases {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = MailServerConfig::builder().host("127.0.0.1").port(socket.local_addr().unwrap().port());
        let config = config.tls(Tls::LoopbackPlaintext).username(support::ACCOUNT).build().unwrap();
        let mailer = Mailer::builder(config)
            .retry(RetryPolicy::never())
            .authentication(Authentication::basic(support::PASSWORD))
            .build()
            .unwrap();
        let to = envelope(&["first@example.com", "second@example.com"]);
        let submit = mailer.submit_raw(&to, b"Subject: x\r\n\r\nx\r\n");
        let (outcome, served) = tokio::join!(submit, leave(socket, last));
        served.unwrap();
        let error = outcome.unwrap_err();
        assert_eq!((error.disposition(), &*error.to_string()), (disposition, text), "{last:?}");
    }
}
