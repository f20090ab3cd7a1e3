//! The fake's pages as a person meets them in a browser: whom they may sign in as, and what they consent to.

use smtp_oauth::MemoryStore;
use smtp_oauth::oauth::AuthorizationCode;
use smtp_oauth::testing::FakeEntra;
use url::Url;

/// A web server that learnt its port only after the fake had started.
const REDIRECT: &str = "http://localhost:49152/mail/signed-in";

async fn web() -> (FakeEntra, AuthorizationCode) {
    let entra = FakeEntra::start().await;
    entra.register_redirect(REDIRECT);
    let sign_in = entra.app().build().unwrap().authorization_code(REDIRECT.parse().unwrap());
    (entra, sign_in)
}

/// Follows the link with this text, and returns where it leads.
async fn click(entra: &FakeEntra, url: &Url, text: &str) -> Url {
    let page = entra.browse(url).await.unwrap();
    let links: Vec<&str> = page.split("<a href=\"").skip(1).collect();
    let link = links.iter().find(|link| link.contains(&format!("\">{text}</a>"))).unwrap_or_else(|| {
        panic!("no link {text:?} on {page}");
    });
    let target = link.split('"').next().unwrap().replace("&amp;", "&");
    let response = entra.browse(&entra.authority().join(&target).unwrap()).await.unwrap();
    response.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_person_picks_the_wrong_account_and_then_the_right_one() {
    let (entra, sign_in) = web().await;
    entra.offer_account("someone.else@contoso.com");
    for (account, is_right) in [("someone.else@contoso.com", false), ("svc-mail@contoso.com", true)] {
        let pending = sign_in.start().unwrap();
        let callback = click(&entra, pending.url(), account).await;
        assert!(callback.as_str().starts_with(REDIRECT), "{callback}");
        let signed_in = sign_in.finish(&pending, &callback, MemoryStore::new()).await.unwrap();
        assert_eq!(signed_in.account(), Some(account));
        assert_eq!(signed_in.check_username("svc-mail@contoso.com").is_ok(), is_right);
    }
}

#[tokio::test]
async fn only_accounts_that_are_offered_stand_on_the_page() {
    let (entra, sign_in) = web().await;
    let page = entra.browse(sign_in.start().unwrap().url()).await.unwrap();
    assert_eq!(page.matches("<a href").count(), 2, "the account, and Cancel: {page}");
    entra.offer_account("<b>&\"@contoso.com");
    let page = entra.browse(sign_in.start().unwrap().url()).await.unwrap();
    assert!(page.contains("&lt;b>&amp;&quot;@contoso.com") && !page.contains("<b>"), "{page}");
}

#[tokio::test]
async fn an_administrator_reads_what_is_consented_to_and_accepts_or_declines() {
    let (entra, _) = web().await;
    let consent = entra.app().build().unwrap().admin_consent().unwrap();
    let url = consent.url(&REDIRECT.parse().unwrap(), "state-1");
    assert!(entra.browse(&url).await.unwrap().contains("https://outlook.office.com/SMTP.Send"));
    consent.finish(click(&entra, &url, "Accept").await, "state-1").unwrap();
    let error = consent.finish(click(&entra, &url, "Cancel").await, "state-1").unwrap_err();
    assert!(error.to_string().contains("admin consent was refused"), "{error}");
}

#[tokio::test]
async fn a_redirect_url_that_is_not_registered_is_refused_until_it_is() {
    let entra = FakeEntra::start().await;
    let sign_in = entra.app().build().unwrap().authorization_code(REDIRECT.parse().unwrap());
    let pending = sign_in.start().unwrap();
    let page = entra.browse(pending.url()).await.unwrap();
    assert!(page.contains("text/html") && page.contains("<p>AADSTS50011: The redirect URI"), "{page}");
    entra.register_redirect(REDIRECT);
    assert!(entra.browse(pending.url()).await.unwrap().contains("Pick an account"));
}
