//! Reads a token endpoint's refusal (RFC 6749 §5.2, with Entra's additions) and says whose move it is. Sends nothing.

use std::fmt;
use std::time::Duration;

use oauth2::{ErrorResponse, RequestTokenError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::echo::Forms;
use super::http::HttpErrorKind;
use super::tap::{Exchange, TapError};
use crate::token::{ServerAnswer, TokenError, TokenErrorKind};

/// Overrides the kind of a refusal by what only one vendor's servers say.
pub(crate) type Classify = fn(&ServerAnswer) -> Option<TokenErrorKind>;

/// Longer descriptions are cut: nobody reads them, and logs fill up.
const MOST_DESCRIPTION_CHARS: usize = 2000;

/// The body of a refusal.
///
/// Everything but `error` may be absent or of another type without making the answer unreadable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    error: String,
    #[serde(default)]
    error_description: Value,
    #[serde(default)]
    error_codes: Value,
    #[serde(default)]
    suberror: Value,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    trace_id: Value,
    #[serde(default)]
    correlation_id: Value,
    #[serde(default)]
    claims: Value,
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl ErrorResponse for ErrorBody {}

/// What an error message may tell about the request that failed.
pub(super) struct Attempt<'a> {
    /// Such as `refresh token grant`.
    pub(super) grant: &'static str,
    pub(super) host: &'a str,
    /// Removed from whatever the server said, in case it repeats what it was sent.
    pub(super) secrets: Vec<&'a str>,
    pub(super) classify: Classify,
}

/// An attempt that failed, and whether the same request may be sent once more at once.
pub(super) struct Failure {
    pub(super) error: TokenError,
    pub(super) is_worth_repeating: bool,
}

