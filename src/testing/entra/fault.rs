//! What can go wrong at a token endpoint, for `FakeEntra` to answer with. Decides nothing about real errors.

use std::time::Duration;

/// A way in which a token endpoint fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFault {
    /// Status 429 with `Retry-After` in whole seconds.
    ThrottledWithRetryAfter(Duration),
    /// Status 500 with a JSON body that even says `invalid_grant`: an outage all the same.
    ServerError500,
    /// Status 503 with `Retry-After` in whole seconds and an HTML body.
    UnavailableWithRetryAfter(Duration),
    /// Status 200 with an HTML page, as captive portals and proxies answer.
    Html,
    /// Status 200 with a body of 2 MiB.
    Oversized,
    /// Status 302 to another host.
    Redirect,
    /// No answer at all; the connection stays open.
    Hang,
    /// A refusal with this AADSTS code, and the status and `error` that Entra uses with it.
    Aadsts(u32),
    /// A refusal with an AADSTS code under another `error`, with status 400.
    AadstsAs {
        /// The `error` field.
        error: &'static str,
        /// The number in `error_codes`.
        code: u32,
    },
    /// Status 200 with the body of a refusal for this AADSTS code.
    RefusalWithStatus200(u32),
    /// A refusal whose description repeats the request, secrets and all: the body as it was sent, form-encoded, and the
    /// `Authorization` header.
    EchoesRequest,
    /// Status 200 with JSON that breaks off in the middle of the access token.
    MalformedJson,
    /// A good answer, but for `expires_in` being a string, as old endpoints have it.
    ExpiresInString,
    /// A good answer, but for a line break in the access token.
    TokenWithLineBreak,
    /// A good answer to a sign-in, without its ID token.
    NoIdToken,
    /// A good answer to a sign-in, with the `nonce` of another in the ID token.
    OtherNonce,
    /// A good answer to a sign-in, with an ID token for another app.
    OtherAudience,
    /// A good answer that grants less than was asked for: no permission at all.
    LessScope,
    /// A good answer to a sign-in, without a refresh token.
    NoRefreshToken,
}
