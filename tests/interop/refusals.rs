//! Messages that the server refuses for their size or their content, and the connection afterwards.

use smtp_oauth::{Disposition, Error, ErrorKind, Mailer, Phase};

use crate::client::{Way, assert_one_session_each_way, envelope, note};
use crate::{Limits, Servers, Service};

async fn refused(mailer: &Mailer, message: &[u8]) -> Error {
    mailer.submit_raw(&envelope(["alice"]), message).await.unwrap_err()
}

/// Submits one more message, which must arrive, and closes the mailer.
async fn finish(mailer: Mailer) {
    mailer.submit_raw(&envelope(["alice"]), &note("after")).await.unwrap();
    mailer.close().await;
}

/// Checks that each mailer used one connection and delivered what [`finish`] sent, and nothing else.
fn assert_usable_afterwards(servers: &Servers) {
    assert_one_session_each_way(servers);
    let delivered = servers.maildir().wait_for("alice@example.test", Way::ALL.len());
    assert_eq!(delivered.len(), Way::ALL.len());
    assert!(delivered.iter().all(|message| message.content == note("after")));
}

#[tokio::test]
async fn too_large_a_message_is_refused_before_it_is_sent_or_by_the_server() {
    let Some(servers) = Servers::start(&Limits { message_size: 50_000, ..Limits::default() }) else { return };
    for way in Way::ALL {
        let mailer = way.mailer(&servers);
        // In one flight with its envelope, and after it.
        for length in [60_000, 500_000] {
            let mut message = note("too large");
            message.resize(length - 2, b'z');
            message.extend(b"\r\n");
            let error = refused(&mailer, &message).await;
            assert_eq!(error.disposition(), Disposition::FixMessage, "{way:?}: {error:?}");
            if let Service::Minimal = way.service {
                assert_eq!(error.kind(), ErrorKind::MessageRefused, "{way:?}: {error:?}");
                assert_eq!(error.to_string(), "the mail server refused the message (552 5.3.4)");
            } else {
                assert_eq!((error.kind(), error.phase()), (ErrorKind::Unsendable, Phase::Preparation));
                let expected = format!("the message has {length} octets and the server takes at most 50000");
                assert_eq!(error.to_string(), expected);
            }
        }
        finish(mailer).await;
    }
    assert_usable_afterwards(&servers);
}

#[tokio::test]
async fn refused_content_is_a_refused_message() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    for way in Way::ALL {
        let mailer = way.mailer(&servers);
        // In one flight with its envelope, and after it.
        for length in [100, 100_000] {
            let mut message = note("refuse this content");
            message.resize(length, b'z');
            let error = refused(&mailer, &message).await;
            assert_eq!((error.kind(), error.phase()), (ErrorKind::MessageRefused, Phase::FinalReply));
            assert_eq!(error.disposition(), Disposition::FixMessage);
            assert_eq!(error.to_string(), "the mail server refused the message (550 5.7.1)");
            assert_eq!(error.reply().unwrap().text(), "5.7.1 Content refused by policy");
        }
        finish(mailer).await;
    }
    assert_usable_afterwards(&servers);
}
