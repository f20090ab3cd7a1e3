//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery), and servers known by heart. Sends nothing.

use serde::Deserialize;
use url::{Host, Url};

use super::client::{Client, ClientBuilder, is_loopback, is_trustworthy};
use super::discovery::DiscoveryError;

/// Where an authorization server's endpoints are.
///
/// Comes from [`Discovery`](super::Discovery), or is one of the servers known by heart:
///
/// ```
/// use smtp_oauth::MemoryStore;
/// use smtp_oauth::oauth::{ClientAuthentication, ServerMetadata};
///
/// let client = ServerMetadata::google()
///     .client("1234.apps.googleusercontent.com")
///     .authentication(ClientAuthentication::Post("client-secret".into()))
///     .build()?;
/// let tokens = client.refresh_token(MemoryStore::new(), [ServerMetadata::GOOGLE_MAIL_SCOPE]);
/// # Ok::<(), smtp_oauth::oauth::ClientError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMetadata {
    issuer: String,
    token_endpoint: Url,
    authorization_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    authentication_methods: Vec<String>,
}

/// The document, as far as it is read. An empty list of methods stands for the default (RFC 8414 §2).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<Url>,
    authorization_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl ServerMetadata {
    /// The scope for sending mail through Gmail.
    pub const GOOGLE_MAIL_SCOPE: &'static str = "https://mail.google.com/";

    /// The scope for sending mail through Yahoo and AOL.
    pub const YAHOO_MAIL_SCOPE: &'static str = "mail-w";

    /// Returns Google's endpoints, for Gmail and Google Workspace.
    ///
    /// Google gives a refresh token only to a sign-in with `access_type=offline`, and for each account once unless the
    /// sign-in asks for consent again. Sources: accounts.google.com/.well-known/openid-configuration,
    /// developers.google.com/identity/protocols/oauth2/web-server.
    ///
    /// ```
    /// use smtp_oauth::oauth::{ClientAuthentication, Prompt, ServerMetadata};
    ///
    /// let client = ServerMetadata::google()
    ///     .client("1234.apps.googleusercontent.com")
    ///     .authentication(ClientAuthentication::Post("client-secret".into()))
    ///     .build()?;
    /// let sign_in = client
    ///     .authorization_code("https://app.example.com/signed-in".parse()?)
    ///     .scopes([ServerMetadata::GOOGLE_MAIL_SCOPE, "openid", "email"])
    ///     .parameter("access_type", "offline")
    ///     .prompt(Prompt::Consent);
    /// assert_eq!(sign_in.start()?.url().host_str(), Some("accounts.google.com"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn google() -> Self {
        Self::known(
            "https://accounts.google.com",
            "https://oauth2.googleapis.com/token",
            "https://accounts.google.com/o/oauth2/v2/auth",
            Some("https://oauth2.googleapis.com/device/code"),
        )
    }

    /// Returns Yahoo's endpoints. Yahoo registers no new apps for mail without asking it first.
    ///
    /// Source: api.login.yahoo.com/.well-known/openid-configuration.
    pub fn yahoo() -> Self {
        Self::known(
            "https://api.login.yahoo.com",
            "https://api.login.yahoo.com/oauth2/get_token",
            "https://api.login.yahoo.com/oauth2/request_auth",
            None,
        )
    }

    /// Returns AOL's endpoints, which are Yahoo's under another host.
    pub fn aol() -> Self {
        Self::known(
            "https://api.login.aol.com",
            "https://api.login.aol.com/oauth2/get_token",
            "https://api.login.aol.com/oauth2/request_auth",
            None,
        )
    }

    #[allow(clippy::expect_used, reason = "the arguments are constants, and a test reads each")]
    fn known(issuer: &str, token: &str, authorization: &str, device: Option<&str>) -> Self {
        let url = |text| Url::parse(text).expect("a constant that a test reads");
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: url(token),
            authorization_endpoint: Some(url(authorization)),
            device_authorization_endpoint: device.map(url),
            authentication_methods: vec!["client_secret_post".to_owned(), "client_secret_basic".to_owned()],
        }
    }

    /// Reads the document that `issuer` serves, and believes nothing in it that `issuer` could not vouch for.
    pub(super) fn read(issuer: &Url, body: &[u8]) -> Result<Self, DiscoveryError> {
        let document: Document = serde_json::from_slice(body).map_err(|error| DiscoveryError::Malformed {
            host: host(issuer),
            line: error.line(),
            column: error.column(),
        })?;
        // RFC 8414 §3.3: a document about another issuer must not be used.
        if !is_same_issuer(issuer, &document.issuer) {
            return Err(DiscoveryError::IssuerMismatch {
                expected: shown(issuer.as_str()),
                found: shown(&document.issuer),
            });
        }
        let endpoint = |name, url: Option<Url>| match url {
            Some(url) if !is_credible(issuer, &url) => {
                Err(DiscoveryError::Endpoint { name, host: host(&url) })
            }
            url => Ok(url),
        };
        Ok(Self {
            token_endpoint: endpoint("token_endpoint", document.token_endpoint)?
                .ok_or_else(|| DiscoveryError::NoTokenEndpoint { host: host(issuer) })?,
            authorization_endpoint: endpoint("authorization_endpoint", document.authorization_endpoint)?,
            device_authorization_endpoint: endpoint(
                "device_authorization_endpoint",
                document.device_authorization_endpoint,
            )?,
            issuer: document.issuer,
            authentication_methods: document.token_endpoint_auth_methods_supported,
        })
    }

    /// Starts a client for this server, with its pages for signing in as far as it has them.
    pub fn client(&self, client_id: impl Into<String>) -> ClientBuilder {
        let mut client = Client::builder(self.token_endpoint.clone(), client_id);
        if let Some(endpoint) = &self.authorization_endpoint {
            client = client.authorization_endpoint(endpoint.clone());
        }
        if let Some(endpoint) = &self.device_authorization_endpoint {
            client = client.device_authorization_endpoint(endpoint.clone());
        }
        client
    }

    /// Returns the issuer as the server writes it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the token endpoint.
    pub fn token_endpoint(&self) -> &Url {
        &self.token_endpoint
    }

    /// Returns the authorization endpoint, where a person signs in.
    pub fn authorization_endpoint(&self) -> Option<&Url> {
        self.authorization_endpoint.as_ref()
    }

    /// Returns the device authorization endpoint (RFC 8628 §4).
    pub fn device_authorization_endpoint(&self) -> Option<&Url> {
        self.device_authorization_endpoint.as_ref()
    }

    /// Returns how clients may prove who they are, such as `client_secret_post`; empty when the server does not say,
    /// which means `client_secret_basic` (RFC 8414 §2).
    pub fn authentication_methods(&self) -> &[String] {
        &self.authentication_methods
    }
}

