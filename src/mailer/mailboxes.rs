//! Many mailboxes behind one app registration: finds the mailer of each, keeps the state of those in use and drops that of
//! the others. Carries no message itself.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::{self, Mailbox, header};
use lettre::{Address, AsyncTransport, Message};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{Inner, Mailer, MailerBuilder, Ready, SubmitOptions};
use crate::authentication::{Authentication, Method};
use crate::clock::{Clock, Moment};
use crate::config::{ConfigError, ConfigProblem, MailServerConfig, account_key};
use crate::error::Error;
use crate::limits::{Limiter, SharedLimits};
use crate::outcome::Submission;
use crate::pool::{Places, Pool, Refusals};
use crate::retry::RetryPolicy;
use crate::token::TokenNote;

/// Each connection is a file handle, of which a process often has 1024.
const CONNECTIONS: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");

/// How often it is looked for mailboxes whose state can be dropped.
const TIDYING: Duration = Duration::from_secs(60);

/// Sends from many mailboxes of a tenant with one app registration; cheap to clone, clones share everything.
///
/// For an app that signs in as itself (`SMTP.SendAsApp`): its token serves every mailbox that it was given access to, and
/// the user name says which one signs in. Here that is the sender of each message, or whom [`mailbox`](Self::mailbox) is
/// asked for. One token is cached for all. Each mailbox has its own sending limits and at most
/// [`max_connections`](crate::ServerBuilder::max_connections) connections, and there is a cap over all of them
/// ([`max_connections_total`](MailersBuilder::max_connections_total)): when it is reached, connections of other mailboxes
/// that are idle make room, and mailboxes take turns in the order in which they came: one that has more to send goes on
/// over the same connection for five seconds.
///
/// A mailbox that is not used costs nothing: its connections are closed when their idle time is over
/// ([`ConnectionReuse`](crate::ConnectionReuse)), and within a minute nothing is left but its count, while that matters for
/// a sending limit.
///
/// A token that a mailbox refuses is replaced once, as by [`Mailer`]. When the mailbox refuses the next one as well, the
/// fault is the mailbox's, and for ten minutes it gives no cause to replace the token of all others.
///
/// The tokens of one account, from a refresh token, are no use here: Exchange Online lets them sign in as that account
/// only, and [`build`](MailersBuilder::build) refuses them. An account that sends for others needs *Send As* for them, and
/// a [`Mailer`]; the messages name the sender.
///
/// ```
/// use smtp_oauth::lettre::Message;
/// use smtp_oauth::testing::FakeMicrosoft365;
/// use smtp_oauth::{Authentication, Mailers};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenant = FakeMicrosoft365::start().await;
/// tenant.grant_access("alerts@contoso.com");
/// tenant.grant_access("invoices@contoso.com");
/// // In production: Office365Profile::builder().username("alerts@contoso.com"), and entra::App::builder(…).
/// let profile = tenant.server().build()?;
/// let app = tenant.entra().app().build()?;
///
/// let mailers = Mailers::builder(profile)
///     .authentication(Authentication::oauth(app.client_credentials()))
///     .build()?;
/// for sender in ["alerts@contoso.com", "invoices@contoso.com"] {
///     let message = Message::builder()
///         .from(sender.parse()?)
///         .to("reader@example.com".parse()?)
///         .subject("Hello")
///         .body("Hello!\n".to_owned())?;
///     mailers.submit(&message).await?;
/// }
/// mailers.mailbox("alerts@contoso.com")?.send_test().await?;
/// assert_eq!(tenant.entra().requests(), 1);
/// mailers.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mailers(Arc<Shared>);

struct Shared {
    ready: Ready,
    places: Places,
    refusals: Refusals,
    mailboxes: Mutex<Mailboxes>,
}

#[derive(Default)]
struct Mailboxes {
    /// By address in lower case.
    states: HashMap<String, State>,
    closed: bool,
    /// When it was last looked for states to drop.
    tidied: Option<Moment>,
    /// Whether a task looks for them.
    watched: bool,
}

/// What is kept of a mailbox.
struct State {
    limiter: Arc<Limiter>,
    /// `None` after it was found without connection and user.
    pool: Option<Pool>,
}

