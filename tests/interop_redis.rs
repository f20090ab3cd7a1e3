//! A fleet with one sign-in in a real Redis: one request, also when the process that makes it is killed.
//!
//! Runs against `redis-server` when `SMTP_OAUTH_INTEROP=1`.
#![cfg(feature = "redis")]

use std::io::Write;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::process::Stdio;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use smtp_oauth::testing::{FakeEntra, FakeMicrosoft365, Fault, FaultPoint, ManualClock, TokenFault};
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{
    Authentication, Clock, Disposition, ErrorKind, Mailer, RedisLimits, RedisStore, Reservation, RetryPolicy,
    SendingLimits, Settings, SharedLimits, TokenErrorKind, TokenProvider, TokenRequest, TokenStore,
    WhenReached,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

#[path = "support/process.rs"]
mod process;

use process::Process;

const NAME: &str = "svc-mail@contoso.com";
const KEY: &str = "{smtp-oauth:svc-mail@contoso.com}:tokens";
const LOCK: &str = "{smtp-oauth:svc-mail@contoso.com}:lock";
const PASSWORD: &str = "hunter2";

struct RedisServer {
    url: String,
    child: Child,
    _directory: TempDir,
}

impl RedisServer {
    /// Starts one on a free loopback port; `None` when interoperability is not to be tested.
    async fn start() -> Option<Self> {
        if std::env::var_os("SMTP_OAUTH_INTEROP").is_none_or(|value| value != "1") {
            // Past the test harness, which shows what is printed only when a test fails.
            let _ = writeln!(std::io::stderr(), "SKIPPED: needs redis-server and SMTP_OAUTH_INTEROP=1");
            return None;
        }
        let port = free_port().to_string();
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD])
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("redis-server is installed");
        let server =
            Self { url: format!("redis://:{PASSWORD}@127.0.0.1:{port}/"), child, _directory: directory };
        let started = Instant::now();
        while server.store().load().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "redis-server does not answer");
            // Another program, which tells nobody that it has come up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    fn store(&self) -> RedisStore {
        open(&self.url)
    }

    /// Sends a command past the store.
    async fn command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let (name, arguments) = words.split_first().unwrap();
        redis::cmd(name).arg(arguments).query_async(&mut connection).await.unwrap()
    }
}

