//! SASL messages for SMTP AUTH (RFC 4954): builds responses, reads error challenges. Performs no I/O.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::capabilities::Capabilities;

/// What a client signs in with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credentials<'a> {
    Bearer { token: &'a SecretString, host: &'a str, port: u16 },
    Password(&'a SecretString),
}

impl Credentials<'_> {
    /// Returns a copy of the secret itself; zeroed on drop.
    pub(super) fn secret(self) -> Line {
        let (Self::Bearer { token: secret, .. } | Self::Password(secret)) = self;
        Zeroizing::new(secret.expose_secret().as_bytes().to_vec())
    }
}

/// A SASL mechanism this crate speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// Google's and Microsoft's own (learn.microsoft.com/exchange/client-developer/legacy-protocols).
    XOAuth2,
    /// RFC 7628.
    OAuthBearer,
    /// RFC 4616.
    Plain,
    /// draft-murchison-sasl-login; the only password mechanism of Exchange Online.
    Login,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// Picks the first mechanism that fits the credentials and is offered.
    pub(crate) fn choose(credentials: Credentials<'_>, offered: &Capabilities) -> Option<Self> {
        let fitting: &[Self] = match credentials {
            Credentials::Bearer { .. } => &[Self::XOAuth2, Self::OAuthBearer],
            Credentials::Password(_) => &[Self::Plain, Self::Login],
        };
        fitting.iter().copied().find(|mechanism| offered.offers(mechanism.name()))
    }

    /// Names the mechanisms that would fit the credentials, for an error.
    pub(crate) fn fitting(credentials: Credentials<'_>) -> &'static str {
        match credentials {
            Credentials::Bearer { .. } => "XOAUTH2 or OAUTHBEARER",
            Credentials::Password(_) => "PLAIN or LOGIN",
        }
    }
}

/// One line of a SASL exchange in base64, without the line end; zeroed on drop.
pub(crate) type Line = Zeroizing<Vec<u8>>;

/// Builds the client's responses, the initial one first.
pub(crate) fn responses(mechanism: Mechanism, username: &str, credentials: Credentials<'_>) -> Vec<Line> {
    match (mechanism, credentials) {
        (Mechanism::OAuthBearer, Credentials::Bearer { token, host, port }) => {
            // RFC 7628 §3.1; the authorization identity is a saslname (RFC 5801 §4).
            let username = username.replace('=', "=3D").replace(',', "=2C");
            let port = port.to_string();
            let token = token.expose_secret();
            vec![encode(&[
                "n,a=",
                &username,
                ",\x01host=",
                host,
                "\x01port=",
                &port,
                "\x01auth=Bearer ",
                token,
                "\x01\x01",
            ])]
        }
        (_, Credentials::Bearer { token, .. }) => {
            vec![encode(&["user=", username, "\x01auth=Bearer ", token.expose_secret(), "\x01\x01"])]
        }
        (Mechanism::Login, Credentials::Password(password)) => {
            vec![encode(&[username]), encode(&[password.expose_secret()])]
        }
        (_, Credentials::Password(password)) => {
            vec![encode(&["\0", username, "\0", password.expose_secret()])]
        }
    }
}

/// The client's answer to an error challenge, after which the server gives its final reply.
pub(crate) fn error_challenge_answer(mechanism: Mechanism) -> &'static [u8] {
    match mechanism {
        // RFC 7628 §3.2.3: a single ^A, in base64.
        Mechanism::OAuthBearer => b"AQ==\r\n",
        // developers.google.com/workspace/gmail/imap/xoauth2-protocol: an empty response.
        Mechanism::XOAuth2 | Mechanism::Plain | Mechanism::Login => b"\r\n",
    }
}

/// Decodes a challenge, such as the JSON that says why a token was refused; control characters become `?`.
pub(crate) fn decode_challenge(text: &str) -> Option<String> {
    let bytes = BASE64.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty())?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.chars().map(|c| if c.is_control() { '?' } else { c }).take(1024).collect())
}

