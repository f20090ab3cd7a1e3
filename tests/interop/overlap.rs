//! Messages that overlap on one connection (RFC 2920, RFC 3030 §4.2), and those among them that are refused.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::{Error, ErrorKind};

use crate::client::{Issuer, Way, assert_one_session_each_way, envelope, mailer_with, note, settings};
use crate::stream::Items;
use crate::{ASSISTANT, BOSS, Limits, Servers, Service};

const MESSAGES: usize = 60;

/// Among many to `recipient`: one from a sender that is not ours, one with content that is refused, one that is large, and
/// one of whose recipients there is none.
fn messages(recipient: &str) -> Vec<(Envelope, Vec<u8>)> {
    let numbered = |number: usize| (envelope([recipient]), note(&number.to_string()));
    let mut messages: Vec<_> = (0..MESSAGES).map(numbered).collect();
    let to = vec![format!("{recipient}@example.test").parse().unwrap()];
    messages[20].0 = Envelope::new(Some(ASSISTANT.parse().unwrap()), to).unwrap();
    messages[33].1 = note("refuse this content");
    messages[40].1 = [note("40"), b"....0123456789\r\n".repeat(10_000)].concat();
    messages
}

#[tokio::test]
async fn each_is_delivered_once_and_what_is_refused_touches_no_other() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    servers.tokens().accept("a-good-token", BOSS);
    for way in Way::ALL {
        let config = settings(&servers, way.service).chunking(way.chunking).max_connections(NonZeroU32::MIN);
        let mailer = mailer_with(config, Issuer::new(&["a-good-token"]).authentication());
        let name = format!("{:?}-{:?}", way.service, way.chunking).to_lowercase();
        let messages = messages(&name);
        let source = Items::new(messages.clone());
        let mut batch = mailer.submit_all(source).overlap(NonZeroU32::new(8).unwrap());
        let mut failed = BTreeMap::new();
        while let Some((number, result)) = batch.next().await {
            failed.extend(result.err().map(|error| (number, error)));
        }
        let kinds: Vec<_> = failed.iter().map(|(number, error)| (*number, Error::kind(error))).collect();
        let expected = [(20, ErrorKind::RecipientsRefused), (33, ErrorKind::MessageRefused)];
        assert_eq!(kinds, expected, "{way:?}: {failed:?}");
        let delivered = servers.maildir().wait_for(&format!("{name}@example.test"), MESSAGES - 2);
        let mut found: Vec<_> = delivered.into_iter().map(|message| message.content).collect();
        let sent = messages.into_iter().enumerate().filter(|(number, _)| !failed.contains_key(number));
        let mut sent: Vec<_> = sent.map(|(_, (_, text))| text).collect();
        found.sort_unstable();
        sent.sort_unstable();
        assert!(found == sent, "{way:?}: each once and none mixed up");
        mailer.close().await;
    }
    assert_one_session_each_way(&servers);
    // Whole transactions begin with RSET where another was under way before them.
    let sessions = servers.sessions(Service::Submission, 2);
    let resets =
        sessions.iter().filter_map(|session| session.split_once(" rset=")?.1.split([' ', '/']).next());
    let most = resets.filter_map(|count| count.parse::<usize>().ok()).max();
    assert!(most.is_some_and(|most| most > MESSAGES / 2), "{sessions:?}");
}
