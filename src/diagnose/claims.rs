//! Looks into an access token for a diagnosis only: Microsoft may change or encrypt its tokens at any time, so what is found
//! is a hint, and what cannot be read is no fault.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cloud::Cloud;
use crate::config::is_same_account;
use crate::token::AccessToken;

/// The claims that say why Exchange may refuse a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    aud: Option<String>,
    scp: Option<String>,
    roles: Vec<String>,
    upn: Option<String>,
}

/// Says what about the token does not fit sending mail as `username` in `cloud`.
pub(super) fn doubts(token: &AccessToken, cloud: Cloud, username: &str) -> Vec<String> {
    let of_scopes = lacks_send(token.scopes()).then(|| {
        format!("the granted scopes lack SMTP.Send, and Exchange Online will refuse the token: {ADD_SEND}")
    });
    let mut doubts: Vec<_> = of_scopes.into_iter().collect();
    let Some(claims) = read(token.secret().expose_secret()) else { return doubts };
    if let Some(audience) = claims.aud.as_deref().filter(|audience| !is_mail_resource(cloud, audience)) {
        let (send, app) = (cloud.smtp_send_scope(), cloud.app_scope());
        doubts.push(format!(
            "the token is for {audience}, not for Exchange Online: request the scope {send}, or {app} for an app"
        ));
    }
    let scopes: Vec<_> = claims.scp.as_deref().unwrap_or_default().split(' ').collect();
    let may_send = scopes.contains(&"SMTP.Send") || claims.roles.iter().any(|role| role == "SMTP.SendAsApp");
    // An app under RBAC for Applications has neither; only a token of a user must have the permission.
    if claims.scp.is_some() && !may_send && !lacks_send(token.scopes()) {
        doubts.push(format!(
            "the token's permissions ({}) do not include SMTP.Send: {ADD_SEND}",
            scopes.join(" ")
        ));
    }
    if let Some(account) = claims.upn.as_deref().filter(|upn| !is_same_account(upn, username)) {
        doubts.push(format!("the token is {account}'s, and the user name is {username}"));
    }
    doubts
}

const ADD_SEND: &str = "add it in Entra admin center > App registrations > (the app) > API permissions > Microsoft Graph > \
                        Delegated permissions > SMTP.Send, grant consent there, and sign in again";

/// Tells whether the server named what it granted, and nothing of it lets a program send.
fn lacks_send(scopes: &[String]) -> bool {
    let sends = |scope: &String| {
        let name = scope.rsplit('/').next().unwrap_or_default();
        ["SMTP.Send", "SMTP.SendAsApp", ".default"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    !scopes.is_empty() && !scopes.iter().any(sends)
}

fn read(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    serde_json::from_slice(&json).ok()
}

fn is_mail_resource(cloud: Cloud, audience: &str) -> bool {
    // The resource's application id stands for its address in some tokens.
    const EXCHANGE_ONLINE: &str = "00000002-0000-0ff1-ce00-000000000000";
    audience == EXCHANGE_ONLINE
        || [cloud.smtp_send_scope(), cloud.app_scope()].iter().any(|scope| host(scope) == host(audience))
}

fn host(url: &str) -> &str {
    url.trim_start_matches("https://").split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn token(claims: &str) -> AccessToken {
        let text = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        AccessToken::new(text, OffsetDateTime::UNIX_EPOCH + Duration::HOUR).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_said_and_what_cannot_be_read_is_no_fault() {
        let fine =
            r#"{"aud":"https://outlook.office.com","scp":"SMTP.Send User.Read","upn":"Svc@contoso.com"}"#;
        let cases: [(&str, &[&str]); 6] = [
            (fine, &[]),
            (r#"{"aud":"https://outlook.office365.com/","roles":["SMTP.SendAsApp"]}"#, &[]),
            (r#"{"aud":"https://outlook.office365.com"}"#, &[]),
            (
                r#"{"aud":"https://graph.microsoft.com","scp":"SMTP.Send"}"#,
                &["is for https://graph.microsoft.com"],
            ),
            (
                r#"{"aud":"https://outlook.office.com","scp":"Mail.Read"}"#,
                &["(Mail.Read) do not include SMTP.Send"],
            ),
            (
                r#"{"upn":"admin@contoso.com"}"#,
                &["is admin@contoso.com's, and the user name is svc@contoso.com"],
            ),
        ];
        for (claims, expected) in cases {
            let doubts = doubts(&token(claims), Cloud::Public, "svc@contoso.com");
            assert_eq!(doubts.len(), expected.len(), "{claims}: {doubts:?}");
            for (doubt, expected) in doubts.iter().zip(expected) {
                assert!(doubt.contains(expected), "{doubt}");
            }
        }
        let scoped = |scope: &str| {
            let token = AccessToken::new("EwBAAl3BAAUF", OffsetDateTime::UNIX_EPOCH).unwrap();
            doubts(&token.with_scopes([scope]), Cloud::Public, "svc@contoso.com")
        };
        assert!(scoped("https://outlook.office.com/SMTP.Send").is_empty());
        assert!(scoped("https://outlook.office365.com/.default").is_empty());
        assert!(scoped("https://outlook.office.com/IMAP.AccessAsUser.All")[0].contains("API permissions"));
        let opaque = AccessToken::new("EwBAAl3BAAUF", OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(doubts(&opaque, Cloud::Public, "svc@contoso.com").is_empty());
    }

    #[test]
    fn each_cloud_has_a_mail_server_of_its_own() {
        for cloud in Cloud::ALL {
            for scope in [cloud.smtp_send_scope(), cloud.app_scope()] {
                let own = token(&format!(r#"{{"aud":"https://{}"}}"#, host(scope)));
                assert_eq!(doubts(&own, cloud, "svc@contoso.com"), [""; 0], "{cloud}");
            }
        }
        let worldwide = token(r#"{"aud":"https://outlook.office.com"}"#);
        let doubts = doubts(&worldwide, Cloud::China, "svc@contoso.com");
        assert!(doubts[0].contains("request the scope https://partner.outlook.cn/SMTP.Send"), "{doubts:?}");
    }
}
