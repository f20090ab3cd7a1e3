//! Who signed in: read from the ID token and from Graph, and compared with the username of the settings.

use smtp_oauth::entra::{Account, Tenant};
use smtp_oauth::oauth::SignedIn;
use smtp_oauth::testing::{FakeEntra, TokenFault};
use smtp_oauth::{Cloud, MemoryStore, TokenErrorKind, TokenStore};

const REDIRECT: &str = "https://app.contoso.com/signed-in";

async fn sign_in_as(entra: &FakeEntra, account: &str, store: &MemoryStore) -> SignedIn {
    let sign_in = entra.app().build().unwrap().authorization_code_with_profile(REDIRECT.parse().unwrap());
    let pending = sign_in.start().unwrap();
    sign_in.finish(&pending, entra.approve_as(pending.url(), account), store.clone()).await.unwrap()
}

#[tokio::test]
async fn the_account_is_read_from_the_id_token() {
    let entra = FakeEntra::start().await;
    let signed_in = sign_in_as(&entra, "Svc-Mail@contoso.com", &MemoryStore::new()).await;
    let account = Account::of(&signed_in).unwrap();
    assert_eq!(account.username, "Svc-Mail@contoso.com");
    assert_eq!(account.name.as_deref(), Some("Svc-Mail"));
    assert_eq!(account.tenant_id.as_deref(), Some("6c8e1b5a-0000-4000-8000-00000000000f"));
    assert!(account.object_id.is_some() && account.email.is_none());
    assert!(!account.is_personal());
    assert_eq!(account.check_username("svc-mail@CONTOSO.com"), Ok(()));
    let mismatch = account.check_username("admin@contoso.com").unwrap_err();
    assert_eq!((mismatch.signed_in(), mismatch.username()), ("Svc-Mail@contoso.com", "admin@contoso.com"));
    let signed_in = sign_in_as(&entra, "somebody@outlook.com", &MemoryStore::new()).await;
    assert!(Account::of(&signed_in).unwrap().is_personal());
}

#[tokio::test]
async fn another_account_than_the_username_is_named() {
    let entra = FakeEntra::start().await;
    let store = MemoryStore::new();
    let signed_in = sign_in_as(&entra, "admin@contoso.com", &store).await;
    let mismatch = signed_in.check_username("svc-mail@contoso.com").unwrap_err();
    assert_eq!((mismatch.signed_in(), mismatch.username()), ("admin@contoso.com", "svc-mail@contoso.com"));
    assert_eq!(
        mismatch.to_string(),
        "signed in as `admin@contoso.com`, but the username is `svc-mail@contoso.com`"
    );
    assert_eq!(signed_in.check_username("ADMIN@Contoso.com"), Ok(()));
    // A warning: the tokens are there, and Exchange decides.
    assert_eq!(store.load().await.unwrap().unwrap().account(), Some("admin@contoso.com"));
}

#[tokio::test]
async fn graph_is_asked_with_the_same_refresh_token() {
    let entra = FakeEntra::start().await;
    let store = MemoryStore::new();
    sign_in_as(&entra, "admin@contoso.com", &store).await;
    let me = entra.app().build().unwrap().me(store.clone()).await.unwrap();
    assert_eq!(me.user_principal_name, "admin@contoso.com");
    assert_eq!(me.mail.as_deref(), Some("admin@contoso.com"));
    assert_eq!(me.check_username("Admin@contoso.com"), Ok(()));
    assert_eq!(me.check_username("svc-mail@contoso.com").unwrap_err().signed_in(), "admin@contoso.com");
    let refresh = entra.received().pop().unwrap();
    assert_eq!(refresh.parameter("scope"), "https://graph.microsoft.com/User.Read offline_access");
    // The token for mail is still there, and the refresh token is the rotated one.
    let stored = store.load().await.unwrap().unwrap();
    assert!(stored.access_token("https://outlook.office.com/SMTP.Send").is_some());
    assert_eq!(
        secrecy::ExposeSecret::expose_secret(stored.refresh_token()),
        entra.refresh_tokens().last().unwrap()
    );
}

#[tokio::test]
async fn graph_may_refuse_and_consent_may_be_missing() {
    let entra = FakeEntra::start().await;
    let app = entra.app().build().unwrap();
    entra.fail_next(1, TokenFault::Aadsts(65_001));
    let error = app.me(entra.store()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::SignInRequired);
    // A token that was withdrawn meanwhile.
    let store = entra.store();
    app.me(store.clone()).await.unwrap();
    entra.tokens().revoke_all();
    let error = app.me(store).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::RequestRefused);
    assert_eq!(error.to_string(), "Microsoft Graph refused the access token (HTTP 401)");
    assert_eq!(app.me(MemoryStore::new()).await.unwrap_err().kind(), TokenErrorKind::SignInRequired);
}

#[test]
fn each_cloud_has_its_graph() {
    for cloud in Cloud::ALL {
        assert_eq!(cloud.user_read_scope(), format!("https://{}/User.Read", cloud.graph_host()));
    }
    assert!(Tenant::parse("consumers").is_ok());
}

#[test]
fn a_tenant_is_read_by_whatever_reads_settings() {
    let parsed: Tenant = "contoso.onmicrosoft.com".parse().unwrap();
    assert_eq!(Tenant::try_from("contoso.onmicrosoft.com".to_owned()), Ok(parsed));
    let error = "contoso/evil".parse::<Tenant>().unwrap_err();
    assert_eq!(Tenant::try_from("contoso/evil".to_owned()), Err(error));
}

#[test]
fn the_futures_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    fn check(app: &smtp_oauth::entra::App) {
        is_send(&app.me(MemoryStore::new()));
    }
    let _check = check;
}
