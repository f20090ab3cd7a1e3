//! Requests to a resource with an access token (RFC 6750 §2.1): one GET, no retry. Gets no token.

use http::header::{ACCEPT, AUTHORIZATION};
use secrecy::ExposeSecret;
use url::Url;

use super::client::{Client, is_trustworthy};
use super::http::{HttpError, MOST_BODY_BYTES};
use super::tap::Exchange;
use crate::token::{AccessToken, ServerAnswer, TokenError, TokenErrorKind};

impl Client {
    /// Gets `url` with `token`, within the client's deadline; `what` names the resource in messages.
    pub(crate) async fn get(
        &self,
        what: &str,
        url: &Url,
        token: &AccessToken,
    ) -> Result<Vec<u8>, TokenError> {
        let bearer = format!("Bearer {}", token.secret().expose_secret());
        let request =
            http::Request::get(url.as_str()).header(ACCEPT, "application/json").header(AUTHORIZATION, bearer);
        let request = request.body(Vec::new()).ok().filter(|_| is_trustworthy(url)).ok_or_else(|| {
            TokenError::new(TokenErrorKind::Configuration, format!("the address of {what} must be https"))
        })?;
        let end = self.clock().moment().after(self.deadline());
        let response = match self.clock().until(end, self.http().execute(request)).await {
            Ok(response) => response.map_err(|error| unreachable(what, error))?,
            Err(_elapsed) => {
                let message = format!("{what} did not answer within {} seconds", self.deadline().as_secs());
                return Err(TokenError::new(TokenErrorKind::Unavailable, message));
            }
        };
        let status = response.status();
        if status.is_success() && response.body().len() <= MOST_BODY_BYTES {
            return Ok(response.into_body());
        }
        let is_busy = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        let (kind, verb) = match status.as_u16() {
            _ if is_busy => (TokenErrorKind::Unavailable, "is busy"),
            401 | 403 => (TokenErrorKind::RequestRefused, "refused the access token"),
            _ => (TokenErrorKind::InvalidResponse, "gave an unexpected answer"),
        };
        let exchange = Exchange::of(&response, self.clock());
        let answer = ServerAnswer { status: Some(status.as_u16()), ..ServerAnswer::default() };
        let error = TokenError::new(kind, format!("{what} {verb} (HTTP {})", status.as_u16()));
        let error = error.with_server_answer(answer);
        Err(match exchange.retry_after.filter(|_| is_busy) {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        })
    }
}

fn unreachable(what: &str, error: HttpError) -> TokenError {
    TokenError::new(TokenErrorKind::Unavailable, format!("{what} cannot be reached")).with_source(error)
}
