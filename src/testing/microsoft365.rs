//! Both fakes together, as a tenant: settings, mailers for its mailboxes, and what was received.

use std::fmt;
use std::io;
use std::path::Path;

use super::{FakeEntra, FakeExchange, Fault, IssuedTokens, KnownReply, ReceivedMessage};
use crate::clock::Clock;
use crate::mailer::{MailerBuilder, Mailers, MailersBuilder};
use crate::token::store::{FileStore, TokenStore};
use crate::{Authentication, Mailer, Office365Profile, ReplyCause, ServerBuilder};

/// A tenant on loopback: [`FakeEntra`] issues tokens that [`FakeExchange`] accepts, for one mailbox that has signed in.
///
/// Its mailers send as they do in production, with [`Office365Profile`]: by DATA, over three connections at most, and
/// within [`SendingLimits::exchange_online`](crate::SendingLimits::exchange_online). The 31st message of a minute
/// therefore waits, on a [`ManualClock`](super::ManualClock) until the test moves it; [`server`](Self::server) shows how
/// to lift the limits.
///
/// ```
/// use smtp_oauth::lettre::Message;
/// use smtp_oauth::testing::FakeMicrosoft365;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenant = FakeMicrosoft365::start().await;
/// let mailer = tenant.mailer();
/// let message = Message::builder()
///     .from(tenant.account().parse()?)
///     .to("reader@example.com".parse()?)
///     .subject("Hello")
///     .body("Hello!\n".to_owned())?;
/// mailer.submit(&message).await?;
/// assert_eq!(tenant.exchange().messages()[0].recipient_addresses(), ["reader@example.com"]);
/// # Ok(())
/// # }
/// ```
pub struct FakeMicrosoft365 {
    clock: Clock,
    entra: FakeEntra,
    exchange: FakeExchange,
}

impl FakeMicrosoft365 {
    /// Starts both fakes on the system's clock.
    pub async fn start() -> Self {
        Self::start_with_clock(Clock::system()).await
    }

    /// Starts both fakes on a clock of the test's, such as a [`ManualClock`](super::ManualClock)'s.
    pub async fn start_with_clock(clock: Clock) -> Self {
        let tokens = IssuedTokens::new(clock.clone());
        let entra = FakeEntra::builder().clock(clock.clone()).tokens(tokens.clone()).start().await;
        let exchange = FakeExchange::builder().clock(clock.clone()).tokens(tokens).start().await;
        Self { clock, entra, exchange }
    }

    /// Returns the fake of Entra ID, for faults and counts.
    pub fn entra(&self) -> &FakeEntra {
        &self.entra
    }

    /// Returns the fake of Exchange Online, for faults and received messages.
    pub fn exchange(&self) -> &FakeExchange {
        &self.exchange
    }

    /// Returns the messages received so far, in order.
    pub fn messages(&self) -> Vec<ReceivedMessage> {
        self.exchange.messages()
    }

    /// Returns the message that was received.
    ///
    /// # Panics
    /// When none was received or more than one, saying what the server heard instead.
    #[track_caller]
    pub fn only_message(&self) -> ReceivedMessage {
        let messages: [_; 1] = self.messages().try_into().unwrap_or_else(|messages: Vec<ReceivedMessage>| {
            let received: Vec<_> = messages
                .iter()
                .map(|message| {
                    format!("{:?} to {}", message.subject(), message.recipient_addresses().join(", "))
                })
                .collect();
            panic!(
                "expected one message, received {}: {}\nthe server heard:\n  {}",
                messages.len(),
                received.join("; "),
                self.exchange.transcript().join("\n  "),
            );
        });
        let [message] = messages;
        message
    }

    /// Refuses from now on as a server does when `cause` holds, until [`recover`](Self::recover).
    ///
    /// Connections that are open are closed first, so that a refusal of the sign-in is met by the next message.
    ///
    /// ```
    /// use smtp_oauth::testing::FakeMicrosoft365;
    /// use smtp_oauth::{Disposition, ReplyCause};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tenant = FakeMicrosoft365::start().await;
    /// tenant.refuse(ReplyCause::SmtpAuthDisabledForTenant).await;
    /// let error = tenant.mailer().send_test().await.unwrap_err();
    /// assert_eq!(error.disposition(), Disposition::FixConfiguration);
    /// tenant.recover();
    /// tenant.mailer().send_test().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// When no server is known to refuse for it.
    pub async fn refuse(&self, cause: ReplyCause) {
        let known = KnownReply::all().into_iter().find(|known| known.cause == cause);
        let known = known.unwrap_or_else(|| panic!("no reply is known for {cause:?}"));
        self.exchange.inject(known.point, Fault::reply(known.reply).always());
        self.exchange.close_connections(None).await;
    }

    /// Forgets every fault still to come, at sign-in and at the mail server.
    pub fn recover(&self) {
        self.entra.recover();
        self.exchange.clear_faults();
    }

    /// Returns the address of the mailbox that has signed in.
    pub fn account(&self) -> String {
        self.entra.account()
    }

    /// Lets the app sign in as `mailbox` too, as an administrator does with `Add-MailboxPermission`.
    ///
    /// [`mailers`](Self::mailers) has an example.
    pub fn grant_access(&self, mailbox: &str) {
        self.exchange.tokens().grant_access(&self.account(), mailbox);
    }

