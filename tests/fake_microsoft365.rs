//! The mailers of the fake tenant send as those of a real one do.

use std::time::Duration;

use smtp_oauth::testing::{BodyCommand, FakeMicrosoft365, ManualClock};
use smtp_oauth::{
    Authentication, Chunking, Cloud, MailProvider, Mailer, MailerBuilder, SendingLimits, Settings,
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
