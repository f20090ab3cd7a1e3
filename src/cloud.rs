//! Microsoft's clouds: one switch for sign-in host, mail server and permission scopes together. Performs no I/O.

use serde::{Deserialize, Serialize};

/// The Microsoft cloud a tenant lives in.
///
/// Sign-in host, mail server and scopes belong together: a token from one cloud is refused by the others.
/// Source: learn.microsoft.com/entra/identity-platform/authentication-national-cloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cloud {
    /// The worldwide cloud, which includes US Government GCC. The default.
    #[default]
    Public,
    /// US Government GCC High.
    UsGovernment,
    /// US Government, Department of Defense.
    UsGovernmentDod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// Every cloud.
    pub const ALL: [Self; 4] = [Self::Public, Self::UsGovernment, Self::UsGovernmentDod, Self::China];

    /// Returns the name used in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::UsGovernment => "us-government",
            Self::UsGovernmentDod => "us-government-dod",
            Self::China => "china",
        }
    }

    /// Returns the host of the sign-in authority.
    pub fn authority_host(self) -> &'static str {
        match self {
            Self::Public => "login.microsoftonline.com",
            Self::UsGovernment | Self::UsGovernmentDod => "login.microsoftonline.us",
            Self::China => "login.partner.microsoftonline.cn",
        }
    }

    /// Returns the hosts of the mail server for client submission, the usual one first.
    pub fn smtp_hosts(self) -> &'static [&'static str] {
        match self {
            Self::Public => &["smtp.office365.com"],
            Self::UsGovernment => &["smtp.office365.us"],
            Self::UsGovernmentDod => &["outlook-dod.office365.us"],
            Self::China => &["smtp.partner.outlook.cn", "partner.outlook.cn"],
        }
    }

    /// Returns the scope of the delegated permission `SMTP.Send`.
    pub fn smtp_send_scope(self) -> &'static str {
        match self {
            Self::Public => "https://outlook.office.com/SMTP.Send",
            Self::UsGovernment | Self::UsGovernmentDod => "https://outlook.office365.us/SMTP.Send",
            Self::China => "https://partner.outlook.cn/SMTP.Send",
        }
    }

    /// Returns the scope for signing in as the app itself: every application permission granted to it, such as
    /// `SMTP.SendAsApp`.
    ///
    /// Documented by Microsoft for the worldwide cloud; in the others it follows the mail server's resource.
    pub fn app_scope(self) -> &'static str {
        match self {
            Self::Public => "https://outlook.office365.com/.default",
            Self::UsGovernment => "https://outlook.office365.us/.default",
            Self::UsGovernmentDod => "https://outlook-dod.office365.us/.default",
            Self::China => "https://partner.outlook.cn/.default",
        }
    }
}

impl std::fmt::Display for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
