//! The settings page: shows the form, saves it, sends the test mail. The sign-in and the diagnosis stand beside it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use smtp_oauth::token::store::StoredTokens;
use smtp_oauth::{Clock, TokenError, TokenStore};
use tower_sessions::Session;

use crate::access::{Posted, csrf_token};
use crate::database::{Change, DatabaseError};
use crate::form::{Form, Problem, Ready};
use crate::notice::Notice;
use crate::{Page, sign_in, tokens};

pub const STYLE: &str = "/style.css";
const SECRET_WARNING: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 60 * 60);

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    csrf: String,
    is_demo: bool,
    notice: Option<Notice>,
    /// What stands in the fields: as saved, or as entered where that cannot be saved.
    form: Form,
    problems: Vec<Problem>,
    /// Who has just signed in, and the username, when they differ.
    candidate: Option<(String, String)>,
    client_secret: SecretField,
    password: SecretField,
    redirect_url: String,
    /// What the saved settings allow; `None` until they are valid.
    actions: Option<Actions>,
}

/// What a browser is told of a secret.
struct SecretField {
    is_set: bool,
    hint: &'static str,
}

impl SecretField {
    fn new(entered: &str, saved: &str, unset: &'static str) -> Self {
        let hint = match (entered == saved, saved.is_empty()) {
            (false, _) => "Enter it again: what was typed is never sent back.",
            (true, true) => unset,
            (true, false) => "One is set and never shown. Leave the field empty to keep it.",
        };
        Self { is_set: !saved.is_empty(), hint }
    }
}

/// What can be done with saved settings.
struct Actions {
    is_oauth: bool,
    test_recipient: Option<String>,
    /// Who has signed in, and when.
    account: Option<(String, String)>,
    consent_url: Option<String>,
    warnings: Vec<String>,
}

impl SettingsPage {
    /// Returns what is wrong with a field, empty when nothing is.
    fn error(&self, field: &str) -> String {
        let found = self.problems.iter().filter(|problem| problem.field == field);
        found.map(|problem| problem.message.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
pub struct Message {
    pub title: &'static str,
    pub text: &'static str,
}

pub fn html(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

pub async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../templates/style.css"))
}

pub async fn show(State(page): State<Arc<Page>>, session: Session) -> Result<Response, Failure> {
    let form = page.form().await?.unwrap_or_else(Form::suggested);
    Ok(html(&render(&page, &session, form, Vec::new()).await?))
}

pub async fn save(
    State(page): State<Arc<Page>>,
    session: Session,
    Posted(entered): Posted<Form>,
) -> Result<Response, Failure> {
    let saved = page.form().await?.unwrap_or_default();
    let form = entered.keeping_secrets(&saved);
    if let Err(problems) = form.check(&page.fixed) {
        let shown = render(&page, &session, form, problems).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, html(&shown)).into_response());
    }
    let mut change = Change::default().put("settings", &form)?;
    if form.is_another_app(&saved) {
        change = change.remove(tokens::RECORD); // They belong to the app before, and would be refused.
    }
    let (database, tokens) = (page.database.clone(), page.tokens());
    // In a task of its own, so that a browser that goes away leaves nothing half done; under the lock, so that no refresh
    // that is under way writes the old app's token back.
    let saving = tokio::spawn(async move {
        let lock = tokens.lock().await?;
        let saved = database.apply(change).await;
        lock.release().await;
        saved.map_err(Failure::from)
    });
    saving.await??;
    sign_in::forget_candidate(&session).await?;
    Notice::success("Settings saved", "The settings are valid. Whether they work, the diagnosis finds out.")
        .leave(&session)
        .await?;
    Ok(Redirect::to("/").into_response())
}

#[derive(Deserialize)]
pub struct Nothing {}

pub async fn send_test(
    State(page): State<Arc<Page>>,
    session: Session,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<Redirect, Failure> {
    let Ok(ready) = page.saved().await? else { return unready(&session).await };
    let mailer = ready.mailer(&page.tokens())?;
    let notice = match mailer.send_test().await {
        Ok(submission) => {
            let recipient = ready.settings.server.test_recipient();
            let recipient = recipient.map(|mailbox| mailbox.email.to_string()).unwrap_or_default();
            Notice::success("The test mail was accepted", format!("To {recipient}: {}", submission.reply()))
        }
        Err(error) => Notice::submission("The test mail was not sent", &error),
    };
    mailer.close().await;
    notice.leave(&session).await?;
    Ok(Redirect::to("/"))
}

/// Leads back to the form, which shows what is wrong with the saved settings.
pub async fn unready(session: &Session) -> Result<Redirect, Failure> {
    let lines = vec!["Save valid settings first.".to_owned()];
    let notice =
        Notice { is_failure: true, title: "There are no valid settings".to_owned(), lines, advice: None };
    notice.leave(session).await?;
    Ok(Redirect::to("/"))
}

async fn render(
    page: &Page,
    session: &Session,
    form: Form,
    problems: Vec<Problem>,
) -> Result<SettingsPage, Failure> {
    let saved = page.form().await?.unwrap_or_default();
    let actions = match page.saved().await? {
        Ok(ready) => Some(actions(page, session, &ready).await?),
        Err(_) => None,
    };
    Ok(SettingsPage {
        csrf: csrf_token(session).await?,
        is_demo: page.demo.is_some(),
        notice: Notice::take(session).await?,
        candidate: sign_in::candidate(session).await?,
        client_secret: SecretField::new(
            &form.client_secret,
            &saved.client_secret,
            "The secret’s Value, not its Secret ID.",
        ),
        password: SecretField::new(&form.password, &saved.password, "Of the user who signs in."),
        form,
        problems,
        redirect_url: page.redirect_url().to_string(),
        actions,
    })
}

async fn actions(page: &Page, session: &Session, ready: &Ready) -> Result<Actions, Failure> {
    let server = &ready.settings.server;
    let tokens: Option<StoredTokens> = page.tokens().load().await?;
    let mut warnings = ready.mailer(&page.tokens())?.warnings();
    if let Some(secret) = ready.app.as_ref().and_then(|app| app.client_secret())
        && let Some(expiry) = secret.expires_at()
        && secret.is_expiring_within(SECRET_WARNING, Clock::system().now())
    {
        warnings.push(format!("the client secret expires on {}: make a new one in time", expiry.date()));
    }
    Ok(Actions {
        is_oauth: ready.app.is_some(),
        test_recipient: server.test_recipient().map(|mailbox| mailbox.email.to_string()),
        account: tokens.map(|tokens| {
            let account = tokens.account().unwrap_or("an account without a name").to_owned();
            (account, tokens.obtained_at().date().to_string())
        }),
        consent_url: sign_in::consent_url(page, session, ready).await?,
        warnings: warnings.iter().map(|warning| crate::form::sentence(warning)).collect(),
    })
}

/// A fault of this program or its database; the log says which, the browser does not.
#[derive(Debug)]
pub struct Failure(String);

macro_rules! failure_from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        })*
    };
}

failure_from!(
    DatabaseError,
    TokenError,
    smtp_oauth::ConfigError,
    tower_sessions::session::Error,
    getrandom::Error,
    tokio::task::JoinError,
    askama::Error
);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("error: {}", self.0);
        let message = Message {
            title: "Something went wrong",
            text: "This program could not do that. Its log says why; nothing was half done.",
        };
        (StatusCode::INTERNAL_SERVER_ERROR, html(&message)).into_response()
    }
}
