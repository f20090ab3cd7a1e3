//! Mail services known by name, and what their documents say of each. Knows no reply of theirs.

use std::num::NonZeroU32;
use std::time::Duration;

use super::blank;
use super::host::Host;
use super::limits::SendingLimits;
use super::problem::{ConfigProblem, Problems};
use super::server::{AuthenticationMethod, Chunking, Tls};
use crate::cloud::Cloud;

/// Whose mail server it is, and so which defaults hold and how its replies are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MailProvider {
    /// Exchange Online in the given cloud: mailboxes at work or school.
    Exchange(Cloud),
    /// Outlook.com: personal accounts, which sign in with OAuth only (since 2024-09-16).
    OutlookCom,
    /// High Volume Email of Microsoft 365: many messages to recipients within the organisation.
    ///
    /// It refuses tokens that are about to expire (`535 5.7.142`), so they are refreshed 20 minutes before.
    HighVolumeEmail,
    /// Email of Azure Communication Services: an SMTP user name, and an Entra client secret as the password.
    AzureCommunicationServices,
    /// Gmail and Google Workspace.
    Gmail,
    /// Yahoo Mail.
    Yahoo,
    /// AOL Mail.
    Aol,
    /// Any other server.
    Other,
}

impl MailProvider {
    /// Every service with settings of its own, but for Exchange Online, which has a
    /// [profile](crate::Office365Profile).
    pub const PRESETS: [Self; 6] = [
        Self::OutlookCom,
        Self::HighVolumeEmail,
        Self::AzureCommunicationServices,
        Self::Gmail,
        Self::Yahoo,
        Self::Aol,
    ];

    /// Returns the name used in settings, as the key `profile`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exchange(_) => "office365",
            Self::OutlookCom => "outlook.com",
            Self::HighVolumeEmail => "high-volume-email",
            Self::AzureCommunicationServices => "azure-communication-services",
            Self::Gmail => "gmail",
            Self::Yahoo => "yahoo",
            Self::Aol => "aol",
            Self::Other => "custom",
        }
    }

    /// Returns the ways to sign in that the service still takes, the preferred one first.
    pub fn authentication_methods(self) -> &'static [AuthenticationMethod] {
        self.service().map_or(AuthenticationMethod::PREFERENCE, |service| service.methods)
    }

    /// Returns the name of the service in a sentence.
    pub(crate) fn title(self) -> &'static str {
        self.service().map_or(self.name(), |service| service.title)
    }

    /// Finds the service that answers at `host`.
    pub(super) fn at(host: &Host) -> Self {
        let exchange = Cloud::ALL.into_iter().find(|cloud| cloud.smtp_hosts().contains(&host.as_str()));
        let preset = || Self::PRESETS.into_iter().find(|provider| provider.answers_at(host.as_str()));
        exchange.map(Self::Exchange).or_else(preset).unwrap_or(Self::Other)
    }

    fn answers_at(self, host: &str) -> bool {
        self.service().is_some_and(|service| service.hosts.contains(&host))
    }

    /// Returns what a service's documents say; nothing of Exchange Online, which has a profile of its own.
    pub(crate) fn service(self) -> Option<&'static Service> {
        match self {
            Self::Exchange(_) | Self::Other => None,
            Self::OutlookCom => Some(&OUTLOOK_COM),
            Self::HighVolumeEmail => Some(&HIGH_VOLUME_EMAIL),
            Self::AzureCommunicationServices => Some(&AZURE_COMMUNICATION_SERVICES),
            Self::Gmail => Some(&GMAIL),
            Self::Yahoo => Some(&YAHOO),
            Self::Aol => Some(&AOL),
        }
    }

    /// Returns the host that settings without one mean.
    pub(super) fn host(self) -> Option<&'static str> {
        match self {
            Self::Exchange(cloud) => cloud.smtp_hosts().first().copied(),
            _ => self.service()?.hosts.first().copied(),
        }
    }

    pub(super) fn tls(self) -> Tls {
        self.service().map_or(Tls::StartTls, |service| service.tls)
    }

    /// Says that the service has STARTTLS alone, as what to enter; `None` where it has more.
    pub(super) fn only_starttls(self) -> Option<String> {
        let title = match (self, self.service()) {
            (Self::Exchange(_), _) => "Exchange Online",
            (_, Some(service)) if service.implicit_ports.is_empty() => service.title,
            _ => return None,
        };
        Some(format!("enter \"starttls\": {title} has nothing else"))
    }

    /// Exchange Online allows three connections at once for a mailbox; Outlook.com is taken to be as strict.
    pub(super) fn connections(self) -> u32 {
        match self {
            Self::Exchange(_) | Self::OutlookCom => 3,
            _ => 4,
        }
    }

    pub(super) fn chunking(self) -> Chunking {
        match self {
            // The same software as Exchange Online's, whose BDAT was reported broken.
            Self::Exchange(_) | Self::OutlookCom | Self::HighVolumeEmail => Chunking::Off,
            _ => Chunking::Auto,
        }
    }

    pub(super) fn refresh_margin(self) -> Duration {
        Duration::from_secs(60 * if self == Self::HighVolumeEmail { 20 } else { 5 })
    }

    pub(super) fn limits(self) -> SendingLimits {
        match self {
            Self::Exchange(_) => SendingLimits::exchange_online(),
            _ => SendingLimits::new().with_recipients_per_message(
                self.service().and_then(|service| NonZeroU32::new(service.recipients_per_message)),
            ),
        }
    }
}

