//! Saving the settings: every problem at its field, nothing lost, and no secret sent back or left in the files.

mod support;

use axum::http::StatusCode;
use secrecy::ExposeSecret;
use settings_page::database::Database;
use settings_page::form::Form;
use settings_page::vault::Vault;
use smtp_oauth::TokenStore;
use smtp_oauth::testing::FakeExchange;
use support::{Site, fields};

const SECRET: &str = "8Q~entered-in-the-form";

#[tokio::test]
async fn what_is_wrong_stands_at_its_field_and_what_was_entered_is_kept() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let before = site.page.form().await.unwrap().unwrap();
    let wrong = Form {
        port: "0".to_owned(),
        sender: "alerts <b>".to_owned(),
        username: String::new(),
        client_id: "my app".to_owned(),
        client_secret_expires: "2027-02-31".to_owned(),
        ..before.clone()
    };
    let answer = browser.post("/settings", &fields(&wrong)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text.contains("<title>Error: Mail server settings") && answer.text.contains("5 problems"));
    for field in ["port", "sender", "username", "client_id", "client_secret_expires"] {
        let mark = format!(" name=\"{field}\"");
        assert_eq!(answer.attribute(&mark, "aria-invalid"), "true", "{field}");
        assert!(answer.attribute(&mark, "aria-describedby").ends_with(&format!("{field}-error")), "{field}");
        assert!(answer.text.contains(&format!("<li><a href=\"#{field}\">")), "{field}");
        assert!(answer.text.contains(&format!("id=\"{field}-error\"")), "{field}");
    }
    assert_eq!(answer.attribute(" name=\"client_id\"", "value"), "my app");
    assert_eq!(answer.attribute(" name=\"host\"", "aria-invalid"), "");
    assert!(!answer.text.contains("alerts <b>"), "what was entered is escaped");
    assert!(site.page.form().await.unwrap().unwrap() == before, "nothing was saved");
}

#[tokio::test]
async fn secrets_are_never_sent_to_the_browser_and_kept_when_the_field_is_empty() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let form = site.page.form().await.unwrap().unwrap();
    let form = Form { client_secret: SECRET.to_owned().into(), ..form };
    let password =
        Form { method: "basic".to_owned(), password: "hunter2~pw".to_owned().into(), ..form.clone() };
    let wrong = Form { port: "none".to_owned(), ..form.clone() };
    for form in [&wrong, &form, &password] {
        let answer = browser.post("/settings", &fields(form)).await;
        let shown = browser.get("/").await.text + &answer.text;
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("One is set and never shown"));
        let is_to_be_entered_again =
            answer.text.contains("Enter it again: what was typed is never sent back");
        assert_eq!(is_to_be_entered_again, answer.status == StatusCode::UNPROCESSABLE_ENTITY);
    }
    let empty = Form { client_secret: String::new().into(), password: String::new().into(), ..form.clone() };
    assert_eq!(browser.post("/settings", &fields(&empty)).await.status, StatusCode::SEE_OTHER);
    let saved = site.page.form().await.unwrap().unwrap();
    assert_eq!((saved.client_secret.as_str(), saved.password.as_str()), (SECRET, "hunter2~pw"));
}

#[tokio::test]
async fn a_saved_password_goes_to_another_server_only_when_it_is_entered_again() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let form = site.page.form().await.unwrap().unwrap();
    let basic = Form { method: "basic".to_owned(), password: "hunter2~pw".to_owned().into(), ..form };
    assert_eq!(browser.post("/settings", &fields(&basic)).await.status, StatusCode::SEE_OTHER);
    let elsewhere =
        Form { host: "mail.attacker.example".to_owned(), password: String::new().into(), ..basic.clone() };
    let answer = browser.post("/settings", &fields(&elsewhere)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.attribute(" name=\"password\"", "aria-invalid"), "true");
    assert!(site.page.form().await.unwrap().unwrap() == basic, "nothing was saved");
    let entered = Form { password: basic.password.clone(), ..elsewhere };
    assert_eq!(browser.post("/settings", &fields(&entered)).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_mail_is_sent_with_user_name_and_password_and_then_by_oauth_again() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    browser.come_back(&callback).await;
    let oauth = site.page.form().await.unwrap().unwrap();

    let server = FakeExchange::builder().password("relay", "hunter2~pw").start().await;
    let roots = site.page.demo.as_ref().unwrap().database().with_file_name("roots.pem");
    let both = site.tenant().exchange().root_pem().to_owned() + server.root_pem();
    std::fs::write(roots, both).unwrap();
    let basic = Form {
        method: "basic".to_owned(),
        port: server.port().to_string(),
        username: "relay".to_owned(),
        password: "hunter2~pw".to_owned().into(),
        ..oauth.clone()
    };
    browser.post("/settings", &fields(&basic)).await;
    browser.post("/test-mail", &[]).await;
    assert!(browser.get("/").await.text.contains("The test mail was accepted"));
    assert_eq!((server.message_count(), site.tenant().exchange().message_count()), (1, 0));

    browser.post("/settings", &fields(&oauth)).await;
    browser.post("/test-mail", &[]).await;
    assert!(browser.get("/").await.text.contains("The test mail was accepted"), "the sign-in was kept");
    assert_eq!((server.message_count(), site.tenant().exchange().message_count()), (1, 1));
}

