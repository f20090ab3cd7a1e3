//! A server that answers each command before it reads the next, and buffers little: a window of messages with many recipients
//! never comes to where it waits for the client to read while the client waits for it to read.
#![cfg(unix)]

mod support;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use smtp_oauth::testing::ManualClock;
use smtp_oauth::{Authentication, MailServerConfig, Mailer, RetryPolicy, Tls};
use support::stream::Items;
use support::{ACCOUNT, PASSWORD, envelope};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Listens with buffers so small that the client's are soon full too.
fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2 * 1024).unwrap();
    socket.set_send_buffer_size(2 * 1024).unwrap();
    // Small segments make Linux begin with a small send buffer.
    socket2::SockRef::from(&socket).set_tcp_mss(88).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket.listen(16).unwrap()
}

/// Answers with replies of about 400 octets to RCPT.
async fn serve(socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::with_capacity(1024, socket);
    socket.write_all(b"220 ready\r\n").await?;
    let refused = format!("550 5.1.10 {}\r\n", "x".repeat(400));
    let mut line = String::new();
    while socket.read_line(&mut line).await? > 0 {
        let reply = match line.split([' ', '\r']).next() {
            Some("EHLO") => "250-server\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n",
            Some("RCPT") if !line.contains("<reader@") => &refused,
            Some("AUTH") => "235 2.7.0 welcome\r\n",
            _ => "250 2.0.0 OK\r\n",
        };
        if let Some(head) = line.strip_prefix("BDAT ") {
            let mut text = vec![0; head.split(' ').next().unwrap().parse().unwrap()];
            socket.read_exact(&mut text).await?;
        }
        socket.write_all(reply.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_wide_window_of_messages_with_many_recipients_does_not_stand_still() {
    let listener = listen();
    let config = MailServerConfig::builder()
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port())
        .tls(Tls::LoopbackPlaintext)
        .username(ACCOUNT)
        .sender(ACCOUNT)
        .max_connections(NonZeroU32::MIN)
        .build()
        .unwrap();
    let mailer = Mailer::builder(config)
        .authentication(Authentication::basic(PASSWORD))
        // No limit is reached: nobody moves it.
        .clock(ManualClock::new().clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let server = tokio::spawn(async move {
        loop {
            tokio::spawn(serve(listener.accept().await.unwrap().0));
        }
    });
    let gone: Vec<_> = (0..200).map(|number| format!("gone{number}@example.com")).collect();
    let recipients: Vec<_> = ["reader@example.com"].into_iter().chain(gone.iter().map(|to| &**to)).collect();
    let messages = (0..150).map(|_| (envelope(&recipients), b"Subject: x\r\n\r\nx\r\n".to_vec()));
    let mut batch = mailer.submit_all(Items::new(messages)).overlap(NonZeroU32::MAX);
    let all = async {
        while let Some((number, result)) = batch.next().await {
            let submission = result.unwrap_or_else(|error| panic!("{number}: {error}"));
            assert_eq!((submission.accepted().len(), submission.refused().len()), (1, 200));
        }
    };
    tokio::time::timeout(Duration::from_secs(40), all).await.expect("neither waits for the other");
    server.abort();
}
