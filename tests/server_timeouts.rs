//! A server that falls silent is given up within the limit of the phase, and all phases together within the total.

mod support;

use std::pin::pin;
use std::time::Duration;

use smtp_oauth::RetryPolicy;
use smtp_oauth::testing::{FakeExchange, Fault, FaultPoint as At, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, Clock, Disposition, Error, ErrorKind, Mailer, Phase, Submission, Timeouts,
    token,
};
use support::{
    PHASES, RETRY, assert_failure, assert_failure_or_unknown, data_settings, envelope, issuing, message,
};

const SECOND: Duration = Duration::from_secs(1);

/// A limit of its own for each phase, so that the text of an error shows which one was applied.
fn distinct() -> Timeouts {
    Timeouts::new()
        .with_tls(11 * SECOND)
        .with_greeting(12 * SECOND)
        .with_ehlo(13 * SECOND)
        .with_starttls(14 * SECOND)
        .with_auth(15 * SECOND)
        .with_envelope(16 * SECOND)
        .with_data(17 * SECOND)
        .with_body_progress(18 * SECOND)
        .with_final_reply(19 * SECOND)
        .with_total(500 * SECOND)
}

fn limit(phase: Phase) -> Duration {
    let timeouts = distinct();
    match phase {
        Phase::Tls => timeouts.tls(),
        Phase::Greeting => timeouts.greeting(),
        Phase::Ehlo => timeouts.ehlo(),
        Phase::StartTls => timeouts.starttls(),
        Phase::Auth => timeouts.auth(),
        Phase::Mail | Phase::Rcpt => timeouts.envelope(),
        Phase::Data => timeouts.data(),
        Phase::FinalReply => timeouts.final_reply(),
        other => panic!("{other:?} has no silence here"),
    }
}

/// The phases in which a server can fall silent, with the handshake that only a real server can drag out.
fn phases() -> impl Iterator<Item = (At, Phase)> {
    PHASES.into_iter().chain([(At::TlsHandshake, Phase::Tls), (At::AuthChallenge, Phase::Auth)])
}

fn mailer(server: &FakeExchange, timeouts: Timeouts, clock: Clock) -> Mailer {
    let config = data_settings(server).timeouts(timeouts).build().unwrap();
    Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800))
        .clock(clock)
        .build()
        .unwrap()
}

/// Submits until the server has fallen silent, then lets time pass until the client gives up; returns how long it took.
async fn give_up(
    server: &FakeExchange,
    manual: &ManualClock,
    submit: impl Future<Output = Result<Submission, Error>>,
) -> (Error, Duration) {
    let mut submit = pin!(submit);
    tokio::select! {
        outcome = &mut submit => panic!("{outcome:?} before the silence"),
        () = server.wait_for_silence() => {}
    }
    let silent_since = manual.clock().now();
    let error = manual.advance_until(SECOND, submit).await.unwrap_err();
    (error, (manual.clock().now() - silent_since).unsigned_abs())
}

#[tokio::test]
async fn silence_behind_a_goodbye_to_one_recipient_leaves_in_doubt_a_message_that_is_on_its_way_to_others() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder()
        .clock(manual.clock())
        .fault(At::Rcpt, Fault::reply("421 4.3.2 Service not available").once().after(1))
        .fault(At::Rcpt, Fault::Silence.once().after(1))
        .start()
        .await;
    let config = data_settings(&server).chunking(Chunking::Auto).timeouts(distinct()).build().unwrap();
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800))
        .clock(manual.clock())
        .build()
        .unwrap();
    let recipients = envelope(&["a@example.com", "b@example.com", "c@example.com"]);
    let (error, _) =
        give_up(&server, &manual, mailer.submit_raw(&recipients, b"Subject: x\r\n\r\nx\r\n")).await;
    assert_eq!(error.disposition(), Disposition::Indeterminate, "{error}");
}

async fn silent_server(manual: &ManualClock, at: At) -> FakeExchange {
    FakeExchange::builder().clock(manual.clock()).fault(at, Fault::Silence).start().await
}

