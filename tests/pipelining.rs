//! Client and server stay in step whatever is refused: the next message on the connection arrives alone and intact.

mod support;

use std::num::NonZeroU32;

use smtp_oauth::testing::{
    BodyCommand, Extensions, FakeExchange, FakeExchangeBuilder, Fault, FaultPoint, ReceivedMessage,
};
use smtp_oauth::{
    Chunking, Disposition, Dsn, ErrorKind, MailServerConfig, Mailer, Notify, RecipientPolicy, ReplyCause,
    RetryPolicy, ReturnContent, SendingLimits, ServerBuilder, SubmitOptions,
};
use support::{envelope, issuing, settings};

const TEXT: &[u8] = b"Subject: first\r\n\r\nMAIL FROM:<mallory@example.com>\r\n.\r\nQUIT\r\n";
const NEXT: &[u8] = b"Subject: next\r\n\r\n..\r\n";

/// Every way of sending: with and without PIPELINING and CHUNKING.
const WAYS: [(&str, Chunking); 4] = [
    ("", Chunking::Auto),
    ("", Chunking::Off),
    ("PIPELINING", Chunking::Auto),
    ("PIPELINING", Chunking::Off),
];

fn server_without(missing: &str) -> FakeExchangeBuilder {
    FakeExchange::builder().extensions(Extensions::exchange_online().without(missing))
}

fn mailer_from(server: &FakeExchange, settings: ServerBuilder<MailServerConfig>) -> Mailer {
    let config = settings.max_connections(NonZeroU32::MIN).build().unwrap();
    Mailer::builder(config)
        .authentication(issuing(server.tokens(), 1800))
        .retry(RetryPolicy::never())
        .build()
        .unwrap()
}

fn mailer(server: &FakeExchange, chunking: Chunking) -> Mailer {
    mailer_from(server, settings(server).chunking(chunking))
}

/// Sends another message, which must arrive alone and intact, on the same connection; returns those before it.
async fn next_is_intact(server: &FakeExchange, mailer: &Mailer, context: &str) -> Vec<ReceivedMessage> {
    let submission = mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await;
    assert!(submission.unwrap().refused().is_empty(), "{context}");
    let mut messages = server.messages();
    let next = messages.pop().unwrap();
    assert_eq!((&next.body[..], next.recipient_addresses()), (NEXT, vec!["next@example.com"]), "{context}");
    assert_eq!(server.connections().total, 1, "{context}: {:?}", server.transcript());
    messages
}

fn count(server: &FakeExchange, verb: &str) -> usize {
    server.transcript().iter().filter(|line| line.starts_with(verb)).count()
}

#[tokio::test]
async fn a_refused_sender_or_message_leaves_the_connection_in_step() {
    for (missing, chunking) in WAYS {
        for (phase, reply, kind) in [
            (
                FaultPoint::Mail,
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                ErrorKind::SenderRefused,
            ),
            (FaultPoint::Mail, "451 4.7.0 Temporary server error", ErrorKind::ServerUnavailable),
            (FaultPoint::Data, "554 5.6.0 Not now", ErrorKind::MessageRefused),
            (FaultPoint::Data, "451 4.3.0 Not now", ErrorKind::ServerUnavailable),
            (
                FaultPoint::Body,
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException",
                ErrorKind::SenderRefused,
            ),
            (FaultPoint::Body, "452 4.3.1 Insufficient system resources", ErrorKind::ServerUnavailable),
        ] {
            if phase == FaultPoint::Data && chunking == Chunking::Auto {
                continue;
            }
            let context = format!("{phase:?} {reply} {chunking:?} without {missing:?}");
            let server = server_without(missing).start().await;
            let mailer = mailer(&server, chunking);
            server.inject(phase, Fault::reply(reply));
            let error =
                mailer.submit_raw(&envelope(&["a@example.com", "b@example.com"]), TEXT).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.reply().unwrap().text().as_str()),
                (kind, &reply[4..]),
                "{context}"
            );
            assert!(next_is_intact(&server, &mailer, &context).await.is_empty(), "{context}");
        }
    }
}

