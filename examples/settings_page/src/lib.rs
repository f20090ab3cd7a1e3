//! The administrator's page for a product's mail server settings: form, Microsoft sign-in, test mail, live diagnosis.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use tower_sessions::cookie::SameSite;
use tower_sessions::cookie::time::Duration;
use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
use url::Url;

use crate::database::{Database, DatabaseError};
use crate::form::{Form, Problem, Ready};
use crate::tokens::SqliteTokens;

pub mod access;
pub mod database;
pub mod demo;
pub mod diagnosis;
pub mod form;
pub mod notice;
pub mod pages;
pub mod sign_in;
pub mod tokens;
pub mod vault;

/// What all requests share.
pub struct Page {
    pub database: Database,
    /// Where browsers find this program; its origin is the only one that forms are taken from.
    pub public_url: Url,
    /// Makes a browser the administrator's.
    pub access_key: String,
    /// Settings that are not the administrator's to make, as in a settings file.
    pub fixed: serde_json::Value,
    pub demo: Option<demo::Demo>,
}

impl Page {
    pub fn tokens(&self) -> SqliteTokens {
        SqliteTokens::new(self.database.clone())
    }

    pub async fn form(&self) -> Result<Option<Form>, DatabaseError> {
        self.database.read("settings").await
    }

    /// Returns the saved settings, checked again: a newer version of the library may know better.
    pub async fn saved(&self) -> Result<Result<Ready, Vec<Problem>>, DatabaseError> {
        Ok(self.form().await?.unwrap_or_default().check(&self.fixed))
    }

    /// Returns the redirect URL that the app registration needs, for the sign-in and for admin consent.
    pub fn redirect_url(&self) -> Url {
        let mut url = self.public_url.clone();
        url.set_path(sign_in::CALLBACK);
        url
    }
}

/// Makes the whole page.
pub fn router(page: Arc<Page>) -> Router {
    // In memory: it holds the PKCE verifier between the two requests of a sign-in, and ends with the program.
    let sessions = SessionManagerLayer::new(MemoryStore::default())
        .with_name("settings_page")
        .with_secure(page.public_url.scheme() == "https")
        // Not `Strict`: the browser comes back from Microsoft's page with a GET, and must bring its session along.
        .with_same_site(SameSite::Lax)
        .with_expiry(Expiry::OnInactivity(Duration::hours(8)));
    let mut pages = Router::new()
        .route("/", get(pages::show))
        .route("/settings", post(pages::save))
        .route("/test-mail", post(pages::send_test))
        .route("/diagnosis", post(diagnosis::run))
        .route("/sign-in", post(sign_in::begin))
        .route("/sign-in/keep", post(sign_in::keep))
        .route(sign_in::CALLBACK, get(sign_in::finish));
    if page.demo.is_some() {
        pages = pages.route("/inbox", get(demo::inbox));
    }
    pages
        .route_layer(from_fn(access::require_administrator))
        .route("/enter", get(access::enter))
        .route(pages::STYLE, get(pages::style))
        .layer(sessions)
        .layer(from_fn_with_state(page.clone(), access::require_origin))
        .layer(from_fn_with_state(page.clone(), access::secure))
        .with_state(page)
}
