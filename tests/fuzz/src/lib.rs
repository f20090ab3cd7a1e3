//! The properties of `tests/properties`, for the fuzz targets.

#[path = "../../properties/answer.rs"]
pub mod answer;
#[path = "../../properties/callback.rs"]
pub mod callback;
#[path = "../../properties/discovery.rs"]
pub mod discovery;
#[path = "../../properties/message.rs"]
pub mod message;
#[path = "../../properties/patience.rs"]
pub mod patience;
#[path = "../../properties/server.rs"]
pub mod server;
#[path = "../../properties/session.rs"]
pub mod session;
#[path = "../../properties/settings.rs"]
pub mod settings;
#[path = "../../properties/token_endpoint.rs"]
pub mod token_endpoint;
