//! One SMTP session as Exchange Online holds it (RFC 5321, RFC 3207): commands in, replies out, faults where scripted.

use std::collections::HashMap;
use std::sync::Arc;

use time::format_description::well_known::Rfc2822;
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::testing::tokens::IssuedTokens;

use super::command::Command;
use super::extensions::Extensions;
use super::fault::{Fault, FaultPoint, Script};
use super::record::{Entry, Handshake};
use super::transaction::Transaction;
use super::wire::{Ended, Line, Wire};

/// The name that the server gives itself.
pub(super) const NAME: &str = "SY5P282CA0097.outlook.office365.com";

/// When TLS starts.
#[derive(Clone)]
pub(super) enum Security {
    StartTls(TlsAcceptor),
    Implicit(TlsAcceptor),
    Plaintext,
}

/// What all sessions of one server share.
pub(super) struct Settings {
    pub(super) clock: Clock,
    pub(super) tokens: IssuedTokens,
    pub(super) passwords: HashMap<String, String>,
    pub(super) extensions: Extensions,
    pub(super) security: Security,
    pub(super) command_line_limit: usize,
    pub(super) auth_line_limit: usize,
    pub(super) data_without_recipients: String,
}

/// One session.
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) entry: Entry,
    pub(super) settings: Arc<Settings>,
    pub(super) user: Option<String>,
    pub(super) transaction: Option<Transaction>,
    script: Arc<Script>,
    greeted: bool,
    secured: bool,
}

impl Session {
    pub(super) fn new(wire: Wire, entry: Entry, settings: Arc<Settings>, script: Arc<Script>) -> Self {
        let secured = matches!(settings.security, Security::Plaintext);
        Self { wire, entry, settings, user: None, transaction: None, script, greeted: false, secured }
    }

    /// Holds the session until one side closes.
    pub(super) async fn run(&mut self) -> Result<(), Ended> {
        if let Security::Implicit(acceptor) = self.settings.security.clone() {
            self.handshake(&acceptor).await?;
        }
        let greeting = format!(
            "220 {NAME} Microsoft ESMTP MAIL Service ready at {} [{}]",
            self.settings.clock.now().format(&Rfc2822).expect("the year has four digits"),
            self.id(),
        );
        self.answer(FaultPoint::Greeting, &greeting).await?;
        loop {
            match self.wire.line().await? {
                Line::Text(line) => self.command(&line).await?,
                Line::TooLong => {
                    self.entry.command(|| "<line too long>".to_owned());
                    self.wire.reply("500 5.5.6 Line too long");
                }
            }
        }
    }

    async fn command(&mut self, line: &str) -> Result<(), Ended> {
        let command = Command::parse(line);
        self.entry.command(|| command.redacted(line));
        let limit = if command.verb == "AUTH" {
            self.settings.auth_line_limit
        } else {
            self.settings.command_line_limit
        };
        if line.len() + 2 > limit {
            self.wire.reply("500 5.5.6 Line too long");
            return Ok(());
        }
        let offered = |extension| self.settings.extensions.offers(extension);
        match command.verb.as_str() {
            "EHLO" | "HELO" => self.hello(&command).await,
            "STARTTLS" if offered("STARTTLS") => self.start_tls().await,
            "AUTH" => self.auth(command.argument).await,
            "MAIL" => self.mail(command.argument).await,
            "RCPT" => self.rcpt(command.argument).await,
            "DATA" => self.data().await,
            "BDAT" if offered("CHUNKING") => self.bdat(command.argument).await,
            "RSET" => {
                self.transaction = None;
                self.answer(FaultPoint::Rset, "250 2.0.0 Resetting").await.map(drop)
            }
            "NOOP" => self.answer(FaultPoint::Noop, "250 2.0.0 OK").await.map(drop),
            "VRFY" => self.just("252 2.1.5 Cannot VRFY user"),
            "HELP" => self.just("214 This server supports the following commands:\n214 HELO EHLO STARTTLS RCPT DATA RSET MAIL QUIT HELP AUTH BDAT"),
            "QUIT" => {
                self.answer(FaultPoint::Quit, "221 2.0.0 Service closing transmission channel").await?;
                Err(self.wire.close().await)
            }
            verb => self.just(&format!("500 5.3.3 Unrecognized command '{verb}'")),
        }
    }

    async fn hello(&mut self, command: &Command<'_>) -> Result<(), Ended> {
        if command.argument.is_empty() {
            return self.just("501 5.5.4 Invalid domain name");
        }
        self.transaction = None;
        let hello = format!("{NAME} Hello [127.0.0.1]");
        let reply = if command.verb == "HELO" { format!("250 {hello}") } else { self.ehlo_reply(hello) };
        let after_starttls = self.secured && matches!(self.settings.security, Security::StartTls(_));
        let point = if after_starttls { FaultPoint::EhloAfterTls } else { FaultPoint::Ehlo };
        self.greeted = self.answer(point, &reply).await?;
        Ok(())
    }

