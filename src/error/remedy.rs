//! From an error and the settings it happened with to a remedy: fills in addresses, narrows causes down. Decides no kind.

use super::{Error, ErrorKind, Inner};
use crate::authentication::Method;
use crate::cause::{Finding, ReplyCause, SEND_AS};
use crate::config::{MailServerConfig, is_same_account};
use crate::entra;
use crate::office365::basic_authentication_retirement;
use crate::remedy::{Advice, Blanks, Remedy, Who};
use crate::smtp::{Phase, Reply};
use crate::token::TokenNote;

/// What is known of the settings when an error leaves the mailer. No secrets.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    username: String,
    sender: String,
    host: String,
    port: String,
    signed_in: SignedIn,
}

/// Who asks to be let in, which decides what a bare refusal is likely to mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignedIn {
    /// An account, by OAuth.
    Account,
    /// Whoever a provider of the program's own has tokens for, by OAuth.
    Somebody,
    /// The app as itself, by OAuth.
    App,
    Password,
}

impl SignedIn {
    fn of(authentication: &Method) -> Self {
        match authentication {
            Method::OAuth(provider) => {
                let who = |note: &TokenNote| match note {
                    TokenNote::AppOnly => Some(Self::App),
                    TokenNote::Delegated | TokenNote::Account(_) => Some(Self::Account),
                    TokenNote::Fact(_) | TokenNote::Warning(_) => None,
                };
                provider.notes().iter().find_map(who).unwrap_or(Self::Somebody)
            }
            Method::Basic(_) => Self::Password,
        }
    }
}

impl Circumstances {
    /// `sender` is the envelope's, for a message; else the configured one counts.
    pub(crate) fn new(
        config: &MailServerConfig,
        authentication: &Method,
        sender: Option<&lettre::Address>,
    ) -> Self {
        Self {
            username: config.username().to_owned(),
            sender: sender.unwrap_or(&config.sender().email).to_string(),
            host: config.host().to_owned(),
            port: config.port().to_string(),
            signed_in: SignedIn::of(authentication),
        }
    }
}

impl Error {
    /// Returns what can be done about it, with the addresses of the settings filled in; `{:#}` prints it.
    ///
    /// `None` when there is nothing to say beyond the error itself: settings that are wrong say so one by one in
    /// [`source`](std::error::Error::source), and an unknown reply is best read as it is.
    pub fn remedy(&self) -> Option<Remedy> {
        let Inner { kind, reply, finding, limit, retry_after, circumstances, .. } = &*self.0;
        let known = circumstances.as_ref();
        let blanks = Blanks {
            username: known.map(|known| known.username.as_str()),
            sender: known.map(|known| known.sender.as_str()),
            recipient: self.refused_recipient(),
            host: known.map(|known| known.host.as_str()),
            port: known.map(|known| known.port.as_str()),
        };
        if *kind == ErrorKind::Indeterminate {
            return Some(INDETERMINATE.fill(&blanks));
        }
        if let Some(limit) = limit {
            return Some(limit.remedy(*retry_after));
        }
        if let Some(error) = self.token_error() {
            return entra::remedy_for(error, &blanks);
        }
        match finding {
            Some(finding) => Some(of_reply(*finding, reply.as_ref(), known, blanks)),
            None => of_kind(*kind, self.phase(), &blanks),
        }
    }

    /// Returns the recipient that the reply is about, if it can be no other.
    fn refused_recipient(&self) -> Option<&str> {
        match &*self.0.refused {
            [refusal] if self.0.kind == ErrorKind::RecipientsRefused && self.0.phase == Phase::Rcpt => {
                Some(refusal.recipient().as_ref())
            }
            _ => None,
        }
    }
}

