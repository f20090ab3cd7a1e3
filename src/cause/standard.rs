//! What a refusal means by the standards alone, for any server (RFC 3463, RFC 4954 §6, RFC 5248).

use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{Auth, FinalReply, Mail, Rcpt};

const CODES: &str =
    "https://www.iana.org/assignments/smtp-enhanced-status-codes/smtp-enhanced-status-codes.xhtml";
const AUTH: &str = "https://www.rfc-editor.org/rfc/rfc4954.html#section-6";

const fn advice(who: Who, summary: &'static str, steps: &'static [&'static str]) -> Advice {
    Advice { who, summary, steps, link: CODES }
}

const CREDENTIALS: Advice = Advice {
    link: AUTH,
    ..advice(
        Who::Operator,
        "The mail server refused the credentials of {username}.",
        &[
            "enter user name and password again; with OAuth, sign in again with the account {username}",
            "ask the mail server's administrator whether programs need a password of their own, or OAuth",
        ],
    )
};
const MECHANISM: Advice = Advice {
    link: AUTH,
    ..advice(
        Who::Operator,
        "The mail server finds this way of signing in too weak, or does not know it.",
        &["use OAuth 2.0, or ask the mail server's administrator which mechanisms are allowed"],
    )
};
const ENCRYPTION: Advice = Advice {
    link: AUTH,
    ..advice(
        Who::Operator,
        "The mail server wants TLS before this command.",
        &["set tls to starttls (port 587) or implicit (port 465)"],
    )
};
const UNAUTHENTICATED: Advice = Advice {
    link: AUTH,
    ..advice(
        Who::Operator,
        "The mail server wants a sign-in first.",
        &["check host and port: submission is on 587 or 465, not 25", "set user name and password, or OAuth"],
    )
};
const SIGN_IN_FAULT: Advice = Advice {
    link: AUTH,
    ..advice(
        Who::Nobody,
        "The mail server cannot check credentials at the moment.",
        &["send the message again later"],
    )
};
const SENDER: Advice = advice(
    Who::Operator,
    "The mail server does not accept the sender {sender}.",
    &["check the sender's address and that its domain exists in DNS", "or set the sender to {username}"],
);
const UNKNOWN: Advice = advice(
    Who::Operator,
    "There is no such recipient.",
    &["check the recipient's address, letter by letter"],
);
const ADDRESS: Advice =
    advice(Who::Operator, "An address is malformed or ambiguous.", &["check the recipient's address"]);
const DISABLED: Advice = advice(
    Who::Operator,
    "The recipient's mailbox is switched off.",
    &["ask the recipient for another address"],
);
const FULL: Advice = advice(
    Who::Recipient,
    "The recipient's mailbox is full.",
    &["delete messages, or have the mailbox enlarged; then the message can be sent again"],
);
const SIZE: Advice = advice(
    Who::Operator,
    "The message is larger than the mail server or the recipient takes.",
    &["send a smaller message, or a link to the file"],
);
const BUSY: Advice = advice(
    Who::Nobody,
    "The mail server is out of order, overloaded or out of space.",
    &["send the message again later"],
);
const NETWORK: Advice = advice(
    Who::Nobody,
    "The mail server has trouble with the network or with routing the message.",
    &["send the message again later", "if it lasts: check the recipient's domain"],
);
const COMMAND: Advice = advice(
    Who::Developer,
    "The mail server did not understand a command, or not at that point.",
    &[
        "look for a proxy, virus scanner or firewall that changes SMTP connections and switch that off",
        "else report it with the reply",
    ],
);
const RECIPIENTS: Advice = advice(
    Who::Operator,
    "The message has more recipients than the mail server takes at once.",
    &["send several messages with fewer recipients"],
);
const FORMAT: Advice = advice(
    Who::Developer,
    "The mail server cannot handle the message's format.",
    &["check headers, character sets and attachments of the message"],
);
const RELAY: Advice = advice(
    Who::Operator,
    "The mail server or the recipient does not take this mail from this sender.",
    &[
        "check that {username} signs in, and may send as {sender} and to recipients elsewhere",
        "ask the mail server's administrator, with the reply",
    ],
);
const GREYLISTED: Advice = advice(
    Who::Nobody,
    "The mail server puts off senders it does not know yet (greylisting).",
    &["send the message again in some minutes"],
);
const CONTENT: Advice = advice(
    Who::Developer,
    "A policy of the mail server refuses the message.",
    &["check the message's links and attachments", "ask the mail server's administrator, with the reply"],
);

pub(super) const ROWS: &[Row] = &[
    Row::new(
        Cause::SourceThrottled,
        &GREYLISTED,
        &[
            (Rcpt, "450 4.2.0 <a@example.com>: Recipient address rejected: Greylisted"),
            (Rcpt, "451 4.7.1 Greylisted, please try again"),
        ],
    )
    .codes(&[450, 451])
    .texts(&["greylist"]),
    Row::new(
        Cause::EncryptionRequired,
        &ENCRYPTION,
        &[(Mail, "530 5.7.0 Must issue a STARTTLS command first")],
    )
    .codes(&[530])
    .texts(&["starttls"]),
    Row::new(
        Cause::EncryptionRequired,
        &ENCRYPTION,
        &[(Auth, "538 5.7.11 Encryption required for requested authentication mechanism")],
    )
    .codes(&[538]),
    Row::new(
        Cause::NotAuthenticated,
        &UNAUTHENTICATED,
        &[(Mail, "530 5.7.0 Authentication required"), (Mail, "530 Authentication required")],
    )
    .codes(&[530]),
    Row::new(
        Cause::SignInUnavailable,
        &SIGN_IN_FAULT,
        &[(Auth, "454 4.7.0 Temporary authentication failure")],
    )
    .codes(&[454])
    .phases(&[Auth]),
    Row::new(
        Cause::MechanismUnknown,
        &MECHANISM,
        &[(Auth, "534 5.7.9 Authentication mechanism is too weak")],
    )
    .codes(&[534])
    .phases(&[Auth]),
    Row::new(
        Cause::WrongCredentials,
        &CREDENTIALS,
        &[(Auth, "535 5.7.8 Authentication credentials invalid"), (Auth, "535 Authentication failed")],
    )
    .codes(&[535]),
    Row::new(Cause::SenderUnknown, &SENDER, &[(Mail, "550 5.1.8 Bad sender's system address")])
        .statuses("x.1.7-8")
        .by_code(),
    Row::new(Cause::RecipientUnknown, &UNKNOWN, &[(Rcpt, "550 5.1.1 <gone@example.com> User unknown")])
        .statuses("x.1.1-2 x.1.10")
        .by_code(),
    Row::new(
        Cause::InvalidAddress,
        &ADDRESS,
        &[
            (Rcpt, "501 5.1.3 Bad recipient address syntax"),
            (FinalReply, "550 5.1.3 STOREDRV.Submit; invalid recipient address"),
        ],
    )
    .statuses("x.1.3-4 x.1.6")
    .by_code(),
    Row::new(Cause::RecipientUnknown, &DISABLED, &[(Rcpt, "550 5.2.1 Mailbox disabled")])
        .statuses("x.2.1")
        .by_code(),
    Row::new(
        Cause::RecipientFull,
        &FULL,
        &[
            (Rcpt, "452 4.2.2 The email account that you tried to reach is over quota"),
            (Rcpt, "552 5.2.2 Mailbox full"),
        ],
    )
    .statuses("x.2.2")
    .by_code(),
    Row::new(
        Cause::MessageTooLarge,
        &SIZE,
        &[
            (Mail, "552 5.3.4 Message too big for system"),
            (FinalReply, "552 5.2.3 Message length exceeds administrative limit"),
        ],
    )
    .statuses("x.3.4 x.2.3")
    .by_code(),
    Row::new(
        Cause::ServerBusy,
        &BUSY,
        &[
            (FinalReply, "451 4.3.0 Mail server temporarily rejected message"),
            (FinalReply, "450 4.3.2 System not accepting network messages"),
        ],
    )
    .statuses("x.3.0-2")
    .by_code(),
    Row::new(Cause::ServerFault, &NETWORK, &[(FinalReply, "450 4.4.1 No answer from host")])
        .statuses("x.4.0-6")
        .by_code(),
    Row::new(Cause::TooManyRecipients, &RECIPIENTS, &[(Rcpt, "550 5.5.3 Too many recipients")])
        .statuses("x.5.3")
        .by_code(),
    Row::new(
        Cause::CommandNotUnderstood,
        &COMMAND,
        &[
            (Mail, "501 5.5.4 Invalid command arguments"),
            (Auth, "500 5.5.6 Authentication exchange line is too long"),
        ],
    )
    .codes(&[500, 501, 502, 503, 504, 555])
    .statuses("x.5.0-6")
    .by_code(),
    Row::new(Cause::InvalidMessage, &FORMAT, &[(FinalReply, "554 5.6.0 Message format error")])
        .statuses("x.6.0-10")
        .by_code(),
    Row::new(Cause::ContentRefused, &CONTENT, &[(FinalReply, "554 5.7.1 Message refused by policy")])
        .statuses("x.7.0-2")
        .phases(&[FinalReply])
        .by_code(),
    Row::new(Cause::RelayDenied, &RELAY, &[(Mail, "550 5.7.1 Delivery not authorized, message refused")])
        .statuses("x.7.1-2")
        .phases(&[Mail])
        .by_code(),
    Row::new(Cause::RecipientRestricted, &RELAY, &[(Rcpt, "554 5.7.1 <a@example.com>: Relay access denied")])
        .statuses("x.7.1-2")
        .phases(&[Rcpt])
        .by_code(),
];