    fn ehlo_reply(&self, hello: String) -> String {
        let mut lines = vec![hello];
        lines.extend(self.settings.extensions.offered(self.secured).map(str::to_owned));
        let last = lines.len() - 1;
        let lines = lines.iter().enumerate();
        let lines = lines.map(|(at, line)| format!("250{}{line}\n", if at == last { ' ' } else { '-' }));
        lines.collect()
    }

    async fn start_tls(&mut self) -> Result<(), Ended> {
        let Security::StartTls(acceptor) = self.settings.security.clone() else {
            return self.just("503 5.5.2 STARTTLS already secured");
        };
        if self.secured || !self.greeted {
            return self.just("503 5.5.2 Send hello first");
        }
        if !self.answer(FaultPoint::StartTls, "220 2.0.0 SMTP server ready").await? {
            return Ok(());
        }
        self.wire.flush().await?;
        self.handshake(&acceptor).await?;
        // RFC 3207 §4.2: back to the state before EHLO.
        self.greeted = false;
        self.transaction = None;
        Ok(())
    }

    async fn handshake(&mut self, acceptor: &TlsAcceptor) -> Result<(), Ended> {
        match self.fault(FaultPoint::TlsHandshake, None) {
            None => {}
            Some(Fault::Tls11Only) => {
                self.wire.receive().await?;
                self.wire.octets(&[0x15, 0x03, 0x02, 0x00, 0x02, 0x02, 0x46]);
                self.entry.handshake(Handshake::Failed("the script knows TLS 1.1 at most".to_owned()));
                return Err(self.wire.close().await);
            }
            Some(fault) => {
                self.entry.handshake(Handshake::Failed("the script says otherwise".to_owned()));
                self.suffer(fault, "").await?;
                return Err(self.wire.close().await);
            }
        }
        match self.wire.secure(acceptor).await {
            Ok(handshake) => self.entry.handshake(handshake),
            Err(failed) => {
                self.entry.handshake(failed);
                return Err(Ended);
            }
        }
        self.secured = true;
        Ok(())
    }

    /// Gives the normal reply, or what the script has in its place; returns whether the reply was positive.
    pub(super) async fn answer(&mut self, point: FaultPoint, normal: &str) -> Result<bool, Ended> {
        match self.fault(point, None) {
            None => {
                self.wire.reply(normal);
                Ok(is_positive(normal))
            }
            Some(fault) => self.suffer(fault, normal).await,
        }
    }

    pub(super) fn fault(&self, point: FaultPoint, address: Option<&str>) -> Option<Fault> {
        self.script.take(point, address)
    }

    /// Lets a fault strike in place of the normal reply; returns whether the client was answered positively.
    pub(super) async fn suffer(&mut self, fault: Fault, normal: &str) -> Result<bool, Ended> {
        let code = normal.get(..3).unwrap_or("250").to_owned();
        match fault {
            Fault::Reply(text) => {
                self.wire.reply(&text);
                return Ok(is_positive(&text));
            }
            Fault::Garbage(octets) => {
                self.wire.octets(&octets);
                return Ok(false);
            }
            Fault::Inject(octets) => {
                self.wire.reply(normal);
                self.wire.octets(&octets);
                return Ok(is_positive(normal));
            }
            _ => {}
        }
        // Replies to the commands before this one are not part of the fault.
        self.wire.flush().await?;
        Err(match fault {
            Fault::ReplyThenClose(text) => {
                self.wire.reply(&text);
                self.wire.close().await
            }
            Fault::EndlessReply => {
                self.wire.octets(format!("{code}-").as_bytes());
                self.wire.pour(&[b'x'; 16 * 1024]).await
            }
            Fault::EndlessLines => self.wire.pour(format!("{code}-x\r\n").repeat(2048).as_bytes()).await,
            Fault::StallReading => {
                self.entry.silence();
                std::future::pending().await
            }
            Fault::Silence => {
                self.entry.silence();
                self.wire.ignore().await
            }
            _ => Ended,
        })
    }

    pub(super) fn just(&mut self, reply: &str) -> Result<(), Ended> {
        self.wire.reply(reply);
        Ok(())
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.greeted
    }

    pub(super) fn is_secured(&self) -> bool {
        self.secured
    }

    /// Returns the number of the session as Exchange prints it.
    pub(super) fn id(&self) -> String {
        format!("{:016X}", 0x08DE_2A60_28D2_6C21 + self.entry.number())
    }
}

/// Returns whether a reply says that the command was done, or asks for more.
pub(super) fn is_positive(reply: &str) -> bool {
    reply.starts_with(['2', '3'])
}