#[tokio::test]
async fn silence_in_any_phase_ends_within_the_limit_of_that_phase() {
    for (at, phase) in phases() {
        let manual = ManualClock::new();
        let server = silent_server(&manual, at).await;
        let mailer = mailer(&server, distinct(), manual.clock());
        let (error, waited) = give_up(&server, &manual, mailer.submit(&message())).await;
        let limit = limit(phase);
        let text = format!("nothing happened for {limit:?} ({phase})");
        assert_failure_or_unknown(&error, (ErrorKind::Timeout, phase, RETRY, &text), &format!("{at:?}"));
        // The last step of the clock and one that was under way with it.
        assert!(waited <= limit + 2 * SECOND, "{at:?}: {waited:?}");
        server.wait_for_open(0).await;
        assert_eq!((server.message_count(), server.connections().total), (0, 1), "{at:?}: tried once");
    }
}

#[tokio::test]
async fn no_phase_outlasts_the_total() {
    for (at, phase) in phases() {
        let manual = ManualClock::new();
        let server = silent_server(&manual, at).await;
        let mailer = mailer(&server, Timeouts::new().with_total(9 * SECOND), manual.clock());
        let (error, waited) = give_up(&server, &manual, mailer.submit(&message())).await;
        let text = format!("the total of 9s was used up ({phase})");
        assert_failure_or_unknown(&error, (ErrorKind::Timeout, phase, RETRY, &text), &format!("{at:?}"));
        assert!(waited <= 11 * SECOND, "{at:?}: {waited:?}");
    }
}

#[tokio::test]
async fn waiting_for_a_connection_or_a_token_counts_towards_the_total() {
    let timeouts = Timeouts::new().with_total(9 * SECOND);
    let manual = ManualClock::new();
    let server = silent_server(&manual, At::Body).await;
    let config =
        data_settings(&server).timeouts(timeouts).max_connections(1.try_into().unwrap()).build().unwrap();
    let mailer = Mailer::builder(config.clone())
        .retry(RetryPolicy::never())
        .authentication(issuing(server.tokens(), 1800));
    let mailer = mailer.clock(manual.clock()).build().unwrap();
    let message = message();
    let mut holder = pin!(mailer.submit(&message));
    tokio::select! {
        outcome = &mut holder => panic!("{outcome:?} before the silence"),
        () = server.wait_for_silence() => {}
    }
    // The holder of the only connection is not polled any more, so it does not let go.
    let error = manual.advance_until(SECOND, mailer.submit(&message)).await.unwrap_err();
    let text = "the total of 9s was used up (preparation)";
    assert_failure(&error, (ErrorKind::Timeout, Phase::Preparation, RETRY, text), "no connection");

    let never = Authentication::oauth(token::from_fn(std::future::pending));
    let mailer = Mailer::builder(config)
        .retry(RetryPolicy::never())
        .authentication(never)
        .clock(manual.clock())
        .build()
        .unwrap();
    let error = manual.advance_until(SECOND, mailer.submit(&message)).await.unwrap_err();
    let text = "the total of 9s was used up (access token)";
    assert_failure(&error, (ErrorKind::Timeout, Phase::Token, RETRY, text), "no token");
}

#[tokio::test]
async fn a_body_that_stands_still_ends_by_its_progress() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).receive_buffer(8 * 1024);
    let server = server.fault(At::BodyStart, Fault::StallReading).start().await;
    let mailer = mailer(&server, distinct(), manual.clock());
    let large = "0123456789abcdef\r\n".repeat(1 << 20);
    let envelope = envelope(&["a@example.com"]);
    let (error, _) = give_up(&server, &manual, mailer.submit_raw(&envelope, large.as_bytes())).await;
    let text = "nothing happened for 18s (message transfer)";
    assert_failure(&error, (ErrorKind::Timeout, Phase::Body, RETRY, text), "stalled");
    assert!(error.refused().is_empty());
}

#[tokio::test]
async fn a_refusal_is_reported_although_the_reset_after_it_is_not_answered() {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock());
    let server = server.refuse_recipient("gone@example.com", "550 5.1.10 Recipient not found");
    let server = server.fault(At::Rset, Fault::Silence).start().await;
    let mailer = mailer(&server, distinct(), manual.clock());
    let envelope = envelope(&["gone@example.com"]);
    let (error, waited) = give_up(&server, &manual, mailer.submit_raw(&envelope, b"x\r\n")).await;
    assert_eq!((error.kind(), error.reply().unwrap().code()), (ErrorKind::RecipientsRefused, 550));
    assert!(waited <= 6 * SECOND, "{waited:?}");
    mailer.submit(&message()).await.unwrap();
    assert_eq!(
        (server.message_count(), server.connections().total),
        (1, 2),
        "the silent one is not used again"
    );
}
