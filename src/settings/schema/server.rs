//! The keys of the table `server`, described. What they mean in practice is in `crate::config`.

use serde_json::{Value, json};

use super::key::{Key, Kind};

pub(super) fn rules() -> Value {
    let profile = |is: Value| json!({ "properties": { "profile": is }, "required": ["profile"] });
    json!({
        "required": ["username"],
        "allOf": [
            { "if": profile(json!({ "const": "custom" })), "then": { "required": ["host"] } },
            {
                "if": profile(json!({ "not": { "const": "office365" } })),
                "then": { "properties": { "cloud": false } },
            },
        ],
    })
}

pub(super) fn keys() -> Vec<Key> {
    let mut keys = connection();
    keys.extend(sending());
    keys
}

/// Where the server is, and how it is reached.
fn connection() -> Vec<Key> {
    vec![
        Key::new(
            "profile",
            Kind::Choice(json!([
                "office365",
                "outlook.com",
                "high-volume-email",
                "azure-communication-services",
                "gmail",
                "yahoo",
                "aol",
                "custom",
            ])),
            "Whose server it is: Exchange Online or another service with its fixed values, or any other server.",
        )
        .default("office365")
        .example("custom"),
        Key::new(
            "cloud",
            Kind::Choice(json!(["public", "us-government", "us-government-dod", "china"])),
            "Microsoft's cloud that the tenant lives in. It decides host and sign-in. Profile office365 only.",
        )
        .default("public")
        .example("us-government"),
        Key::new("host", Kind::Text, "The server's DNS name or IP address. Required with profile custom; otherwise the cloud's or the service's.")
            .example("mail.contoso.com"),
        Key::new("port", Kind::Integer { most: Some(65535) }, "The port. 465 when tls is implicit.")
            .default(587)
            .example(2525),
        Key::new(
            "tls",
            Kind::Choice(json!(["starttls", "implicit", "none"])),
            "How the connection is encrypted. none is for a server on this machine and Basic only. With gmail, yahoo and aol: implicit.",
        )
        .default("starttls")
        .example("implicit"),
        Key::new(
            "minimum_tls",
            Kind::Choice(json!(["1.2", "1.3", 1.2, 1.3])),
            "The oldest TLS version that is accepted, for mail and sign-in.",
        )
        .default("1.2")
        .example("1.3"),
        Key::new(
            "root_certificates",
            Kind::Text,
            "The path of a PEM file with root certificates that are trusted besides the operating system's.",
        )
        .example("roots.pem"),
        Key::new(
            "trust_platform_roots",
            Kind::Boolean,
            "Whether the operating system's root certificates are trusted. Without them root_certificates is required.",
        )
        .default(true)
        .example(false),
        Key::new("username", Kind::Text, "Required. The name that signs in; for Exchange Online the user principal name of the mailbox.")
            .example("mailer@contoso.com"),
        Key::new("hello_name", Kind::Text, "The name given in EHLO: a DNS name, or an address in brackets.")
            .default("[127.0.0.1]")
            .example("app.contoso.com"),
        Key::new("timeouts", Kind::Table(timeouts(), json!({})), "How long each step of a submission may take, up to 24 hours."),
    ]
}

/// What is sent, how much of it, and over how many connections.
fn sending() -> Vec<Key> {
    vec![
        Key::new(
            "sender",
            Kind::Text,
            "The mailbox that the application's own messages come from, with or without a name. Default: the user name.",
        )
        .example("Contoso alerts <alerts@contoso.com>"),
        Key::new("test_recipient", Kind::Text, "The mailbox that test messages go to. Default: none.")
            .example("admin@contoso.com"),
        Key::new(
            "max_connections",
            Kind::Integer { most: None },
            "How many connections may be open at once. Exchange Online allows 3. With any profile but office365 and outlook.com: 4.",
        )
        .default(3)
        .example(2),
        Key::new(
            "chunking",
            Kind::Choice(json!(["auto", "off"])),
            "Whether messages are sent in chunks (BDAT) where the server offers it. With any profile but office365, outlook.com and high-volume-email: auto.",
        )
        .default("off")
        .example("auto"),
        Key::new(
            "initial_response",
            Kind::Choice(json!(["when-short", "always"])),
            "Whether a long token goes on the line of the AUTH command (RFC 4954 §4).",
        )
        .default("when-short")
        .example("always"),
        Key::new(
            "refresh_margin",
            Kind::Time,
            "How long before its expiry a token stops being used, up to 45 minutes. With high-volume-email: 20m.",
        )
        .default("5m")
        .example("10m"),
        Key::new("limits", Kind::Table(limits(), json!({})), "How much the mailbox may send. The mailer waits before the server refuses."),
        Key::new("reuse", Kind::Table(reuse(), json!({})), "How long a connection is kept for the next message."),
    ]
}

fn limits() -> Vec<Key> {
    vec![
        Key::new(
            "messages_per_minute",
            Kind::Limit,
            "How many messages may go out in any 60 seconds; \"none\" for no limit. With any other profile than office365: none.",
        )
        .default(30)
        .example(10),
        Key::new(
            "recipients_per_day",
            Kind::Limit,
            "How many recipients may be addressed in any 24 hours, repeated ones counted again; \"none\" for no limit. With any other profile than office365: none.",
        )
        .default(10_000)
        .example(2000),
        Key::new(
            "recipients_per_message",
            Kind::Limit,
            "How many recipients one transaction may have; a submission to more is split. \"none\" for no limit. With gmail: 100; high-volume-email and azure-communication-services: 50; custom and the others: none.",
        )
        .default(500)
        .example(100),
        Key::new(
            "when_reached",
            Kind::Choice(json!(["wait", "fail"])),
            "What a submission does when a limit is reached: wait its turn as long as timeouts.total allows, or fail at once.",
        )
        .default("wait")
        .example("fail"),
    ]
}

fn reuse() -> Vec<Key> {
    vec![
        Key::new("idle", Kind::Time, "How long a connection may be idle, up to 24 hours; 0s keeps none.")
            .default("2m")
            .example("30s"),
        Key::new(
            "age",
            Kind::Time,
            "The age from which a connection carries no further message, up to 24 hours.",
        )
        .default("9m")
        .example("5m"),
        Key::new(
            "messages",
            Kind::Integer { most: None },
            "How many messages a connection may carry. Default: no limit.",
        )
        .example(50),
    ]
}

fn timeouts() -> Vec<Key> {
    let wait = |name, default: &str, example: &str, meaning| {
        Key::new(name, Kind::Time, meaning).default(default).example(example)
    };
    vec![
        wait("connect", "30s", "10s", "The TCP connection, over all addresses of the host together."),
        wait("tls", "30s", "10s", "The TLS handshake."),
        wait("greeting", "1m", "5m", "The greeting."),
        wait("ehlo", "1m", "2m", "The reply to EHLO."),
        wait("starttls", "1m", "2m", "The reply to STARTTLS."),
        wait("auth", "1m", "2m", "Each reply to AUTH."),
        wait("envelope", "5m", "2m", "Each reply to MAIL and RCPT."),
        wait("data", "2m", "1m", "The reply to DATA."),
        wait(
            "body_progress",
            "3m",
            "5m",
            "How long a body may stand still; it begins anew with each piece the server takes.",
        ),
        wait(
            "final_reply",
            "10m",
            "15m",
            "The reply to a whole message. A short wait leads to duplicates: the server may have taken the message (RFC 1047).",
        ),
        wait(
            "total",
            "15m",
            "1m 30s",
            "One submission in all, with waiting for a connection, signing in and trying again.",
        ),
    ]
}
