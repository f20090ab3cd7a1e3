//! The mailers of the fake tenant send as those of a real one do.

use std::time::Duration;

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::testing::{BodyCommand, FakeMicrosoft365, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, Cloud, Disposition, ErrorKind, MailProvider, Mailer, MailerBuilder,
    SendingLimits, Settings,
};

fn assert_is_production(mailer: &Mailer) {
    let config = mailer.config();
    assert_eq!(config.provider(), MailProvider::Exchange(Cloud::Public));
    assert_eq!((config.chunking(), config.max_connections().get()), (Chunking::Off, 3));
    assert_eq!(*config.limits(), SendingLimits::exchange_online());
}

#[tokio::test]
async fn its_mailers_have_the_settings_of_exchange_online() {
    let tenant = FakeMicrosoft365::start().await;
    let mailer = tenant.mailer();
    assert_is_production(&mailer);
    mailer.send_test().await.unwrap();
    assert_eq!(tenant.exchange().messages()[0].body_command, BodyCommand::Data);

    let directory = tempfile::tempdir().unwrap();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let settings: Settings = toml::from_str(&text).unwrap();
    assert_is_production(&MailerBuilder::from_settings(&settings).unwrap().build().unwrap());
}

#[tokio::test]
async fn the_31st_message_of_a_minute_waits_until_the_test_moves_the_clock() {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let mailer = tenant.mailer();
    for _ in 0..30 {
        mailer.send_test().await.unwrap();
    }
    let began = manual.clock().now();
    manual.advance_until(Duration::from_secs(1), mailer.send_test()).await.unwrap();
    assert!(manual.clock().now() - began >= Duration::from_secs(60));
    assert_eq!(tenant.exchange().message_count(), 31);
}

#[tokio::test]
async fn lifted_limits_let_everything_out_at_once() {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let profile = tenant.server().limits(SendingLimits::new()).build().unwrap();
    let tokens = tenant.entra().app().build().unwrap().refresh_token(tenant.entra().store());
    let authentication = Authentication::oauth(tokens);
    let mailer =
        Mailer::builder(profile).authentication(authentication).clock(manual.clock()).build().unwrap();
    for _ in 0..40 {
        mailer.send_test().await.unwrap();
    }
    assert_eq!(tenant.exchange().message_count(), 40);
}

fn envelope(from: &str) -> Envelope {
    Envelope::new(Some(from.parse().unwrap()), vec!["reader@example.com".parse().unwrap()]).unwrap()
}

#[tokio::test]
async fn its_mailers_send_from_every_mailbox_the_app_was_given_access_to_and_no_other() {
    let tenant = FakeMicrosoft365::start().await;
    tenant.grant_access("alerts@contoso.com");
    let mailers = tenant.mailers();
    assert_is_production(&mailers.mailbox("alerts@contoso.com").unwrap());
    for from in ["alerts@contoso.com", &tenant.account()] {
        mailers.submit_raw(&envelope(from), b"Subject: Hello\r\n\r\n").await.unwrap();
    }
    let users: Vec<_> = tenant.messages().into_iter().map(|message| message.user.unwrap()).collect();
    assert_eq!(users, ["alerts@contoso.com", &tenant.account()]);
    assert_eq!(tenant.entra().requests(), 1, "one token for all");

    let error = mailers.submit_raw(&envelope("boss@contoso.com"), b"x\r\n").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.disposition()),
        (ErrorKind::AuthenticationRefused, Disposition::FixConfiguration)
    );
}

#[tokio::test]
async fn its_mailers_count_for_each_mailbox_by_the_clock_of_the_test() {
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    tenant.grant_access("alerts@contoso.com");
    let mailers = tenant.mailers();
    for from in ["alerts@contoso.com", &tenant.account()] {
        for _ in 0..30 {
            mailers.submit_raw(&envelope(from), b"Subject: Hello\r\n\r\n").await.unwrap();
        }
    }
    let began = manual.clock().now();
    let envelope = envelope("alerts@contoso.com");
    let next = mailers.submit_raw(&envelope, b"Subject: Hello\r\n\r\n");
    manual.advance_until(Duration::from_secs(1), next).await.unwrap();
    assert!(manual.clock().now() - began >= Duration::from_secs(60));
}