/// How many connections and mailboxes [`Mailers`] have at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailersStatus {
    /// Connections of all mailboxes: in use, idle, being opened, or saying good-bye.
    pub connections: usize,
    /// The most connections that may be open at once.
    pub most: usize,
    /// Submissions that wait because of that; see [`Mailer::pool_status`] for those that wait because of their mailbox.
    pub waiting: usize,
    /// Mailboxes of which something is kept: a connection, or a count that matters for a sending limit.
    pub mailboxes: usize,
}

/// Sets up [`Mailers`].
#[derive(Debug)]
#[must_use]
pub struct MailersBuilder {
    mailer: MailerBuilder,
    most: NonZeroU32,
}

impl MailersBuilder {
    /// Sets how to sign in: an app's own tokens, such as those of
    /// [`App::client_credentials`](crate::entra::App::client_credentials). Required.
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.mailer = self.mailer.authentication(authentication);
        self
    }

    /// Sets how many connections may be open at once, over all mailboxes. Default: 100.
    ///
    /// The connection with which a diagnosis looks at the network, before it signs in, is not counted.
    pub fn max_connections_total(mut self, connections: NonZeroU32) -> Self {
        self.most = connections;
        self
    }

    /// Sets the clock that deadlines and expiries are read from. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.mailer = self.mailer.clock(clock);
        self
    }

    /// Sets how often a submission is tried again when that is safe. Default: [`RetryPolicy::new`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.mailer = self.mailer.retry(policy);
        self
    }

    /// Sets where a fleet of processes keeps the sending limits together. Default: each process counts for itself.
    pub fn shared_limits(mut self, limits: impl SharedLimits + 'static) -> Self {
        self.mailer = self.mailer.shared_limits(limits);
        self
    }

    /// Builds the mailers; opens no connection and asks for no token.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem: those of [`MailerBuilder::build`], and a password or the tokens of one account,
    /// which cannot sign in as others. A token provider of the program's own is taken at its word.
    pub fn build(self) -> Result<Mailers, ConfigError> {
        let Self { mailer, most } = self;
        let ready = mailer.prepare(not_for_many)?;
        let places = Places::new(usize::try_from(most.get()).unwrap_or(usize::MAX));
        let (refusals, mailboxes) = (Refusals::default(), Mutex::default());
        Ok(Mailers(Arc::new(Shared { ready, places, refusals, mailboxes })))
    }
}

/// Takes over what was set for one mailer, such as from a settings file.
impl From<MailerBuilder> for MailersBuilder {
    fn from(mailer: MailerBuilder) -> Self {
        Self { mailer, most: CONNECTIONS }
    }
}

/// Finds out whether tokens or password are those of one account.
fn not_for_many(method: &Method) -> Option<ConfigProblem> {
    let what = match method {
        Method::Basic(_) => "a password is one mailbox's",
        Method::OAuth(provider) => {
            let notes = provider.notes();
            let is_one = |note: &TokenNote| matches!(note, TokenNote::Delegated | TokenNote::Account(_));
            if !notes.iter().any(is_one) {
                return None;
            }
            "the tokens of a person's sign-in let in that person's mailbox only"
        }
    };
    let mend = format!(
        "sign in as the app itself, such as by `App::client_credentials`: {what}; to send for others from one mailbox, \
         use `Mailer` and give it Send As"
    );
    Some(ConfigProblem::new("authentication", mend))
}

impl Mailers {
    /// Starts mailers for the mail server of `template`.
    ///
    /// Each mailbox takes its user name and sender from its own address and everything else from the template. The
    /// template's user name is the mailbox that messages without a sender (`MAIL FROM:<>`) are sent from.
    pub fn builder(template: impl Into<MailServerConfig>) -> MailersBuilder {
        Mailer::builder(template).into()
    }

    /// Returns the settings that mailboxes start from.
    pub fn config(&self) -> &MailServerConfig {
        &self.0.ready.endpoint.config
    }

