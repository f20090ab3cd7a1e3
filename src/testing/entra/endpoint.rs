//! The token endpoint of the fake: what it knows, and how it judges a request. Writes no body (see `answer`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use wiremock::{Request, Respond, ResponseTemplate};

use super::credential::{Credentials, Expected};
use super::refusal::Refusal;
use super::sign_in::{SignIns, Subject};
use super::{FakeEntraBuilder, TokenFault, answer, identity};
use crate::clock::Clock;
use crate::testing::IssuedTokens;

#[derive(Clone)]
pub(super) struct Endpoint(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) clock: Clock,
    pub(super) tokens: IssuedTokens,
    pub(super) tenant: String,
    pub(super) client_id: String,
    pub(super) credentials: Credentials,
    pub(super) account: String,
    pub(super) token_lifetime: Duration,
    pub(super) token_length: usize,
    pub(super) rotates: bool,
    pub(super) refresh_tokens: Vec<(String, RefreshTokenState)>,
    pub(super) faults: VecDeque<TokenFault>,
    pub(super) received: Vec<ReceivedGrant>,
    /// Says how many were received.
    pub(super) arrivals: watch::Sender<usize>,
    pub(super) sign_ins: SignIns,
    /// Whose refresh tokens they are, when not the account's.
    pub(super) owners: HashMap<String, String>,
    pub(super) graph_tokens: HashSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshTokenState {
    Valid,
    Expired,
    Revoked,
}

/// What a request to the token endpoint of a `FakeEntra` asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedGrant {
    /// The path, with the tenant.
    pub path: String,
    /// The parameters of the form, decoded: `grant_type`, `scope`, `refresh_token` and so on.
    pub parameters: HashMap<String, String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

impl ReceivedGrant {
    fn read(request: &Request) -> Self {
        let parameters = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let authorization = request.headers.get("authorization");
        Self {
            path: request.url.path().to_owned(),
            parameters,
            authorization: authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        }
    }