impl Attempt<'_> {
    /// The same attempt with one more secret in its request.
    pub(super) fn hiding<'b>(&'b self, secret: Option<&'b str>) -> Attempt<'b> {
        let secrets = self.secrets.iter().copied().chain(secret).collect();
        Attempt { grant: self.grant, host: self.host, secrets, classify: self.classify }
    }

    /// Maps every way in which the `oauth2` crate can fail.
    pub(super) fn failure(
        &self,
        error: RequestTokenError<TapError, ErrorBody>,
        exchange: &Exchange,
    ) -> Failure {
        match error {
            RequestTokenError::ServerResponse(body) => self.refused(&body, exchange).into(),
            RequestTokenError::Request(error) => self.unanswered(error, exchange),
            // The rest of the error holds the body, and the parser's message quotes it.
            RequestTokenError::Parse(error, _body) => {
                let place = self.printable(&error.path().to_string());
                self.invalid(&format!("JSON that is not a token (at `{place}`)"), exchange).into()
            }
            RequestTokenError::Other(_) => self.invalid("nothing that is a token", exchange).into(),
        }
    }

    /// The answer was none that a token endpoint gives; `what` says what it was.
    pub(super) fn invalid(&self, what: &str, exchange: &Exchange) -> TokenError {
        let message = format!("token endpoint answered the {} with {what}{}", self.grant, http(exchange));
        TokenError::new(TokenErrorKind::InvalidResponse, message)
            .with_server_answer(self.answer(None, exchange))
    }

    /// The whole grant took too long.
    pub(super) fn timeout(&self, deadline: Duration) -> TokenError {
        let seconds = deadline.as_secs();
        let message = format!("token endpoint did not answer the {} within {seconds} seconds", self.grant);
        TokenError::new(TokenErrorKind::Unavailable, message)
    }

    pub(super) fn refused(&self, body: &ErrorBody, exchange: &Exchange) -> TokenError {
        let answer = self.answer(Some(body), exchange);
        let kind = (self.classify)(&answer).unwrap_or_else(|| kind(&answer));
        let reason = reason(&answer).map(|reason| format!(" ({reason})")).unwrap_or_default();
        let message = format!("token endpoint refused the {}{reason}", self.grant);
        let error = TokenError::new(kind, message).with_server_answer(answer);
        match exchange.retry_after {
            Some(wait) if kind == TokenErrorKind::Unavailable => error.with_retry_after(wait),
            _ => error,
        }
    }

    pub(super) fn unanswered(&self, error: TapError, exchange: &Exchange) -> Failure {
        let http_error = match error {
            TapError::Busy => return self.busy(exchange),
            TapError::Redirect => return self.invalid("a redirect", exchange).into(),
            TapError::NotJson => {
                let content_type = exchange.content_type.as_deref().unwrap_or_default();
                let content_type = self.printable(content_type);
                return self.invalid(&format!("`{content_type}` instead of JSON"), exchange).into();
            }
            TapError::Http(error) => error,
        };
        let unavailable =
            |message: String, error| TokenError::new(TokenErrorKind::Unavailable, message).with_source(error);
        match http_error.kind() {
            HttpErrorKind::TooLarge => self.invalid("more than 1 MiB", exchange).into(),
            HttpErrorKind::Connect => Failure {
                error: unavailable(format!("token endpoint at {} cannot be reached", self.host), http_error),
                is_worth_repeating: true,
            },
            HttpErrorKind::Timeout => {
                unavailable(format!("token endpoint did not answer the {} in time", self.grant), http_error)
                    .into()
            }
            HttpErrorKind::Transfer => unavailable(
                format!("connection to the token endpoint was lost during the {}", self.grant),
                http_error,
            )
            .into(),
        }
    }

    /// 429, 408 and 5xx: whatever the body says, nothing was decided about the grant.
    fn busy(&self, exchange: &Exchange) -> Failure {
        let answer = self.answer(exchange.body.as_ref(), exchange);
        let throttled = exchange.status == Some(http::StatusCode::TOO_MANY_REQUESTS);
        let verb = if throttled { "is throttling" } else { "failed on" };
        let message = format!("token endpoint {verb} the {}{}", self.grant, http(exchange));
        let error = TokenError::new(TokenErrorKind::Unavailable, message).with_server_answer(answer);
        match exchange.retry_after {
            Some(wait) => error.with_retry_after(wait).into(),
            None => Failure { error, is_worth_repeating: !throttled },
        }
    }

    fn answer(&self, body: Option<&ErrorBody>, exchange: &Exchange) -> ServerAnswer {
        let status = exchange.status.map(|status| status.as_u16());
        let mut answer = ServerAnswer { status, ..ServerAnswer::default() };
        let Some(body) = body else { return answer };
        let forms = Forms::of(&self.secrets);
        let echo = forms.echo();
        let redacted = |text: &str| cut(echo.removed_from(text));
        let text = |value: &Value| value.as_str().map(redacted);
        answer.error = Some(redacted(&body.error));
        answer.description = text(&body.error_description);
        answer.suberror = text(&body.suberror).filter(|text| !text.is_empty());
        answer.codes = codes(body);
        answer.correlation_id = text(&body.correlation_id);
        answer.trace_id = text(&body.trace_id);
        answer.timestamp = text(&body.timestamp);
        answer.claims = text(&body.claims);
        answer
    }

    fn printable(&self, text: &str) -> String {
        printable(&Forms::of(&self.secrets).echo().removed_from(text))
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self { error, is_worth_repeating: false }
    }
}

impl ErrorBody {
    /// Makes the body of a refusal that came by another way, such as a redirect (RFC 6749 §4.1.2.1).
    pub(super) fn new(error: String, description: Option<String>) -> Self {
        let absent = Value::Null;
        Self {
            error,
            error_description: description.map_or(Value::Null, Value::String),
            error_codes: absent.clone(),
            suberror: absent.clone(),
            timestamp: absent.clone(),
            trace_id: absent.clone(),
            correlation_id: absent.clone(),
            claims: absent,
        }
    }

    /// Returns the `error` field.
    pub(super) fn error(&self) -> &str {
        &self.error
    }
}

