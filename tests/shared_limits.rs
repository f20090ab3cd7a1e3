//! A fleet's count is asked before each message; what it says holds, and when it cannot be had this process counts alone.

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_oauth::testing::{FakeExchange, FakeMicrosoft365, Fault, FaultPoint, ManualClock};
use smtp_oauth::{
    Authentication, Disposition, Error, ErrorKind, Mailer, Mailers, ReleaseFuture, Reservation,
    ReserveFuture, RetryPolicy, SendingLimits, SharedLimits, SharedLimitsError, Submission, Timeouts,
    WhenReached,
};
use support::settle::settle;
use support::{ACCOUNT, HOUR, envelope, issuing, settings};
use tokio::sync::watch;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What a fleet's count does with a question.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Grant,
    Wait(Duration),
    Fail,
    Hang,
}

/// A count of the test's own: gives these answers in turn, the last one for ever.
#[derive(Clone, Debug)]
struct Fleet(Arc<State>);

#[derive(Debug)]
struct State {
    answers: Mutex<Vec<Answer>>,
    release: Answer,
    asked: watch::Sender<Vec<String>>,
}

impl Fleet {
    fn new(answers: &[Answer], release: Answer) -> Self {
        let answers = Mutex::new(answers.iter().rev().copied().collect());
        Self(Arc::new(State { answers, release, asked: watch::Sender::default() }))
    }

    fn asked(&self) -> Vec<String> {
        self.0.asked.borrow().clone()
    }

    fn note(&self, question: String) {
        self.0.asked.send_modify(|asked| asked.push(question));
    }

    async fn wait_for(&self, questions: usize) {
        let mut asked = self.0.asked.subscribe();
        asked.wait_for(|asked| asked.len() >= questions).await.unwrap();
    }

    fn next(&self) -> Answer {
        let mut answers = self.0.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop().unwrap() } else { answers[0] }
    }
}

impl Answer {
    async fn give(self) -> Result<Reservation, SharedLimitsError> {
        match self {
            Self::Grant => Ok(Reservation::Granted),
            Self::Wait(wait) => Ok(Reservation::Wait(wait)),
            Self::Fail => {
                Err(SharedLimitsError::new("the count of the fleet is gone").with_source(std::fmt::Error))
            }
            Self::Hang => std::future::pending().await,
        }
    }
}

impl SharedLimits for Fleet {
    fn reserve<'a>(
        &'a self,
        mailbox: &'a str,
        limits: &'a SendingLimits,
        recipients: u32,
    ) -> ReserveFuture<'a> {
        self.note(format!("{recipients} of {:?} for {mailbox}", limits.recipients_per_day()));
        Box::pin(self.next().give())
    }

    fn release<'a>(&'a self, mailbox: &'a str, recipients: u32) -> ReleaseFuture<'a> {
        self.note(format!("{recipients} back for {mailbox}"));
        Box::pin(async { self.0.release.give().await.map(drop) })
    }
}

/// A count that gives no recipients back.
#[derive(Debug)]
struct Forgetful;

impl SharedLimits for Forgetful {
    fn reserve<'a>(&'a self, _: &'a str, _: &'a SendingLimits, _: u32) -> ReserveFuture<'a> {
        Box::pin(Answer::Grant.give())
    }
}

struct Setup {
    server: FakeExchange,
    manual: ManualClock,
    mailer: Mailer,
}

async fn start(limits: SendingLimits, fleet: impl SharedLimits + 'static) -> Setup {
    let manual = ManualClock::new();
    let server = FakeExchange::builder().clock(manual.clock()).start().await;
    let timeouts = Timeouts::new().with_total(10 * MINUTE);
    let mailer = Mailer::builder(settings(&server).limits(limits).timeouts(timeouts).build().unwrap())
        .authentication(issuing(server.tokens(), 100))
        .clock(manual.clock())
        .retry(RetryPolicy::never())
        .shared_limits(fleet)
        .build()
        .unwrap();
    Setup { server, manual, mailer }
}

fn a_day(recipients: u32) -> SendingLimits {
    SendingLimits::new().with_recipients_per_day(NonZeroU32::new(recipients))
}

