//! A mailbox stays within its limits on this side: in turn, in time, for all clones together.

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::testing::{FakeExchange, Fault, FaultPoint, ManualClock};
use smtp_oauth::{
    Disposition, ErrorKind, Mailer, RetryPolicy, SendingLimits, Submission, Timeouts, WhenReached, Who,
};
use support::settle::{settle, until};
use support::{HOUR, envelope, issuing, settings};
use tokio::task::{JoinHandle, JoinSet};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn a_minute(messages: u32) -> SendingLimits {
    SendingLimits::new().with_messages_per_minute(NonZeroU32::new(messages))
}

struct Setup {
    server: Arc<FakeExchange>,
    manual: ManualClock,
    mailer: Mailer,
}

async fn start(limits: SendingLimits, total: Duration) -> Setup {
    let manual = ManualClock::new();
    let server = Arc::new(FakeExchange::builder().clock(manual.clock()).start().await);
    let config =
        settings(&server).limits(limits).timeouts(Timeouts::new().with_total(total)).build().unwrap();
    // A token for longer than the clock will be moved.
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 100))
        .clock(manual.clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    Setup { server, manual, mailer }
}

async fn submit(mailer: &Mailer, number: usize) -> Result<Submission, smtp_oauth::Error> {
    let text = format!("Subject: {number}\r\n\r\n");
    mailer.submit_raw(&envelope(&["reader@example.com"]), text.as_bytes()).await
}

#[tokio::test]
async fn thirty_messages_a_minute_are_never_exceeded_in_any_minute() {
    let Setup { server, manual, mailer } = start(a_minute(30), HOUR).await;
    // The first one is held up by the server, and counts there only when it is done.
    server.inject(FaultPoint::Body, Fault::Silence);
    let stuck = tokio::spawn({
        let mailer = mailer.clone();
        async move { submit(&mailer, 1000).await }
    });
    server.wait_for_silence().await;
    let mut tasks = JoinSet::new();
    let order = Arc::<Mutex<Vec<usize>>>::default();
    for number in 0..100 {
        let (mailer, order) = (mailer.clone(), order.clone());
        tasks.spawn(async move {
            submit(&mailer, number).await.unwrap();
            order.lock().unwrap().push(number);
        });
        tokio::task::yield_now().await;
    }
    // When each message was on the server's record, to the second.
    let mut arrivals = Vec::new();
    for second in 0..400_usize {
        settle().await;
        until(|| mailer.pool_status().in_use == 1).await; // The one that is held up.
        arrivals.resize(server.message_count(), second);
        manual.advance(Duration::from_secs(1));
        if tasks.try_join_next().is_some() && tasks.is_empty() {
            break;
        }
    }
    while tasks.join_next().await.is_some() {}
    arrivals.resize(server.message_count(), 400);
    assert_eq!(arrivals.len(), 100);
    for (at, window) in arrivals.windows(31).enumerate() {
        assert!(window[30] - window[0] >= 59, "messages {at} to {}: {arrivals:?}", at + 30);
    }
    assert!(arrivals[99] < 260, "no slower than it must be: {arrivals:?}");
    // Whoever came first was admitted first; over several connections those of one minute may change places.
    let order = order.lock().unwrap().clone();
    for (at, number) in order.iter().enumerate() {
        assert!(at.abs_diff(*number) < 30, "{order:?}");
    }
    stuck.abort();
}

#[tokio::test]
async fn a_message_under_way_counts_until_a_minute_after_its_end() {
    let Setup { server, manual, mailer } = start(a_minute(1), HOUR).await;
    submit(&mailer, 0).await.unwrap();
    manual.advance(MINUTE);
    server.inject(FaultPoint::Body, Fault::Silence);
    let slow = tokio::spawn({
        let mailer = mailer.clone();
        async move { submit(&mailer, 1).await }
    });
    server.wait_for_silence().await;
    let next = tokio::spawn({
        let mailer = mailer.clone();
        async move { submit(&mailer, 2).await }
    });
    // Two minutes later the first may still be counted by the server at any moment.
    manual.advance(2 * MINUTE);
    settle().await;
    assert_eq!(server.message_count(), 1);
    slow.abort();
    settle().await;
    manual.advance(MINUTE - Duration::from_secs(1));
    settle().await;
    assert_eq!(server.message_count(), 1);
    manual.advance(Duration::from_secs(1));
    next.await.unwrap().unwrap();
    assert_eq!(server.message_count(), 2);
}

