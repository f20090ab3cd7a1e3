//! What becomes of a message after each kind of outcome, and who may decide about it.

use std::num::NonZeroU32;
use std::time::Duration;

use apalis::prelude::TaskBuilder;
use apalis_sqlite::SqliteStorage;
use apalis_sqlite::queries::push_tasks;
use outbox::compose::Draft;
use outbox::delivery::attempt;
use outbox::limits::OutboxLimits;
use outbox::message::{Decision, Enqueued, Fate, Outcome};
use outbox::store::{Missing, Outbox};
use outbox::worker::{Options, work};
use smtp_oauth::testing::{Fault, FaultPoint, ManualClock};
use smtp_oauth::{Clock, Reservation, SendingLimits, SharedLimits};

use tokio::sync::watch;

use super::{LEASE, READER, Stage, draft, new, url};

const BUSY: &str = "451 4.7.0 Temporary server error. Please try again later. PRX4";
const SMTP_AUTH_IS_OFF: &str =
    "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.";
const UNKNOWN_USER: &str = "550 5.1.1 User unknown";

#[tokio::test]
async fn a_sent_message_keeps_its_key_and_forgets_its_content() {
    let stage = Stage::start().await;
    let Enqueued::New { id } = stage.outbox.enqueue(&draft(READER, "Hello"), Some("key")).await.unwrap()
    else {
        panic!("it is new")
    };
    assert_eq!(stage.send(&id).await, Outcome::Sent { refused: vec![] });
    assert_eq!(stage.exchange().message_count(), 1);
    assert_eq!(stage.ask("SELECT dedup_key, content FROM outbox_messages").await, [("key".to_owned(), None)]);
    let again = stage.outbox.enqueue(&draft(READER, "Hello"), Some("key")).await.unwrap();
    assert_eq!(again, Enqueued::Known { id, state: "sent".to_owned() });
}

#[tokio::test]
async fn a_key_is_good_for_one_message_only() {
    let stage = Stage::start().await;
    stage.outbox.enqueue(&draft(READER, "One"), Some("key")).await.unwrap();
    let error = stage.outbox.enqueue(&draft(READER, "Another"), Some("key")).await.unwrap_err();
    assert!(error.to_string().starts_with("another message has this key already: "), "{error}");
    assert_eq!(stage.outbox.status().await.unwrap().counts, [("waiting".to_owned(), 1)]);
}

#[tokio::test]
async fn a_message_goes_with_the_transaction_that_it_was_taken_over_in() {
    let stage = Stage::start().await;
    let pool = sqlx::AnyPool::connect(&url(stage.directory.path())).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    stage.outbox.enqueue_in(&mut transaction, &draft(READER, "Never"), None).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(stage.outbox.status().await.unwrap().counts, []);
    let mut transaction = pool.begin().await.unwrap();
    stage.outbox.enqueue_in(&mut transaction, &draft(READER, "Hello"), None).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(stage.outbox.status().await.unwrap().counts, [("waiting".to_owned(), 1)]);
}

#[tokio::test]
async fn a_message_without_message_id_gets_one_and_another_keeps_its_own() {
    let stage = Stage::start().await;
    for header in ["", "Message-ID: <own@contoso.com>\r\n"] {
        let content = format!("{header}From: svc-mail@contoso.com\r\n\r\nHello!\r\n");
        let draft = Draft::formatted("svc-mail@contoso.com", &[READER.to_owned()], content.into()).unwrap();
        stage.send(&new(&stage.outbox, &draft).await).await;
    }
    let bodies: Vec<_> =
        stage.exchange().messages().into_iter().map(|m| String::from_utf8(m.body).unwrap()).collect();
    assert!(
        bodies[0].starts_with("Message-ID: <01") && bodies[0].contains("@contoso.com>\r\nFrom:"),
        "{}",
        bodies[0]
    );
    assert!(bodies[1].starts_with("Message-ID: <own@contoso.com>\r\nFrom:"), "{}", bodies[1]);
}

#[tokio::test]
async fn a_message_refused_for_now_is_sent_when_its_time_has_come_and_not_before() {
    let stage = Stage::start().await;
    stage.exchange().inject(FaultPoint::Mail, Fault::reply(BUSY).times(2));
    let id = stage.add(READER).await;
    for wait in [30, 60] {
        let now = stage.outbox.now();
        let Outcome::Later { at, .. } = stage.send(&id).await else { panic!("it is refused for now") };
        assert_eq!(at - now, wait * 1000);
        stage.pass(wait as u64 - 1).await;
        assert!(stage.claim(&id).await.is_none());
        stage.pass(1).await;
    }
    assert_eq!(stage.send(&id).await, Outcome::Sent { refused: vec![] });
    assert_eq!(stage.exchange().message_count(), 1);
}

