//! The PowerShell that an administrator runs once, written out for one configuration. Runs nothing.

use lettre::Address;

use super::app::App;
use crate::config::{MailServerConfig, is_same_account};
use crate::powershell::quoted;

/// How the app gets its right to send, and so what an administrator has to set up in Exchange Online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendingRight {
    /// A person signs in once (`SMTP.Send`); the app sends with that person's rights.
    Delegated,
    /// The app signs in as itself (`SMTP.SendAsApp`) and has rights on each mailbox, like a person.
    MailboxPermission,
    /// The app signs in as itself and has the role *Application SMTP.SendAsApp* over a set of mailboxes.
    ///
    /// The app registration must then *not* have the permission `SMTP.SendAsApp`: it would bring the check of mailbox
    /// permissions back.
    RoleBasedAccess,
}

/// Writes the PowerShell that lets an app send: `username` signs in, `senders` are the addresses mail comes from.
///
/// Every value is a literal in single quotes. Run it in PowerShell 7 as an Exchange Administrator.
/// Sources: learn.microsoft.com, "Authenticate an IMAP, POP or SMTP connection using OAuth" and "Role Based Access
/// Control for Applications in Exchange Online".
///
/// ```
/// use smtp_oauth::entra::{SendingRight, setup_script};
///
/// let alerts = "alerts@contoso.com".parse()?;
/// let id = "6731de76-14a6-49ae-97bc-6eba6914391e";
/// let script = setup_script(SendingRight::MailboxPermission, id, "svc-mail@contoso.com", &[alerts]);
/// assert!(script.contains("New-ServicePrincipal -AppId $ClientId -ObjectId $App.Id"));
/// assert!(script.contains("Add-RecipientPermission -Identity 'alerts@contoso.com' -AccessRights SendAs"));
/// # Ok::<(), smtp_oauth::lettre::address::AddressError>(())
/// ```
pub fn setup_script(right: SendingRight, client_id: &str, username: &str, senders: &[Address]) -> String {
    let script = Script { client_id, username, senders };
    match right {
        SendingRight::Delegated => script.delegated(),
        SendingRight::MailboxPermission => script.mailbox_permission(),
        SendingRight::RoleBasedAccess => script.role_based(),
    }
}

impl App {
    /// Writes the PowerShell that lets this app send with these settings; see [`setup_script`].
    pub fn setup_script(&self, right: SendingRight, config: &MailServerConfig) -> String {
        setup_script(right, self.client_id(), config.username(), std::slice::from_ref(&config.sender().email))
    }
}

struct Script<'a> {
    client_id: &'a str,
    username: &'a str,
    senders: &'a [Address],
}

const MODULE: &str = "\
# Once for this computer: Install-Module ExchangeOnlineManagement
Connect-ExchangeOnline
";

const SERVICE_PRINCIPAL: &str = "\
# The Object ID is that of the Enterprise application, not the one shown under App registrations.
# Once for this computer: Install-Module Microsoft.Graph.Applications
Connect-MgGraph -Scopes 'Application.Read.All' -NoWelcome
$App = Get-MgServicePrincipal -Filter \"appId eq '$ClientId'\"
if (-not $App) { throw 'The app has no enterprise application yet: grant admin consent first.' }
if (-not (Get-ServicePrincipal | Where-Object AppId -eq $ClientId)) {
    New-ServicePrincipal -AppId $ClientId -ObjectId $App.Id -DisplayName $App.DisplayName
}
";

