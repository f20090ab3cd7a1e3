//! A whole session with a server that says random things: no panic, no end of waiting, no false outcome, no secret told.
//!
//! The first octet of an input chooses the settings. The rest, parted by 0xFF, are the server's replies one after the other
//! (see [`Step::parse`]), on as many connections as the client opens for two messages.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error as _;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::ManualClock;
use smtp_oauth::{
    AccessToken, Authentication, Chunking, Clock, Disposition, Dsn, Error, MailServerConfig, Mailer,
    RecipientPolicy, RetryPolicy, Submission, SubmitOptions, Tls, token,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::server::{Certificate, Conversation, Encryption, Received, Server, Step};

pub const USERNAME: &str = "svc-mail@contoso.com";
pub const PASSWORD: &str = "correct-horse-battery-staple";
pub const TOKEN: &str = "EwB-a-token-that-nobody-should-ever-read-anywhere";
const MESSAGES: [&[u8]; 2] = [b"Subject: one\r\n\r\n.dot\r\n", b"Subject: two\n\nbare line feeds\n.\n"];

/// Real time after which a session is taken to hang: a thousand times what it needs.
const HANG: Duration = Duration::from_secs(10);

/// What one octet chooses.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub encryption: Encryption,
    pub chunking: bool,
    pub pipelining: bool,
    pub all_or_nothing: bool,
    pub recipients: usize,
    /// The token is too long for the AUTH line.
    pub long_token: bool,
}

impl Variant {
    pub fn of(octet: u8) -> Self {
        let bit = |at: u8| octet & (1 << at) != 0;
        Self {
            // Handshakes cost most of the time.
            encryption: match octet >> 5 {
                6 => Encryption::StartTls,
                7 => Encryption::Implicit,
                _ => Encryption::None,
            },
            chunking: bit(0),
            pipelining: !bit(1),
            all_or_nothing: bit(2),
            recipients: if bit(3) { 3 } else { 1 },
            long_token: bit(4),
        }
    }

    pub fn secret(self) -> &'static str {
        if self.encryption == Encryption::None { PASSWORD } else { TOKEN }
    }

    fn extensions(self) -> Vec<u8> {
        let mut reply = b"250-mail.example\r\n".to_vec();
        if self.chunking {
            reply.extend_from_slice(b"250-CHUNKING\r\n");
        }
        if self.pipelining {
            reply.extend_from_slice(b"250-PIPELINING\r\n");
        }
        reply.extend_from_slice(b"250-STARTTLS\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-SIZE 0\r\n");
        reply.extend_from_slice(b"250 AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER\r\n");
        reply
    }

    fn authentication(self) -> Authentication {
        if self.encryption == Encryption::None {
            return Authentication::basic(PASSWORD);
        }
        let length = if self.long_token { 20 } else { 1 };
        let secret = TOKEN.repeat(length);
        Authentication::oauth(token::from_fn(move || {
            let secret = secret.clone();
            let expires_at = ManualClock::new().clock().now() + Duration::from_secs(1 << 32);
            async move { AccessToken::new(secret, expires_at) }
        }))
    }
}

/// What is the same for every session of a thread.
struct Stage {
    runtime: Runtime,
    listener: TcpListener,
    certificate: Certificate,
    configs: RefCell<HashMap<(Tls, bool), MailServerConfig>>,
}

impl Stage {
    fn new() -> Self {
        // Every turn of the scheduler looks at the sockets, so that a standstill is seen soon.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        Self { runtime, listener, certificate: Certificate::new(), configs: RefCell::default() }
    }

    fn config(&self, variant: Variant) -> MailServerConfig {
        let (tls, host) = match variant.encryption {
            Encryption::None => (Tls::LoopbackPlaintext, "127.0.0.1"),
            Encryption::StartTls => (Tls::StartTls, "localhost"),
            Encryption::Implicit => (Tls::Implicit, "localhost"),
        };
        let mut configs = self.configs.borrow_mut();
        let config = configs.entry((tls, variant.chunking)).or_insert_with(|| {
            let builder = MailServerConfig::builder()
                .host(host)
                .port(self.listener.local_addr().unwrap().port())
                .tls(tls)
                .username(USERNAME)
                // The server talks to one client at a time.
                .max_connections(NonZeroU32::MIN)
                .chunking(if variant.chunking { Chunking::Auto } else { Chunking::Off })
                .extra_roots(self.certificate.root_pem.clone())
                .without_platform_roots();
            builder.build().unwrap()
        });
        config.clone()
    }
}

thread_local! {
    static STAGE: Stage = Stage::new();
}