#[tokio::test]
async fn a_message_that_is_refused_for_now_for_five_days_is_set_aside() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    stage.pass(5 * 24 * 3600).await;
    stage.exchange().inject(FaultPoint::Mail, Fault::reply(BUSY));
    let Outcome::SetAside { reason } = stage.send(&id).await else { panic!("it is given up") };
    assert_eq!(reason, "given up after five days: the mail server cannot do it at the moment (451 4.7.0)");
    assert_eq!(stage.state(&id).await, "set aside");
}

#[tokio::test]
async fn when_the_limit_is_reached_everything_waits_until_there_is_room() {
    let stage = Stage::start().await;
    for _ in 0..30 {
        let id = stage.add(READER).await;
        stage.send(&id).await;
    }
    let (late, later) = (stage.add(READER).await, stage.add(READER).await);
    let now = stage.outbox.now();
    let Outcome::Hold { until, .. } = stage.send(&late).await else { panic!("the limit is 30 a minute") };
    assert!(until > now && until <= now + 61_000, "{until} {now}");
    assert_eq!(stage.outbox.status().await.unwrap().hold_until, Some(until));
    assert!(stage.claim(&later).await.is_none(), "the next one would only fail too");
    stage.pass(61).await;
    stage.send(&later).await;
    stage.send(&late).await;
    assert_eq!(stage.exchange().message_count(), 32);
    let attempts = stage.ask("SELECT CAST(MAX(attempts) AS TEXT), NULL FROM outbox_messages").await;
    assert_eq!(attempts[0].0, "1", "waiting for the limit is no attempt");
}

#[tokio::test]
async fn several_workers_stay_within_the_minute_and_the_day_together() {
    let stage = Stage::start().await;
    let workers = [OutboxLimits::new(stage.outbox.clone()), OutboxLimits::new(stage.outbox.clone())];
    let number = NonZeroU32::new;
    let limits = SendingLimits::new().with_messages_per_minute(number(5)).with_recipients_per_day(number(20));
    for turn in 0..5 {
        let reserved = workers[turn % 2].reserve("a@contoso.com", &limits, 3).await.unwrap();
        assert_eq!(reserved, Reservation::Granted);
        stage.pass(1).await;
    }
    let full = workers[1].reserve("A@contoso.com", &limits, 3).await.unwrap();
    assert_eq!(full, Reservation::Wait(Duration::from_secs(55)));
    assert_eq!(workers[1].reserve("b@contoso.com", &limits, 3).await.unwrap(), Reservation::Granted);
    stage.pass(55).await;
    let full = workers[0].reserve("a@contoso.com", &limits, 6).await.unwrap();
    assert_eq!(full, Reservation::Wait(Duration::from_secs(24 * 3600 - 60)));
    assert_eq!(workers[0].reserve("a@contoso.com", &limits, 5).await.unwrap(), Reservation::Granted);
    stage.pass(60).await;
    let full = workers[1].reserve("a@contoso.com", &limits, 2).await.unwrap();
    assert_eq!(full, Reservation::Wait(Duration::from_secs(24 * 3600 - 120)));
    workers[0].release("a@contoso.com", 5).await.unwrap(); // The server was not there.
    assert_eq!(workers[1].reserve("a@contoso.com", &limits, 2).await.unwrap(), Reservation::Granted);
}

#[tokio::test]
async fn a_setting_that_must_be_mended_pauses_everything_and_after_it_nothing_is_lost() {
    let stage = Stage::start().await;
    stage.exchange().inject(FaultPoint::Auth, Fault::reply(SMTP_AUTH_IS_OFF).always());
    let (first, second) = (stage.add(READER).await, stage.add(READER).await);
    assert!(matches!(stage.send(&first).await, Outcome::Pause { .. }));
    assert!(stage.claim(&second).await.is_none());
    stage.pass(24 * 3600).await;
    assert!(stage.claim(&first).await.is_none(), "time alone mends nothing");

    let paused = stage.outbox.status().await.unwrap().paused.unwrap();
    assert_eq!(paused.reason, format!("the mail server refused the sign-in (535 5.7.139) (message {first})"));
    assert!(paused.remedy.contains("Set-CASMailbox -Identity 'svc-mail@contoso.com'"), "{}", paused.remedy);

    stage.exchange().clear_faults();
    assert!(stage.outbox.resume().await.unwrap());
    assert!(!stage.outbox.resume().await.unwrap(), "there is nothing to resume any more");
    for id in [&first, &second] {
        assert_eq!(stage.send(id).await, Outcome::Sent { refused: vec![] });
    }
}

