//! An administrator in front of Chromium sets the mail server up, from wrong entries to a mail in the fake inbox.
//!
//! Needs Debian's packages `chromium` and `chromium-driver`. Without them it says that it is skipped, or fails where
//! `SMTP_OAUTH_E2E=1` is set. `UPDATE_DOCS=1` writes the screenshots in `docs/`.

mod support;

use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use settings_page::{Page, demo, router};
use smtp_oauth::testing::{Fault, FaultPoint};
use support::KEY;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use url::Url;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JavaScript {
    On,
    Off,
}

#[tokio::test]
async fn an_administrator_sets_the_mail_server_up_in_a_browser() {
    at_a_desk(JavaScript::On, async |desk| {
        desk.set_the_mail_server_up().await;
        if std::env::var_os("UPDATE_DOCS").is_some() {
            desk.open("/").await;
            desk.screenshot("light", "settings-page.png").await;
            desk.screenshot("dark", "settings-page-dark.png").await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_administrator_sets_the_mail_server_up_without_javascript() {
    at_a_desk(JavaScript::Off, async |desk| desk.set_the_mail_server_up().await).await;
}

/// Ends the browser whatever becomes of the test: a driver that is killed leaves it behind.
async fn at_a_desk(javascript: JavaScript, work: impl AsyncFnOnce(&Desk)) {
    let Some(desk) = Desk::start(javascript).await else { return };
    let worked = AssertUnwindSafe(work(&desk)).catch_unwind().await;
    desk.leave().await;
    if let Err(panic) = worked {
        resume_unwind(panic);
    }
}

/// The page on a port of this machine, and a browser of its own.
struct Desk {
    page: Arc<Page>,
    browser: Client,
    driver: Child,
    /// The browser's profile, fresh, and gone with this.
    _profile: tempfile::TempDir,
}

impl Desk {
    async fn start(javascript: JavaScript) -> Option<Self> {
        let (chromium, chromedriver) = programs()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public_url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let page = Arc::new(demo::page(public_url.parse().unwrap(), KEY.to_owned()).await.unwrap());
        tokio::spawn(axum::serve(listener, router(page.clone())).into_future());
        let profile = tempfile::tempdir().unwrap();
        let (driver, port) = start_driver(&chromedriver).await;
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1000,1000",
        ];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let allowed = if javascript == JavaScript::On { 1 } else { 2 };
        let options = json!({
            "binary": chromium,
            "args": arguments,
            "prefs": { "profile.default_content_setting_values.javascript": allowed },
        });
        let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
        let browser = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let desk = Self { page, browser, driver, _profile: profile };
        desk.browser
            .goto("data:text/html,<p id=says>off</p><script>says.textContent = 'on'</script>")
            .await
            .unwrap();
        let expected = if javascript == JavaScript::On { "on" } else { "off" };
        assert_eq!(desk.text("#says").await, expected, "JavaScript in this browser");
        Some(desk)
    }

    async fn leave(mut self) {
        self.browser.close().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    async fn set_the_mail_server_up(&self) {
        self.open(&format!("/enter?key={KEY}")).await;
        self.choose_a_method().await;
        self.find_every_mistake().await;
        self.mend_them().await;
        self.sign_in_as_somebody_else().await;
        self.sign_in().await;
        self.send_a_test_mail().await;
        self.run_the_diagnosis().await;
    }

    /// Without a script: the style sheet knows which method is chosen.
    async fn choose_a_method(&self) {
        for (method, shown, hidden) in [("basic", "#password", "#tenant"), ("oauth", "#tenant", "#password")]
        {
            self.find(&format!("#method-{method}")).await.click().await.unwrap();
            assert!(self.find(shown).await.is_displayed().await.unwrap(), "{method}: {shown}");
            assert!(!self.find(hidden).await.is_displayed().await.unwrap(), "{method}: {hidden}");
        }
    }

    async fn find_every_mistake(&self) {
        let wrong = [
            ("port", "0"),
            ("username", ""),
            ("sender", "alerts"),
            ("tenant", "not a tenant"),
            ("client_id", "my app"),
            ("client_secret", "6731de76-14a6-49ae-97bc-6eba6914391e "),
        ];
        for (field, text) in wrong {
            self.fill(field, text).await;
        }
        self.press("Save settings").await;
        self.find("#errors").await;
        assert!(self.browser.title().await.unwrap().starts_with("Error: "));
        let focused = self.browser.active_element().await.unwrap();
        assert_eq!(focused.attr("id").await.unwrap().as_deref(), Some("errors"), "the summary has the focus");
        for (field, text) in wrong {
            let input = self.find(&format!("#{field}")).await;
            assert_eq!(input.attr("aria-invalid").await.unwrap().as_deref(), Some("true"), "{field}");
            let described = input.attr("aria-describedby").await.unwrap().unwrap();
            let error = described.split_whitespace().last().unwrap();
            assert_eq!(error, format!("{field}-error"));
            let error = self.find(&format!("#{error}")).await;
            assert!(error.is_displayed().await.unwrap(), "{field}");
            let kept = input.prop("value").await.unwrap().unwrap();
            assert_eq!(kept, if field == "client_secret" { "" } else { text }, "{field}");
        }
        self.find("#errors a[href='#client_id']").await.click().await.unwrap();
        let focused = self.browser.active_element().await.unwrap();
        assert_eq!(
            focused.attr("id").await.unwrap().as_deref(),
            Some("client_id"),
            "the link leads to the field"
        );
    }

    async fn mend_them(&self) {
        let form = self.page.form().await.unwrap().unwrap();
        for (field, text) in [
            ("port", form.port.as_str()),
            ("username", &form.username),
            ("sender", &form.sender),
            ("tenant", &form.tenant),
            ("client_id", &form.client_id),
            ("client_secret", ""),
        ] {
            self.fill(field, text).await;
        }
        // By keyboard: Enter in a field saves.
        let field = self.find("#client_id").await;
        field.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
        gone(&field).await;
        assert!(self.text("#notice").await.contains("Settings saved"));
        assert!(self.text("#account").await.contains("Nobody has signed in yet"));
        let redirect = self.find("#redirect_url").await.prop("value").await.unwrap();
        assert_eq!(redirect, Some(self.page.redirect_url().to_string()));
    }

    async fn sign_in_as_somebody_else(&self) {
        self.press("Sign in with Microsoft").await;
        self.follow("someone.else@contoso.com").await;
        let told = self.text("#candidate").await;
        for account in ["someone.else@contoso.com", "svc-mail@contoso.com"] {
            assert!(told.contains(account), "{told}");
        }
        assert!(self.text("#account").await.contains("Nobody has signed in yet"));
    }

    async fn sign_in(&self) {
        self.press("Sign in with another account").await;
        self.follow("svc-mail@contoso.com").await;
        assert!(self.text("#notice").await.contains("Signed in"));
        assert!(self.text("#account").await.contains("Signed in as svc-mail@contoso.com"));
    }

    async fn send_a_test_mail(&self) {
        self.press("Send test mail").await;
        assert!(self.text("#notice").await.contains("The test mail was accepted"));
        self.follow("Fake inbox").await;
        let mail = self.text(".mail").await;
        for part in
            ["Test of the mail server settings", "admin@contoso.com", "The mail server settings work."]
        {
            assert!(mail.contains(part), "{mail}");
        }
        self.follow("Mail server").await;
    }

    async fn run_the_diagnosis(&self) {
        self.press("Run the diagnosis").await;
        assert!(self.text(".verdict").await.contains("Everything works"));
        let running = self.find(".running").await;
        assert!(!running.is_displayed().await.unwrap(), "nothing seems to go on when all is done");
        let refusal =
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.";
        let exchange = self.page.demo.as_ref().unwrap().tenant.exchange();
        exchange.inject(FaultPoint::Auth, Fault::reply(refusal).always());
        self.press("Run it again").await;
        assert!(self.text(".verdict").await.contains("Mail cannot be sent"));
        let advice = self.text(".step.failed .advice").await;
        assert!(advice.contains("To be done by an Exchange administrator"), "{advice}");
        exchange.clear_faults();
    }

    async fn open(&self, path: &str) {
        self.browser.goto(self.page.public_url.join(path).unwrap().as_str()).await.unwrap();
    }

    /// Waits for the element: a page may still be on its way.
    async fn find(&self, selector: &str) -> Element {
        let waiting = self.browser.wait().at_most(PATIENCE).for_element(Locator::Css(selector)).await;
        match waiting {
            Ok(element) => element,
            Err(error) => panic!("no {selector}: {error}: {}", self.browser.source().await.unwrap()),
        }
    }

    async fn text(&self, selector: &str) -> String {
        self.find(selector).await.text().await.unwrap()
    }

    async fn fill(&self, field: &str, text: &str) {
        let input = self.find(&format!("#{field}")).await;
        input.clear().await.unwrap();
        input.send_keys(text).await.unwrap();
    }

    async fn press(&self, button: &str) {
        self.leave_by(Locator::XPath(&format!("//button[normalize-space() = '{button}']"))).await;
    }

    async fn follow(&self, link: &str) {
        self.leave_by(Locator::LinkText(link)).await;
    }

    /// Clicks, and waits until the page is gone.
    async fn leave_by(&self, locator: Locator<'_>) {
        let element = self.browser.wait().at_most(PATIENCE).for_element(locator).await.unwrap();
        element.click().await.unwrap();
        gone(&element).await;
    }

    /// Writes the whole page, as it looks in light or dark, into the documentation.
    async fn screenshot(&self, scheme: &str, name: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await;
        let size = &metrics["cssContentSize"];
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let shot = json!({ "captureBeyondViewport": true, "clip": clip });
        let shot = self.devtools("Page.captureScreenshot", shot).await;
        let image = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        std::fs::write(docs.join(name), image).unwrap();
    }

    async fn devtools(&self, command: &'static str, parameters: Value) -> Value {
        self.browser.issue_cmd(DevTools { command, parameters }).await.unwrap()
    }
}

/// Waits until the page of this element is gone, so that nothing is read from it in place of the next one.
async fn gone(element: &Element) {
    let gone = async { while element.tag_name().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("this leads to another page");
}

/// A command of Chromium's own, beside WebDriver.
#[derive(Debug)]
struct DevTools {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "cmd": self.command, "params": self.parameters }).to_string()))
    }
}

/// Starts the driver on a port that it chooses and names.
async fn start_driver(program: &std::path::Path) -> (Child, u16) {
    let mut driver =
        Command::new(program).arg("--port=0").stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            let port = port.trim_end_matches('.').parse().unwrap();
            // What it goes on to say must go somewhere.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (driver, port);
        }
    }
    panic!("{} did not say its port", program.display());
}

/// Finds the browser and its driver; says so where they are not.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let find = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
    };
    let found = find("chromium").zip(find("chromedriver"));
    if found.is_none() {
        let missing = "no browser: install Debian's packages chromium and chromium-driver";
        assert!(std::env::var_os("SMTP_OAUTH_E2E").is_none_or(|value| value != "1"), "{missing}");
        #[allow(clippy::explicit_write, reason = "the test harness shows `eprintln!` for failed tests only")]
        writeln!(std::io::stderr(), "SKIPPED (SMTP_OAUTH_E2E=1 makes it a failure): {missing}").unwrap();
    }
    found
}
