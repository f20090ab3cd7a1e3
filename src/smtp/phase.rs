//! Names for the stretches of an SMTP session, for errors and deadlines.

use std::fmt;

/// The stretch of a submission in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Before anything was sent: settings, message, limits, waiting for a connection.
    Preparation,
    /// Getting an access token.
    Token,
    /// Resolving the host name.
    Resolve,
    /// Opening the TCP connection.
    Connect,
    /// Waiting for the server's greeting (RFC 5321 §4.3.1).
    Greeting,
    /// Before or after TLS: EHLO and its reply (RFC 5321 §4.1.1.1).
    Ehlo,
    /// STARTTLS and its reply (RFC 3207).
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH (RFC 4954).
    Auth,
    /// MAIL and its reply.
    Mail,
    /// RCPT and its reply.
    Rcpt,
    /// DATA and its reply, before the message.
    Data,
    /// BDAT refused by a server that offers it (RFC 3030).
    Chunk,
    /// Writing the message.
    Body,
    /// Waiting for the server's verdict on the message.
    FinalReply,
    /// RSET and its reply, after a refusal or between messages that overlap.
    Reset,
    /// QUIT and its reply.
    Quit,
}

impl Phase {
    /// Returns its name in spans and metrics, such as `starttls`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparation => "preparation",
            Self::Token => "token",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Chunk => "bdat",
            Self::Body => "body",
            Self::FinalReply => "final_reply",
            Self::Reset => "rset",
            Self::Quit => "quit",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparation => "preparation",
            Self::Token => "access token",
            Self::Resolve => "name resolution",
            Self::Connect => "TCP connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Tls => "TLS handshake",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Chunk => "BDAT",
            Self::Body => "message transfer",
            Self::FinalReply => "verdict on the message",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        })
    }
}