#[tokio::test]
async fn a_sign_in_that_is_over_pauses_everything() {
    let stage = Stage::start().await;
    stage.tenant.entra().revoke_refresh_tokens();
    let id = stage.add(READER).await;
    let Outcome::Pause { remedy, .. } = stage.send(&id).await else { panic!("somebody must sign in") };
    assert!(!remedy.is_empty());
    assert_eq!(stage.state(&id).await, "waiting");
    assert!(stage.exchange().auth_attempts().is_empty());
}

#[tokio::test]
async fn the_first_reason_for_a_pause_is_the_one_shown() {
    let stage = Stage::start().await;
    let claimed = [stage.add(READER).await, stage.add(READER).await];
    let claimed = [stage.claim(&claimed[0]).await.unwrap(), stage.claim(&claimed[1]).await.unwrap()];
    for (claimed, reason) in claimed.iter().zip(["first", "second"]) {
        let outcome = Outcome::Pause { reason: reason.to_owned(), remedy: String::new() };
        assert!(stage.outbox.finish(claimed, &outcome).await.unwrap());
    }
    assert_eq!(stage.outbox.status().await.unwrap().paused.unwrap().reason, "first");
}

#[tokio::test]
async fn a_message_that_cannot_be_sent_is_set_aside_until_somebody_decides() {
    let stage = Stage::start().await;
    stage.exchange().refuse_recipient("nobody@example.com", UNKNOWN_USER);
    let ids = [stage.add("nobody@example.com").await, stage.add("nobody@example.com").await];
    for id in &ids {
        let reason = "the mail server refused every recipient (550 5.1.1)".to_owned();
        assert_eq!(stage.send(id).await, Outcome::SetAside { reason });
        stage.pass(3600).await;
        assert!(stage.claim(id).await.is_none());
    }
    stage.exchange().clear_faults();
    stage.outbox.resolve(&ids[0], Decision::Resend).await.unwrap();
    assert_eq!(stage.send(&ids[0]).await, Outcome::Sent { refused: vec![] });
    stage.outbox.resolve(&ids[1], Decision::Drop).await.unwrap();
    assert_eq!(stage.state(&ids[1]).await, "dropped");
    assert!(stage.ask("SELECT id, content FROM outbox_messages").await.iter().all(|row| row.1.is_none()));
}

#[tokio::test]
async fn a_message_that_may_have_arrived_is_never_sent_again_by_itself() {
    let stage = Stage::start().await;
    stage.exchange().inject(FaultPoint::Body, Fault::Close.times(2));
    let ids = [stage.add(READER).await, stage.add(READER).await];
    for id in &ids {
        assert!(matches!(stage.send(id).await, Outcome::Indeterminate { .. }));
    }
    stage.pass(365 * 24 * 3600).await;
    stage.outbox.resume().await.unwrap();
    assert!(stage.claim(&ids[0]).await.is_none());
    stage.outbox.resolve(&ids[0], Decision::Resend).await.unwrap();
    assert_eq!(stage.send(&ids[0]).await, Outcome::Sent { refused: vec![] });
    stage.outbox.resolve(&ids[1], Decision::Drop).await.unwrap();
    assert!(stage.claim(&ids[1]).await.is_none());
    for (id, state) in ids.iter().zip(["sent", "dropped"]) {
        let error = stage.outbox.resolve(id, Decision::Resend).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("message {id} is {state}: there is nothing to decide about it")
        );
    }
}

