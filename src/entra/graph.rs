//! Who Microsoft Graph says the account is (`GET /me`): a second opinion to the ID token's. Sends no mail.

use serde::Deserialize;
use url::Url;

use super::app::{App, OFFLINE_ACCESS};
use crate::oauth::AccountMismatch;
use crate::token::store::TokenStore;
use crate::token::{TokenError, TokenErrorKind, TokenProvider, TokenRequest};

/// The account as Microsoft Graph knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GraphUser {
    /// The object id.
    pub id: String,
    /// The name by which the person signs in.
    pub user_principal_name: String,
    /// The primary mail address; `None` for an account without a mailbox.
    #[serde(default)]
    pub mail: Option<String>,
    /// The display name.
    #[serde(default)]
    pub display_name: Option<String>,
}

impl GraphUser {
    /// Compares the account with the username that the mail server is told, without regard to case.
    ///
    /// # Errors
    /// [`AccountMismatch`] when it is neither the user principal name nor the primary mail address.
    pub fn check_username(&self, username: &str) -> Result<(), AccountMismatch> {
        let names: Vec<&str> =
            std::iter::once(self.user_principal_name.as_str()).chain(self.mail.as_deref()).collect();
        AccountMismatch::check(&names, username)
    }
}

impl App {
    /// Asks Microsoft Graph who signed in, with the same refresh token.
    ///
    /// Needs the permission `User.Read`, consented to in the sign-in (a device code asks for it with
    /// [`DeviceCode::scopes`](crate::oauth::DeviceCode::scopes) in a sign-in of its own). The rotated refresh token is
    /// saved in `store` as by [`refresh_token`](Self::refresh_token).
    ///
    /// ```
    /// use smtp_oauth::testing::FakeEntra;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let entra = FakeEntra::start().await;
    /// let me = entra.app().build()?.me(entra.store()).await?;
    /// assert!(me.check_username("SVC-mail@contoso.com").is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As a refresh; [`TokenErrorKind::RequestRefused`] when Graph refuses the token,
    /// [`TokenErrorKind::InvalidResponse`] when its answer is not one.
    pub async fn me(&self, store: impl TokenStore + 'static) -> Result<GraphUser, TokenError> {
        let scopes = [self.cloud().user_read_scope(), OFFLINE_ACCESS];
        let token = self.client().refresh_token(store, scopes).token(TokenRequest::new()).await?;
        let misset = |_| {
            TokenError::new(
                TokenErrorKind::Configuration,
                "the address of Microsoft Graph is no base of a URL",
            )
        };
        let base = match self.graph() {
            Some(base) => base.clone(),
            None => Url::parse(&format!("https://{}/", self.cloud().graph_host())).map_err(misset)?,
        };
        let url = base.join("v1.0/me").map_err(misset)?;
        let body = self.client().get("Microsoft Graph", &url, &token).await?;
        serde_json::from_slice(&body).map_err(|_| {
            let message = "Microsoft Graph did not say who the account is";
            TokenError::new(TokenErrorKind::InvalidResponse, message)
        })
    }
}