    /// Returns settings for the fake server, open for more.
    ///
    /// ```
    /// use smtp_oauth::testing::FakeMicrosoft365;
    /// use smtp_oauth::{Authentication, Mailer, SendingLimits};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tenant = FakeMicrosoft365::start().await;
    /// let profile = tenant.server().limits(SendingLimits::new()).build()?;
    /// let tokens = tenant.entra().app().build()?.refresh_token(tenant.entra().store());
    /// let mailer = Mailer::builder(profile).authentication(Authentication::oauth(tokens)).build()?;
    /// for _ in 0..40 {
    ///     mailer.send_test().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn server(&self) -> ServerBuilder<Office365Profile> {
        Office365Profile::builder()
            .host(self.exchange.host())
            .port(self.exchange.port())
            .username(self.account())
            .test_recipient("admin@contoso.com")
            .extra_roots(self.exchange.root_pem())
            .without_platform_roots()
    }

    /// Returns a mailer for the mailbox, signed in by refresh token.
    ///
    /// # Panics
    /// When the crate was built without an HTTP client or cryptography.
    pub fn mailer(&self) -> Mailer {
        self.mailer_builder().build().expect("the fakes' own settings are valid")
    }

    /// Returns a mailer for the mailbox, open for more.
    ///
    /// # Panics
    /// As for [`mailer`](Self::mailer).
    pub fn mailer_builder(&self) -> MailerBuilder {
        let app = self.entra.app().build().expect("the fake's own app registration is valid");
        let provider = app.refresh_token(self.entra.store());
        let profile = self.server().build().expect("the fakes' own settings are valid");
        Mailer::builder(profile).authentication(Authentication::oauth(provider)).clock(self.clock.clone())
    }

    /// Returns mailers for the mailboxes of the tenant, signed in as the app itself (`SMTP.SendAsApp`).
    ///
    /// The mailbox is the sender's: [`account`](Self::account), or one that [`grant_access`](Self::grant_access) was
    /// called for; any other is refused as Exchange Online refuses it.
    ///
    /// ```
    /// use smtp_oauth::lettre::address::Envelope;
    /// use smtp_oauth::testing::FakeMicrosoft365;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tenant = FakeMicrosoft365::start().await;
    /// tenant.grant_access("alerts@contoso.com");
    /// let mailers = tenant.mailers();
    /// let envelope = Envelope::new(Some("alerts@contoso.com".parse()?), vec!["reader@example.com".parse()?])?;
    /// mailers.submit_raw(&envelope, b"Subject: Hello\r\n\r\nHello!\r\n").await?;
    /// assert_eq!(tenant.only_message().user.as_deref(), Some("alerts@contoso.com"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// As for [`mailer`](Self::mailer).
    pub fn mailers(&self) -> Mailers {
        self.mailers_builder().build().expect("the fakes' own settings are valid")
    }

    /// Returns mailers for the mailboxes of the tenant, open for more.
    ///
    /// # Panics
    /// As for [`mailer`](Self::mailer).
    pub fn mailers_builder(&self) -> MailersBuilder {
        let app = self.entra.app().build().expect("the fake's own app registration is valid");
        let profile = self.server().build().expect("the fakes' own settings are valid");
        Mailers::builder(profile)
            .authentication(Authentication::oauth(app.client_credentials()))
            .clock(self.clock.clone())
    }

    /// Writes what an administrator would have set up into `directory` and returns the text of a settings file.
    ///
    /// The files are `roots.pem`, and `token.json` with the refresh token of a sign-in.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub async fn settings_toml(&self, directory: &Path) -> io::Result<String> {
        let roots = directory.join("roots.pem");
        std::fs::write(&roots, self.exchange.root_pem())?;
        let tokens = directory.join("token.json");
        let store = FileStore::open(&tokens).map_err(io::Error::other)?;
        store.save(&self.entra.sign_in()).await.map_err(io::Error::other)?;
        let (host, port, account) = (self.exchange.host(), self.exchange.port(), self.account());
        let (tenant, client_id, authority) =
            (self.entra.tenant(), self.entra.client_id(), self.entra.authority());
        let secret = self
            .entra
            .client_secret()
            .map(|secret| format!("client_secret = {secret:?}\n"))
            .unwrap_or_default();
        Ok(format!(
            "[server]\n\
             host = \"{host}\"\n\
             port = {port}\n\
             tls = \"starttls\"\n\
             username = \"{account}\"\n\
             sender = \"Contoso alerts <{account}>\"\n\
             test_recipient = \"admin@contoso.com\"\n\
             root_certificates = {roots:?}\n\
             trust_platform_roots = false\n\
             \n\
             [authentication]\n\
             method = \"oauth\"\n\
             tenant = \"{tenant}\"\n\
             client_id = \"{client_id}\"\n\
             {secret}\
             authority = \"{authority}\"\n\
             token_store = {tokens:?}\n"
        ))
    }
}

impl fmt::Debug for FakeMicrosoft365 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock: _, entra, exchange } = self;
        f.debug_struct("FakeMicrosoft365").field("entra", entra).field("exchange", exchange).finish()
    }
}