fn open(url: &str) -> RedisStore {
    RedisStore::open(url, NAME).unwrap().lock_expiry(Duration::from_secs(2))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn tokens(refresh_token: &str) -> StoredTokens {
    StoredTokens::new(refresh_token, Clock::system().now()).with_account(NAME)
}

async fn stored(store: &RedisStore) -> String {
    store.load().await.unwrap().unwrap().refresh_token().expose_secret().to_owned()
}

/// Does nothing but in a process that the tests below start.
#[tokio::test]
async fn child() {
    if process::role().is_some() {
        let cache = process::cache(open(&process::store_address()));
        let token = cache.token(TokenRequest::new()).await.unwrap();
        process::say(token.secret().expose_secret());
    }
}

#[tokio::test]
async fn eight_processes_with_one_redis_cause_one_request() {
    let Some(server) = RedisServer::start().await else { return };
    let entra = FakeEntra::start().await;
    assert!(server.store().seed(&entra.sign_in()).await.unwrap());
    let started = Instant::now();
    let mut processes: Vec<_> = (0..8).map(|_| Process::start("token", &server.url, &entra)).collect();
    for process in &mut processes {
        assert_eq!(process.hear().await, entra.tokens().all()[0]);
    }
    eprintln!("8 processes had one token after {:?}", started.elapsed());
    assert_eq!(entra.requests(), 1);
    assert_eq!(stored(&server.store()).await, entra.refresh_token());
}

#[tokio::test]
async fn a_killed_holder_stops_the_others_until_its_lock_expires() {
    let Some(server) = RedisServer::start().await else { return };
    let entra = FakeEntra::start().await;
    let store = server.store();
    assert!(store.seed(&entra.sign_in()).await.unwrap());
    let old = stored(&store).await;
    entra.fail_next(1, TokenFault::Hang);
    let holder = Process::start("token", &server.url, &entra);
    process::requests(&entra, 1).await;
    holder.kill().await;
    let killed = Instant::now();
    assert_eq!(stored(&store).await, old);
    let mut waiting: Vec<_> = (0..4).map(|_| Process::start("token", &server.url, &entra)).collect();
    for process in &mut waiting {
        assert_eq!(process.hear().await, entra.tokens().all()[0]);
    }
    eprintln!("4 processes had one token {:?} after the holder was killed", killed.elapsed());
    assert_eq!(entra.requests(), 2, "the killed one's, and one for all the others");
}

#[tokio::test]
async fn whoever_comes_back_too_late_does_not_overwrite() {
    let Some(server) = RedisServer::start().await else { return };
    let slow = server.store().lock_expiry(Duration::from_millis(50));
    let quick = server.store();
    let slow_lock = slow.lock().await.unwrap();
    slow.save(&tokens("first")).await.unwrap();
    while server.command(&["EXISTS", LOCK]).await != redis::Value::Int(0) {}
    // Expired, but nobody took over: what was obtained is worth keeping.
    slow.save(&tokens("second")).await.unwrap();
    let quick_lock = quick.lock().await.unwrap();
    let error = slow.save(&tokens("third")).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert!(
        error.to_string().ends_with(
            "was changed by another process while this one took too long: its newer tokens were kept"
        ),
        "{error}"
    );
    quick.save(&tokens("fourth")).await.unwrap();
    slow.save(&tokens("fifth")).await.unwrap_err();
    assert_eq!(stored(&quick).await, "fourth");
    // Giving up a lock that expired does not take the other's away.
    slow_lock.release().await;
    let third = server.store().lock_deadline(Duration::from_millis(200));
    let error = third.lock().await.unwrap_err();
    assert!(error.to_string().contains("is still locked by another process after 0 seconds"), "{error}");
    quick_lock.release().await;
    drop(third.lock().await.unwrap());
}

#[tokio::test]
async fn a_save_that_outlives_its_lock_passes_neither_for_a_new_sign_in_nor_for_the_next_holders() {
    let Some(server) = RedisServer::start().await else { return };
    let (store, other) = (server.store(), server.store());
    let (late, later) = (tokens("late"), tokens("later"));
    let lock = store.lock().await.unwrap();
    let save = store.save(&late);
    let another_save = store.save(&later);
    lock.release().await;
    let lock = other.lock().await.unwrap();
    other.save(&tokens("newer")).await.unwrap();
    lock.release().await;
    assert_eq!(save.await.unwrap_err().kind(), TokenErrorKind::Store);
    assert_eq!(stored(&store).await, "newer");

    let _lock = store.lock().await.unwrap();
    assert_eq!(another_save.await.unwrap_err().kind(), TokenErrorKind::Store);
    store.save(&tokens("newest")).await.unwrap();
    assert_eq!(stored(&store).await, "newest");
}

#[tokio::test]
async fn fencing_outlives_a_server_that_forgets_everything() {
    let Some(server) = RedisServer::start().await else { return };
    let (slow, quick) = (server.store(), server.store());
    let _slow = slow.lock().await.unwrap();
    server.command(&["FLUSHALL"]).await;
    let _quick = quick.lock().await.unwrap();
    slow.save(&tokens("old")).await.unwrap_err();
    quick.save(&tokens("new")).await.unwrap();
    assert_eq!(stored(&quick).await, "new");
}

#[tokio::test]
async fn a_new_sign_in_wins_over_a_refresh_that_is_under_way() {
    let Some(server) = RedisServer::start().await else { return };
    let (refreshing, signing_in) = (server.store(), server.store());
    let _lock = refreshing.lock().await.unwrap();
    signing_in.save(&tokens("signed-in")).await.unwrap();
    refreshing.save(&tokens("refreshed")).await.unwrap_err();
    assert_eq!(stored(&signing_in).await, "signed-in");
}

#[tokio::test]
async fn tasks_of_one_process_take_turns_without_asking_redis() {
    let Some(server) = RedisServer::start().await else { return };
    let store = server.store();
    let started = Instant::now();
    for _ in 0..20 {
        drop(store.lock().await.unwrap());
    }
    let each = started.elapsed() / 20;
    eprintln!("lock and release: {each:?}");
    assert!(each < Duration::from_millis(100), "{each:?}");
}

#[tokio::test]
async fn what_is_not_ours_is_reported_and_never_overwritten() {
    let Some(server) = RedisServer::start().await else { return };
    let store = server.store();
    server.command(&["SET", KEY, "{\"version\":1,\"refresh_token\":\"kept-secret"]).await;
    for error in [store.load().await.unwrap_err(), store.save(&tokens("other")).await.unwrap_err()] {
        assert_eq!(error.kind(), TokenErrorKind::Store);
        assert!(error.to_string().contains("is damaged at line 1"), "{error}");
        assert!(!format!("{error:?}").contains("kept-secret"), "{error:?}");
    }
    let redis::Value::BulkString(text) = server.command(&["GET", KEY]).await else { panic!("no text") };
    assert!(text.ends_with(b"kept-secret"));
    server.command(&["DEL", KEY]).await;
    server.command(&["RPUSH", KEY, "a list"]).await;
    let error = store.save(&tokens("other")).await.unwrap_err();
    assert!(error.to_string().ends_with("cannot be read"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_show_it() {
    let Some(server) = RedisServer::start().await else { return };
    let wrong = server.url.replace(PASSWORD, "wrong-secret");
    let error = open(&wrong).load().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("cannot be reached") && !shown.contains("wrong-secret"), "{shown}");
}

#[tokio::test]
async fn a_server_that_goes_away_is_an_error_and_the_token_in_use_goes_on_being_used() {
    let Some(mut server) = RedisServer::start().await else { return };
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).start().await;
    assert!(server.store().seed(&entra.sign_in()).await.unwrap());
    let cache = entra.app().build().unwrap().refresh_token(server.store());
    let token = cache.token(TokenRequest::new()).await.unwrap();
    server.child.kill().await.unwrap();
    manual.advance(Duration::from_secs(71 * 60));
    assert!(cache.token(TokenRequest::new()).await.unwrap().is_same(&token));
    manual.advance(Duration::from_secs(5 * 60));
    let error = cache.token(TokenRequest::new()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Store);
    assert_eq!(entra.requests(), 1);
}

#[tokio::test]
async fn a_server_that_is_down_is_a_clear_error() {
    let port = free_port();
    let store = open(&format!("redis://:{PASSWORD}@127.0.0.1:{port}/"));
    let expected = format!("the token store {KEY} in Redis at 127.0.0.1:{port} cannot be reached");
    for error in [
        store.load().await.unwrap_err(),
        store.save(&tokens("any")).await.unwrap_err(),
        store.lock().await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.to_string()), (TokenErrorKind::Store, expected.clone()));
        assert!(!format!("{error:?}").contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_a_clear_error() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://:{PASSWORD}@{}/", silent.local_addr().unwrap());
    let manual = ManualClock::new();
    let store = open(&url).clock(manual.clock());
    let error = manual.advance_until(Duration::from_secs(1), store.load()).await.unwrap_err();
    assert!(error.to_string().ends_with("cannot be reached within 10 seconds"), "{error}");
}

fn minute_limit(most: u32) -> SendingLimits {
    SendingLimits::new().with_messages_per_minute(NonZeroU32::new(most)).with_when_reached(WhenReached::Fail)
}

#[tokio::test]
async fn a_fleet_stays_within_the_minute_and_the_day_together() {
    let Some(server) = RedisServer::start().await else { return };
    let fleet: Vec<_> = (0..3).map(|_| RedisLimits::open(server.url.as_str()).unwrap()).collect();
    let limits = minute_limit(5);
    let mut granted = 0;
    for turn in 0..12 {
        match fleet[turn % 3].reserve(NAME, &limits, 1).await.unwrap() {
            Reservation::Granted => granted += 1,
            Reservation::Wait(wait) => {
                assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(61), "{wait:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(granted, 5);
    assert_eq!(fleet[0].reserve("other@contoso.com", &limits, 1).await.unwrap(), Reservation::Granted);

    let a_day = SendingLimits::new().with_recipients_per_day(NonZeroU32::new(10));
    assert_eq!(fleet[0].reserve("day@contoso.com", &a_day, 7).await.unwrap(), Reservation::Granted);
    assert_eq!(fleet[1].reserve("day@contoso.com", &a_day, 3).await.unwrap(), Reservation::Granted);
    match fleet[2].reserve("DAY@contoso.com", &a_day, 1).await.unwrap() {
        Reservation::Wait(wait) => assert!(wait > Duration::from_secs(23 * 3600), "{wait:?}"),
        other => panic!("{other:?}"),
    }
    fleet[1].release("day@contoso.com", 4).await.unwrap();
    assert_eq!(fleet[2].reserve("day@contoso.com", &a_day, 4).await.unwrap(), Reservation::Granted);
    assert_ne!(fleet[0].reserve("day@contoso.com", &a_day, 1).await.unwrap(), Reservation::Granted);
    fleet[0].release("day@contoso.com", 100).await.unwrap(); // More than there are.
    assert_eq!(fleet[0].reserve("day@contoso.com", &a_day, 10).await.unwrap(), Reservation::Granted);
}

#[tokio::test]
async fn an_outage_does_not_use_up_the_day_of_a_fleet() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = FakeMicrosoft365::start().await;
    let limits = SendingLimits::new()
        .with_recipients_per_day(NonZeroU32::new(10))
        .with_when_reached(WhenReached::Fail);
    let tokens = tenant.entra().app().build().unwrap().refresh_token(tenant.entra().store());
    let mailer = Mailer::builder(tenant.server().limits(limits).build().unwrap())
        .authentication(Authentication::oauth(tokens))
        .shared_limits(RedisLimits::open(server.url.as_str()).unwrap())
        .retry(RetryPolicy::never())
        .build()
        .unwrap();
    let down = Fault::ReplyThenClose("421 4.3.2 Service not available".into());
    tenant.exchange().inject(FaultPoint::Greeting, down.always());
    for _ in 0..12 {
        let error = mailer.send_test().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerUnavailable);
    }
    tenant.recover();
    mailer.send_test().await.unwrap();
}

#[tokio::test]
async fn mailers_of_a_fleet_share_the_limit_and_send_by_their_own_when_redis_is_gone() {
    let Some(mut server) = RedisServer::start().await else { return };
    let tenant = FakeMicrosoft365::start().await;
    let mailers: Vec<_> = (0..2)
        .map(|_| {
            let config = tenant.server().limits(minute_limit(3)).build().unwrap();
            let provider = tenant.entra().app().build().unwrap().refresh_token(tenant.entra().store());
            Mailer::builder(config)
                .authentication(Authentication::oauth(provider))
                .shared_limits(RedisLimits::open(server.url.as_str()).unwrap())
                .build()
                .unwrap()
        })
        .collect();
    let mut refused = 0;
    for turn in 0..6 {
        match mailers[turn % 2].send_test().await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::LimitReached);
                assert!(matches!(error.disposition(), Disposition::Retry { after: Some(_) }));
                refused += 1;
            }
        }
    }
    assert_eq!((tenant.exchange().message_count(), refused), (3, 3));

    server.child.kill().await.unwrap();
    // The first mailer sent two, by its own count, and the second one.
    mailers[0].send_test().await.unwrap();
    assert_eq!(mailers[0].send_test().await.unwrap_err().kind(), ErrorKind::LimitReached);
    assert_eq!(tenant.exchange().message_count(), 4);
}

