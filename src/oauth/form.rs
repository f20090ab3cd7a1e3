//! Forms that the `oauth2` crate does not send: to the device endpoint, and a single poll. Decides nothing.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use oauth2::AsyncHttpClient;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use url::Url;

use super::client::{Client, ClientAuthentication};
use super::error::{Attempt, ErrorBody, Failure};
use super::http::{HttpRequest, HttpResponse};
use super::tap::{Exchange, Tap};
use crate::token::{TokenError, TokenErrorKind};

/// An answer, read as `T` or as a refusal.
pub(super) struct Answered<T> {
    pub(super) result: Result<T, Failure>,
    pub(super) exchange: Exchange,
}

impl Client {
    /// Posts `parameters` and the client's own to `endpoint`, once.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        endpoint: &Url,
        parameters: &[(&str, &str)],
        attempt: &Attempt<'_>,
    ) -> Answered<T> {
        self.expiry().check(self.clock(), self.client_id());
        let unsent =
            |error: TokenError| Answered { result: Err(error.into()), exchange: Exchange::default() };
        let request = match self.form(endpoint, parameters) {
            Ok(request) => request,
            Err(error) => return unsent(error),
        };
        let assertion = match self.assertion().await {
            Ok(assertion) => assertion,
            Err(error) => return unsent(error),
        };
        let attempt = attempt.hiding(assertion.as_ref().map(ExposeSecret::expose_secret));
        let tap = Tap::new(Arc::clone(self.http()), self.clock().clone()).with_assertion(assertion.clone());
        let response = tap.call(request).await;
        let exchange = tap.exchange();
        let result = match response {
            Ok(response) => read(&response, &attempt, &exchange).map_err(Failure::from),
            Err(error) => Err(attempt.unanswered(error, &exchange)),
        };
        Answered { result, exchange }
    }

    fn form(&self, endpoint: &Url, parameters: &[(&str, &str)]) -> Result<HttpRequest, TokenError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters);
        let mut request = http::Request::post(endpoint.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        match self.authentication() {
            ClientAuthentication::None | ClientAuthentication::PrivateKeyJwt(_) => {
                form.append_pair("client_id", self.client_id());
            }
            ClientAuthentication::Post(secret) => {
                form.append_pair("client_id", self.client_id());
                form.append_pair("client_secret", secret.expose_secret());
            }
            ClientAuthentication::Basic(secret) => {
                // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
                let encoded =
                    |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(self.client_id()), encoded(secret.expose_secret()));
                request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
            }
        }
        request.body(form.finish().into_bytes()).map_err(|_| {
            TokenError::new(TokenErrorKind::Configuration, "the endpoint's URL cannot be requested")
        })
    }
}

fn read<T: DeserializeOwned>(
    response: &HttpResponse,
    attempt: &Attempt<'_>,
    exchange: &Exchange,
) -> Result<T, TokenError> {
    if response.status().is_success() {
        // The parser's message may quote the body, so it is not kept.
        return serde_json::from_slice(response.body())
            .map_err(|_| attempt.invalid("JSON that is no answer to it", exchange));
    }
    match serde_json::from_slice::<ErrorBody>(response.body()) {
        Ok(body) => Err(attempt.refused(&body, exchange)),
        Err(_) => Err(attempt.invalid("an error that is not JSON", exchange)),
    }
}
