//! The validated mail server settings every connection is opened with. Opens none; reads no file.

use std::num::NonZeroU32;
use std::time::Duration;

use lettre::message::Mailbox;

use super::builder::ServerBuilder;
use super::draft::Draft;
use super::host::Host;
use super::limits::{ConnectionReuse, EXCHANGE_CONNECTIONS, SendingLimits};
use super::mailbox::{self, is_same_account};
use super::problem::ConfigProblem;
use super::provider::MailProvider;
use super::timeouts::Timeouts;
use crate::tls::TlsSettings;

/// How the connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tls {
    /// Plain at first, TLS before anything is said (STARTTLS, RFC 3207); never goes on without. The default.
    #[default]
    StartTls,
    /// TLS from the first byte (RFC 8314 §3.3), usually on port 465.
    Implicit,
    /// No encryption, to a server on this machine only: a local relay or a test. OAuth refuses it.
    LoopbackPlaintext,
}

impl Tls {
    /// Returns the name used in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::LoopbackPlaintext => "none",
        }
    }
}

/// Whether messages are sent in chunks (BDAT, RFC 3030) where the server offers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Chunking {
    /// BDAT where the server offers CHUNKING, else DATA. The default.
    #[default]
    Auto,
    /// Always DATA. The default for Exchange Online, whose BDAT was reported broken (jstedfast/MailKit#904).
    Off,
}

/// Whether the access token goes on the line of the AUTH command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InitialResponse {
    /// Only when the line stays within 512 octets (RFC 4954 §4), else after the server's `334`. The default.
    #[default]
    WhenShort,
    /// Always: saves a round trip with servers known to take long lines, as Exchange Online does.
    Always,
}

/// A way to sign in to the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthenticationMethod {
    /// OAuth 2.0 access tokens (XOAUTH2, or OAUTHBEARER of RFC 7628).
    OAuth,
    /// User name and password (PLAIN of RFC 4616, or LOGIN).
    Basic,
}

impl AuthenticationMethod {
    /// The methods in the order of preference.
    pub(crate) const PREFERENCE: &'static [Self] = &[Self::OAuth, Self::Basic];

    /// Returns the name used in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::OAuth => "oauth",
            Self::Basic => "basic",
        }
    }
}

/// The validated settings of a mail server; made by [`builder`](Self::builder), a profile or a settings file.
///
/// ```
/// use smtp_oauth::{MailServerConfig, Tls};
///
/// let config = MailServerConfig::builder()
///     .host("mail.contoso.com")
///     .username("svc-mail@contoso.com")
///     .sender("Contoso alerts <alerts@contoso.com>")
///     .build()?;
/// assert_eq!((config.port(), config.tls()), (587, Tls::StartTls));
/// assert!(config.sends_as_other());
/// # Ok::<(), smtp_oauth::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServerConfig {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) tls: Tls,
    pub(super) tls_settings: TlsSettings,
    pub(super) sender: Mailbox,
    pub(super) test_recipient: Option<Mailbox>,
    pub(super) username: String,
    pub(super) timeouts: Timeouts,
    pub(super) hello_name: String,
    pub(super) max_connections: NonZeroU32,
    pub(super) chunking: Chunking,
    pub(super) initial_response: InitialResponse,
    pub(super) refresh_margin: Duration,
    pub(super) provider: MailProvider,
    pub(super) limits: SendingLimits,
    pub(super) reuse: ConnectionReuse,
}

