//! Many mailboxes behind one app: each signs in as itself, all share a token and a cap on connections, and none starves.

mod support;

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::lettre::{AsyncTransport, Message};
use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint, Handshake, ManualClock};
use smtp_oauth::{
    Authentication, ConfigError, Disposition, Error, ErrorKind, Mailer, Mailers, MailersBuilder, Phase,
    RetryPolicy, SendingLimits, Timeouts, WhenReached,
};
use support::HOUR;
use support::settle::{settle, until};
use support::stream::Items;
use tokio::task::{JoinHandle, JoinSet};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Setup {
    tenant: Arc<FakeMicrosoft365>,
    manual: ManualClock,
    mailers: Mailers,
}

fn builder(tenant: &FakeMicrosoft365, limits: SendingLimits) -> MailersBuilder {
    let timeouts = Timeouts::new().with_final_reply(DAY).with_envelope(DAY).with_total(HOUR);
    let profile = tenant.server().limits(limits).timeouts(timeouts).build().unwrap();
    let app = tenant.entra().app().build().unwrap();
    Mailers::builder(profile)
        .authentication(Authentication::oauth(app.client_credentials()))
        .retry(RetryPolicy::never())
}

async fn start(most: u32, limits: SendingLimits) -> Setup {
    let manual = ManualClock::new();
    let tenant = Arc::new(FakeMicrosoft365::start_with_clock(manual.clock()).await);
    let mailers = builder(&tenant, limits)
        .max_connections_total(NonZeroU32::new(most).unwrap())
        .clock(manual.clock())
        .build()
        .unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        tenant.grant_access(&address(name));
    }
    Setup { tenant, manual, mailers }
}

fn address(name: &str) -> String {
    format!("{name}@contoso.com")
}

fn envelope(name: &str) -> Envelope {
    Envelope::new(Some(address(name).parse().unwrap()), vec!["reader@example.com".parse().unwrap()]).unwrap()
}

async fn submit(mailers: &Mailers, name: &str) -> Result<(), Error> {
    mailers.submit_raw(&envelope(name), b"Subject: x\r\n\r\nx\r\n").await.map(drop)
}

fn in_background(mailers: &Mailers, name: &'static str) -> JoinHandle<Result<(), Error>> {
    let mailers = mailers.clone();
    tokio::spawn(async move { submit(&mailers, name).await })
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing waits for the clock")
}

fn senders(tenant: &FakeMicrosoft365) -> Vec<String> {
    tenant.exchange().messages().into_iter().map(|message| message.from).collect()
}

fn quits(tenant: &FakeMicrosoft365) -> usize {
    tenant.exchange().transcript().iter().filter(|line| *line == "QUIT").count()
}

#[tokio::test]
async fn the_user_name_follows_the_sender() {
    let Setup { tenant, mailers, .. } = start(10, SendingLimits::new()).await;
    let message = |from: &str, sender: Option<&str>| {
        let message =
            Message::builder().from(from.parse().unwrap()).to("reader@example.com".parse().unwrap());
        let message = match sender {
            Some(sender) => message.sender(sender.parse().unwrap()),
            None => message,
        };
        message.subject("x").body("x\n".to_owned()).unwrap()
    };
    mailers.submit(&message("Alerts <a@contoso.com>", None)).await.unwrap();
    mailers.submit(&message("a@contoso.com", Some("b@contoso.com"))).await.unwrap();
    mailers.send_raw(&envelope("c"), b"Subject: x\r\n\r\n").await.unwrap();
    // Addresses are the same mailbox in any case.
    mailers.submit(&message("A@Contoso.com", None)).await.unwrap();
    // The envelope of an automatic reply has no sender, but its header has.
    let nobody = Envelope::new(None, vec!["reader@example.com".parse().unwrap()]).unwrap();
    let reply = Message::builder()
        .envelope(nobody.clone())
        .from("d@contoso.com".parse().unwrap())
        .to("reader@example.com".parse().unwrap())
        .body("x\n".to_owned())
        .unwrap();
    mailers.submit(&reply).await.unwrap();
    mailers.submit_raw(&nobody, b"Subject: bounce\r\n\r\n").await.unwrap();
    // Chosen by name, the sender is another.
    mailers.mailbox(address("e")).unwrap().submit_raw(&envelope("a"), b"Subject: x\r\n\r\n").await.unwrap();
    let users: Vec<_> = tenant
        .exchange()
        .messages()
        .into_iter()
        .map(|message| (message.user.unwrap(), message.from))
        .collect();
    let expected = [
        ("a@contoso.com", "a@contoso.com"),
        ("b@contoso.com", "b@contoso.com"),
        ("c@contoso.com", "c@contoso.com"),
        ("a@contoso.com", "A@Contoso.com"),
        ("d@contoso.com", ""),
        (&tenant.account(), ""),
        ("e@contoso.com", "a@contoso.com"),
    ];
    assert_eq!(users, expected.map(|(user, from)| (user.to_owned(), from.to_owned())));
    assert_eq!(tenant.exchange().connections_of("a@contoso.com").total, 1);
    assert_eq!(tenant.entra().requests(), 1);
}

