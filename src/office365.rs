//! The Microsoft 365 profile: Exchange Online's fixed facts on top of the general checks. Signs nobody in.

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error};

use crate::cloud::Cloud;
use crate::config::{
    AuthenticationMethod, ConfigError, ConfigProblem, Draft, Keys, MailProvider, MailServerConfig, Problems,
    ServerBuilder, Table, Tls, blank,
};

/// The port that Exchange Online takes submissions on.
const SUBMISSION: u16 = 587;

/// The settings of a mailbox at Microsoft 365, fixed and checked: STARTTLS on port 587, TLS 1.2 or newer, the cloud's
/// own host, at most three connections.
///
/// A host on this machine is taken as well, with any port but TLS all the same: for fakes and local relays.
///
/// ```
/// use smtp_oauth::{MailServerConfig, Office365Profile};
///
/// let profile = Office365Profile::builder()
///     .username("svc-mail@contoso.com")
///     .sender("Contoso alerts <alerts@contoso.com>")
///     .test_recipient("admin@contoso.com")
///     .build()?;
/// let config = MailServerConfig::from(profile);
/// assert_eq!((config.host(), config.port()), ("smtp.office365.com", 587));
/// assert_eq!(config.max_connections().get(), 3);
/// # Ok::<(), smtp_oauth::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Office365Profile {
    cloud: Cloud,
    config: MailServerConfig,
}

impl Office365Profile {
    /// Starts with the defaults; the user name is required.
    pub fn builder() -> ServerBuilder<Self> {
        ServerBuilder::default()
    }

    /// Returns the cloud that the tenant lives in.
    pub fn cloud(&self) -> Cloud {
        self.cloud
    }

    /// Returns the mail server settings.
    pub fn config(&self) -> &MailServerConfig {
        &self.config
    }

    /// Tells whether the sender is another than the one who signs in, who then needs *Send As* for it.
    pub fn sends_as_other(&self) -> bool {
        self.config.sends_as_other()
    }

    /// Returns the ways to sign in, the preferred one first: OAuth before Basic.
    ///
    /// For how long Basic will do, see [`basic_authentication_retirement`].
    pub fn authentication_methods() -> &'static [AuthenticationMethod] {
        AuthenticationMethod::PREFERENCE
    }
}

impl From<Office365Profile> for MailServerConfig {
    fn from(profile: Office365Profile) -> Self {
        profile.config
    }
}

impl ServerBuilder<Office365Profile> {
    /// Sets the cloud that the tenant lives in; it decides the host. Default: [`Cloud::Public`].
    pub fn cloud(mut self, cloud: Cloud) -> Self {
        self.draft.provider = Some(MailProvider::Exchange(cloud));
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn build(self) -> Result<Office365Profile, ConfigError> {
        let mut draft = self.draft;
        let cloud = match draft.provider {
            Some(MailProvider::Exchange(cloud)) => cloud,
            _ => Cloud::default(),
        };
        draft.provider = Some(MailProvider::Exchange(cloud));
        let problems = problems(&draft, cloud);
        draft.problems.extend_new(problems);
        Ok(Office365Profile { cloud, config: draft.complete()? })
    }
}

impl ServerBuilder<Office365Profile> {
    /// Reads the keys of `[server]`; relative paths are taken from `directory`. `profile` is `None` when it is not known
    /// that this one was meant.
    pub(crate) fn read(keys: &mut Keys<'_>, directory: &Path, profile: Option<MailProvider>) -> Self {
        let clouds = Cloud::ALL.map(|cloud| (cloud.name(), cloud));
        let cloud = keys.choice("cloud", &clouds);
        let mut draft = Draft::read(keys, directory, profile);
        draft.provider = cloud.map(MailProvider::Exchange);
        Self::new(draft)
    }
}

/// Reads the keys of `[server]` without `profile`; unknown keys are problems, with the nearest known one.
///
/// ```
/// use smtp_oauth::{Cloud, Office365Profile};
///
/// let profile: Office365Profile = toml::from_str("cloud = 'us-government'\nusername = 'svc-mail@contoso.us'")?;
/// assert_eq!((profile.cloud(), profile.config().host()), (Cloud::UsGovernment, "smtp.office365.us"));
/// # Ok::<(), toml::de::Error>(())
/// ```
impl<'de> Deserialize<'de> for Office365Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let mut keys = Keys::new(&table);
        let mut builder = ServerBuilder::<Self>::read(
            &mut keys,
            Path::new(""),
            Some(MailProvider::Exchange(Cloud::default())),
        );
        builder.draft.problems.extend(keys.finish());
        builder.build().map_err(|error| D::Error::custom(error.showing_entered(&table)))
    }
}