#[tokio::test]
async fn any_pattern_of_refused_recipients_is_told_apart() {
    let recipients: Vec<_> = (0..10).map(|number| format!("r{number}@example.com")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let replies = ["250 2.1.5 Recipient OK", "450 4.2.1 Try later", "550 5.1.10 Recipient not found"];
    let mut state: u64 = 0x5EED;
    for round in 0..60 {
        let (missing, chunking) = WAYS[round % WAYS.len()];
        let pattern: Vec<_> = recipients
            .iter()
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few rounds would refuse everybody by chance.
                if round % 5 == 4 { 1 + (state >> 33) as usize % 2 } else { (state >> 33) as usize % 3 }
            })
            .collect();
        let context = format!("{pattern:?} {chunking:?} without {missing:?}");
        let no_recipients =
            if round % 2 == 0 { "354 Start mail input" } else { "503 5.5.2 Need rcpt command" };
        let server = server_without(missing).data_without_recipients(no_recipients).start().await;
        for (recipient, reply) in recipients.iter().zip(&pattern) {
            server.refuse_recipient(recipient, replies[*reply]);
        }
        let mailer = mailer(&server, chunking);
        let result = mailer.submit_raw(&envelope(&recipients), TEXT).await;
        let accepted: Vec<_> =
            recipients.iter().zip(&pattern).filter(|(_, reply)| **reply == 0).map(|(to, _)| *to).collect();
        let refused = match &result {
            Ok(submission) => {
                let told: Vec<_> = submission.accepted().iter().map(ToString::to_string).collect();
                assert_eq!(told, accepted, "{context}");
                submission.refused()
            }
            Err(error) => {
                assert!(accepted.is_empty(), "{context}");
                let any_later = pattern.contains(&1);
                let kind =
                    if any_later { ErrorKind::ServerUnavailable } else { ErrorKind::RecipientsRefused };
                assert_eq!(error.kind(), kind, "{context}");
                error.refused()
            }
        };
        assert_eq!(refused.len() + accepted.len(), 10, "{context}");
        for refusal in refused {
            let at = recipients.iter().position(|to| refusal.recipient().to_string() == *to).unwrap();
            assert_eq!(refusal.reply().unwrap().to_string(), replies[pattern[at]], "{context}");
            let later = matches!(refusal.disposition(), Disposition::Retry { .. });
            assert_eq!(later, pattern[at] == 1, "{context}");
        }
        let messages = next_is_intact(&server, &mailer, &context).await;
        assert_eq!(messages.len(), usize::from(!accepted.is_empty()), "{context}");
        if let [message] = &messages[..] {
            assert_eq!((&message.body[..], message.recipient_addresses()), (TEXT, accepted), "{context}");
        }
    }
}

#[tokio::test]
async fn a_421_to_a_recipient_ends_the_session_and_is_certain() {
    for (missing, chunking) in WAYS {
        for passes in [0, 1] {
            let context = format!("{chunking:?} without {missing:?} after {passes}");
            let server = server_without(missing).start().await;
            let mailer = mailer(&server, chunking);
            let fault = Fault::ReplyThenClose("421 4.3.2 Service not available".into()).once().after(passes);
            server.inject(FaultPoint::Rcpt, fault);
            let error =
                mailer.submit_raw(&envelope(&["a@example.com", "b@example.com"]), TEXT).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.reply().map(smtp_oauth::Reply::code)),
                (ErrorKind::ServerUnavailable, Some(421)),
                "{context}"
            );
            mailer.submit_raw(&envelope(&["next@example.com"]), NEXT).await.unwrap();
            assert_eq!((server.message_count(), server.connections().total), (1, 2), "{context}");
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_on_behind_a_421_leaves_in_doubt_what_it_may_have_accepted() {
    let server = FakeExchange::start().await;
    let mailer = mailer(&server, Chunking::Auto);
    server.inject(FaultPoint::Rcpt, Fault::reply("421 4.3.2 Service not available"));
    server.inject(FaultPoint::Body, Fault::Close);
    let error = mailer.submit_raw(&envelope(&["a@example.com", "b@example.com"]), TEXT).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Indeterminate, "{error}");
    assert_eq!(server.connections().total, 1, "it is not sent again");
}

