//! Settings lead to the app registration that a mailer signs in with, for programs that sign in by themselves.

use smtp_oauth::entra::AppBuilder;
use smtp_oauth::{
    AuthenticationSettings, Cloud, ConfigError, Settings, TokenProvider, TokenRequest, testing,
};
use time::macros::datetime;

const SECRET: &str = "s3cr3t~Q-geheim";

fn app(text: &str) -> Result<Option<AppBuilder>, ConfigError> {
    toml::from_str::<Settings>(text).unwrap().resolve()?.app()
}

fn oauth(server: &str, rest: &str) -> String {
    format!(
        "[server]\nusername = 'svc-mail@contoso.com'\n{server}\n[authentication]\ntenant = 'contoso.com'\n\
         client_id = '6731de76-14a6-49ae-97bc-6eba6914391e'\n{rest}\n"
    )
}

#[test]
fn the_app_has_the_servers_cloud_and_tls_and_the_secret_with_its_expiry() {
    let rest = format!("client_secret = '{SECRET}'\nclient_secret_expires = 2027-06-30");
    let server = "cloud = 'china'\nminimum_tls = '1.3'";
    let builder = app(&oauth(server, &rest)).unwrap().unwrap();
    let shown = format!("{builder:?}");
    assert!(shown.contains("minimum_version: Tls13") && !shown.contains(SECRET), "{shown}");
    let app = builder.build().unwrap();
    assert_eq!((app.cloud(), app.tenant().as_str()), (Cloud::China, "contoso.com"));
    assert_eq!(app.client_id(), "6731de76-14a6-49ae-97bc-6eba6914391e");
    assert_eq!(app.credential_expiry(), Some(datetime!(2027-06-30 0:00 UTC)));
    let endpoint = "https://login.partner.microsoftonline.cn/contoso.com/oauth2/v2.0/token";
    assert_eq!(app.token_endpoint().as_str(), endpoint);
}

#[test]
fn the_app_asks_another_sign_in_host_when_told_so() {
    let app = app(&oauth("", "authority = 'https://login.contoso.com'")).unwrap().unwrap().build().unwrap();
    assert_eq!(app.token_endpoint().as_str(), "https://login.contoso.com/contoso.com/oauth2/v2.0/token");
    assert!(app.client_secret().is_none());
}

#[test]
fn basic_has_no_app() {
    let text =
        "[server]\nusername = 'svc@contoso.com'\n[authentication]\nmethod = 'basic'\npassword = 'pa55word'\n";
    assert!(app(text).unwrap().is_none());
}

#[test]
fn a_tenant_that_is_none_is_reported_at_its_key() {
    let text = oauth("", "").replace("contoso.com'\nclient", "contoso'\nclient");
    let error = toml::from_str::<Settings>(&text).unwrap().resolve().unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!((problem.field(), problem.given()), ("authentication.tenant", Some("contoso")));

    // What a program changes afterwards is checked when it is used.
    let mut resolved = toml::from_str::<Settings>(&oauth("", "")).unwrap().resolve().unwrap();
    match &mut resolved.authentication {
        AuthenticationSettings::OAuth { tenant, .. } => "contoso".clone_into(tenant),
        other => panic!("{other:?}"),
    }
    assert_eq!(resolved.app().unwrap_err(), error);
}

#[tokio::test]
async fn the_app_gets_a_token_where_the_settings_point() {
    let tenant = testing::FakeMicrosoft365::start().await;
    let directory = tempfile::tempdir().unwrap();
    let text = tenant.settings_toml(directory.path()).await.unwrap();
    let text = text
        .replace("token_store", "#")
        .replace("[authentication]", "[authentication]\ngrant = 'client_credentials'");
    let app = app(&text).unwrap().unwrap().build().unwrap();
    app.client_credentials().token(TokenRequest::new()).await.unwrap();
    assert_eq!(tenant.entra().received()[0].parameter("grant_type"), "client_credentials");
}
