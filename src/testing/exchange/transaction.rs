//! Mail transactions on the server's side: MAIL, RCPT, DATA (RFC 5321 §3.3) and BDAT (RFC 3030).

use super::command::{Chunk, Path};
use super::extensions::Extensions;
use super::fault::FaultPoint;
use super::record::{BodyCommand, ReceivedMessage, ReceivedRecipient};
use super::session::{NAME, Session, is_positive};
use super::wire::Ended;

const TOO_LARGE: &str = "552 5.3.4 Message size exceeds fixed maximum message size";
const NEED_MAIL: &str = "503 5.5.2 Need mail command";
const NEED_RCPT: &str = "503 5.5.2 Need rcpt command";

/// What MAIL began.
pub(super) struct Transaction {
    sender: Path,
    recipients: Vec<ReceivedRecipient>,
    chunks: Option<Vec<u8>>,
}

impl Session {
    pub(super) async fn mail(&mut self, argument: &str) -> Result<(), Ended> {
        let refusal = if !self.is_greeted() {
            Some("503 5.5.2 Send hello first")
        } else if self.user.is_none() {
            Some("530 5.7.57 Client not authenticated to send mail. [SY5P282CA0097.AUSP282.PROD.OUTLOOK.COM]")
        } else if self.transaction.is_some() {
            Some("503 5.5.2 Sender already specified")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.just(refusal);
        }
        let Some(sender) = Path::parse(argument, "FROM") else {
            return self.just("501 5.5.4 Invalid arguments");
        };
        let reply = sender_refusal(&sender, &self.settings.extensions).unwrap_or("250 2.1.0 Sender OK");
        if self.answer(FaultPoint::Mail, reply).await? && is_positive(reply) {
            self.transaction = Some(Transaction { sender, recipients: Vec::new(), chunks: None });
        }
        Ok(())
    }

    pub(super) async fn rcpt(&mut self, argument: &str) -> Result<(), Ended> {
        if self.transaction.as_ref().is_none_or(|transaction| transaction.chunks.is_some()) {
            return self.just(NEED_MAIL);
        }
        let Some(Path { address, parameters }) = Path::parse(argument, "TO") else {
            return self.just("501 5.5.4 Invalid arguments");
        };
        let normal =
            if address.contains('@') { "250 2.1.5 Recipient OK" } else { "501 5.1.3 Invalid address" };
        let accepted = match self.fault(FaultPoint::Rcpt, Some(&address)) {
            Some(fault) => self.suffer(fault, normal).await?,
            None => {
                self.wire.reply(normal);
                is_positive(normal)
            }
        };
        if let Some(transaction) = self.transaction.as_mut().filter(|_| accepted) {
            transaction.recipients.push(ReceivedRecipient { address, parameters });
        }
        Ok(())
    }

    pub(super) async fn data(&mut self) -> Result<(), Ended> {
        let Some(transaction) = self.transaction.as_ref() else { return self.just(NEED_MAIL) };
        let binary =
            transaction.sender.parameter("BODY").is_some_and(|body| body.eq_ignore_ascii_case("BINARYMIME"));
        if transaction.chunks.is_some() || binary {
            return self.just("503 5.5.2 Bad sequence of commands"); // RFC 3030 §3: BINARYMIME goes by BDAT only.
        }
        let normal = if transaction.recipients.is_empty() {
            self.settings.data_without_recipients.clone()
        } else {
            "354 Start mail input; end with <CRLF>.<CRLF>".to_owned()
        };
        if !self.answer(FaultPoint::Data, &normal).await? {
            return Ok(());
        }
        self.before_body().await?;
        let body = self.wire.dotted(self.settings.extensions.largest_message()).await?;
        self.message(BodyCommand::Data, body).await
    }

