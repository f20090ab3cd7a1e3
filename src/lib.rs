//! [office365]: crate::guide::office365
//! [settings]: crate::guide::settings
//! [observability]: crate::guide::observability
//! [performance]: crate::guide::performance
//! [testing]: crate::guide::testing
//! [migrating-from-lettre]: crate::guide::migrating_from_lettre
//! [troubleshooting]: crate::guide::troubleshooting
//! [security]: crate::guide::security
//! [design]: crate::guide::design
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(
    unreachable_pub,
    clippy::dbg_macro,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::todo,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod authentication;
#[cfg(feature = "blocking")]
pub mod blocking;
mod cause;
mod clock;
mod cloud;
mod config;
mod diagnose;
pub mod entra;
mod error;
#[cfg(any(doc, doctest))]
pub mod guide;
mod limits;
mod mailer;
pub mod oauth;
mod observe;
mod office365;
mod outcome;
mod pool;
mod powershell;
#[cfg(feature = "redis")]
mod redis_server;
mod remedy;
mod retry;
mod settings;
mod smtp;
mod tls;
pub mod token;

#[cfg(feature = "testing")]
pub mod testing;

pub use lettre;

pub use authentication::Authentication;
pub use cause::ReplyCause;
pub use clock::Clock;
pub use cloud::Cloud;
pub use config::{
    AuthenticationMethod, Chunking, ConfigError, ConfigProblem, ConnectionReuse, InitialResponse,
    MailProvider, MailServerConfig, SendingLimits, ServerBuilder, Timeouts, Tls, WhenReached,
};
pub use diagnose::{Diagnose, Diagnosis, DiagnosisStep, StepName, StepResult, diagnose};
pub use error::{Error, ErrorKind};
#[cfg(feature = "redis")]
pub use limits::RedisLimits;
pub use limits::{ReleaseFuture, Reservation, ReserveFuture, SharedLimits, SharedLimitsError};
pub use mailer::{
    Batch, BatchProgress, IntoSubmission, Mailer, MailerBuilder, Mailers, MailersBuilder, MailersStatus,
    SubmitOptions,
};
pub use office365::{Office365Profile, basic_authentication_retirement};
pub use outcome::{Disposition, Refusal, Submission};
pub use pool::PoolStatus;
pub use remedy::{Remedy, Who};
pub use retry::RetryPolicy;
pub use settings::{
    AuthenticationSettings, ClientCredential, Grant, ResolvedSettings, Settings, SharedLimitsSettings,
    TokenStoreSettings,
};
pub use smtp::{Dsn, EnhancedStatusCode, Notify, Phase, RecipientPolicy, Reply, ReturnContent};
pub use tls::{TlsError, TlsSettings, TlsVersion};
#[cfg(feature = "keyring")]
pub use token::store::KeyringStore;
#[cfg(feature = "redis")]
pub use token::store::RedisStore;
pub use token::store::{FileStore, MemoryStore, TokenStore};
pub use token::{
    AccessToken, TokenCache, TokenError, TokenErrorKind, TokenFuture, TokenNote, TokenProvider, TokenRequest,
};
