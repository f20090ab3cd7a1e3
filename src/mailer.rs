//! The mailer: carries submissions over the pool's connections and says what became of each. Parses nothing.

use std::fmt;
use std::sync::Arc;

use lettre::address::Envelope;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncTransport, Message};

use crate::authentication::{Authentication, Method};
use crate::clock::{Clock, Moment};
use crate::config::{ConfigError, ConfigProblem, MailServerConfig, Problems, Tls};
use crate::error::Error;
use crate::outcome::{Refusal, Submission};
use crate::pool::{Checkout, Origin, Pool};
use crate::smtp::connection::Endpoint;
use crate::smtp::content::Content;
use crate::smtp::failure::{Cause, Failure};
use crate::smtp::transaction::{Certainty, Undelivered};
use crate::token::TokenCache;

/// Sends messages through one mailbox; cheap to clone, clones share connections and tokens.
///
/// ```no_run
/// # async fn run(message: smtp_oauth::lettre::Message) -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_oauth::{Authentication, Mailer, Office365Profile};
///
/// let profile = Office365Profile::builder().username("svc-mail@contoso.com").build()?;
/// let mailer = Mailer::builder(profile).authentication(Authentication::basic("secret")).build()?;
/// let submission = mailer.submit(&message).await?;
/// for refusal in submission.refused() {
///     eprintln!("{}: {}", refusal.recipient(), refusal.reply());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    pool: Pool,
}

/// Sets up a [`Mailer`].
#[derive(Debug)]
pub struct MailerBuilder {
    config: MailServerConfig,
    authentication: Option<Authentication>,
    clock: Clock,
}

impl MailerBuilder {
    /// Sets how to sign in. Required.
    #[must_use]
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = Some(authentication);
        self
    }

    /// Sets the clock that deadlines and expiries are read from. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the mailer; opens no connection and asks for no token.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem: no authentication, OAuth without TLS, root certificates that cannot be used.
    pub fn build(self) -> Result<Mailer, ConfigError> {
        let Self { config, authentication, clock } = self;
        let mut problems = Problems::default();
        if authentication.is_none() {
            problems.push(ConfigProblem::new(
                "authentication",
                "say how to sign in: `Authentication::oauth` or `::basic`",
            ));
        }
        let oauth = authentication.as_ref().is_some_and(|how| matches!(how.0, Method::OAuth(_)));
        if oauth && config.tls() == Tls::LoopbackPlaintext {
            problems.push(
                ConfigProblem::new(
                    "tls",
                    "use `starttls` or `implicit`: an access token never travels unencrypted",
                )
                .showing(config.tls().name()),
            );
        }
        let tls = config.tls_settings().client_config();
        if let Err(error) = &tls {
            problems.push(ConfigProblem::new("tls", format!("TLS cannot be set up: {error}")));
        }
        let (authentication, tls) = problems.finish(authentication.zip(tls.ok()))?;
        let authentication = cached(authentication, &config, &clock);
        let endpoint = Endpoint { config: Arc::new(config), tls, clock };
        let pool = Pool::new(endpoint.clone(), authentication);
        Ok(Mailer(Arc::new(Inner { endpoint, pool })))
    }
}

/// Any provider is asked once for any number of connections, and in time before its token expires.
fn cached(authentication: Authentication, config: &MailServerConfig, clock: &Clock) -> Authentication {
    match authentication.0 {
        Method::OAuth(provider) => {
            let cache =
                TokenCache::new(provider).clock(clock.clone()).refresh_margin(config.refresh_margin());
            Authentication::oauth(cache)
        }
        Method::Basic(password) => Authentication::basic(password),
    }
}

impl Mailer {
    /// Starts a mailer for a validated configuration or profile.
    pub fn builder(config: impl Into<MailServerConfig>) -> MailerBuilder {
        MailerBuilder { config: config.into(), authentication: None, clock: Clock::system() }
    }

    /// Returns the settings this mailer was built with.
    pub fn config(&self) -> &MailServerConfig {
        &self.0.endpoint.config
    }

    /// Submits a message to the recipients in its headers.
    ///
    /// # Errors
    /// See [`Error`]; after [`Indeterminate`](crate::Disposition::Indeterminate) the message may have been accepted.
    /// Refused recipients are no error as long as one was accepted: see [`Submission::refused`].
    ///
    /// # Cancellation
    /// A dropped future closes its connection; other submissions are not touched. Whether this message was accepted is
    /// then unknown.
    pub async fn submit(&self, message: &Message) -> Result<Submission, Error> {
        self.submit_raw(message.envelope(), &message.formatted()).await
    }

