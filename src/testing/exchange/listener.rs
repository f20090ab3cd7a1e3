//! Accepts connections and gives each a task of its own; ends them all when it is dropped. Knows no SMTP.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fault::Script;
use super::record::Record;
use super::session::{Session, Settings};
use super::wire::Wire;

/// What a new session is made from.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) settings: Arc<Settings>,
    pub(super) script: Arc<Script>,
    pub(super) record: Arc<Record>,
}

/// The order to close all sessions, with a last reply to send; `None` until it is given.
pub(super) type Closing = Option<Arc<str>>;

impl Listener {
    pub(super) async fn run(self, socket: TcpListener, closing: watch::Receiver<Closing>) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => if let Ok((stream, _)) = accepted {
                    let mut closing = closing.clone();
                    closing.mark_unchanged(); // An order given earlier does not concern this session.
                    sessions.spawn(self.clone().session(stream, closing));
                },
                // Sessions that are over are taken out of the set.
                Some(_) = sessions.join_next() => {}
            }
        }
    }

    async fn session(self, stream: TcpStream, mut closing: watch::Receiver<Closing>) {
        stream.set_nodelay(true).expect("the socket is open");
        let entry = self.record.open();
        let wire = Wire::new(stream, entry.flights());
        let mut session = Session::new(wire, entry, self.settings, self.script);
        tokio::select! {
            biased;
            _ = session.run() => return,
            changed = closing.changed() => if changed.is_err() {
                return;
            },
        }
        let last = closing.borrow().clone();
        session.wire.reply(&last.unwrap_or_default());
        session.wire.close().await;
    }
}
