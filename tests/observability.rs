//! Spans, events and metrics are those of docs/observability.md, neither more nor less, and none says what must stay secret.
#![cfg(feature = "tracing")]

#[path = "support/collector.rs"]
mod collector;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use collector::{Collector, EventTold, Fields};
use futures_core::Stream;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use smtp_oauth::entra::ClientSecret;
use smtp_oauth::lettre::Message;
use smtp_oauth::testing::{
    FakeEntra, FakeExchange, FakeMicrosoft365, Fault, FaultPoint as At, ManualClock, TokenFault,
};
use smtp_oauth::token::store::{StoreFuture, StoreLock, StoredTokens};
use smtp_oauth::{
    Authentication, Chunking, ConnectionReuse, Disposition, ErrorKind, MailServerConfig, Mailer,
    MailerBuilder, Mailers, Phase, ReserveFuture, RetryPolicy, SendingLimits, ServerBuilder, SharedLimits,
    SharedLimitsError, TokenError, TokenErrorKind, TokenProvider, TokenRequest, TokenStore,
};
use support::settle::{settle, until};
use support::{ACCOUNT, HOUR, PASSWORD, envelope, issuing, message, settings};
use tracing::Level;

const MARKER: &str = "Quarterly-figures-before-publication-7731";
const SECRET: &str = "Zq8~7hWn.Kx2Lr5Vt9";
const WRONG_PASSWORD: &str = "Tr0ub4dor-and-3-more-words";
const RECIPIENT: &str = "reader@example.com";

/// Everything of one test: what is told on its thread, and where to.
struct Watch {
    collector: Collector,
    metrics: Snapshotter,
}

/// Runs `work` on a thread of its own with everything it tells kept.
fn watched<F: Future>(work: impl FnOnce(Watch) -> F) -> F::Output {
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (collector, _collecting) = Collector::install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(work(Watch { collector, metrics }));
    drop(runtime);
    output
}

/// A mailer for a fake on a clock that the test moves.
struct Setup {
    server: FakeExchange,
    manual: ManualClock,
}

impl Setup {
    async fn start() -> Self {
        let manual = ManualClock::new();
        let server = FakeExchange::builder().clock(manual.clock()).password(ACCOUNT, PASSWORD).start().await;
        Self { server, manual }
    }

    fn builder(
        &self,
        set: impl FnOnce(ServerBuilder<MailServerConfig>) -> ServerBuilder<MailServerConfig>,
    ) -> MailerBuilder {
        Mailer::builder(set(settings(&self.server)).build().unwrap())
            .clock(self.manual.clock())
            .retry(RetryPolicy::never())
    }

    fn mailer(&self) -> Mailer {
        self.builder(|server| server).authentication(issuing(self.server.tokens(), 1800)).build().unwrap()
    }

    /// Lets the clock run until `work` is done.
    async fn run<F: Future>(&self, work: F) -> F::Output {
        self.manual.advance_until(Duration::from_millis(50), work).await
    }
}

async fn submit(mailer: &Mailer, recipients: &[&str]) -> Result<smtp_oauth::Submission, smtp_oauth::Error> {
    let text = format!("Subject: {MARKER}\r\n\r\n{MARKER}\r\n");
    mailer.submit_raw(&envelope(recipients), text.as_bytes()).await
}

#[derive(Debug)]
struct BrokenStore;

impl BrokenStore {
    fn error<T: Send + 'static>() -> StoreFuture<'static, T> {
        StoreFuture::new(async { Err(TokenError::new(TokenErrorKind::Store, "the vault is sealed")) })
    }
}

impl TokenStore for BrokenStore {
    fn load(&self) -> StoreFuture<'_, Option<StoredTokens>> {
        Self::error()
    }

    fn save<'a>(&'a self, _tokens: &'a StoredTokens) -> StoreFuture<'a, ()> {
        Self::error()
    }

    fn lock(&self) -> StoreFuture<'_, StoreLock> {
        Self::error()
    }
}

#[derive(Debug)]
struct BrokenLimits;

impl SharedLimits for BrokenLimits {
    fn reserve<'a>(&'a self, mailbox: &'a str, _: &'a SendingLimits, _: u32) -> ReserveFuture<'a> {
        Box::pin(async move { Err(SharedLimitsError::new(format!("no count for <{mailbox}>"))) })
    }
}

