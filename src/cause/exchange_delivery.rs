//! Exchange Online's refusals because of a recipient; most come as reports afterwards. Source: Microsoft's NDR reference.

use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{FinalReply, Mail, Rcpt};

const REPORTS: &str = "https://learn.microsoft.com/troubleshoot/exchange/email-delivery/ndr/non-delivery-reports-in-exchange-online";

const DENIED: Advice = Advice {
    who: Who::Operator,
    summary: "The recipient is not accepted: it is banned, or its server refuses this mail.",
    steps: &[
        "check the recipient's address",
        "ask the recipient's administrator to accept mail from {sender}",
    ],
    link: REPORTS,
};
const RESTRICTED: Advice = Advice {
    who: Who::ExchangeAdministrator,
    summary: "The recipient accepts mail from certain senders only, and {sender} is not one of them.",
    steps: &[
        "Exchange admin center > Recipients > (the recipient or group) > Delivery management: allow {sender}",
        "for a recipient elsewhere: ask its administrator",
    ],
    link: REPORTS,
};
const UNKNOWN: Advice = Advice {
    who: Who::Operator,
    summary: "There is no such recipient, or it takes no mail from outside.",
    steps: &[
        "check the recipient's address, letter by letter",
        "Get-Recipient -Identity '{recipient}', when it is in the same organization",
    ],
    link: REPORTS,
};
const RECEIVING: Advice = Advice {
    who: Who::Operator,
    summary: "The recipient has received as many messages as it may in an hour.",
    steps: &["send the message again in an hour, and fewer messages to the same recipient"],
    link: REPORTS,
};
const ITEMS: Advice = Advice {
    who: Who::Recipient,
    summary: "A folder of the recipient's mailbox holds as many items as it can (1,000,000).",
    steps: &["move or delete items, usually in Inbox or Deleted Items"],
    link: "https://learn.microsoft.com/troubleshoot/exchange/email-delivery/ndr/remote-server-returned-mailbox-busy",
};
const EXPIRED: Advice = Advice {
    who: Who::Operator,
    summary: "The message waited for the recipient's server until its time was over.",
    steps: &["check the recipient's domain, then send the message again"],
    link: REPORTS,
};
const SINGLE_LABEL: Advice = Advice {
    who: Who::Operator,
    summary: "The recipient's address has no full domain.",
    steps: &["enter the whole address, such as user@contoso.com instead of user@contoso"],
    link: REPORTS,
};
const SENDER_ADDRESS: Advice = Advice {
    who: Who::Operator,
    summary: "The sender's address {sender} is malformed or unknown.",
    steps: &["set the sender to an existing address of the tenant"],
    link: REPORTS,
};
const LINE_ENDS: Advice = Advice {
    who: Who::Developer,
    summary: "The message holds a line feed without carriage return, which the recipient's server refuses.",
    steps: &[
        "end every line with CRLF, in attachments that are not encoded too; this crate does so by itself",
    ],
    link: REPORTS,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(Cause::RecipientRestricted, &DENIED, &[
        (Rcpt, "550 5.7.504 Recipient address rejected: Access denied"),
        (Rcpt, "550 5.7.505 Access denied, banned recipient"),
        (Rcpt, "550 5.7.507 Access denied, rejected by recipient"),
    ]).statuses("5.7.504-505 5.7.507"),
    Row::new(Cause::RecipientRestricted, &RESTRICTED, &[
        (FinalReply, "550 5.7.12 Sender was not authenticated by organization"),
        (Rcpt, "550 5.7.124 Sender not in allowed-senders list"),
        (Rcpt, "550 5.7.133 Sender not authenticated for group"),
        (Rcpt, "550 5.7.136 Sender was not authenticated"),
    ]).statuses("5.7.12 5.7.124 5.7.133-136"),
    Row::new(Cause::RecipientUnknown, &UNKNOWN, &[
        (Rcpt, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),
        (Rcpt, "550 5.4.1 Recipient address rejected: Access denied. [AM0EUR02FT001.eop-EUR02.prod.protection.outlook.com]"),
        (Rcpt, "550 5.5.0 Requested action not taken: mailbox unavailable"),
    ]).codes(&[550]).statuses("5.1.10 5.4.1 5.5.0"),
    Row::new(Cause::RecipientBusy, &RECEIVING, &[
        (Rcpt, "550 5.2.121 Recipient's per hour message receive limit from specific sender exceeded"),
        (Rcpt, "550 5.2.122 Recipient's per hour message receive limit exceeded"),
    ]).statuses("x.2.121-122"),
    Row::new(Cause::RecipientFull, &ITEMS, &[(FinalReply, "554 4.3.2 mailbox busy; STOREDRV.Deliver.Exception:StoragePermanentException.MapiExceptionMaxObjsExceeded")])
        .codes(&[554]).texts(&["mailbox busy"]),
    Row::new(Cause::MessageExpired, &EXPIRED, &[
        (FinalReply, "550 4.4.7 Message expired"),
        (FinalReply, "550 5.4.300 Message expired"),
    ]).statuses("x.4.7 5.4.300"),
    Row::new(Cause::InvalidAddress, &SINGLE_LABEL, &[(Rcpt, "501 5.1.6 Recipient addresses in single label domains not accepted")])
        .texts(&["single label domains"]),
    Row::new(Cause::SenderUnknown, &SENDER_ADDRESS, &[
        (Mail, "501 5.1.7 Invalid address"),
        (FinalReply, "550 5.1.7 Unknown sender address"),
    ]).statuses("5.1.7"),
    Row::new(Cause::InvalidMessage, &LINE_ENDS, &[
        (FinalReply, "550 5.6.11 Invalid characters; SMTPSEND.BareLinefeedsAreIllegal; message contains bare linefeeds"),
    ]).statuses("5.6.11"),
];