    /// Submits a message that is already formatted (RFC 5322) to the recipients of `envelope`.
    ///
    /// Line ends that are not CRLF are made CRLF, which breaks a signature (DKIM) over such a message.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    ///
    /// # Cancellation
    /// As for [`submit`](Self::submit).
    pub async fn submit_raw(&self, envelope: &Envelope, message: &[u8]) -> Result<Submission, Error> {
        let content = Content::new(message);
        let deadline = self.deadline();
        let mut checkout = self.0.pool.checkout(deadline).await?;
        loop {
            let origin = checkout.origin;
            match self.attempt(checkout, envelope, &content).await {
                Ok(submission) => return Ok(submission),
                // The server had closed the idle connection before it accepted anything: all that was lost is a
                // connection, so the message cannot arrive twice. Each round uses up one that was idle.
                Err(undelivered) if origin == Origin::Reused && is_stale(&undelivered) => {
                    checkout = self.0.pool.checkout(deadline).await?;
                }
                Err(Undelivered { failure, recipients, certainty }) => {
                    let error = Error::from(failure).with_refused(Refusal::list(envelope.to(), recipients));
                    return Err(match certainty {
                        Certainty::NotDelivered => error,
                        Certainty::Unknown => error.into_indeterminate(),
                    });
                }
            }
        }
    }

    async fn attempt(
        &self,
        mut checkout: Checkout,
        envelope: &Envelope,
        content: &Content<'_>,
    ) -> Result<Submission, Undelivered> {
        let result = checkout.connection.submit(envelope, content).await;
        self.0.pool.park(checkout);
        result.map(|delivery| Submission::new(envelope.to(), delivery.recipients, delivery.verdict))
    }

    /// Checks that a connection can be made and signed in to, and closes it again; sends nothing.
    ///
    /// # Errors
    /// The same errors a submission would give up to AUTH.
    ///
    /// # Cancellation
    /// A dropped future closes the connection.
    pub async fn verify(&self) -> Result<(), Error> {
        let checkout = self.0.pool.checkout_new(self.deadline()).await?;
        checkout.connection.quit().await;
        Ok(())
    }

    /// Sends a short message from the configured sender to the configured test recipient.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) when no test recipient is set; else as for
    /// [`submit`](Self::submit).
    ///
    /// # Cancellation
    /// As for [`submit`](Self::submit).
    pub async fn send_test(&self) -> Result<Submission, Error> {
        let config = self.config();
        let Some(recipient) = config.test_recipient() else {
            let mend = "enter the address that test messages go to";
            return Err(ConfigError::from(ConfigProblem::new("test_recipient", mend)).into());
        };
        let message = test_message(config, recipient, self.0.endpoint.clock.now())
            .map_err(|_| Error::unsendable("the test message cannot be built from these addresses"))?;
        self.submit(&message).await
    }

    fn deadline(&self) -> Moment {
        self.0.endpoint.clock.moment().after(self.config().timeouts().total())
    }
}

fn test_message(
    config: &MailServerConfig,
    recipient: &Mailbox,
    now: time::OffsetDateTime,
) -> Result<Message, lettre::error::Error> {
    let text = format!(
        "This test message was sent through {}:{} as {}.\r\nThe mail server settings work.\r\n",
        config.host(),
        config.port(),
        config.username(),
    );
    Message::builder()
        .from(config.sender().clone())
        .to(recipient.clone())
        .subject("Test of the mail server settings")
        .date(now.into())
        .message_id(None)
        .header(ContentType::TEXT_PLAIN)
        .body(text)
}

/// Tells whether an idle connection turned out to be closed before the server accepted anything.
fn is_stale(undelivered: &Undelivered) -> bool {
    let Undelivered { failure: Failure { phase: _, cause }, recipients, certainty } = undelivered;
    let closed = match cause {
        Cause::Closed(_) => true,
        Cause::Refused(reply) => reply.code() == 421,
        _ => false,
    };
    closed && recipients.is_empty() && *certainty == Certainty::NotDelivered
}

impl AsyncTransport for Mailer {
    type Ok = Submission;
    type Error = Error;

    fn send_raw<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        envelope: &'life1 Envelope,
        email: &'life2 [u8],
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Submission, Error>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.submit_raw(envelope, email))
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { endpoint, pool: _ } = &*self.0;
        f.debug_struct("Mailer")
            .field("host", &endpoint.config.host())
            .field("port", &endpoint.config.port())
            .field("username", &endpoint.config.username())
            .finish_non_exhaustive()
    }
}