/// Sends through both fakes: a first message, one over the same connection, one that is refused in part.
async fn sends(secrets: &mut Vec<String>) {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let mailer = tenant.mailer();
    submit(&mailer, &[RECIPIENT]).await.unwrap();
    submit(&mailer, &[RECIPIENT]).await.unwrap();
    tenant.exchange().refuse_recipient("gone@example.com", "550 5.1.1 no <gone@example.com> here");
    submit(&mailer, &[RECIPIENT, "gone@example.com"]).await.unwrap();
    tenant.exchange().refuse_recipient(RECIPIENT, "550 5.1.1 no <reader@example.com> here");
    submit(&mailer, &[RECIPIENT]).await.unwrap_err();
    // The mail server does not know the token any more, and the next one it does.
    tenant.exchange().close_connections(None).await;
    tenant.entra().tokens().revoke_all();
    submit(&mailer, &["other@example.com"]).await.unwrap();
    mailer.verify().await.unwrap();
    mailer.close().await;
    drop(tenant.mailer());
    secrets.extend(tenant.entra().tokens().all());
    secrets.extend(tenant.entra().refresh_tokens());
    secrets.extend(tenant.entra().client_secret());
}

/// Failures of each disposition; returns what each was.
async fn failures() -> Vec<(Disposition, ErrorKind)> {
    let setup = Setup::start().await;
    let mut seen = Vec::new();
    let mailer = setup.mailer();
    setup.server.inject(At::Mail, Fault::reply("451 4.7.0 try later, svc-mail@contoso.com"));
    setup.server.inject(At::Body, Fault::Close);
    for _ in 0..2 {
        let error = submit(&mailer, &[RECIPIENT]).await.unwrap_err();
        seen.push((error.disposition(), error.kind()));
    }
    setup.server.refuse_recipient(RECIPIENT, "550 5.1.1 no such user");
    let error = submit(&mailer, &[RECIPIENT]).await.unwrap_err();
    seen.push((error.disposition(), error.kind()));

    let basic = setup.builder(|server| server).authentication(Authentication::basic(WRONG_PASSWORD));
    let error = submit(&basic.build().unwrap(), &[RECIPIENT]).await.unwrap_err();
    seen.push((error.disposition(), error.kind()));

    let entra = FakeEntra::builder().clock(setup.manual.clock()).start().await;
    let tokens = entra.app().build().unwrap().refresh_token(entra.store());
    entra.revoke_refresh_tokens();
    let signed_out = setup.builder(|server| server).authentication(Authentication::oauth(tokens));
    let error = submit(&signed_out.build().unwrap(), &[RECIPIENT]).await.unwrap_err();
    seen.push((error.disposition(), error.kind()));

    let sealed = entra.app().build().unwrap().refresh_token(BrokenStore);
    let sealed = setup.builder(|server| server).authentication(Authentication::oauth(sealed));
    submit(&sealed.build().unwrap(), &[RECIPIENT]).await.unwrap_err();
    // A connection that was given up while it was being opened must not meet the fault.
    drop(mailer);
    setup.server.wait_for_open(0).await;
    // Nobody answers in time: an error in the middle of a phase.
    setup.server.inject(At::EhloAfterTls, Fault::Silence);
    let moving = async {
        setup.server.wait_for_silence().await;
        setup.manual.advance(HOUR);
    };
    let mailer = setup.mailer();
    tokio::join!(submit(&mailer, &[RECIPIENT]), moving).0.unwrap_err();
    seen
}

/// A submission that is repeated, one over a connection that had died, one by DATA because BDAT was refused, one that is
/// dropped, and one that waits for a connection when the mailer is closed.
async fn detours() {
    let setup = Setup::start().await;
    let builder = setup.builder(|server| server.max_connections(NonZeroU32::MIN));
    let builder = builder.authentication(issuing(setup.server.tokens(), 1800));
    let mailer = builder.retry(RetryPolicy::new()).build().unwrap();
    setup.server.inject(At::Body, Fault::reply("432 4.3.2 Concurrent connections limit exceeded."));
    setup.run(submit(&mailer, &[RECIPIENT])).await.unwrap();
    setup.server.inject(At::Mail, Fault::ReplyThenClose("421 4.3.2 Service not available".into()));
    setup.run(submit(&mailer, &[RECIPIENT])).await.unwrap();
    setup.server.inject(At::Bdat, Fault::reply("500 5.3.3 Unrecognized command"));
    setup.run(submit(&mailer, &[RECIPIENT])).await.unwrap();
    setup.server.inject(At::Body, Fault::Silence);
    {
        let stuck = submit(&mailer, &[RECIPIENT]);
        let mut stuck = std::pin::pin!(stuck);
        tokio::select! {
            biased;
            _ = &mut stuck => panic!("the server is silent"),
            () = setup.server.wait_for_silence() => {}
        }
        let waiting = async {
            let waiting = submit(&mailer, &[RECIPIENT]);
            let closing = async {
                while mailer.pool_status().waiting == 0 {
                    tokio::task::yield_now().await;
                }
                tokio::select! {
                    biased;
                    () = mailer.close() => {}
                    () = settle() => {}
                }
            };
            tokio::join!(waiting, closing).0
        };
        assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
    }
    settle().await;
}