#[tokio::test]
async fn whoever_steals_the_database_finds_no_secret_in_it() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let form = site.page.form().await.unwrap().unwrap();
    let form = Form {
        client_secret_expires: "2039-06-30".to_owned(),
        client_secret: site.tenant().entra().client_secret().unwrap().into(),
        ..form
    };
    browser.post("/settings", &fields(&form)).await;
    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    assert!(browser.come_back(&callback).await.text.contains("Signed in as <strong>svc-mail@contoso.com"));
    let tokens = site.page.tokens().load().await.unwrap().unwrap();
    let (_, access) = tokens.access_tokens().next().unwrap();
    let secrets = [
        form.client_secret.as_str(),
        tokens.refresh_token().expose_secret(),
        &access.secret().expose_secret()[..60],
        "svc-mail@contoso.com",
        "2039-06-30",
    ];
    let path = site.page.demo.as_ref().unwrap().database();
    let mut searched = 0;
    for extension in ["", "-wal"] {
        let bytes = std::fs::read(format!("{}{extension}", path.display())).unwrap();
        searched += bytes.len();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret:.12} stands in settings.db{extension}");
        }
    }
    assert!(searched > 8000, "the records were searched: {searched} octets");
}

#[cfg(unix)]
#[tokio::test]
async fn files_of_the_page_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::start().await;
    let path = site.page.demo.as_ref().unwrap().database();
    for extension in ["", "-wal", "-shm", ".key"] {
        let metadata = std::fs::metadata(format!("{}{extension}", path.display())).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "settings.db{extension}");
    }
}

#[tokio::test]
async fn another_key_does_not_open_the_database() {
    let site = Site::start().await;
    let path = site.page.demo.as_ref().unwrap().database();
    let directory = tempfile::tempdir().unwrap();
    let other = Vault::from_file(&directory.path().join("key")).unwrap();
    let error = Database::open(&path, other).await.err().unwrap().to_string();
    assert!(error.contains("the record `settings` cannot be opened: the key is not the one"), "{error}");
}

#[tokio::test]
async fn the_tokens_of_another_app_are_forgotten() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let callback = site.tenant().entra().approve(&browser.begin_sign_in().await);
    browser.come_back(&callback).await;
    let form = site.page.form().await.unwrap().unwrap();
    let same_app = Form { test_recipient: "other@contoso.com".to_owned(), ..form.clone() };
    browser.post("/settings", &fields(&same_app)).await;
    assert!(site.page.tokens().load().await.unwrap().is_some());
    let other_app = Form { client_id: "00000000-76de-49ae-97bc-6eba6914391e".to_owned(), ..form };
    browser.post("/settings", &fields(&other_app)).await;
    assert!(site.page.tokens().load().await.unwrap().is_none());
    assert!(browser.get("/").await.text.contains("Nobody has signed in yet"));
}

#[tokio::test]
async fn an_expiring_client_secret_is_announced() {
    let site = Site::start().await;
    let mut browser = site.administrator().await;
    let form = site.page.form().await.unwrap().unwrap();
    for (expires, is_announced) in [("2099-06-30", false), ("2020-06-30", true)] {
        let form = Form { client_secret_expires: expires.to_owned(), ..form.clone() };
        browser.post("/settings", &fields(&form)).await;
        let shown = browser.get("/").await.text;
        assert_eq!(
            shown.contains(&format!("The client secret expires on {expires}")),
            is_announced,
            "{expires}"
        );
    }
}
