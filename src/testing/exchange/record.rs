//! What a fake server saw: connections, commands, sign-ins, messages. Decides nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

/// A message that the server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedMessage {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// The account that had signed in.
    pub user: Option<String>,
    /// The reverse-path, without angle brackets.
    pub from: String,
    /// The parameters of MAIL, such as `SIZE=1024`.
    pub mail_parameters: Vec<String>,
    /// The accepted recipients.
    pub recipients: Vec<ReceivedRecipient>,
    /// The command that carried the body.
    pub body_command: BodyCommand,
    /// The octets of the body, dots unstuffed, nothing else touched.
    pub body: Vec<u8>,
}

impl ReceivedMessage {
    /// Returns the addresses of the accepted recipients.
    pub fn recipient_addresses(&self) -> Vec<&str> {
        self.recipients.iter().map(|recipient| recipient.address.as_str()).collect()
    }
}

/// A recipient that the server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedRecipient {
    /// The forward-path, without angle brackets.
    pub address: String,
    /// The parameters of RCPT, such as `NOTIFY=NEVER`.
    pub parameters: Vec<String>,
}

/// The command that carried a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyCommand {
    /// DATA (RFC 5321).
    Data,
    /// BDAT (RFC 3030).
    Bdat,
}

/// One AUTH command that ran to its final reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthAttempt {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// The mechanism, in upper case.
    pub mechanism: String,
    /// The user name, if the message could be read.
    pub user: Option<String>,
    /// The token or password, if the message could be read.
    pub secret: Option<String>,
    /// Whether the first message came in the AUTH line (RFC 4954 §4).
    pub initial_response: bool,
    /// Whether the final reply was positive.
    pub accepted: bool,
}

/// How a TLS handshake went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// With certificates.
    Full,
    /// From a session of an earlier connection.
    Resumed,
    /// Not to its end, for this reason.
    Failed(String),
}

/// Numbers of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Accepted since the server started.
    pub total: usize,
    /// Open now.
    pub open: usize,
    /// Open at the same time, at most.
    pub peak: usize,
}

impl ConnectionCounts {
    fn open(&mut self) {
        self.total += 1;
        self.open += 1;
        self.peak = self.peak.max(self.open);
    }
}

/// One connection and what came over it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionRecord {
    /// The number of the connection, from 1.
    pub number: usize,
    /// Whether the connection is open now.
    pub open: bool,
    /// The TLS handshake, if there was one.
    pub handshake: Option<Handshake>,
    /// The account that signed in.
    pub user: Option<String>,
    /// The turns of the client after the greeting, each of them a round trip; see `FakeExchange::flights`.
    pub flights: usize,
    /// The command lines, secrets redacted.
    pub commands: Vec<String>,
}

/// The record of a server, shared by its sessions.
#[derive(Debug)]
pub(super) struct Record {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    keeps: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) messages: Vec<ReceivedMessage>,
    pub(super) message_count: usize,
    pub(super) attempts: Vec<AuthAttempt>,
    pub(super) silences: usize,
    pub(super) counts: ConnectionCounts,
    /// By the user that signed in, in lower case.
    pub(super) users: HashMap<String, ConnectionCounts>,
    sessions: Vec<(SessionRecord, Arc<AtomicUsize>)>,
    commands: Vec<(usize, String)>,
}

impl State {
    pub(super) fn is_over_up_to(&self, number: usize) -> bool {
        self.sessions.iter().take(number).all(|(session, _)| !session.open)
    }
}

impl Record {
    pub(super) fn new(keeps: bool) -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), keeps }
    }

    /// Notes a new connection; it counts as open until the entry is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Entry {
        let mut state = self.state();
        state.counts.open();
        let number = state.counts.total;
        let flights = Arc::<AtomicUsize>::default();
        let session = SessionRecord {
            number,
            open: true,
            handshake: None,
            user: None,
            flights: 0,
            commands: Vec::new(),
        };
        state.sessions.push((session, flights.clone()));
        drop(state);
        self.changed.send_replace(());
        Entry { record: self.clone(), number, flights }
    }

    pub(super) fn sessions(&self) -> Vec<SessionRecord> {
        let state = self.state();
        let mut sessions: Vec<_> = state
            .sessions
            .iter()
            .map(|(session, flights)| SessionRecord {
                flights: flights.load(Ordering::SeqCst),
                ..session.clone()
            })
            .collect();
        for (number, line) in &state.commands {
            sessions[number - 1].commands.push(line.clone());
        }
        sessions
    }

    pub(super) fn transcript(&self) -> Vec<String> {
        self.state().commands.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Waits until the record satisfies `condition`.
    pub(super) async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(&self.state()) {
            changed.changed().await.expect("the sender lives in `self`");
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }
}

/// The part of the record that one connection writes.
#[derive(Debug)]
pub(super) struct Entry {
    record: Arc<Record>,
    number: usize,
    flights: Arc<AtomicUsize>,
}

impl Entry {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn flights(&self) -> Arc<AtomicUsize> {
        self.flights.clone()
    }

    pub(super) fn command(&self, line: impl FnOnce() -> String) {
        if self.record.keeps {
            self.record.state().commands.push((self.number, line()));
        }
    }

    pub(super) fn handshake(&self, handshake: Handshake) {
        self.session(|session| session.handshake = Some(handshake));
    }

    pub(super) fn attempt(&self, attempt: AuthAttempt) {
        self.record.change(|state| {
            if let Some(user) = attempt.user.as_ref().filter(|_| attempt.accepted) {
                state.users.entry(user.to_lowercase()).or_default().open();
                state.sessions[self.number - 1].0.user = Some(user.clone());
            }
            state.attempts.push(attempt);
        });
    }

    pub(super) fn message(&self, message: ReceivedMessage) {
        let keeps = self.record.keeps;
        self.record.change(|state| {
            state.message_count += 1;
            if keeps {
                state.messages.push(message);
            }
        });
    }

    pub(super) fn silence(&self) {
        self.record.change(|state| state.silences += 1);
    }

    fn session(&self, change: impl FnOnce(&mut SessionRecord)) {
        self.record.change(|state| change(&mut state.sessions[self.number - 1].0));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.record.change(|state| {
            let session = &mut state.sessions[self.number - 1].0;
            session.open = false;
            let user = session.user.as_ref().map(|user| user.to_lowercase());
            state.counts.open -= 1;
            if let Some(counts) = user.and_then(|user| state.users.get_mut(&user)) {
                counts.open -= 1;
            }
        });
    }
}