/// Connections end for every reason there is.
async fn connections() {
    let setup = Setup::start().await;
    let one = |reuse: ConnectionReuse| {
        setup
            .builder(|server| server.max_connections(NonZeroU32::MIN).reuse(reuse))
            .authentication(issuing(setup.server.tokens(), 1800))
            .build()
            .unwrap()
    };
    let new = ConnectionReuse::new;
    let minute = Duration::from_secs(60);
    submit(&one(new().with_messages(NonZeroU32::new(1))), &[RECIPIENT]).await.unwrap();
    for (reuse, gone) in [(new().with_idle(minute), false), (new().with_age(minute), false), (new(), true)] {
        let mailer = one(reuse);
        submit(&mailer, &[RECIPIENT]).await.unwrap();
        match gone {
            true => setup.server.close_connections(None).await,
            false => setup.manual.advance(minute),
        }
        settle().await;
        submit(&mailer, &[RECIPIENT]).await.unwrap();
        mailer.verify().await.unwrap();
    }
    settle().await;
}

/// Tokens that are refreshed in vain, asked for again, and signed for by a secret that expires.
async fn tokens(secrets: &mut Vec<String>) {
    let manual = ManualClock::new();
    let entra = FakeEntra::builder().clock(manual.clock()).client_secret(SECRET).start().await;
    let expiring = |days| {
        let at = manual.clock().now() + time::Duration::days(days);
        entra.app().client_secret(ClientSecret::new(SECRET).with_expires_at(at)).build().unwrap()
    };
    expiring(-1);
    let cache = expiring(20).refresh_token(entra.store());
    entra.fail_next(1, TokenFault::ServerError500);
    let step = Duration::from_millis(50);
    manual.advance_until(step, cache.token(TokenRequest::new())).await.unwrap();
    manual.advance(Duration::from_secs(73 * 60));
    entra.fail_next(1, TokenFault::ThrottledWithRetryAfter(Duration::from_secs(60)));
    cache.token(TokenRequest::new()).await.unwrap();
    secrets.extend(entra.tokens().all());
    secrets.extend(entra.refresh_tokens());
    secrets.push(SECRET.to_owned());
}

/// A mailbox at its limit, a server that says that it is too much, and a fleet's count that cannot be had.
async fn limits() {
    let setup = Setup::start().await;
    let a_minute = SendingLimits::new().with_messages_per_minute(NonZeroU32::new(1));
    let builder = setup.builder(|server| server.limits(a_minute)).shared_limits(BrokenLimits);
    let mailer = builder.authentication(issuing(setup.server.tokens(), 100)).build().unwrap();
    submit(&mailer, &[RECIPIENT]).await.unwrap();
    setup.server.inject(At::Body, Fault::reply("432 4.3.2 Concurrent connections limit exceeded."));
    let moving = async {
        settle().await;
        setup.manual.advance(Duration::from_secs(61));
    };
    tokio::join!(submit(&mailer, &[RECIPIENT]), moving).0.unwrap_err();
}

/// Everything that can happen to a submission; returns the secrets that were about.
async fn everything() -> Vec<String> {
    let mut secrets = vec![WRONG_PASSWORD.to_owned(), MARKER.to_owned()];
    sends(&mut secrets).await;
    failures().await;
    detours().await;
    connections().await;
    tokens(&mut secrets).await;
    limits().await;
    settle().await;
    secrets
}

/// What can be compared of a span, an event or a metric: all but its name.
type Row = (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>);
type Listed = BTreeMap<String, Row>;

const DOCUMENT: &str = include_str!("../docs/observability.md");

