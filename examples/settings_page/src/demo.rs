//! The demonstration: a fake of Microsoft 365 on this machine, with a page for the mail it received.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use smtp_oauth::testing::{FakeMicrosoft365, ReceivedMessage};
use tempfile::TempDir;
use url::Url;

use crate::Page;
use crate::database::{Change, Database, beside};
use crate::form::Form;
use crate::pages::html;
use crate::sign_in::CALLBACK;
use crate::vault::Vault;

/// The tenant, and the directory of its files; both end with this.
pub struct Demo {
    pub tenant: FakeMicrosoft365,
    directory: TempDir,
}

/// Starts the fakes for a page at `public_url`, with settings that want nothing but the sign-in.
pub async fn page(public_url: Url, access_key: String) -> Result<Page, Box<dyn Error>> {
    let demo = Demo { tenant: FakeMicrosoft365::start().await, directory: tempfile::tempdir()? };
    demo.tenant.entra().register_redirect(public_url.join(CALLBACK)?);
    demo.tenant.entra().offer_account("someone.else@contoso.com");
    std::fs::write(demo.roots(), demo.tenant.exchange().root_pem())?;
    let path = demo.database();
    let database = Database::open(&path, Vault::from_file(&beside(&path, "key"))?).await?;
    database.apply(Change::default().put("settings", &demo.form())?).await?;
    Ok(Page { database, public_url, access_key, fixed: demo.fixed(), demo: Some(demo) })
}

impl Demo {
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("settings.db")
    }

    fn roots(&self) -> PathBuf {
        self.directory.path().join("roots.pem")
    }

    /// Returns what the fakes need and no administrator enters: their certificate and their sign-in host.
    fn fixed(&self) -> serde_json::Value {
        serde_json::json!({
            "server": { "root_certificates": self.roots(), "trust_platform_roots": false },
            "authentication": { "authority": self.tenant.entra().authority() },
        })
    }

    /// Returns what an administrator would have entered: everything but the sign-in.
    pub fn form(&self) -> Form {
        let (entra, exchange) = (self.tenant.entra(), self.tenant.exchange());
        Form {
            host: exchange.host().to_owned(),
            port: exchange.port().to_string(),
            sender: format!("Contoso alerts <{}>", self.tenant.account()),
            test_recipient: "admin@contoso.com".to_owned(),
            username: self.tenant.account(),
            tenant: entra.tenant(),
            client_id: entra.client_id(),
            client_secret: entra.client_secret().unwrap_or_default().into(),
            ..Form::suggested()
        }
    }
}

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    is_demo: bool,
    messages: Vec<Mail>,
}

struct Mail {
    from: String,
    to: String,
    subject: String,
    text: String,
    source: String,
}

impl Mail {
    fn of(message: &ReceivedMessage) -> Self {
        Self {
            from: message.from.clone(),
            to: message.recipient_addresses().join(", "),
            subject: message.subject(),
            text: message.text(),
            source: String::from_utf8_lossy(&message.body).into_owned(),
        }
    }
}

pub async fn inbox(State(page): State<Arc<Page>>) -> Response {
    let messages = page.demo.as_ref().map(|demo| demo.tenant.exchange().messages()).unwrap_or_default();
    html(&Inbox { is_demo: true, messages: messages.iter().rev().map(Mail::of).collect() })
}