/// Tells whether the document's issuer is the one that was asked, character for character but for a slash that `Url`
/// adds to a bare host, and for Entra's template.
fn is_same_issuer(issuer: &Url, found: &str) -> bool {
    let asked = issuer.as_str();
    let bare = issuer.path() == "/" && issuer.query().is_none();
    asked == found || (bare && asked.strip_suffix('/') == Some(found)) || is_template_of(issuer, found)
}

/// Entra's documents for `common`, `organizations` and `consumers` name no tenant but a place for one.
fn is_template_of(issuer: &Url, found: &str) -> bool {
    let groups = ["/common/", "/organizations/", "/consumers/"];
    groups.iter().any(|group| {
        issuer.path().starts_with(group) && issuer.as_str().replacen(group, "/{tenantid}/", 1) == found
    })
}

/// A server on the net must not make this program send secrets, or anything at all, into its own network.
fn is_credible(issuer: &Url, endpoint: &Url) -> bool {
    if !is_trustworthy(endpoint) {
        return false;
    }
    // Names that only a network of one's own resolves. What a public name resolves to is not checked.
    let is_name = endpoint.host_str().map(|name| name.trim_end_matches('.')).is_some_and(|name| {
        let is_private = [".localhost", ".internal", ".local"].iter().any(|suffix| name.ends_with(suffix));
        matches!(endpoint.host(), Some(Host::Domain(_))) && name.contains('.') && !is_private
    });
    let is_elsewhere = endpoint.host() != issuer.host();
    is_loopback(issuer)
        || (endpoint.scheme() == "https" && !(is_elsewhere && (is_loopback(endpoint) || !is_name)))
}

pub(super) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// A server's words must not break a line of a log.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_known_by_heart_are_credible() {
        for server in [ServerMetadata::google(), ServerMetadata::yahoo(), ServerMetadata::aol()] {
            let issuer = Url::parse(server.issuer()).unwrap();
            assert!(is_credible(&issuer, server.token_endpoint()));
            assert!(is_credible(&issuer, server.authorization_endpoint().unwrap()));
        }
    }

    #[test]
    fn an_issuer_is_itself_and_nothing_near_it() {
        let entra = "https://login.microsoftonline.com/common/v2.0";
        let cases = [
            ("https://accounts.google.com", "https://accounts.google.com", true),
            ("https://accounts.google.com", "https://accounts.google.com/", true),
            ("https://a.example/realms/one", "https://a.example/realms/one", true),
            ("https://a.example/realms/one", "https://a.example/realms/one/", false),
            ("https://a.example/realms/one", "https://a.example/realms/two", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://A.example", false),
            (entra, "https://login.microsoftonline.com/{tenantid}/v2.0", true),
            (entra, "https://login.microsoftonline.us/{tenantid}/v2.0", false),
            ("https://a.example/contoso.com/v2.0", "https://a.example/{tenantid}/v2.0", false),
        ];
        for (asked, found, expected) in cases {
            assert_eq!(is_same_issuer(&Url::parse(asked).unwrap(), found), expected, "{asked} {found}");
        }
    }

    #[test]
    fn endpoints_lead_to_names_on_the_net_over_https() {
        let cases = [
            ("https://a.example", "https://a.example/token", true),
            ("https://a.example", "https://b.example/token", true),
            ("https://a.example", "http://a.example/token", false),
            ("https://a.example", "https://169.254.169.254/token", false),
            ("https://a.example", "https://[::1]/token", false),
            ("https://a.example", "https://localhost/token", false),
            ("https://a.example", "http://127.0.0.1/token", false),
            ("https://a.example", "https://intranet/token", false),
            ("https://a.example", "https://user:password@a.example/token", false),
            ("https://10.0.0.7", "https://10.0.0.7/token", true),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/token", true),
            ("http://127.0.0.1:8080", "http://a.example/token", false),
        ];
        for (issuer, endpoint, expected) in cases {
            let (issuer, endpoint) = (Url::parse(issuer).unwrap(), Url::parse(endpoint).unwrap());
            assert_eq!(is_credible(&issuer, &endpoint), expected, "{issuer} {endpoint}");
        }
    }
}
