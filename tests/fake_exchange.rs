//! The fake Exchange Online speaks the literal dialogue that the real one was seen to speak. Needs no code of the client.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use smtp_oauth::testing::{
    BodyCommand, CertificateKind, Extensions, FakeExchange, Fault, FaultPoint, Handshake, ManualClock,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ACCOUNT: &str = "alerts@contoso.com";
const HOUR: Duration = Duration::from_secs(3600);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A client that knows nothing but octets.
struct Client(Box<dyn Duplex>);

impl Client {
    async fn open(server: &FakeExchange) -> Self {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(Box::new(stream))
    }

    /// Opens a session as far as EHLO after TLS.
    async fn secured(server: &FakeExchange) -> Self {
        Self::secured_with(server, &trusting(server)).await.unwrap()
    }

    async fn secured_with(server: &FakeExchange, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut client = Self::open(server).await;
        client.reply().await;
        client.say("EHLO client.example\r\n").await;
        assert_eq!(client.say("STARTTLS\r\n").await, "220 2.0.0 SMTP server ready\r\n");
        let mut client = client.encrypted(config).await?;
        client.say("EHLO client.example\r\n").await;
        Ok(client)
    }

    async fn encrypted(self, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(Box::new(TlsConnector::from(config.clone()).connect(name, self.0).await?)))
    }

    /// Opens a session as far as AUTH.
    async fn signed_in(server: &FakeExchange) -> Self {
        let mut client = Self::secured(server).await;
        let token = server.tokens().issue(ACCOUNT, HOUR, 1800);
        let reply = client.say(&format!("AUTH XOAUTH2 {}\r\n", xoauth2(ACCOUNT, &token))).await;
        assert_eq!(reply, "235 2.7.0 Authentication successful\r\n");
        client
    }

    async fn write(&mut self, octets: &[u8]) {
        self.0.write_all(octets).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn say(&mut self, octets: &str) -> String {
        self.write(octets.as_bytes()).await;
        self.reply().await
    }

    async fn say_and_read(&mut self, octets: &str, replies: usize) -> Vec<String> {
        self.write(octets.as_bytes()).await;
        let mut read = Vec::new();
        for _ in 0..replies {
            read.push(self.reply().await);
        }
        read
    }

    /// Reads one reply of any number of lines, or what there is before the end.
    async fn reply(&mut self) -> String {
        let mut reply = String::new();
        let mut line = String::new();
        loop {
            match self.0.read_u8().await {
                Ok(octet) => line.push(char::from(octet)),
                Err(_) => return reply + &line,
            }
            if line.ends_with("\r\n") {
                reply += &line;
                if line.get(3..4) != Some("-") {
                    return reply;
                }
                line.clear();
            }
        }
    }

    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
        rest
    }
}

fn trusting(server: &FakeExchange) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.root_pem().as_bytes()).unwrap()).unwrap();
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let provider = rustls::crypto::ring::default_provider();
    let config =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth())
}

