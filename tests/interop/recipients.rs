//! What becomes of each recipient: many at once, more than fit into a transaction, and refused ones among the others.

use smtp_oauth::{Disposition, ErrorKind, Phase, RecipientPolicy, SubmitOptions};

use crate::client::{Way, assert_one_session_each_way, envelope, mailer, note};
use crate::{ASSISTANT, Limits, Servers, Service};

const GOODBYE: &str = "421 4.7.0 mail.example.test Error: too many errors";

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("reader-{at}@example.test")).collect()
}

#[tokio::test]
async fn a_hundred_recipients_get_one_message_each() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let envelope = envelope(names(100));
    for (round, service) in [Service::Submission, Service::NoPipelining].into_iter().enumerate() {
        let mailer = mailer(&servers, service);
        let submission = mailer.submit_raw(&envelope, &note("hundred")).await.unwrap();
        assert_eq!(submission.accepted(), envelope.to());
        mailer.close().await;
        let ended = servers.sessions(service, 1);
        assert!(ended[0].starts_with("ehlo=2 starttls=1 auth=1 mail=1 rcpt=100 "), "{ended:?}");
        for name in names(100) {
            let delivered = servers.maildir().wait_for(&name, round + 1);
            assert_eq!((delivered.len(), &delivered[0].content), (round + 1, &note("hundred")), "{name}");
        }
    }
}

#[tokio::test]
async fn recipients_that_do_not_fit_go_into_further_transactions() {
    let Some(servers) = Servers::start(&Limits { recipients: 10, ..Limits::default() }) else { return };
    let envelope = envelope(names(25));
    for (round, way) in Way::ALL.into_iter().enumerate() {
        let mailer = way.mailer(&servers);
        let submission = mailer.submit_raw(&envelope, &note("split")).await.unwrap();
        assert_eq!(submission.accepted(), envelope.to(), "{way:?}");
        assert!(submission.refused().is_empty(), "{:?}", submission.refused());
        for name in names(25) {
            let delivered = servers.maildir().wait_for(&name, round + 1);
            assert_eq!(delivered.len(), round + 1, "{name} {way:?}");
            assert_eq!(delivered[round].content, note("split"));
        }
        mailer.close().await;
        let ended = servers.sessions(way.service, 1);
        // 10 of 25, then 10 of 15, then 5: on one connection.
        let expected = "ehlo=2 starttls=1 auth=1 mail=3 rcpt=45 ";
        assert!(ended.iter().all(|session| session.starts_with(expected)), "{way:?}: {ended:?}");
    }
    let mailer = mailer(&servers, Service::Submission);
    let all_or_nothing = SubmitOptions::new().recipients(RecipientPolicy::AllOrNothing);
    let error = mailer.submit_with(&envelope, &note("all"), &all_or_nothing).await.unwrap_err();
    assert_eq!(error.refused().len(), 15, "{error:?}");
    mailer.submit_raw(&envelope, &note("after")).await.unwrap();
    assert!(servers.maildir().all().iter().all(|message| message.content != note("all")));
}

