//! A received message as its reader would see it: headers decoded, parts told apart. Parses with `mail-parser`.

use mail_parser::{Message, MessageParser, MimeHeaders};

use super::exchange::ReceivedMessage;

/// A file that came with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedAttachment {
    /// The file name; empty if it had none.
    pub name: String,
    /// The media type, such as `application/pdf`.
    pub content_type: String,
    /// The octets, decoded.
    pub content: Vec<u8>,
}

/// What a reader sees.
///
/// ```
/// use smtp_oauth::lettre::Message;
/// use smtp_oauth::testing::FakeMicrosoft365;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenant = FakeMicrosoft365::start().await;
/// let message = Message::builder()
///     .from(tenant.account().parse()?)
///     .to("Zoë <zoe@example.com>".parse()?)
///     .subject("Grüße")
///     .body("Bis morgen!".to_owned())?;
/// tenant.mailer().submit(&message).await?;
///
/// let received = tenant.only_message();
/// assert_eq!(received.subject(), "Grüße");
/// assert_eq!(received.text(), "Bis morgen!");
/// assert_eq!(received.header("To").as_deref(), Some("Zoë <zoe@example.com>"));
/// # Ok(())
/// # }
/// ```
impl ReceivedMessage {
    /// Returns the subject, decoded; empty without one.
    pub fn subject(&self) -> String {
        self.parsed().subject().unwrap_or_default().to_owned()
    }

    /// Returns the first text, decoded, without white space at its end; made of the HTML where there is no text.
    pub fn text(&self) -> String {
        self.parsed().body_text(0).unwrap_or_default().trim_end().to_owned()
    }

    /// Returns the first HTML part, decoded; `None` without one.
    pub fn html(&self) -> Option<String> {
        let message = self.parsed();
        let part = message.part(*message.html_body.first()?)?;
        part.is_text_html().then(|| part.text_contents().unwrap_or_default().to_owned())
    }

    /// Returns the first header field of that name, decoded; `None` without one.
    pub fn header(&self, name: &str) -> Option<String> {
        use mail_parser::{HeaderValue, MessagePart};

        let message = self.parsed();
        let field = |part: &MessagePart<'_>| {
            let value = &part.headers.iter().find(|header| header.name().eq_ignore_ascii_case(name))?.value;
            Some(match value {
                HeaderValue::Text(text) => text.to_string(),
                HeaderValue::TextList(texts) => texts.join(", "),
                HeaderValue::Address(addresses) => addresses.iter().map(shown).collect::<Vec<_>>().join(", "),
                HeaderValue::DateTime(date) => date.to_rfc822(),
                HeaderValue::ContentType(kind) => match kind.subtype() {
                    Some(subtype) => format!("{}/{subtype}", kind.ctype()),
                    None => kind.ctype().to_owned(),
                },
                HeaderValue::Received(_) | HeaderValue::Empty => String::new(),
            })
        };
        field(message.root_part())
    }

    /// Returns the attachments in order.
    pub fn attachments(&self) -> Vec<ReceivedAttachment> {
        let message = self.parsed();
        let attachments = message.attachments().map(|part| ReceivedAttachment {
            name: part.attachment_name().unwrap_or_default().to_owned(),
            content_type: part.content_type().map_or_else(
                || "text/plain".to_owned(),
                |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()),
            ),
            content: part.contents().to_vec(),
        });
        attachments.collect()
    }

    fn parsed(&self) -> Message<'_> {
        MessageParser::default().parse(&self.body).unwrap_or_default()
    }
}

fn shown(address: &mail_parser::Addr<'_>) -> String {
    let mailbox = address.address().unwrap_or_default();
    match address.name() {
        Some(name) => format!("{name} <{mailbox}>"),
        None => mailbox.to_owned(),
    }
}
