//! The pages of the fake where people sign in, consent, and enter device codes. Issues no token (see `endpoint`).

use std::collections::HashMap;
use std::time::Duration;

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use serde_json::json;
use time::OffsetDateTime;
use url::Url;
use wiremock::{Request, ResponseTemplate};

use super::answer::with_json;
use super::endpoint::{ReceivedGrant, State};
use super::page;
use super::refusal::Refusal;

pub(super) const TENANT_ID: &str = "6c8e1b5a-0000-4000-8000-00000000000f";
/// As Entra's live: about ten minutes.
const CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);
const DEVICE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The sign-ins under way.
pub(super) struct SignIns {
    pub(super) redirects: Vec<String>,
    /// The accounts that the sign-in page offers beside the one that is meant.
    pub(super) others: Vec<String>,
    pub(super) device_interval: Duration,
    pub(super) slow_downs: usize,
    codes: Vec<Code>,
    devices: Vec<Device>,
}

struct Code {
    code: String,
    redirect: String,
    challenge: String,
    nonce: Option<String>,
    account: String,
    expires_at: OffsetDateTime,
    is_used: bool,
}

struct Device {
    device_code: String,
    user_code: String,
    scope: String,
    decision: Decision,
    expires_at: OffsetDateTime,
    asked_at: Option<OffsetDateTime>,
}

#[derive(Clone, PartialEq, Eq)]
enum Decision {
    Pending,
    Approved(String),
    Declined,
    Redeemed(String),
}

/// Whom an access token is issued for.
pub(super) struct Subject {
    pub(super) account: String,
    pub(super) nonce: Option<String>,
}

impl SignIns {
    pub(super) fn new(redirects: Vec<String>, device_interval: Duration) -> Self {
        Self {
            redirects,
            others: Vec::new(),
            device_interval,
            slow_downs: 0,
            codes: Vec::new(),
            devices: Vec::new(),
        }
    }

    pub(super) fn codes(&self) -> Vec<String> {
        let codes = self.codes.iter().map(|code| code.code.clone());
        codes.chain(self.devices.iter().map(|device| device.device_code.clone())).collect()
    }

    /// Finds out whom a grant is for; `None` for grants of other kinds.
    pub(super) fn subject(&self, grant: &ReceivedGrant) -> Option<Subject> {
        if let Some(code) = self.codes.iter().find(|code| code.code == grant.parameter("code")) {
            return Some(Subject { account: code.account.clone(), nonce: code.nonce.clone() });
        }
        match &self.device(grant)?.decision {
            Decision::Approved(account) | Decision::Redeemed(account) => {
                Some(Subject { account: account.clone(), nonce: None })
            }
            Decision::Pending | Decision::Declined => None,
        }
    }

    /// Returns the scopes asked for: a device code was given for some, other grants name theirs.
    pub(super) fn scopes(&self, grant: &ReceivedGrant) -> Vec<String> {
        let scope = self.device(grant).map_or(grant.parameter("scope"), |device| device.scope.as_str());
        scope.split_whitespace().map(str::to_owned).collect()
    }

    fn device(&self, grant: &ReceivedGrant) -> Option<&Device> {
        self.devices.iter().find(|device| device.device_code == grant.parameter("device_code"))
    }

    pub(super) fn judge_code(&mut self, grant: &ReceivedGrant, now: OffsetDateTime) -> Result<(), u32> {
        let code =
            self.codes.iter_mut().find(|code| code.code == grant.parameter("code")).ok_or(70_000_u32)?;
        let verifier = PkceCodeVerifier::new(grant.parameter("code_verifier").to_owned());
        if code.is_used {
            return Err(54_005);
        }
        if code.expires_at <= now {
            return Err(70_008);
        }
        if code.redirect != grant.parameter("redirect_uri") {
            return Err(50_011);
        }
        if PkceCodeChallenge::from_code_verifier_sha256(&verifier).as_str() != code.challenge {
            return Err(501_481);
        }
        code.is_used = true;
        Ok(())
    }

