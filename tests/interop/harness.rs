//! The servers themselves, asked by hand: what they advertise, whom they let in, what they deliver. Tests none of our client.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::{ASSISTANT, BOSS, Limits, PASSWORD, Servers, Service, Wire};

/// Dovecot's answer to a token it refuses: `{"status":"401","schemes":"bearer","scope":"mail"}`.
const CHALLENGE: &str = "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=";
const REFUSED: &str = "535 5.7.8 Error: authentication failed: (reason unavailable)";
const AUTHENTICATED: &str = "235 2.7.0 Authentication successful";

fn xoauth2(username: &str, token: &str) -> String {
    BASE64_STANDARD.encode(format!("user={username}\x01auth=Bearer {token}\x01\x01"))
}

#[tokio::test]
async fn each_port_advertises_its_own_extensions() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let rest =
        ["SIZE 1048576", "VRFY", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8"];
    for (service, more) in [
        (Service::Submission, &["PIPELINING", "CHUNKING"][..]),
        (Service::NoPipelining, &[]),
        (Service::NoChunking, &["PIPELINING"]),
    ] {
        let (mut wire, greeting) = Wire::connect(&servers, service).await;
        assert_eq!(greeting, ["220 mail.example.test ESMTP Postfix"]);
        let reply = wire.command("EHLO client.test").await;
        let mut advertised: Vec<_> = reply.iter().skip(1).map(|line| &line[4..]).collect();
        let mut expected: Vec<_> = rest.iter().chain(more).copied().collect();
        advertised.sort_unstable();
        expected.sort_unstable();
        assert_eq!(advertised, expected, "{service:?}");

        let (_, reply) = Wire::secure(&servers, service).await;
        assert!(reply.contains(&"250-AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER".to_owned()), "{reply:?}");
    }
}

#[tokio::test]
async fn only_a_good_token_of_the_same_account_signs_in() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let tokens = servers.tokens();
    tokens.accept("good", BOSS);
    tokens.accept("other", ASSISTANT);
    tokens.accept("expired", BOSS);
    tokens.expire("expired");
    let (mut wire, _) = Wire::secure(&servers, Service::Submission).await;
    for token in ["expired", "unheard-of", "other"] {
        let reply = wire.command(&format!("AUTH XOAUTH2 {}", xoauth2(BOSS, token))).await;
        assert_eq!(reply, [CHALLENGE], "{token}: {}", servers.log());
        assert_eq!(wire.command("").await, [REFUSED], "{token}");
    }
    // An endpoint that fails is told from a bad token by the missing challenge only.
    tokens.unavailable(true);
    assert_eq!(wire.command(&format!("AUTH XOAUTH2 {}", xoauth2(BOSS, "good"))).await, [REFUSED]);
    tokens.unavailable(false);
    assert_eq!(wire.command(&format!("AUTH XOAUTH2 {}", xoauth2(BOSS, "good"))).await, [AUTHENTICATED]);
    assert_eq!(tokens.asked().last().map(String::as_str), Some("good"));
}

#[tokio::test]
async fn long_token_signs_in_after_the_challenge_only() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let token = "x".repeat(8 << 10);
    servers.tokens().accept(&token, BOSS);
    let (mut wire, _) = Wire::secure(&servers, Service::Submission).await;
    let reply = wire.command(&format!("AUTH XOAUTH2 {}", xoauth2(BOSS, &token))).await;
    assert_eq!(reply, ["535 5.7.8 Error: authentication failed: Invalid base64 data in initial response"]);
    assert_eq!(wire.command("AUTH XOAUTH2").await, ["334 "]);
    assert_eq!(wire.command(&xoauth2(BOSS, &token)).await, [AUTHENTICATED]);
}

#[tokio::test]
async fn message_is_delivered_byte_for_byte() {
    let Some(servers) = Servers::start(&Limits::default()) else { return };
    let (mut wire, _) = Wire::secure(&servers, Service::Submission).await;
    let plain = BASE64_STANDARD.encode(format!("\0{BOSS}\0{PASSWORD}"));
    assert_eq!(wire.command(&format!("AUTH PLAIN {plain}")).await, [AUTHENTICATED]);
    let mut message =
        b"Bcc: kept@example.test\r\nSubject: octets\r\n\r\n.\r\nlone\rcr, NUL \0, \xff, blank \t\r\n"
            .to_vec();
    message.extend([b'z'; 5000]);
    message.extend(b"\r\n\r\n");

    let envelope = format!("MAIL FROM:<{BOSS}> BODY=8BITMIME\r\nRCPT TO:<alice@example.test>\r\n");
    let mut flight = format!("{envelope}BDAT {} LAST\r\n", message.len()).into_bytes();
    flight.extend(&message);
    wire.send(&flight).await;
    assert_eq!(wire.reply().await, ["250 2.1.0 Ok"]);
    assert_eq!(wire.reply().await, ["250 2.1.5 Ok"]);
    let reply = wire.reply().await;
    assert!(reply[0].starts_with("250 2.0.0 Ok: "), "{reply:?}");

    let delivered = servers.maildir().wait_for("alice@example.test", 1);
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].sender, BOSS);
    assert!(delivered[0].trace.contains(" with ESMTPSA id "), "{}", delivered[0].trace);
    assert_eq!(delivered[0].content.escape_ascii().to_string(), message.escape_ascii().to_string());
}