#[tokio::test]
async fn a_test_message_goes_out_from_the_mailbox_that_was_asked_for() {
    let Setup { tenant, mailers, .. } = start(10, SendingLimits::new()).await;
    let mailbox = mailers.mailbox("a@contoso.com").unwrap();
    assert_eq!(mailbox.config().username(), "a@contoso.com");
    mailbox.send_test().await.unwrap();
    mailbox.verify().await.unwrap();
    assert_eq!(senders(&tenant), ["a@contoso.com"]);
    assert_eq!(tenant.exchange().connections_of("a@contoso.com").total, 2);
    let diagnosis = smtp_oauth::diagnose(&mailbox).await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
}

#[tokio::test]
async fn fifty_mailboxes_at_once_cause_one_token_request_and_resume_tls() {
    let Setup { tenant, mailers, .. } = start(100, SendingLimits::exchange_online()).await;
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let name = format!("box{number}");
        tenant.grant_access(&address(&name));
        let mailers = mailers.clone();
        tasks.spawn(async move { submit(&mailers, &name).await });
    }
    tasks.join_all().await.into_iter().for_each(Result::unwrap);
    assert_eq!((tenant.entra().requests(), tenant.exchange().message_count()), (1, 50));
    let attempts = tenant.exchange().auth_attempts();
    let mut users: Vec<_> = attempts.iter().map(|attempt| attempt.user.clone().unwrap()).collect();
    users.sort();
    users.dedup();
    assert_eq!((attempts.len(), users.len()), (50, 50));
    assert!(attempts.iter().all(|attempt| attempt.accepted && attempt.secret == attempts[0].secret));
    submit(&mailers, "a").await.unwrap();
    assert_eq!(tenant.exchange().handshakes().last(), Some(&Handshake::Resumed));
    let status = mailers.status();
    assert_eq!((status.connections, status.most, status.waiting, status.mailboxes), (51, 100, 0, 51));
}

#[tokio::test]
async fn there_are_never_more_connections_than_the_cap() {
    let Setup { tenant, mailers, .. } = start(4, SendingLimits::new()).await;
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let name = format!("box{}", number % 20);
        tenant.grant_access(&address(&name));
        let mailers = mailers.clone();
        tasks.spawn(async move { submit(&mailers, &name).await });
    }
    soon(tasks.join_all()).await.into_iter().for_each(Result::unwrap);
    let counts = tenant.exchange().connections();
    assert_eq!((tenant.exchange().message_count(), counts.peak), (200, 4));
    for number in 0..20 {
        let counts = tenant.exchange().connections_of(&address(&format!("box{number}")));
        assert!((1..=3).contains(&counts.peak), "{counts:?}");
    }
    assert_eq!(mailers.status().waiting, 0);
}

#[tokio::test]
async fn one_mailbox_with_much_to_send_keeps_its_connections() {
    let Setup { tenant, mailers, .. } = start(2, SendingLimits::new()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let mailers = mailers.clone();
        tasks.spawn(async move { submit(&mailers, "a").await });
    }
    soon(tasks.join_all()).await.into_iter().for_each(Result::unwrap);
    let counts = tenant.exchange().connections();
    assert_eq!((tenant.exchange().message_count(), counts.total, quits(&tenant)), (100, 2, 0));
}