#[tokio::test]
async fn a_turn_that_comes_too_late_is_refused_at_once() {
    let Setup { server, manual: _, mailer } = start(a_minute(2), Duration::from_secs(30)).await;
    submit(&mailer, 0).await.unwrap();
    submit(&mailer, 1).await.unwrap();
    let error = submit(&mailer, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert_eq!(error.disposition(), Disposition::Retry { after: Some(MINUTE) });
    assert_eq!(error.to_string(), "the mailbox's sending limit is reached");
    assert_eq!(server.message_count(), 2);
    let shown = format!("{error:#}");
    for words in
        ["limit of 2 messages in 60 seconds", "60 seconds after this error", "limits.messages_per_minute"]
    {
        assert!(shown.contains(words), "{shown}");
    }
}

#[tokio::test]
async fn who_asks_to_fail_does_not_wait_and_clones_share_the_limit() {
    let limits = a_minute(2).with_when_reached(WhenReached::Fail);
    let Setup { server, manual, mailer } = start(limits, HOUR).await;
    submit(&mailer.clone(), 0).await.unwrap();
    manual.advance(Duration::from_secs(20));
    submit(&mailer.clone(), 1).await.unwrap();
    let error = submit(&mailer, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(40)));
    manual.advance(Duration::from_secs(40));
    submit(&mailer, 3).await.unwrap();
    submit(&mailer, 4).await.unwrap_err();
    assert_eq!(server.message_count(), 3);
}

#[tokio::test]
async fn recipients_are_counted_for_a_day() {
    let limits =
        SendingLimits::new().with_recipients_per_day(NonZeroU32::new(5)).with_when_reached(WhenReached::Fail);
    let Setup { server, manual, mailer } = start(limits, HOUR).await;
    let three = envelope(&["a@example.com", "b@example.com", "c@example.com"]);
    mailer.submit_raw(&three, b"x\r\n").await.unwrap();
    let error = mailer.submit_raw(&three, b"x\r\n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitReached);
    assert!(error.retry_after().unwrap() >= DAY);
    let remedy = error.remedy().unwrap();
    assert_eq!(remedy.who(), Who::Operator);
    assert!(remedy.summary().contains("limit of 5 recipients in 24 hours"), "{remedy}");
    for words in [
        "own count",
        "about 25 hours after this error",
        "may be blocked",
        "several mailboxes",
        "limits.recipients_per_day only if Microsoft has raised",
        "High Volume Email",
    ] {
        assert!(remedy.to_string().contains(words), "{words}: {remedy}");
    }
    mailer.submit_raw(&envelope(&["a@example.com", "b@example.com"]), b"x\r\n").await.unwrap();
    manual.advance(DAY);
    mailer.submit_raw(&three, b"x\r\n").await.unwrap_err();
    manual.advance(HOUR);
    mailer.submit_raw(&three, b"x\r\n").await.unwrap();
    assert_eq!(server.message_count(), 3);

    let six: Vec<_> = (0..6).map(|number| format!("{number}@example.com")).collect();
    let six: Vec<_> = six.iter().map(String::as_str).collect();
    let error = mailer.submit_raw(&envelope(&six), b"x\r\n").await.unwrap_err();
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Unsendable, Disposition::FixMessage));
    assert_eq!(error.to_string(), "6 recipients are more than the 5 that the mailbox may address in a day");
}