/// The table under a heading: the cells of each row whose first one is a name.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words in backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn listed(heading: &str) -> Listed {
    let rows = table(heading).into_iter();
    let row = |cells: Vec<&str>| {
        let name = names(cells[0]).into_iter().next().unwrap();
        (name, (names(cells[1]), names(cells[2]), names(cells[3])))
    };
    rows.map(row).collect()
}

fn add(listed: &mut Listed, name: &str, first: &str, second: &str, third: impl Iterator<Item = String>) {
    let row = listed.entry(name.to_owned()).or_default();
    row.0.insert(first.to_owned());
    row.1.insert(second.to_owned());
    row.2.extend(third);
}

fn keys(fields: &Fields) -> impl Iterator<Item = String> {
    fields.keys().map(|name| (*name).to_owned())
}

#[track_caller]
fn assert_same(told: &Listed, heading: &str) {
    let documented = listed(heading);
    let name_of = |listed: &Listed| listed.keys().cloned().collect::<Vec<_>>();
    assert_eq!(name_of(told), name_of(&documented), "{heading}: told, documented");
    for (name, row) in told {
        assert_eq!(row, &documented[name], "{heading}, {name}: told, documented");
    }
}

#[test]
fn what_is_told_is_what_the_documentation_lists() {
    watched(|Watch { collector, metrics }| async move {
        everything().await;
        let (mut spans, mut events, mut found) = (Listed::new(), Listed::new(), Listed::new());
        for span in collector.spans() {
            add(&mut spans, span.name, span.level.as_str(), span.target, keys(&span.fields));
        }
        for event in collector.events() {
            assert!(!event.message.is_empty(), "{event:?}");
            add(&mut events, event.name, event.level.as_str(), event.target, keys(&event.fields));
        }
        let mut values = BTreeMap::<_, BTreeSet<_>>::new();
        for (key, unit, description, value) in metrics.snapshot().into_vec() {
            let key = key.key();
            assert!(description.is_some(), "{key}");
            let kind = match value {
                DebugValue::Counter(_) => "counter",
                DebugValue::Gauge(_) => "gauge",
                DebugValue::Histogram(_) => "histogram",
            };
            let unit = unit.unwrap_or_else(|| panic!("{key} has no unit"));
            let labels = key.labels().map(|label| label.key().to_owned());
            add(&mut found, key.name(), kind, unit.as_str(), labels);
            for label in key.labels() {
                values.entry(label.key().to_owned()).or_default().insert(label.value().to_owned());
            }
        }
        assert_same(&spans, "Spans");
        assert_same(&events, "Events");
        assert_same(&found, "Metrics");
        let labels = table("Labels").into_iter().map(|cells| {
            let [name] = <[String; 1]>::try_from(names(cells[0]).into_iter().collect::<Vec<_>>()).unwrap();
            (name, names(cells[1]))
        });
        let labels: BTreeMap<_, _> = labels.collect();
        assert_eq!(values.keys().collect::<Vec<_>>(), labels.keys().collect::<Vec<_>>());
        for (label, mut documented) in labels {
            documented.insert(String::new());
            let unknown: Vec<_> = values[&label].difference(&documented).collect();
            let is_free = label == "server_address" || label == "client_id";
            assert!(is_free || unknown.is_empty(), "{label}: {unknown:?}");
            if ["phase", "reason", "state"].contains(&label.as_str()) {
                documented.remove("");
                assert_eq!(values[&label], documented, "{label}: told, documented");
            }
        }
    });
}

/// Where an e-mail address may be: only below `info`.
const ADDRESSES: [&str; 3] = ["smtp_oauth.username", "smtp_oauth.recipient", "smtp_oauth.message.id"];