    /// Returns the mailer of one mailbox, whoever is named as the sender of its messages.
    ///
    /// It shares token, TLS sessions, limits and the cap on connections with all others here. Opens no connection. While
    /// it, or a clone, is held, the state of the mailbox is kept. Closing it closes the mailbox's connections and fails
    /// what waits for them; whoever asks for the mailbox after that gets a new mailer.
    ///
    /// ```
    /// # fn run(mailers: &smtp_oauth::Mailers) -> Result<(), smtp_oauth::ConfigError> {
    /// let alerts = mailers.mailbox("alerts@contoso.com")?;
    /// assert_eq!(alerts.config().username(), "alerts@contoso.com");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] when `address` is none that could sign in.
    pub fn mailbox(&self, address: impl AsRef<str>) -> Result<Mailer, ConfigError> {
        self.find(address.as_ref(), |config, address| Ok(config.for_mailbox(address)?))
    }

    /// Submits a message to the recipients in its headers, from the mailbox of its sender.
    ///
    /// The sender is the envelope's, which lettre takes from `Sender` or `From`; with an empty one, that of the headers.
    ///
    /// # Errors
    /// As for [`Mailer::submit`], and [`Configuration`](crate::ErrorKind::Configuration) for a sender whose address cannot
    /// be a user name.
    ///
    /// # Cancellation
    /// As for [`Mailer::submit`].
    pub async fn submit(&self, message: &Message) -> Result<Submission, Error> {
        let (headers, envelope) = (message.headers(), message.envelope());
        let in_sender = || headers.get::<header::Sender>().map(Mailbox::from);
        let in_from = || message::Mailboxes::from(headers.get::<header::From>()?).into_iter().next();
        let in_headers = || in_sender().or_else(in_from).map(|mailbox| mailbox.email);
        let sender = envelope.from().cloned().or_else(in_headers);
        self.mailer_of(sender.as_ref())?.submit_raw(envelope, &message.formatted()).await
    }

    /// Submits a message that is already formatted (RFC 5322), from the mailbox of the envelope's sender.
    ///
    /// With an empty sender, from the mailbox of the template.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    ///
    /// # Cancellation
    /// As for [`Mailer::submit`].
    pub async fn submit_raw(&self, envelope: &Envelope, message: &[u8]) -> Result<Submission, Error> {
        self.submit_with(envelope, message, &SubmitOptions::default()).await
    }

    /// Submits a message that is already formatted, with options; else as [`submit_raw`](Self::submit_raw).
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    ///
    /// # Cancellation
    /// As for [`Mailer::submit`].
    pub async fn submit_with(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
    ) -> Result<Submission, Error> {
        self.mailer_of(envelope.from())?.submit_with(envelope, message, options).await
    }

    /// Returns how many connections and mailboxes there are, after dropping the state of mailboxes that need none.
    pub fn status(&self) -> MailersStatus {
        let places = self.0.places.status();
        let mut mailboxes = self.0.mailboxes();
        mailboxes.tidy(self.now());
        MailersStatus {
            connections: places.taken,
            most: places.most,
            waiting: places.waiting,
            mailboxes: mailboxes.states.len(),
        }
    }

    /// Closes all mailboxes: waits for submissions under way, says QUIT on idle connections.
    ///
    /// Submissions that wait, and later ones, fail with [`Closed`](crate::ErrorKind::Closed), those of mailers that
    /// [`mailbox`](Self::mailbox) returned included. Waits no longer than
    /// [`Timeouts::total`](crate::Timeouts::total).
    ///
    /// # Cancellation
    /// A dropped future leaves the mailers closed; submissions under way go on.
    pub async fn close(&self) {
        let pools: Vec<Pool> = {
            let mut mailboxes = self.0.mailboxes();
            mailboxes.closed = true;
            let pools: Vec<_> = mailboxes.states.values().filter_map(|state| state.pool.clone()).collect();
            pools.iter().for_each(Pool::refuse_all);
            pools
        };
        let deadline = self.now().after(self.config().timeouts().total());
        let mut closing: JoinSet<()> =
            pools.into_iter().map(|pool| async move { pool.close(deadline).await }).collect();
        while closing.join_next().await.is_some() {}
    }

    fn mailer_of(&self, sender: Option<&Address>) -> Result<Mailer, ConfigError> {
        match sender {
            Some(sender) => self.mailbox(sender),
            None => self.find(self.config().username(), |config, _| Ok(config.clone())),
        }
    }