#[tokio::test]
async fn a_server_that_offers_bdat_and_refuses_it_gets_data_in_the_same_call() {
    for reply in ["500 5.3.3 Unrecognized command", "502 5.5.1 Not implemented", "504 5.5.4 Not implemented"]
    {
        for missing in ["", "PIPELINING"] {
            let context = format!("{reply} without {missing:?}");
            let server = server_without(missing).start().await;
            let mailer = mailer(&server, Chunking::Auto);
            server.inject(FaultPoint::Body, Fault::reply(reply));
            mailer.submit_raw(&envelope(&["a@example.com"]), TEXT).await.unwrap();
            mailer.submit_raw(&envelope(&["a@example.com"]), NEXT).await.unwrap();
            let messages = server.messages();
            assert_eq!((&messages[0].body[..], &messages[1].body[..]), (TEXT, NEXT), "{context}");
            assert!(messages.iter().all(|message| message.body_command == BodyCommand::Data), "{context}");
            assert_eq!((count(&server, "BDAT"), server.connections().total), (1, 2), "{context}");
        }
    }
}

#[tokio::test]
async fn a_large_message_is_sent_only_after_somebody_was_accepted() {
    let text = b"0123456789abcdef\r\n".repeat(5_000);
    for (missing, chunking) in WAYS {
        let context = format!("{chunking:?} without {missing:?}");
        let server = server_without(missing).start().await;
        let mailer = mailer(&server, chunking);
        server.inject(
            FaultPoint::Mail,
            Fault::reply("552 5.3.4 Message size exceeds fixed maximum message size"),
        );
        let error = mailer.submit_raw(&envelope(&["a@example.com"]), &text).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reply().unwrap().code()),
            (ErrorKind::MessageRefused, 552),
            "{context}"
        );
        assert_eq!(count(&server, "BDAT"), 0, "{context}: nothing was uploaded");
        mailer.submit_raw(&envelope(&["a@example.com"]), &text).await.unwrap();
        let messages = next_is_intact(&server, &mailer, &context).await;
        assert_eq!(messages[0].body, text, "{context}");
    }
}