#[tokio::test]
async fn settings_alone_let_a_fleet_share_sign_in_and_limit() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = FakeMicrosoft365::start().await;
    let directory = tempfile::tempdir().unwrap();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let (text, _file) = text.split_once("token_store").unwrap();
    let text = text.replace(
        "[authentication]",
        "limits = { messages_per_minute = 3, when_reached = \"fail\" }\n[authentication]",
    );
    std::fs::write(directory.path().join("redis"), &server.url).unwrap();
    let text = format!(
        "{text}token_store = {{ redis = {{ file = \"redis\" }}, key = \"mail\" }}\n\
         [shared_limits]\nredis = {{ file = \"redis\" }}\n"
    );
    let settings: Settings = toml::from_str(&text).unwrap();
    let settings = settings.relative_to(directory.path());
    let store = RedisStore::open(server.url.as_str(), "mail").unwrap();
    store.save(&tenant.entra().sign_in()).await.unwrap();
    let mailers: Vec<_> = (0..2).map(|_| Mailer::from_settings(&settings).unwrap()).collect();
    for turn in 0..3 {
        mailers[turn % 2].send_test().await.unwrap();
    }
    for mailer in &mailers {
        assert_eq!(mailer.send_test().await.unwrap_err().kind(), ErrorKind::LimitReached);
    }
    assert_eq!((tenant.exchange().message_count(), tenant.entra().requests()), (3, 1));
}
