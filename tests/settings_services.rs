//! Settings of mail services other than Exchange Online: their profiles, their authorization servers, and a message sent by them.

mod support;

use std::sync::{Arc, Mutex};

use serde_json::json;
use smtp_oauth::oauth::Client;
use smtp_oauth::testing::{Extensions, FakeExchange, IssuedTokens};
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{
    AuthenticationSettings, Clock, MailProvider, Mailer, MemoryStore, ResolvedSettings, Settings, Tls,
    TokenProvider, TokenRequest, TokenStoreSettings,
};
use time::macros::datetime;
use url::Url;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use support::{ACCOUNT, HOUR};

const SECRET: &str = "6c8e1b5a-0000-4000-8000-geheim~";

fn text(server: &str, authentication: &str) -> String {
    format!("[server]\nusername = '{ACCOUNT}'\n{server}\n[authentication]\n{authentication}\n")
}

fn settings(server: &str, authentication: &str) -> Settings {
    toml::from_str(&text(server, authentication)).unwrap()
}

fn resolve(server: &str, authentication: &str) -> ResolvedSettings {
    settings(server, authentication).resolve().unwrap()
}

#[track_caller]
fn assert_reads(server: &str, authentication: &str, expected: &[&str]) {
    let error = settings(server, authentication).resolve().unwrap_err().to_string();
    assert!(!error.contains("geheim"), "{error}");
    assert_eq!(
        error.lines().skip(1).map(str::trim).collect::<Vec<_>>(),
        expected,
        "{server} {authentication}"
    );
}

fn client(resolved: &ResolvedSettings) -> Client {
    assert!(resolved.app().unwrap().is_none());
    resolved.client().unwrap().build().unwrap()
}

