//! Exchange Online's refusals of a sign-in. Source: the Exchange Online documentation and logs of real sessions.

use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{Auth, Ehlo, Mail};

const SMTP_AUTH: &str = "https://learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/authenticated-client-smtp-submission";
const OAUTH: &str = "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth";
const TROUBLES: &str = "https://learn.microsoft.com/exchange/mail-flow-best-practices/fix-issues-with-printers-scanners-and-lob-applications-that-send-email-using-off";
const HIGH_VOLUME: &str =
    "https://learn.microsoft.com/exchange/mail-flow-best-practices/high-volume-mails-m365";
const USE_OAUTH: &str =
    "better: set this program to OAuth 2.0, which needs no password and is not concerned by this block";

const SIGN_IN_REFUSED: Advice = Advice {
    who: Who::Operator,
    summary: "Exchange Online refused the sign-in of {username} and does not say why.",
    steps: &[
        "with a password: check user name and password; an account with multifactor authentication cannot use it here",
        "with OAuth: sign in again with the account {username}, whose token it must be",
        "enter a licensed user mailbox as user name; a shared mailbox cannot sign in, even with a valid token",
        "Get-CASMailbox -Identity '{username}' | Format-List SmtpClientAuthenticationDisabled",
        "app-only: register the service principal in Exchange with the Object ID of the Enterprise application",
    ],
    link: OAUTH,
};
const TENANT_SWITCH: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "Authenticated SMTP is switched off for the whole Microsoft 365 tenant, which stops OAuth too.",
    steps: &[
        "Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false (for this mailbox only: better)",
        "or for every mailbox: Set-TransportConfig -SmtpClientAuthenticationDisabled $false (check: Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled)",
        "wait: the change takes from minutes up to a day",
    ],
    link: SMTP_AUTH,
};
const MAILBOX_SWITCH: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "Authenticated SMTP is switched off for the mailbox {username}, which stops OAuth too.",
    steps: &[
        "Microsoft 365 admin center > Users > Active users > {username} > Mail > Manage email apps: tick Authenticated SMTP",
        "or Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false",
        "wait: the change takes from minutes up to a day",
    ],
    link: SMTP_AUTH,
};
const BASIC_DISABLED: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "Signing in to SMTP with a password is not allowed for {username}; an app password does not help.",
    steps: &[
        USE_OAUTH,
        "else allow it: Get-AuthenticationPolicy, then Set-AuthenticationPolicy -Identity <policy> -AllowBasicAuthSmtp",
        "Set-User -Identity '{username}' -AuthenticationPolicy <policy>",
        "a personal Outlook.com account has no way to allow it: OAuth only",
    ],
    link: SMTP_AUTH,
};
const BASIC_RETIRED: Advice = Advice {
    who: Who::Operator,
    summary: "Microsoft no longer takes passwords for SMTP (Basic authentication is retired).",
    steps: &[
        "set this program to OAuth 2.0: an app registration with SMTP.Send, or SMTP.SendAsApp without a user",
    ],
    link: "https://techcommunity.microsoft.com/blog/exchange/exchange-online-to-retire-basic-auth-for-client-submission-smtp-auth/4114750",
};
const DEFAULTS: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "The tenant's security defaults forbid {username} to sign in to SMTP with a password.",
    steps: &[
        USE_OAUTH,
        "else, with less security for everybody: Entra admin center > Entra ID > Overview > Properties > Manage security defaults > Disabled",
    ],
    link: "https://learn.microsoft.com/entra/fundamentals/security-defaults",
};
const ACCESS_POLICY: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "A Conditional Access policy, or another one, blocks the sign-in of {username} with a password.",
    steps: &[
        USE_OAUTH,
        "Entra admin center > Monitoring & health > Sign-in logs: the failed sign-in of {username} names the policy under Conditional Access",
        "else, in that policy: Users > Exclude > {username}",
    ],
    link: "https://learn.microsoft.com/entra/identity/conditional-access/policy-block-legacy-authentication",
};
const CREDENTIALS: Advice = Advice {
    who: Who::Operator,
    summary: "User name or password of {username} is wrong.",
    steps: &[
        "enter the password again, and the user principal name as user name",
        "sign in with both at https://outlook.office.com: a password that must be changed shows there",
        "an app password is not accepted either where Basic authentication is off: use OAuth 2.0",
        "do not try wrong passwords again and again: the account gets locked",
    ],
    link: TROUBLES,
};
const LOCKED: Advice = Advice {
    who: Who::UserAdministrator,
    summary: "The account {username} is locked after too many sign-ins with a wrong password.",
    steps: &[
        "stop every program that still has the old password: each attempt makes the lock last longer",
        "wait, then sign in once with the right password",
        "Entra admin center > Monitoring & health > Sign-in logs: shows from where the attempts come",
    ],
    link: "https://learn.microsoft.com/entra/identity/authentication/howto-password-smart-lockout",
};
const BLOCKED: Advice = Advice {
    who: Who::UserAdministrator,
    summary: "Something is wrong with the account {username}: it may be blocked, or its password must be changed.",
    steps: &[
        "Microsoft 365 admin center > Users > Active users > {username}: check that sign-in is not blocked and the licence is assigned",
        "Entra admin center > Monitoring & health > Sign-in logs: the failed sign-in gives the reason",
    ],
    link: TROUBLES,
};
const FEDERATION: Advice = Advice {
    who: Who::UserAdministrator,
    summary: "The organization's own sign-in service (AD FS or another) does not answer Exchange Online.",
    steps: &[
        "check that the federation server is running, and reachable from the Internet over HTTPS with a valid certificate",
        "if it lasts: use a managed account (user@<tenant>.onmicrosoft.com) or OAuth 2.0",
    ],
    link: TROUBLES,
};
const ORGANIZATION: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The organization's settings do not allow {username} to sign in with a password (High Volume Email).",
    steps: &[
        USE_OAUTH,
        "else allow it: Set-AuthenticationPolicy -Identity <policy> -AllowBasicAuthSmtp, assigned to the account, and security defaults off",
    ],
    link: HIGH_VOLUME,
};
const POLICY: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "A policy or the state of the account {username} does not allow this sign-in; the reply's text says which.",
    steps: &[
        "Entra admin center > Monitoring & health > Sign-in logs: the failed sign-in of {username} gives the reason",
        "Microsoft 365 admin center > Users > Active users > {username}: check password, sign-in status and licence",
        "Set-CASMailbox -Identity '{username}' -SmtpClientAuthenticationDisabled $false",
        "with a password: use OAuth 2.0",
    ],
    link: SMTP_AUTH,
};
const TOKEN_AGE: Advice = Advice {
    who: Who::Operator,
    summary: "The access token is too old for High Volume Email, which wants 10 to 20 minutes of validity left.",
    steps: &["set the refresh margin to 20 minutes", "check this computer's clock"],
    link: "https://learn.microsoft.com/exchange/mail-flow-best-practices/oauth-high-volume-mails-m365",
};
const TOKEN_PERMISSION: Advice = Advice {
    who: Who::ApplicationAdministrator,
    summary: "The app has no permission to send through High Volume Email.",
    steps: &[
        "Entra admin center > App registrations > (the app) > API permissions > Add > APIs my organization uses > Office 365 Exchange Online > Application permissions > Mail.Send",
        "Grant admin consent on the same page, and let the program fetch a new token",
    ],
    link: "https://learn.microsoft.com/exchange/mail-flow-best-practices/oauth-high-volume-mails-m365",
};
const MECHANISM: Advice = Advice {
    who: Who::Operator,
    summary: "The mail server does not know this way of signing in.",
    steps: &["use OAuth 2.0 (XOAUTH2), or LOGIN with a password: Exchange Online offers nothing else"],
    link: OAUTH,
};
const MALFORMED: Advice = Advice {
    who: Who::Developer,
    summary: "The mail server found the sign-in message malformed.",
    steps: &[
        "check that the user name is a plain address and the access token was not cut off or wrapped",
        "report it with the reply: this crate should not send such a message",
    ],
    link: OAUTH,
};
const OLD_TLS: Advice = Advice {
    who: Who::Operator,
    summary: "The connection uses TLS 1.0 or 1.1, which Exchange Online does not take any more.",
    steps: &[
        "look for a proxy, virus scanner or firewall that opens TLS connections to {host}: this crate speaks TLS 1.2 or newer only",
        "let it pass connections to {host} on port 587 untouched, or update it to TLS 1.2",
    ],
    link: "https://aka.ms/smtp_auth_tls",
};
const UNAUTHENTICATED: Advice = Advice {
    who: Who::Operator,
    summary: "The server wants a sign-in before it takes mail, and saw none that succeeded.",
    steps: &[
        "check that host and port are those of client submission: smtp.office365.com, 587",
        "look for a proxy that opens the connection itself",
    ],
    link: TROUBLES,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(Cause::SmtpAuthDisabledForTenant, &TENANT_SWITCH, &[(Auth, "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [AM0PR10CA0001.EURPRD10.PROD.OUTLOOK.COM 2024-07-11T11:46:49.042Z 08DCA18218166FB4]")])
        .statuses("5.7.139").texts(&["smtpclientauthentication is disabled for the tenant"]),
    Row::new(Cause::SmtpAuthDisabledForMailbox, &MAILBOX_SWITCH, &[(Auth, "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.")])
        .statuses("5.7.139").texts(&["smtpclientauthentication is disabled for the mailbox"]),
    Row::new(Cause::BasicAuthDisabled, &BASIC_DISABLED, &[(Auth, "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.")])
        .statuses("5.7.139").texts(&["basic authentication is disabled"]),
    Row::new(Cause::SecurityDefaults, &DEFAULTS, &[(Auth, "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.")])
        .statuses("5.7.139").texts(&["security defaults policy"]),
    Row::new(Cause::ConditionalAccess, &ACCESS_POLICY, &[(Auth, "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator.")])
        .statuses("5.7.139").texts(&["did not meet the criteria"]),
    Row::new(Cause::WrongCredentials, &CREDENTIALS, &[(Auth, "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.")])
        .statuses("5.7.139").texts(&["user credentials were incorrect"]),
    Row::new(Cause::AccountLocked, &LOCKED, &[(Auth, "535 5.7.139 Authentication unsuccessful, account locked. Contact your administrator.")])
        .statuses("5.7.139").texts(&["account locked"]),
    Row::new(Cause::FederationUnavailable, &FEDERATION, &[(Auth, "535 5.7.139 Authentication unsuccessful, federated STS service was unreachable.")])
        .statuses("5.7.139").texts(&["federated sts service was unreachable"]),
    Row::new(Cause::FederationInsecure, &FEDERATION, &[(Auth, "535 5.7.139 Authentication unsuccessful, the federated STS URL does not support HTTPS.")])
        .statuses("5.7.139").texts(&["federated sts url does not support https"]),
    Row::new(Cause::AccountBlocked, &BLOCKED, &[(Auth, "535 5.7.139 Authentication unsuccessful, account has an issue. Contact your administrator.")])
        .statuses("5.7.139").texts(&["account has an issue"]),
    Row::new(Cause::BasicAuthDisabled, &ORGANIZATION, &[(Auth, "535 5.7.139 Authentication unsuccessful, the organization configuration does not allow this authentication request")])
        .statuses("5.7.139").texts(&["organization configuration does not allow"]),
    Row::new(Cause::SignInPolicy, &POLICY, &[(Auth, "535 5.7.139 Authentication unsuccessful, for a reason nobody has seen yet.")])
        .statuses("5.7.139"),
    Row::new(Cause::TokenExpired, &TOKEN_AGE, &[(Auth, "535 5.7.142 Token will expire soon"), (Auth, "535 5.7.143 Expired token")])
        .statuses("5.7.142-143"),
    Row::new(Cause::TokenPermission, &TOKEN_PERMISSION, &[(Auth, "535 5.7.144 XOAUTH2 authentication failed. Invalid API permissions")])
        .statuses("5.7.144"),
    Row::new(Cause::SignInRefused, &SIGN_IN_REFUSED, &[(Auth, "535 5.7.3 Authentication unsuccessful [LO4P123CA0001.GBRP123.PROD.OUTLOOK.COM]")])
        .codes(&[535]).statuses("5.7.3"),
    Row::new(Cause::BasicAuthRetired, &BASIC_RETIRED, &[(Auth, "550 5.7.30 Basic authentication is not supported for Client Submission.")])
        .statuses("5.7.30"),
    Row::new(Cause::MechanismUnknown, &MECHANISM, &[(Auth, "504 5.7.4 Unrecognized authentication type")])
        .codes(&[504]).phases(&[Auth]),
    Row::new(Cause::MalformedSignIn, &MALFORMED, &[(Auth, "501 5.5.124 Invalid XOAUTH2 auth data")])
        .codes(&[501]).statuses("5.5.121-126"),
    Row::new(Cause::TlsTooOld, &OLD_TLS, &[
        (Auth, "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2. Visit https://aka.ms/smtp_auth_tls."),
        (Ehlo, "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2. Visit https://aka.ms/smtp_auth_tls."),
    ]).statuses("4.7.66"),
    Row::new(Cause::NotAuthenticated, &UNAUTHENTICATED, &[
        (Mail, "530 5.7.57 Client not authenticated to send mail."),
        (Mail, "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM"),
    ]).statuses("5.7.57"),
];
