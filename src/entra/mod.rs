//! Microsoft Entra ID on top of `oauth`: tenants, clouds, app registrations, AADSTS codes. Knows nothing of SMTP.

mod aadsts;
mod app;
mod error;
mod remedy;
mod secret;
mod setup;
mod tenant;

pub use app::{App, AppBuilder};
pub use error::{AppError, AppProblem};
pub use remedy::remedy;

#[cfg(any(test, feature = "testing"))]
pub(crate) use aadsts::known as known_codes;
pub(crate) use remedy::remedy_for;
pub use secret::ClientSecret;
pub use setup::{SendingRight, setup_script};
pub use tenant::{Tenant, TenantError};