async fn submit(mailer: &Mailer) -> Result<Submission, Error> {
    mailer.submit_raw(&envelope(&["reader@example.com"]), b"Subject: x\r\n\r\n").await
}

fn in_background(mailer: &Mailer) -> tokio::task::JoinHandle<Result<Submission, Error>> {
    let mailer = mailer.clone();
    tokio::spawn(async move { submit(&mailer).await })
}

#[tokio::test]
async fn a_message_waits_as_long_as_the_fleet_says_and_asks_again() {
    // A wait of no time is one all the same, so that the fleet is not asked without a pause.
    let fleet =
        Fleet::new(&[Answer::Wait(MINUTE), Answer::Wait(Duration::ZERO), Answer::Grant], Answer::Grant);
    let Setup { server, manual, mailer } = start(a_day(7), fleet.clone()).await;
    let waiting = in_background(&mailer);
    fleet.wait_for(1).await;
    manual.advance(MINUTE - SECOND);
    settle().await;
    assert_eq!((fleet.asked().len(), server.message_count()), (1, 0));
    manual.advance(SECOND);
    fleet.wait_for(2).await;
    settle().await;
    assert_eq!((fleet.asked().len(), server.message_count()), (2, 0));
    manual.advance(SECOND);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.message_count(), 1);
    assert_eq!(fleet.asked(), vec![format!("1 of Some(7) for {ACCOUNT}"); 3]);
}

#[tokio::test]
async fn a_place_that_the_fleet_has_too_late_is_refused_at_once() {
    let cases = [(HOUR, WhenReached::Wait), (MINUTE, WhenReached::Fail)];
    for (wait, when_reached) in cases {
        let fleet = Fleet::new(&[Answer::Wait(wait)], Answer::Grant);
        let Setup { server, mailer, .. } = start(a_day(7).with_when_reached(when_reached), fleet).await;
        let error = submit(&mailer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached);
        assert_eq!(error.disposition(), Disposition::Retry { after: Some(wait) });
        assert_eq!(error.to_string(), "the mailbox's sending limit is reached");
        assert!(error.remedy().unwrap().summary().contains("fleet"), "{error:#}");
        assert!(server.transcript().is_empty());
    }
}

#[tokio::test]
async fn a_fleet_that_fails_or_hangs_does_not_stop_the_mail_and_the_own_count_holds() {
    for answer in [Answer::Fail, Answer::Hang] {
        let fleet = Fleet::new(&[answer], answer);
        let limits = a_day(2).with_when_reached(WhenReached::Fail);
        let Setup { server, manual, mailer } = start(limits, fleet.clone()).await;
        for questions in 1..=2 {
            let sending = in_background(&mailer);
            fleet.wait_for(questions).await;
            if let Answer::Hang = answer {
                manual.advance(Duration::from_secs(5));
            }
            sending.await.unwrap().unwrap();
        }
        assert_eq!(submit(&mailer).await.unwrap_err().kind(), ErrorKind::LimitReached, "{answer:?}");
        // Refused here, so the fleet was not asked; and nothing is given back that it has not counted.
        assert_eq!((server.message_count(), fleet.asked().len()), (2, 2), "{answer:?}");
    }
}

