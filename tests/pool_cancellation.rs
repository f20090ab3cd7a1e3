//! Whatever becomes of one submission, the next arrives alone and intact, and there are never too many connections.

mod support;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{Extensions, FakeExchange, Fault, FaultPoint as At, ManualClock};
use smtp_oauth::{ErrorKind, Mailer, Phase};
use support::{RETRY, assert_failure, data_mailer, data_settings, envelope, issuing, message};

const ABANDONED: &[u8] = b"Subject: abandoned\r\n\r\nabandoned\r\n";
const NEXT: &[u8] = b"Subject: next\r\n\r\nnext\r\n";

/// Polls a future a limited number of times; `None` when it needed more.
struct Polls<F> {
    work: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        match self.work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Runs `work` for `count` polls, then drops it.
async fn polled<F: Future>(count: usize, work: F) -> Option<F::Output> {
    Polls { work: Box::pin(work), left: count }.await
}

/// Drops a submission after every possible number of polls, each time on a new server, then sends another.
async fn abandon_everywhere(extensions: Extensions, warm: bool) {
    let abandoned = envelope(&["a@example.com", "b@example.com"]);
    for polls in 0.. {
        let case = format!("{polls} polls, warm: {warm}");
        let server = FakeExchange::builder().extensions(extensions.clone()).start().await;
        let mailer = data_mailer(&server);
        if warm {
            mailer.submit(&message()).await.unwrap();
            server.take_messages();
        }
        let outcome = polled(polls, mailer.submit_raw(&abandoned, ABANDONED)).await;
        let finished = outcome.is_some();
        if !finished {
            // Whatever was under way has arrived when the server sees the close; before the first poll nothing was.
            server.wait_for_open(usize::from(warm && polls == 0)).await;
        }
        let before: Vec<_> = server.sessions().iter().map(|session| session.commands.len()).collect();

        let submission = mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await;
        let submission = submission.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_eq!((submission.accepted().len(), submission.reply().code()), (1, 250), "{case}");
        let (next, others) = {
            let messages = server.messages();
            messages
                .into_iter()
                .partition::<Vec<_>, _>(|message| message.recipient_addresses() == ["next@example.com"])
        };
        assert_eq!(next.len(), 1, "{case}");
        assert_eq!(next[0].body, NEXT, "{case}");
        assert!(
            others.len() <= 1 && others.iter().all(|other| other.body == ABANDONED),
            "{case}: {others:?}"
        );
        if finished {
            assert_eq!(server.connections().total, 1, "{case}: a whole transaction keeps its connection");
            assert!(polls > 1);
            return;
        }
        if polls > 0 {
            let after: Vec<_> = server.sessions().iter().map(|session| session.commands.len()).collect();
            assert_eq!(
                after[..before.len()],
                before,
                "{case}: nothing more is said where a reply may be owed"
            );
            assert!(next[0].connection > before.len(), "{case}");
        }
    }
}

#[tokio::test]
async fn a_submission_dropped_at_any_poll_leaves_nothing_to_the_next_one() {
    abandon_everywhere(Extensions::exchange_online(), false).await;
}

#[tokio::test]
async fn nor_does_one_dropped_on_a_connection_that_was_in_use_before() {
    abandon_everywhere(Extensions::exchange_online(), true).await;
    abandon_everywhere(Extensions::exchange_online().without("PIPELINING"), true).await;
}

#[tokio::test]
async fn a_submission_dropped_while_a_reply_is_owed_leaves_the_reply_to_nobody() {
    for at in [At::Auth, At::Mail, At::Rcpt, At::Data, At::Body] {
        let server = FakeExchange::builder().fault(at, Fault::Silence).start().await;
        let mailer = data_mailer(&server);
        {
            let envelope = envelope(&["a@example.com"]);
            let mut submit = pin!(mailer.submit_raw(&envelope, ABANDONED));
            tokio::select! {
                outcome = &mut submit => panic!("{outcome:?}"),
                () = server.wait_for_silence() => {}
            }
        }
        server.wait_for_open(0).await;
        let commands = server.transcript().len();
        mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await.unwrap();
        let messages = server.messages();
        assert_eq!(messages.len(), 1, "{at:?}");
        assert_eq!((messages[0].connection, messages[0].body.as_slice()), (2, NEXT), "{at:?}");
        assert_eq!(server.sessions()[0].commands.len(), commands, "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_submissions_at_once_share_three_connections() {
    let server = Arc::new(FakeExchange::start().await);
    let config = data_settings(&server).max_connections(3.try_into().unwrap()).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800))
        .build()
        .unwrap();
    for round in 1..=3 {
        let submissions = (0..20).map(|number| {
            let mailer = mailer.clone();
            tokio::spawn(async move {
                let to = format!("reader{number}@example.com");
                mailer
                    .submit_raw(&envelope(&[&to]), format!("Subject: {number}\r\n\r\n").as_bytes())
                    .await
                    .unwrap();
            })
        });
        for submission in submissions.collect::<Vec<_>>() {
            submission.await.unwrap();
        }
        assert_eq!(server.message_count(), round * 20);
    }
    let connections = server.connections();
    assert!(connections.peak <= 3 && connections.total <= 3, "{connections:?}");
    assert_eq!(server.tokens().count(), 1);
    for received in server.messages() {
        let number =
            received.recipients[0].address.trim_start_matches("reader").trim_end_matches("@example.com");
        assert_eq!(received.body, format!("Subject: {number}\r\n\r\n").as_bytes());
    }
}

#[tokio::test]
async fn a_submission_that_is_dropped_while_it_waits_gives_up_its_turn() {
    let server = FakeExchange::builder().fault(At::Body, Fault::Silence).start().await;
    let config = data_settings(&server).max_connections(1.try_into().unwrap()).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800))
        .build()
        .unwrap();
    let message = message();
    let holder = tokio::spawn({
        let (mailer, message) = (mailer.clone(), message.clone());
        async move { mailer.submit(&message).await.map(drop) }
    });
    server.wait_for_silence().await;
    for polls in 1..4 {
        assert!(
            polled(polls, async {
                tokio::select! { outcome = mailer.submit(&message) => drop(outcome), () = busy() => {} }
            })
            .await
            .is_none()
        );
    }
    holder.abort();
    assert!(holder.await.unwrap_err().is_cancelled());
    mailer.submit(&message).await.unwrap();
    assert_eq!((server.message_count(), server.connections().total), (1, 2));
}

