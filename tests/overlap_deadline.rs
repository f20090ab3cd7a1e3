//! A message whose time is over when its connection comes free is not sent any more.

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use smtp_oauth::testing::ManualClock;
use smtp_oauth::{
    Authentication, Disposition, ErrorKind, MailServerConfig, Mailer, RetryPolicy, Timeouts, Tls,
};
use support::stream::Items;
use support::{ACCOUNT, PASSWORD, envelope};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Lets all time pass as soon as the client has heard the first verdict.
async fn serve(socket: TcpStream, clock: ManualClock, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    socket.write_all(b"220 ready\r\n").await?;
    let mut line = String::new();
    while socket.read_line(&mut line).await? > 0 {
        seen.lock().unwrap().push(line.clone());
        let reply: &[u8] = match line.split([' ', '\r']).next() {
            Some("EHLO") => b"250-server\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n",
            Some("AUTH") => b"235 2.7.0 welcome\r\n",
            _ => b"250 2.0.0 OK\r\n",
        };
        let Some(head) = line.strip_prefix("BDAT ") else {
            socket.write_all(reply).await?;
            line.clear();
            continue;
        };
        let mut text = vec![0; head.split(' ').next().unwrap().parse().unwrap()];
        socket.read_exact(&mut text).await?;
        socket.write_all(reply).await?;
        // The client's task runs next, and then this one before that of the message behind.
        tokio::task::yield_now().await;
        clock.advance(Timeouts::new().total());
        line.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_message_whose_turn_comes_with_its_deadline_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = ManualClock::new();
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
        .clock(clock.clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let serving = seen.clone();
    let server = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, clock.clone(), serving.clone()));
        }
    });
    let messages = ["first@example.com", "late@example.com"]
        .map(|to| (envelope(&[to]), b"Subject: x\r\n\r\nx\r\n".to_vec()));
    let mut batch = mailer.submit_all(Items::new(messages)).overlap(NonZeroU32::new(4).unwrap());
    assert!(batch.next().await.unwrap().1.is_ok());
    let error = batch.next().await.unwrap().1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    let seen = seen.lock().unwrap();
    assert!(!seen.iter().any(|line| line.contains("late@")), "{seen:?}");
    server.abort();
}