fn xoauth2(user: &str, token: &str) -> String {
    STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

const ENVELOPE: &str = "MAIL FROM:<alerts@contoso.com>\r\nRCPT TO:<a@b.example>\r\n";

#[tokio::test]
async fn greeting_and_extensions_are_those_of_exchange_online() {
    let server = FakeExchange::builder().clock(ManualClock::new().clock()).start().await;
    let mut client = Client::open(&server).await;
    assert_eq!(
        client.reply().await,
        "220 SY5P282CA0097.outlook.office365.com Microsoft ESMTP MAIL Service ready at \
         Thu, 01 Jan 2026 00:00:00 +0000 [08DE2A6028D26C22]\r\n"
    );
    let list = |middle: &str| {
        format!(
            "250-SY5P282CA0097.outlook.office365.com Hello [127.0.0.1]\r\n250-SIZE 157286400\r\n250-PIPELINING\r\n\
             250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-{middle}\r\n250-8BITMIME\r\n250-BINARYMIME\r\n\
             250-CHUNKING\r\n250 SMTPUTF8\r\n"
        )
    };
    assert_eq!(client.say("EHLO client.example\r\n").await, list("STARTTLS"));
    assert_eq!(client.say("STARTTLS\r\n").await, "220 2.0.0 SMTP server ready\r\n");
    let mut client = client.encrypted(&trusting(&server)).await.unwrap();
    assert_eq!(client.say("EHLO client.example\r\n").await, list("AUTH LOGIN XOAUTH2"));
    assert_eq!(client.say("QUIT\r\n").await, "221 2.0.0 Service closing transmission channel\r\n");
    assert_eq!(client.rest().await, b"");
    server.wait_for_open(0).await;
    assert_eq!(server.transcript(), ["EHLO client.example", "STARTTLS", "EHLO client.example", "QUIT"]);
    // EHLO, STARTTLS, handshake, EHLO, QUIT.
    assert_eq!(server.flights(), [5]);
}

#[tokio::test]
async fn a_token_works_for_its_own_account_until_it_expires() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let token = server.tokens().issue(ACCOUNT, HOUR, 1800);
    let mut client = Client::secured(&server).await;
    for message in [xoauth2("other@contoso.com", &token), xoauth2(ACCOUNT, "made-up")] {
        let reply = client.say(&format!("AUTH XOAUTH2 {message}\r\n")).await;
        assert!(reply.starts_with("535 5.7.3 Authentication unsuccessful ["), "{reply}");
    }
    assert_eq!(client.say("AUTH XOAUTH2\r\n").await, "334 \r\n");
    let good = format!("{}\r\n", xoauth2("Alerts@Contoso.com", &token));
    assert_eq!(client.say(&good).await, "235 2.7.0 Authentication successful\r\n");

    manual.advance(HOUR);
    let mut late = Client::secured(&server).await;
    let reply = late.say(&format!("AUTH XOAUTH2 {}\r\n", xoauth2(ACCOUNT, &token))).await;
    assert!(reply.starts_with("535 5.7.3"), "{reply}");

    let attempts = server.auth_attempts();
    assert_eq!(
        attempts.iter().map(|attempt| attempt.accepted).collect::<Vec<_>>(),
        [false, false, true, false]
    );
    assert_eq!(attempts[2].connection, 1);
    assert!(!attempts[2].initial_response);
    assert!(attempts[3].initial_response);
    assert_eq!(attempts[3].secret.as_deref(), Some(token.as_str()));
    let transcript = server.transcript().join("\n");
    assert!(transcript.contains("AUTH XOAUTH2 <redacted>\nAUTH XOAUTH2\n<redacted>"), "{transcript}");
    assert_eq!(server.sessions()[0].user.as_deref(), Some("Alerts@Contoso.com"));
}

#[tokio::test]
async fn a_password_works_by_login_and_where_offered_by_plain() {
    let server = FakeExchange::builder()
        .password(ACCOUNT, "s3cret")
        .extensions(Extensions::exchange_online().auth("LOGIN PLAIN"))
        .start()
        .await;
    let mut client = Client::secured(&server).await;
    assert_eq!(client.say("AUTH LOGIN\r\n").await, "334 VXNlcm5hbWU6\r\n");
    assert_eq!(client.say(&format!("{}\r\n", STANDARD.encode(ACCOUNT))).await, "334 UGFzc3dvcmQ6\r\n");
    assert_eq!(client.say("d3Jvbmc=\r\n").await.get(..9), Some("535 5.7.3"));
    assert_eq!(client.say("AUTH XOAUTH2 x\r\n").await, "504 5.7.4 Unrecognized authentication type\r\n");
    let plain = STANDARD.encode(format!("\0{ACCOUNT}\0s3cret"));
    assert_eq!(
        client.say(&format!("AUTH PLAIN {plain}\r\n")).await,
        "235 2.7.0 Authentication successful\r\n"
    );
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let server = FakeExchange::start().await;
    let mut client = Client::open(&server).await;
    client.reply().await;
    assert_eq!(client.say("MAIL FROM:<a@b.example>\r\n").await, "503 5.5.2 Send hello first\r\n");
    client.say("EHLO client.example\r\n").await;
    assert_eq!(client.say("AUTH XOAUTH2 x\r\n").await, "504 5.7.4 Unrecognized authentication type\r\n");
    let reply = client.say("MAIL FROM:<a@b.example>\r\n").await;
    assert!(reply.starts_with("530 5.7.57 Client not authenticated to send mail."), "{reply}");
    assert_eq!(client.say("XYZZY\r\n").await, "500 5.3.3 Unrecognized command 'XYZZY'\r\n");

    let mut client = Client::signed_in(&server).await;
    assert_eq!(client.say("RCPT TO:<a@b.example>\r\n").await, "503 5.5.2 Need mail command\r\n");
    assert_eq!(client.say("DATA\r\n").await, "503 5.5.2 Need mail command\r\n");
    assert!(client.say("MAIL FROM:<a@b.example> SIZE=999999999\r\n").await.starts_with("552 5.3.4 "));
    assert_eq!(client.say("MAIL FROM:<a@b.example>\r\n").await, "250 2.1.0 Sender OK\r\n");
    assert_eq!(client.say("MAIL FROM:<a@b.example>\r\n").await, "503 5.5.2 Sender already specified\r\n");
    assert_eq!(client.say("DATA\r\n").await, "503 5.5.2 Need rcpt command\r\n");
    assert_eq!(client.say("RSET\r\n").await, "250 2.0.0 Resetting\r\n");
    assert_eq!(client.say(&format!("NOOP {}\r\n", "x".repeat(70_000))).await, "500 5.5.6 Line too long\r\n");
    assert_eq!(client.say("NOOP\r\n").await, "250 2.0.0 OK\r\n");
}

