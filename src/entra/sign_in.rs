//! The interactive sign-ins of an app registration, with the scopes that mail needs. Knows no protocol (see `oauth`).

use url::Url;

use super::app::{App, OFFLINE_ACCESS};
use crate::oauth::{AuthorizationCode, DeviceCode};

impl App {
    /// Signs a person in through Microsoft's page, which leads back to `redirect`.
    ///
    /// Asks for `SMTP.Send`, a refresh token and the account's name. Register `redirect` in the app registration under
    /// *Authentication*: `Web` for a server's (with a client secret), `http://localhost` under *Mobile and desktop
    /// applications* for [`AuthorizationCode::listen`] (without one). [`AuthorizationCode`] has an example.
    pub fn authorization_code(&self, redirect: Url) -> AuthorizationCode {
        self.client().authorization_code(redirect).scopes(self.mail_scopes())
    }

    /// As [`authorization_code`](Self::authorization_code), and lets the person consent to `User.Read` on the way, for
    /// [`me`](Self::me).
    pub fn authorization_code_with_profile(&self, redirect: Url) -> AuthorizationCode {
        self.authorization_code(redirect).consent_to([self.cloud().user_read_scope()])
    }

    /// Signs a person in with a code that is entered on another machine.
    ///
    /// Needs *Allow public client flows* in the app registration, *Authentication* (AADSTS7000218 otherwise). Conditional
    /// Access may forbid it; it cannot prove that a device is compliant. [`DeviceCode`] has an example.
    pub fn device_code(&self) -> DeviceCode {
        self.client().device_code().scopes(self.mail_scopes())
    }

    /// One resource only: an access token is for one, and a scope of Graph's would make it useless for mail.
    pub(super) fn mail_scopes(&self) -> [&'static str; 4] {
        [self.cloud().smtp_send_scope(), OFFLINE_ACCESS, "openid", "profile"]
    }
}
