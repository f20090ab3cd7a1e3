//! The raw mail server settings and the one place that checks them. Reads no file.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::host::{self, Host};
use super::limits::{ConnectionReuse, EXCHANGE_CONNECTIONS, SendingLimits, WhenReached};
use super::mailbox;
use super::problem::{ConfigError, ConfigProblem, Problems};
use super::provider::MailProvider;
use super::server::{Chunking, InitialResponse, MailServerConfig, Tls};
use super::time;
use super::timeouts::Timeouts;
use crate::tls::{PlatformRoots, TlsSettings, TlsVersion};

/// Ports of RFC 8314 §7.3 (implicit TLS) and RFC 6409 §3.1 (submission).
const SUBMISSIONS: u16 = 465;
const SUBMISSION: u16 = 587;

/// Entra's tokens live for 60 to 90 minutes: a longer margin would leave none to use.
const LONGEST_REFRESH_MARGIN: Duration = Duration::from_secs(45 * 60);

/// What was entered, before it is checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Whose profile was chosen; else the host tells.
    pub(crate) provider: Option<MailProvider>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) tls: Option<Tls>,
    pub(crate) minimum_tls: Option<String>,
    pub(crate) roots: Vec<Root>,
    pub(crate) platform_roots: PlatformRoots,
    pub(crate) sender: Option<String>,
    pub(crate) test_recipient: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) timeouts: Timeouts,
    pub(crate) hello_name: Option<String>,
    pub(crate) max_connections: Option<NonZeroU32>,
    pub(crate) chunking: Option<Chunking>,
    pub(crate) initial_response: InitialResponse,
    pub(crate) refresh_margin: Option<Duration>,
    pub(crate) limits: LimitsDraft,
    pub(crate) reuse: ConnectionReuse,
    pub(crate) problems: Problems,
}

/// Sending limits as entered; what was not entered is the provider's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LimitsDraft {
    pub(crate) whole: Option<SendingLimits>,
    pub(crate) messages_per_minute: Option<Limit>,
    pub(crate) recipients_per_day: Option<Limit>,
    pub(crate) recipients_per_message: Option<Limit>,
    pub(crate) when_reached: Option<WhenReached>,
}

/// One limit as entered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtMost(NonZeroU32),
    None,
}

impl Limit {
    fn or(given: Option<Self>, default: Option<NonZeroU32>) -> Option<NonZeroU32> {
        match given {
            Some(Self::AtMost(limit)) => Some(limit),
            Some(Self::None) => None,
            None => default,
        }
    }
}

impl LimitsDraft {
    fn complete(self, provider: MailProvider) -> SendingLimits {
        let limits = self.whole.unwrap_or_else(|| provider.limits());
        limits
            .with_messages_per_minute(Limit::or(self.messages_per_minute, limits.messages_per_minute()))
            .with_recipients_per_day(Limit::or(self.recipients_per_day, limits.recipients_per_day()))
            .with_recipients_per_message(Limit::or(
                self.recipients_per_message,
                limits.recipients_per_message(),
            ))
            .with_when_reached(self.when_reached.unwrap_or(limits.when_reached()))
    }
}

/// Root certificates in PEM, with the setting they came from.
#[derive(Clone)]
pub(crate) struct Root {
    field: &'static str,
    pem: String,
}

impl Root {
    pub(crate) fn new(field: &'static str, pem: String) -> Self {
        Self { field, pem }
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, pem } = self; // A private key may have been pasted along.
        write!(f, "{field} of {} octets", pem.len())
    }
}

impl Draft {
    /// Tells whether `given` is the name or address of a host.
    pub(crate) fn is_host(given: &str) -> bool {
        Host::parse(given).is_ok()
    }

    /// Tells whether `given` is a host on this machine.
    pub(crate) fn is_loopback(given: &str) -> bool {
        Host::parse(given).is_ok_and(|host| host.is_loopback())
    }

