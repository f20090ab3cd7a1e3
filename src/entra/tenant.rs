//! The tenant part of Entra's endpoints: who may sign in. Asks no server whether a tenant exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The tenant that personal Microsoft accounts live in.
pub(super) const CONSUMERS_ID: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// The directory an app signs in to: one tenant, or a group of them ("supported account types").
///
/// ```
/// use smtp_oauth::entra::Tenant;
///
/// assert!(Tenant::parse("contoso.onmicrosoft.com")?.is_single());
/// assert!(!Tenant::parse("organizations")?.is_single());
/// assert!(Tenant::parse("admin@contoso.com").is_err());
/// # Ok::<(), smtp_oauth::entra::TenantError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Directory);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Directory {
    Common,
    Organizations,
    Consumers,
    /// Lower case, as Entra prints it.
    Id(String),
    Domain(String),
}

/// A text names no tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a tenant: give the directory (tenant) id, a verified domain such as `contoso.onmicrosoft.com`, \
     or `organizations`, `consumers` or `common`"
)]
pub struct TenantError {
    text: String,
}

impl Tenant {
    /// Reads a directory id (GUID), a verified domain, or one of the names `organizations`, `consumers`, `common`.
    ///
    /// # Errors
    /// [`TenantError`] for anything else, such as an address or a URL.
    pub fn parse(text: &str) -> Result<Self, TenantError> {
        let name = text.trim().to_ascii_lowercase();
        let directory = match name.as_str() {
            "common" => Directory::Common,
            "organizations" => Directory::Organizations,
            "consumers" | CONSUMERS_ID => Directory::Consumers,
            id if is_guid(id) => Directory::Id(name),
            domain if is_domain(domain) => Directory::Domain(name),
            _ => {
                let shown = text.chars().filter(|char| !char.is_control()).take(80).collect();
                return Err(TenantError { text: shown });
            }
        };
        Ok(Self(directory))
    }

    /// Returns the name in Entra's URLs.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Directory::Common => "common",
            Directory::Organizations => "organizations",
            Directory::Consumers => "consumers",
            Directory::Id(name) | Directory::Domain(name) => name,
        }
    }

    /// Tells whether an administrator can consent for all of it: one tenant, or `organizations` for whoever comes.
    pub(super) fn has_administrators(&self) -> bool {
        !matches!(self.0, Directory::Common | Directory::Consumers)
    }

    /// Tells whether this is one tenant, which signing in as the app itself needs.
    pub fn is_single(&self) -> bool {
        matches!(self.0, Directory::Id(_) | Directory::Domain(_))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tenant {
    type Err = TenantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Tenant {
    type Error = TenantError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.as_str().to_owned()
    }
}

/// Tells whether `text` has the shape `8-4-4-4-12` of hexadecimal digits.
pub(crate) fn is_guid(text: &str) -> bool {
    let mut groups = text.split('-');
    let shaped = [8, 4, 4, 4, 12].into_iter().all(|length| {
        groups
            .next()
            .is_some_and(|group| group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    shaped && groups.next().is_none()
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A last label without a letter would make an IP address of it.
    let top = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && top.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_ids_domains_and_three_names() {
        let cases = [
            ("organizations", Some("organizations")),
            (" Common ", Some("common")),
            ("9188040D-6c67-4c5b-b112-36a304b66dad", Some("consumers")),
            ("6C8E1B5A-0000-4000-8000-00000000000F", Some("6c8e1b5a-0000-4000-8000-00000000000f")),
            ("Contoso.OnMicrosoft.com", Some("contoso.onmicrosoft.com")),
            ("xn--mnchen-3ya.example", Some("xn--mnchen-3ya.example")),
            ("", None),
            ("contoso", None),
            ("admin@contoso.com", None),
            ("https://login.microsoftonline.com/common", None),
            ("contoso.com/../common", None),
            ("192.0.2.1", None),
            ("-a.example", None),
            ("a..example", None),
            ("6c8e1b5a-0000-4000-8000-0000000000", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Tenant::parse(text).ok().as_ref().map(Tenant::as_str), expected, "{text}");
        }
    }
}
