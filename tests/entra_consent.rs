//! An administrator's consent: the page, its answer, the permissions that a manifest asks for, and whom it fits.

use smtp_oauth::entra::{self, Tenant};
use smtp_oauth::testing::FakeEntra;
use smtp_oauth::{TokenErrorKind, entra::App};
use url::Url;

const CLIENT_ID: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";
const STATE: &str = "random-state";

fn redirect() -> Url {
    "https://app.contoso.com/signed-in".parse().unwrap()
}

fn app(tenant: &str) -> App {
    App::builder(Tenant::parse(tenant).unwrap(), CLIENT_ID).build().unwrap()
}

#[test]
fn the_page_is_the_tenants_own() {
    let url = app("contoso.onmicrosoft.com").admin_consent().unwrap().url(&redirect(), STATE);
    assert_eq!(
        url.as_str(),
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/v2.0/adminconsent?client_id=6731de76-14a6-49ae-97bc-6eba6914391e\
         &scope=https%3A%2F%2Foutlook.office.com%2FSMTP.Send+offline_access+openid+profile\
         &redirect_uri=https%3A%2F%2Fapp.contoso.com%2Fsigned-in&state=random-state"
    );
    let consent = app("organizations").admin_consent().unwrap();
    let url = consent.scope("https://outlook.office365.com/.default").url(&redirect(), STATE);
    assert!(url.as_str().contains("/organizations/v2.0/adminconsent"));
    assert!(url.as_str().contains("scope=https%3A%2F%2Foutlook.office365.com%2F.default&"));
}

#[test]
fn tenants_without_an_administrator_are_refused() {
    for tenant in ["common", "consumers"] {
        let error = app(tenant).admin_consent().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "nobody can consent for all of `{tenant}`: set the tenant's own id or domain, or `organizations`"
            )
        );
    }
}

#[tokio::test]
async fn consent_is_believed_with_the_right_state_only() {
    let entra = FakeEntra::start().await;
    let consent = entra.app().build().unwrap().admin_consent().unwrap();
    let url = consent.url(&redirect(), STATE);
    let given = entra.approve(&url);
    consent.finish(&given, STATE).unwrap();
    let error = consent.finish(&given, "another").unwrap_err();
    assert_eq!(error.to_string(), "the callback belongs to another sign-in (wrong `state`)");
    assert_eq!(consent.finish(&given, "").unwrap_err().kind(), TokenErrorKind::InvalidResponse);
    let silent = "https://app.contoso.com/signed-in?state=random-state&tenant=evil";
    let error = consent.finish(silent, STATE).unwrap_err();
    assert_eq!(error.to_string(), "the callback does not say that admin consent was given");
    let twice = format!("{given}&admin_consent=True");
    assert_eq!(consent.finish(twice, STATE).unwrap_err().kind(), TokenErrorKind::InvalidResponse);
}

#[tokio::test]
async fn a_refusal_says_so_although_it_also_says_admin_consent() {
    let entra = FakeEntra::start().await;
    let consent = entra.app().build().unwrap().admin_consent().unwrap();
    let declined = entra.deny(&consent.url(&redirect(), STATE));
    assert!(declined.as_str().contains("admin_consent=True"));
    let error = consent.finish(&declined, STATE).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    assert_eq!(error.to_string(), "admin consent was refused (AADSTS65004)");
    let remedy = entra::remedy(&error).unwrap();
    assert_eq!(remedy.summary(), "The consent was declined.");
    assert!(remedy.steps()[1].contains("Grant admin consent"), "{remedy}");
    // The older page words it differently.
    let older = "https://app.contoso.com/signed-in?error=permission_denied&state=random-state";
    assert_eq!(consent.finish(older, STATE).unwrap_err().kind(), TokenErrorKind::RequestRefused);
}

#[test]
fn the_manifest_lists_each_permission_under_its_resource() {
    let manifest: serde_json::Value = serde_json::from_str(&entra::required_resource_access()).unwrap();
    let resources = manifest["requiredResourceAccess"].as_array().unwrap();
    assert_eq!(resources.len(), 1);
    assert_eq!(resources[0]["resourceAppId"], "00000003-0000-0000-c000-000000000000");
    let access = resources[0]["resourceAccess"].as_array().unwrap();
    assert_eq!(access.len(), 6);
    assert_eq!(access[0]["id"], "258f6531-6087-4cc4-bb90-092c5fb3ed3f");
    assert!(access.iter().all(|permission| permission["type"] == "Scope"));
    assert!(access.iter().all(|permission| permission["id"].as_str().unwrap().len() == 36));
    assert!(entra::send_as_app_permission().contains("00000002-0000-0ff1-ce00-000000000000"));
}