#[tokio::test]
async fn recipients_that_are_too_many_for_the_server_get_further_transactions() {
    let recipients: Vec<_> = (0..10).map(|number| format!("r{number}@example.com")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    for (missing, chunking) in WAYS {
        let context = format!("{chunking:?} without {missing:?}");
        let server =
            server_without(missing).refuse_recipient("r1@example.com", "550 5.1.10 Not found").start().await;
        // Four in the first transaction, of which one is not found; three in the second.
        server.inject(FaultPoint::Rcpt, Fault::reply("452 4.5.3 Too many recipients").times(6).after(3));
        let mailer = mailer(&server, chunking);
        let submission = mailer.submit_raw(&envelope(&recipients), TEXT).await.unwrap();
        let mut told: Vec<_> = submission.accepted().iter().map(ToString::to_string).collect();
        told.sort_unstable();
        let mut expected = recipients.clone();
        expected.remove(1);
        assert_eq!(told, expected, "{context}");
        assert_eq!(submission.refused().len(), 1, "{context}");
        let messages = next_is_intact(&server, &mailer, &context).await;
        assert_eq!(messages.len(), 2, "{context}");
        let mut reached: Vec<_> = messages.iter().flat_map(ReceivedMessage::recipient_addresses).collect();
        reached.sort_unstable();
        assert_eq!(reached, expected, "{context}");
    }
}

#[tokio::test]
async fn a_configured_number_of_recipients_splits_and_one_failed_part_does_not_hide_the_others() {
    let recipients: Vec<_> = (0..7).map(|number| format!("r{number}@example.com")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let limits = SendingLimits::new().with_recipients_per_message(NonZeroU32::new(3));
    for (_, chunking) in &WAYS[..2] {
        let server = FakeExchange::start().await;
        let mailer = mailer_from(&server, settings(&server).limits(limits).chunking(*chunking));
        let submission = mailer.submit_raw(&envelope(&recipients), TEXT).await.unwrap();
        assert_eq!(submission.accepted().len(), 7);
        let sizes: Vec<_> = server.messages().iter().map(|message| message.recipients.len()).collect();
        assert_eq!(sizes, [3, 3, 1]);

        server.inject(FaultPoint::Body, Fault::Close.once().after(1));
        let submission = mailer.submit_raw(&envelope(&recipients), TEXT).await.unwrap();
        assert_eq!((submission.accepted().len(), submission.refused().len()), (3, 4));
        let whose: Vec<_> = submission.refused().iter().map(smtp_oauth::Refusal::disposition).collect();
        let later = Disposition::Retry { after: None };
        assert_eq!(
            whose,
            [Disposition::Indeterminate, Disposition::Indeterminate, Disposition::Indeterminate, later]
        );

        let options = SubmitOptions::new().recipients(RecipientPolicy::AllOrNothing);
        let error = mailer.submit_with(&envelope(&recipients), TEXT, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsendable);
    }
}

#[tokio::test]
async fn a_part_that_fails_later_says_of_each_recipient_what_the_server_said_of_it() {
    let limits = SendingLimits::new().with_recipients_per_message(NonZeroU32::new(2));
    let recipients = ["a@example.com", "b@example.com", "gone@example.com", "full@example.com"];
    for (_, chunking) in &WAYS[..2] {
        let server = FakeExchange::builder()
            .refuse_recipient("gone@example.com", "550 5.1.10 Not found")
            .refuse_recipient("full@example.com", "452 4.2.2 Mailbox full")
            .start()
            .await;
        let mailer = mailer_from(&server, settings(&server).limits(limits).chunking(*chunking));
        let submission = mailer.submit_raw(&envelope(&recipients), TEXT).await.unwrap();
        assert_eq!(submission.accepted().len(), 2);
        let [gone, full] = submission.refused() else { panic!("{submission:?}") };
        assert_eq!(gone.to_string(), "gone@example.com: 550 5.1.10 Not found");
        assert_eq!(gone.disposition(), Disposition::FixMessage);
        assert_eq!(gone.cause(), Some(ReplyCause::RecipientUnknown));
        assert_eq!(full.to_string(), "full@example.com: 452 4.2.2 Mailbox full");
        assert_eq!(full.disposition(), Disposition::Retry { after: None });

        // The connection is lost before the server has said anything about them, and so is the one in its place.
        server.inject(FaultPoint::Mail, Fault::Close.times(2).after(1));
        let submission = mailer.submit_raw(&envelope(&recipients), TEXT).await.unwrap();
        let [gone, full] = submission.refused() else { panic!("{submission:?}") };
        let words = "the connection failed before the server had answered";
        assert_eq!(gone.to_string(), format!("gone@example.com: {words}"));
        assert_eq!((gone.reply(), gone.cause(), gone.remedy()), (None, None, None));
        // With BDAT the message was in the same flight, and nobody knows.
        let whose = match chunking {
            Chunking::Off => Disposition::Retry { after: None },
            _ => Disposition::Indeterminate,
        };
        assert_eq!((gone.disposition(), full.disposition()), (whose, whose));
    }
}

#[tokio::test]
async fn all_or_nothing_is_nothing_when_one_is_refused() {
    let options = SubmitOptions::new().recipients(RecipientPolicy::AllOrNothing);
    for (missing, chunking) in WAYS {
        let context = format!("{chunking:?} without {missing:?}");
        let server = server_without(missing)
            .refuse_recipient("gone@example.com", "550 5.1.10 Not found")
            .start()
            .await;
        let mailer = mailer(&server, chunking);
        let mixed = envelope(&["a@example.com", "gone@example.com", "b@example.com"]);
        let error = mailer.submit_with(&mixed, TEXT, &options).await.unwrap_err();
        assert_eq!((error.kind(), error.refused().len()), (ErrorKind::RecipientsRefused, 1), "{context}");
        assert_eq!(error.to_string(), "the mail server refused 1 of 3 recipients (550 5.1.10)", "{context}");
        assert_eq!(error.refused()[0].recipient().to_string(), "gone@example.com", "{context}");
        let all = envelope(&["a@example.com", "b@example.com"]);
        mailer.submit_with(&all, TEXT, &options).await.unwrap();
        let messages = next_is_intact(&server, &mailer, &context).await;
        assert_eq!(messages.len(), 1, "{context}");
        assert_eq!(messages[0].body, TEXT, "{context}");
    }
}

#[tokio::test]
async fn parameters_go_out_when_they_are_needed_and_offered() {
    for (missing, chunking) in WAYS {
        let context = format!("{chunking:?} without {missing:?}");
        let server = server_without(missing).start().await;
        let mailer = mailer(&server, chunking);
        let dsn = Dsn::new()
            .notify([Notify::Failure])
            .return_content(ReturnContent::Headers)
            .envelope_id("order 17");
        let options = SubmitOptions::new().dsn(dsn);
        let to = envelope(&["jürgen@exämple.test", "a@exämple.test"]);
        mailer.submit_with(&to, "Grüße\n".as_bytes(), &options).await.unwrap();
        let messages = next_is_intact(&server, &mailer, &context).await;
        let message = &messages[0];
        let mut parameters = message.mail_parameters.clone();
        parameters.sort_unstable();
        assert_eq!(
            parameters,
            ["BODY=8BITMIME", "ENVID=order+2017", "RET=HDRS", "SIZE=9", "SMTPUTF8"],
            "{context}"
        );
        // A mailbox name outside ASCII keeps its domain; where the domain alone is, ASCII is enough.
        assert_eq!(
            message.recipient_addresses(),
            ["jürgen@exämple.test", "a@xn--exmple-cua.test"],
            "{context}"
        );
        assert_eq!(message.recipients[0].parameters, ["NOTIFY=FAILURE"], "{context}");
        assert_eq!(message.body, "Grüße\r\n".as_bytes(), "{context}");
    }
}

#[tokio::test]
async fn line_ends_become_crlf_whatever_carries_them() {
    for (missing, chunking) in WAYS {
        let context = format!("{chunking:?} without {missing:?}");
        let server = server_without(missing).start().await;
        let mailer = mailer(&server, chunking);
        let cases: [(&[u8], &[u8]); 4] = [
            (b"a\n.\nb\rc", b"a\r\n.\r\nb\r\nc\r\n"),
            (b"a\r\n.\r\n.b\r\n", b"a\r\n.\r\n.b\r\n"),
            (b"no end", b"no end\r\n"),
            (b"", b""),
        ];
        for (given, expected) in cases {
            mailer.submit_raw(&envelope(&["a@example.com"]), given).await.unwrap();
            assert_eq!(server.take_messages().pop().unwrap().body, expected, "{context}");
        }
        next_is_intact(&server, &mailer, &context).await;
    }
}

#[tokio::test]
async fn a_goodbye_to_one_recipient_is_a_temporary_refusal_of_the_whole() {
    for (data, chunking) in [("354 Go on", Chunking::Off), ("503 5.5.1 Bad sequence", Chunking::Off)] {
        let server = FakeExchange::builder()
            .refuse_recipient("b@example.com", "421 4.3.2 Service not available")
            .fault(FaultPoint::Data, Fault::reply(data))
            .start()
            .await;
        let mailer = mailer(&server, chunking);
        let error =
            mailer.submit_raw(&envelope(&["a@example.com", "b@example.com"]), TEXT).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reply().unwrap().code()),
            (ErrorKind::ServerUnavailable, 421),
            "{data}"
        );
        assert_eq!(server.message_count(), 0);
    }
}
