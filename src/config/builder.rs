//! The builder of mail server settings and of the profiles on top. Takes raw values; [`Draft`] checks them.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use super::draft::{Draft, Root};
use super::limits::{ConnectionReuse, SendingLimits};
use super::problem::ConfigError;
use super::server::{Chunking, InitialResponse, MailServerConfig, Tls};
use super::timeouts::Timeouts;
use crate::tls::PlatformRoots;

/// Collects the settings of a mail server; `build` checks them all and reports every problem at once.
///
/// Made by [`MailServerConfig::builder`] and [`Office365Profile::builder`](crate::Office365Profile::builder), each of
/// which has an example. The setters are the same for both; the defaults of a profile may differ.
#[must_use]
pub struct ServerBuilder<T> {
    pub(crate) draft: Draft,
    target: PhantomData<fn() -> T>,
}

impl<T> ServerBuilder<T> {
    pub(crate) fn new(draft: Draft) -> Self {
        Self { draft, target: PhantomData }
    }

    /// Sets the server's DNS name or IP address. Required, but for profiles.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.draft.host = Some(host.into());
        self
    }

    /// Sets the port. Default: 587, and 465 for [`Tls::Implicit`].
    pub fn port(mut self, port: u16) -> Self {
        self.draft.port = Some(port);
        self
    }

    /// Sets how the connection is encrypted. Default: [`Tls::StartTls`]; [`Tls::Implicit`] for Gmail, Yahoo and AOL.
    ///
    /// [`Tls::LoopbackPlaintext`] is refused for a host that is not on this machine.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.draft.tls = Some(tls);
        self
    }

    /// Sets the oldest TLS version that is accepted: `1.2`, the default, or `1.3`.
    pub fn minimum_tls(mut self, version: impl Into<String>) -> Self {
        self.draft.minimum_tls = Some(version.into());
        self
    }

    /// Trusts the certificates in `pem` as well; may be called more than once.
    pub fn extra_roots(mut self, pem: impl Into<String>) -> Self {
        self.draft.roots.push(Root::new("extra_roots", pem.into()));
        self
    }

    /// Trusts only the extra roots, not the operating system's.
    pub fn without_platform_roots(mut self) -> Self {
        self.draft.platform_roots = PlatformRoots::Ignored;
        self
    }

    /// Sets the mailbox that messages of the application's own come from, with or without a name.
    ///
    /// It may differ from the user name; who signs in then needs *Send As* for it. Default: the user name.
    pub fn sender(mut self, mailbox: impl Into<String>) -> Self {
        self.draft.sender = Some(mailbox.into());
        self
    }

    /// Sets the mailbox that test messages go to. Default: none.
    pub fn test_recipient(mut self, mailbox: impl Into<String>) -> Self {
        self.draft.test_recipient = Some(mailbox.into());
        self
    }

    /// Sets the name that signs in. Required.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.draft.username = Some(name.into());
        self
    }

    /// Sets how long each step may take. Default: [`Timeouts::new`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.draft.timeouts = timeouts;
        self
    }

    /// Sets the name given in EHLO: a DNS name, `[192.0.2.1]` or `[IPv6:2001:db8::1]`. Default: `[127.0.0.1]`.
    pub fn hello_name(mut self, name: impl Into<String>) -> Self {
        self.draft.hello_name = Some(name.into());
        self
    }

    /// Sets how many connections may be open at once. Default: 4; 3 for Exchange Online, which allows no more, and for
    /// Outlook.com.
    pub fn max_connections(mut self, connections: NonZeroU32) -> Self {
        self.draft.max_connections = Some(connections);
        self
    }

    /// Sets whether messages are sent in chunks. Default: [`Chunking::Auto`]; off for Exchange Online, Outlook.com and High
    /// Volume Email.
    pub fn chunking(mut self, chunking: Chunking) -> Self {
        self.draft.chunking = Some(chunking);
        self
    }

    /// Sets whether the token goes on the line of the AUTH command. Default: [`InitialResponse::WhenShort`].
    pub fn initial_response(mut self, initial_response: InitialResponse) -> Self {
        self.draft.initial_response = initial_response;
        self
    }

    /// Sets how much the mailbox may send. Default: no limit; [`SendingLimits::exchange_online`] for Exchange Online; for
    /// other services the recipients of a message that their documents name, such as 100 for Gmail.
    pub fn limits(mut self, limits: SendingLimits) -> Self {
        self.draft.limits.whole = Some(limits);
        self
    }

    /// Sets how long a connection is kept for the next message. Default: [`ConnectionReuse::new`].
    pub fn reuse(mut self, reuse: ConnectionReuse) -> Self {
        self.draft.reuse = reuse;
        self
    }

    /// Sets how long before its expiry a token stops being used. Default: 5 minutes, and 20 for High
    /// Volume Email; at most 45.
    pub fn refresh_margin(mut self, margin: Duration) -> Self {
        self.draft.refresh_margin = Some(margin);
        self
    }
}

impl ServerBuilder<MailServerConfig> {
    /// Checks every setting.
    ///
    /// A host of Exchange Online gets its defaults, as from [`Office365Profile`](crate::Office365Profile).
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn build(self) -> Result<MailServerConfig, ConfigError> {
        self.draft.complete()
    }
}

impl<T> Default for ServerBuilder<T> {
    fn default() -> Self {
        Self::new(Draft::default())
    }
}

impl<T> Clone for ServerBuilder<T> {
    fn clone(&self) -> Self {
        Self::new(self.draft.clone())
    }
}

impl<T> fmt::Debug for ServerBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { draft, target: PhantomData } = self;
        f.debug_tuple("ServerBuilder").field(draft).finish()
    }
}
