//! A server that says good-bye, stays and goes on late: what it says to one command is not taken for the reply to another.

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::testing::ManualClock;
use smtp_oauth::{
    Authentication, Disposition, Error, MailServerConfig, Mailer, RetryPolicy, Submission, Tls,
};
use support::settle::settle;
use support::stream::Items;
use support::{ACCOUNT, PASSWORD, envelope};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long a server may take to close after its good-bye.
const LEAVING: Duration = Duration::from_secs(30);

/// Where the first connection pauses, and what it says then to the message behind the good-bye.
struct Late {
    before: &'static str,
    verdict: &'static str,
    paused: Notify,
    resume: Notify,
    /// It has answered everything.
    done: Notify,
    accepted: Mutex<Vec<String>>,
}

/// Answers what comes over the connection that is the `number`th.
async fn serve(socket: TcpStream, number: usize, late: Arc<Late>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    socket.write_all(b"220 ready\r\n").await?;
    let (mut said_goodbye, mut is_behind, mut has_paused) = (false, false, false);
    let mut line = String::new();
    while socket.read_line(&mut line).await? > 0 {
        let verb = line.split([' ', '\r']).next().unwrap().to_owned();
        is_behind |= said_goodbye && verb == "RSET";
        if is_behind && verb == late.before && !std::mem::replace(&mut has_paused, true) {
            late.paused.notify_one();
            late.resume.notified().await;
        }
        let mut reply = match &*verb {
            "EHLO" => "250-server\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 AUTH PLAIN",
            "AUTH" => "235 2.7.0 welcome",
            "RCPT" if number == 0 && line.contains("<leave@") => {
                said_goodbye = true;
                "421 4.3.2 Service not available"
            }
            _ => "250 2.0.0 OK",
        };
        if verb == "BDAT" {
            let octets = line.split(' ').nth(1).unwrap().parse().unwrap();
            let mut text = vec![0; octets];
            socket.read_exact(&mut text).await?;
            let text = String::from_utf8(text).unwrap();
            reply = match said_goodbye {
                true if text.contains("leave") => "503 5.5.1 No recipient",
                true => late.verdict,
                false => reply,
            };
            if reply.starts_with('2') {
                late.accepted.lock().unwrap().push(text.lines().next().unwrap().to_owned());
            }
            if said_goodbye && !text.contains("leave") {
                late.done.notify_one();
            }
        }
        // The client may have gone; that keeps it from nothing it has read.
        let _ = socket.write_all(format!("{reply}\r\n").as_bytes()).await;
        line.clear();
    }
    Ok(())
}

/// Submits three messages; the server says good-bye to the second and pauses for `pause` while it goes on with the third.
async fn session(
    before: &'static str,
    pause: Duration,
    verdict: &'static str,
) -> (Vec<Result<Submission, Error>>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let late = Arc::new(Late {
        before,
        verdict,
        paused: Notify::new(),
        resume: Notify::new(),
        done: Notify::new(),
        accepted: Mutex::default(),
    });
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
    let serving = late.clone();
    let server = tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, number, serving.clone()));
        }
    });
    let messages = ["first@example.com", "leave@example.com", "last@example.com"]
        .map(|to| (envelope(&[to]), format!("Subject: {to}\r\n\r\nx\r\n").into_bytes()));
    let mut batch = mailer.submit_all(Items::new(messages)).overlap(NonZeroU32::new(2).unwrap());
    let time = async {
        late.paused.notified().await;
        settle().await;
        clock.advance(pause);
        // The client hears that time has passed before it hears the server.
        settle().await;
        late.resume.notify_one();
        late.done.notified().await;
    };
    let all = async {
        let mut results = std::collections::BTreeMap::new();
        while let Some((number, result)) = batch.next().await {
            results.insert(number, result);
        }
        results.into_values().collect()
    };
    let (results, ()) = tokio::join!(all, time);
    server.abort();
    let accepted = late.accepted.lock().unwrap().clone();
    (results, accepted)
}

#[tokio::test]
async fn a_server_that_goes_on_after_its_goodbye_in_time_is_believed() {
    let second = Duration::from_secs(1);
    let minute = 60 * second;
    let pauses = [("RSET", LEAVING), ("MAIL", 5 * minute), ("RCPT", 5 * minute), ("BDAT", 10 * minute)];
    for (before, pause) in pauses {
        let (results, accepted) = session(before, pause - second, "250 2.0.0 OK").await;
        assert!(results[2].is_ok(), "{before}: {results:#?}");
        assert_eq!(accepted.len(), 2, "{before}: {accepted:?}");
    }
}

#[tokio::test]
async fn a_late_reply_to_rset_makes_no_message_accepted() {
    let (results, accepted) = session("RSET", LEAVING, "550 5.7.1 No").await;
    let count = accepted.iter().filter(|subject| subject.contains("last")).count();
    assert_eq!(results[2].is_ok(), count == 1, "{results:#?} {accepted:?}");
}

#[tokio::test]
async fn a_message_that_a_server_goes_on_with_after_its_goodbye_is_not_sent_again() {
    // Once it goes on, it has as long as ever.
    let minute = Duration::from_secs(60);
    let pauses = [("RSET", LEAVING), ("MAIL", 5 * minute), ("RCPT", 5 * minute), ("BDAT", 10 * minute)];
    for (before, pause) in pauses {
        let (results, accepted) = session(before, pause, "250 2.0.0 OK").await;
        let count = accepted.iter().filter(|subject| subject.contains("last")).count();
        assert_eq!(count, 1, "{before}: {results:#?} {accepted:?}");
        let error = results[2].as_ref().unwrap_err();
        assert_eq!(error.disposition(), Disposition::Indeterminate, "{before}: {error}");
    }
}