#[tokio::test]
async fn recipients_that_did_not_get_it_are_recorded_and_those_refused_for_now_tried_again() {
    let stage = Stage::start().await;
    stage.exchange().refuse_recipient("nobody@example.com", UNKNOWN_USER);
    stage.exchange().inject(
        FaultPoint::Rcpt,
        Fault::reply("450 4.2.1 Mailbox busy").once().for_recipient("busy@example.com"),
    );
    let id = stage.add("reader@example.com nobody@example.com busy@example.com").await;
    let Outcome::Sent { refused } = stage.send(&id).await else { panic!("one recipient gets it") };
    let later = stage.outbox.now() + 30_000;
    let fates: Vec<_> =
        refused.iter().map(|unreached| (unreached.recipient.as_str(), unreached.fate)).collect();
    assert_eq!(fates, [("nobody@example.com", Fate::Refused), ("busy@example.com", Fate::Later(later))]);

    let status = stage.outbox.status().await.unwrap();
    let [whole, part] = &status.troubled[..] else { panic!("{status:?}") };
    assert!(whole.state == "sent" && whole.refused.contains("550 5.1.1 User unknown"), "{whole:?}");
    assert_eq!((part.state.as_str(), part.recipients.as_str()), ("waiting", r#"["busy@example.com"]"#));
    stage.pass(30).await;
    assert_eq!(stage.send(&part.id).await, Outcome::Sent { refused: vec![] });
    let received = stage.exchange().messages();
    let received: Vec<_> = received.iter().map(|message| message.recipient_addresses()).collect();
    assert_eq!(received, [["reader@example.com"], ["busy@example.com"]]);
}

#[tokio::test]
async fn a_message_has_one_sender_however_many_ask_for_it() {
    let stage = Stage::start().await;
    stage.outbox.renew("other", LEASE).await.unwrap();
    for _ in 0..20 {
        let id = stage.add(READER).await;
        let asking = ["worker", "other"].repeat(4).into_iter().map(|worker| {
            let (outbox, id) = (stage.outbox.clone(), id.clone());
            tokio::spawn(async move { outbox.claim(&id, worker).await.unwrap() })
        });
        let mut given = 0;
        for answer in asking.collect::<Vec<_>>() {
            given += usize::from(answer.await.unwrap().is_some());
        }
        assert_eq!(given, 1);
    }
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_dead_and_what_it_was_sending_is_not_sent_again() {
    let stage = Stage::start().await;
    let (sending, untouched) = (stage.add(READER).await, stage.add(READER).await);
    stage.claim(&sending).await.unwrap();
    stage.manual.advance(LEASE - Duration::from_millis(1));
    assert_eq!(stage.outbox.bury_the_dead().await.unwrap(), 0);
    stage.manual.advance(Duration::from_millis(1));
    assert_eq!(stage.outbox.bury_the_dead().await.unwrap(), 1);
    assert_eq!(stage.state(&sending).await, "indeterminate");

    assert!(stage.claim(&untouched).await.is_none(), "a worker without a lease takes nothing");
    stage.outbox.renew("other", LEASE).await.unwrap();
    assert!(stage.outbox.claim(&sending, "other").await.unwrap().is_none());
    assert!(
        stage.outbox.claim(&untouched, "other").await.unwrap().is_some(),
        "nothing of it was on the wire"
    );
}

#[tokio::test]
async fn what_a_worker_that_was_thought_dead_knows_after_all_is_recorded() {
    let stage = Stage::start().await;
    for outcome in [
        Outcome::Sent { refused: vec![] },
        Outcome::Later { at: stage.outbox.now(), reason: "refused for now".to_owned() },
    ] {
        let id = stage.add(READER).await;
        let claimed = stage.claim(&id).await.unwrap();
        stage.pass(0).await;
        stage.outbox.retire("worker").await.unwrap();
        stage.outbox.bury_the_dead().await.unwrap();
        assert_eq!(stage.state(&id).await, "indeterminate");
        assert!(stage.outbox.finish(&claimed, &outcome).await.unwrap());
        assert_ne!(stage.state(&id).await, "indeterminate");
        stage.outbox.renew("worker", LEASE).await.unwrap();
    }
}

#[tokio::test]
async fn a_late_outcome_changes_nothing_about_what_a_person_decided() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    let late = stage.claim(&id).await.unwrap();
    stage.outbox.retire("worker").await.unwrap();
    stage.outbox.bury_the_dead().await.unwrap();
    stage.outbox.resolve(&id, Decision::Resend).await.unwrap();
    let sent = Outcome::Sent { refused: vec![] };
    assert!(!stage.outbox.finish(&late, &sent).await.unwrap());

    stage.outbox.renew("worker", LEASE).await.unwrap();
    let current = stage.claim(&id).await.unwrap();
    let refused = Outcome::SetAside { reason: "late".to_owned() };
    assert!(!stage.outbox.finish(&late, &refused).await.unwrap(), "another attempt is under way");
    let outcome = attempt(&stage.outbox, &stage.mailer, &current).await;
    assert!(stage.outbox.finish(&current, &outcome).await.unwrap());
    assert_eq!(stage.state(&id).await, "sent");
}

#[tokio::test]
async fn an_outcome_that_has_no_say_leaves_no_part_of_it_behind() {
    let stage = Stage::start().await;
    stage.exchange().inject(
        FaultPoint::Rcpt,
        Fault::reply("450 4.2.1 Mailbox busy").once().for_recipient("busy@example.com"),
    );
    let id = stage.add("reader@example.com busy@example.com").await;
    let claimed = stage.claim(&id).await.unwrap();
    let outcome = attempt(&stage.outbox, &stage.mailer, &claimed).await;
    stage.outbox.retire("worker").await.unwrap();
    stage.outbox.bury_the_dead().await.unwrap();
    stage.outbox.resolve(&id, Decision::Drop).await.unwrap();
    assert!(!stage.outbox.finish(&claimed, &outcome).await.unwrap());
    assert_eq!(stage.outbox.status().await.unwrap().counts, [("dropped".to_owned(), 1)]);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_holds_everything_for_a_while() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    let claimed = stage.claim(&id).await.unwrap();
    let gone =
        smtp_oauth::Office365Profile::builder().host("localhost").port(1).username("svc-mail@contoso.com");
    let gone = smtp_oauth::Mailer::builder(gone.build().unwrap())
        .authentication(smtp_oauth::Authentication::basic("secret"))
        .retry(smtp_oauth::RetryPolicy::never())
        .build()
        .unwrap();
    let outcome = attempt(&stage.outbox, &gone, &claimed).await;
    let until = stage.outbox.now() + 30_000;
    assert!(matches!(&outcome, Outcome::Hold { until: at, .. } if *at == until), "{outcome:?}");
}

#[tokio::test]
async fn resume_goes_on_at_once_with_the_message_that_met_the_hold_too() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    let claimed = stage.claim(&id).await.unwrap();
    let hold = Outcome::Hold { until: stage.outbox.now() + 86_400_000, reason: "2 of 2 today".to_owned() };
    assert!(stage.outbox.finish(&claimed, &hold).await.unwrap());
    assert!(stage.claim(&id).await.is_none());
    assert!(stage.outbox.resume().await.unwrap());
    assert_eq!(stage.send(&id).await, Outcome::Sent { refused: vec![] });
}

#[tokio::test]
async fn a_message_that_a_clock_ahead_of_the_others_dated_is_shown_as_waiting_for_its_time() {
    let stage = Stage::start().await;
    let ahead = ManualClock::new();
    ahead.advance(Duration::from_secs(365 * 24 * 3600));
    let other = Outbox::open(&url(stage.directory.path()), Missing::Refuse, ahead.clock()).await.unwrap();
    let id = new(&other, &draft(READER, "Hello")).await;
    assert!(stage.claim(&id).await.is_none());
    let shown = stage.outbox.status().await.unwrap().to_string();
    assert!(shown.contains(&format!("{id} is waiting")) && shown.contains("not before 2027-"), "{shown}");
    assert!(shown.contains(&format!("`outbox resolve {id} --drop`")), "{shown}");
}

#[tokio::test]
async fn a_message_whose_row_was_spoilt_is_set_aside() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    stage.ask("UPDATE outbox_messages SET recipients = 'x' RETURNING id, content").await;
    assert!(stage.claim(&id).await.is_none());
    let (state, reason) = stage.outbox.state(&id).await.unwrap().unwrap();
    assert_eq!((state.as_str(), reason.as_deref()), ("set aside", Some("its addresses cannot be read")));
}

