//! Signing in with Microsoft: whose account it is, which browser began it, and what is kept.

mod support;

use std::future::Future;
use std::task::{Context, Poll, Waker};

use http_body_util::BodyExt;
use settings_page::form::Form;
use smtp_oauth::testing::{Fault, FaultPoint, TokenFault};
use smtp_oauth::{TokenProvider, TokenRequest, TokenStore};
use support::{Site, fields};

const WRONG: &str = "someone.else@contoso.com";

async fn account(site: &Site) -> Option<String> {
    site.page.tokens().load().await.unwrap().and_then(|tokens| tokens.account().map(str::to_owned))
}

#[tokio::test]
async fn the_wrong_account_is_named_beside_the_right_one_and_replaces_nothing() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    browser.come_back(&callback).await;
    let callback = site.tenant().entra().approve_as(&browser.begin_sign_in().await, WRONG);
    let shown = browser.come_back(&callback).await.text;
    let named =
        "someone.else@contoso.com</strong> signed in, but the username is <strong>svc-mail@contoso.com";
    assert!(shown.contains(named) && shown.contains("Sign in with another account"), "{shown}");
    assert_eq!(account(&site).await.as_deref(), Some("svc-mail@contoso.com"), "mail goes on as before");

    let form = site.page.form().await.unwrap().unwrap();
    browser.post("/settings", &fields(&form)).await;
    browser.post("/sign-in/keep", &[]).await;
    assert_eq!(
        account(&site).await.as_deref(),
        Some("svc-mail@contoso.com"),
        "settings were saved in between"
    );

    let callback = site.tenant().entra().approve_as(&browser.begin_sign_in().await, WRONG);
    browser.come_back(&callback).await;
    browser.post("/sign-in/keep", &[]).await;
    assert_eq!(account(&site).await.as_deref(), Some(WRONG), "only when the administrator says so");
    assert!(!browser.get("/").await.text.contains("Sign in with another account"));
}

#[tokio::test]
async fn another_account_can_be_chosen_without_a_hint() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    assert!(browser.begin_sign_in().await.as_str().contains("login_hint=svc-mail"));
    let answer = browser.post("/sign-in", &[("account", "other")]).await;
    let leads_to = answer.attribute("http-equiv", "content");
    assert!(leads_to.contains("prompt=select_account") && !leads_to.contains("login_hint"), "{leads_to}");
    assert!(leads_to.contains("code_challenge_method=S256"), "{leads_to}");
}

#[tokio::test]
async fn a_sign_in_ends_only_in_the_browser_that_began_it_and_only_once() {
    let site = Site::start().await;
    let (mut browser, mut other) = (site.administrator().await, site.administrator().await);
    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    let shown = other.come_back(&callback).await.text;
    assert!(shown.contains("No sign-in is under way in this browser"), "{shown}");
    other.begin_sign_in().await;
    assert!(other.come_back(&callback).await.text.contains("wrong `state`"));
    assert_eq!(account(&site).await, None);
    assert!(
        browser
            .come_back(&callback)
            .await
            .text
            .contains("Mail is sent with the account svc-mail@contoso.com")
    );
    assert!(browser.come_back(&callback).await.text.contains("No sign-in is under way"));
    assert_eq!(site.tenant().entra().requests(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_with_what_to_do() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let callback = site.tenant().entra().deny(&browser.begin_sign_in().await);
    let shown = browser.come_back(&callback).await.text;
    assert!(shown.contains("The sign-in did not succeed") && shown.contains("AADSTS65004"), "{shown}");

    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    site.tenant().entra().fail_next(1, TokenFault::Aadsts(7_000_222));
    let shown = browser.come_back(&callback).await.text;
    assert!(shown.contains("AADSTS7000222") && shown.contains("To be done by"), "{shown}");
    assert_eq!(account(&site).await, None);
}

#[tokio::test]
async fn an_administrator_consents_and_comes_back() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let consent = |answer: support::Answer| answer.attribute("id=\"consent_url\"", "value").parse().unwrap();
    let callback = site.tenant().entra().approve(&consent(browser.get("/").await));
    assert!(browser.come_back(&callback).await.text.contains("Consent was given"));
    assert!(
        browser.come_back(&callback).await.text.contains("Consent was not given"),
        "its state works once"
    );
    let callback = site.tenant().entra().deny(&consent(browser.get("/").await));
    assert!(browser.come_back(&callback).await.text.contains("AADSTS65004"));
}

#[tokio::test]
async fn the_test_mail_and_the_diagnosis_tell_what_is_missing() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    browser.post("/test-mail", &[]).await;
    assert!(browser.get("/").await.text.contains("The test mail was not sent"));
    let shown = browser.post("/diagnosis", &[]).await.text;
    assert!(shown.contains("Mail cannot be sent") && shown.contains("To be done by"), "{shown}");
    assert!(shown.trim_end().ends_with("</html>"), "the page is whole");

    let form = Form { port: "1".to_owned(), ..site.page.form().await.unwrap().unwrap() };
    browser.post("/settings", &fields(&form)).await;
    let shown = browser.post("/diagnosis", &[]).await.text;
    let (_, step) = shown.split_once("<strong>connection</strong> <span class=\"badge\">failed").unwrap();
    assert!(step.contains("To be done by whoever runs this program"), "{step}");
}

#[tokio::test]
async fn the_diagnosis_shows_its_first_steps_while_it_waits_for_the_server() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    site.tenant().exchange().inject(FaultPoint::Greeting, Fault::Silence);
    let mut body = browser.open("/diagnosis").await;
    let mut shown = String::new();
    while !shown.contains("<strong>name resolution</strong>") {
        let frame = body.frame().await.unwrap().unwrap();
        shown.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    assert!(shown.contains("Checking") && !shown.contains("class=\"verdict"), "{shown}");
}

#[tokio::test]
async fn one_refreshes_and_saves_at_a_time_and_the_next_uses_what_was_saved() {
    let site = Site::start().await;
    let store = site.page.tokens();
    store.seed(&site.tenant().entra().sign_in()).await.unwrap();
    let held = store.lock().await.unwrap();
    let other = site.page.tokens();
    let mut waiting = Box::pin(other.lock());
    assert!(matches!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    held.release().await;
    waiting.await.unwrap().release().await;

    let app = site.page.saved().await.unwrap().ok().unwrap().app.unwrap();
    let (first, second) = (app.refresh_token(store), app.refresh_token(other));
    let (first, second) = tokio::join!(first.token(TokenRequest::new()), second.token(TokenRequest::new()));
    assert!(first.unwrap().is_same(&second.unwrap()));
    assert_eq!(site.tenant().entra().requests(), 1, "the other one found the answer in the database");
}