    /// Returns a parameter of the form, empty when it was not sent.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Endpoint {
    pub(super) fn new(settings: FakeEntraBuilder) -> Self {
        let FakeEntraBuilder {
            clock,
            tokens,
            tenant,
            client_id,
            client_secret,
            account,
            token_lifetime,
            token_length,
            redirects,
            device_interval,
        } = settings;
        let tokens = tokens.unwrap_or_else(|| IssuedTokens::new(clock.clone()));
        Self(Arc::new(Mutex::new(State {
            clock,
            tokens,
            tenant,
            client_id,
            credentials: Credentials::of_secret(client_secret),
            account,
            token_lifetime,
            token_length,
            rotates: true,
            refresh_tokens: Vec::new(),
            faults: VecDeque::new(),
            received: Vec::new(),
            arrivals: watch::Sender::new(0),
            sign_ins: SignIns::new(redirects, device_interval),
            owners: HashMap::new(),
            graph_tokens: HashSet::new(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Respond for Endpoint {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state();
        if request.method.as_str() == "GET" {
            match request.url.path() {
                "/v1.0/me" => return identity::me(&state, request),
                path if path.ends_with("/authorize") || path.ends_with("/adminconsent") => {
                    return state.authorize(&request.url);
                }
                _ => {}
            }
        }
        let grant = ReceivedGrant::read(request);
        state.received.push(grant.clone());
        state.arrivals.send_replace(state.received.len());
        match state.faults.pop_front() {
            Some(fault) => state.fail(&fault, request, &grant),
            None => state.answer(request, &grant),
        }
    }
}

impl State {
    pub(super) fn issue_refresh_token(&mut self) -> String {
        let token = format!("1.AXoA-fake-refresh-token-{}", self.refresh_tokens.len() + 1);
        self.refresh_tokens.push((token.clone(), RefreshTokenState::Valid));
        token
    }

    pub(super) fn newest_refresh_token(&self) -> Option<String> {
        let valid = |(_, state): &&(String, RefreshTokenState)| *state == RefreshTokenState::Valid;
        self.refresh_tokens.iter().rev().find(valid).map(|(token, _)| token.clone())
    }

    pub(super) fn end_refresh_tokens(&mut self, end: RefreshTokenState) {
        for (_, state) in &mut self.refresh_tokens {
            *state = end;
        }
    }

    fn answer(&mut self, request: &Request, grant: &ReceivedGrant) -> ResponseTemplate {
        if grant.path == format!("/{}/oauth2/v2.0/devicecode", self.tenant) {
            let answer = self.device_code(request, grant);
            return answer.unwrap_or_else(|code| self.refuse(Refusal::of(code)));
        }
        match self.judge(request, grant) {
            Ok(()) => answer::granted(&self.grant(grant)),
            Err(code) => self.refuse(Refusal::of(code)),
        }
    }

    fn fail(&mut self, fault: &TokenFault, request: &Request, grant: &ReceivedGrant) -> ResponseTemplate {
        match fault {
            TokenFault::Aadsts(code) => self.refuse(Refusal::of(*code)),
            TokenFault::AadstsAs { error, code } => {
                self.refuse(Refusal { error, status: 400, ..Refusal::of(*code) })
            }
            TokenFault::RefusalWithStatus200(code) => {
                self.refuse(Refusal { status: 200, ..Refusal::of(*code) })
            }
            TokenFault::EchoesRequest => {
                let body = String::from_utf8_lossy(&request.body);
                let authorization = grant.authorization.as_deref().unwrap_or_default();
                let text = format!("{body} Authorization: {authorization}");
                self.refuse(Refusal { text, ..Refusal::of(900_144) })
            }
            TokenFault::ExpiresInString => {
                let mut body = self.grant(grant);
                body["expires_in"] = body["expires_in"].to_string().into();
                answer::granted(&body)
            }
            TokenFault::TokenWithLineBreak => {
                let mut body = self.grant(grant);
                body["access_token"] = "EwB-fake\r\nQUIT".into();
                answer::granted(&body)
            }
            TokenFault::NoIdToken
            | TokenFault::OtherNonce
            | TokenFault::OtherAudience
            | TokenFault::LessScope
            | TokenFault::NoRefreshToken => self.spoil(fault, request, grant),
            TokenFault::MalformedJson => answer::broken_off(&self.grant(grant)),
            other => answer::of_fault(other),
        }
    }

    /// Answers as usual, but for one part of the answer.
    fn spoil(&mut self, fault: &TokenFault, request: &Request, grant: &ReceivedGrant) -> ResponseTemplate {
        if let Err(code) = self.judge(request, grant) {
            return self.refuse(Refusal::of(code));
        }
        let mut body = self.grant(grant);
        let id_token = body["id_token"].as_str().unwrap_or_default().to_owned();
        match fault {
            TokenFault::OtherNonce => {
                body["id_token"] = identity::with_claim(&id_token, "nonce", "other").into();
            }
            TokenFault::OtherAudience => {
                body["id_token"] = identity::with_claim(&id_token, "aud", "other").into();
            }
            TokenFault::LessScope => body["scope"] = "openid profile".into(),
            TokenFault::NoRefreshToken => body["refresh_token"] = serde_json::Value::Null,
            _ => body["id_token"] = serde_json::Value::Null,
        }
        answer::granted(&body)
    }

    /// Checks what Entra checks, in its order; an AADSTS code is a refusal.
    fn judge(&mut self, request: &Request, grant: &ReceivedGrant) -> Result<(), u32> {
        if request.method.as_str() != "POST" {
            return Err(900_561);
        }
        if grant.path != format!("/{}/oauth2/v2.0/token", self.tenant) {
            return Err(90_002);
        }
        self.authenticate(request, grant)?;
        match grant.parameter("grant_type") {
            "refresh_token" => self.judge_refresh_token(grant.parameter("refresh_token")),
            "authorization_code" => self.sign_ins.judge_code(grant, self.clock.now()),
            "urn:ietf:params:oauth:grant-type:device_code" => {
                self.sign_ins.judge_device(grant, self.clock.now())
            }
            "client_credentials" => return self.judge_app(grant.parameter("scope")),
            "" => Err(900_144),
            _ => Err(70_003),
        }?;
        // A scope without a resource means Graph: such a token does not open a mail server.
        let scopes = self.sign_ins.scopes(grant);
        let resources: Vec<_> = scopes
            .iter()
            .filter_map(|scope| scope.rsplit_once('/').map(|(resource, _)| resource.to_owned()))
            .collect();
        match resources.as_slice() {
            [] => Err(70_011),
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(()),
            _ => Err(28_000),
        }
    }

    pub(super) fn authenticate(&mut self, request: &Request, grant: &ReceivedGrant) -> Result<(), u32> {
        let host = request.headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
        // The token endpoint is the audience at the device endpoint too.
        let audience = format!("http://{host}/{}/oauth2/v2.0/token", self.tenant);
        let expected = Expected { client_id: &self.client_id, audience: &audience, now: self.clock.now() };
        self.credentials.judge(grant, &expected)
    }

    /// An app signs in as itself: with proof of who it is, to one tenant, for all that it was granted there.
    fn judge_app(&self, scope: &str) -> Result<(), u32> {
        if self.credentials.is_public() {
            return Err(7_000_218);
        }
        match self.tenant.as_str() {
            "common" | "consumers" => return Err(9_001_023),
            "organizations" => return Err(50_194),
            _ => {}
        }
        if scope.starts_with("https://") && scope.ends_with("/.default") && !scope.contains(' ') {
            Ok(())
        } else {
            Err(1_002_012)
        }
    }

    fn judge_refresh_token(&self, token: &str) -> Result<(), u32> {
        match self.refresh_tokens.iter().find(|(known, _)| known == token) {
            Some((_, RefreshTokenState::Valid)) => Ok(()),
            Some((_, RefreshTokenState::Expired)) => Err(700_082),
            Some((_, RefreshTokenState::Revoked)) => Err(50_173),
            None if token.is_empty() => Err(900_144),
            None => Err(70_000),
        }
    }

    fn grant(&mut self, grant: &ReceivedGrant) -> serde_json::Value {
        let subject = self.subject(grant);
        let access_token = self.tokens.issue(&subject.account, self.token_lifetime, self.token_length);
        let scopes = self.sign_ins.scopes(grant);
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        if scopes.iter().any(|scope| scope.ends_with("/User.Read")) {
            self.graph_tokens.insert(access_token.clone());
        }
        let is_first = grant.parameter("grant_type") != "refresh_token";
        let refresh_token = ((self.rotates || is_first) && scopes.contains(&"offline_access"))
            .then(|| self.issue_refresh_token());
        if let Some(token) = &refresh_token {
            self.owners.insert(token.clone(), subject.account.clone());
        }
        let mut body =
            answer::token_body(&scopes, self.token_lifetime, &access_token, refresh_token.as_deref());
        if scopes.contains(&"openid") {
            body["id_token"] = identity::id_token(self, &subject).into();
        }
        body
    }

    fn subject(&self, grant: &ReceivedGrant) -> Subject {
        self.sign_ins.subject(grant).unwrap_or_else(|| {
            let owner = self.owners.get(grant.parameter("refresh_token"));
            Subject { account: owner.unwrap_or(&self.account).clone(), nonce: None }
        })
    }

    fn refuse(&self, refusal: Refusal) -> ResponseTemplate {
        refusal.response(self.clock.now(), self.received.len())
    }
}
