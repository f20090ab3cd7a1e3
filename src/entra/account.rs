//! Who signed in, as Entra's ID token says it. Proves nothing: names are for display, comparison and hints.

use super::tenant::CONSUMERS_ID;
use crate::oauth::{AccountMismatch, SignedIn};

/// The account that signed in.
///
/// Source: learn.microsoft.com/entra/identity-platform/id-token-claims-reference.
///
/// ```
/// # async fn example(signed_in: smtp_oauth::oauth::SignedIn) -> Option<()> {
/// use smtp_oauth::entra::Account;
///
/// let account = Account::of(&signed_in)?;
/// if let Err(mismatch) = account.check_username("svc-mail@contoso.com") {
///     eprintln!("warning: {mismatch}");
/// }
/// # Some(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// The object id; with the tenant's the only name that never changes (`oid`).
    pub object_id: Option<String>,
    /// The id of the tenant that the account lives in (`tid`).
    pub tenant_id: Option<String>,
    /// The name by which the person signs in, a user principal name as a rule; it may change.
    pub username: String,
    /// The display name (`name`).
    pub name: Option<String>,
    /// The mail address, when the directory has one and the scope `email` was asked for.
    pub email: Option<String>,
}

impl Account {
    /// Reads the account that signed in; `None` when the ID token names none, or there is no ID token.
    pub fn of(signed_in: &SignedIn) -> Option<Self> {
        let token = signed_in.id_token()?;
        let claim = |name| token.claim(name).map(str::to_owned);
        Some(Self {
            object_id: claim("oid"),
            tenant_id: claim("tid"),
            username: token.username()?.to_owned(),
            name: claim("name"),
            email: claim("email"),
        })
    }

    /// Tells whether this is a personal account (outlook.com), which smtp.office365.com does not serve.
    pub fn is_personal(&self) -> bool {
        self.tenant_id.as_deref() == Some(CONSUMERS_ID)
    }

    /// Compares the account with the username that the mail server is told, without regard to case.
    ///
    /// # Errors
    /// [`AccountMismatch`], which explains why it is a warning: Exchange decides.
    pub fn check_username(&self, username: &str) -> Result<(), AccountMismatch> {
        let names: Vec<&str> = std::iter::once(self.username.as_str()).chain(self.email.as_deref()).collect();
        AccountMismatch::check(&names, username)
    }
}