#[test]
fn no_secret_and_no_text_is_told_at_any_level_and_no_address_above_debug() {
    watched(|Watch { collector, metrics }| async move {
        let secrets = everything().await;
        let (spans, events) = (collector.spans(), collector.events());
        let fields = spans.iter().flat_map(|span| span.fields.iter().map(|field| (span.level, field)));
        let more = events.iter().flat_map(|event| event.fields.iter().map(|field| (event.level, field)));
        let mut addresses = 0;
        for (level, (name, value)) in fields.chain(more) {
            for secret in &secrets {
                assert!(
                    !value.contains(secret) && (value.len() < 12 || !secret.contains(value.as_str())),
                    "{name}: {value}"
                );
            }
            if value.contains('@') {
                addresses += 1;
                assert!(level >= Level::DEBUG && ADDRESSES.contains(name), "{level} {name}: {value}");
            }
        }
        assert!(addresses > 10, "the search finds addresses where they may be");
        let errors: Vec<_> = events.iter().filter_map(|event| event.fields.get("error")).collect();
        assert!(errors.iter().any(|error| error.contains("<[address]>")), "{errors:#?}");
        for event in &events {
            assert!(!event.message.contains('@') && !event.message.contains(MARKER), "{event:?}");
        }
        for (key, ..) in metrics.snapshot().into_vec() {
            let labels = key.key().labels().map(metrics::Label::value).collect::<String>();
            assert!(
                !labels.contains('@') && !secrets.iter().any(|secret| labels.contains(secret)),
                "{key:?}"
            );
        }
    });
}

#[test]
fn every_span_ends_and_every_connection_is_counted_down() {
    watched(|Watch { collector, metrics }| async move {
        everything().await;
        assert_eq!(collector.open_spans(), Vec::<&str>::new());
        let (mut opened, mut closed) = (0, 0);
        for (key, _, _, value) in metrics.snapshot().into_vec() {
            match (key.key().name(), value) {
                ("smtp_oauth_connections", value) => {
                    assert_eq!(value, DebugValue::Gauge(0.0.into()), "{key:?}");
                }
                ("smtp_oauth_connections_opened_total", DebugValue::Counter(count)) => opened += count,
                ("smtp_oauth_connections_closed_total", DebugValue::Counter(count)) => closed += count,
                _ => {}
            }
        }
        assert!(opened > 10);
        assert_eq!(opened, closed);
    });
}

#[test]
fn the_spans_of_a_submission_are_a_tree_and_the_token_request_follows_from_it() {
    watched(|Watch { collector, .. }| async move {
        let tenant = FakeMicrosoft365::start().await;
        let mailer = tenant.mailer();
        submit(&mailer, &[RECIPIENT]).await.unwrap();
        let expected = [
            ("submission", None),
            ("turn", Some("submission")),
            ("checkout", Some("submission")),
            ("connect", Some("checkout")),
            ("token", Some("checkout")),
            ("token_request", None),
            ("token_store", Some("token_request")),
            ("token_exchange", Some("token_request")),
            ("auth", Some("checkout")),
            ("transaction", Some("submission")),
        ];
        for (name, parent) in expected {
            assert_eq!(collector.span(name).parent, parent, "{name}");
        }
        assert_eq!(collector.span("token_request").follows, ["token"]);
        let count = |name| collector.spans().iter().filter(|span| span.name == name).count();
        assert_eq!(count("token_request"), 1, "the cache before the app's cache adds none of its own");
        let phases: BTreeSet<_> = collector
            .spans()
            .into_iter()
            .filter(|span| span.name == "phase")
            .map(|span| (span.parent.unwrap(), span.fields["smtp_oauth.phase"].clone()))
            .collect();
        let phases: Vec<_> = phases.iter().map(|(parent, phase)| (*parent, phase.as_str())).collect();
        let in_connect =
            ["connect", "ehlo", "greeting", "resolve", "starttls", "tls"].map(|name| ("connect", name));
        let in_transaction = ["body", "final_reply", "mail"].map(|name| ("transaction", name));
        assert_eq!(phases, [&[("auth", "auth")][..], &in_connect, &in_transaction].concat());
        let submission = collector.span("submission").fields;
        assert_eq!(submission["server.address"], tenant.exchange().host());
        assert_eq!(submission["server.port"], tenant.exchange().port().to_string());
        assert_eq!(submission["smtp_oauth.recipients.accepted"], "1");
        assert!(!submission.contains_key("error.type"), "{submission:?}");
        assert_eq!(collector.span("connect").fields["tls.protocol.version"], "1.3");
        // A warning in the middle would be no news to anybody: all went well.
        assert!(collector.at_least(Level::INFO).is_empty(), "{:#?}", collector.at_least(Level::INFO));
        // The connection is idle, and holds nobody's span.
        assert_eq!(mailer.pool_status().idle, 1);
        assert_eq!(collector.open_spans(), Vec::<&str>::new());
    });
}