#[tokio::test]
async fn mailboxes_with_much_to_send_do_not_open_a_connection_for_each_message() {
    for (cap, each) in [(1, 1), (3, 3), (4, 3)] {
        let manual = ManualClock::new();
        let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
        let profile =
            tenant.server().limits(SendingLimits::new()).max_connections(NonZeroU32::new(each).unwrap());
        let app = tenant.entra().app().build().unwrap();
        let mailers = Mailers::builder(profile.build().unwrap())
            .authentication(Authentication::oauth(app.client_credentials()))
            .max_connections_total(NonZeroU32::new(cap).unwrap())
            .clock(manual.clock())
            .build()
            .unwrap();
        let mut tasks = JoinSet::new();
        for name in ["a", "b"] {
            tenant.grant_access(&address(name));
            for _ in 0..50 {
                let mailers = mailers.clone();
                tasks.spawn(async move { submit(&mailers, name).await });
            }
        }
        soon(tasks.join_all()).await.into_iter().for_each(Result::unwrap);
        let counts = tenant.exchange().connections();
        assert!(counts.total <= 2 * cap as usize && counts.peak <= cap as usize, "{cap}, {each}: {counts:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_own_mailbox_does_not_come_for_it_makes_room() {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let profile = tenant.server().max_connections(NonZeroU32::MIN).build().unwrap();
    let app = tenant.entra().app().build().unwrap();
    let mailers = Mailers::builder(profile)
        .authentication(Authentication::oauth(app.client_credentials()))
        .max_connections_total(NonZeroU32::MIN)
        .clock(manual.clock())
        .build()
        .unwrap();
    tenant.grant_access(&address("a"));
    tenant.grant_access(&address("b"));
    let a = mailers.mailbox(address("a")).unwrap();
    let (mut first, mut second) = (pin!(submit(&mailers, "a")), pin!(submit(&mailers, "a")));
    tokio::select! {
        biased;
        _ = &mut first => unreachable!("it has only begun"),
        () = until(|| a.pool_status().in_use == 1) => {}
    }
    let other = in_background(&mailers, "b");
    until(|| mailers.status().waiting == 1).await;
    assert!(for_polls(1, second.as_mut()).await.is_none());
    assert_eq!(a.pool_status().waiting, 1);
    soon(first).await.unwrap();
    settle().await;
    assert_eq!(mailers.status().waiting, 1, "it is kept for the second, which nobody polls");
    manual.advance(Duration::from_secs(1));
    soon(other).await.unwrap().unwrap();
    soon(second).await.unwrap();
    assert_eq!(senders(&tenant), [address("a"), address("b"), address("a")]);
}

#[tokio::test]
async fn a_connection_that_dies_as_it_is_handed_over_leaves_its_place() {
    let Setup { tenant, mailers, .. } = start(1, SendingLimits::new()).await;
    let a = mailers.mailbox(address("a")).unwrap();
    let (mut first, mut second) = (pin!(submit(&mailers, "a")), pin!(submit(&mailers, "a")));
    tokio::select! {
        biased;
        _ = &mut first => unreachable!("it has only begun"),
        () = until(|| a.pool_status().in_use == 1) => {}
    }
    assert!(for_polls(1, second.as_mut()).await.is_none());
    assert_eq!(mailers.status().waiting, 1);
    soon(first).await.unwrap();
    assert_eq!(mailers.status().waiting, 0, "the connection is the second's, which nobody polls");
    tenant.exchange().close_connections(None).await;
    settle().await;
    soon(second).await.unwrap();
    let counts = tenant.exchange().connections();
    assert_eq!((tenant.exchange().message_count(), counts.total, counts.peak), (2, 2, 1));
}

#[tokio::test]
async fn a_check_opens_a_connection_of_its_own_even_if_it_is_handed_one() {
    let Setup { tenant, mailers, .. } = start(1, SendingLimits::new()).await;
    let a = mailers.mailbox(address("a")).unwrap();
    let mut first = pin!(submit(&mailers, "a"));
    tokio::select! {
        biased;
        _ = &mut first => unreachable!("it has only begun"),
        () = until(|| a.pool_status().in_use == 1) => {}
    }
    let checking = tokio::spawn(async move { a.verify().await });
    until(|| mailers.status().waiting == 1).await;
    soon(first).await.unwrap();
    soon(checking).await.unwrap().unwrap();
    let counts = tenant.exchange().connections();
    assert_eq!((counts.total, counts.peak, quits(&tenant)), (2, 1, 2), "one after the other");
    assert_eq!(mailers.status().connections, 0);
}

#[tokio::test]
async fn an_idle_connection_of_another_mailbox_makes_room_at_once() {
    let Setup { tenant, manual, mailers } = start(2, SendingLimits::new()).await;
    submit(&mailers, "a").await.unwrap();
    manual.advance(Duration::from_secs(1));
    submit(&mailers, "b").await.unwrap();
    soon(submit(&mailers, "c")).await.unwrap();
    let open = |name: &str| tenant.exchange().connections_of(&address(name)).open;
    assert_eq!(
        (open("a"), open("b"), open("c"), quits(&tenant)),
        (0, 1, 1, 1),
        "the one idle longest has gone"
    );
    soon(submit(&mailers, "a")).await.unwrap();
    assert_eq!(tenant.exchange().connections().peak, 2);
}

#[tokio::test]
async fn mailboxes_that_wait_are_served_in_order() {
    let Setup { tenant, mailers, .. } = start(1, SendingLimits::new()).await;
    tenant.exchange().inject(FaultPoint::Mail, Fault::Silence);
    let first = in_background(&mailers, "a");
    tenant.exchange().wait_for_silence().await;
    let order = Arc::<Mutex<Vec<&str>>>::default();
    let mut tasks = JoinSet::new();
    for name in ["b", "c", "d", "e", "b", "c"] {
        let (mailers, order) = (mailers.clone(), order.clone());
        tasks.spawn(async move {
            submit(&mailers, name).await.unwrap();
            order.lock().unwrap().push(name);
        });
        tokio::task::yield_now().await;
    }
    until(|| mailers.status().waiting == 6).await;
    assert_eq!(mailers.status().connections, 1);
    let of_b = mailers.mailbox("b@contoso.com").unwrap().pool_status();
    assert_eq!((of_b.in_use, of_b.idle, of_b.waiting, of_b.most), (0, 0, 2, 3));
    first.abort();
    soon(tasks.join_all()).await;
    // Whoever has a connection uses it for its next message; the others keep their order.
    assert_eq!(*order.lock().unwrap(), ["b", "b", "c", "c", "d", "e"]);
    assert_eq!(tenant.exchange().connections().peak, 1);
}

#[tokio::test]
async fn a_mailbox_that_never_stops_lets_others_have_their_turn() {
    let Setup { tenant, manual, mailers } = start(1, SendingLimits::new()).await;
    let over = Arc::<AtomicBool>::default();
    let mut busy = JoinSet::new();
    for _ in 0..5 {
        let (mailers, over) = (mailers.clone(), over.clone());
        busy.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                submit(&mailers, "a").await.unwrap();
            }
        });
    }
    tenant.exchange().wait_for_messages(10).await;
    let other = in_background(&mailers, "b");
    let b = mailers.mailbox("b@contoso.com").unwrap();
    until(|| b.pool_status().waiting == 1).await;
    let before = tenant.exchange().message_count();
    tenant.exchange().wait_for_messages(before + 20).await;
    assert_eq!(tenant.exchange().connections().total, 1, "not given up after each message");
    manual.advance(Duration::from_secs(5));
    soon(other).await.unwrap().unwrap();
    let before = tenant.exchange().message_count();
    tenant.exchange().wait_for_messages(before + 10).await;
    over.store(true, Ordering::SeqCst);
    soon(busy.join_all()).await;
    let counts = tenant.exchange().connections();
    assert_eq!((counts.total, counts.peak), (3, 1), "a, b, and a again");
}

