//! Signing in with Microsoft, from the button to the account check, and admin consent.

use std::sync::Arc;

use askama::Template;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::{Deserialize, Serialize};
use smtp_oauth::oauth::{PendingSignIn, Prompt};
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{MemoryStore, TokenStore};
use tower_sessions::Session;

use crate::Page;
use crate::access::{Posted, random};
use crate::form::Ready;
use crate::notice::Notice;
use crate::pages::{Failure, Nothing, html, unready};

/// The path of the redirect URL.
pub const CALLBACK: &str = "/oauth/callback";

/// What the session remembers: a sign-in under way, the tokens of another account than was meant, the consent's state.
const PENDING: &str = "pending";
const CANDIDATE: &str = "candidate";
const CONSENT: &str = "consent";

/// A sign-in with another account than was meant, which the administrator may use all the same.
#[derive(Serialize, Deserialize)]
struct Candidate {
    account: String,
    username: String,
    tokens: Option<StoredTokens>,
}

/// Leads to Microsoft's page without a redirect: the policy `form-action 'self'` would forbid one after a form, and for
/// a federated account nobody knows where the redirects end.
#[derive(Template)]
#[template(path = "leave.html")]
struct Leave {
    url: String,
}

#[derive(Deserialize)]
pub struct Choice {
    #[serde(default)]
    account: String,
}

/// Begins a sign-in and remembers it in this browser's session.
pub async fn begin(
    State(page): State<Arc<Page>>,
    session: Session,
    Posted(choice): Posted<Choice>,
) -> Result<Response, Failure> {
    let Ok(Ready { settings, app: Some(app) }) = page.saved().await? else {
        return Ok(unready(&session).await?.into_response());
    };
    let sign_in = app.authorization_code(page.redirect_url());
    let sign_in = match choice.account.as_str() {
        "other" => sign_in.prompt(Prompt::SelectAccount),
        _ => sign_in.login_hint(settings.server.username()),
    };
    let pending = sign_in.start()?;
    session.insert(PENDING, &pending).await?;
    Ok(html(&Leave { url: pending.url().to_string() }))
}

/// Takes the browser that comes back from Microsoft's pages.
pub async fn finish(
    State(page): State<Arc<Page>>,
    session: Session,
    OriginalUri(callback): OriginalUri,
) -> Result<Redirect, Failure> {
    let Ok(Ready { settings, app: Some(app) }) = page.saved().await? else { return unready(&session).await };
    let callback = callback.to_string();
    // Removed before it is used: no callback is taken twice.
    let pending = session.remove::<PendingSignIn>(PENDING).await?;
    let notice = match pending.filter(|_| !callback.contains("admin_consent=")) {
        None => consent_notice(&app, &session, &callback).await?,
        Some(pending) => {
            // Into memory first: the wrong account must not replace the right one's tokens.
            let store = MemoryStore::new();
            let sign_in = app.authorization_code(page.redirect_url());
            match sign_in.finish(&pending, &callback, store.clone()).await {
                Err(error) => Notice::token("The sign-in did not succeed", &error),
                Ok(signed_in) => {
                    let tokens = store.load().await?;
                    let account = signed_in.account().unwrap_or("an account without a name");
                    match signed_in.check_username(settings.server.username()) {
                        Ok(()) => {
                            store_tokens(&page, &session, tokens).await?;
                            Notice::success("Signed in", format!("Mail is sent with the account {account}."))
                        }
                        Err(mismatch) => {
                            let candidate = Candidate {
                                account: mismatch.signed_in().to_owned(),
                                username: mismatch.username().to_owned(),
                                tokens,
                            };
                            session.insert(CANDIDATE, &candidate).await?;
                            return Ok(Redirect::to("/"));
                        }
                    }
                }
            }
        }
    };
    notice.leave(&session).await?;
    Ok(Redirect::to("/"))
}

/// Uses the other account all the same: the names of one mailbox may differ, and a shared mailbox has delegates.
pub async fn keep(
    State(page): State<Arc<Page>>,
    session: Session,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<Redirect, Failure> {
    let candidate = session.get::<Candidate>(CANDIDATE).await?;
    let Some(tokens) = candidate.and_then(|candidate| candidate.tokens) else { return Ok(Redirect::to("/")) };
    store_tokens(&page, &session, Some(tokens)).await?;
    let line = "Exchange decides whether this account may open the mailbox: the diagnosis finds out.";
    Notice::success("Signed in", line).leave(&session).await?;
    Ok(Redirect::to("/"))
}

/// Returns the account that waits for a decision, and the username that was meant.
pub async fn candidate(session: &Session) -> Result<Option<(String, String)>, Failure> {
    let candidate = session.get::<Candidate>(CANDIDATE).await?;
    Ok(candidate.map(|candidate| (candidate.account, candidate.username)))
}

/// Forgets that account: it signed in to the app, and for the username, of the settings before.
pub async fn forget_candidate(session: &Session) -> Result<(), Failure> {
    session.remove_value(CANDIDATE).await?;
    Ok(())
}

async fn store_tokens(page: &Page, session: &Session, tokens: Option<StoredTokens>) -> Result<(), Failure> {
    let Some(tokens) = tokens else { return Ok(()) };
    let store = page.tokens();
    // In a task of its own, and under the lock: see `pages::save`.
    let saving = tokio::spawn(async move {
        let lock = store.lock().await?;
        let saved = store.save(&tokens).await;
        lock.release().await;
        saved
    });
    saving.await??;
    forget_candidate(session).await
}

/// Returns Microsoft's page for admin consent; `None` where nobody can consent for a whole tenant.
pub async fn consent_url(page: &Page, session: &Session, ready: &Ready) -> Result<Option<String>, Failure> {
    let Some(Ok(consent)) = ready.app.as_ref().map(smtp_oauth::entra::App::admin_consent) else {
        return Ok(None);
    };
    let state = match session.get::<String>(CONSENT).await? {
        Some(state) => state,
        None => {
            let state = random()?;
            session.insert(CONSENT, &state).await?;
            state
        }
    };
    Ok(Some(consent.url(&page.redirect_url(), &state).to_string()))
}

async fn consent_notice(
    app: &smtp_oauth::entra::App,
    session: &Session,
    callback: &str,
) -> Result<Notice, Failure> {
    let state = session.remove::<String>(CONSENT).await?.unwrap_or_default();
    let Some(consent) = app.admin_consent().ok().filter(|_| callback.contains("admin_consent=")) else {
        let lines = vec!["No sign-in is under way in this browser: begin again.".to_owned()];
        return Ok(Notice { is_failure: true, title: "Not signed in".to_owned(), lines, advice: None });
    };
    Ok(match consent.finish(callback, &state) {
        Ok(()) => Notice::success(
            "Consent was given",
            "It takes some minutes until it works everywhere. Then sign in with Microsoft.",
        ),
        Err(error) => Notice::token("Consent was not given", &error),
    })
}
