//! The mailer under test, set up for the servers, and who provides its tokens. Sends nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::{
    AccessToken, Authentication, Chunking, MailServerConfig, Mailer, RetryPolicy, ServerBuilder, TokenFuture,
    TokenProvider, TokenRequest,
};
use time::{Duration, OffsetDateTime};

use crate::{BOSS, Servers, Service};

/// A port, and whether messages go there in chunks where it lets them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) service: Service,
    pub(crate) chunking: Chunking,
}

impl Way {
    /// Every way that changes what goes over the wire.
    pub(crate) const ALL: [Self; 6] = [
        Self { service: Service::Submission, chunking: Chunking::Auto },
        Self { service: Service::Submission, chunking: Chunking::Off },
        Self { service: Service::NoChunking, chunking: Chunking::Auto },
        Self { service: Service::NoPipelining, chunking: Chunking::Auto },
        Self { service: Service::Minimal, chunking: Chunking::Auto },
        Self { service: Service::Minimal, chunking: Chunking::Off },
    ];

    /// A mailer that goes this way and signs in with a token, which the servers accept.
    pub(crate) fn mailer(self, servers: &Servers) -> Mailer {
        let settings = settings(servers, self.service).chunking(self.chunking);
        servers.tokens().accept("a-good-token", BOSS);
        mailer_with(settings, Issuer::new(&["a-good-token"]).authentication())
    }
}

/// Settings for one of the ports, open for more.
pub(crate) fn settings(servers: &Servers, service: Service) -> ServerBuilder<MailServerConfig> {
    MailServerConfig::builder()
        .host("localhost")
        .port(servers.port(service))
        .username(BOSS)
        .extra_roots(servers.ca_pem())
        .without_platform_roots()
}

/// A mailer that signs in with a token, which the servers accept.
pub(crate) fn mailer(servers: &Servers, service: Service) -> Mailer {
    Way { service, chunking: Chunking::Auto }.mailer(servers)
}

/// A mailer that tries once, so that what the test sees is the first answer.
pub(crate) fn mailer_with(
    settings: ServerBuilder<MailServerConfig>,
    authentication: Authentication,
) -> Mailer {
    let config = settings.build().expect("settings");
    Mailer::builder(config)
        .authentication(authentication)
        .retry(RetryPolicy::never())
        .build()
        .expect("mailer")
}

/// Checks that one mailer for each of [`Way::ALL`], closed by now, has used a single connection.
pub(crate) fn assert_one_session_each_way(servers: &Servers) {
    for service in Way::ALL.map(|way| way.service) {
        let count = Way::ALL.iter().filter(|way| way.service == service).count();
        let sessions = servers.sessions(service, count);
        assert_eq!(sessions.len(), count, "{service:?}: {sessions:?}");
    }
}

/// From [`BOSS`] to whom it may concern, at example.test unless they say otherwise.
pub(crate) fn envelope<S: AsRef<str>>(recipients: impl IntoIterator<Item = S>) -> Envelope {
    let address = |name: S| match name.as_ref() {
        address if address.contains('@') => address.parse().expect("address"),
        name => format!("{name}@example.test").parse().expect("address"),
    };
    let recipients = recipients.into_iter().map(address).collect();
    Envelope::new(Some(BOSS.parse().expect("address")), recipients).expect("envelope")
}

/// A short message, told from others by its subject.
pub(crate) fn note(subject: &str) -> Vec<u8> {
    format!("Subject: {subject}\r\n\r\nA note.\r\n").into_bytes()
}

/// Provides its tokens one after the other, then the last one again and again; counts how often it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    tokens: Arc<[String]>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub(crate) fn new(tokens: &[&str]) -> Self {
        Self { tokens: tokens.iter().map(ToString::to_string).collect(), asked: Arc::default() }
    }

    pub(crate) fn authentication(&self) -> Authentication {
        Authentication::oauth(self.clone())
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl TokenProvider for Issuer {
    fn token<'a>(&'a self, _request: TokenRequest<'a>) -> TokenFuture<'a> {
        let at = self.asked.fetch_add(1, Ordering::SeqCst).min(self.tokens.len() - 1);
        let expires_at = OffsetDateTime::now_utc() + Duration::HOUR;
        TokenFuture::ready(AccessToken::new(self.tokens[at].clone(), expires_at))
    }
}
