//! What somebody who comes from lettre's transport expects: its messages, its traits, and any tokio runtime.

use smtp_oauth::Mailer;
use smtp_oauth::lettre::message::header::ContentType;
use smtp_oauth::lettre::message::{Attachment, MultiPart, SinglePart};
use smtp_oauth::lettre::{AsyncTransport, Message};
use smtp_oauth::testing::FakeMicrosoft365;
use tokio::runtime::{Builder, Runtime};

fn message(subject: &str) -> Message {
    Message::builder()
        .from("Contoso <svc-mail@contoso.com>".parse().unwrap())
        .to("reader@example.com".parse().unwrap())
        .subject(subject)
        .body("Hello".to_owned())
        .unwrap()
}

#[tokio::test]
async fn alternatives_attachments_and_hidden_recipients_arrive_as_lettre_has_them() {
    let tenant = FakeMicrosoft365::start().await;
    let report: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let attachment = Attachment::new("Übersicht.pdf".to_owned())
        .body(report.clone(), ContentType::parse("application/pdf").unwrap());
    let message = Message::builder()
        .from("svc-mail@contoso.com".parse().unwrap())
        .to("Zoë <zoe@example.com>".parse().unwrap())
        .bcc("archive@contoso.com".parse().unwrap())
        .subject("Monatsbericht für März")
        .multipart(
            MultiPart::mixed()
                .multipart(MultiPart::alternative_plain_html(
                    "Im Anhang.\n.\n".to_owned(),
                    "<p>Im Anhang.</p>".to_owned(),
                ))
                .singlepart(SinglePart::builder().content_type(ContentType::TEXT_PLAIN).body("PS".to_owned()))
                .singlepart(attachment),
        )
        .unwrap();

    let submission = tenant.mailer().send(message).await.unwrap();

    assert_eq!(submission.accepted().len(), 2);
    let received = tenant.only_message();
    assert_eq!(received.recipient_addresses(), ["zoe@example.com", "archive@contoso.com"]);
    assert_eq!(received.header("Bcc"), None);
    assert_eq!(received.header("To").as_deref(), Some("Zoë <zoe@example.com>"));
    assert_eq!(received.subject(), "Monatsbericht für März");
    assert_eq!(received.text(), "Im Anhang.\r\n.");
    assert_eq!(received.html().as_deref(), Some("<p>Im Anhang.</p>"));
    let pdf = received.attachments().into_iter().find(|file| file.content_type == "application/pdf").unwrap();
    assert_eq!((pdf.name.as_str(), pdf.content), ("Übersicht.pdf", report));
}

/// Starts the fakes in a runtime of their own, which goes on while those of the mailer come and go.
fn tenant() -> (Runtime, FakeMicrosoft365) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tenant = runtime.block_on(FakeMicrosoft365::start());
    (runtime, tenant)
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_mailer_built_outside_a_runtime_sends_in_either_kind() {
    let (_runtime, tenant) = tenant();
    for runtime in [current_thread(), multi_thread()] {
        let mailer: Mailer = tenant.mailer(); // no runtime here
        runtime.block_on(mailer.submit(&message("once"))).unwrap();
        runtime.block_on(mailer.submit(&message("again"))).unwrap();
        runtime.block_on(mailer.close());
    }
    assert_eq!(tenant.messages().len(), 4);
    assert_eq!(tenant.exchange().connections().total, 2);
}

#[test]
fn a_mailer_outlives_the_runtime_that_its_connections_belonged_to() {
    let (_runtime, tenant) = tenant();
    let mailer = tenant.mailer();
    for subject in ["first", "second", "third"] {
        let runtime = current_thread();
        runtime.block_on(mailer.submit(&message(subject))).unwrap();
        drop(runtime);
    }
    let subjects: Vec<_> = tenant.messages().iter().map(|message| message.subject()).collect();
    assert_eq!(subjects, ["first", "second", "third"]);
    assert_eq!(mailer.pool_status().in_use, 0);
}