    pub(super) fn judge_device(&mut self, grant: &ReceivedGrant, now: OffsetDateTime) -> Result<(), u32> {
        let interval = self.device_interval;
        let device =
            self.devices.iter_mut().find(|device| device.device_code == grant.parameter("device_code"));
        let device = device.ok_or(70_018_u32)?;
        let is_early = device.asked_at.replace(now).is_some_and(|before| now - before < interval);
        if self.slow_downs > 0 || is_early {
            self.slow_downs = self.slow_downs.saturating_sub(1);
            return Err(SLOW_DOWN);
        }
        match device.decision.clone() {
            _ if device.expires_at <= now => Err(70_020),
            Decision::Pending => Err(70_016),
            Decision::Declined => Err(65_004),
            Decision::Redeemed(_) => Err(54_005),
            Decision::Approved(account) => {
                device.decision = Decision::Redeemed(account);
                Ok(())
            }
        }
    }
}

/// No code of Entra's: the number that the fake's refusals file `slow_down` under.
pub(super) const SLOW_DOWN: u32 = 70_015;

impl State {
    /// Shows the sign-in page, or leads back from it when an account was chosen there.
    pub(super) fn authorize(&mut self, url: &Url) -> ResponseTemplate {
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        if query.contains_key("fake_decline") {
            return lead_back(self.decline(url, "access_denied", 65_004));
        }
        if let Some(account) = query.get("fake_account") {
            let account = account.clone();
            return lead_back(self.approve(url, &account));
        }
        match self.judge_page(url) {
            Ok(query) => {
                let page = if is_consent_page(url) {
                    page::consent(url, &self.client_id, &self.account, get(&query, "scope"))
                } else {
                    let accounts: Vec<_> =
                        std::iter::once(&self.account).chain(&self.sign_ins.others).cloned().collect();
                    page::sign_in(url, &self.client_id, &accounts)
                };
                ResponseTemplate::new(200).set_body_raw(page, "text/html; charset=utf-8")
            }
            Err(code) => trouble(code),
        }
    }

    /// Returns where the browser goes after `account` signed in or an administrator consented.
    pub(super) fn approve(&mut self, url: &Url, account: &str) -> Result<Url, u32> {
        let query = self.judge_page(url)?;
        let mut callback = callback(&query)?;
        if is_consent_page(url) {
            callback
                .query_pairs_mut()
                .append_pair("admin_consent", "True")
                .append_pair("tenant", TENANT_ID)
                .append_pair("scope", get(&query, "scope"))
                .append_pair("state", get(&query, "state"));
            return Ok(callback);
        }
        let code = format!("0.AXoA-fake-authorization-code-{}", self.sign_ins.codes.len() + 1);
        callback.query_pairs_mut().append_pair("code", &code).append_pair("state", get(&query, "state"));
        self.sign_ins.codes.push(Code {
            code,
            redirect: get(&query, "redirect_uri").to_owned(),
            challenge: get(&query, "code_challenge").to_owned(),
            nonce: query.get("nonce").cloned(),
            account: account.to_owned(),
            expires_at: self.clock.now() + CODE_LIFETIME,
            is_used: false,
        });
        Ok(callback)
    }

    /// Returns where the browser goes after a refusal.
    pub(super) fn decline(&mut self, url: &Url, error: &str, code: u32) -> Result<Url, u32> {
        let query = self.judge_page(url)?;
        let mut callback = callback(&query)?;
        let Refusal { text, .. } = Refusal::of(code);
        callback
            .query_pairs_mut()
            .append_pair("error", error)
            .append_pair("error_description", &format!("AADSTS{code}: {text}"))
            .append_pair("state", get(&query, "state"));
        if is_consent_page(url) {
            callback.query_pairs_mut().append_pair("admin_consent", "True");
        }
        Ok(callback)
    }

