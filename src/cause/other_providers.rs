//! Refusals in the words of Gmail and Yahoo. Sources: support.google.com/a/answer/3726730, senders.yahooinc.com.

use super::reply_cause::ReplyCause as Cause;
use super::row::Row;
use crate::remedy::{Advice, Who};
use crate::smtp::Phase::{Auth, FinalReply, Greeting, Mail};

const GOOGLE: &str = "https://support.google.com/a/answer/3726730";
const GOOGLE_LIMITS: &str = "https://support.google.com/a/answer/166852";
const YAHOO: &str = "https://senders.yahooinc.com/smtp-error-codes/";
const YAHOO_PASSWORDS: &str = "https://help.yahoo.com/kb/SLN15241.html";

const GOOGLE_CREDENTIALS: Advice = Advice {
    who: Who::User,
    summary: "Google refused user name and password, or the access token, of {username}.",
    steps: &[
        "with a password: it must be an app password (https://myaccount.google.com/apppasswords), not the account's own",
        "with OAuth: the token must be for {username}, with the scope https://mail.google.com/",
        "sign in again; Google revokes tokens when the password changes",
    ],
    link: "https://support.google.com/mail/?p=BadCredentials",
};
const GOOGLE_APP_PASSWORD: Advice = Advice {
    who: Who::User,
    summary: "Google wants an app password: the account {username} has 2-Step Verification.",
    steps: &[
        "switch on 2-Step Verification, then make an app password at https://myaccount.google.com/apppasswords",
        "enter it here as the password, or better use OAuth with the scope https://mail.google.com/",
    ],
    link: "https://support.google.com/mail/?p=InvalidSecondFactor",
};
const GOOGLE_BROWSER: Advice = Advice {
    who: Who::User,
    summary: "Google wants the owner of {username} to confirm the sign-in in a browser.",
    steps: &[
        "sign in with {username} at https://accounts.google.com and confirm that it was you",
        "then use an app password, or OAuth with the scope https://mail.google.com/",
    ],
    link: "https://support.google.com/mail/?p=WebLoginRequired",
};
const GOOGLE_SIGN_INS: Advice = Advice {
    who: Who::Operator,
    summary: "Google counts too many sign-ins of {username}.",
    steps: &[
        "wait an hour, and keep fewer connections open for longer",
        "make sure no other program retries a wrong password",
    ],
    link: GOOGLE,
};
const GOOGLE_SIGN_IN_FAULT: Advice = Advice {
    who: Who::Nobody,
    summary: "Google's sign-in service has a fault that passes.",
    steps: &["send the message again later"],
    link: GOOGLE,
};
const GOOGLE_THROTTLED: Advice = Advice {
    who: Who::Operator,
    summary: "Google slows down mail from this address or account.",
    steps: &[
        "send the message again later, fewer at once and more evenly",
        "look for unsolicited mail sent from the same address",
    ],
    link: GOOGLE,
};
const GOOGLE_QUOTA: Advice = Advice {
    who: Who::Operator,
    summary: "The account {username} has sent as much as Google allows in 24 hours.",
    steps: &[
        "wait until the 24 hours are over (2,000 messages with Google Workspace, 500 with Gmail)",
        "for more: Google Workspace SMTP relay",
    ],
    link: GOOGLE_LIMITS,
};
const GOOGLE_RELAY: Advice = Advice {
    who: Who::ServerAdministrator,
    summary: "Google's SMTP relay does not know this client.",
    steps: &[
        "Google Admin console > Apps > Google Workspace > Gmail > Routing > SMTP relay service: allow this address, or require SMTP authentication and use it",
    ],
    link: "https://support.google.com/a/answer/6140680",
};
const GOOGLE_CONTENT: Advice = Advice {
    who: Who::Developer,
    summary: "Google takes the message for spam or for unauthenticated.",
    steps: &["publish SPF and DKIM for the sender's domain", "check the message's links and attachments"],
    link: GOOGLE,
};
const YAHOO_CREDENTIALS: Advice = Advice {
    who: Who::User,
    summary: "Yahoo or AOL refused user name and password of {username}.",
    steps: &[
        "Account security > Generate app password: enter that here, the account's own password is not taken",
        "or use OAuth with the scope mail-w",
    ],
    link: YAHOO_PASSWORDS,
};
const YAHOO_SIGN_INS: Advice = Advice {
    who: Who::User,
    summary: "Yahoo or AOL counts too many failed sign-ins of {username}.",
    steps: &[
        "stop every program that still has the old password, and wait some hours",
        "then use an app password: Account security > Generate app password",
    ],
    link: YAHOO_PASSWORDS,
};
const YAHOO_DEFERRED: Advice = Advice {
    who: Who::Operator,
    summary: "Yahoo defers mail from this address because of its volume or of complaints.",
    steps: &["send the message again later, fewer at once and more evenly"],
    link: YAHOO,
};
const YAHOO_POLICY: Advice = Advice {
    who: Who::Developer,
    summary: "Yahoo refuses the message for its content or its sender's authentication.",
    steps: &[
        "check the message's links and attachments",
        "set the From to {username}, or to an address whose domain has SPF and DKIM",
    ],
    link: YAHOO,
};
const YAHOO_SENDER: Advice = Advice {
    who: Who::Operator,
    summary: "Yahoo does not let {username} send as {sender}.",
    steps: &[
        "set the sender to {username}, or verify {sender} at Yahoo: Settings > Mailboxes > Send-only email address",
    ],
    link: YAHOO,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(Cause::AppPasswordRequired, &GOOGLE_APP_PASSWORD, &[(Auth, "534 5.7.9 Application-specific password required. For more information, go to\n5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor d2e1a72fcca58-x - gsmtp")])
        .texts(&["application-specific password required"]),
    Row::new(Cause::BrowserSignInRequired, &GOOGLE_BROWSER, &[
        (Auth, "534 5.7.9 Please log in with your web browser and then try again. For more information, go to\n5.7.9 https://support.google.com/mail/?p=WebLoginRequired x - gsmtp"),
        (Auth, "534 5.7.14 <https://accounts.google.com/signin/continue?sarp=1> Please log in via your web browser and\n5.7.14 then try again. x - gsmtp"),
    ]).statuses("5.7.9 5.7.14").texts(&["web browser"]),
    Row::new(Cause::WrongCredentials, &GOOGLE_CREDENTIALS, &[
        (Auth, "535 5.7.8 Username and Password not accepted. For more information, go to\n5.7.8  https://support.google.com/mail/?p=BadCredentials d2e1a72fcca58-x - gsmtp"),
        (Auth, "535 5.7.1 Username and Password not accepted. Learn more at\n5.7.1 http://support.google.com/mail/bin/answer.py?answer=14257 x"),
    ]).texts(&["username and password not accepted"]),
    Row::new(Cause::SignInRate, &GOOGLE_SIGN_INS, &[
        (Auth, "454 4.7.0 Too many login attempts, please try again later. For more information, go to\n4.7.0  https://support.google.com/mail/?p=TooManyLoginAttempts x - gsmtp"),
        (Auth, "421 4.7.0 Too many login attempts, please try again later."),
    ]).statuses("4.7.0").texts(&["too many login attempts"]),
    Row::new(Cause::SignInUnavailable, &GOOGLE_SIGN_IN_FAULT, &[(Auth, "454 4.7.0 Cannot authenticate due to temporary system problem. Try again later.")])
        .codes(&[454, 421]).texts(&["temporary system problem"]),
    Row::new(Cause::RecipientQuota, &GOOGLE_QUOTA, &[
        (FinalReply, "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail\n5.4.5 sending limits go to https://support.google.com/a/answer/166852 x - gsmtp"),
        (FinalReply, "550 5.4.5 Daily SMTP relay limit exceeded for user. x - gsmtp"),
    ]).codes(&[550]).statuses("5.4.5"),
    Row::new(Cause::RelayDenied, &GOOGLE_RELAY, &[
        (Mail, "550 5.7.1 Invalid credentials for relay [192.0.2.10]. The IP address you've registered in your G Suite SMTP Relay service doesn't match the domain of the account this email is being sent from."),
    ]).texts(&["invalid credentials for relay"]),
    Row::new(Cause::SourceThrottled, &GOOGLE_THROTTLED, &[
        (Mail, "421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address. x - gsmtp"),
        (Greeting, "421 4.7.0 Try again later, closing connection. (EHLO) x - gsmtp"),
        (FinalReply, "421 4.7.28 Gmail has detected an unusual rate of mail. x - gsmtp"),
    ]).codes(&[421]).statuses("4.7.0 4.7.28").texts(&["gsmtp"]),
    Row::new(Cause::ContentRefused, &GOOGLE_CONTENT, &[
        (FinalReply, "550 5.7.1 Our system has detected that this message is likely unsolicited mail. x - gsmtp"),
        (FinalReply, "550 5.7.26 This mail has been blocked because the sender is unauthenticated. x - gsmtp"),
    ]).statuses("5.7.1 5.7.26").texts(&["gsmtp"]).phases(&[FinalReply]),
    Row::new(Cause::SignInRate, &YAHOO_SIGN_INS, &[(Auth, "535 5.7.0 (#AUTH012) Too many bad auth attempts")])
        .texts(&["too many bad auth attempts"]),
    Row::new(Cause::WrongCredentials, &YAHOO_CREDENTIALS, &[(Auth, "535 5.7.0 (#AUTH005) Authentication failed"), (Auth, "535 5.7.0 (#MBR1212) Incorrect username or password")])
        .codes(&[535]).statuses("5.7.0").texts(&["(#"]),
    Row::new(Cause::SourceThrottled, &YAHOO_DEFERRED, &[
        (Mail, "421 4.7.0 [TSS04] Messages from 192.0.2.10 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes"),
    ]).texts(&["temporarily deferred"]),
    Row::new(Cause::ContentRefused, &YAHOO_POLICY, &[(FinalReply, "554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes")])
        .texts(&["not accepted for policy reasons"]),
    Row::new(Cause::SendAsDenied, &YAHOO_SENDER, &[(FinalReply, "550 Request failed; Mailbox unavailable")])
        .texts(&["request failed; mailbox unavailable"]),
];