#[tokio::test]
async fn processes_that_start_together_all_find_their_tables() {
    let directory = tempfile::tempdir().unwrap();
    let url = url(directory.path());
    let opening = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { Outbox::open(&url, Missing::Create, Clock::system()).await.map(drop) })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_message_whose_job_the_library_delivers_twenty_times_is_sent_once() {
    let stage = Stage::start().await;
    let id = stage.add(READER).await;
    let pool = sqlx::SqlitePool::connect(&url(stage.directory.path())).await.unwrap();
    SqliteStorage::migrations().run(&pool).await.unwrap();
    let job = || TaskBuilder::new(serde_json::to_vec(&id).unwrap()).max_attempts(1).build();
    let jobs: Vec<_> = (0..20).map(|_| job()).collect();
    push_tasks(&mut *pool.acquire().await.unwrap(), "smtp-oauth-outbox", &jobs).await.unwrap();

    let (stop, stopped) = watch::channel(false);
    let (outbox, mailer) = (stage.outbox.clone(), stage.mailer.clone());
    let options = Options { at_once: 3, lease: LEASE };
    let worker = tokio::spawn(async move { work(&outbox, &mailer, options, stopped).await });
    let left = async {
        loop {
            let (jobs,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM Jobs").fetch_one(&pool).await.unwrap();
            if jobs == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), left).await.expect("all jobs are done");
    stop.send_replace(true);
    worker.await.unwrap();
    assert_eq!((stage.state(&id).await.as_str(), stage.exchange().message_count()), ("sent", 1));
}