fn of_reply(
    finding: Finding,
    reply: Option<&Reply>,
    known: Option<&Circumstances>,
    blanks: Blanks<'_>,
) -> Remedy {
    let signed_in = known.map(|known| known.signed_in);
    match (finding.cause, signed_in) {
        (ReplyCause::SignInRefused, Some(SignedIn::Account)) => TOKEN_REFUSED.fill(&blanks),
        (ReplyCause::SignInRefused, Some(SignedIn::Somebody)) => {
            let steps = APP_ONLY_STEPS.iter().map(|step| blanks.fill(step));
            steps.fold(TOKEN_REFUSED.fill(&blanks), Remedy::with_step)
        }
        (ReplyCause::SignInRefused, Some(SignedIn::App)) => APP_REFUSED.fill(&blanks),
        (ReplyCause::SignInRefused, Some(SignedIn::Password)) => {
            PASSWORD_REFUSED.fill(&blanks).with_step(basic_authentication_retirement())
        }
        (ReplyCause::SendAsDenied, _) => {
            // Permissions are given to whoever has signed in, and an app is not the mailbox whose name it gives.
            let is_app = signed_in == Some(SignedIn::App) && *finding.advice == SEND_AS;
            let advice = if is_app { &APP_SEND_AS } else { finding.advice };
            let text = reply.map(Reply::text).unwrap_or_default();
            if let Some((account, sender)) = send_as_parties(&text) {
                return advice.fill(&Blanks { username: Some(account), sender: Some(sender), ..blanks });
            }
            if let (Some(username), Some(sender)) = (blanks.username, blanks.sender)
                && is_same_account(username, sender)
            {
                // The envelope is in order, so it is the message's own From.
                let advice = if is_app { &APP_HEADER_FROM } else { &HEADER_FROM };
                return advice.fill(&Blanks { sender: None, ..blanks });
            }
            advice.fill(&blanks)
        }
        (cause, Some(SignedIn::Password)) if is_about_passwords(cause) => {
            finding.advice.fill(&blanks).with_step(basic_authentication_retirement())
        }
        _ => finding.advice.fill(&blanks),
    }
}

/// Tells whether OAuth would settle it for good.
fn is_about_passwords(cause: ReplyCause) -> bool {
    matches!(
        cause,
        ReplyCause::BasicAuthDisabled
            | ReplyCause::BasicAuthRetired
            | ReplyCause::SecurityDefaults
            | ReplyCause::ConditionalAccess
            | ReplyCause::SignInPolicy
    )
}

/// Reads the two addresses of `SendAsDenied; A not allowed to send as B; …`.
fn send_as_parties(text: &str) -> Option<(&str, &str)> {
    let (before, after) = text.split_once(" not allowed to send as ")?;
    let account = before.rsplit([' ', ';']).next()?;
    let sender = after.split([' ', ';']).next()?;
    let is_address = |text: &str| text.parse::<lettre::Address>().is_ok();
    (is_address(account) && is_address(sender)).then_some((account, sender))
}

/// What can be said when no server gave a reason.
fn of_kind(kind: ErrorKind, phase: Phase, blanks: &Blanks<'_>) -> Option<Remedy> {
    let advice = match kind {
        ErrorKind::Timeout => match phase {
            Phase::Preparation => ALL_BUSY,
            Phase::Token => TOKEN_LATE,
            _ if phase < Phase::Mail => UNREACHABLE,
            _ => STOPPED,
        },
        ErrorKind::Network => UNREACHABLE,
        ErrorKind::Tls => TLS,
        ErrorKind::StartTlsUnavailable | ErrorKind::PlaintextInjected => INTERCEPTED,
        ErrorKind::Protocol => NOT_SMTP,
        ErrorKind::MechanismUnavailable => NO_MECHANISM,
        ErrorKind::InsideRuntime => INSIDE_RUNTIME,
        ErrorKind::Closed => return Some(closed()),
        ErrorKind::Configuration
        | ErrorKind::Disconnected
        | ErrorKind::AuthenticationRefused
        | ErrorKind::SignInRequired
        | ErrorKind::TokenRefused
        | ErrorKind::TokenUnavailable
        | ErrorKind::ServerUnavailable
        | ErrorKind::ServerRefused
        | ErrorKind::SenderRefused
        | ErrorKind::RecipientsRefused
        | ErrorKind::MessageRefused
        | ErrorKind::LimitReached
        | ErrorKind::Unsendable
        | ErrorKind::Indeterminate => return None,
    };
    Some(advice.fill(blanks))
}