/// Runs `work` against a server that says `steps`.
pub fn play<O>(
    variant: Variant,
    steps: Vec<Step>,
    work: impl AsyncFnOnce(&Mailer, Clock) -> O,
) -> (O, Server) {
    STAGE.with(|stage| {
        let clock = ManualClock::new();
        let mailer = Mailer::builder(stage.config(variant))
            .authentication(variant.authentication())
            .clock(clock.clock())
            .retry(RetryPolicy::never())
            .build()
            .unwrap();
        let mut server = Server::new(
            steps,
            variant.encryption,
            variant.extensions(),
            clock.clone(),
            vec![variant.secret().as_bytes()],
        );
        let gone = Notify::new();
        let client = async {
            let output = work(&mailer, clock.clock()).await;
            drop(mailer);
            gone.notify_one();
            output
        };
        let session =
            async { tokio::join!(client, server.serve(&stage.listener, &stage.certificate, &gone)).0 };
        let session = async { tokio::time::timeout(HANG, session).await };
        let output = stage.runtime.block_on(session).expect("the client or its connection hangs");
        (output, server)
    })
}

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let variant = Variant::of(*first);
    let steps: Vec<_> = rest.split(|octet| *octet == 0xFF).map(Step::parse).collect();
    let recipients = ["one@example.com", "two@example.com", "three@example.com"];
    let recipients = recipients[..variant.recipients].iter().map(|to| to.parse().unwrap());
    let envelope = Envelope::new(Some(USERNAME.parse().unwrap()), recipients.collect()).unwrap();
    let policy = match variant.all_or_nothing {
        true => RecipientPolicy::AllOrNothing,
        false => RecipientPolicy::AcceptSome,
    };
    let options = SubmitOptions::new().recipients(policy).dsn(Dsn::new().envelope_id("fuzz"));
    let (results, server) = play(variant, steps, async |mailer, _clock| {
        let mut results = Vec::new();
        for message in MESSAGES {
            results.push(mailer.submit_with(&envelope, message, &options).await);
        }
        results
    });
    for (message, result) in MESSAGES.iter().zip(&results) {
        if let Err(error) = result {
            tells_no_secret(error, variant.secret());
        }
        is_true(variant, &crlf(message), result, &server);
    }
}

/// Messages for a batch.
struct Messages(VecDeque<(Envelope, Vec<u8>)>);

impl Stream for Messages {
    type Item = (Envelope, Vec<u8>);

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// Checks one input with messages that overlap.
pub fn check_overlap(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let variant = Variant { pipelining: true, all_or_nothing: false, ..Variant::of(*first) };
    let steps: Vec<_> = rest.split(|octet| *octet == 0xFF).map(Step::parse).collect();
    let recipients = ["one@example.com", "two@example.com", "three@example.com"];
    let recipients = recipients[..variant.recipients].iter().map(|to| to.parse().unwrap());
    let envelope = Envelope::new(Some(USERNAME.parse().unwrap()), recipients.collect()).unwrap();
    let messages: Vec<_> = (0..6).map(|number| format!("Subject: {number}\n\n.dot\n").into_bytes()).collect();
    let (results, server) = play(variant, steps, async |mailer, _clock| {
        let source = messages.iter().map(|message| (envelope.clone(), message.clone())).collect();
        let mut batch = mailer.submit_all(Messages(source)).overlap(NonZeroU32::new(3).unwrap());
        let mut results = BTreeMap::new();
        while let Some((number, result)) = batch.next().await {
            results.insert(number, result);
        }
        results
    });
    assert_eq!(results.len(), messages.len());
    for (number, result) in &results {
        if let Err(error) = result {
            tells_no_secret(error, variant.secret());
        }
        let whole = crlf(&messages[*number]);
        let came = server.received.iter().any(|received| received.octets == whole);
        match result {
            // Lost with another message's replies, of which the server knows nothing.
            Err(error) if error.disposition() == Disposition::Indeterminate && came => {}
            _ => is_true(variant, &whole, result, &server),
        }
    }
}

/// A message as it must arrive.
pub fn crlf(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(message.len() + 2);
    let mut octets = message.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => drop(octets.next_if_eq(&b'\n')),
            b'\n' => {}
            _ => {
                lines.push(octet);
                continue;
            }
        }
        lines.extend_from_slice(b"\r\n");
    }
    if !lines.is_empty() && !lines.ends_with(b"\r\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Nothing a program prints or logs about a failure holds a secret, or steers a terminal.
pub fn tells_no_secret(error: &Error, secret: &str) {
    let mut shown = format!("{error}\n{error:?}\n{:?}\n{:?}", error.reply(), error.challenge());
    let remedy = error.remedy();
    shown += &format!("\n{remedy:?}\n{:?}\n{:?}", error.cause(), error.retry_after());
    let mut source = error.source();
    while let Some(cause) = source {
        shown += &format!("\n{cause}\n{cause:?}");
        source = cause.source();
    }
    assert!(!shown.contains(secret), "a secret is told: {shown}");
    let steers = |text: &str| text.chars().any(char::is_control);
    assert!(!steers(&error.to_string()), "control characters in {error:?}");
    assert!(!error.reply().is_some_and(|reply| steers(&reply.text())), "control characters in {error:?}");
    assert!(!error.challenge().is_some_and(steers), "control characters in {error:?}");
}

/// What the server can say about one message that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Accepted, for so many recipients.
    Accepted(usize),
    Refused,
    /// Nobody has said so that it could be understood.
    Open,
    /// The server contradicts itself: it accepts after a good-bye, or says nothing readable after one, or neither yes nor no
    /// to MAIL or every recipient. Or it says what a client may read or give up.
    Doubtful,
}

