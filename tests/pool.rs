//! How connections are shared: a hard cap, fair turns, and an end for each when its time has come.

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::lettre::Message;
use smtp_oauth::testing::{FakeExchange, Fault, FaultPoint, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, ConnectionReuse, Disposition, ErrorKind, Mailer, RetryPolicy, Timeouts, token,
};
use support::proxy::Proxy;
use support::settle::{settle, until};
use support::{ACCOUNT, HOUR, envelope, issuing, message, settings};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

struct Setup {
    server: FakeExchange,
    manual: ManualClock,
    mailer: Mailer,
}

async fn start(connections: u32, reuse: ConnectionReuse) -> Setup {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let config = settings(&server)
        .max_connections(NonZeroU32::new(connections).unwrap())
        .reuse(reuse)
        .timeouts(Timeouts::new().with_final_reply(HOUR).with_total(HOUR))
        .build()
        .unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .clock(manual.clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    Setup { server, manual, mailer }
}

fn in_background(mailer: &Mailer, message: Message) -> JoinHandle<Result<(), smtp_oauth::Error>> {
    let mailer = mailer.clone();
    tokio::spawn(async move { mailer.submit(&message).await.map(drop) })
}

fn commands(server: &FakeExchange, verb: &str) -> usize {
    server.transcript().iter().filter(|line| line.starts_with(verb)).count()
}

#[tokio::test]
async fn there_are_never_more_connections_than_allowed_and_no_noop() {
    let Setup { server, mailer, .. } = start(3, ConnectionReuse::new()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let mailer = mailer.clone();
        tasks.spawn(async move { mailer.submit(&message()).await.map(drop) });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    let counts = server.connections();
    assert_eq!((server.message_count(), counts.total, counts.peak), (100, 3, 3));
    let status = mailer.pool_status();
    assert_eq!((status.in_use, status.idle, status.waiting, status.most), (0, 3, 0, 3));
    assert_eq!(commands(&server, "NOOP"), 0);
    assert_eq!(server.tokens().count(), 1);
}

#[tokio::test]
async fn who_waits_is_served_in_order_and_the_status_says_how_many() {
    let Setup { server, mailer, .. } = start(1, ConnectionReuse::new()).await;
    server.inject(FaultPoint::Body, Fault::Silence);
    let first = in_background(&mailer, message());
    server.wait_for_silence().await;
    let order = Arc::<Mutex<Vec<usize>>>::default();
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let (mailer, order) = (mailer.clone(), order.clone());
        tasks.spawn(async move {
            mailer.submit(&message()).await.unwrap();
            order.lock().unwrap().push(number);
        });
        tokio::task::yield_now().await;
    }
    until(|| mailer.pool_status().waiting == 20).await;
    let status = mailer.pool_status();
    assert_eq!((status.in_use, status.idle, status.waiting, status.most), (1, 0, 20, 1));
    first.abort();
    tasks.join_all().await;
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(mailer.pool_status().waiting, 0);
}

#[tokio::test]
async fn waiting_for_a_connection_ends_at_the_deadline() {
    let Setup { server, manual, mailer } = start(1, ConnectionReuse::new()).await;
    server.inject(FaultPoint::Body, Fault::Silence);
    let first = in_background(&mailer, message());
    server.wait_for_silence().await;
    let second = in_background(&mailer, message());
    until(|| mailer.pool_status().waiting == 1).await;
    manual.advance(HOUR);
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, smtp_oauth::Phase::Preparation));
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Indeterminate);
    assert_eq!((mailer.pool_status().waiting, mailer.pool_status().in_use), (0, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_when_their_time_is_over() {
    let idle = Duration::from_secs(100);
    let Setup { server, manual, mailer } = start(3, ConnectionReuse::new().with_idle(idle)).await;
    mailer.submit(&message()).await.unwrap();
    manual.advance(idle - Duration::from_secs(1));
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.connections().total, 1, "used again in time");
    manual.advance(idle - Duration::from_secs(1));
    settle().await;
    assert_eq!(server.connections().open, 1);
    manual.advance(Duration::from_secs(1));
    server.wait_for_open(0).await;
    assert_eq!((commands(&server, "QUIT"), mailer.pool_status().idle), (1, 0));
    mailer.submit(&message()).await.unwrap();
    manual.advance(idle);
    server.wait_for_open(0).await;
    assert_eq!((server.connections().total, commands(&server, "QUIT")), (2, 2), "swept again and again");
}

#[tokio::test]
async fn a_connection_ends_at_its_age_even_when_it_is_never_idle_for_long() {
    let reuse = ConnectionReuse::new().with_age(Duration::from_secs(100));
    let Setup { server, manual, mailer } = start(1, reuse).await;
    for number in 1..=10 {
        mailer.submit(&message()).await.unwrap();
        manual.advance(Duration::from_secs(30));
        match number % 4 {
            0 => server.wait_for_open(0).await,
            _ => settle().await,
        }
    }
    // Messages at 0, 30, 60 and 90 seconds of each connection.
    assert_eq!((server.message_count(), server.connections().total, server.connections().peak), (10, 3, 1));
}

#[tokio::test]
async fn the_sweeper_wakes_for_the_connection_that_ends_first() {
    let reuse = ConnectionReuse::new().with_idle(Duration::from_secs(100)).with_age(Duration::from_secs(150));
    let Setup { server, manual, mailer } = start(2, reuse).await;
    mailer.submit(&message()).await.unwrap();
    manual.advance(Duration::from_secs(90));
    let mut both = JoinSet::new();
    for _ in 0..2 {
        let mailer = mailer.clone();
        both.spawn(async move { mailer.submit(&message()).await.map(drop) });
    }
    both.join_all().await.into_iter().for_each(Result::unwrap);
    assert_eq!(server.connections().open, 2);
    settle().await;
    // One is idle from now on and ends in 100 seconds, the other is too old in 60.
    manual.advance(Duration::from_secs(60));
    tokio::time::timeout(Duration::from_secs(10), server.wait_for_open(1)).await.unwrap();
    manual.advance(Duration::from_secs(40));
    server.wait_for_open(0).await;
}

#[tokio::test]
async fn a_connection_carries_as_many_messages_as_it_may() {
    let reuse = ConnectionReuse::new().with_messages(NonZeroU32::new(3));
    let Setup { server, mailer, .. } = start(1, reuse).await;
    for _ in 0..7 {
        mailer.submit(&message()).await.unwrap();
    }
    let per_connection: Vec<_> = (1..=3)
        .map(|number| server.messages().iter().filter(|message| message.connection == number).count())
        .collect();
    assert_eq!((per_connection, server.connections().peak), (vec![3, 3, 1], 1));
    assert_eq!(commands(&server, "QUIT"), 2);
}

#[tokio::test]
async fn close_waits_for_what_is_under_way_and_says_quit_to_all() {
    let Setup { server, mailer, .. } = start(2, ConnectionReuse::new()).await;
    server.inject(FaultPoint::Mail, Fault::Silence);
    let stuck = in_background(&mailer, message());
    server.wait_for_silence().await;
    mailer.submit(&message()).await.unwrap();
    let closing = tokio::spawn({
        let mailer = mailer.clone();
        async move { mailer.close().await }
    });
    until(|| commands(&server, "QUIT") == 1).await; // The idle one has gone.
    settle().await;
    assert!(!closing.is_finished(), "a submission is under way");
    let error = mailer.submit(&message()).await.unwrap_err();
    let later = Disposition::Retry { after: None };
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Closed, later));
    assert_eq!(error.to_string(), "the mailer was closed");
    stuck.abort();
    closing.await.unwrap();
    server.wait_for_open(0).await;
    assert_eq!(mailer.clone().submit(&message()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(mailer.verify().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_submission_that_ends_after_close_says_quit_too() {
    let server = FakeExchange::start().await;
    let proxy = Proxy::trickle(server.address(), 64).await;
    let config = settings(&server).port(proxy.port()).build().unwrap();
    let mailer = Mailer::builder(config).authentication(issuing(server.tokens(), 1800)).build().unwrap();
    let under_way = in_background(&mailer, message());
    server.wait_for_open(1).await;
    mailer.close().await;
    under_way.await.unwrap().unwrap();
    assert_eq!((server.message_count(), commands(&server, "QUIT")), (1, 1));
    assert_eq!(mailer.pool_status().idle, 0);
    server.wait_for_open(0).await;
}

#[tokio::test]
async fn who_waits_for_a_connection_hears_of_the_close_at_once() {
    let Setup { server, mailer, .. } = start(1, ConnectionReuse::new()).await;
    server.inject(FaultPoint::Mail, Fault::Silence);
    let stuck = in_background(&mailer, message());
    server.wait_for_silence().await;
    let waiting = in_background(&mailer, message());
    until(|| mailer.pool_status().waiting == 1).await;
    let closing = tokio::spawn({
        let mailer = mailer.clone();
        async move { mailer.close().await }
    });
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    stuck.abort();
    closing.await.unwrap();
}

#[tokio::test]
async fn idle_connections_that_the_server_closed_are_replaced() {
    for last_words in [None, Some("421 4.4.2 Message submission timed out")] {
        let Setup { server, mailer, .. } = start(3, ConnectionReuse::new()).await;
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let mailer = mailer.clone();
            tasks.spawn(async move { mailer.submit(&message()).await.map(drop) });
        }
        for result in tasks.join_all().await {
            result.unwrap();
        }
        server.close_connections(last_words).await;
        settle().await;
        let submission = mailer.submit(&message()).await.unwrap();
        assert_eq!(submission.accepted().len(), 1, "{last_words:?}");
        assert_eq!((server.message_count(), server.connections().total), (4, 4), "{last_words:?}");
        assert_eq!(server.connections().peak, 3, "{last_words:?}");
    }
}

#[tokio::test]
async fn a_421_to_the_first_command_replaces_a_reused_connection() {
    let Setup { server, mailer, .. } = start(1, ConnectionReuse::new()).await;
    mailer.submit(&message()).await.unwrap();
    server.inject(
        FaultPoint::Mail,
        Fault::ReplyThenClose("421 4.4.2 Connection dropped due to SocketError".into()),
    );
    mailer.submit(&message()).await.unwrap();
    // On a new connection it is the server's answer, and `never` means never.
    server.close_connections(None).await;
    server.inject(FaultPoint::Mail, Fault::ReplyThenClose("421 4.3.2 Service not available".into()));
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServerUnavailable);
    assert_eq!((server.message_count(), server.connections().total), (2, 3));
}

#[tokio::test]
async fn after_five_idle_seconds_the_envelope_goes_first() {
    let Setup { server, manual, mailer } = start(1, ConnectionReuse::new()).await;
    mailer.submit(&message()).await.unwrap();
    for (idle, expected) in [(0, 1), (5, 1), (6, 2), (0, 1), (60, 2)] {
        manual.advance(Duration::from_secs(idle));
        let before = server.flights()[0];
        mailer.submit(&message()).await.unwrap();
        assert_eq!(
            (server.flights().len(), server.flights()[0] - before),
            (1, expected),
            "idle for {idle} s"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_that_dies_as_it_is_used_is_replaced_and_the_message_sent_once() {
    let Setup { server, manual, mailer } = start(1, ConnectionReuse::new()).await;
    mailer.submit(&message()).await.unwrap();
    manual.advance(Duration::from_secs(6));
    server.inject(FaultPoint::Mail, Fault::Close);
    mailer.submit(&message()).await.unwrap();
    assert_eq!((server.message_count(), server.connections().total), (2, 2));
    // One that was used just now is hardly being closed: everything goes at once, and its death leaves the outcome open.
    server.inject(FaultPoint::Mail, Fault::Close);
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Indeterminate);
}

#[tokio::test]
async fn a_connection_that_owes_a_reply_is_closed_and_not_kept_idle() {
    let Setup { server, manual, mailer } = start(1, ConnectionReuse::new()).await;
    mailer.submit(&message()).await.unwrap();
    for fault in [Fault::Silence, Fault::Garbage(b"what?\r\n".to_vec())] {
        server.inject(FaultPoint::Body, fault.clone());
        manual.advance_until(HOUR / 4, mailer.submit(&message())).await.unwrap_err();
        assert_eq!(mailer.pool_status().idle, 0, "{fault:?}");
        tokio::time::timeout(Duration::from_secs(10), server.wait_for_open(0)).await.unwrap();
        mailer.submit(&message()).await.unwrap();
    }
    assert_eq!((server.message_count(), server.connections().total), (3, 3));
}

#[tokio::test]
async fn after_a_421_nothing_more_is_said_although_the_server_does_not_close() {
    for chunking in [Chunking::Auto, Chunking::Off] {
        for at in [FaultPoint::Mail, FaultPoint::Rcpt, FaultPoint::Data, FaultPoint::Body] {
            if at == FaultPoint::Data && chunking == Chunking::Auto {
                continue;
            }
            let context = format!("{at:?}, {chunking:?}");
            let server = FakeExchange::start().await;
            server.inject(at, Fault::reply("421 4.3.2 Service not available"));
            let config = settings(&server).chunking(chunking).build().unwrap();
            let mailer = Mailer::builder(config)
                .authentication(issuing(server.tokens(), 1800))
                .retry(RetryPolicy::never())
                .build()
                .unwrap();
            let error = mailer.submit(&message()).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.reply().unwrap().code()),
                (ErrorKind::ServerUnavailable, 421),
                "{context}"
            );
            assert_eq!(mailer.pool_status().idle, 0, "{context}");
            let closed = tokio::time::timeout(Duration::from_secs(10), server.wait_for_open(0)).await;
            assert!(closed.is_ok(), "{context}");
            mailer.submit(&message()).await.unwrap();
            assert_eq!((server.message_count(), server.connections().total), (1, 2), "{context}");
            assert_eq!(commands(&server, "QUIT"), 0, "{context}");
        }
    }
}

#[tokio::test]
async fn nor_after_a_421_to_the_empty_message_that_nobody_gets() {
    let server = FakeExchange::builder()
        .refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found")
        .data_without_recipients("354 Start mail input")
        .fault(FaultPoint::Body, Fault::reply("421 4.3.2 Service not available"))
        .start()
        .await;
    let mailer = support::data_mailer(&server);
    let error = mailer.submit_raw(&envelope(&["gone@example.com"]), b"x\r\n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecipientsRefused);
    assert_eq!(mailer.pool_status().idle, 0);
    mailer.submit(&message()).await.unwrap();
    assert_eq!((server.message_count(), server.connections().total), (1, 2));
}

#[tokio::test]
async fn token_and_connection_do_not_wait_for_each_other() {
    // The provider answers only once the server has seen the connection …
    let server = Arc::new(FakeExchange::start().await);
    let provider = token::from_fn({
        let server = server.clone();
        move || {
            let server = server.clone();
            async move {
                server.wait_for_open(1).await;
                Ok(server.tokens().issue_access_token(ACCOUNT, HOUR, 1800))
            }
        }
    });
    let mailer = Mailer::builder(settings(&server).build().unwrap())
        .authentication(Authentication::oauth(provider))
        .build()
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), mailer.submit(&message())).await.unwrap().unwrap();

    // … and the server greets only once the provider has been asked.
    let (asked, mut wait) = watch::channel(false);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = server.address();
    let relay = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        wait.wait_for(|asked| *asked).await.unwrap();
        let mut upstream = tokio::net::TcpStream::connect(address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    });
    let provider = token::from_fn({
        let server = server.clone();
        move || {
            asked.send_replace(true);
            let token = server.tokens().issue_access_token(ACCOUNT, HOUR, 1800);
            async move { Ok(token) }
        }
    });
    let config = settings(&server).port(port).build().unwrap();
    let mailer = Mailer::builder(config).authentication(Authentication::oauth(provider)).build().unwrap();
    tokio::time::timeout(Duration::from_secs(10), mailer.submit(&message())).await.unwrap().unwrap();
    drop(mailer);
    relay.await.unwrap();
    assert_eq!(server.message_count(), 2);
}

#[tokio::test]
async fn opening_a_connection_ends_at_the_submissions_deadline() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder()
        .clock(manual.clock())
        .fault(FaultPoint::Greeting, Fault::Silence)
        .start()
        .await;
    let config = settings(&server)
        .timeouts(Timeouts::new().with_greeting(HOUR).with_total(Duration::from_secs(10)))
        .build()
        .unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .clock(manual.clock())
        .build()
        .unwrap();
    let submission = in_background(&mailer, message());
    server.wait_for_silence().await;
    manual.advance(Duration::from_secs(10));
    let error = submission.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, smtp_oauth::Phase::Greeting));
}

#[tokio::test]
async fn a_dropped_mailer_closes_its_connections() {
    let Setup { server, mailer, .. } = start(1, ConnectionReuse::new()).await;
    mailer.submit_raw(&envelope(&["reader@example.com"]), b"x\r\n").await.unwrap();
    drop(mailer);
    server.wait_for_open(0).await;
}
