//! The AUTH command (RFC 4954): one mechanism, one try, the server's reasons kept.

use std::collections::HashSet;

use zeroize::Zeroizing;

use super::connection::{Connection, Endpoint};
use super::failure::{Cause, Failure, ReplyFault};
use super::phase::Phase;
use super::reply::{self, Reply};
use super::sasl::{self, Credentials, Line, Mechanism};
use crate::config::InitialResponse;
use crate::observe::{self, Stopwatch};

/// RFC 4954 §4: an AUTH line, with its CRLF, that is longer must send the response on a line of its own.
const LONGEST_AUTH_LINE: usize = 512;

/// Shorter runs of a reply are never taken for an echo of a part of a secret.
const SHORTEST_ECHO: usize = 8;

impl Connection {
    /// Signs in.
    ///
    /// # Errors
    /// [`Cause::AuthRefused`] when the server says no; the connection is then good for nothing.
    pub(crate) async fn authenticate(
        &mut self,
        username: &str,
        credentials: Credentials<'_>,
    ) -> Result<(), Failure> {
        let Some(mechanism) = Mechanism::choose(credentials, &self.capabilities) else {
            let wanted = Mechanism::fitting(credentials);
            let offered = self.capabilities.mechanisms.clone();
            return Err(Failure::new(Phase::Auth, Cause::MechanismMissing { wanted, offered }));
        };
        let responses = sasl::responses(mechanism, username, credentials);
        let stopwatch = Stopwatch::start(&self.endpoint.clock);
        let span = observe::connection::auth(mechanism.name(), username);
        match span.note(span.run(self.exchange(mechanism, &responses)).await, Failure::name) {
            Ok(()) => {
                let Endpoint { clock, server, .. } = &self.endpoint;
                observe::connection::measured(server, Phase::Auth.name(), clock, stopwatch);
                self.secrets = responses;
                self.secrets.push(credentials.secret());
                Ok(())
            }
            Err(failure) => Err(without_echo(failure, username, credentials, &responses)),
        }
    }

    async fn exchange(&mut self, mechanism: Mechanism, responses: &[Line]) -> Result<(), Failure> {
        let mut responses = responses.iter();
        let initial = match mechanism {
            // The mechanism asks for the user name first (draft-murchison-sasl-login §2.1).
            Mechanism::Login => None,
            _ => responses.next(),
        };
        let mut pending = initial.filter(|response| !self.fits_on_auth_line(mechanism, response));
        let first = match (initial, pending) {
            (Some(response), None) => auth_line(mechanism, Some(response)),
            _ => auth_line(mechanism, None),
        };
        let mut reply = self.auth_step(&first).await?;
        while reply.code() == 334 {
            let Some(response) = pending.take().or_else(|| responses.next()) else {
                return self.error_challenge(mechanism, &reply).await;
            };
            let mut line = Zeroizing::new(Vec::with_capacity(response.len() + 2));
            line.extend_from_slice(response);
            line.extend_from_slice(b"\r\n");
            reply = self.auth_step(&line).await?;
        }
        judge(reply, None)
    }

    /// Everything was said and the server asks on: the challenge says why the token is refused.
    async fn error_challenge(&mut self, mechanism: Mechanism, challenge: &Reply) -> Result<(), Failure> {
        let challenge = sasl::decode_challenge(&challenge.text());
        let reply = self.auth_step(sasl::error_challenge_answer(mechanism)).await?;
        match reply.code() {
            334 => Err(Failure::new(Phase::Auth, Cause::Protocol(ReplyFault::Unexpected(334)))),
            _ => judge(reply, challenge),
        }
    }

    async fn auth_step(&mut self, line: &[u8]) -> Result<Reply, Failure> {
        let limit = self.endpoint.config.timeouts().auth();
        self.command(Phase::Auth, line, limit).await
    }

    fn fits_on_auth_line(&self, mechanism: Mechanism, response: &Line) -> bool {
        let length = "AUTH  \r\n".len() + mechanism.name().len() + response.len();
        length <= LONGEST_AUTH_LINE || self.endpoint.config.initial_response() == InitialResponse::Always
    }
}

fn auth_line(mechanism: Mechanism, response: Option<&Line>) -> Line {
    let response = response.map(|line| line.as_slice());
    let length = "AUTH  \r\n".len() + mechanism.name().len() + response.map_or(0, <[u8]>::len);
    let mut line = Zeroizing::new(Vec::with_capacity(length));
    line.extend_from_slice(b"AUTH ");
    line.extend_from_slice(mechanism.name().as_bytes());
    if let Some(response) = response {
        line.push(b' ');
        line.extend_from_slice(response);
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn judge(reply: Reply, challenge: Option<String>) -> Result<(), Failure> {
    let cause = match reply.code() {
        235 => return Ok(()),
        400..600 => Cause::AuthRefused { reply, challenge },
        code => Cause::Protocol(ReplyFault::Unexpected(code)),
    };
    Err(Failure::new(Phase::Auth, cause))
}

/// Removes what a server may have echoed of the credentials, whole or in part (`Unrecognized command 'dXNlcj1…'`).
fn without_echo(
    mut failure: Failure,
    username: &str,
    credentials: Credentials<'_>,
    responses: &[Line],
) -> Failure {
    let secret = credentials.secret();
    let secret = std::str::from_utf8(&secret).unwrap_or_default();
    let Cause::AuthRefused { reply, challenge } = &mut failure.cause else { return failure };
    let lines = responses.iter().map(|line| line.as_slice());
    // Any run counts, since a server may cut the echo anywhere and glue it to words of its own. Looked up in a set, so
    // that a reply made to be searched slowly is not.
    let runs: HashSet<&[u8]> =
        lines.chain([secret.as_bytes()]).flat_map(|text| text.windows(SHORTEST_ECHO)).collect();
    let is_secret = |word: &[u8]| {
        word != username.as_bytes() && word.windows(SHORTEST_ECHO).any(|run| runs.contains(run))
    };
    reply.redact(secret, is_secret);
    if let Some(challenge) = challenge {
        reply::redact(challenge, secret, &is_secret);
    }
    failure
}