/// What a service's documents say of it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) title: &'static str,
    /// The usual one first.
    hosts: &'static [&'static str],
    /// What it is spoken to with unless something else is set.
    tls: Tls,
    starttls_ports: &'static [u16],
    implicit_ports: &'static [u16],
    methods: &'static [AuthenticationMethod],
    /// Why a way to sign in is missing from `methods`.
    method_reason: &'static str,
    username: Username,
    /// What becomes of a message from another sender than who signs in; empty where that is free.
    pub(crate) other_sender: &'static str,
    /// Zero where no limit is known.
    recipients_per_message: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Username {
    Address,
    Any,
}

impl Service {
    /// Says why a way to sign in cannot work; `None` if it can.
    pub(crate) fn method_problem(&self, method: AuthenticationMethod) -> Option<String> {
        let [right, ..] = self.methods else { return None };
        (!self.methods.contains(&method))
            .then(|| format!("use {}: {} {}", right.name(), self.title, self.method_reason))
    }

    /// Finds what the general checks cannot know; nothing is known of a server on this machine, a fake or a relay.
    pub(super) fn problems(&self, host: &Host, port: u16, tls: Tls, username: &str) -> Problems {
        let mut problems = Problems::default();
        if self.username == Username::Address
            && !username.is_empty()
            && blank::at_ends(username).is_none()
            && !is_address(username)
        {
            let mend = "enter the whole address of the account, such as name@example.com";
            problems.push(ConfigProblem::new("username", mend).showing(username));
        }
        if host.is_loopback() {
            return problems;
        }
        if !self.hosts.contains(&host.as_str()) {
            let right = self.hosts.join(" or ");
            let mend = format!("enter {right}: that is no host of {}", self.title);
            problems.push(ConfigProblem::new("host", mend).showing(host.as_str()));
        }
        let ports = match tls {
            Tls::StartTls => self.starttls_ports,
            Tls::Implicit => self.implicit_ports,
            Tls::LoopbackPlaintext => return problems, // Refused for any server that is not on this machine.
        };
        if ports.is_empty() {
            let mend = format!("enter starttls: {} has no implicit TLS", self.title);
            problems.push(ConfigProblem::new("tls", mend).showing(tls.name()));
        } else if !ports.contains(&port) {
            let right = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
            let mend = format!("enter {right}: {} takes no other port with tls {}", self.title, tls.name());
            problems.push(ConfigProblem::new("port", mend).showing(port));
        }
        problems
    }
}

fn is_address(username: &str) -> bool {
    username.parse::<lettre::Address>().is_ok()
}

/// Source: support.microsoft.com, "POP, IMAP, and SMTP settings for Outlook.com".
const OUTLOOK_COM: Service = Service {
    title: "Outlook.com",
    hosts: &["smtp-mail.outlook.com"],
    tls: Tls::StartTls,
    starttls_ports: &[587],
    implicit_ports: &[],
    methods: &[AuthenticationMethod::OAuth],
    method_reason: "takes no passwords since 2024-09-16",
    username: Username::Address,
    other_sender: "which Outlook.com takes only if it is an alias of the account",
    recipients_per_message: 0,
};

/// Source: learn.microsoft.com/exchange/mail-flow-best-practices/high-volume-mails-m365.
const HIGH_VOLUME_EMAIL: Service = Service {
    title: "High Volume Email",
    hosts: &["smtp.hve.mx.microsoft", "smtp-hve.office365.com"],
    tls: Tls::StartTls,
    starttls_ports: &[587],
    implicit_ports: &[],
    methods: AuthenticationMethod::PREFERENCE,
    method_reason: "",
    username: Username::Address,
    other_sender: "which High Volume Email refuses (5.7.62): set the sender to the account",
    recipients_per_message: 50,
};

/// Source: learn.microsoft.com/azure/communication-services/quickstarts/email/send-email-smtp/smtp-authentication.
const AZURE_COMMUNICATION_SERVICES: Service = Service {
    title: "Azure Communication Services",
    hosts: &["smtp.azurecomm.net"],
    tls: Tls::StartTls,
    starttls_ports: &[587, 25],
    implicit_ports: &[],
    methods: &[AuthenticationMethod::Basic],
    method_reason: "signs in with an SMTP user name, and with the app's client secret as the password",
    username: Username::Any,
    other_sender: "",
    recipients_per_message: 50,
};

/// Sources: support.google.com/a/answer/176600 and, for recipients of a message by SMTP, support.google.com/a/answer/166852.
const GMAIL: Service = Service {
    title: "Gmail",
    hosts: &["smtp.gmail.com"],
    tls: Tls::Implicit,
    starttls_ports: &[587, 25],
    implicit_ports: &[465],
    methods: AuthenticationMethod::PREFERENCE,
    method_reason: "",
    username: Username::Address,
    other_sender: "which Gmail replaces by the account's address unless it is one of its \"Send mail as\" addresses",
    recipients_per_message: 100,
};

/// Source: help.yahoo.com/kb/SLN4724.html.
const YAHOO: Service = Service {
    title: "Yahoo Mail",
    hosts: &["smtp.mail.yahoo.com"],
    tls: Tls::Implicit,
    starttls_ports: &[587],
    implicit_ports: &[465],
    methods: AuthenticationMethod::PREFERENCE,
    method_reason: "",
    username: Username::Address,
    other_sender: "which Yahoo refuses unless it is a verified send-only address of the account",
    recipients_per_message: 0,
};

/// Source: help.aol.com/articles/how-do-i-use-other-email-applications-to-send-and-receive-my-aol-mail.
const AOL: Service = Service { title: "AOL Mail", hosts: &["smtp.aol.com"], ..YAHOO };
