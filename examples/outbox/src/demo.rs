//! Shows every outcome with fakes of Entra ID and Exchange Online: no account, no network, no waiting.

use std::error::Error;
use std::time::Duration;

use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint, ManualClock};
use smtp_oauth::{Authentication, Mailer, SendingLimits, WhenReached};
use tokio::sync::watch;

use crate::compose::Draft;
use crate::mailer::for_outbox;
use crate::message::{Decision, Enqueued};
use crate::status::Status;
use crate::store::{Missing, Outbox};
use crate::worker::{Options, work};

const LEASE: Duration = Duration::from_secs(30);
const SMTP_AUTH_IS_OFF: &str = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the \
                                Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs a worker on a clock that is moved by hand, and prints what it does.
pub async fn run() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let manual = ManualClock::new();
    let tenant = FakeMicrosoft365::start_with_clock(manual.clock()).await;
    let exchange = tenant.exchange();
    let database = format!("sqlite:{}", directory.path().join("outbox.db").display());
    let outbox = Outbox::open(&database, Missing::Create, manual.clock()).await?;
    let mailer = mailer(&tenant, &manual, &outbox)?;
    let (stop, stopped) = watch::channel(false);
    let worker = tokio::spawn({
        let outbox = outbox.clone();
        async move { work(&outbox, &mailer, Options { at_once: 3, lease: LEASE }, stopped).await }
    });
    let from = tenant.account();
    let add = |to: &'static str| add(&outbox, &from, to);

    heading("A message is handed over, twice with the same key");
    let draft = Draft::plain(&from, &["reader@example.com".to_owned()], "Invoice 4711", "It is attached.\n")?;
    for _ in 0..2 {
        println!("{:?}", outbox.enqueue(&draft, Some("invoice-4711")).await?);
    }
    println!("{}", until(&outbox, |status| status.count("sent") == 1).await?);

    heading("One of two recipients is unknown: the other gets it, and that is recorded");
    exchange.refuse_recipient("nobody@example.com", "550 5.1.1 User unknown");
    add("reader@example.com nobody@example.com").await?;
    println!("{}", until(&outbox, |status| status.count("sent") == 2).await?);

    heading("The server is busy: the message is scheduled again");
    exchange.inject(
        FaultPoint::Mail,
        Fault::reply("451 4.7.0 Temporary server error. Please try again later. PRX4"),
    );
    add("reader@example.com").await?;
    println!(
        "{}",
        until(&outbox, |status| status.troubled.iter().any(|message| message.state == "waiting")).await?
    );
    println!("… an hour later …");
    manual.advance(Duration::from_secs(3600));
    println!("{}", until(&outbox, |status| status.count("sent") == 3).await?);

    heading("No recipient can be reached: the message is set aside");
    let unsendable = add("nobody@example.com").await?;
    println!("{}", until(&outbox, |status| status.count("set aside") == 1).await?);
    outbox.resolve(&unsendable, Decision::Drop).await?;

    heading("An administrator switches SMTP AUTH off: everything stops, and nothing is lost");
    exchange.close_connections(None).await;
    exchange.inject(FaultPoint::Auth, Fault::reply(SMTP_AUTH_IS_OFF).always());
    add("reader@example.com").await?;
    println!("{}", until(&outbox, |status| status.paused.is_some()).await?);
    println!("… it is mended, and `outbox resume` …");
    exchange.clear_faults();
    outbox.resume().await?;
    println!("{}", until(&outbox, |status| status.count("sent") == 4).await?);

    heading("The connection breaks after the last octet: nobody knows, so a person decides");
    exchange.inject(FaultPoint::Body, Fault::Close);
    let unknown = add("reader@example.com").await?;
    println!("{}", until(&outbox, |status| status.count("indeterminate") == 1).await?);
    println!("… `outbox resolve {unknown} --resend` …");
    outbox.resolve(&unknown, Decision::Resend).await?;
    println!("{}", until(&outbox, |status| status.count("sent") == 5).await?);

    heading("A worker is killed while it sends: its lease runs out, and the same holds");
    stop.send_replace(true);
    worker.await?;
    outbox.renew("killed", LEASE).await?;
    let orphan = add("reader@example.com").await?;
    outbox.claim(&orphan, "killed").await?;
    manual.advance(LEASE);
    outbox.bury_the_dead().await?;
    println!("{}", outbox.status().await?);
    println!("… `outbox resolve {orphan} --drop` …");
    outbox.resolve(&orphan, Decision::Drop).await?;
    println!("{}", outbox.status().await?);

    println!("\nThe server received {} messages.", exchange.message_count());
    Ok(())
}

/// Builds the mailer of a fake tenant as a worker needs it.
pub fn mailer(tenant: &FakeMicrosoft365, manual: &ManualClock, outbox: &Outbox) -> Result<Mailer> {
    let limits = SendingLimits::exchange_online().with_when_reached(WhenReached::Fail);
    let tokens = tenant.entra().app().build()?.refresh_token(tenant.entra().store());
    let builder = Mailer::builder(tenant.server().limits(limits).build()?);
    let builder = builder.authentication(Authentication::oauth(tokens)).clock(manual.clock());
    Ok(for_outbox(builder, outbox).build()?)
}

async fn add(outbox: &Outbox, from: &str, to: &str) -> Result<String> {
    let to: Vec<_> = to.split(' ').map(str::to_owned).collect();
    match outbox.enqueue(&Draft::plain(from, &to, "Hello", "Hello!\n")?, None).await? {
        Enqueued::New { id } | Enqueued::Known { id, .. } => Ok(id),
    }
}

async fn until(outbox: &Outbox, condition: impl Fn(&Status) -> bool) -> Result<Status> {
    let reached = async {
        loop {
            let status = outbox.status().await?;
            if condition(&status) {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await?
}

fn heading(text: &str) {
    println!("\n== {text}");
}
