//! AUTH on the server's side (RFC 4954): XOAUTH2, OAUTHBEARER (RFC 7628), LOGIN and PLAIN (RFC 4616).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::{Fault, FaultPoint};
use super::record::AuthAttempt;
use super::session::Session;
use super::wire::{Ended, Line};

/// RFC 4954 §4: sufficient for a line that answers a challenge.
const RESPONSE_LINE: usize = 12_288;

/// What a client said about itself.
struct Identity {
    user: String,
    secret: String,
}

/// Why there is no identity.
enum Unreadable {
    Cancelled,
    Malformed,
}

impl Session {
    pub(super) async fn auth(&mut self, argument: &str) -> Result<(), Ended> {
        let (mechanism, initial) = match argument.split_once(' ') {
            Some((mechanism, initial)) => (mechanism.to_ascii_uppercase(), Some(initial.to_owned())),
            None => (argument.to_ascii_uppercase(), None),
        };
        if !self.is_greeted() {
            return self.just("503 5.5.2 Send hello first");
        }
        if !self.settings.extensions.offers_mechanism(&mechanism, self.is_secured()) {
            return self.just("504 5.7.4 Unrecognized authentication type");
        }
        if self.user.is_some() || self.transaction.is_some() {
            return self.just("503 5.5.2 Bad sequence of commands");
        }
        let initial_response = initial.is_some();
        let Some(first) = self.first_response(&mechanism, initial).await? else { return Ok(()) };
        let identity = self.identity(&mechanism, first).await?;
        let normal = self.judgement(&mechanism, &identity);
        let accepted = self.final_reply(&mechanism, &normal).await?;
        let identity = identity.ok();
        let (user, secret) = identity.map(|identity| (identity.user, identity.secret)).unzip();
        if accepted {
            self.user = Some(user.clone().unwrap_or_default());
        }
        let connection = self.entry.number();
        self.entry.attempt(AuthAttempt { connection, mechanism, user, secret, initial_response, accepted });
        Ok(())
    }

    /// Returns the first message; `None` when the script refuses to ask for it.
    async fn first_response(
        &mut self,
        mechanism: &str,
        initial: Option<String>,
    ) -> Result<Option<String>, Ended> {
        if let Some(initial) = initial {
            // RFC 4954 §4: a single equals sign is an empty initial response.
            return Ok(Some(if initial == "=" { String::new() } else { initial }));
        }
        let challenge = if mechanism == "LOGIN" { "334 VXNlcm5hbWU6" } else { "334 " };
        if !self.answer(FaultPoint::AuthChallenge, challenge).await? {
            return Ok(None);
        }
        self.response().await.map(Some)
    }

    async fn response(&mut self) -> Result<String, Ended> {
        let line = match self.wire.line().await? {
            Line::Text(line) if line.len() + 2 <= RESPONSE_LINE => line,
            Line::Text(_) | Line::TooLong => "<line too long>".to_owned(),
        };
        self.entry.command(|| match line.as_str() {
            "" | "*" => line.clone(),
            _ => "<redacted>".to_owned(),
        });
        Ok(line)
    }

    async fn identity(
        &mut self,
        mechanism: &str,
        first: String,
    ) -> Result<Result<Identity, Unreadable>, Ended> {
        if first == "*" {
            return Ok(Err(Unreadable::Cancelled));
        }
        if mechanism != "LOGIN" {
            let read = match mechanism {
                "PLAIN" => plain,
                "OAUTHBEARER" => oauthbearer,
                _ => xoauth2,
            };
            return Ok(decoded(&first).and_then(|message| read(&message)).ok_or(Unreadable::Malformed));
        }
        self.wire.reply("334 UGFzc3dvcmQ6");
        let second = self.response().await?;
        if second == "*" {
            return Ok(Err(Unreadable::Cancelled));
        }
        let pair = decoded(&first).zip(decoded(&second));
        Ok(pair.map(|(user, secret)| Identity { user, secret }).ok_or(Unreadable::Malformed))
    }

    fn judgement(&self, mechanism: &str, identity: &Result<Identity, Unreadable>) -> String {
        let good = match identity {
            Err(Unreadable::Malformed) => return format!("501 5.5.124 Invalid {mechanism} auth data"),
            Err(Unreadable::Cancelled) => false, // RFC 4954 §4 wants 501 here; Exchange Online says 535.
            Ok(Identity { user, secret }) => match mechanism {
                "LOGIN" | "PLAIN" => self.settings.passwords.get(&user.to_lowercase()) == Some(secret),
                _ => self.settings.tokens.opens(secret, user),
            },
        };
        if good {
            return "235 2.7.0 Authentication successful".to_owned();
        }
        let name = "SY5P282CA0097.AUSP282.PROD.OUTLOOK.COM";
        let (date, time) = (self.settings.clock.now().date(), self.settings.clock.now().time());
        let (hour, minute, second) = time.as_hms();
        let stamp = format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", time.millisecond());
        format!("535 5.7.3 Authentication unsuccessful [{name} {stamp} {}]", self.id())
    }

    /// Ends the exchange, by way of an error challenge where the script or the mechanism has one.
    async fn final_reply(&mut self, mechanism: &str, normal: &str) -> Result<bool, Ended> {
        let (json, reply) = match self.fault(FaultPoint::Auth, None) {
            Some(Fault::ErrorChallenge { json, reply }) => (json, reply),
            Some(fault) => return self.suffer(fault, normal).await,
            None if mechanism == "OAUTHBEARER" && normal.starts_with("535") => {
                (r#"{"status":"invalid_token"}"#.to_owned(), normal.to_owned())
            }
            None => {
                self.wire.reply(normal);
                return Ok(normal.starts_with('2'));
            }
        };
        self.wire.reply(&format!("334 {}", STANDARD.encode(json)));
        let answer = self.response().await?;
        // RFC 7628 §3.2.3: ^A; Google's XOAUTH2: an empty line. Cancelling ends both.
        let understood =
            matches!((mechanism, answer.as_str()), (_, "*") | ("XOAUTH2", "") | ("OAUTHBEARER", "AQ=="));
        self.wire.reply(if understood { &reply } else { "501 5.5.4 Invalid arguments" });
        Ok(false)
    }
}

fn decoded(line: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(line).ok()?).ok()
}

fn xoauth2(message: &str) -> Option<Identity> {
    let (user, rest) = message.strip_prefix("user=")?.split_once('\x01')?;
    let secret = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\x01\x01")?;
    Some(Identity { user: user.to_owned(), secret: secret.to_owned() })
}

fn oauthbearer(message: &str) -> Option<Identity> {
    let mut fields = message.strip_suffix("\x01\x01")?.split('\x01');
    let user = fields.next()?.strip_prefix("n,a=")?.strip_suffix(',')?;
    let user = user.replace("=2C", ",").replace("=3D", "=");
    let secret = fields.find_map(|field| field.strip_prefix("auth=Bearer "))?;
    Some(Identity { user, secret: secret.to_owned() })
}

fn plain(message: &str) -> Option<Identity> {
    let mut fields = message.split('\0').skip(1);
    let (user, secret) = fields.next().zip(fields.next())?;
    Some(Identity { user: user.to_owned(), secret: secret.to_owned() })
}
