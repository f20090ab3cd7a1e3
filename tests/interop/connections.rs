//! Connections that Postfix closes while they are idle: nothing is lost and nothing is sent twice.

use std::time::Duration;

use crate::client::{envelope, mailer, note};
use crate::{Limits, Servers, Service};

#[tokio::test]
async fn idle_connections_that_the_server_has_closed_are_replaced() {
    let limits = Limits { idle: Duration::from_secs(2), ..Limits::default() };
    let Some(servers) = Servers::start(&limits) else { return };
    for (round, service) in [Service::Submission, Service::NoPipelining].into_iter().enumerate() {
        let mailer = mailer(&servers, service);
        let envelope = envelope(["alice"]);
        let (before, after) = (note("before"), note("after"));
        for message in [before, after] {
            let (first, second) =
                tokio::join!(mailer.submit_raw(&envelope, &message), mailer.submit_raw(&envelope, &message));
            first.unwrap();
            second.unwrap();
            assert_eq!(mailer.pool_status().idle, 2);
            // Until Postfix has said 421 4.4.2 on both; the pool has not looked at them since.
            let opened = servers.tokens().asked().len() - 4 * round;
            let ended = servers.sessions(service, opened);
            assert!(ended.iter().all(|session| !session.contains("quit=")), "{ended:?}");
        }
        assert_eq!(servers.tokens().asked().len(), 4 * (round + 1), "each was replaced");
        let delivered = servers.maildir().wait_for("alice@example.test", 4 * (round + 1));
        let count = |subject| delivered.iter().filter(|message| message.content == note(subject)).count();
        assert_eq!((count("before"), count("after")), (2 * (round + 1), 2 * (round + 1)));
    }
}