/// Wakes its task again and again, and is never done.
async fn busy() {
    loop {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_is_replaced_without_a_word() {
    for good_bye in [None, Some("421 4.4.2 Connection dropped due to SocketError")] {
        let server = FakeExchange::start().await;
        let mailer = data_mailer(&server);
        for round in 1..=3 {
            mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await.unwrap();
            assert_eq!((server.message_count(), server.connections().total), (round, round), "{good_bye:?}");
            server.close_connections(good_bye).await;
        }
        assert!(server.messages().iter().all(|message| message.body == NEXT));
    }
}

#[tokio::test]
async fn an_idle_connection_that_dies_at_the_first_command_is_replaced_and_the_message_sent_once() {
    let good_bye = "421 4.4.1 Connection timed out".to_owned();
    for fault in [Fault::Close, Fault::ReplyThenClose(good_bye)] {
        let server = FakeExchange::start().await;
        let mailer = data_mailer(&server);
        mailer.submit(&message()).await.unwrap();
        server.inject(At::Mail, fault.clone());
        mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await.unwrap();
        assert_eq!((server.message_count(), server.connections().total), (2, 2), "{fault:?}");
        assert_eq!(server.messages()[1].body, NEXT, "{fault:?}");
    }
}

#[tokio::test]
async fn a_message_whose_verdict_is_lost_is_never_sent_again() {
    let server = FakeExchange::start().await;
    let mailer = data_mailer(&server);
    mailer.submit(&message()).await.unwrap();
    server.inject(At::Body, Fault::Close);
    let error = mailer.submit(&message()).await.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Indeterminate, Phase::FinalReply));
    assert_eq!((server.message_count(), server.connections().total), (1, 1));
}

#[tokio::test]
async fn a_connection_that_dies_everywhere_is_not_replaced_for_ever() {
    let server = FakeExchange::start().await;
    let mailer = data_mailer(&server);
    mailer.submit(&message()).await.unwrap();
    server.inject(At::Mail, Fault::Close.always());
    let error = mailer.submit(&message()).await.unwrap_err();
    let text = "the mail server closed the connection (MAIL)";
    assert_failure(&error, (ErrorKind::Disconnected, Phase::Mail, RETRY, text), "always");
    assert_eq!(server.connections().total, 2);
}

#[tokio::test]
async fn a_connection_idle_for_too_long_is_closed_and_not_used() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let mailer = support::data_mailer_with(&server, manual.clock());
    mailer.submit(&message()).await.unwrap();
    manual.advance(Duration::from_secs(119));
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.connections().total, 1, "still good");
    manual.advance(Duration::from_secs(120));
    mailer.submit(&message()).await.unwrap();
    assert_eq!(server.connections().total, 2);
    server.wait_for_open(1).await;
}

#[tokio::test]
async fn dropping_the_last_mailer_closes_its_connections() {
    let server = FakeExchange::start().await;
    let mailer = data_mailer(&server);
    let other = mailer.clone();
    mailer.submit(&message()).await.unwrap();
    drop(mailer);
    other.submit(&message()).await.unwrap();
    assert_eq!(server.connections().open, 1);
    drop(other);
    server.wait_for_open(0).await;
}

#[tokio::test]
async fn waiting_submissions_are_served_in_order() {
    let server = FakeExchange::start().await;
    let config = data_settings(&server).max_connections(1.try_into().unwrap()).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800))
        .build()
        .unwrap();
    let turn = AtomicUsize::new(0);
    let send = async |expected: usize| {
        mailer.submit(&message()).await.unwrap();
        assert_eq!(turn.fetch_add(1, Ordering::SeqCst), expected);
    };
    tokio::join!(send(0), send(1), send(2), send(3));
    assert_eq!((server.message_count(), server.connections().total), (4, 1));
}