#[tokio::test]
async fn pipelined_commands_are_answered_together_and_dots_unstuffed() {
    let server = FakeExchange::start().await;
    let mut client = Client::signed_in(&server).await;
    let before = server.flights()[0];
    let replies = client.say_and_read(&format!("{ENVELOPE}RCPT TO:<c@d.example>\r\nDATA\r\n"), 4).await;
    assert_eq!(
        replies,
        [
            "250 2.1.0 Sender OK\r\n",
            "250 2.1.5 Recipient OK\r\n",
            "250 2.1.5 Recipient OK\r\n",
            "354 Start mail input; end with <CRLF>.<CRLF>\r\n"
        ]
    );
    let reply = client.say("Subject: x\r\n\r\n..\r\n..dots\n.\n.bare\r.\r\n\r\n.\r\n").await;
    assert!(reply.starts_with("250 2.0.0 OK <") && reply.contains("[Hostname="), "{reply}");
    assert_eq!(server.flights()[0] - before, 2);
    let message = server.messages().remove(0);
    assert_eq!(message.body, b"Subject: x\r\n\r\n.\r\n.dots\n.\n.bare\r.\r\n\r\n");
    assert_eq!(message.body_command, BodyCommand::Data);
    assert_eq!(message.from, ACCOUNT);
    assert_eq!(message.recipient_addresses(), ["a@b.example", "c@d.example"]);
    assert_eq!(message.user.as_deref(), Some(ACCOUNT));
    assert_eq!(message.connection, 1);
}

