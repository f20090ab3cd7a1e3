//! Scopes (RFC 6749 §3.3): which of them an access token is for, and whether all were granted. Knows no server's names.

/// Ask for a refresh token or for an ID token; the access token is for none of them.
const ABOUT_SIGN_IN: [&str; 6] = ["offline_access", "openid", "profile", "email", "address", "phone"];

/// A sign-in was granted less than it asked for; found as the source of a [`TokenError`](crate::TokenError).
///
/// Mail cannot be sent with what was granted. The permission is missing in the app's registration, or nobody consented
/// to it; [`entra::remedy`](crate::entra::remedy) says where to add it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{scope}` is not among the granted scopes: {}", shown(granted))]
pub struct MissingScope {
    scope: String,
    granted: Vec<String>,
}

impl MissingScope {
    /// Returns the scope that was asked for and not granted.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the permission's own name, without the resource: `SMTP.Send`.
    pub fn permission(&self) -> &str {
        permission(&self.scope)
    }

    /// Returns the scopes that were granted.
    pub fn granted(&self) -> &[String] {
        &self.granted
    }
}

/// Returns the scopes that tell one access token from another.
pub(super) fn purpose(scopes: &[String]) -> String {
    let purpose: Vec<&str> =
        scopes.iter().map(String::as_str).filter(|scope| !ABOUT_SIGN_IN.contains(scope)).collect();
    purpose.join(" ")
}

/// Finds a scope that was not granted. No granted scopes at all mean all of them (RFC 6749 §5.1).
pub(super) fn missing(wanted: &[String], granted: &[String]) -> Option<MissingScope> {
    if granted.is_empty() {
        return None;
    }
    let is_granted = |wanted: &str| granted.iter().any(|granted| is_same(wanted, granted));
    let missing =
        wanted.iter().find(|scope| !ABOUT_SIGN_IN.contains(&scope.as_str()) && !is_granted(scope))?;
    Some(MissingScope { scope: missing.clone(), granted: granted.to_vec() })
}

/// One resource has several hosts (`outlook.office.com`, `outlook.office365.com`), and the server picks one to answer
/// with; a name without a resource is another resource's.
fn is_same(wanted: &str, granted: &str) -> bool {
    let is_named_within = |scope: &str| scope.contains("://") && !permission(scope).is_empty();
    wanted.eq_ignore_ascii_case(granted)
        || (is_named_within(wanted)
            && is_named_within(granted)
            && permission(wanted).eq_ignore_ascii_case(permission(granted)))
}

fn permission(scope: &str) -> &str {
    scope.rsplit_once('/').map_or(scope, |(_, permission)| permission)
}

fn shown(granted: &[String]) -> String {
    let line = granted.join(" ");
    line.chars().filter(|char| !char.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_granted_under_any_host_of_its_resource_but_not_without_one() {
        let cases = [
            ("https://outlook.office.com/SMTP.Send", "https://outlook.office.com/SMTP.Send", true),
            ("https://outlook.office.com/SMTP.Send", "https://outlook.office365.com/smtp.send", true),
            ("https://outlook.office.com/SMTP.Send", "SMTP.Send", false),
            (
                "https://outlook.office.com/SMTP.Send",
                "https://outlook.office.com/IMAP.AccessAsUser.All",
                false,
            ),
            ("https://mail.google.com/", "https://mail.google.com/", true),
            ("https://mail.google.com/", "https://www.example/", false),
            ("openid", "something", true),
        ];
        for (wanted, granted, expected) in cases {
            let missing = missing(&[wanted.to_owned()], &[granted.to_owned()]);
            assert_eq!(missing.is_none(), expected, "{wanted} in {granted}");
        }
        assert_eq!(missing(&["a".to_owned()], &[]), None);
    }
}