#[tokio::test]
async fn a_dropped_submission_gives_its_turn_to_the_next() {
    let Setup { server, manual, mailer } = start(a_minute(1), HOUR).await;
    submit(&mailer, 0).await.unwrap();
    let waiting: Vec<_> = (1..=3)
        .map(|number| {
            let mailer = mailer.clone();
            tokio::spawn(async move { submit(&mailer, number).await })
        })
        .collect();
    settle().await;
    waiting[0].abort();
    waiting[1].abort();
    settle().await;
    manual.advance(MINUTE);
    server.wait_for_messages(2).await;
    assert_eq!(server.messages()[1].body, b"Subject: 3\r\n\r\n");
}

#[tokio::test]
async fn a_server_that_throttles_slows_down_everybody() {
    for reply in [
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
        "451 4.7.500 Server busy. Please try again later.",
    ] {
        let Setup { server, manual, mailer } = start(SendingLimits::new(), HOUR).await;
        submit(&mailer, 0).await.unwrap();
        server.inject(FaultPoint::Mail, Fault::reply(reply));
        let error = submit(&mailer, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerUnavailable, "{reply}");
        let mut others = JoinSet::new();
        for number in 2..=6 {
            let mailer = mailer.clone();
            others.spawn(async move { submit(&mailer, number).await.map(drop) });
        }
        settle().await;
        assert_eq!(server.message_count(), 1, "{reply}");
        manual.advance_until(Duration::from_millis(100), server.wait_for_messages(6)).await;
        for result in others.join_all().await {
            result.unwrap();
        }
    }
}

#[tokio::test]
async fn submissions_that_wait_for_a_connection_hear_of_the_throttling_too() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let config = settings(&server).max_connections(NonZeroU32::MIN).build().unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 100))
        .clock(manual.clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    submit(&mailer, 0).await.unwrap();
    server.inject(FaultPoint::Mail, Fault::reply("432 4.3.2 Too much").times(1));
    let mut tasks = JoinSet::new();
    for number in 1..=5 {
        let mailer = mailer.clone();
        tasks.spawn(async move { submit(&mailer, number).await.map(drop) });
    }
    settle().await;
    let commands = server.transcript();
    assert_eq!(commands.iter().filter(|line| line.starts_with("MAIL")).count(), 2, "{commands:?}");
    let results = manual.advance_until(Duration::from_millis(200), tasks.join_all()).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 4);
    assert_eq!(server.message_count(), 5);
}

#[tokio::test]
async fn who_asks_to_fail_hears_of_the_throttling_after_it_has_waited_for_a_connection() {
    let manual = ManualClock::new();
    let server = Arc::new(FakeExchange::builder().clock(manual.clock()).start().await);
    let limits = SendingLimits::new().with_when_reached(WhenReached::Fail);
    let config = settings(&server).limits(limits).max_connections(NonZeroU32::MIN).build().unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 100))
        .clock(manual.clock())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    server.inject(FaultPoint::Mail, Fault::reply("432 4.3.2 Too much"));
    let tasks: Vec<_> = (0..2)
        .map(|number| {
            let mailer = mailer.clone();
            tokio::spawn(async move { submit(&mailer, number).await.unwrap_err() })
        })
        .collect();
    let mut errors = Vec::new();
    for task in tasks {
        errors.push(task.await.unwrap());
    }
    assert_eq!(errors[0].kind(), ErrorKind::ServerUnavailable);
    assert_eq!(errors[1].kind(), ErrorKind::LimitReached);
    assert_eq!(errors[1].to_string(), "the mailbox's sending limit is reached");
    let pause = errors[1].retry_after().unwrap();
    assert!((SECOND..=2 * SECOND).contains(&pause), "{pause:?}");
    assert_eq!(server.message_count(), 0);
    manual.advance(pause);
    submit(&mailer, 2).await.unwrap();
}