#[tokio::test]
async fn sending_limits_are_counted_for_each_mailbox() {
    let limits = SendingLimits::new().with_messages_per_minute(NonZeroU32::new(2));
    let Setup { tenant, manual, mailers } = start(5, limits.with_when_reached(WhenReached::Fail)).await;
    for name in ["a", "b", "a", "b"] {
        submit(&mailers, name).await.unwrap();
    }
    for name in ["a", "b"] {
        let error = submit(&mailers, name).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_after()), (ErrorKind::LimitReached, Some(MINUTE)));
    }
    submit(&mailers, "c").await.unwrap();
    manual.advance(MINUTE);
    submit(&mailers, "a").await.unwrap();
    assert_eq!(tenant.exchange().message_count(), 6);
}

#[tokio::test]
async fn a_mailbox_at_its_limit_holds_up_no_other() {
    let limits = SendingLimits::new().with_messages_per_minute(NonZeroU32::new(1));
    let Setup { tenant, manual, mailers } = start(1, limits).await;
    submit(&mailers, "a").await.unwrap();
    let waiting = in_background(&mailers, "a");
    settle().await;
    for name in ["b", "c", "d"] {
        soon(submit(&mailers, name)).await.unwrap();
    }
    manual.advance(MINUTE);
    soon(waiting).await.unwrap().unwrap();
    assert_eq!((tenant.exchange().message_count(), tenant.exchange().connections().peak), (5, 1));
}