    pub(super) async fn bdat(&mut self, argument: &str) -> Result<(), Ended> {
        let Some(Chunk { size, last }) = Chunk::parse(argument) else {
            return self.just("501 5.5.4 Invalid arguments");
        };
        self.before_body().await?;
        let mut body = match &mut self.transaction {
            Some(transaction) if !transaction.recipients.is_empty() => {
                transaction.chunks.take().unwrap_or_default()
            }
            refused => {
                let refusal = if refused.is_none() { NEED_MAIL } else { NEED_RCPT };
                // RFC 3030 §2: the octets come whatever the reply will be.
                self.wire.skip(size).await?;
                self.answer(FaultPoint::Bdat, refusal).await?;
                return Ok(());
            }
        };
        let limit = self.settings.extensions.largest_message();
        let fits = (body.len() as u64).checked_add(size).is_some_and(|total| total <= limit);
        if fits {
            self.wire.chunk(size, &mut body).await?;
        } else {
            self.wire.skip(size).await?;
        }
        let normal = if fits { &*format!("250 2.6.0 CHUNK received OK, {size} octets") } else { TOO_LARGE };
        let positive = match self.fault(FaultPoint::Bdat, None) {
            None if last => return self.message(BodyCommand::Bdat, fits.then_some(body)).await,
            None => {
                self.wire.reply(normal);
                fits
            }
            Some(fault) => self.suffer(fault, normal).await?,
        };
        let Some(mut transaction) = self.transaction.take().filter(|_| positive && fits) else {
            return Ok(());
        };
        if last {
            self.record(transaction, BodyCommand::Bdat, body);
        } else {
            transaction.chunks = Some(body);
            self.transaction = Some(transaction);
        }
        Ok(())
    }

    async fn before_body(&mut self) -> Result<(), Ended> {
        match self.fault(FaultPoint::BodyStart, None) {
            Some(fault) => self.suffer(fault, "").await.map(drop),
            None => Ok(()),
        }
    }

    /// Judges a whole message; `None` is one that was too large to keep.
    async fn message(&mut self, body_command: BodyCommand, body: Option<Vec<u8>>) -> Result<(), Ended> {
        let Some(transaction) = self.transaction.take() else { return self.just(NEED_MAIL) };
        let id = self.id();
        let normal = match &body {
            None => TOO_LARGE,
            Some(_) if transaction.recipients.is_empty() => "554 5.5.0 No valid recipients",
            Some(_) => {
                &*format!("250 2.0.0 OK <{id}@{NAME}> [Hostname=SY5P282MB4873.AUSP282.PROD.OUTLOOK.COM]")
            }
        };
        // A message is on record before its reply is on the wire: a test that saw the reply finds the message.
        let accepted = self.answer(FaultPoint::Body, normal).await? && is_positive(normal);
        if let Some(body) = body.filter(|_| accepted) {
            self.record(transaction, body_command, body);
        }
        Ok(())
    }

    fn record(&self, transaction: Transaction, body_command: BodyCommand, body: Vec<u8>) {
        let Transaction { sender, recipients, chunks: _ } = transaction;
        self.entry.message(ReceivedMessage {
            connection: self.entry.number(),
            user: self.user.clone(),
            from: sender.address,
            mail_parameters: sender.parameters,
            recipients,
            body_command,
            body,
        });
    }
}

/// Refuses a MAIL command whose parameters do not fit what was offered.
fn sender_refusal(sender: &Path, extensions: &Extensions) -> Option<&'static str> {
    let unknown = sender.parameters.iter().any(|parameter| {
        let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let extension = match (keyword.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str()) {
            ("SIZE", size) if size.parse::<u64>().is_ok() => "SIZE",
            ("BODY", "7BIT" | "8BITMIME") => "8BITMIME",
            ("BODY", "BINARYMIME") => "BINARYMIME",
            ("SMTPUTF8", "") => "SMTPUTF8",
            ("RET", "FULL" | "HDRS") | ("ENVID", _) => "DSN",
            ("AUTH", _) => "AUTH",
            _ => return true,
        };
        !extensions.offers(extension)
    });
    if unknown {
        return Some("501 5.5.4 Invalid arguments");
    }
    if !sender.address.is_ascii() && sender.parameter("SMTPUTF8").is_none() {
        return Some("501 5.1.7 Invalid address");
    }
    let size = sender.parameter("SIZE").and_then(|size| size.parse::<u64>().ok()).unwrap_or_default();
    (size > extensions.largest_message()).then_some(TOO_LARGE)
}
