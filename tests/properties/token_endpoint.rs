//! A token endpoint that answers random things: a token only where there is one, no secret told, no end of waiting.
//!
//! The first octet of an input chooses the grant, the rest is an [`Answer`].

use std::error::Error as _;
use std::sync::Arc;

use secrecy::ExposeSecret;
use smtp_oauth::oauth::{Client, ClientAuthentication, PendingSignIn, SignedIn};
use smtp_oauth::testing::ManualClock;
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{AccessToken, MemoryStore, TokenError, TokenProvider, TokenRequest, TokenStore};
use url::Url;

use super::answer::{Answer, wait};

pub const STATE: &str = "state-of-this-sign-in";
pub const CLIENT_SECRET: &str = "client-secret~nobody-may-read";
pub const REFRESH_TOKEN: &str = "0.AXoA-refresh-token-nobody-may-read";

/// The app that asks.
pub fn client(answer: &Arc<Answer>, clock: &ManualClock) -> Client {
    let url = |path: &str| Url::parse("https://login.example/").unwrap().join(path).unwrap();
    Client::builder(url("token"), "app")
        .authorization_endpoint(url("authorize"))
        .device_authorization_endpoint(url("device"))
        .authentication(ClientAuthentication::Post(CLIENT_SECRET.into()))
        .http_client(answer.clone())
        .clock(clock.clock())
        .build()
        .unwrap()
}

/// A sign-in in a browser that was begun at the clock's first moment.
pub fn pending(clock: &ManualClock) -> PendingSignIn {
    let pending = serde_json::json!({
        "url": "https://login.example/authorize?client_id=app",
        "state": STATE,
        "nonce": "nonce-of-this-sign-in",
        "verifier": "verifier-of-this-sign-in-with-43-characters-or-more",
        "redirect": "https://app.example/signed-in",
        "scopes": ["mail", "openid"],
        "created_at": clock.clock().now().unix_timestamp(),
    });
    serde_json::from_value(pending).unwrap()
}

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((grant, rest)) = input.split_first() else { return };
    let answer = Answer::parse(rest);
    let clock = ManualClock::new();
    let client = client(&answer, &clock);
    let store = Arc::new(MemoryStore::new());
    match grant % 4 {
        0 => {
            let seeded = StoredTokens::new(REFRESH_TOKEN, clock.clock().now());
            wait(&clock, store.seed(&seeded)).unwrap();
            let cache = client.refresh_token(store.clone(), ["mail"]);
            judge(wait(&clock, cache.token(TokenRequest::new())).as_ref(), &answer);
        }
        1 => {
            let cache = client.client_credentials(["mail"]);
            judge(wait(&clock, cache.token(TokenRequest::new())).as_ref(), &answer);
        }
        2 => {
            let sign_in = client.authorization_code(Url::parse("https://app.example/signed-in").unwrap());
            let callback = format!("/signed-in?code=the-code&state={STATE}");
            let finish = wait(&clock, sign_in.finish(&pending(&clock), callback, store.clone()));
            judge(finish.as_ref().map(SignedIn::access_token), &answer);
        }
        _ => device(&client, &clock, &answer, &store),
    }
    if let Some(stored) = wait(&clock, store.load()).unwrap() {
        let mut known = vec![REFRESH_TOKEN.to_owned()];
        known.extend(answer.text("refresh_token"));
        let stored = stored.refresh_token().expose_secret();
        assert!(known.iter().any(|known| known == stored), "a refresh token that nobody gave");
    }
}

fn device(client: &Client, clock: &ManualClock, answer: &Arc<Answer>, store: &Arc<MemoryStore>) {
    match wait(clock, client.device_code().scopes(["mail"]).start()) {
        Err(error) => tells_no_secret(&error),
        Ok(mut sign_in) => {
            assert!(answer.is_success());
            // What is shown on a terminal does not steer it.
            let shown = [sign_in.user_code(), sign_in.verification_uri(), &sign_in.message()].join("\n");
            let shown = [shown.as_str(), sign_in.verification_uri_complete().unwrap_or_default()].concat();
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            assert!(
                !sign_in.verification_uri().contains('\n') && !sign_in.user_code().contains('\n'),
                "{shown:?}"
            );
            let finish = wait(clock, sign_in.finish(store.clone()));
            judge(finish.as_ref().map(SignedIn::access_token), answer);
        }
    }
}

fn judge(result: Result<&AccessToken, &TokenError>, answer: &Answer) {
    match result {
        Ok(token) => {
            let token = token.secret().expose_secret();
            assert!(answer.is_success(), "a token out of a failure");
            assert_eq!(Some(token), answer.text("access_token").as_deref());
            assert!(!token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic()), "{token:?}");
        }
        Err(error) => tells_no_secret(error),
    }
}

/// Nothing a program prints or logs about a failure holds a secret, or steers a terminal.
fn tells_no_secret(error: &TokenError) {
    let mut shown = format!("{error}\n{error:?}\n{:?}", error.server_answer());
    let mut source = error.source();
    while let Some(cause) = source {
        shown += &format!("\n{cause}\n{cause:?}");
        source = cause.source();
    }
    for secret in [CLIENT_SECRET, REFRESH_TOKEN] {
        // What the server was not told it may have said by chance, but not this.
        assert!(!shown.contains(secret), "a secret is told: {shown}");
    }
    steers_no_terminal(error);
}

pub fn steers_no_terminal(error: &TokenError) {
    assert!(!error.to_string().chars().any(char::is_control), "control characters in {error}");
}