#[tokio::test]
async fn a_mailbox_that_is_throttled_holds_up_no_other() {
    let Setup { tenant, manual, mailers } = start(1, SendingLimits::new()).await;
    tenant
        .exchange()
        .inject(FaultPoint::Mail, Fault::reply("432 4.3.2 Concurrent connections limit exceeded"));
    submit(&mailers, "a").await.unwrap_err();
    let waiting = in_background(&mailers, "a");
    settle().await;
    soon(submit(&mailers, "b")).await.unwrap();
    assert_eq!(senders(&tenant), ["b@contoso.com"]);
    manual.advance_until(Duration::from_millis(200), waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_mailbox_costs_nothing() {
    let Setup { tenant, manual, mailers } = start(5, SendingLimits::exchange_online()).await;
    for name in ["a", "b", "c"] {
        submit(&mailers, name).await.unwrap();
    }
    assert_eq!((mailers.status().connections, mailers.status().mailboxes), (3, 3));
    manual.advance(2 * MINUTE);
    soon(tenant.exchange().wait_for_open(0)).await;
    until(|| mailers.status().connections == 0).await;
    assert_eq!(mailers.status().mailboxes, 3, "they count for a day");
    manual.advance(DAY + 6 * MINUTE);
    // Nobody has to ask for it.
    until(|| format!("{mailers:?}").contains("mailboxes: 0")).await;
    let held = mailers.mailbox("a@contoso.com").unwrap();
    assert_eq!(mailers.status().mailboxes, 1);
    drop(held);
    assert_eq!(mailers.status().mailboxes, 0);
    submit(&mailers, "a").await.unwrap();
}

#[tokio::test]
async fn what_was_counted_is_not_forgotten_with_the_connection() {
    let limits = SendingLimits::new().with_recipients_per_day(NonZeroU32::new(2));
    let Setup { tenant, manual, mailers } = start(5, limits.with_when_reached(WhenReached::Fail)).await;
    for _ in 0..2 {
        submit(&mailers, "a").await.unwrap();
        manual.advance(HOUR);
        soon(tenant.exchange().wait_for_open(0)).await;
        until(|| mailers.status().connections == 0).await;
    }
    assert_eq!(submit(&mailers, "a").await.unwrap_err().kind(), ErrorKind::LimitReached);
    submit(&mailers, "b").await.unwrap();
}

#[tokio::test]
async fn a_mailbox_that_refuses_the_app_costs_the_others_no_token() {
    let Setup { tenant, manual, mailers } = start(5, SendingLimits::new()).await;
    submit(&mailers, "a").await.unwrap();
    for _ in 0..4 {
        let error = submit(&mailers, "stranger").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationRefused);
        assert_eq!(error.disposition(), Disposition::FixConfiguration);
        let remedy = error.remedy().unwrap();
        assert!(remedy.summary().contains("token for stranger@contoso.com"), "{remedy}");
        assert!(remedy.steps()[1].contains("-Identity 'stranger@contoso.com'"), "{remedy}");
        submit(&mailers, "b").await.unwrap();
    }
    // The token might have been at fault the first time, and never after that.
    assert_eq!(tenant.entra().requests(), 2);
    tenant.grant_access("stranger@contoso.com");
    submit(&mailers, "stranger").await.unwrap();
    // Let in once, it is believed again: a token that is withdrawn is replaced, once for all.
    tenant.exchange().tokens().revoke_all();
    tenant.exchange().close_connections(None).await;
    for name in ["stranger", "a", "b"] {
        submit(&mailers, name).await.unwrap();
    }
    assert_eq!(tenant.entra().requests(), 3);
    // And a mailbox that was refused is asked about again after ten minutes.
    submit(&mailers, "other").await.unwrap_err();
    submit(&mailers, "other").await.unwrap_err();
    assert_eq!(tenant.entra().requests(), 4);
    manual.advance(11 * MINUTE);
    submit(&mailers, "other").await.unwrap_err();
    assert_eq!(tenant.entra().requests(), 5);
}

#[tokio::test]
async fn a_sender_that_is_denied_is_explained_for_its_mailbox() {
    let Setup { tenant, mailers, .. } = start(5, SendingLimits::new()).await;
    let denied =
        "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed";
    tenant.exchange().inject(FaultPoint::Body, Fault::reply(denied));
    let mailbox = mailers.mailbox("e@contoso.com").unwrap();
    let error = mailbox.submit_raw(&envelope("a"), b"Subject: x\r\n\r\n").await.unwrap_err();
    let remedy = error.remedy().unwrap();
    assert!(remedy.summary().contains("a@contoso.com"), "{remedy}");
    let trustee = "-Identity 'a@contoso.com' -AccessRights SendAs -Trustee <service principal's object ID>";
    assert!(remedy.steps()[0].contains(trustee), "{remedy}");
    assert!(!remedy.to_string().contains("-Trustee 'e@contoso.com'"), "{remedy}");
    assert!(remedy.steps()[1].contains("Enterprise applications"), "{remedy}");
    // With the same envelope sender it is the message's own From.
    tenant.exchange().inject(FaultPoint::Body, Fault::reply(denied));
    let error = submit(&mailers, "e").await.unwrap_err();
    let remedy = error.remedy().unwrap();
    let summary = "The From of the message is an address that the app, which has signed in to e@contoso.com, is not allowed to send as.";
    assert_eq!(remedy.summary(), summary);
    assert!(
        remedy.steps()[0].contains("-Identity '<sender>' -AccessRights SendAs -Trustee <service"),
        "{remedy}"
    );
    // Exchange Online may name both, and the app is still the one who needs the permission.
    let named = "554 5.2.252 SendAsDenied; e@contoso.com not allowed to send as boss@contoso.com; STOREDRV.Submission";
    tenant.exchange().inject(FaultPoint::Body, Fault::reply(named));
    let remedy = submit(&mailers, "e").await.unwrap_err().remedy().unwrap();
    let step = "Add-RecipientPermission -Identity 'boss@contoso.com' -AccessRights SendAs -Trustee <service principal's object ID>";
    assert_eq!(remedy.steps()[0], step);
}

#[tokio::test]
async fn cancelled_submissions_give_their_places_back() {
    let Setup { tenant, mailers, .. } = start(1, SendingLimits::new()).await;
    tenant.exchange().inject(FaultPoint::Mail, Fault::Silence);
    let first = in_background(&mailers, "a");
    tenant.exchange().wait_for_silence().await;
    let waiting = [in_background(&mailers, "b"), in_background(&mailers, "c"), in_background(&mailers, "d")];
    until(|| mailers.status().waiting == 3).await;
    waiting[0].abort();
    waiting[2].abort();
    until(|| mailers.status().waiting == 1).await;
    first.abort();
    let [_, waiting, _] = waiting;
    soon(waiting).await.unwrap().unwrap();
    assert_eq!(senders(&tenant), ["c@contoso.com"]);
    assert_eq!((mailers.status().connections, tenant.exchange().connections().peak), (1, 1));
}

/// Polls `future` up to `polls` times and drops it; `None` if that was not enough.
async fn for_polls<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_submission_dropped_at_any_point_leaves_the_only_place_to_the_next() {
    let Setup { tenant, mailers, .. } = start(1, SendingLimits::new()).await;
    submit(&mailers, "a").await.unwrap();
    let mut done = 0;
    for polls in 0.. {
        // Each has to make the other's idle connection go before it can begin.
        if for_polls(polls, submit(&mailers, "b")).await.is_some() {
            done += 1;
        }
        soon(submit(&mailers, "a")).await.unwrap();
        let status = mailers.status();
        assert_eq!((status.connections, status.waiting), (1, 0), "{polls} polls");
        if done == 3 {
            break;
        }
    }
    // The server may hear of a dropped connection a moment after its successor.
    assert!(tenant.exchange().connections().peak <= 2);
}

#[tokio::test]
async fn waiting_for_a_place_ends_at_the_deadline() {
    let Setup { tenant, manual, mailers } = start(1, SendingLimits::new()).await;
    tenant.exchange().inject(FaultPoint::Mail, Fault::Silence);
    let first = in_background(&mailers, "a");
    tenant.exchange().wait_for_silence().await;
    let second = in_background(&mailers, "b");
    until(|| mailers.status().waiting == 1).await;
    manual.advance(HOUR);
    let error = soon(second).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, Phase::Preparation));
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    soon(first).await.unwrap().unwrap_err();
    let status = mailers.status();
    assert_eq!((status.connections, status.waiting), (0, 0));
}

