//! In how many writes a warm message leaves: each write that reaches TLS makes a record of its own, counted on the way.

mod support;

use smtp_oauth::testing::FakeExchange;
use smtp_oauth::{Chunking, Mailer, Tls};
use support::proxy::Proxy;
use support::{envelope, issuing, settings};

/// RFC 8446 §5.1: the most octets of content in a record.
const RECORD: usize = 16 * 1024;

/// RFC 8446 §5.2: what a record of TLS 1.3 adds to its content: header, content type, authentication tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// What left for the server during one warm message.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    records: usize,
    /// Octets on the wire beyond message, envelope and the records' own.
    commands: usize,
}

/// Sends a message of `size` octets to so many recipients over a warm connection.
async fn send(chunking: Chunking, recipients: usize, size: usize) -> Sent {
    let server = FakeExchange::builder().implicit_tls().start().await;
    let proxy = Proxy::start(server.address(), None).await;
    let config = settings(&server).tls(Tls::Implicit).port(proxy.port()).chunking(chunking).build().unwrap();
    let mailer = Mailer::builder(config).authentication(issuing(server.tokens(), 1800)).build().unwrap();
    let recipients: Vec<_> = (0..recipients).map(|number| format!("reader{number}@example.com")).collect();
    let envelope = envelope(&recipients.iter().map(String::as_str).collect::<Vec<_>>());
    let message = [b"Subject: Size\r\n\r\n".to_vec(), vec![b'x'; size - 19], b"\r\n".to_vec()].concat();
    assert_eq!(message.len(), size);

    mailer.submit_raw(&envelope, b"Subject: first\r\n\r\nHello.\r\n").await.unwrap();
    let before = proxy.seen();
    mailer.submit_raw(&envelope, &message).await.unwrap();
    let after = proxy.seen();
    assert_eq!(server.connections().total, 1);
    let records = after.records_to_server - before.records_to_server;
    let octets = after.to_server.len() - before.to_server.len();
    let rcpt: usize = recipients.iter().map(|name| format!("RCPT TO:<{name}>\r\n").len()).sum();
    Sent { records, commands: octets - size - rcpt - records * RECORD_OVERHEAD }
}

#[tokio::test]
async fn a_small_message_is_one_write_by_bdat_and_two_by_data() {
    let mail = "MAIL FROM:<svc-mail@contoso.com> SIZE=2048\r\n".len();
    let bdat = Sent { records: 1, commands: mail + "BDAT 2048 LAST\r\n".len() };
    assert_eq!(send(Chunking::Auto, 1, 2048).await, bdat);
    let data = Sent { records: 2, commands: mail + "DATA\r\n.\r\n".len() };
    assert_eq!(send(Chunking::Off, 1, 2048).await, data);
}

#[tokio::test]
async fn a_hundred_recipients_take_no_more_writes_than_one() {
    assert_eq!(send(Chunking::Auto, 100, 2048).await.records, 1);
    assert_eq!(send(Chunking::Off, 100, 2048).await.records, 2);
}

#[tokio::test]
async fn a_large_message_fills_its_records() {
    let size = 64 * RECORD;
    // The envelope, then BDAT's head, and the message in full records.
    assert_eq!(send(Chunking::Auto, 1, size).await.records, 2 + 64);
    // The envelope with DATA; the final dot spills over into a record of its own.
    assert_eq!(send(Chunking::Off, 1, size).await.records, 1 + 64 + 1);
}
