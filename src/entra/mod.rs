//! Microsoft Entra ID on top of `oauth`: tenants, clouds, app registrations, AADSTS codes. Knows nothing of SMTP.

mod aadsts;
mod account;
mod app;
#[cfg(feature = "azure")]
mod azure;
mod consent;
mod error;
mod graph;
mod permissions;
mod remedy;
mod secret;
mod setup;
mod sign_in;
mod tenant;

pub use crate::oauth::{AccountMismatch, MissingScope};
pub use account::Account;
pub use app::{App, AppBuilder};
#[cfg(feature = "azure")]
pub use azure::AzureCredential;
pub use consent::{AdminConsent, ConsentTenantError};
pub use error::{AppError, AppProblem};
pub use graph::GraphUser;
pub use permissions::{required_resource_access, send_as_app_permission};
pub use remedy::remedy;

#[cfg(any(test, feature = "testing"))]
pub(crate) use aadsts::known as known_codes;
pub(crate) use remedy::remedy_for;
pub use secret::ClientSecret;
pub use setup::{SendingRight, setup_script};
pub(crate) use tenant::is_guid;
pub use tenant::{Tenant, TenantError};
