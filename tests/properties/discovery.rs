//! A server that says random things of itself: no endpoint is believed that an issuer cannot vouch for.
//!
//! The first octet of an input chooses the issuer, the rest is an [`Answer`].

use smtp_oauth::oauth::{Discovery, DiscoveryError};
use smtp_oauth::testing::ManualClock;
use url::Url;

use super::answer::{Answer, wait};

const ISSUERS: [&str; 4] = [
    "https://login.example",
    "https://login.example/realms/mail",
    "http://127.0.0.1:8080/",
    "https://login.microsoftonline.com/common/v2.0",
];

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let issuer = Url::parse(ISSUERS[usize::from(*first) % ISSUERS.len()]).unwrap();
    let answer = Answer::parse(rest);
    let clock = ManualClock::new();
    let discovery = Discovery::new(issuer.clone()).http_client(answer.clone()).clock(clock.clock());
    match wait(&clock, discovery.fetch()) {
        Ok(metadata) => {
            assert!(answer.is_success());
            assert_eq!(Some(metadata.issuer()), answer.text("issuer").as_deref());
            let is_tenants = metadata.issuer() == "https://login.microsoftonline.com/{tenantid}/v2.0";
            let named = Url::parse(metadata.issuer());
            assert!(is_tenants || named.is_ok_and(|named| named == issuer), "{metadata:?}");
            let endpoints = [
                Some(metadata.token_endpoint()),
                metadata.authorization_endpoint(),
                metadata.device_authorization_endpoint(),
            ];
            for endpoint in endpoints.into_iter().flatten() {
                let host = endpoint.host_str().unwrap_or_default();
                let is_here = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
                let is_local = issuer.scheme() == "http";
                assert!(endpoint.scheme() == "https" || (is_local && is_here), "{endpoint}");
                assert!(is_local || !is_here, "{endpoint}");
                assert!(endpoint.username().is_empty() && endpoint.password().is_none(), "{endpoint}");
            }
            metadata.client("app").http_client(answer).build().unwrap();
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert!(shown.len() < 2000, "{shown}");
            assert!(!matches!(error, DiscoveryError::Timeout { .. }), "{shown}");
        }
    }
}
