//! Who may use the page, and from where: nobody without the key, no form from elsewhere, no planted session.

mod support;

use axum::http::{Request, StatusCode, header};
use support::{ORIGIN, Site, fields};

const POSTED: [&str; 5] = ["/settings", "/test-mail", "/diagnosis", "/sign-in", "/sign-in/keep"];

#[tokio::test]
async fn nobody_gets_in_without_the_key() {
    let site = Site::start().await;
    let mut stranger = site.stranger();
    for target in
        ["/", "/inbox", "/oauth/callback?code=c&state=s", "/enter", "/enter?key=", "/enter?key=guess"]
    {
        let answer = stranger.get(target).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{target}");
        assert!(answer.text.contains("Open the address that the program printed"), "{target}");
    }
    for path in POSTED {
        let answer = stranger.post_from(Some(ORIGIN), path, &[("csrf", "")]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(stranger.get("/style.css").await.header("content-type"), "text/css; charset=utf-8");
}

#[tokio::test]
async fn forms_that_another_site_sends_are_refused_and_change_nothing() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let before = site.page.form().await.unwrap().unwrap();
    let mut changed = before.clone();
    changed.host = "mail.attacker.example".to_owned();
    let csrf = browser.get("/").await.attribute("name=\"csrf\"", "value");
    assert!(csrf.len() >= 43);
    let others = site.administrator().await.get("/").await.attribute("name=\"csrf\"", "value");
    for path in POSTED {
        for (origin, token) in [
            (Some("https://attacker.example"), csrf.as_str()),
            (Some("null"), &csrf),
            (None, &csrf),
            (Some(ORIGIN), ""),
            (Some(ORIGIN), "guess"),
            (Some(ORIGIN), &others),
        ] {
            let mut posted = fields(&changed);
            posted.push(("csrf", token));
            let answer = browser.post_from(origin, path, &posted).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} from {origin:?} with {token:?}");
        }
        let mut untold = fields(&changed);
        untold.retain(|(name, _)| *name != "csrf");
        assert_eq!(
            browser.post_from(Some(ORIGIN), path, &untold).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
        assert_eq!(browser.get(path).await.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert!(site.page.form().await.unwrap().unwrap() == before);
    assert_eq!(site.tenant().exchange().connections().total, 0, "nothing was sent or diagnosed");
}

#[tokio::test]
async fn a_name_of_another_site_that_leads_here_gets_nothing() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    for host in ["attacker.example", "localhost", "127.0.0.1:8025"] {
        let answer = browser.send(Request::get("/").header(header::HOST, host), String::new()).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        assert_eq!(answer.text, "this page is at http://localhost:8025/\n");
    }
}

#[tokio::test]
async fn a_session_that_somebody_planted_does_not_become_the_administrators() {
    let site = Site::start().await;
    // A session that exists: the attacker's own, with an id that the victim's browser is made to send.
    let attacker = site.administrator().await;
    let planted = attacker.cookie.clone().unwrap();
    for planted in [planted.as_str(), "settings_page=AAAAAAAAAAAAAAAAAAAAAA"] {
        let mut victim = site.stranger();
        victim.cookie = Some(planted.to_owned());
        let answer = victim.get(&format!("/enter?key={}", support::KEY)).await;
        let cookie = answer.header("set-cookie");
        assert!(!cookie.starts_with(planted), "{cookie}");
        for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert_eq!(victim.get("/").await.status, StatusCode::OK);
        let mut old = site.stranger();
        old.cookie = Some(planted.to_owned());
        assert_eq!(old.get("/").await.status, StatusCode::UNAUTHORIZED, "the old id opens nothing");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    for target in ["/", "/inbox", "/style.css", "/nothing-here", "/enter?key=guess"] {
        let answer = browser.get(target).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{target}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{target}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{target}");
        assert!(!answer.text.contains("<script") && !answer.text.contains(" style=\""), "{target}");
    }
}
