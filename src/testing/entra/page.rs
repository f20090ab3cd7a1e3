//! What the fake's sign-in, consent and error pages look like in a browser. Judges no request (see `sign_in`).

use url::{Position, Url};

/// In light and dark, since people look at it, and without anything to load.
const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0; background: light-dark(#eef1f5, #16191d); \
color: light-dark(#1b1b1b, #f2f2f2) }
main { max-width: 26rem; margin: 12vh auto 2rem; padding: 2rem; background: light-dark(#fff, #24282e); \
box-shadow: 0 2px 12px #0003 }
h1 { font-size: 1.4rem; margin: 0 0 .5rem }
.fake { margin: 0 0 1rem; font-weight: 600; color: light-dark(#9a3412, #fdba74) }
ul { list-style: none; padding: 0; margin: 1.5rem 0 0 }
a { display: block; padding: .75rem; border-top: 1px solid light-dark(#d6d6d6, #4a5058); \
color: light-dark(#0b57a4, #9ecbff); overflow-wrap: anywhere }
a:hover { background: light-dark(#f3f6fa, #2d333a) }
a:focus-visible { outline: 3px solid; outline-offset: -3px }";

/// The page where a person picks one of `accounts`, or declines.
pub(super) fn sign_in(url: &Url, app: &str, accounts: &[String]) -> String {
    let choices: String =
        accounts.iter().map(|account| link(url, "fake_account", account, account)).collect();
    let asks = format!("The app {} asks you to sign in.", escaped(app));
    page("Pick an account", &asks, &(choices + &link(url, "fake_decline", "1", "Cancel")))
}

/// The page where an administrator consents to `scope`, or declines.
pub(super) fn consent(url: &Url, app: &str, administrator: &str, scope: &str) -> String {
    let accept = link(url, "fake_account", administrator, "Accept");
    let asks = format!("The app {} asks for: {}", escaped(app), escaped(scope));
    page("Consent for your organization", &asks, &(accept + &link(url, "fake_decline", "1", "Cancel")))
}

/// The page that tells why nobody can sign in.
pub(super) fn trouble(code: u32, text: &str) -> String {
    page("Sorry, but we’re having trouble signing you in.", &format!("AADSTS{code}: {}", escaped(text)), "")
}

fn page(heading: &str, asks: &str, choices: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{heading} (fake)</title>\n\
         <style>{STYLE}</style></head>\n\
         <body><main><p class=\"fake\">This is a fake of Microsoft's page, for tests.</p>\n\
         <h1>{heading}</h1><p>{asks}</p>\n<ul>{choices}</ul></main></body></html>\n"
    )
}

/// A way on: the same page again, with what was chosen.
fn link(url: &Url, name: &str, value: &str, text: &str) -> String {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair(name, value);
    format!("<li><a href=\"{}\">{}</a></li>\n", escaped(&url[Position::BeforePath..]), escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