#[test]
fn each_failure_is_told_once_and_loudly_only_where_somebody_must_act() {
    watched(|Watch { collector, .. }| async move {
        let seen = failures().await;
        let told: Vec<_> = collector
            .at_least(Level::WARN)
            .into_iter()
            .filter(|event| event.name == "submission_failed")
            .collect();
        let expected = [
            (Level::WARN, "retry", ErrorKind::ServerUnavailable),
            (Level::WARN, "indeterminate", ErrorKind::Indeterminate),
            (Level::WARN, "fix_message", ErrorKind::RecipientsRefused),
            (Level::ERROR, "fix_configuration", ErrorKind::AuthenticationRefused),
            (Level::ERROR, "reauthenticate", ErrorKind::SignInRequired),
        ];
        for (((level, disposition, kind), event), (seen_disposition, seen_kind)) in
            expected.into_iter().zip(&told).zip(seen)
        {
            assert_eq!((kind, disposition), (seen_kind, seen_disposition.name()));
            let fields = &event.fields;
            assert_eq!(
                (event.level, fields["smtp_oauth.disposition"].as_str()),
                (level, disposition),
                "{event:?}"
            );
            assert_eq!(fields["error.type"], kind.name());
            assert_eq!(event.within, ["submission"]);
        }
        let submissions: Vec<_> =
            collector.spans().into_iter().filter(|span| span.name == "submission").collect();
        assert_eq!(submissions.len(), told.len(), "one event for each");
        for (span, event) in submissions.iter().zip(&told) {
            assert_eq!(span.fields["error.type"], event.fields["error.type"]);
            assert_eq!(span.fields["otel.status_code"], "ERROR");
        }
        assert_eq!(told[0].fields["smtp_oauth.reply.code"], "451");
        assert_eq!(told[0].fields["smtp_oauth.reply.enhanced"], "4.7.0");
        let louder = collector.at_least(Level::WARN);
        assert_eq!(louder.len(), told.len(), "nothing is told twice: {louder:#?}");
    });
}

/// The value of a counter, or the number of values of a histogram, with these labels among others.
fn count(snapshotter: &Snapshotter, wanted: &[(&str, &[(&str, &str)])]) -> Vec<u64> {
    let snapshot = snapshotter.snapshot().into_vec();
    let counted = wanted.iter().map(|(name, labels)| {
        let fits = |key: &metrics::Key| {
            let has =
                |wanted: &(&str, &str)| key.labels().any(|label| (label.key(), label.value()) == *wanted);
            key.name() == *name && labels.iter().all(has)
        };
        let values = snapshot.iter().filter(|(key, ..)| fits(key.key())).map(|(.., value)| match value {
            DebugValue::Counter(count) => *count,
            DebugValue::Gauge(value) => value.into_inner() as u64,
            DebugValue::Histogram(values) => values.len() as u64,
        });
        values.sum()
    });
    counted.collect()
}

#[test]
fn submissions_connections_and_tokens_are_counted() {
    watched(|Watch { metrics, .. }| async move {
        let setup = Setup::start().await;
        let mailer = setup.mailer();
        setup.server.refuse_recipient("gone@example.com", "550 5.1.1 no such user");
        for recipients in [&[RECIPIENT][..], &[RECIPIENT, "gone@example.com"], &["gone@example.com"]] {
            let _ = submit(&mailer, recipients).await;
        }
        let counted = count(
            &metrics,
            &[
                ("smtp_oauth_submissions_total", &[("outcome", "accepted"), ("error_type", "")]),
                ("smtp_oauth_submissions_total", &[("outcome", "partly_accepted")]),
                ("smtp_oauth_submissions_total", &[("error_type", "recipients_refused")]),
                ("smtp_oauth_recipients_total", &[("outcome", "accepted")]),
                ("smtp_oauth_recipients_total", &[("outcome", "refused")]),
                ("smtp_oauth_submission_duration_seconds", &[]),
                ("smtp_oauth_message_size_bytes", &[]),
                ("smtp_oauth_queue_wait_seconds", &[]),
                ("smtp_oauth_connections_opened_total", &[]),
                ("smtp_oauth_connections_reused_total", &[("server_address", setup.server.host())]),
                ("smtp_oauth_connections", &[("state", "idle")]),
                ("smtp_oauth_connections", &[("state", "in_use")]),
                ("smtp_oauth_token_requests_total", &[("outcome", "ok")]),
                ("smtp_oauth_phase_duration_seconds", &[("phase", "transaction")]),
            ],
        );
        assert_eq!(counted, [1, 1, 1, 2, 2, 3, 3, 3, 1, 2, 1, 0, 1, 2]);
    });
}

