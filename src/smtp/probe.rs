//! Asks the server whether it would take mail from a sender for a recipient, and sends none.

use lettre::Address;

use super::command;
use super::connection::Connection;
use super::failure::{Cause, Failure};
use super::phase::Phase;

impl Connection {
    /// Sends MAIL and RCPT, then RSET (RFC 5321 §4.1.1.5), one at a time; a refusal of either is an error.
    pub(crate) async fn probe(&mut self, from: &Address, to: Option<&Address>) -> Result<(), Failure> {
        let limit = self.endpoint.config.timeouts().envelope();
        let mut lines = vec![(Phase::Mail, format!("MAIL FROM:<{from}>"))];
        lines.extend(to.map(|to| (Phase::Rcpt, format!("RCPT TO:<{to}>"))));
        self.in_transaction = true;
        for (phase, line) in lines {
            let mut command = Vec::with_capacity(line.len() + 2);
            command::push_line(&mut command, &[&line]).map_err(|cause| Failure::new(phase, cause))?;
            let reply = self.command(phase, &command, limit).await?;
            if !reply.is_positive() {
                self.reset().await;
                return Err(Failure::new(phase, Cause::Refused(reply)));
            }
        }
        self.in_transaction = !self.reset().await;
        Ok(())
    }
}