#[test]
fn google_yahoo_and_aol_are_known_by_their_profile() {
    for (profile, provider, host, token_endpoint, scope) in [
        (
            "gmail",
            MailProvider::Gmail,
            "smtp.gmail.com",
            "https://oauth2.googleapis.com/token",
            "https://mail.google.com/",
        ),
        (
            "yahoo",
            MailProvider::Yahoo,
            "smtp.mail.yahoo.com",
            "https://api.login.yahoo.com/oauth2/get_token",
            "mail-w",
        ),
        ("aol", MailProvider::Aol, "smtp.aol.com", "https://api.login.aol.com/oauth2/get_token", "mail-w"),
    ] {
        let app = format!(
            "client_id = '1234.apps.example'\nclient_secret = '{SECRET}'\nclient_secret_expires = 2028-06-30"
        );
        let resolved = resolve(&format!("profile = '{profile}'"), &app);
        let server = &resolved.server;
        assert_eq!((server.provider(), server.host(), server.port()), (provider, host, 465));
        assert_eq!(server.tls(), Tls::Implicit);
        let client = client(&resolved);
        assert_eq!(
            (client.token_endpoint().as_str(), client.client_id()),
            (token_endpoint, "1234.apps.example")
        );
        assert_eq!(client.credential_expiry(), Some(datetime!(2028-06-30 0:00 UTC)));
        assert!(client.authorization_endpoint().is_some());
        let shown = format!("{resolved:?} {client:?}");
        assert!(shown.contains("Post([redacted])") && !shown.contains("geheim"), "{shown}");
        match resolved.authentication {
            AuthenticationSettings::OtherOAuth {
                scopes,
                token_store: TokenStoreSettings::File(file),
                ..
            } => {
                assert_eq!((scopes, file.to_str()), (vec![scope.to_owned()], Some("token.json")));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_services_of_microsoft_keep_to_entra_id() {
    let app = "client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'";
    let resolved = resolve("profile = 'outlook.com'", app);
    assert_eq!(resolved.server.host(), "smtp-mail.outlook.com");
    assert!(resolved.client().is_none());
    let entra = resolved.app().unwrap().unwrap().build().unwrap();
    assert_eq!(
        entra.token_endpoint().as_str(),
        "https://login.microsoftonline.com/consumers/oauth2/v2.0/token"
    );
    let resolved = resolve("profile = 'outlook.com'", &format!("{app}\ntenant = 'common'"));
    assert_eq!(resolved.app().unwrap().unwrap().build().unwrap().tenant().as_str(), "common");
    let resolved = resolve("profile = 'high-volume-email'", &format!("{app}\ntenant = 'contoso.com'"));
    assert_eq!(resolved.server.refresh_margin().as_secs(), 20 * 60);
    assert!(resolved.app().unwrap().is_some());
    let basic = format!("method = 'basic'\npassword = '{SECRET}'");
    let resolved = resolve("profile = 'azure-communication-services'", &basic);
    assert!(resolved.app().unwrap().is_none() && resolved.client().is_none());
    assert_reads(
        "profile = 'high-volume-email'",
        app,
        &["authentication.tenant: enter the tenant's id (a GUID) or domain, such as contoso.onmicrosoft.com"],
    );
    assert_reads(
        "profile = 'outlook.com'",
        &format!("{app}\ngrant = 'client_credentials'\nclient_secret = '{SECRET}'"),
        &[
            "authentication.grant (given \"client_credentials\"): enter \"refresh_token\": no app opens a personal account as itself",
        ],
    );
}

#[test]
fn a_method_that_the_service_ended_is_reported_with_all_other_problems() {
    assert_reads(
        "profile = 'outlook.com'\nport = 465\nhost = 'smtp.gmail.com'",
        &format!("method = 'basic'\npassword = '{SECRET}'\npasword = 1"),
        &[
            "server.port (given \"465\"): enter 587, or set tls to implicit: on 465 TLS comes first (RFC 8314)",
            "server.host (given \"smtp.gmail.com\"): enter smtp-mail.outlook.com: that is no host of Outlook.com",
            "authentication.method (given \"basic\"): use oauth: Outlook.com takes no passwords since 2024-09-16",
            "authentication.pasword: remove this unknown key, or did you mean password?",
        ],
    );
    let acs = "authentication.method: use basic: Azure Communication Services signs in with an SMTP user name, and \
               with the app's client secret as the password";
    assert_reads("profile = 'azure-communication-services'", "client_id = 'x'", &[acs]);
    // Whoever enters the host alone is told the same.
    assert_reads(
        "profile = 'custom'\nhost = 'smtp-mail.outlook.com'",
        &format!("method = 'basic'\npassword = '{SECRET}'"),
        &[
            "authentication.method (given \"basic\"): use oauth: Outlook.com takes no passwords since 2024-09-16",
        ],
    );
}

#[test]
fn what_a_service_would_refuse_is_reported_under_its_key() {
    assert_reads(
        "profile = 'gmail'\nport = 2525\ncloud = 'public'\nmax_connections = 0",
        "client_id = ''\nclient_secret_expires = 2028-06-30",
        &[
            "server.max_connections (given \"0\"): enter a number from 1 to 4294967295",
            "server.cloud: remove it, or set profile to \"office365\": other servers belong to no cloud of Microsoft's",
            "server.port (given \"2525\"): enter 465: Gmail takes no other port with tls implicit",
            "authentication.client_id: enter the client id that the authorization server gave the app",
            "authentication.client_secret_expires: remove it, or enter client_secret: there is no secret that could expire",
        ],
    );
}

#[test]
fn keys_of_one_kind_of_app_are_refused_for_the_other() {
    let custom = "profile = 'custom'\nhost = 'mail.contoso.com'";
    let given = "client_id = 'mailer'\ntoken_endpoint = 'https://id.contoso.com/token'\nscope = 'openid'\n";
    let entra = "client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'\ntenant = 'contoso.com'\n";
    let elsewhere = "remove it: it is for apps at Entra ID, and this one is registered elsewhere";
    let known = "remove it, or set profile to \"custom\" and enter token_endpoint in place of tenant: that of Entra ID is known";
    for (server, app, key, reason) in [
        (custom, given, "tenant = 'contoso.com'", elsewhere),
        (custom, given, "grant = 'client_credentials'", elsewhere),
        (custom, given, "federated_token_file = 'token'", elsewhere),
        ("profile = 'aol'", "client_id = 'mailer'\n", "authority = 'https://x'", elsewhere),
        (
            "profile = 'yahoo'",
            "client_id = 'mailer'\n",
            "scope = 'mail-r'",
            "remove it: what Yahoo Mail has there is known",
        ),
        ("", entra, "token_endpoint = 'https://id.contoso.com/token'", known),
        ("", entra, "token_endpoint_auth_method = 'client_secret_post'", known),
        (custom, entra, "scope = 'openid'", known),
    ] {
        let name = key.split(' ').next().unwrap();
        assert_reads(server, &format!("{app}{key}"), &[&format!("authentication.{name}: {reason}")]);
    }
    let basic = format!("method = 'basic'\npassword = '{SECRET}'\nscope = 'openid'");
    assert_reads(
        custom,
        &basic,
        &["authentication.scope: remove it, or set method to \"oauth\": Basic has only a password"],
    );
    assert_reads(
        custom,
        "client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'",
        &[
            "authentication.tenant: enter the tenant's id (a GUID) or domain for an app at Entra ID, or token_endpoint for one elsewhere",
        ],
    );
}

#[test]
fn endpoints_and_scopes_must_be_fit_to_be_used() {
    let custom = "profile = 'custom'\nhost = 'mail.contoso.com'";
    let app = |keys: &str| format!("client_id = 'mailer'\n{keys}");
    let (endpoint, scope) = ("token_endpoint = 'https://id.contoso.com/token'\n", "scope = 'openid'\n");
    let no_scope = "enter the scope that the mail server wants in a token; several are parted by blanks";
    for (keys, line) in [
        (format!("{endpoint}scope = ' '"), format!("scope (given \" \"): {no_scope}")),
        (format!("{endpoint}scope = 'a\"b'"), format!("scope (given \"a\\\"b\"): {no_scope}")),
        (endpoint.to_owned(), format!("scope: {no_scope}")),
        (
            format!("{scope}token_endpoint = 'http://id.contoso.com/token'"),
            "token_endpoint (given \"http://id.contoso.com/token\"): enter an https:// URL: secrets are sent there"
                .to_owned(),
        ),
        (
            format!("{endpoint}{scope}authorization_endpoint = 'https://u:geheim@id.contoso.com'"),
            "authorization_endpoint: enter the URL without user name and password".to_owned(),
        ),
        (
            format!("{endpoint}{scope}device_authorization_endpoint = 'id.contoso.com'"),
            "device_authorization_endpoint: enter the whole URL, such as https://login.example.com".to_owned(),
        ),
        (
            format!("{endpoint}{scope}client_secret = '{SECRET}'\ntoken_endpoint_auth_method = 'post'"),
            "token_endpoint_auth_method (given \"post\"): enter \"client_secret_basic\" or \"client_secret_post\""
                .to_owned(),
        ),
        (
            format!("{endpoint}{scope}token_endpoint_auth_method = 'client_secret_post'"),
            "token_endpoint_auth_method: remove it, or enter client_secret: a public client shows no secret".to_owned(),
        ),
    ] {
        assert_reads(custom, &app(&keys), &[&format!("authentication.{line}")]);
    }
}

/// An authorization server such as Keycloak: tokens for a code, and then for each refresh token once.
struct TokenEndpoint {
    tokens: IssuedTokens,
    grants: Arc<Mutex<Vec<(String, String)>>>,
}

impl Respond for TokenEndpoint {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let parameter =
            |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let shown = format!("{}{}", parameter("code"), parameter("refresh_token"));
        let mut grants = self.grants.lock().unwrap();
        grants.push((parameter("grant_type").to_owned(), shown));
        // The first access token is as good as expired, so that a mailer has to refresh it.
        let lifetime = if grants.len() == 1 { 1 } else { 3600 };
        ResponseTemplate::new(200).set_body_json(json!({
            "access_token": self.tokens.issue(ACCOUNT, HOUR, 200),
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": "openid smtp",
            "refresh_token": format!("refresh-{}", grants.len()),
        }))
    }
}

#[tokio::test]
async fn the_client_secret_goes_where_the_server_takes_it() {
    let issuer = MockServer::start().await;
    let endpoint = TokenEndpoint { tokens: IssuedTokens::new(Clock::system()), grants: Arc::default() };
    Mock::given(method("POST")).respond_with(endpoint).mount(&issuer).await;
    let app = format!(
        "client_id = 'mailer'\nclient_secret = '{SECRET}'\nscope = 'smtp'\ntoken_endpoint = '{}'\n",
        issuer.uri()
    );
    for (chosen, is_in_body) in [
        ("", false),
        ("token_endpoint_auth_method = 'client_secret_basic'", false),
        ("token_endpoint_auth_method = 'client_secret_post'", true),
    ] {
        let resolved = resolve("profile = 'custom'\nhost = 'mail.contoso.com'", &format!("{app}{chosen}"));
        let store = MemoryStore::from(StoredTokens::new("refresh-0", Clock::system().now()));
        client(&resolved).refresh_token(store, ["smtp"]).token(TokenRequest::new()).await.unwrap();
        let requests = issuer.received_requests().await.unwrap();
        let Request { headers, body, .. } = requests.last().unwrap();
        let form = url::form_urlencoded::parse(body);
        assert_eq!(
            form.into_owned().any(|pair| pair == ("client_secret".into(), SECRET.into())),
            is_in_body,
            "{chosen}"
        );
        assert_eq!(headers.contains_key("authorization"), !is_in_body, "{chosen}");
    }
}

#[tokio::test]
async fn a_message_goes_to_any_server_with_oauthbearer_by_settings_alone() {
    let tokens = IssuedTokens::new(Clock::system());
    let server = FakeExchange::builder()
        .extensions(Extensions::exchange_online().auth("OAUTHBEARER"))
        .tokens(tokens.clone())
        .start()
        .await;
    let (issuer, grants) = (MockServer::start().await, Arc::default());
    Mock::given(method("POST"))
        .and(path("/token"))
        .and(header("authorization", "Basic bWFpbGVyOnMzY3IzdC1nZWhlaW0=")) // mailer:s3cr3t-geheim
        .respond_with(TokenEndpoint { tokens, grants: Arc::clone(&grants) })
        .mount(&issuer)
        .await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("roots.pem"), server.root_pem()).unwrap();
    let of_server = format!(
        "profile = 'custom'\nhost = '{}'\nport = {}\nroot_certificates = 'roots.pem'\ntest_recipient = 'admin@contoso.com'",
        server.host(),
        server.port()
    );
    let app = format!(
        "client_id = 'mailer'\nclient_secret = 's3cr3t-geheim'\nscope = 'smtp'\n\
         token_endpoint = '{0}/token'\nauthorization_endpoint = '{0}/auth'",
        issuer.uri()
    );
    let settings = settings(&of_server, &app).relative_to(directory.path());
    let resolved = settings.resolve().unwrap();

    // A person signs in once.
    let AuthenticationSettings::OtherOAuth { scopes, token_store, .. } = &resolved.authentication else {
        panic!("{resolved:?}");
    };
    let sign_in = client(&resolved)
        .authorization_code("https://app.contoso.com/signed-in".parse().unwrap())
        .scopes(scopes.clone());
    let pending = sign_in.start().unwrap();
    let page: Url = pending.url().clone();
    assert_eq!((page.path(), page.port()), ("/auth", Some(issuer.address().port())));
    let (_, state) = page.query_pairs().find(|(name, _)| name == "state").unwrap();
    let callback = format!("https://app.contoso.com/signed-in?code=c0de&state={state}");
    sign_in.finish(&pending, &callback, token_store.open(&Clock::system()).unwrap()).await.unwrap();

    let mailer = Mailer::from_settings(&settings).unwrap();
    mailer.send_test().await.unwrap();
    let [message] = server.messages().try_into().expect("one message");
    assert_eq!(message.user.as_deref(), Some(ACCOUNT));
    let grant = |kind: &str, shown: &str| (kind.to_owned(), shown.to_owned());
    let asked = grants.lock().unwrap().clone();
    assert_eq!(asked, [grant("authorization_code", "c0de"), grant("refresh_token", "refresh-1")]);
    let kept = std::fs::read_to_string(directory.path().join("token.json")).unwrap();
    assert!(kept.contains("refresh-2"), "the rotated refresh token is kept: {kept}");
}