    /// Gives out a device code.
    pub(super) fn device_code(
        &mut self,
        request: &Request,
        grant: &ReceivedGrant,
    ) -> Result<ResponseTemplate, u32> {
        self.authenticate(request, grant)?;
        if grant.parameter("scope").is_empty() {
            return Err(70_011);
        }
        let number = self.sign_ins.devices.len() + 1;
        let device = Device {
            device_code: format!("FAKE-device-code-{number}"),
            user_code: format!("FAKE{number:05}"),
            scope: grant.parameter("scope").to_owned(),
            decision: Decision::Pending,
            expires_at: self.clock.now() + DEVICE_LIFETIME,
            asked_at: None,
        };
        let page = "https://microsoft.com/devicelogin";
        let message = format!(
            "To sign in, use a web browser to open the page {page} and enter the code {} to authenticate.",
            device.user_code
        );
        let body = json!({
            "device_code": device.device_code,
            "user_code": device.user_code,
            "verification_uri": page,
            "expires_in": DEVICE_LIFETIME.as_secs(),
            "interval": self.sign_ins.device_interval.as_secs(),
            "message": message,
        });
        self.sign_ins.devices.push(device);
        Ok(with_json(200, &body))
    }

    /// Enters a code on the device page; `None` declines. Tells whether the code is known and still works.
    pub(super) fn decide_device(&mut self, user_code: &str, account: Option<&str>) -> bool {
        let now = self.clock.now();
        let is_it = |device: &&mut Device| device.user_code == user_code && device.expires_at > now;
        let Some(device) = self.sign_ins.devices.iter_mut().find(is_it) else { return false };
        device.decision = account.map_or(Decision::Declined, |name| Decision::Approved(name.to_owned()));
        true
    }

    pub(super) fn expire_devices(&mut self) {
        let now = self.clock.now();
        self.sign_ins.devices.iter_mut().for_each(|device| device.expires_at = now);
    }

    /// Checks what Entra's pages check before they lead anybody anywhere.
    fn judge_page(&self, url: &Url) -> Result<HashMap<String, String>, u32> {
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let tenant = url.path_segments().and_then(|mut segments| segments.next()).unwrap_or_default();
        if tenant != self.tenant {
            return Err(90_002);
        }
        if get(&query, "client_id") != self.client_id {
            return Err(700_016);
        }
        let redirect = get(&query, "redirect_uri");
        if !self.sign_ins.redirects.iter().any(|known| is_registered(known, redirect)) {
            return Err(50_011);
        }
        if get(&query, "scope").is_empty() {
            return Err(70_011);
        }
        if !is_consent_page(url) {
            if get(&query, "response_type") != "code" {
                return Err(70_005);
            }
            // Entra takes a request without PKCE; the fake does not, because nobody should send one.
            if get(&query, "code_challenge").len() != 43 || get(&query, "code_challenge_method") != "S256" {
                return Err(50_147);
            }
        }
        Ok(query)
    }
}

fn lead_back(callback: Result<Url, u32>) -> ResponseTemplate {
    match callback {
        Ok(callback) => ResponseTemplate::new(302).insert_header("location", callback.as_str()),
        Err(code) => trouble(code),
    }
}

/// Shows an error where Entra leads nobody back: it does not know whose redirect URL that is.
fn trouble(code: u32) -> ResponseTemplate {
    let Refusal { status, text, .. } = Refusal::of(code);
    ResponseTemplate::new(status).set_body_raw(page::trouble(code, &text), "text/html; charset=utf-8")
}

fn callback(query: &HashMap<String, String>) -> Result<Url, u32> {
    Url::parse(get(query, "redirect_uri")).map_err(|_| 50_011)
}

fn is_consent_page(url: &Url) -> bool {
    url.path().ends_with("/adminconsent")
}

fn get<'a>(query: &'a HashMap<String, String>, name: &str) -> &'a str {
    query.get(name).map(String::as_str).unwrap_or_default()
}

/// To the letter, but for the port of `localhost`.
fn is_registered(known: &str, given: &str) -> bool {
    without_port(known) == without_port(given)
}

fn without_port(redirect: &str) -> String {
    match redirect.strip_prefix("http://localhost:") {
        Some(rest) => {
            format!("http://localhost{}", rest.trim_start_matches(|char: char| char.is_ascii_digit()))
        }
        None => redirect.to_owned(),
    }
}