#[tokio::test]
async fn messages_that_were_under_way_together_are_throttled_once() {
    let Setup { server, manual, mailer } = start(SendingLimits::new(), HOUR).await;
    server.inject(FaultPoint::Greeting, Fault::Silence.times(3));
    let together: Vec<_> = (0..3)
        .map(|number| {
            let mailer = mailer.clone();
            tokio::spawn(async move { submit(&mailer, number).await.unwrap_err() })
        })
        .collect();
    server.wait_for_silences(3).await;
    server.close_connections(Some("432 4.3.2 Too much")).await;
    for task in together {
        assert_eq!(task.await.unwrap().kind(), ErrorKind::ServerUnavailable);
    }
    let next = tokio::spawn({
        let mailer = mailer.clone();
        async move { submit(&mailer, 3).await }
    });
    settle().await;
    assert!(!next.is_finished() && server.message_count() == 0);
    // Two seconds at most, and not four to eight, which three throttlings in a row would come to.
    manual.advance(2 * SECOND);
    let next = tokio::time::timeout(20 * SECOND, next).await.expect("nothing waits for the clock");
    next.unwrap().unwrap();
}

#[tokio::test]
async fn a_repeated_message_gives_up_at_its_own_deadline_behind_those_that_came_meanwhile() {
    let manual = ManualClock::new();
    let server = Arc::new(FakeExchange::builder().clock(manual.clock()).start().await);
    let timeouts = Timeouts::new().with_total(70 * SECOND).with_final_reply(HOUR);
    let config = settings(&server).limits(a_minute(1)).timeouts(timeouts).build().unwrap();
    let mailer = Mailer::builder(config)
        .authentication(issuing(server.tokens(), 100))
        .clock(manual.clock())
        .retry(RetryPolicy::new().with_first_wait(20 * SECOND))
        .build()
        .unwrap();
    for (silences, others, text) in [
        (1, 1, "the mailbox's sending limit is reached"),
        (2, 2, "waiting for earlier submissions took too long"),
    ] {
        let submitting = |number| {
            let mailer = mailer.clone();
            tokio::spawn(async move { submit(&mailer, number).await })
        };
        server.inject(FaultPoint::Mail, Fault::reply("451 4.3.0 Try again later"));
        let repeated = submitting(0);
        until(|| mailer.pool_status().idle == 1).await; // It was refused, and waits to be repeated.
        settle().await;
        manual.advance(SECOND);
        server.inject(FaultPoint::Body, Fault::Silence);
        let others: Vec<_> = (1..=others).map(submitting).collect();
        settle().await;
        manual.advance(20 * SECOND);
        settle().await;
        // The others came before it is repeated: one of them goes out after a minute, and stays under way.
        manual.advance(39 * SECOND);
        server.wait_for_silences(silences).await;
        manual.advance(10 * SECOND);
        let error = repeated.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{text}");
        assert_eq!(error.disposition(), Disposition::Retry { after: None });
        assert_eq!(error.to_string(), text);
        assert_eq!(error.remedy().unwrap().steps()[0], "send the message again later: nothing was sent");
        others.iter().for_each(JoinHandle::abort);
        settle().await;
        manual.advance(MINUTE);
    }
}

#[tokio::test]
async fn close_lets_nobody_wait_for_a_turn_any_more() {
    let Setup { server, manual: _, mailer } = start(a_minute(1), HOUR).await;
    submit(&mailer, 0).await.unwrap();
    let waiting = tokio::spawn({
        let mailer = mailer.clone();
        async move { submit(&mailer, 1).await }
    });
    settle().await;
    mailer.close().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(submit(&mailer, 2).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.message_count(), 1);
}

#[tokio::test]
async fn an_outage_does_not_use_up_the_day() {
    let limits = SendingLimits::new()
        .with_recipients_per_day(NonZeroU32::new(10))
        .with_when_reached(WhenReached::Fail);
    let Setup { server, mailer, .. } = start(limits, HOUR).await;
    server.inject(
        FaultPoint::Greeting,
        Fault::ReplyThenClose("421 4.3.2 Service not available".into()).always(),
    );
    for number in 0..12 {
        assert_eq!(submit(&mailer, number).await.unwrap_err().kind(), ErrorKind::ServerUnavailable);
    }
    server.clear_faults();
    submit(&mailer, 12).await.unwrap();
}
