//! The mailer: carries submissions over the pool's connections and says what became of each. Parses nothing.

mod batch;
mod delivery;
mod mailboxes;
mod observed;
mod overlap;
mod settings;

use std::fmt;
use std::sync::Arc;

use futures_core::Stream;
use lettre::address::Envelope;
use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncTransport, Message};

use crate::authentication::{Authentication, Method};
use crate::clock::{Clock, Moment};
use crate::config::{
    AuthenticationMethod, ConfigError, ConfigProblem, MailProvider, MailServerConfig, Problems, Tls,
};
use crate::error::{Circumstances, Error};
use crate::limits::{Limiter, SharedLimits};
use crate::observe;
use crate::office365::basic_authentication_retirement;
use crate::outcome::Submission;
use crate::pool::{Pool, PoolStatus};
use crate::retry::RetryPolicy;
use crate::smtp::connection::Endpoint;
use crate::smtp::{Dsn, RecipientPolicy};
use crate::token::TokenCache;

pub use batch::{Batch, BatchProgress, IntoSubmission};
pub use mailboxes::{Mailers, MailersBuilder, MailersStatus};

use overlap::Seat;
use settings::{Shared, SignIn};

/// Sends messages through one mailbox; cheap to clone, clones share connections and tokens.
///
/// For an app that sends from many mailboxes of its tenant there is [`Mailers`].
///
/// ```no_run
/// # async fn run(message: smtp_oauth::lettre::Message) -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_oauth::{Authentication, Mailer, Office365Profile};
///
/// let profile = Office365Profile::builder().username("svc-mail@contoso.com").build()?;
/// let mailer = Mailer::builder(profile).authentication(Authentication::basic("secret")).build()?;
/// let submission = mailer.submit(&message).await?;
/// for refusal in submission.refused() {
///     eprintln!("refused {refusal}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    pool: Pool,
    method: AuthenticationMethod,
    limiter: Arc<Limiter>,
    retry: RetryPolicy,
}

/// What a builder's settings come to, for one mailbox or many.
#[derive(Debug)]
struct Ready {
    endpoint: Endpoint,
    method: AuthenticationMethod,
    authentication: Authentication,
    retry: RetryPolicy,
    shared_limits: Option<Arc<dyn SharedLimits>>,
}

impl Ready {
    fn limiter(&self, config: &MailServerConfig) -> Arc<Limiter> {
        let limiter = Limiter::new(config.limits(), self.endpoint.clock.clone());
        Arc::new(match &self.shared_limits {
            Some(shared) => limiter.shared(shared.clone(), config.username()),
            None => limiter,
        })
    }
}

/// What may differ from one submission to the next.
///
/// ```
/// use smtp_oauth::{Dsn, Notify, RecipientPolicy, SubmitOptions};
///
/// let options = SubmitOptions::new()
///     .recipients(RecipientPolicy::AllOrNothing)
///     .dsn(Dsn::new().notify([Notify::Failure]));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubmitOptions {
    recipients: RecipientPolicy,
    dsn: Option<Dsn>,
}

impl SubmitOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what happens when some recipients are refused. Default: the others get the message.
    #[must_use]
    pub fn recipients(mut self, policy: RecipientPolicy) -> Self {
        self.recipients = policy;
        self
    }

    /// Asks for delivery status notifications. Default: what the server does by itself.
    #[must_use]
    pub fn dsn(mut self, dsn: Dsn) -> Self {
        self.dsn = Some(dsn);
        self
    }
}

/// Sets up a [`Mailer`].
#[derive(Debug)]
pub struct MailerBuilder {
    config: MailServerConfig,
    authentication: Option<SignIn>,
    clock: Clock,
    retry: RetryPolicy,
    shared_limits: Option<Shared>,
}