#[tokio::test]
async fn an_outage_gives_the_recipients_back_to_the_fleet_and_is_told_whatever_becomes_of_that() {
    for release in [Answer::Grant, Answer::Fail, Answer::Hang] {
        let fleet = Fleet::new(&[Answer::Grant], release);
        let Setup { server, manual, mailer } = start(a_day(7), fleet.clone()).await;
        server.inject(FaultPoint::Greeting, Fault::ReplyThenClose("421 4.3.2 Service not available".into()));
        let sending = in_background(&mailer);
        fleet.wait_for(2).await;
        if let Answer::Hang = release {
            manual.advance(Duration::from_secs(5));
        }
        let error = sending.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerUnavailable, "{release:?}");
        assert_eq!(fleet.asked()[1], format!("1 back for {ACCOUNT}"));
        submit(&mailer).await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_message_stays_counted_for_the_fleet() {
    let fleet = Fleet::new(&[Answer::Grant], Answer::Grant);
    let Setup { server, mailer, .. } = start(a_day(7), fleet.clone()).await;
    server.inject(FaultPoint::Rcpt, Fault::reply("550 5.1.1 No such user"));
    assert_eq!(submit(&mailer).await.unwrap_err().disposition(), Disposition::FixMessage);
    assert_eq!(fleet.asked().len(), 1);
    // Without a limit on recipients there is nothing to give back.
    let Setup { server, mailer, .. } = start(SendingLimits::new(), fleet.clone()).await;
    server.inject(FaultPoint::Greeting, Fault::ReplyThenClose("421 4.3.2 Service not available".into()));
    submit(&mailer).await.unwrap_err();
    assert_eq!(fleet.asked().last().unwrap(), &format!("1 of None for {ACCOUNT}"));
}

#[tokio::test]
async fn each_of_many_mailboxes_is_counted_by_its_own_name() {
    let tenant = FakeMicrosoft365::start().await;
    let fleet = Fleet::new(&[Answer::Grant], Answer::Grant);
    let app = tenant.entra().app().build().unwrap();
    let mailers = Mailers::builder(tenant.server().limits(a_day(7)).build().unwrap())
        .authentication(Authentication::oauth(app.client_credentials()))
        .shared_limits(fleet.clone())
        .build()
        .unwrap();
    for name in ["a@contoso.com", "b@contoso.com"] {
        tenant.grant_access(name);
        let message = envelope(&["one@example.com", "two@example.com"]);
        mailers.mailbox(name).unwrap().submit_raw(&message, b"Subject: x\r\n\r\n").await.unwrap();
    }
    assert_eq!(fleet.asked(), ["2 of Some(7) for a@contoso.com", "2 of Some(7) for b@contoso.com"]);
}

#[tokio::test]
async fn a_count_that_cannot_give_back_need_not() {
    let Setup { server, mailer, .. } = start(a_day(7), Forgetful).await;
    server.inject(FaultPoint::Greeting, Fault::ReplyThenClose("421 4.3.2 Service not available".into()));
    assert_eq!(submit(&mailer).await.unwrap_err().kind(), ErrorKind::ServerUnavailable);
    submit(&mailer).await.unwrap();
}

#[test]
fn what_the_fleet_failed_of_is_kept() {
    let error = SharedLimitsError::new("the count of the fleet is gone").with_source(std::fmt::Error);
    assert_eq!(error.to_string(), "the count of the fleet is gone");
    assert!(std::error::Error::source(&error).unwrap().is::<std::fmt::Error>());
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_redis_that_cannot_be_read_or_reached_is_named_without_its_password() {
    use smtp_oauth::{RedisLimits, RedisStore, TokenErrorKind, TokenStore};

    let password = "hunter2-hunter2";
    let error = RedisLimits::open(format!("http://m:{password}@redis/")).unwrap_err();
    assert_eq!(error.to_string(), "the shared sending limits cannot be opened");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the Redis URL cannot be read: it must look like rediss://user:password@host:port/0");
    assert!(!format!("{error:?}").contains(password), "{error:?}");

    let closed = support::closed_port::ClosedPort::bind();
    let url = format!("redis://:{password}@127.0.0.1:{}/", closed.port());
    let limits = RedisLimits::open(url.as_str()).unwrap().clock(ManualClock::new().clock());
    let failed = format!("the sending limits in Redis at 127.0.0.1:{} cannot be had", closed.port());
    for error in [
        limits.reserve(ACCOUNT, &a_day(7), 1).await.map(drop).unwrap_err(),
        limits.release(ACCOUNT, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), failed);
        assert!(!format!("{error:?}").contains(password), "{error:?}");
    }
    // Without it the mail goes out all the same.
    let Setup { server, mailer, .. } = start(a_day(7), limits).await;
    submit(&mailer).await.unwrap();
    assert_eq!(server.message_count(), 1);

    let store = RedisStore::open(url.as_str(), "x").unwrap();
    for error in [store.load().await.map(drop).unwrap_err(), store.lock().await.map(drop).unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::Store);
        assert!(!format!("{error} {error:?}").contains(password), "{error:?}");
    }
}