    /// Returns the mailer of `address`, over what is kept of the mailbox; `settings` are made only when nothing is.
    fn find(
        &self,
        address: &str,
        settings: impl FnOnce(&MailServerConfig, &str) -> Result<MailServerConfig, ConfigError>,
    ) -> Result<Mailer, ConfigError> {
        let Shared { ready, places, refusals, .. } = &*self.0;
        let key = account_key(address);
        let mut mailboxes = self.0.mailboxes();
        mailboxes.tidy_now_and_then(self.now());
        let known = mailboxes.states.get(&key).and_then(|state| state.pool.clone());
        // One that was closed by itself is replaced; what is under way over it goes on.
        let pool = match known.filter(|pool| mailboxes.closed || !pool.is_closed()) {
            Some(pool) => pool,
            None => {
                let endpoint = ready.endpoint.with_config(settings(self.config(), address)?);
                let authentication = ready.authentication.clone();
                Pool::sharing(endpoint, authentication, places.clone(), refusals.clone())
            }
        };
        if mailboxes.closed {
            pool.refuse_all();
        }
        let new = || State { limiter: ready.limiter(&pool.endpoint().config), pool: None };
        let state = mailboxes.states.entry(key).or_insert_with(new);
        state.pool = Some(pool.clone());
        let limiter = state.limiter.clone();
        self.watch(&mut mailboxes);
        drop(mailboxes);
        let (endpoint, method) = (pool.endpoint().clone(), ready.method);
        Ok(Mailer(Arc::new(Inner { endpoint, pool, method, limiter, retry: ready.retry })))
    }

    /// Sees to it that states are dropped even if nobody asks for a mailbox any more.
    fn watch(&self, mailboxes: &mut Mailboxes) {
        if mailboxes.watched {
            return;
        }
        // Outside of a runtime nothing can be sent either; the next call from within one makes up for it.
        if let Ok(runtime) = Handle::try_current() {
            mailboxes.watched = true;
            runtime.spawn(watch(Watch(Arc::downgrade(&self.0)), self.0.ready.endpoint.clock.clone()));
        }
    }

    fn now(&self) -> Moment {
        self.0.ready.endpoint.clock.moment()
    }
}

impl Shared {
    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailboxes {
    fn tidy_now_and_then(&mut self, now: Moment) {
        if self.tidied.is_none_or(|at| now.since(at) >= TIDYING) {
            self.tidy(now);
        }
    }

    /// Drops what nobody uses and nothing is known by.
    fn tidy(&mut self, now: Moment) {
        self.tidied = Some(now);
        self.states.retain(|_, State { limiter, pool }| {
            // Whoever holds neither can get at them only through here.
            if pool.as_ref().is_some_and(Pool::is_quiet) {
                *pool = None;
            }
            pool.is_some() || Arc::strong_count(limiter) > 1 || !limiter.is_spent()
        });
        if self.states.len() < self.states.capacity() / 4 {
            self.states.shrink_to_fit();
        }
    }
}

/// The task that drops states: one for all mailboxes, as long as there are any.
struct Watch(Weak<Shared>);

impl Drop for Watch {
    /// However the task ends, be it with its runtime.
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.mailboxes().watched = false;
        }
    }
}

async fn watch(mut watch: Watch, clock: Clock) {
    loop {
        clock.sleep(TIDYING).await;
        let Some(shared) = watch.0.upgrade() else { return };
        let mut mailboxes = shared.mailboxes();
        mailboxes.tidy(clock.moment());
        if mailboxes.states.is_empty() {
            // Under the lock: whoever adds a mailbox after this starts another task.
            mailboxes.watched = false;
            watch.0 = Weak::new();
            return;
        }
    }
}

impl AsyncTransport for Mailers {
    type Ok = Submission;
    type Error = Error;

    fn send_raw<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        envelope: &'life1 Envelope,
        email: &'life2 [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Submission, Error>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.submit_raw(envelope, email))
    }
}

impl fmt::Debug for Mailers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { ready, places, refusals: _, mailboxes: _ } = &*self.0;
        f.debug_struct("Mailers")
            .field("host", &ready.endpoint.config.host())
            .field("port", &ready.endpoint.config.port())
            .field("connections", &places.status())
            .field("mailboxes", &self.0.mailboxes().states.len())
            .finish_non_exhaustive()
    }
}