impl MailerBuilder {
    /// Sets how to sign in. Required.
    #[must_use]
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = Some(SignIn::Ready(authentication));
        self
    }

    /// Sets the clock that deadlines and expiries are read from. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how often a submission is tried again when that is safe. Default: [`RetryPolicy::new`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets where a fleet of processes keeps the sending limits together. Default: each mailer counts for itself.
    #[must_use]
    pub fn shared_limits(mut self, limits: impl SharedLimits + 'static) -> Self {
        self.shared_limits = Some(Shared::Ready(Arc::new(limits)));
        self
    }

    /// Builds the mailer; opens no connection and asks for no token.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem: no authentication, OAuth without TLS, root certificates that cannot be used.
    pub fn build(self) -> Result<Mailer, ConfigError> {
        let ready = self.prepare(|_| None)?;
        let limiter = ready.limiter(&ready.endpoint.config);
        let Ready { endpoint, method, authentication, retry, shared_limits: _ } = ready;
        let pool = Pool::new(endpoint.clone(), authentication);
        Ok(Mailer(Arc::new(Inner { endpoint, pool, method, limiter, retry })))
    }

    /// Checks everything; `problem` may find something against this way of signing in.
    fn prepare(self, problem: fn(&Method) -> Option<ConfigProblem>) -> Result<Ready, ConfigError> {
        let Self { config, authentication, clock, retry, shared_limits } = self;
        let mut problems = Problems::default();
        let authentication = match authentication {
            Some(sign_in) => sign_in.complete(&clock, &mut problems),
            None => {
                let mend = "say how to sign in: `Authentication::oauth` or `Authentication::basic`";
                problems.push(ConfigProblem::new("authentication", mend));
                None
            }
        };
        problems.extend(authentication.as_ref().and_then(|how| problem(&how.0)));
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
        let service = config.provider().service();
        problems.extend(authentication.as_ref().and_then(|how| {
            let mend = service?.method_problem(how.method())?;
            Some(ConfigProblem::new("authentication", mend))
        }));
        let tls = config.tls_settings().client_config();
        if let Err(error) = &tls {
            problems.push(ConfigProblem::new("tls", format!("TLS cannot be set up: {error}")));
        }
        let shared_limits = shared_limits.and_then(|shared| shared.complete(&clock, &mut problems));
        let (authentication, tls) = problems.finish(authentication.zip(tls.ok()))?;
        let method = authentication.method();
        let authentication = cached(authentication, &config, &clock);
        observe::describe();
        let endpoint = Endpoint::new(config, tls, clock);
        Ok(Ready { endpoint, method, authentication, retry, shared_limits })
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
        MailerBuilder {
            config: config.into(),
            authentication: None,
            clock: Clock::system(),
            retry: RetryPolicy::new(),
            shared_limits: None,
        }
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
        self.submit_in(envelope, message, &SubmitOptions::default(), None).await
    }

    /// Submits a message that is already formatted, with options.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    ///
    /// # Cancellation
    /// As for [`submit`](Self::submit).
    pub async fn submit_with(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
    ) -> Result<Submission, Error> {
        self.submit_in(envelope, message, options, None).await
    }

    async fn submit_in(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
        seat: Option<&Seat>,
    ) -> Result<Submission, Error> {
        let Endpoint { clock, server, .. } = &self.0.endpoint;
        let observed =
            observe::submission::Submission::begin(clock, server, envelope.to().len(), message.len());
        let result = observed.run(self.0.deliver(envelope, message, options, seat)).await;
        let result = result.map_err(|error| self.0.explained(error, envelope.from()));
        observed::conclude(observed, &result);
        result
    }

    /// Returns what works now and needs the administrator's attention all the same, in sentences.
    ///
    /// ```
    /// use smtp_oauth::{Authentication, Mailer, Office365Profile};
    ///
    /// let profile = Office365Profile::builder().username("svc-mail@contoso.com").build()?;
    /// let mailer = Mailer::builder(profile).authentication(Authentication::basic("secret")).build()?;
    /// assert!(mailer.warnings()[0].contains("Basic authentication"));
    /// # Ok::<(), smtp_oauth::ConfigError>(())
    /// ```
    pub fn warnings(&self) -> Vec<String> {
        let config = self.config();
        let mut warnings = config.warnings();
        let is_exchange = matches!(config.provider(), MailProvider::Exchange(_));
        if is_exchange && self.0.method == AuthenticationMethod::Basic {
            warnings.push(basic_authentication_retirement().to_owned());
        }
        let consequence = match config.provider().service() {
            Some(service) => service.other_sender,
            None if is_exchange => "for which it needs the permission Send As",
            None => "",
        };
        if config.sends_as_other() && !consequence.is_empty() {
            let (username, sender) = (config.username(), &config.sender().email);
            warnings.push(format!("{username} sends as {sender}, {consequence}"));
        }
        warnings
    }

    /// Submits every message of a stream, as many at a time as there may be connections; [`Batch::overlap`] lets more be
    /// under way.
    ///
    /// Yields what became of each as soon as that is known, with its number in the stream, from 0. Takes the next message
    /// from the stream only when one is done, so memory holds no more than those under way, and with overlap as many again.
    /// One that fails does not stop the others. What is in memory already becomes a stream by `futures_util::stream::iter`.
    ///
    /// ```
    /// use smtp_oauth::{Mailer, lettre::Message};
    ///
    /// async fn send_all(mailer: &Mailer, messages: impl futures_core::Stream<Item = Message>) {
    ///     let mut batch = mailer.submit_all(messages);
    ///     while let Some((number, result)) = batch.next().await {
    ///         if let Err(error) = result {
    ///             eprintln!("message {number}: {error} ({:?})", batch.progress());
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the batch drops the submissions under way, as for [`submit`](Self::submit).
    pub fn submit_all<S>(&self, messages: S) -> Batch<S>
    where
        S: Stream<Item: IntoSubmission>,
    {
        Batch::new(self.clone(), messages)
    }

    /// Returns how the connections are used at the moment.
    pub fn pool_status(&self) -> PoolStatus {
        self.0.pool.status()
    }

    /// Closes the mailer and its clones: waits for submissions under way, says QUIT on idle connections.
    ///
    /// Submissions that wait for a connection, and later ones, fail with [`Closed`](crate::ErrorKind::Closed). Waits no
    /// longer than [`Timeouts::total`](crate::Timeouts::total).
    ///
    /// # Cancellation
    /// A dropped future leaves the mailer closed; submissions under way go on.
    pub async fn close(&self) {
        self.0.pool.close(self.0.deadline()).await;
    }

    /// Checks that a connection can be made and signed in to, and closes it again; sends nothing.
    ///
    /// # Errors
    /// The same errors a submission would give up to AUTH.
    ///
    /// # Cancellation
    /// A dropped future closes the connection.
    pub async fn verify(&self) -> Result<(), Error> {
        let checkout = self.0.pool.checkout_new(self.0.deadline()).await;
        let checkout = checkout.map_err(|error| self.0.explained(error, None))?;
        checkout.quit().await;
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
}

/// What a diagnosis needs to walk the same way.
impl Mailer {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn authentication(&self) -> &Method {
        self.0.pool.authentication()
    }

    pub(crate) fn method(&self) -> AuthenticationMethod {
        self.0.method
    }

    pub(crate) fn explained(&self, error: Error, sender: Option<&lettre::Address>) -> Error {
        self.0.explained(error, sender)
    }
}

impl Inner {
    /// Adds to an error what its remedy needs to know.
    fn explained(&self, error: Error, sender: Option<&lettre::Address>) -> Error {
        let authentication = self.pool.authentication();
        error.with_circumstances(Circumstances::new(&self.endpoint.config, authentication, sender))
    }

    fn deadline(&self) -> Moment {
        self.endpoint.clock.moment().after(self.endpoint.config.timeouts().total())
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
        let Inner { endpoint, pool: _, method: _, limiter: _, retry: _ } = &*self.0;
        f.debug_struct("Mailer")
            .field("host", &endpoint.config.host())
            .field("port", &endpoint.config.port())
            .field("username", &endpoint.config.username())
            .finish_non_exhaustive()
    }
}
