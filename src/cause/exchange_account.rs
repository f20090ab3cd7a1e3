//! Exchange Online's refusals because of the sender: permissions, quotas, blocks. Source: Microsoft's NDR reference.

use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{FinalReply, Mail};

const PERMISSIONS: &str =
    "https://learn.microsoft.com/exchange/recipients-in-exchange-online/manage-permissions-for-recipients";
const REPORTS: &str = "https://learn.microsoft.com/troubleshoot/exchange/email-delivery/ndr/non-delivery-reports-in-exchange-online";
const SUBMISSION: &str =
    "https://learn.microsoft.com/troubleshoot/exchange/send-emails/smtp-submission-improvements";
const LIMITS: &str = "https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits";
const RESTRICTED: &str =
    "https://learn.microsoft.com/defender-office-365/outbound-spam-restore-restricted-users";
const HIGH_VOLUME: &str =
    "https://learn.microsoft.com/exchange/mail-flow-best-practices/high-volume-mails-m365";

pub(crate) const SEND_AS: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "{username} is not allowed to send as {sender}.",
    steps: &[
        "Add-RecipientPermission -Identity '{sender}' -AccessRights SendAs -Trustee '{username}'",
        "or Exchange admin center > Recipients > Mailboxes > {sender} > Delegation > Send as > Edit: add {username}",
        "check with Get-RecipientPermission -Identity '{sender}'; the change can take an hour",
        "Full Access alone does not help, and Send on Behalf is not known to be enough over SMTP",
        "or let the program send from the address that signs in: set the sender to {username}",
    ],
    link: PERMISSIONS,
};
const LOGON_FAILED: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The sign-in succeeded, but the app has no right to the mailbox {username}, or not yet.",
    steps: &[
        "if the permission was given within the last hour: wait, it takes up to an hour",
        "Get-ServicePrincipal | Format-List DisplayName,AppId,ObjectId: the ObjectId must be the Object ID shown under Entra admin center > Enterprise applications > (the app), not the one under App registrations",
        "Add-MailboxPermission -Identity '{username}' -User <ObjectId of the service principal> -AccessRights FullAccess",
        "with RBAC for Applications instead: Test-ServicePrincipalAuthorization -Identity <ObjectId> -Resource '{username}' must say InScope True",
    ],
    link: "https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth",
};
const FULL: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The mailbox {username} is full: every message sent is kept in its Sent Items.",
    steps: &[
        "empty the mailbox's Sent Items and Deleted Items",
        "keep no copies from now on: Set-Mailbox -Identity '{username}' -MessageCopyForSMTPClientSubmissionEnabled $false",
        "check with Get-MailboxStatistics -Identity '{username}' | Format-List TotalItemSize",
    ],
    link: SUBMISSION,
};
pub(super) const CONCURRENCY: Advice = Advice {
    who: Who::Operator,
    summary: "More than three messages are being submitted from the mailbox {username} at the same time.",
    steps: &[
        "set the number of connections to 3 or less, over all programs that use this mailbox together",
        "nothing is lost: the message can be sent again in a moment",
    ],
    link: "https://aka.ms/concurrent_sending",
};
const RATE: Advice = Advice {
    who: Who::Operator,
    summary: "More messages were submitted from {username} than Exchange takes in a minute (30 for a mailbox).",
    steps: &[
        "send fewer messages in a minute, or from more mailboxes",
        "for more: Azure Communication Services, or High Volume Email inside the organization",
    ],
    link: LIMITS,
};
const QUOTA: Advice = Advice {
    who: Who::Operator,
    summary: "The mailbox {username} has used up its recipients for 24 hours (10,000).",
    steps: &[
        "wait until the 24 hours are over, then send the rest",
        "send to a distribution group, which counts as one recipient, or from more mailboxes",
        "for more: Azure Communication Services, or High Volume Email inside the organization",
    ],
    link: LIMITS,
};
const TENANT_QUOTA: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The whole tenant has used up its external recipients for 24 hours.",
    steps: &[
        "Exchange admin center > Reports > Mail flow > Tenant Outbound External Recipients: shows the limit and who uses it",
        "wait until the 24 hours are over; the limit grows with the number of licences, and a trial tenant has 5,000",
        "for more: Azure Communication Services, which does not count",
    ],
    link: LIMITS,
};
const OUTBOUND_SPAM: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "The outbound spam filter stopped {username}, by its content or because the account is new.",
    steps: &[
        "Defender portal > Email & collaboration > Review > Restricted entities: look for {username}",
        "send less and more evenly from a new account or tenant until it has a reputation",
        "Defender portal > Policies & rules > Threat policies > Anti-spam > outbound policy: check its limits",
    ],
    link: RESTRICTED,
};
const RESTRICTED_SENDER: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "{username} is blocked from sending, because spam came from it.",
    steps: &[
        "secure the account first: new password, sign out everywhere, look for forwarding rules that nobody made",
        "Defender portal > Email & collaboration > Review > Restricted entities: unblock {username}",
        "or Remove-BlockedSenderAddress -SenderAddress '{sender}' (check: Get-BlockedSenderAddress)",
    ],
    link: RESTRICTED,
};
const BANNED: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "Microsoft has banned the sender {sender} because of spam.",
    steps: &[
        "secure the account first: new password, sign out everywhere, look for forwarding rules that nobody made",
        "Defender portal > Email & collaboration > Review > Restricted entities: unblock it",
        "if it is not listed: open a support request in the Microsoft 365 admin center, with the reply",
    ],
    link: REPORTS,
};
const ALLOW_BLOCK_LIST: Advice = Advice {
    who: Who::SecurityAdministrator,
    summary: "The organization's own Tenant Allow/Block List blocks this sender or recipient.",
    steps: &[
        "Defender portal > Policies & rules > Threat policies > Tenant Allow/Block Lists: remove the entry",
    ],
    link: REPORTS,
};
const TENANT: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "Microsoft restricts mail from the whole tenant.",
    steps: &[
        "look for compromised accounts and bulk mail: Defender portal > Email & collaboration > Review > Restricted entities",
        "a trial or very new tenant: buy a licence and wait",
        "then open a support request in the Microsoft 365 admin center, with the reply",
    ],
    link: REPORTS,
};
const DOMAIN: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The domain of {sender} is not registered in the tenant.",
    steps: &[
        "Microsoft 365 admin center > Settings > Domains: add and verify the domain",
        "or set the sender to an address of a domain that is listed there",
    ],
    link: REPORTS,
};
const HVE_APP: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The app is not allowed to use the High Volume Email account {username}.",
    steps: &[
        "Get-HVEAccountSettings, then Add-HVEAppAccess for the account and the client id; it takes effect within 5 minutes",
    ],
    link: HIGH_VOLUME,
};
const HVE_SENDER: Advice = Advice {
    who: Who::Operator,
    summary: "A High Volume Email account can send as itself only.",
    steps: &["set the sender, and the From of every message, to {username}"],
    link: HIGH_VOLUME,
};
const HVE_EXTERNAL: Advice = Advice {
    who: Who::Operator,
    summary: "A High Volume Email account sends to recipients inside the organization only.",
    steps: &["send to outside from an ordinary mailbox, or with Azure Communication Services"],
    link: HIGH_VOLUME,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(Cause::SendAsDenied, &SEND_AS, &[
        (FinalReply, "554 5.2.252 SendAsDenied; svc-mail@contoso.com not allowed to send as alerts@contoso.com; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message"),
        (FinalReply, "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception with message Cannot submit message."),
    ]).texts(&["sendasdenied"]),
    Row::new(Cause::SendAsDenied, &SEND_AS, &[
        (Mail, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
        (FinalReply, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    ]).statuses("5.7.60 5.2.252"),
    Row::new(Cause::RecipientQuota, &QUOTA, &[(FinalReply, "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message")])
        .texts(&["submissionquotaexceeded"]),
    Row::new(Cause::RecipientQuota, &QUOTA, &[(FinalReply, "554 5.2.2 Submission quota exceeded")])
        .texts(&["submission quota exceeded"]),
    Row::new(Cause::RecipientQuota, &QUOTA, &[(FinalReply, "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients")])
        .statuses("5.1.90"),
    Row::new(Cause::MailboxFull, &FULL, &[
        (FinalReply, "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded; Failed to process message"),
        (FinalReply, "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionQuotaExceeded; Failed to process message"),
    ]).texts(&["storedrv.submission", "quotaexceeded"]),
    Row::new(Cause::MailboxLogonFailed, &LOGON_FAILED, &[(FinalReply, "430 4.2.0 STOREDRV; mailbox logon failure; transient failure:1, Failed to process message due to a transient exception MapiExceptionLogonFailed: Unable to open message store. [Hostname=AM0PR01MB0001.eurprd01.prod.exchangelabs.com]")])
        .texts(&["mailbox logon failure"]),
    Row::new(Cause::ConcurrencyLimit, &CONCURRENCY, &[(FinalReply, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded")])
        .texts(&["sender thread limit exceeded"]),
    Row::new(Cause::ConcurrencyLimit, &CONCURRENCY, &[(FinalReply, "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname=AM0PR01MB0001.eurprd01.prod.exchangelabs.com]")])
        .texts(&["concurrent connections limit exceeded"]),
    Row::new(Cause::SubmissionRate, &RATE, &[
        (Mail, "421 4.4.2 Message submission rate for this client has exceeded the configured limit"),
        (FinalReply, "421 4.4.2 Message submission rate for this client has exceeded the configured limit"),
    ]).texts(&["message submission rate for this client has exceeded"]),
    Row::new(Cause::TenantRecipientQuota, &TENANT_QUOTA, &[
        (FinalReply, "550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit for sending email to external recipients (tenant external recipient rate limit)"),
        (FinalReply, "550 5.7.233 Your message can't be sent because your tenant has exceeded its daily limit for sending email to external recipients (tenant external recipient rate limit)"),
    ]).statuses("5.7.232-233"),
    Row::new(Cause::OutboundSpam, &OUTBOUND_SPAM, &[(FinalReply, "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message due to a permanent exception with message WASCL UserAction verdict is not None. Actual verdict is RefuseQuota, ShowTierUpgrade.")])
        .texts(&["wascl useraction verdict is not none"]),
    Row::new(Cause::SenderBlocked, &RESTRICTED_SENDER, &[(FinalReply, "550 5.1.8 Access denied, bad outbound sender")])
        .texts(&["bad outbound sender"]),
    Row::new(Cause::SenderBlocked, &BANNED, &[
        (FinalReply, "550 5.7.501 Access denied, spam abuse detected"),
        (FinalReply, "550 5.7.502 Access denied, banned sender"),
        (FinalReply, "550 5.7.503 Access denied, banned sender"),
    ]).statuses("5.7.501-503"),
    Row::new(Cause::BlockedByOrganization, &ALLOW_BLOCK_LIST, &[(FinalReply, "550 5.7.703 Your message can't be delivered because one or more recipients are blocked by your organization using Tenant Allow Block List.")])
        .statuses("5.7.703"),
    Row::new(Cause::TenantBlocked, &TENANT, &[
        (FinalReply, "550 5.7.705 Access denied, tenant has exceeded threshold"),
        (FinalReply, "550 5.7.708 Access denied, traffic not accepted from this IP"),
    ]).statuses("5.7.705 5.7.708"),
    Row::new(Cause::DomainUnregistered, &DOMAIN, &[(FinalReply, "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains")])
        .statuses("5.7.750"),
    Row::new(Cause::AppNotAllowed, &HVE_APP, &[(Mail, "550 5.7.240 The application is not allowed for use with this High Volume Email account")])
        .statuses("5.7.240"),
    Row::new(Cause::SendAsDenied, &HVE_SENDER, &[
        (Mail, "550 5.7.62 Sender address does not match the signed-in account"),
        (FinalReply, "550 5.6.241 From header does not match the envelope sender"),
    ]).statuses("5.7.62 5.6.241"),
    Row::new(Cause::InternalRecipientsOnly, &HVE_EXTERNAL, &[(FinalReply, "550 5.5.105 External sending is not supported for High Volume Email accounts.")])
        .statuses("5.5.105"),
];