#[test]
fn durations_are_those_of_the_clock() {
    watched(|Watch { metrics, .. }| async move {
        let setup = Setup::start().await;
        let mailer = setup.mailer();
        setup.server.inject(At::Body, Fault::Silence);
        let submission = submit(&mailer, &[RECIPIENT]);
        let moving = async {
            setup.server.wait_for_silence().await;
            setup.manual.advance(HOUR);
        };
        tokio::join!(submission, moving).0.unwrap_err();
        let snapshot = metrics.snapshot().into_vec();
        let took = snapshot.into_iter().find_map(|(key, _, _, value)| match value {
            DebugValue::Histogram(values) if key.key().name() == "smtp_oauth_submission_duration_seconds" => {
                Some(values[0].into_inner())
            }
            _ => None,
        });
        assert_eq!(took, Some(3600.0));
    });
}

#[test]
fn mailboxes_that_wait_for_the_cap_are_seen_to_wait() {
    watched(|Watch { collector, metrics }| async move {
        let manual = ManualClock::new();
        let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
        tenant.grant_access("a@contoso.com");
        let app = tenant.entra().app().build().unwrap();
        let mailers = Mailers::builder(tenant.server().build().unwrap())
            .authentication(Authentication::oauth(app.client_credentials()))
            .max_connections_total(NonZeroU32::MIN)
            .clock(manual.clock())
            .build()
            .unwrap();
        let (first, second) =
            (mailers.mailbox(tenant.account()).unwrap(), mailers.mailbox("a@contoso.com").unwrap());
        tenant.exchange().inject(At::Body, Fault::Silence);
        let moving = async {
            tenant.exchange().wait_for_silence().await;
            while mailers.status().waiting == 0 {
                tokio::task::yield_now().await;
            }
            manual.advance(Duration::from_secs(60));
            tenant.exchange().close_connections(None).await;
        };
        let (lost, sent, ()) =
            tokio::join!(submit(&first, &[RECIPIENT]), submit(&second, &[RECIPIENT]), moving);
        assert_eq!((lost.unwrap_err().kind(), sent.unwrap().accepted().len()), (ErrorKind::Indeterminate, 1));
        let snapshot = metrics.snapshot().into_vec();
        let waits = snapshot.into_iter().find_map(|(key, _, _, value)| match value {
            DebugValue::Histogram(values) if key.key().name() == "smtp_oauth_queue_wait_seconds" => {
                Some(values)
            }
            _ => None,
        });
        let waits = waits.unwrap();
        assert!(waits.iter().any(|wait| **wait == 60.0), "{waits:?}");
        let parents =
            collector.spans().into_iter().filter(|span| span.name == "turn").map(|span| span.parent);
        assert_eq!(parents.collect::<Vec<_>>(), [Some("submission"), Some("submission"), Some("checkout")]);
    });
}

#[test]
fn a_mailbox_at_its_limit_says_so_once_a_minute() {
    watched(|Watch { collector, metrics }| async move {
        let setup = Setup::start().await;
        let limits = SendingLimits::new().with_messages_per_minute(NonZeroU32::new(10));
        let builder = setup.builder(|server| server.limits(limits));
        let mailer = builder.authentication(issuing(setup.server.tokens(), 100)).build().unwrap();
        for _ in 0..40 {
            setup.manual.advance_until(Duration::from_secs(1), submit(&mailer, &[RECIPIENT])).await.unwrap();
        }
        let told: Vec<EventTold> = collector.at_least(Level::WARN);
        assert!(told.iter().all(|event| event.name == "limit_reached"), "{told:#?}");
        assert!((2..=4).contains(&told.len()), "{told:#?}");
        let waits = count(&metrics, &[("smtp_oauth_limit_wait_seconds", &[])])[0];
        assert!(waits >= told.len() as u64, "{waits}");
    });
}