#[tokio::test]
async fn a_body_split_anywhere_is_read_the_same() {
    let server = FakeExchange::builder().plaintext().password("u@x", "p").start().await;
    let mut client = Client::open(&server).await;
    client.reply().await;
    client.say("EHLO c\r\n").await;
    client.say("AUTH LOGIN dUB4\r\n").await;
    client.say("cA==\r\n").await;
    for octet in format!("{ENVELOPE}DATA\r\n").as_bytes() {
        client.write(&[*octet]).await;
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        client.reply().await;
    }
    for octet in b"..a\r\n.\rb\r\n\r\n.\r\n" {
        client.write(&[*octet]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.reply().await.starts_with("250 "));
    assert_eq!(server.messages()[0].body, b".a\r\n\rb\r\n\r\n");
}

#[tokio::test]
async fn a_whole_transaction_by_bdat_takes_one_round_trip() {
    let server = FakeExchange::start().await;
    let mut client = Client::signed_in(&server).await;
    let before = server.flights()[0];
    let body = "x".repeat(100_000);
    let all = format!("{ENVELOPE}BDAT 6\r\nQUIT\r\nBDAT 100000 LAST\r\n{body}NOOP\r\n");
    let replies = client.say_and_read(&all, 5).await;
    assert_eq!(replies[2], "250 2.6.0 CHUNK received OK, 6 octets\r\n");
    assert!(replies[3].starts_with("250 2.0.0 OK <"), "{replies:?}");
    assert_eq!(replies[4], "250 2.0.0 OK\r\n");
    assert_eq!(server.flights()[0] - before, 1);
    let message = server.take_messages().remove(0);
    assert_eq!(message.body, format!("QUIT\r\n{body}").into_bytes());
    assert_eq!(message.body_command, BodyCommand::Bdat);
    assert!(server.messages().is_empty());
    assert_eq!(server.message_count(), 1);
}

#[tokio::test]
async fn bdat_octets_are_consumed_when_the_envelope_was_refused() {
    let server =
        FakeExchange::builder().refuse_recipient("A@b.example", "550 5.1.10 No such one").start().await;
    let mut client = Client::signed_in(&server).await;
    let replies = client.say_and_read(&format!("{ENVELOPE}BDAT 6 LAST\r\nQUIT\r\nRSET\r\n"), 4).await;
    assert_eq!(
        replies[1..],
        ["550 5.1.10 No such one\r\n", "503 5.5.2 Need rcpt command\r\n", "250 2.0.0 Resetting\r\n"]
    );
    server.inject(FaultPoint::Mail, Fault::reply("550 5.7.60 SMTP; Client does not have permissions"));
    let replies = client.say_and_read(&format!("{ENVELOPE}BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), 4).await;
    let codes: Vec<_> = replies.iter().map(|reply| &reply[..3]).collect();
    assert_eq!(codes, ["550", "503", "503", "250"]);
    assert_eq!(server.message_count(), 0);
}

#[tokio::test]
async fn a_message_over_the_size_limit_is_refused_and_the_session_goes_on() {
    let small = Extensions::exchange_online().size(10);
    let server = FakeExchange::builder().extensions(small).start().await;
    let mut client = Client::signed_in(&server).await;
    client.say_and_read(&format!("{ENVELOPE}DATA\r\n"), 3).await;
    assert!(client.say("longer\r\nthan ten\r\nmore\r\n.\r\n").await.starts_with("552 5.3.4 "));
    let replies = client.say_and_read(&format!("{ENVELOPE}BDAT 11 LAST\r\nelevenbytesNOOP\r\n"), 4).await;
    assert!(replies[2].starts_with("552 5.3.4 "), "{replies:?}");
    assert_eq!(replies[3], "250 2.0.0 OK\r\n");
}

#[tokio::test]
async fn data_after_refused_recipients_may_be_let_through() {
    let server = FakeExchange::builder()
        .data_without_recipients("354 Go on")
        .refuse_recipient("a@b.example", "550 5.1.10 No")
        .start()
        .await;
    let mut client = Client::signed_in(&server).await;
    let replies = client.say_and_read(&format!("{ENVELOPE}DATA\r\n"), 3).await;
    assert_eq!(replies[2], "354 Go on\r\n");
    assert_eq!(client.say(".\r\n").await, "554 5.5.0 No valid recipients\r\n");
}

#[tokio::test]
async fn parameters_must_have_been_offered() {
    let server =
        FakeExchange::builder().extensions(Extensions::exchange_online().without("DSN").without("chunking"));
    let server = server.start().await;
    let mut client = Client::signed_in(&server).await;
    assert!(client.say("MAIL FROM:<a@b.example> RET=HDRS\r\n").await.starts_with("501 "));
    assert!(client.say("MAIL FROM:<\u{fc}@b.example>\r\n").await.starts_with("501 5.1.7"));
    assert!(client.say("MAIL FROM:<\u{fc}@b.example> SMTPUTF8 BODY=8BITMIME\r\n").await.starts_with("250 "));
    assert_eq!(client.say("BDAT 0 LAST\r\n").await, "500 5.3.3 Unrecognized command 'BDAT'\r\n");
}

#[tokio::test]
async fn an_error_challenge_waits_for_its_answer() {
    let server =
        FakeExchange::builder().fault(FaultPoint::Auth, Fault::error_challenge().once()).start().await;
    let mut client = Client::secured(&server).await;
    let challenge = client.say(&format!("AUTH XOAUTH2 {}\r\n", xoauth2(ACCOUNT, "bad"))).await;
    let json = STANDARD.decode(challenge.strip_prefix("334 ").unwrap().trim_end()).unwrap();
    assert!(json.starts_with(b"{\"status\":\"401\""));
    assert_eq!(client.say("\r\n").await, "535 5.7.8 Username and Password not accepted.\r\n");
    assert!(
        client.say(&format!("AUTH XOAUTH2 {}\r\n", xoauth2(ACCOUNT, "bad"))).await.starts_with("535 5.7.3")
    );
}

#[tokio::test]
async fn faults_strike_as_often_as_they_are_told() {
    let server = FakeExchange::builder()
        .fault(FaultPoint::Greeting, Fault::ReplyThenClose("421 4.3.2 Service not available".into()).once())
        .fault(FaultPoint::Noop, Fault::reply("250-2.0.0 a\n250 2.0.0 b").times(1).after(1))
        .start()
        .await;
    let mut turned_away = Client::open(&server).await;
    assert_eq!(turned_away.rest().await, b"421 4.3.2 Service not available\r\n");
    let mut client = Client::open(&server).await;
    assert!(client.reply().await.starts_with("220 "));
    assert_eq!(client.say("NOOP\r\n").await, "250 2.0.0 OK\r\n");
    assert_eq!(client.say("NOOP\r\n").await, "250-2.0.0 a\r\n250 2.0.0 b\r\n");
    assert_eq!(client.say("NOOP\r\n").await, "250 2.0.0 OK\r\n");
    server.inject(FaultPoint::Noop, Fault::Garbage(vec![0, 255]));
    client.write(b"NOOP\r\n").await;
    let mut garbage = [0; 2];
    client.0.read_exact(&mut garbage).await.unwrap();
    assert_eq!(garbage, [0, 255]);
    server.inject(FaultPoint::Noop, Fault::Close);
    assert_eq!(client.say("NOOP\r\n").await, "");
    assert_eq!(server.connections().total, 2);
}

#[tokio::test]
async fn silence_is_noticed_and_endless_replies_do_not_end() {
    let server = FakeExchange::builder().fault(FaultPoint::Noop, Fault::Silence).start().await;
    let mut client = Client::open(&server).await;
    client.reply().await;
    client.write(b"NOOP\r\n").await;
    server.wait_for_silence().await;
    for (fault, start) in [(Fault::EndlessReply, "250-xxxx"), (Fault::EndlessLines, "250-x\r\n2")] {
        server.inject(FaultPoint::Noop, fault);
        let mut client = Client::open(&server).await;
        client.reply().await;
        client.write(b"NOOP\r\n").await;
        let mut much = vec![0; 1_000_000];
        client.0.read_exact(&mut much).await.unwrap();
        assert!(much.starts_with(start.as_bytes()));
    }
}

#[tokio::test]
async fn a_stalled_reader_holds_up_a_large_body() {
    let server = FakeExchange::builder()
        .receive_buffer(4096)
        .fault(FaultPoint::BodyStart, Fault::StallReading)
        .start()
        .await;
    let mut client = Client::signed_in(&server).await;
    client.say_and_read(ENVELOPE, 2).await;
    client.write(b"BDAT 30000000 LAST\r\n").await;
    server.wait_for_silence().await;
    let body = vec![b'x'; 30_000_000];
    let written = tokio::time::timeout(Duration::from_millis(200), client.0.write_all(&body)).await;
    assert!(written.is_err());
}

#[tokio::test]
async fn octets_can_be_injected_behind_the_reply_to_starttls() {
    let server = FakeExchange::builder()
        .fault(FaultPoint::StartTls, Fault::Inject(b"250 injected\r\n".to_vec()))
        .start()
        .await;
    let mut client = Client::open(&server).await;
    client.reply().await;
    client.say("EHLO c\r\n").await;
    client.write(b"STARTTLS\r\n").await;
    let mut received = [0; 128];
    let length = client.0.read(&mut received).await.unwrap();
    assert_eq!(&received[..length], b"220 2.0.0 SMTP server ready\r\n250 injected\r\n");
}

#[tokio::test]
async fn old_tls_and_bad_certificates_fail_the_handshake() {
    let server = FakeExchange::builder().fault(FaultPoint::TlsHandshake, Fault::Tls11Only).start().await;
    let error = Client::secured_with(&server, &trusting(&server)).await.err().unwrap();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    for (kind, reason) in
        [(CertificateKind::Expired, "expired"), (CertificateKind::WrongName, "not valid for name")]
    {
        let server = FakeExchange::builder().certificate(kind).start().await;
        let error = Client::secured_with(&server, &trusting(&server)).await.err().unwrap();
        assert!(error.to_string().contains(reason), "{error}");
        server.wait_for_open(0).await;
        assert!(matches!(server.handshakes()[..], [Handshake::Failed(_)]));
    }
}

#[tokio::test]
async fn sessions_of_one_client_resume() {
    for builder in [FakeExchange::builder(), FakeExchange::builder().tls12_only()] {
        let server = builder.start().await;
        let config = trusting(&server);
        for _ in 0..2 {
            let mut client = Client::secured_with(&server, &config).await.unwrap();
            client.say("QUIT\r\n").await;
        }
        assert_eq!(server.handshakes(), [Handshake::Full, Handshake::Resumed]);
    }
}

#[tokio::test]
async fn implicit_tls_starts_with_the_handshake() {
    let server = FakeExchange::builder().implicit_tls().start().await;
    let mut client = Client::open(&server).await.encrypted(&trusting(&server)).await.unwrap();
    assert!(client.reply().await.starts_with("220 "));
    let list = client.say("EHLO c\r\n").await;
    assert!(list.contains("AUTH LOGIN XOAUTH2") && !list.contains("STARTTLS"), "{list}");
}

#[tokio::test]
async fn idle_connections_can_be_closed_with_a_last_reply() {
    let server = FakeExchange::start().await;
    let mut clients = [Client::secured(&server).await, Client::secured(&server).await];
    assert_eq!(server.connections().peak, 2);
    server.close_connections(Some("421 4.4.2 Connection dropped")).await;
    assert_eq!(server.connections().open, 0);
    for client in &mut clients {
        assert_eq!(client.rest().await, b"421 4.4.2 Connection dropped\r\n");
    }
    Client::secured(&server).await;
    let mut last = Client::secured(&server).await;
    drop(server);
    assert_eq!(last.rest().await, b"");
}

#[tokio::test]
async fn a_refused_oauthbearer_token_is_explained_before_the_final_reply() {
    let server =
        FakeExchange::builder().extensions(Extensions::exchange_online().auth("OAUTHBEARER")).start().await;
    let mut client = Client::secured(&server).await;
    let message = |token: &str| STANDARD.encode(format!("n,a={ACCOUNT},\x01auth=Bearer {token}\x01\x01"));
    assert!(client.say(&format!("AUTH OAUTHBEARER {}\r\n", message("bad"))).await.starts_with("334 ey"));
    assert!(client.say("AQ==\r\n").await.starts_with("535 5.7.3 "));
    let token = server.tokens().issue(ACCOUNT, HOUR, 1800);
    assert!(client.say(&format!("AUTH OAUTHBEARER {}\r\n", message(&token))).await.starts_with("235 "));
}

#[tokio::test]
async fn a_refused_bdat_leaves_a_session_that_takes_data() {
    let server = FakeExchange::builder()
        .fault(FaultPoint::Bdat, Fault::reply("500 5.3.3 Unrecognized command"))
        .start();
    let server = server.await;
    let mut client = Client::signed_in(&server).await;
    let replies = client.say_and_read(&format!("{ENVELOPE}BDAT 6 LAST\r\nNOOP\r\nRSET\r\n"), 4).await;
    assert_eq!(replies[2..], ["500 5.3.3 Unrecognized command\r\n", "250 2.0.0 Resetting\r\n"]);
    client.say_and_read(&format!("{ENVELOPE}DATA\r\n"), 3).await;
    server.inject(
        FaultPoint::Body,
        Fault::reply("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
    );
    assert!(client.say("x\r\n.\r\n").await.starts_with("432 4.3.2 "));
    assert_eq!(server.message_count(), 0);
    client.say_and_read(&format!("{ENVELOPE}DATA\r\n"), 3).await;
    assert!(client.say("x\r\n.\r\n").await.starts_with("250 2.0.0 OK"));
    server.wait_for_messages(1).await;
    assert_eq!(server.messages()[0].body, b"x\r\n");
}
