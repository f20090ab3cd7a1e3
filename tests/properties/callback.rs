//! The address a browser comes back with: only the answer to this very sign-in is believed, and its code alone is sent.

use std::sync::Arc;

use smtp_oauth::MemoryStore;
use smtp_oauth::testing::ManualClock;
use url::{Url, form_urlencoded};

use super::answer::{Answer, wait};
use super::token_endpoint::{STATE, client, pending, steers_no_terminal};

/// Checks one callback.
pub fn check(callback: &str) {
    let clock = ManualClock::new();
    // `aud` is the app, and `nonce` that of the sign-in.
    let id_token = "e30.eyJhdWQiOiJhcHAiLCJub25jZSI6Im5vbmNlLW9mLXRoaXMtc2lnbi1pbiJ9.c2ln";
    let answer = Answer::json(&format!(
        r#"{{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","id_token":"{id_token}"}}"#
    ));
    let sign_in = client(&answer, &clock)
        .authorization_code(Url::parse("https://app.example/signed-in").unwrap())
        .scopes(["mail", "openid"]);
    let pending = pending(&clock);
    let finish = sign_in.finish(&pending, callback, Arc::new(MemoryStore::new()));
    let result = wait(&clock, finish);

    let query = callback.split('#').next().unwrap().split_once('?').map_or("", |(_, query)| query);
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let all = |name: &'static str| {
        parameters.iter().filter(move |(known, _)| known == name).map(|(_, value)| &**value)
    };
    let asked = answer.asked.lock().unwrap();
    assert!(result.is_ok() || asked.is_empty(), "a code was sent in vain: {result:?}");
    match &result {
        Err(error) => steers_no_terminal(error),
        Ok(_) => {
            assert_eq!(all("state").collect::<Vec<_>>(), [STATE]);
            assert!(all("error").all(str::is_empty));
            let [request] = &asked[..] else { panic!("{} requests", asked.len()) };
            let form: Vec<_> = form_urlencoded::parse(request.body()).collect();
            let sent: Vec<_> =
                form.iter().filter(|(name, _)| name == "code").map(|(_, code)| &**code).collect();
            assert_eq!(sent, all("code").collect::<Vec<_>>());
            let issuer =
                all("iss").find(|issuer| !issuer.is_empty()).map(|issuer| Url::parse(issuer).unwrap());
            assert!(issuer.is_none_or(|issuer| issuer.host_str() == Some("login.example")));
        }
    }
}