#[test]
fn a_token_request_outlives_the_submission_that_caused_it_and_keeps_no_span_of_it_open() {
    watched(|Watch { collector, .. }| async move {
        let setup = Setup::start().await;
        let (asked, answer) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let tokens = setup.server.tokens().clone();
        let provider = smtp_oauth::token::from_fn({
            let (asked, answer) = (asked.clone(), answer.clone());
            move || {
                let (asked, answer, tokens) = (asked.clone(), answer.clone(), tokens.clone());
                async move {
                    asked.notify_one();
                    answer.notified().await;
                    Ok(tokens.issue_access_token(ACCOUNT, HOUR, 100))
                }
            }
        });
        let mailer =
            setup.builder(|server| server).authentication(Authentication::oauth(provider)).build().unwrap();
        tokio::select! {
            biased;
            _ = submit(&mailer, &[RECIPIENT]) => panic!("there is no token yet"),
            () = asked.notified() => {}
        }
        assert_eq!(collector.open_spans(), ["token_request"]);
        assert_eq!(collector.events().last().unwrap().name, "submission_cancelled");
        answer.notify_one();
        until(|| collector.open_spans().is_empty()).await;
        assert!(collector.span("token_request").fields["smtp_oauth.token.validity"].starts_with("3600"));
    });
}

/// A stream of messages that are there already.
struct Queue(Vec<Message>);

impl Stream for Queue {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Message>> {
        Poll::Ready(self.0.pop())
    }
}

#[test]
fn the_submissions_of_a_batch_are_children_of_the_span_that_polls_it() {
    watched(|Watch { collector, .. }| async move {
        let setup = Setup::start().await;
        let mailer = setup.mailer();
        let span = tracing::info_span!(target: "smtp_oauth_test", "nightly_run");
        let mut batch = mailer.submit_all(Queue(vec![message(), message()]));
        tracing::Instrument::instrument(async { while batch.next().await.is_some() {} }, span).await;
        let submissions = collector.spans().into_iter().filter(|span| span.name == "submission");
        let parents: Vec<_> = submissions.map(|span| span.parent).collect();
        assert_eq!(parents, [Some("nightly_run"); 2]);
    });
}

#[test]
fn messages_that_overlap_are_told_and_counted_as_others_are() {
    for chunking in [Chunking::Auto, Chunking::Off] {
        watched(|Watch { collector, metrics }| async move {
            let setup = Setup::start().await;
            setup.server.refuse_recipient("gone@example.com", "550 5.1.1 no such user");
            let config = |server: ServerBuilder<MailServerConfig>| {
                server.max_connections(NonZeroU32::MIN).chunking(chunking)
            };
            let builder = setup.builder(config).authentication(issuing(setup.server.tokens(), 1800));
            let mailer = builder.build().unwrap();
            let mut messages = vec![message(); 6];
            messages.push(
                Message::builder()
                    .from(ACCOUNT.parse().unwrap())
                    .to("gone@example.com".parse().unwrap())
                    .body(String::new())
                    .unwrap(),
            );
            let mut batch = mailer.submit_all(Queue(messages)).overlap(NonZeroU32::new(3).unwrap());
            while batch.next().await.is_some() {}
            let counted = count(
                &metrics,
                &[
                    ("smtp_oauth_submissions_total", &[("outcome", "accepted")]),
                    ("smtp_oauth_submissions_total", &[("error_type", "recipients_refused")]),
                    ("smtp_oauth_queue_wait_seconds", &[]),
                    ("smtp_oauth_connections_opened_total", &[]),
                    ("smtp_oauth_connections_reused_total", &[]),
                    ("smtp_oauth_connections", &[("state", "idle")]),
                    ("smtp_oauth_connections", &[("state", "in_use")]),
                    ("smtp_oauth_phase_duration_seconds", &[("phase", "transaction")]),
                ],
            );
            assert_eq!(counted, [6, 1, 7, 1, 6, 1, 0, 6], "{chunking:?}");
            for name in ["turn", "checkout", "transaction"] {
                let spans = collector.spans().into_iter().filter(|span| span.name == name);
                let parents: Vec<_> = spans.map(|span| span.parent).collect();
                assert_eq!(parents, [Some("submission"); 7], "{name}, {chunking:?}");
            }
            assert_eq!(collector.open_spans(), Vec::<&str>::new());
        });
    }
}

#[test]
fn names_of_kinds_and_phases_are_one_word_each_and_documented() {
    let phases = [Phase::StartTls, Phase::FinalReply, Phase::Chunk, Phase::Token];
    let kinds = [ErrorKind::StartTlsUnavailable, ErrorKind::Indeterminate, ErrorKind::InsideRuntime];
    for name in phases.iter().map(|phase| phase.name()).chain(kinds.iter().map(|kind| kind.name())) {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(DOCUMENT.contains(&format!("`{name}`")), "{name} is not in docs/observability.md");
    }
}