    /// Checks everything, but for fields that have a problem already.
    pub(crate) fn complete(mut self) -> Result<MailServerConfig, ConfigError> {
        let mut found = Problems::default();
        let default_host = self.provider.and_then(MailProvider::host).unwrap_or_default();
        let host = found.accept(Host::parse(self.host.as_deref().unwrap_or(default_host)));
        let by_name = || host.as_ref().map_or(MailProvider::Other, MailProvider::at);
        let provider = self.provider.unwrap_or_else(by_name);
        let tls = self.tls.unwrap_or_else(|| provider.tls());
        let port = self.port.unwrap_or(if tls == Tls::Implicit { SUBMISSIONS } else { SUBMISSION });
        if let Some(host) = host.as_ref().filter(|_| !self.problems.concern("tls")) {
            found.extend(transport_problems(host, port, tls));
        }
        if let (Some(host), Some(service)) = (&host, provider.service()) {
            let username = self.username.as_deref().unwrap_or_default();
            found.extend_new(service.problems(host, port, tls, username));
        }
        let tls_settings = self.tls_settings(&mut found);
        let username = found.accept(mailbox::username(self.username.as_deref().unwrap_or_default()));
        let sender = match (&self.sender, &username) {
            (Some(sender), _) => found.accept(mailbox::mailbox("sender", sender)),
            (None, Some(username)) => found.accept(mailbox::sender_from(username)),
            (None, None) => None,
        };
        let test_recipient = self
            .test_recipient
            .as_deref()
            .and_then(|given| found.accept(mailbox::mailbox("test_recipient", given)));
        found.extend(self.timeouts.problems());
        found.extend(self.reuse.problems());
        let hello_name = found.accept(host::hello_name(self.hello_name.as_deref().unwrap_or("[127.0.0.1]")));
        let margin = self.refresh_margin.unwrap_or_else(|| provider.refresh_margin());
        let refresh_margin = found.accept(refresh_margin(margin));
        let max_connections = found.accept(self.connections(host.as_ref(), provider));

        let config = (|| {
            Some(MailServerConfig {
                host: host?,
                port,
                tls,
                tls_settings: tls_settings?,
                sender: sender?,
                test_recipient,
                username: username?,
                timeouts: self.timeouts,
                hello_name: hello_name?,
                max_connections: max_connections?,
                chunking: self.chunking.unwrap_or_else(|| provider.chunking()),
                initial_response: self.initial_response,
                refresh_margin: refresh_margin?,
                provider,
                limits: self.limits.complete(provider),
                reuse: self.reuse,
            })
        })();
        self.problems.extend_new(found);
        self.problems.finish(config)
    }

    fn connections(&self, host: Option<&Host>, provider: MailProvider) -> Result<NonZeroU32, ConfigProblem> {
        let default = NonZeroU32::new(provider.connections());
        let connections = self.max_connections.or(default).unwrap_or(NonZeroU32::MIN);
        let is_exchange = matches!(provider, MailProvider::Exchange(_));
        let is_loopback = host.is_some_and(Host::is_loopback); // A fake, or a relay of one's own.
        if is_exchange && !is_loopback && connections.get() > EXCHANGE_CONNECTIONS {
            let mend = "enter at most 3: Exchange Online refuses a mailbox's fourth connection (432 4.3.2)";
            return Err(ConfigProblem::new("max_connections", mend).showing(connections));
        }
        Ok(connections)
    }

    fn tls_settings(&self, problems: &mut Problems) -> Option<TlsSettings> {
        let mut settings = TlsSettings::new();
        let mut is_valid = true;
        if let Some(number) = &self.minimum_tls {
            match TlsVersion::parse(number) {
                Some(version) => settings = settings.with_minimum_version(version),
                None => {
                    is_valid = false;
                    let mend = "enter 1.2 or 1.3: older versions are not safe (RFC 8996), and Exchange Online refuses them";
                    problems.push(ConfigProblem::new("minimum_tls", mend).showing(number));
                }
            }
        }
        for Root { field, pem } in &self.roots {
            match settings.clone().with_extra_roots(pem) {
                Ok(with_roots) => settings = with_roots,
                Err(error) => {
                    is_valid = false;
                    let reason = error.source().map_or(String::new(), |source| format!(" ({source})"));
                    let mend =
                        format!("enter PEM with the roots' `BEGIN CERTIFICATE` blocks: {error}{reason}");
                    problems.push(ConfigProblem::new(*field, mend));
                }
            }
        }
        if self.platform_roots == PlatformRoots::Ignored {
            settings = settings.without_platform_roots();
            if self.roots.is_empty() && !self.problems.concern("root_certificates") {
                is_valid = false;
                let mend = "add root certificates, or trust the operating system's: without either no server is trusted";
                problems.push(ConfigProblem::new("trust_platform_roots", mend));
            }
        }
        is_valid.then_some(settings)
    }
}

fn transport_problems(host: &Host, port: u16, tls: Tls) -> Option<ConfigProblem> {
    let port_problem = |mend: &'static str| Some(ConfigProblem::new("port", mend).showing(port));
    match (tls, port) {
        (_, 0) => port_problem("enter the server's port, usually 587"),
        (Tls::LoopbackPlaintext, _) if !host.is_loopback() => {
            let mend = "enter starttls: only a server on this machine may be spoken to without encryption";
            Some(ConfigProblem::new("tls", mend).showing(tls.name()))
        }
        _ if host.is_loopback() => None,
        (Tls::StartTls, SUBMISSIONS) => {
            port_problem("enter 587, or set tls to implicit: on 465 TLS comes first (RFC 8314)")
        }
        (Tls::Implicit, 25 | SUBMISSION) => port_problem(
            "enter 465, or set tls to starttls: on 25 and 587 the server speaks first, in plain text",
        ),
        _ => None,
    }
}

fn refresh_margin(margin: Duration) -> Result<Duration, ConfigProblem> {
    if margin <= LONGEST_REFRESH_MARGIN {
        return Ok(margin);
    }
    let mend = "enter at most 45m: tokens live for an hour or little more, and would never be used";
    Err(ConfigProblem::new("refresh_margin", mend).showing(time::written(margin)))
}
