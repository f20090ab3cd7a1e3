//! A list of its own and fakes to send it to, of which one recipient is refused and one message is lost. Sends nothing.

use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint};
use smtp_oauth::{Authentication, Mailer, SendingLimits};
use tempfile::TempDir;

use super::Arguments;

/// Starts the fakes and fills in what the arguments leave out; what is returned must live as long as the run.
pub async fn stage(arguments: &mut Arguments) -> (Mailer, FakeMicrosoft365, TempDir) {
    let tenant = FakeMicrosoft365::start().await;
    eprintln!("Demo: a fake of Exchange Online listens on port {}.", tenant.exchange().port());
    tenant.exchange().refuse_recipient("reader7@example.com", "550 5.1.10 RESOLVER.ADR.RecipientNotFound");
    let lost = Fault::Close.once().after(20);
    tenant.exchange().inject(FaultPoint::Body, lost);
    let directory = tempfile::tempdir().expect("a directory for the demo");
    let list: String =
        (1..=60).map(|number| format!("reader{number}@example.com,Reader {number}\n")).collect();
    let (path, text) = (directory.path().join("list.csv"), directory.path().join("letter.txt"));
    std::fs::write(&path, format!("address,name\n{list}")).expect("a list for the demo");
    std::fs::write(&text, "Dear {name},\n\nthe disk is almost full.\n").expect("a text for the demo");
    arguments.recipients.get_or_insert(path);
    arguments.text_file.get_or_insert(text);
    // A demo of a minute or two would show nothing more.
    let server = tenant.server().limits(SendingLimits::new()).build().expect("the fakes' own settings");
    let tokens =
        tenant.entra().app().build().expect("the fake's own app").refresh_token(tenant.entra().store());
    let mailer = Mailer::builder(server).authentication(Authentication::oauth(tokens)).build();
    (mailer.expect("the fakes' own settings"), tenant, directory)
}