/// Closed in good order: usually the program ends.
fn closed() -> Remedy {
    Remedy::new("The mailer was closed before the message was sent.", Who::Nobody)
        .with_step("send the message again after the restart: nothing was sent, so it cannot arrive twice")
        .with_step("where the program goes on: build another mailer, or close this one later")
}

const OAUTH: &str = "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth";
const TROUBLES: &str = "https://learn.microsoft.com/exchange/mail-flow-best-practices/fix-issues-with-printers-scanners-and-lob-applications-that-send-email-using-off";

/// In the order of likelihood.
const TOKEN_REFUSED: Advice = Advice {
    who: Who::Operator,
    summary: "Exchange Online refused the access token for {username} and does not say why; the likeliest reasons come first.",
    steps: &[
        "the token belongs to another account than {username}: sign in again as {username}, and enter its user principal name as user name",
        "{username} is a shared mailbox: sign in as a licensed user who has Send As on it, and set the shared address as sender only",
        "Authenticated SMTP is off: Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false",
        "{username} has no licence with Exchange Online: Microsoft 365 admin center > Users > Active users > {username} > Licenses and apps",
        "the token is for another service: request https://outlook.office.com/SMTP.Send, not a bare SMTP.Send or a Microsoft Graph scope",
    ],
    link: OAUTH,
};
/// What may be the reason besides, if it was an app that signed in.
const APP_ONLY_STEPS: [&str; 3] = [
    "app-only: the token must be for https://outlook.office365.com/.default instead",
    "app-only: Get-ServicePrincipal must list the app with the Object ID from Entra admin center > Enterprise applications > (the app), not the one from App registrations; else New-ServicePrincipal -AppId <client id> -ObjectId <that id>",
    "app-only: Add-MailboxPermission -Identity '{username}' -User <that id> -AccessRights FullAccess, then wait up to an hour",
];
/// The same for an app that signs in as itself: no account can be the wrong one.
const APP_REFUSED: Advice = Advice {
    who: Who::Operator,
    summary: "Exchange Online refused the app's own access token for {username} and does not say why; the likeliest reasons come first.",
    steps: &[
        "Get-ServicePrincipal must list the app with the Object ID from Entra admin center > Enterprise applications > (the app), not the one from App registrations; else New-ServicePrincipal -AppId <client id> -ObjectId <that id>",
        "Add-MailboxPermission -Identity '{username}' -User <that id> -AccessRights FullAccess, then wait up to an hour",
        "App registrations > (the app) > API permissions: Office 365 Exchange Online > Application permissions > SMTP.SendAsApp must be there with admin consent, unless a role in Exchange replaces it",
        "Authenticated SMTP is off: Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false",
        "{username} is no mailbox in Exchange Online: enter the mailbox that mail is sent from as user name",
    ],
    link: OAUTH,
};
const PASSWORD_REFUSED: Advice = Advice {
    who: Who::Operator,
    summary: "Exchange Online refused user name and password of {username}.",
    steps: &[
        "enter the password again, and the user principal name as user name",
        "an account with multifactor authentication cannot use its password here: use OAuth 2.0",
        "check that the account is not blocked: Microsoft 365 admin center > Users > Active users > {username}",
        "Authenticated SMTP may be off: Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false",
    ],
    link: TROUBLES,
};
const HEADER_FROM: Advice = Advice {
    who: Who::Operator,
    summary: "The From of the message is an address that {username} is not allowed to send as.",
    steps: &[
        "Add-RecipientPermission -Identity '{sender}' -AccessRights SendAs -Trustee '{username}', with the message's From as <sender>",
        "or set the From of the message to {username}; Full Access and Send on Behalf are not known to be enough over SMTP",
    ],
    link: "https://learn.microsoft.com/exchange/recipients-in-exchange-online/manage-permissions-for-recipients",
};
/// Which of the two ids it is, and where to read it: the app registration itself does not know it.
const OBJECT_ID: &str = "the service principal's object ID is in Entra admin center > Enterprise applications > (the app) > Object ID, not the one under App registrations; Get-ServicePrincipal | Format-List DisplayName,AppId,ObjectId shows it too";
/// A mailbox lets an app in by one permission and lets it name another sender by a second one, both given to the app.
const APP_SEND_AS: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The app, which has signed in to the mailbox {username}, is not allowed to send as {sender}.",
    steps: &[
        "Add-RecipientPermission -Identity '{sender}' -AccessRights SendAs -Trustee <service principal's object ID>",
        OBJECT_ID,
        "check with Get-RecipientPermission -Identity '{sender}'; the change can take an hour",
        "Full Access alone does not help, and Send on Behalf is not known to be enough over SMTP",
        "or let the program sign in to the mailbox it sends from: set the user name to {sender}, and give the app Full Access to that mailbox",
    ],
    link: SEND_AS.link,
};
const APP_HEADER_FROM: Advice = Advice {
    who: Who::Operator,
    summary: "The From of the message is an address that the app, which has signed in to {username}, is not allowed to send as.",
    steps: &[
        "Add-RecipientPermission -Identity '{sender}' -AccessRights SendAs -Trustee <service principal's object ID>, with the message's From as <sender>",
        OBJECT_ID,
        "or set the From of the message to {username}; Full Access and Send on Behalf are not known to be enough over SMTP",
    ],
    link: SEND_AS.link,
};
const INDETERMINATE: Advice = Advice {
    who: Who::Operator,
    summary: "The connection was lost before the server said whether it took the message.",
    steps: &[
        "look for the message in Sent Items of {username}, or with Exchange admin center > Mail flow > Message trace",
        "send it again only if it is not there",
    ],
    link: "https://www.rfc-editor.org/rfc/rfc1047.html",
};
const UNREACHABLE: Advice = Advice {
    who: Who::Operator,
    summary: "The mail server {host} does not answer.",
    steps: &[
        "check host and port in the settings: Exchange Online is smtp.office365.com, port 587",
        "on this computer: Test-NetConnection '{host}' -Port {port}, or openssl s_client -starttls smtp -connect {host}:{port} (on 465 without -starttls smtp)",
        "let the firewall pass outgoing connections to that port, and check DNS",
    ],
    link: TROUBLES,
};
const ALL_BUSY: Advice = Advice {
    who: Who::Operator,
    summary: "No connection to {host} came free in time.",
    steps: &[
        "send the message again: nothing was sent",
        "if it happens often: hand over fewer messages at a time, or raise timeouts.total",
        "raise max_connections as far as the server allows; Exchange Online allows a mailbox 3",
    ],
    link: TROUBLES,
};
const TOKEN_LATE: Advice = Advice {
    who: Who::Operator,
    summary: "No access token came in time.",
    steps: &[
        "send the message again: nothing was sent",
        "let the firewall and the proxy pass HTTPS to the sign-in service; Microsoft's is login.microsoftonline.com",
        "where a program or a store of your own is asked for the token: its log says what it waits for",
    ],
    link: OAUTH,
};
const STOPPED: Advice = Advice {
    who: Who::Operator,
    summary: "The mail server {host} stopped answering in the middle of a message.",
    steps: &[
        "send the message again: it was not accepted",
        "if it happens with large messages only: raise timeouts.body_progress, or send smaller ones",
        "take the server out of what a firewall or virus scanner inspects on outgoing SMTP",
    ],
    link: TROUBLES,
};
const TLS: Advice = Advice {
    who: Who::Operator,
    summary: "There is no trustworthy TLS connection to {host}.",
    steps: &[
        "enter the server's name as its certificate has it, never an IP address",
        "behind a proxy or virus scanner that opens TLS: let it pass this connection, or add its root certificate to the settings",
        "check this computer's clock and root certificates; the server must speak TLS 1.2 or newer",
    ],
    link: TROUBLES,
};
const INTERCEPTED: Advice = Advice {
    who: Who::Operator,
    summary: "Something between this computer and {host} seems to change the connection before it is encrypted.",
    steps: &[
        "switch off SMTP inspection (\"SMTP fixup\") in firewall and virus scanner for connections to {host}",
        "check the port: 587 begins with STARTTLS, 465 is encrypted from the first byte",
    ],
    link: "https://www.rfc-editor.org/rfc/rfc3207.html#section-6",
};
const NOT_SMTP: Advice = Advice {
    who: Who::Operator,
    summary: "What answers at {host} does not speak SMTP as it should.",
    steps: &[
        "check host, port and TLS mode: starttls on 587, implicit on 465",
        "look for a proxy or captive portal that answers in the server's place",
    ],
    link: "https://www.rfc-editor.org/rfc/rfc5321.html#section-4.2",
};
const NO_MECHANISM: Advice = Advice {
    who: Who::Operator,
    summary: "{host} offers no way of signing in that fits the settings.",
    steps: &[
        "set the authentication to one that the server offers: Exchange Online has XOAUTH2 and LOGIN",
        "if nothing is offered: the port may be that for mail between servers (25); submission is on 587",
    ],
    link: OAUTH,
};
const INSIDE_RUNTIME: Advice = Advice {
    who: Who::Developer,
    summary: "A blocking mailer was called on a thread of an async runtime, which it would stop; nothing was sent.",
    steps: &[
        "in async code: use smtp_oauth::Mailer and await it; blocking::Mailer is for programs without a runtime",
        "where the call cannot be made async: make it on a thread of std::thread, for threads of spawn_blocking count as the runtime's",
    ],
    link: "https://docs.rs/tokio/latest/tokio/runtime/struct.Handle.html#method.block_on",
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause;
    use crate::outcome::Disposition;
    use crate::smtp::failure::{Cause, Failure};

    #[test]
    fn every_reply_of_the_tables_becomes_a_whole_remedy() {
        let circumstances = |signed_in| Circumstances {
            username: "svc-mail@contoso.com".to_owned(),
            sender: "alerts@contoso.com".to_owned(),
            host: "smtp.office365.com".to_owned(),
            port: "587".to_owned(),
            signed_in,
        };
        for (phase, reply) in cause::samples() {
            let bare = Error::from(Failure::new(phase, Cause::Refused(reply.clone())));
            assert!(bare.remedy().is_some(), "{reply}");
            let is_temporary = bare.cause().unwrap().is_temporary() || reply.is_transient();
            let is_retried = matches!(bare.disposition(), Disposition::Retry { .. });
            assert!(is_temporary || !is_retried, "{reply}: {bare:#}");
            for signed_in in [SignedIn::Account, SignedIn::Somebody, SignedIn::App, SignedIn::Password] {
                let error = Error::from(Failure::new(phase, Cause::Refused(reply.clone())));
                let error = error.with_circumstances(circumstances(signed_in));
                assert_eq!(error.kind(), bare.kind(), "{reply}");
                let shown = format!("{error:#}");
                for blank in ["<username>", "<sender>", "<host>", "{", "}"] {
                    assert!(!shown.contains(blank), "{reply}: {shown}");
                }
                assert!(!error.remedy().unwrap().summary().contains('\n'), "{shown}");
            }
        }
    }

    #[test]
    fn time_spent_waiting_for_a_connection_is_no_fault_of_the_server() {
        let error = Error::overdue(Phase::Preparation, std::time::Duration::from_secs(60));
        assert_eq!(error.remedy().unwrap().summary(), "No connection to <host> came free in time.");
    }

    #[test]
    fn the_parties_of_a_denial_are_read_only_when_they_are_addresses() {
        let cases = [
            (
                "SendAsDenied; a@contoso.com not allowed to send as b@contoso.com; STOREDRV",
                Some(("a@contoso.com", "b@contoso.com")),
            ),
            ("SendAsDenied; someone not allowed to send as '; Remove-Mailbox x; STOREDRV", None),
            ("SendAsDenied", None),
        ];
        for (text, parties) in cases {
            assert_eq!(send_as_parties(text), parties, "{text}");
        }
    }
}