#[tokio::test]
async fn refused_recipients_are_named_and_the_others_get_the_message() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let mixed = envelope([
        "unknown",
        "alice",
        "greylisted",
        "full",
        "bob",
        "someone@elsewhere.test",
        "unknown@example.test",
        "carol",
    ]);
    let later = Disposition::Retry { after: None };
    let refusals = [
        ("unknown@example.test", 550, "5.1.1", Disposition::FixMessage),
        ("greylisted@example.test", 450, "4.2.0", later),
        ("full@example.test", 452, "4.2.2", later),
        ("someone@elsewhere.test", 554, "5.7.1", Disposition::FixMessage),
        ("unknown@example.test", 550, "5.1.1", Disposition::FixMessage),
    ];
    for (round, way) in Way::ALL.into_iter().enumerate() {
        let mailer = way.mailer(&servers);
        let submission = mailer.submit_raw(&mixed, &note("mixed")).await.unwrap();
        let accepted: Vec<_> = submission.accepted().iter().map(ToString::to_string).collect();
        assert_eq!(accepted, ["alice@example.test", "bob@example.test", "carol@example.test"]);
        assert_eq!(submission.refused().len(), refusals.len());
        for (refusal, (recipient, code, status, disposition)) in submission.refused().iter().zip(refusals) {
            let reply = refusal.reply().unwrap();
            assert_eq!((refusal.recipient().to_string().as_str(), reply.code()), (recipient, code));
            assert_eq!(reply.enhanced().unwrap().to_string(), status, "{way:?}: {reply}");
            assert_eq!(refusal.disposition(), disposition, "{recipient}");
        }
        let error = mailer.submit_raw(&envelope(["unknown"]), &note("nobody")).await.unwrap_err();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::RecipientsRefused, Phase::Rcpt));
        assert_eq!(error.to_string(), "the mail server refused every recipient (550 5.1.1)");
        let error = mailer.submit_raw(&envelope(["full", "greylisted"]), &note("later")).await.unwrap_err();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::ServerUnavailable, Phase::Rcpt));
        assert_eq!(error.refused().len(), 2);

        // The connection is as good as before.
        mailer.submit_raw(&envelope(["alice", "bob", "carol"]), &note("after")).await.unwrap();
        for name in ["alice", "bob", "carol"] {
            let delivered = servers.maildir().wait_for(&format!("{name}@example.test"), 2 * round + 2);
            let mixed = delivered.iter().filter(|message| message.content == note("mixed")).count();
            let after = delivered.iter().filter(|message| message.content == note("after")).count();
            assert_eq!((mixed, after), (round + 1, round + 1), "{name} {way:?}");
        }
        mailer.close().await;
    }
    assert_one_session_each_way(&servers);
    assert_eq!(servers.maildir().all().len(), Way::ALL.len() * 6, "nobody else, nothing twice");
}

#[tokio::test]
async fn a_sender_of_another_account_is_refused() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let from = smtp_oauth::lettre::address::Envelope::new(
        Some(ASSISTANT.parse().unwrap()),
        vec!["alice@example.test".parse().unwrap()],
    );
    for way in Way::ALL {
        let mailer = way.mailer(&servers);
        let error = mailer.submit_raw(from.as_ref().unwrap(), &note("forged")).await.unwrap_err();
        // Postfix says so at RCPT.
        assert_eq!((error.kind(), error.phase()), (ErrorKind::RecipientsRefused, Phase::Rcpt));
        let reply = error.reply().unwrap();
        assert_eq!(reply.code(), 553);
        assert!(reply.text().contains("Sender address rejected"), "{reply}");
        mailer.submit_raw(&envelope(["alice"]), &note("own")).await.unwrap();
    }
    let delivered = servers.maildir().wait_for("alice@example.test", Way::ALL.len());
    assert!(delivered.iter().all(|message| message.content == note("own")));
}

#[tokio::test]
async fn a_server_that_loses_patience_has_certainly_not_taken_the_message() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    // Postfix says 421 4.7.0 instead of one error more than smtpd_hard_error_limit allows, and closes.
    let unknown = || std::iter::repeat_n("unknown", 21);
    let last = envelope(["alice"].into_iter().chain(unknown()));
    let among_others = envelope(["alice"].into_iter().chain(unknown()).chain(["bob"]));
    for way in Way::ALL {
        let mailer = way.mailer(&servers);
        for envelope in [&last, &among_others] {
            let error = mailer.submit_raw(envelope, &note("impatience")).await.unwrap_err();
            assert_eq!((error.kind(), error.phase()), (ErrorKind::ServerUnavailable, Phase::Rcpt), "{way:?}");
            assert_eq!(error.reply().map(ToString::to_string).as_deref(), Some(GOODBYE), "{way:?}");
            let codes = error.refused().iter().map(|refusal| refusal.reply().unwrap().code());
            let expected = std::iter::repeat_n(550, 20).chain([421]);
            assert!(codes.eq(expected), "{way:?}: {:?}", error.refused());
        }
        mailer.submit_raw(&envelope(["alice"]), &note("after")).await.unwrap();
    }
    let delivered = servers.maildir().wait_for("alice@example.test", Way::ALL.len());
    assert!(delivered.iter().all(|message| message.content == note("after")));
    assert_eq!(servers.maildir().all().len(), delivered.len());
}