impl MailServerConfig {
    /// Starts with the defaults; host and user name are required.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::default()
    }

    /// Starts with what the documents of a mail service say: host, port, TLS and limits; the user name is required.
    ///
    /// `build` then refuses what the service would: another host or port, a user name that is no address. A host on this
    /// machine is taken as well, for fakes and local relays.
    ///
    /// ```
    /// use smtp_oauth::{MailProvider, MailServerConfig, Tls};
    ///
    /// let config = MailServerConfig::for_provider(MailProvider::Gmail).username("svc.mail@gmail.com").build()?;
    /// assert_eq!((config.host(), config.port(), config.tls()), ("smtp.gmail.com", 465, Tls::Implicit));
    /// # Ok::<(), smtp_oauth::ConfigError>(())
    /// ```
    pub fn for_provider(provider: MailProvider) -> ServerBuilder<Self> {
        ServerBuilder::new(Draft { provider: Some(provider), ..Draft::default() })
    }

    /// Returns the same settings for another mailbox, which signs in under its own address and sends from it.
    pub(crate) fn for_mailbox(&self, address: &str) -> Result<Self, ConfigProblem> {
        let (username, sender) = mailbox::account("mailbox", address)?;
        let sender = match sender.email == self.sender.email {
            true => self.sender.clone(), // With its name.
            false => sender,
        };
        Ok(Self { username, sender, ..self.clone() })
    }

    /// Returns the server's DNS name or IP address; an IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// Tells whether the server is on this machine: an address of the loopback network, or `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.host.is_loopback()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how the connection is encrypted.
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// Returns which certificates are trusted, and the oldest TLS version.
    pub fn tls_settings(&self) -> &TlsSettings {
        &self.tls_settings
    }

    /// Returns the mailbox that messages of the application's own come from.
    pub fn sender(&self) -> &Mailbox {
        &self.sender
    }

    /// Returns the mailbox that test messages go to.
    pub fn test_recipient(&self) -> Option<&Mailbox> {
        self.test_recipient.as_ref()
    }

    /// Returns the name that signs in.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Tells whether the sender is another than the one who signs in, who then needs *Send As* for it.
    pub fn sends_as_other(&self) -> bool {
        !is_same_account(self.sender.email.as_ref(), &self.username)
    }

    /// Returns how long each step may take.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Returns the name given in EHLO.
    pub fn hello_name(&self) -> &str {
        &self.hello_name
    }

    /// Returns how many connections may be open at once.
    pub fn max_connections(&self) -> NonZeroU32 {
        self.max_connections
    }

    /// Returns whether messages are sent in chunks where the server offers it.
    pub fn chunking(&self) -> Chunking {
        self.chunking
    }

    /// Returns whether the access token goes on the line of the AUTH command.
    pub fn initial_response(&self) -> InitialResponse {
        self.initial_response
    }

    /// Returns how long before its expiry a token stops being used.
    pub fn refresh_margin(&self) -> Duration {
        self.refresh_margin
    }

    /// Returns how much the mailbox may send.
    pub fn limits(&self) -> &SendingLimits {
        &self.limits
    }

    /// Returns how long a connection is kept for the next message.
    pub fn reuse(&self) -> &ConnectionReuse {
        &self.reuse
    }

    /// Returns what works now and needs the administrator's attention all the same, in sentences.
    ///
    /// That is, for Exchange Online, what the mailbox is allowed less of than is set: connections at once (which only a
    /// server on this machine may be set to have more of), messages a minute, recipients a day.
    ///
    /// ```
    /// use smtp_oauth::{Office365Profile, SendingLimits};
    /// use std::num::NonZeroU32;
    ///
    /// let limits = SendingLimits::exchange_online().with_messages_per_minute(NonZeroU32::new(100));
    /// let profile = Office365Profile::builder().username("svc-mail@contoso.com").limits(limits).build()?;
    /// assert!(profile.config().warnings()[0].contains("allows a mailbox 30 messages a minute"));
    /// # Ok::<(), smtp_oauth::ConfigError>(())
    /// ```
    pub fn warnings(&self) -> Vec<String> {
        if !matches!(self.provider, MailProvider::Exchange(_)) {
            return Vec::new();
        }
        let connections = (self.max_connections.get() > EXCHANGE_CONNECTIONS).then(|| {
            format!(
                "max_connections is {}, while Exchange Online allows a mailbox 3 connections at once: it refuses each one \
                 beyond (432 4.3.2), and messages are delayed",
                self.max_connections
            )
        });
        connections.into_iter().chain(self.limits.beyond_exchange_online()).collect()
    }

    /// Returns whose mail server it is.
    pub fn provider(&self) -> MailProvider {
        self.provider
    }

    /// Returns the ways to sign in that the service takes, the preferred one first: OAuth before Basic.
    ///
    /// A password does not expire by itself, can be phished, and is being retired by Microsoft (see
    /// [`basic_authentication_retirement`](crate::basic_authentication_retirement)).
    pub fn authentication_preference(&self) -> &'static [AuthenticationMethod] {
        self.provider.authentication_methods()
    }
}