impl Script<'_> {
    fn delegated(&self) -> String {
        let username = quoted(self.username);
        let mut script = format!(
            "# App registration: API permissions > SMTP.Send (delegated) and offline_access, with consent.\n\
             # {} signs in to the app; it needs a licence with Exchange Online.\n{MODULE}\n",
            comment(self.username),
        );
        script += &self.switch_on();
        script += &self.send_as(&username);
        script
    }

    fn mailbox_permission(&self) -> String {
        let mut script = format!(
            "# App registration: API permissions > Office 365 Exchange Online > Application permissions >\n\
             # SMTP.SendAsApp, then Grant admin consent.\n{MODULE}$ClientId = {}\n\n{SERVICE_PRINCIPAL}\n",
            quoted(self.client_id),
        );
        script += "# The app may use the mailbox it signs in as. Takes up to an hour.\n";
        for mailbox in self.mailboxes() {
            script += &format!(
                "Add-MailboxPermission -Identity {mailbox} -User $App.Id -AccessRights FullAccess\n"
            );
        }
        script += "\n";
        script += &self.switch_on();
        script += &self.send_as("$App.Id");
        script += &format!(
            "\n# Check:\nGet-MailboxPermission -Identity {} | Where-Object User -ne 'NT AUTHORITY\\SELF'\n",
            quoted(self.username)
        );
        script
    }

    fn role_based(&self) -> String {
        let filter: Vec<_> = self
            .addresses()
            .map(|address| format!("EmailAddresses -eq {}", quoted(&format!("smtp:{address}"))))
            .collect();
        let mut script = format!(
            "# App registration: remove SMTP.SendAsApp from API permissions (and its consent) if it is there;\n\
             # the role below replaces it.\n{MODULE}$ClientId = {}\n\n{SERVICE_PRINCIPAL}\n",
            quoted(self.client_id),
        );
        script += &format!(
            "# The app may send from these mailboxes, and no other. Takes up to two hours.\n\
             $Scope = \"SMTP $ClientId\"\n\
             New-ManagementScope -Name $Scope -RecipientRestrictionFilter {}\n\
             New-ManagementRoleAssignment -Role 'Application SMTP.SendAsApp' -App $App.Id -CustomResourceScope $Scope\n\n",
            quoted(&filter.join(" -or ")),
        );
        script += &self.switch_on();
        script += "\n# Check: InScope must be True.\n";
        for mailbox in self.mailboxes() {
            script += &format!("Test-ServicePrincipalAuthorization -Identity $App.Id -Resource {mailbox}\n");
        }
        script
    }

    /// Authenticated SMTP for the mailbox that signs in; that of the tenant may stay off.
    fn switch_on(&self) -> String {
        let username = quoted(self.username);
        format!(
            "# Authenticated SMTP, for this mailbox only; the tenant's switch can stay off.\n\
             Set-CASMailbox -Identity {username} -SmtpClientAuthenticationDisabled $false\n\
             Get-CASMailbox -Identity {username} | Format-List SmtpClientAuthenticationDisabled\n\
             Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled\n"
        )
    }

    fn send_as(&self, trustee: &str) -> String {
        let lines = self.others().map(|sender| {
            let sender = quoted(sender);
            format!("Add-RecipientPermission -Identity {sender} -AccessRights SendAs -Trustee {trustee} -Confirm:$false\n")
        });
        let lines: String = lines.collect();
        match lines.is_empty() {
            true => lines,
            false => format!("\n# Sending as another address. Takes up to an hour.\n{lines}"),
        }
    }

    fn mailboxes(&self) -> impl Iterator<Item = String> {
        self.addresses().map(quoted)
    }

    fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.username).chain(self.others())
    }

    /// The senders other than the mailbox that signs in.
    fn others(&self) -> impl Iterator<Item = &str> {
        let senders = self.senders.iter().map(AsRef::<str>::as_ref);
        senders.filter(|sender| !is_same_account(sender, self.username))
    }
}

/// Keeps a comment on its line.
fn comment(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";

    fn script(right: SendingRight) -> String {
        let senders = ["o'brien@contoso.com".parse().unwrap(), "SVC@contoso.com".parse().unwrap()];
        setup_script(right, ID, "svc@contoso.com", &senders)
    }

    #[test]
    fn each_right_needs_its_own_steps() {
        let cases: [(SendingRight, &[&str], &[&str]); 3] = [
            (
                SendingRight::Delegated,
                &[
                    "Set-CASMailbox -Identity 'svc@contoso.com' -SmtpClientAuthenticationDisabled $false",
                    "-Identity 'o''brien@contoso.com' -AccessRights SendAs -Trustee 'svc@contoso.com'",
                ],
                &["New-ServicePrincipal", "FullAccess"],
            ),
            (
                SendingRight::MailboxPermission,
                &[
                    "New-ServicePrincipal -AppId $ClientId -ObjectId $App.Id",
                    "Add-MailboxPermission -Identity 'svc@contoso.com' -User $App.Id -AccessRights FullAccess",
                    "-Identity 'o''brien@contoso.com' -AccessRights SendAs -Trustee $App.Id",
                ],
                &["New-ManagementScope"],
            ),
            (
                SendingRight::RoleBasedAccess,
                &[
                    "'EmailAddresses -eq ''smtp:svc@contoso.com'' -or EmailAddresses -eq ''smtp:o''''brien@contoso.com'''",
                    "New-ManagementRoleAssignment -Role 'Application SMTP.SendAsApp'",
                    "Test-ServicePrincipalAuthorization -Identity $App.Id -Resource 'o''brien@contoso.com'",
                ],
                &["FullAccess", "SendAs "],
            ),
        ];
        for (right, present, absent) in cases {
            let script = script(right);
            for line in present {
                assert!(script.contains(line), "{right:?} lacks {line}:\n{script}");
            }
            for line in absent {
                assert!(!script.contains(line), "{right:?} has {line}:\n{script}");
            }
            assert!(!script.contains("SVC@"), "the user name is no other sender:\n{script}");
        }
    }

    #[test]
    fn no_value_becomes_a_command() {
        let script = setup_script(SendingRight::Delegated, ID, "a\nRemove-Mailbox b; 'x", &[]);
        assert!(script.lines().all(|line| !line.trim_start().starts_with("Remove-Mailbox")), "{script}");
        assert!(script.contains("'aRemove-Mailbox b; ''x'"), "{script}");
    }
}