#[tokio::test]
async fn close_waits_for_what_is_under_way_and_fails_the_rest() {
    let Setup { tenant, mailers, .. } = start(2, SendingLimits::new()).await;
    let held = mailers.mailbox("a@contoso.com").unwrap();
    submit(&mailers, "a").await.unwrap();
    tenant.exchange().inject(FaultPoint::Mail, Fault::Silence);
    tenant.exchange().inject(FaultPoint::Mail, Fault::Silence);
    let stuck = in_background(&mailers, "b");
    tenant.exchange().wait_for_silence().await;
    let also_stuck = in_background(&mailers, "c");
    tenant.exchange().wait_for_silences(2).await;
    let waiting = in_background(&mailers, "d");
    until(|| mailers.status().waiting == 1).await;
    let closing = tokio::spawn({
        let mailers = mailers.clone();
        async move { mailers.close().await }
    });
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    settle().await;
    assert!(!closing.is_finished(), "two submissions are under way");
    for name in ["a", "e"] {
        assert_eq!(submit(&mailers, name).await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(held.submit_raw(&envelope("a"), b"x\r\n").await.unwrap_err().kind(), ErrorKind::Closed);
    stuck.abort();
    also_stuck.abort();
    soon(closing).await.unwrap();
    soon(tenant.exchange().wait_for_open(0)).await;
    assert_eq!((mailers.status().connections, mailers.status().waiting), (0, 0));
    assert_eq!(
        mailers.mailbox("b@contoso.com").unwrap().verify().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test]
async fn closing_one_mailbox_leaves_the_others_and_itself_usable() {
    let Setup { tenant, mailers, .. } = start(5, SendingLimits::new()).await;
    for name in ["a", "b"] {
        submit(&mailers, name).await.unwrap();
    }
    let held = mailers.mailbox("a@contoso.com").unwrap();
    held.close().await;
    assert_eq!(held.send_test().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(tenant.exchange().connections().open, 1);
    for name in ["a", "b"] {
        submit(&mailers, name).await.unwrap();
    }
    assert_eq!(tenant.exchange().connections().total, 3);
}

#[tokio::test]
async fn dropped_mailers_close_their_connections() {
    let Setup { tenant, mailers, .. } = start(5, SendingLimits::new()).await;
    for name in ["a", "b", "c"] {
        submit(&mailers, name).await.unwrap();
    }
    let held = mailers.mailbox("a@contoso.com").unwrap();
    drop(mailers);
    soon(tenant.exchange().wait_for_open(1)).await;
    held.send_test().await.unwrap();
    drop(held);
    soon(tenant.exchange().wait_for_open(0)).await;
}

#[tokio::test]
async fn bad_addresses_are_clear_errors() {
    let Setup { tenant, mailers, .. } = start(5, SendingLimits::new()).await;
    let problem = |address: &str| {
        let error: ConfigError = mailers.mailbox(address).unwrap_err();
        error.problems()[0].to_string()
    };
    let cases = [
        (
            "alerts",
            "mailbox (given \"alerts\"): enter a whole address with @ and domain, such as alerts@contoso.com",
        ),
        ("", "mailbox (given \"\"): enter a whole address with @ and domain, such as alerts@contoso.com"),
        (
            "Alerts <a@contoso.com>",
            "mailbox (given \"Alerts <a@contoso.com>\"): enter the address alone, without a name",
        ),
        (
            "a@contoso.com, b@contoso.com",
            "mailbox (given \"a@contoso.com, b@contoso.com\"): enter one address only",
        ),
    ];
    for (address, expected) in cases {
        assert_eq!(problem(address), expected);
    }
    assert!(problem("a@contoso.com\u{1}auth=x").contains("remove the control characters"));
    let endless = format!("{}@{}contoso.com", "a".repeat(64), "long.".repeat(60));
    assert!(problem(&endless).contains("mailbox (given"), "{}", problem(&endless));
    assert_eq!((mailers.status().mailboxes, tenant.exchange().connections().total), (0, 0));
}

#[tokio::test]
async fn what_signs_in_one_mailbox_only_is_refused_for_many() {
    let tenant = FakeMicrosoft365::start().await;
    let profile = tenant.server().build().unwrap();
    let app = tenant.entra().app().build().unwrap();
    let delegated = Authentication::oauth(app.refresh_token(tenant.entra().store()));
    for (authentication, reason) in [
        (delegated, "the tokens of a person's sign-in let in that person's mailbox only"),
        (Authentication::basic("secret"), "a password is one mailbox's"),
    ] {
        let error = Mailers::builder(profile.clone()).authentication(authentication).build().unwrap_err();
        assert_eq!(error.problems()[0].field(), "authentication");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(Mailers::builder(profile.clone()).build().is_err());
    let builder = Mailer::builder(profile).authentication(Authentication::oauth(app.client_credentials()));
    MailersBuilder::from(builder).build().unwrap().submit_raw(&envelope("a"), b"x\r\n").await.unwrap_err();
}

/// What one mailbox leaves behind that was used once and is idle, in octets on the heap of this side.
#[test]
fn the_memory_of_idle_mailboxes_is_given_back() {
    const MAILBOXES: usize = 1_000;
    let (told, tenant) = std::sync::mpsc::channel();
    let manual = ManualClock::new();
    let clock = manual.clock();
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    // In a thread of its own, whose memory is not counted.
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let tenant = Arc::new(FakeMicrosoft365::start_with_clock(clock).await);
            told.send(tenant).unwrap();
            finished.await.unwrap();
        });
    });
    let tenant = tenant.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mailers = builder(&tenant, SendingLimits::exchange_online())
        .max_connections_total(NonZeroU32::new(8).unwrap())
        .clock(manual.clock())
        .build()
        .unwrap();
    for number in 0..MAILBOXES {
        tenant.grant_access(&address(&number.to_string()));
    }
    tenant.grant_access(&address("a"));
    // What is made once, whoever sends.
    runtime.block_on(async { submit(&mailers, "a").await.unwrap() });
    let sent = AtomicUsize::new(0);
    let used = allocation_counter::measure(|| {
        runtime.block_on(async {
            for number in 0..MAILBOXES {
                submit(&mailers, &number.to_string()).await.unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    let rest = |wait: Duration, mailboxes: usize| {
        allocation_counter::measure(|| {
            runtime.block_on(async {
                manual.advance(wait);
                soon(tenant.exchange().wait_for_open(0)).await;
                until(|| mailers.status().connections == 0).await;
                assert_eq!(mailers.status().mailboxes, mailboxes);
            });
        })
    };
    let each = |bytes: i64| bytes / i64::try_from(MAILBOXES).unwrap();
    let idle = rest(2 * MINUTE, MAILBOXES + 1);
    let gone = rest(DAY + 6 * MINUTE, 0);
    // Names are resolved on other threads, so that what is freed here was not all allocated here: what an idle mailbox
    // holds is the difference to what is there without any.
    let left = used.bytes_current + idle.bytes_current + gone.bytes_current;
    let (in_use, idle) =
        (each(used.bytes_current - left), each(used.bytes_current + idle.bytes_current - left));
    println!(
        "{} mailboxes: {in_use} octets each after use, {idle} each when idle, none a day later",
        sent.into_inner()
    );
    assert!((100..1024).contains(&idle), "{idle}");
    assert!(left < 64 * 1024, "{left}");
    done.send(()).unwrap();
    drop(tenant);
    server.join().unwrap();
}

#[tokio::test]
async fn a_batch_that_overlaps_gives_its_place_to_another_mailbox_when_its_time_is_over() {
    let Setup { tenant, manual, mailers } = start(1, SendingLimits::new()).await;
    let mailer = mailers.mailbox(address("a")).unwrap();
    let message = || (envelope("a"), b"Subject: x\r\n\r\nx\r\n".to_vec());
    let messages = Items::new((0..60).map(|_| message()));
    let mut batch = mailer.submit_all(messages).overlap(NonZeroU32::new(4).unwrap());
    soon(batch.next()).await.unwrap().1.unwrap();
    // Its own for five seconds, whoever waits.
    manual.advance(Duration::from_secs(6));
    let other = in_background(&mailers, "b");
    soon(async { while batch.next().await.is_some() {} }).await;
    soon(other).await.unwrap().unwrap();
    let senders = senders(&tenant);
    let at = senders.iter().position(|sender| *sender == address("b")).unwrap();
    assert!(at < 30, "{at} messages were before it");
    assert_eq!((senders.len(), tenant.exchange().connections().peak), (61, 1));
    assert_eq!(batch.progress().done, 60);
}