/// Reads a refusal that came with a redirect; `what` was refused.
pub(crate) fn of_callback(
    what: &str,
    error: String,
    description: Option<String>,
    classify: Classify,
) -> TokenError {
    let attempt = Attempt { grant: "sign-in", host: "", secrets: Vec::new(), classify };
    let answer = attempt.answer(Some(&ErrorBody::new(error, description)), &Exchange::default());
    let kind = classify(&answer).unwrap_or_else(|| kind(&answer));
    let reason = reason(&answer).map(|reason| format!(" ({reason})")).unwrap_or_default();
    TokenError::new(kind, format!("{what} was refused{reason}")).with_server_answer(answer)
}

/// Reads a refusal that somebody else's HTTP client received; `what` was refused.
#[cfg(feature = "azure")]
pub(crate) fn of_response(
    what: &str,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    classify: Classify,
) -> TokenError {
    let status = http::StatusCode::from_u16(status).ok();
    let exchange = Exchange { status, retry_after, ..Exchange::default() };
    let attempt = Attempt { grant: "", host: "", secrets: Vec::new(), classify };
    let answer = attempt.answer(serde_json::from_slice(body).ok().as_ref(), &exchange);
    // A managed identity's endpoint says 410 while it is being updated.
    let is_busy = matches!(answer.status, Some(408 | 410 | 429 | 500..));
    let kind = match is_busy {
        true => TokenErrorKind::Unavailable,
        false => classify(&answer).unwrap_or_else(|| kind(&answer)),
    };
    let reason =
        reason(&answer).map(|reason| format!(" ({reason})")).unwrap_or_else(|| self::http(&exchange));
    let error = TokenError::new(kind, format!("{what} was refused{reason}")).with_server_answer(answer);
    match retry_after {
        Some(wait) if kind == TokenErrorKind::Unavailable => error.with_retry_after(wait),
        _ => error,
    }
}

/// Maps the `error` field: the part that programs may branch on.
fn kind(answer: &ServerAnswer) -> TokenErrorKind {
    match answer.error.as_deref().unwrap_or_default() {
        "invalid_grant"
        | "interaction_required"
        | "consent_required"
        | "login_required"
        | "access_denied"
        | "authorization_declined"
        | "expired_token" => TokenErrorKind::SignInRequired,
        "invalid_client" | "unauthorized_client" => TokenErrorKind::ClientRefused,
        "temporarily_unavailable" | "server_error" | "slow_down" => TokenErrorKind::Unavailable,
        _ if answer.status == Some(401) => TokenErrorKind::ClientRefused,
        _ => TokenErrorKind::RequestRefused,
    }
}

/// Names the refusal as shortly as a search engine needs it.
fn reason(answer: &ServerAnswer) -> Option<String> {
    match answer.codes.first() {
        Some(code) => Some(format!("AADSTS{code}")),
        None => answer.error.as_deref().map(printable).filter(|error| !error.is_empty()),
    }
}

/// Entra lists its codes; some of its older endpoints only begin the description with one.
fn codes(body: &ErrorBody) -> Vec<u32> {
    let listed: Vec<u32> = body
        .error_codes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|code| u32::try_from(code.as_u64()?).ok())
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let described = body.error_description.as_str().and_then(|text| text.strip_prefix("AADSTS"));
    let digits = described.and_then(|rest| rest.split(|char: char| !char.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).into_iter().collect()
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MOST_DESCRIPTION_CHARS) {
        text.truncate(end);
    }
    text
}

fn http(exchange: &Exchange) -> String {
    exchange.status.map(|status| format!(" (HTTP {})", status.as_u16())).unwrap_or_default()
}

/// Keeps what may stand in a message: a server's words must not break a line of a log.
fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_from_the_list_or_the_description() {
        let cases = [
            (r#"{"error":"e","error_codes":[70008,1]}"#, vec![70008, 1]),
            (r#"{"error":"e","error_description":"AADSTS700082: expired"}"#, vec![700_082]),
            (r#"{"error":"e","error_codes":"odd","error_description":null}"#, vec![]),
        ];
        for (text, expected) in cases {
            assert_eq!(codes(&serde_json::from_str(text).unwrap()), expected, "{text}");
        }
    }
}