/// Says when Microsoft ends Basic authentication for SMTP submission, as a sentence for a warning.
///
/// Source: Exchange Team Blog, "Updated Exchange Online SMTP AUTH Basic Authentication Deprecation Timeline",
/// 2026-01-27. It applies to every cloud.
///
/// ```
/// assert!(smtp_oauth::basic_authentication_retirement().contains("December 2026"));
/// ```
pub fn basic_authentication_retirement() -> &'static str {
    "Microsoft turns Basic authentication for SMTP off by default at the end of December 2026 (administrators can turn \
     it on again), offers it to no tenant created after that, and announces its final removal in the second half of \
     2027; use OAuth"
}

/// Finds what the general checks cannot know.
fn problems(draft: &Draft, cloud: Cloud) -> Problems {
    let mut problems = Problems::default();
    let Some(host) = draft.host.as_deref().or(cloud.smtp_hosts().first().copied()) else { return problems };
    if let Some(username) = draft.username.as_deref().filter(|name| !name.is_empty()) {
        problems.extend(username_problem(username));
    }
    if Draft::is_loopback(host) {
        if draft.tls == Some(Tls::LoopbackPlaintext) {
            problems.push(tls_problem(
                Tls::LoopbackPlaintext,
                "Exchange Online is never spoken to without TLS, nor are its fakes",
            ));
        }
        return problems;
    }
    if !draft.problems.concern("cloud") {
        problems.extend(host_problem(host, cloud));
    }
    problems.extend(port_problem(draft.port.unwrap_or(SUBMISSION)));
    problems.extend(match draft.tls.unwrap_or_default() {
        Tls::StartTls => None,
        Tls::Implicit => Some(tls_problem(Tls::Implicit, "Exchange Online has no implicit TLS")),
        Tls::LoopbackPlaintext => {
            Some(tls_problem(Tls::LoopbackPlaintext, "Exchange Online takes no mail without TLS"))
        }
    });
    problems
}

fn tls_problem(tls: Tls, reason: &str) -> ConfigProblem {
    ConfigProblem::new("tls", format!("enter starttls: {reason}")).showing(tls.name())
}

fn username_problem(username: &str) -> Option<ConfigProblem> {
    let is_readable = blank::at_ends(username).is_none() && !username.chars().any(char::is_control);
    (is_readable && username.parse::<lettre::Address>().is_err()).then(|| {
        let mend = "enter the whole user principal name, such as svc-mail@contoso.com";
        ConfigProblem::new("username", mend).showing(username)
    })
}

fn port_problem(port: u16) -> Option<ConfigProblem> {
    let reason = match port {
        SUBMISSION => return None,
        25 => {
            "25 is for mail between servers, is blocked in many networks, and gives applications no better service"
        }
        465 => "Exchange Online has no implicit TLS, so nothing answers on 465",
        _ => "Exchange Online takes submissions on no other port",
    };
    Some(ConfigProblem::new("port", format!("enter 587: {reason}")).showing(port))
}

/// Names the right host, and what the given one is; names that cannot be a host's are left to the general check.
fn host_problem(given: &str, cloud: Cloud) -> Option<ConfigProblem> {
    let host = given.to_ascii_lowercase();
    let [right, ..] = cloud.smtp_hosts() else { return None };
    if cloud.smtp_hosts().contains(&host.as_str()) || !Draft::is_host(given) {
        return None;
    }
    let owner = Cloud::ALL.into_iter().find(|other| other.smtp_hosts().contains(&host.as_str()));
    let reason = if let Some(owner) = owner {
        format!("that is the host of cloud {owner}, while cloud is {cloud}")
    } else if host.ends_with(".mail.protection.outlook.com") {
        "that is where other servers deliver mail for the tenant; nobody can sign in there".to_owned()
    } else if host == "smtp-legacy.office365.com" {
        "that is the host for TLS 1.0 and 1.1, which are not safe".to_owned()
    } else if host == "smtp-mail.outlook.com" {
        "that is the host for personal Outlook.com accounts".to_owned()
    } else if host.parse::<std::net::IpAddr>().is_ok() {
        "Exchange Online is reached by name only; its addresses change".to_owned()
    } else {
        format!(
            "that is no host of cloud {cloud}; for another server use the general mail server settings, in a settings file profile \"custom\""
        )
    };
    Some(ConfigProblem::new("host", format!("enter {right}: {reason}")).showing(given))
}
