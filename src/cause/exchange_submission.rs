//! Exchange Online's refusals because of the server, the connection or the message. Source: Microsoft's NDR reference.

use super::exchange_account::CONCURRENCY;
use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{Auth, Ehlo, FinalReply, Greeting, Mail, Rcpt};

const REPORTS: &str = "https://learn.microsoft.com/troubleshoot/exchange/email-delivery/ndr/non-delivery-reports-in-exchange-online";
const LIMITS: &str = "https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits";
const TROUBLES: &str = "https://learn.microsoft.com/exchange/mail-flow-best-practices/fix-issues-with-printers-scanners-and-lob-applications-that-send-email-using-off";

const FAULT: Advice = Advice {
    who: Who::Nobody,
    summary: "Exchange Online has a fault that usually passes.",
    steps: &[
        "send the message again later",
        "if it lasts for hours: Microsoft 365 admin center > Health > Service health, then a support request with the reply",
    ],
    link: "https://learn.microsoft.com/microsoft-365/enterprise/view-service-health",
};
const RECIPIENT_THREADS: Advice = Advice {
    who: Who::Nobody,
    summary: "A recipient's mailbox is receiving more at the same time than it takes.",
    steps: &["send the message again later, and fewer messages to the same recipient at once"],
    link: REPORTS,
};
const IDLE: Advice = Advice {
    who: Who::Nobody,
    summary: "The server closed a connection that was idle for too long.",
    steps: &["send the message again: a new connection is opened"],
    link: REPORTS,
};
const SOCKET: Advice = Advice {
    who: Who::Operator,
    summary: "The connection to the mail server broke.",
    steps: &[
        "send the message again later",
        "if it happens every time: look for a firewall or proxy that ends connections, or that speaks TLS older than 1.2",
    ],
    link: TROUBLES,
};
const BUSY: Advice = Advice {
    who: Who::Nobody,
    summary: "The mail server is overloaded or being restarted.",
    steps: &["send the message again later, and fewer at once"],
    link: REPORTS,
};
const THROTTLED: Advice = Advice {
    who: Who::Operator,
    summary: "The server slows down or grey-lists the address this program sends from.",
    steps: &[
        "send fewer messages, more evenly; it goes away by itself",
        "check that host and port are those of client submission (smtp.office365.com, 587): signed-in clients are hardly ever throttled by address",
    ],
    link: REPORTS,
};
const REGION: Advice = Advice {
    who: Who::Operator,
    summary: "The mail went to a Microsoft 365 server of another region or tenant.",
    steps: &[
        "set the host to smtp.office365.com (port 587), or that of the tenant's national cloud",
        "never use an IP address, nor a host name under mail.protection.outlook.com copied long ago",
    ],
    link: "https://learn.microsoft.com/troubleshoot/exchange/email-delivery/wrong-office-365-region-exo",
};
const RELAY: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The server takes this for mail from another organization's server and does not relay it.",
    steps: &[
        "for signed-in submission: set the host to smtp.office365.com, port 587",
        "for a relay on port 25: Exchange admin center > Mail flow > Connectors: bring the connector's IP address or certificate up to date",
    ],
    link: TROUBLES,
};
const HELLO: Advice = Advice {
    who: Who::Operator,
    summary: "The name this program gives in EHLO is not accepted.",
    steps: &["set hello_name to this computer's own full name; it must not be the mail server's"],
    link: REPORTS,
};
const SIZE: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The message is larger than {username} may send; attachments grow by a third on the way.",
    steps: &[
        "send a smaller message, or a link to the file",
        "Get-Mailbox -Identity '{username}' | Format-List MaxSendSize",
        "Set-Mailbox -Identity '{username}' -MaxSendSize 100MB (at most 150 MB, and what the licence allows)",
    ],
    link: LIMITS,
};
const TOO_MANY: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The message has more recipients than {username} may address at once (500, at most 1000).",
    steps: &[
        "send several messages with fewer recipients, or to a distribution group",
        "Set-Mailbox -Identity '{username}' -RecipientLimits 1000",
    ],
    link: LIMITS,
};
const TRANSACTION: Advice = Advice {
    who: Who::Operator,
    summary: "The server takes no more recipients within one message.",
    steps: &["send the message again to the recipients that were not accepted"],
    link: REPORTS,
};
const FROM: Advice = Advice {
    who: Who::Developer,
    summary: "The message's From header is missing, malformed, or names several people without a Sender.",
    steps: &[
        "give every message exactly one From, or a Sender of one address beside several (RFC 5322 §3.6.2)",
    ],
    link: REPORTS,
};
const OUT_OF_STEP: Advice = Advice {
    who: Who::Developer,
    summary: "The server did not understand a command, or not at that point of the session.",
    steps: &[
        "look for a proxy, virus scanner or firewall that changes SMTP connections (\"SMTP inspection\") and switch that off",
        "else report it with the reply: this crate should not send such a command",
    ],
    link: REPORTS,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(Cause::ServerFault, &FAULT, &[
        (Auth, "451 4.7.0 Temporary server error. Please try again later. PRX4 [AM0PR01CA0001.eurprd01.prod.exchangelabs.com]"),
        (Mail, "451 4.7.0 Temporary server error. Please try again later. PRX2"),
        (FinalReply, "451 4.3.111 Temporary server error. Please try again later MRH1"),
    ]).codes(&[451]).texts(&["temporary server error"]),
    Row::new(Cause::RecipientBusy, &RECIPIENT_THREADS, &[(FinalReply, "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded")])
        .texts(&["recipient thread limit exceeded"]),
    Row::new(Cause::ConcurrencyLimit, &CONCURRENCY, &[(FinalReply, "432 4.3.2 too much at the same time, in words not known")])
        .codes(&[432]).statuses("4.3.2"),
    Row::new(Cause::ConnectionDropped, &IDLE, &[(Mail, "451 4.7.0 Timeout waiting for client input")])
        .texts(&["timeout waiting for client input"]),
    Row::new(Cause::ConnectionDropped, &SOCKET, &[
        (FinalReply, "421 4.4.2 Connection dropped due to SocketError"),
        (Mail, "421 4.4.2 Connection dropped"),
    ]).statuses("4.4.2").texts(&["connection dropped"]),
    Row::new(Cause::ServerBusy, &BUSY, &[
        (Mail, "452 4.3.1 Insufficient system resources"),
        (Greeting, "421 4.3.2 Service not available"),
        (Greeting, "421 4.3.2 Service not active"),
    ]).codes(&[421, 451, 452]).statuses("4.3.1 4.3.2"),
    Row::new(Cause::SourceThrottled, &THROTTLED, &[
        (Mail, "451 4.7.500 Server busy. Please try again later from [192.0.2.10]. (S77719) [AM0EUR02FT001.eop-EUR02.prod.protection.outlook.com]"),
        (FinalReply, "451 4.7.550 Access denied, please try again later"),
        (Rcpt, "451 4.7.651 The mail server [192.0.2.10] has been temporarily rate limited due to IP reputation. (S3114)"),
    ]).statuses("4.7.500-699"),
    Row::new(Cause::SourceThrottled, &THROTTLED, &[(Mail, "550 5.7.508 Access denied, [2001:db8::1] has exceeded permitted limits within 2001:db8::/64 range")])
        .statuses("x.7.508"),
    Row::new(Cause::WrongServer, &REGION, &[(Rcpt, "451 4.4.62 Mail sent to the wrong Office 365 region. ATTR35")])
        .statuses("4.4.62"),
    Row::new(Cause::RelayDenied, &RELAY, &[(Rcpt, "550 5.7.64 TenantAttribution; Relay Access Denied")])
        .statuses("5.7.64"),
    Row::new(Cause::HelloRefused, &HELLO, &[(Ehlo, "550 5.7.506 Access Denied, Bad HELO")])
        .statuses("5.7.506"),
    Row::new(Cause::TooManyRecipients, &TRANSACTION, &[
        (Rcpt, "452 4.5.3 Too many recipients"),
        (Rcpt, "452 4.5.3 Recipients belong to multiple regions ATTR38"),
    ]).codes(&[452]).statuses("4.5.3").by_code(),
    Row::new(Cause::TooManyRecipients, &TOO_MANY, &[(FinalReply, "550 5.5.3 RESOLVER.ADR.RecipLimit; too many recipients")])
        .texts(&["reciplimit"]),
    Row::new(Cause::MessageTooLarge, &SIZE, &[
        (Mail, "552 5.3.4 Message size exceeds fixed maximum message size"),
        (FinalReply, "552 5.3.4 Message size exceeds fixed maximum message size"),
    ]).statuses("5.3.4").texts(&["fixed maximum message size"]),
    Row::new(Cause::InvalidFrom, &FROM, &[
        (FinalReply, "550 5.1.20 Multiple From addresses are not allowed without Sender address"),
        (FinalReply, "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant"),
    ]).statuses("5.1.20 5.7.512"),
    Row::new(Cause::CommandNotUnderstood, &OUT_OF_STEP, &[
        (Auth, "500 5.3.3 Unrecognized command 'unknown'"),
        (Mail, "503 5.5.2 Send hello first"),
        (Rcpt, "503 5.5.1 Bad sequence of commands"),
    ]).codes(&[500, 502, 503]).statuses("5.3.3 5.5.1-2"),
];
