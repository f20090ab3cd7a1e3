//! What is submitted is what is delivered, byte for byte, whichever commands carry it (RFC 5321, RFC 2920, RFC 3030).

use smtp_oauth::Chunking;
use smtp_oauth::lettre::Message;
use smtp_oauth::lettre::message::header::ContentType;
use smtp_oauth::lettre::message::{Attachment, MultiPart};

use crate::client::{Way, envelope, mailer, note};
use crate::{BOSS, Limits, Servers, Service};

/// The command that carries the message.
fn verb(Way { service, chunking }: Way) -> &'static str {
    match (service, chunking) {
        (Service::Submission | Service::Minimal, Chunking::Auto) => "bdat",
        _ => "data",
    }
}

/// Text, HTML and an attachment of every octet there is.
fn report(recipient: &str) -> Message {
    let octets: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let attachment = Attachment::new("Übersicht.bin".to_owned());
    let attachment = attachment.body(octets, ContentType::parse("application/octet-stream").unwrap());
    let text = "Grüße,\n.\n.. the disk is almost full.\n".to_owned();
    let html = "<p>Grüße,<br>\n.\nthe disk is <b>almost</b> full.</p>".to_owned();
    Message::builder()
        .from(format!("The Boss <{BOSS}>").parse().unwrap())
        .to(format!("{recipient}@example.test").parse().unwrap())
        .subject("Übersicht über alle Platten, die fast voll sind, und die, die es schon sind")
        .message_id(Some("<report@example.test>".to_owned()))
        .multipart(
            MultiPart::mixed()
                .multipart(MultiPart::alternative_plain_html(text, html))
                .singlepart(attachment),
        )
        .unwrap()
}

/// Bodies that have made clients and servers stumble.
fn bodies() -> Vec<Vec<u8>> {
    let smuggled = format!("MAIL FROM:<{BOSS}>\r\nRCPT TO:<smuggled@example.test>\r\nDATA\r\nx\r\n.\r\n");
    let ends = ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\n", "\n\n.\r\r\n", "\r\n.\r\n"];
    let mut bodies: Vec<_> = ends.map(|end| format!("before{end}{smuggled}").into_bytes()).into();
    bodies.push(b".\r\n..\r\n.x\r\n...\r\n\r\n.\r\n".to_vec());
    bodies.push((1..=255).chain(*b"\r\n").collect());
    bodies.push(b"no line end after the last dot\r\n.".to_vec());
    bodies.push(Vec::new());
    // Longer than any buffer on the way, with a dot behind each line end and lines of every length up to 997 octets.
    let mut long = Vec::new();
    for length in (0..998).cycle() {
        long.push(b'.');
        long.resize(long.len() + length, b'z');
        long.extend(b"\r\n");
        if long.len() > 900 << 10 {
            break;
        }
    }
    bodies.push(long);
    bodies
}

/// What must be delivered: each CR, LF and CRLF as one CRLF, and one at the end.
fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut last = 0;
    for &byte in message {
        match byte {
            b'\n' if last == b'\r' => {}
            b'\r' | b'\n' => lines.extend(b"\r\n"),
            byte => lines.push(byte),
        }
        last = byte;
    }
    if !lines.ends_with(b"\r\n") {
        lines.extend(b"\r\n");
    }
    lines
}

#[tokio::test]
async fn messages_arrive_byte_for_byte_whichever_commands_carry_them() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let bodies = bodies();
    for way @ Way { service, chunking } in Way::ALL {
        let mailer = way.mailer(&servers);
        let name = format!("{service:?}-{chunking:?}").to_lowercase();
        let message = report(&name);
        mailer.submit(&message).await.unwrap();
        let delivered = servers.maildir().wait_for(&format!("{name}@example.test"), 1);
        assert_eq!(
            delivered[0].content.escape_ascii().to_string(),
            message.formatted().escape_ascii().to_string()
        );
        for (at, body) in bodies.iter().enumerate() {
            let recipient = format!("{name}-{at}");
            let message = [b"Subject: octets\r\n\r\n", &body[..]].concat();
            mailer.submit_raw(&envelope([&recipient]), &message).await.unwrap();
            let delivered = servers.maildir().wait_for(&format!("{recipient}@example.test"), 1);
            let expected = with_crlf(&message);
            let differs = delivered[0].content.iter().zip(&expected).position(|(found, sent)| found != sent);
            assert_eq!((delivered[0].content.len(), differs), (expected.len(), None), "{recipient}");
        }
        mailer.close().await;
    }
    // One connection carried them all, and nothing that was inside a message came out as another.
    let count = bodies.len() + 1;
    for way in Way::ALL {
        let verb = verb(way);
        let expected = format!("ehlo=2 starttls=1 auth=1 mail={count} rcpt={count} {verb}={count} quit=1 ");
        // Postfix writes its log a little later: all ways through a service are waited for.
        let ways = Way::ALL.iter().filter(|other| other.service == way.service).count();
        let sessions = servers.sessions(way.service, ways);
        assert!(sessions.iter().any(|session| session.starts_with(&expected)), "{way:?}: {sessions:?}");
    }
    assert_eq!(servers.maildir().all().len(), Way::ALL.len() * count);
}

#[tokio::test]
async fn many_submissions_at_once_are_each_delivered_once() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let mailer = mailer(&servers, Service::Submission);
    let submissions: Vec<_> = (0..60)
        .map(|at| {
            let mailer = mailer.clone();
            tokio::spawn(async move { mailer.submit_raw(&envelope(["alice"]), &note(&at.to_string())).await })
        })
        .collect();
    for submission in submissions {
        submission.await.unwrap().unwrap();
    }
    let delivered = servers.maildir().wait_for("alice@example.test", 60);
    let mut found: Vec<_> = delivered.into_iter().map(|message| message.content).collect();
    let mut sent: Vec<_> = (0..60).map(|at| note(&at.to_string())).collect();
    found.sort_unstable();
    sent.sort_unstable();
    assert!(found == sent, "each once and none mixed up");
    let opened = mailer.pool_status().idle;
    mailer.close().await;
    assert_eq!(servers.sessions(Service::Submission, opened).len(), opened, "4 at most, and all were reused");
    assert_eq!(servers.tokens().asked().len(), opened);
}

#[tokio::test]
async fn an_address_outside_ascii_gets_its_message_where_the_server_takes_it() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let recipients = envelope(["jürgen@example.test", "alice@example.test"]);
    let text = "Subject: Grüße\r\n\r\nGrüße\r\n".as_bytes();
    let mailer_ = mailer(&servers, Service::Submission);
    let submission = mailer_.submit_raw(&recipients, text).await.unwrap();
    assert_eq!(submission.accepted(), recipients.to());
    for recipient in ["jürgen@example.test", "alice@example.test"] {
        let delivered = servers.maildir().wait_for(recipient, 1);
        assert_eq!(delivered[0].content, text);
        assert!(delivered[0].trace.contains(" with UTF8SMTPSA id "), "{}", delivered[0].trace);
    }
    let error = mailer(&servers, Service::Minimal).submit_raw(&recipients, text).await.unwrap_err();
    assert!(error.to_string().contains("SMTPUTF8"), "{error}");
}