fn verdict(received: &Received, conversation: &Conversation) -> Verdict {
    let replies = conversation.said.replies();
    let code = |place: usize| replies.get(place).map(|(code, _)| *code);
    let is_positive = |place: &usize| code(*place).is_some_and(|code| code / 100 == 2);
    // RFC 5321 §3.8: a server that has said 421 closes, as a rule, and then accepts nothing any more.
    let closing = replies.iter().take(received.verdict).any(|(code, _)| *code == 421);
    let accepted = received.recipients.iter().filter(|place| is_positive(place)).count();
    // A message that has nowhere to go is refused, whatever is said about it.
    let nobody = received.recipients.iter().all(|place| code(*place).is_some_and(|code| code / 100 != 2));
    let refused = |code: u16| matches!(code, 400..600);
    let certainly = code(received.mail).is_some_and(refused)
        || received.recipients.iter().all(|place| code(*place).is_some_and(refused));
    let nobody = nobody || code(received.mail).is_some_and(|code| code / 100 != 2);
    match code(received.verdict) {
        // What was refused stays refused, whatever is said behind it, or not.
        _ if certainly => Verdict::Refused,
        None if closing && conversation.said.is_garbled() => Verdict::Doubtful,
        None if conversation.said.is_excessive() => Verdict::Doubtful,
        None if nobody && !closing => Verdict::Doubtful,
        // Silent behind its good-bye, it may yet go on.
        None if closing && !nobody && !conversation.left => Verdict::Open,
        Some(200..300) if closing && !nobody => Verdict::Doubtful,
        _ if closing || nobody => Verdict::Refused,
        None => Verdict::Open,
        Some(200..300) => Verdict::Accepted(accepted),
        Some(400..600) => Verdict::Refused,
        Some(_) => Verdict::Open,
    }
}

/// The outcome agrees with what the server knows.
fn is_true(variant: Variant, message: &[u8], result: &Result<Submission, Error>, server: &Server) {
    let whole = server.received.iter().filter(|received| received.octets == message);
    let verdicts: Vec<_> =
        whole.map(|received| verdict(received, &server.conversations[received.connection])).collect();
    let accepted: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| if let Verdict::Accepted(count) = verdict { Some(*count) } else { None })
        .collect();
    let context = || {
        let said: Vec<_> = server
            .conversations
            .iter()
            .map(|conversation| {
                let commands: Vec<_> =
                    conversation.commands.iter().map(|line| line.escape_ascii().to_string()).collect();
                format!("{commands:#?} {:?} left: {}", conversation.said, conversation.left)
            })
            .collect();
        format!("{variant:?}\n{result:?}\n{verdicts:?}\n{}", said.join("\n"))
    };
    if !server.conversations.iter().all(|conversation| conversation.said.is_orderly()) {
        // Replies out of turn cannot be told from others once both are on their way; what came early can.
        let fooled = server.conversations.iter().any(Conversation::said_all_before_the_message);
        let unheard = !variant.chunking && verdicts.is_empty();
        assert!(!(result.is_ok() && fooled && unheard), "accepted before it was sent\n{}", context());
        return;
    }
    match result {
        _ if verdicts.contains(&Verdict::Doubtful) => {}
        Ok(submission) => {
            // A submission may be split over several transactions, each with a part of the recipients.
            let count: usize = accepted.iter().sum();
            assert!(count > 0, "not accepted by the server\n{}", context());
            assert_eq!(count, submission.accepted().len(), "accepted for others\n{}", context());
            assert_eq!(submission.accepted().len() + submission.refused().len(), variant.recipients);
        }
        Err(error) if error.disposition() == Disposition::Indeterminate => {
            let may_have_it = verdicts.contains(&Verdict::Open)
                || server.conversations.iter().any(|conversation| conversation.left);
            assert!(may_have_it, "the outcome is certain\n{}", context());
        }
        Err(_) => {
            assert!(accepted.is_empty(), "accepted by the server\n{}", context());
            assert!(!verdicts.contains(&Verdict::Open), "the outcome is not certain\n{}", context());
        }
    }
}

impl Conversation {
    /// The verdict on a message was said in one breath with the leave to send it.
    fn said_all_before_the_message(&self) -> bool {
        let replies = self.said.replies();
        self.data.iter().any(|due| match (replies.get(*due), replies.get(due + 1)) {
            (Some((354, leave)), Some((_, verdict))) => leave == verdict,
            _ => false,
        })
    }
}