/// Joins the parts and encodes them without leaving a copy behind.
fn encode(parts: &[&str]) -> Line {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut clear = Zeroizing::new(Vec::with_capacity(length));
    for part in parts {
        clear.extend_from_slice(part.as_bytes());
    }
    let mut line = Zeroizing::new(vec![0; length.div_ceil(3) * 4]);
    // The buffer has exactly the encoded length, so this cannot fail; an empty line would be refused by the server.
    let written = BASE64.encode_slice(&*clear, &mut line).unwrap_or_default();
    line.truncate(written);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line) -> &str {
        std::str::from_utf8(line).unwrap()
    }

    #[test]
    fn xoauth2_matches_microsofts_known_answer() {
        let token = SecretString::from("EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA");
        let bearer = Credentials::Bearer { token: &token, host: "smtp.office365.com", port: 587 };
        let lines = responses(Mechanism::XOAuth2, "test@contoso.onmicrosoft.com", bearer);
        assert_eq!(lines.len(), 1);
        assert_eq!(
            text(&lines[0]),
            "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="
        );
    }

    #[test]
    fn oauthbearer_matches_rfc_7628_section_4_1() {
        let token = SecretString::from("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let bearer = Credentials::Bearer { token: &token, host: "server.example.com", port: 143 };
        let lines = responses(Mechanism::OAuthBearer, "user@example.com", bearer);
        assert_eq!(
            text(&lines[0]),
            "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
        );
    }

    #[test]
    fn oauthbearer_escapes_what_would_end_the_user_name() {
        let token = SecretString::from("token");
        let bearer = Credentials::Bearer { token: &token, host: "mail.example", port: 587 };
        let lines = responses(Mechanism::OAuthBearer, "a=b,c@example.com", bearer);
        let message = BASE64.decode(text(&lines[0])).unwrap();
        assert_eq!(
            String::from_utf8(message).unwrap(),
            "n,a=a=3Db=2Cc@example.com,\x01host=mail.example\x01port=587\x01auth=Bearer token\x01\x01"
        );
        // XOAUTH2 knows no such escapes.
        let lines = responses(Mechanism::XOAuth2, "a=b,c@example.com", bearer);
        let message = BASE64.decode(text(&lines[0])).unwrap();
        assert!(message.starts_with(b"user=a=b,c@example.com\x01"));
    }

    #[test]
    fn the_preferred_mechanism_is_chosen_whatever_the_servers_order() {
        let secret = SecretString::from("secret");
        let bearer = Credentials::Bearer { token: &secret, host: "mail.example", port: 587 };
        let password = Credentials::Password(&secret);
        let cases = [
            (bearer, "OAUTHBEARER LOGIN XOAUTH2 PLAIN", Some(Mechanism::XOAuth2)),
            (bearer, "OAUTHBEARER PLAIN", Some(Mechanism::OAuthBearer)),
            (bearer, "LOGIN PLAIN", None),
            (password, "LOGIN XOAUTH2 PLAIN", Some(Mechanism::Plain)),
            (password, "XOAUTH2 LOGIN", Some(Mechanism::Login)),
            (password, "XOAUTH2 OAUTHBEARER", None),
        ];
        for (credentials, offered, chosen) in cases {
            let mechanisms = offered.split(' ').map(str::to_owned).collect();
            let capabilities = Capabilities { mechanisms, ..Capabilities::default() };
            assert_eq!(Mechanism::choose(credentials, &capabilities), chosen, "{offered}");
        }
    }

    #[test]
    fn passwords_are_encoded_as_rfc_4616_and_login_say() {
        let password = SecretString::from("tanstaaftanstaaf");
        let plain = responses(Mechanism::Plain, "tim", Credentials::Password(&password));
        assert_eq!(text(&plain[0]), "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        let login = responses(Mechanism::Login, "tim", Credentials::Password(&password));
        assert_eq!(login.iter().map(text).collect::<Vec<_>>(), ["dGlt", "dGFuc3RhYWZ0YW5zdGFhZg=="]);
    }

    #[test]
    fn challenges_are_decoded_for_people() {
        let json = BASE64.encode(r#"{"status":"401","schemes":"bearer"}"#);
        assert_eq!(decode_challenge(&json).as_deref(), Some(r#"{"status":"401","schemes":"bearer"}"#));
        assert_eq!(decode_challenge(&BASE64.encode("a\r\nb")).as_deref(), Some("a??b"));
        for nothing in ["", "  ", "not base64!"] {
            assert_eq!(decode_challenge(nothing), None, "{nothing}");
        }
    }
}
