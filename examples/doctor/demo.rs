//! Faults of a tenant, staged on the fakes of Entra ID and Exchange Online. Shows nothing and repairs nothing.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use smtp_oauth::testing::{FakeMicrosoft365, Fault, FaultPoint, TestAuthority, TokenFault};
use smtp_oauth::{Authentication, Mailer, Office365Profile, RetryPolicy};
use tokio::net::TcpSocket;

/// What can be shown: the name on the command line, what is wrong, and how it is staged.
pub struct Demo {
    pub name: &'static str,
    pub about: &'static str,
    staged: Staged,
}

#[derive(Clone, Copy)]
enum Staged {
    Healthy,
    /// Exchange Online answers this at that point.
    Reply(FaultPoint, &'static str),
    /// The same to somebody who signs in with a password.
    ReplyToPassword(&'static str),
    /// Entra ID refuses with this AADSTS code.
    Aadsts(u32),
    TokenEndpointDown,
    TokenEndpointThrottled,
    CaptivePortal,
    WrongSecret,
    WrongAccount,
    AppOnlyNotRegistered,
    SendAsDenied,
    StartTlsStripped,
    UntrustedCertificate,
    Unreachable,
}

const fn demo(name: &'static str, about: &'static str, staged: Staged) -> Demo {
    Demo { name, about, staged }
}

pub const DEMOS: &[Demo] = &[
    demo("healthy", "nothing is wrong", Staged::Healthy),
    demo(
        "smtp-auth-disabled-tenant",
        "Authenticated SMTP is off for the whole tenant",
        Staged::Reply(
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [AM0PR01CA0001.eurprd01.prod.exchangelabs.com 2026-01-27T11:46:49.042Z 08DCA18218166FB4]",
        ),
    ),
    demo(
        "smtp-auth-disabled-mailbox",
        "Authenticated SMTP is off for the mailbox",
        Staged::Reply(
            FaultPoint::Auth,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.",
        ),
    ),
    demo(
        "send-as-denied",
        "the account may not send as the sender; seen after the message",
        Staged::SendAsDenied,
    ),
    demo("client-secret-expired", "the app's client secret has expired", Staged::Aadsts(7_000_222)),
    demo("client-secret-wrong", "the client secret was replaced in Entra ID", Staged::WrongSecret),
    demo("consent-missing", "nobody has consented to the app", Staged::Aadsts(65_001)),
    demo("sign-in-expired", "the stored sign-in has expired", Staged::Aadsts(700_082)),
    demo("conditional-access", "a Conditional Access policy blocks the account", Staged::Aadsts(53_003)),
    demo("wrong-account", "the token belongs to another account than the user name", Staged::WrongAccount),
    demo(
        "app-only-not-registered",
        "the app has no service principal in Exchange",
        Staged::AppOnlyNotRegistered,
    ),
    demo(
        "basic-auth-retired",
        "a password, after Microsoft has removed them for SMTP",
        Staged::ReplyToPassword("550 5.7.30 Basic authentication is not supported for Client Submission."),
    ),
    demo(
        "security-defaults",
        "a password, with the tenant's security defaults on",
        Staged::ReplyToPassword(
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.",
        ),
    ),
    demo(
        "recipient-unknown",
        "the test recipient does not exist",
        Staged::Reply(
            FaultPoint::Rcpt,
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        ),
    ),
    demo(
        "throttled",
        "too many connections of the mailbox at once; seen after the message",
        Staged::Reply(
            FaultPoint::Body,
            "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information. [Hostname=AM0PR01MB0001.eurprd01.prod.exchangelabs.com]",
        ),
    ),
    demo("token-endpoint-down", "the sign-in service has an outage", Staged::TokenEndpointDown),
    demo(
        "token-endpoint-throttled",
        "the sign-in service throttles the tenant",
        Staged::TokenEndpointThrottled,
    ),
    demo("captive-portal", "a captive portal answers in place of the sign-in service", Staged::CaptivePortal),
    demo("starttls-stripped", "something on the way removes STARTTLS", Staged::StartTlsStripped),
    demo(
        "wrong-certificate",
        "a proxy opens TLS with a certificate of its own",
        Staged::UntrustedCertificate,
    ),
    demo("server-unreachable", "nothing listens at the port of the settings", Staged::Unreachable),
];

/// The settings as somebody has entered them.
pub struct Entered {
    pub host: String,
    pub port: u16,
    pub roots: String,
    pub username: String,
    pub sender: String,
    pub sign_in: SignIn,
}

/// How the program signs in.
pub enum SignIn {
    /// With a stored sign-in and this client secret.
    OAuth {
        client_secret: Option<String>,
    },
    /// The app as itself, with its client secret: nobody has signed in.
    AppOnly,
    Password(String),
}

/// A tenant with its fault, and the settings of a program that meets it.
pub struct Stage {
    pub tenant: FakeMicrosoft365,
    pub entered: Entered,
    /// The fault shows only when a message is sent.
    pub sends_test: bool,
    silent: Option<TcpSocket>,
}

impl Demo {
    pub fn find(name: &str) -> Option<&'static Self> {
        DEMOS.iter().find(|demo| demo.name == name)
    }

    /// Starts the fakes and lets the fault in.
    pub async fn stage(&self) -> Result<Stage, Box<dyn Error>> {
        let tenant = FakeMicrosoft365::start().await;
        let entered = Entered {
            host: tenant.exchange().host().to_owned(),
            port: tenant.exchange().port(),
            roots: tenant.exchange().root_pem().to_owned(),
            username: tenant.account(),
            sender: tenant.account(),
            sign_in: SignIn::OAuth { client_secret: tenant.entra().client_secret() },
        };
        let mut stage = Stage { tenant, entered, sends_test: false, silent: None };
        stage.spoil(self.staged)?;
        Ok(stage)
    }
}

impl Stage {
    fn spoil(&mut self, staged: Staged) -> Result<(), Box<dyn Error>> {
        let Self { tenant, entered, sends_test, silent } = self;
        let (entra, exchange) = (tenant.entra(), tenant.exchange());
        let wait = Duration::from_secs(60);
        match staged {
            Staged::Healthy => {}
            Staged::Reply(phase, reply) => {
                exchange.inject(phase, Fault::reply(reply).always());
                *sends_test = phase == FaultPoint::Body;
            }
            Staged::ReplyToPassword(reply) => {
                exchange.inject(FaultPoint::Auth, Fault::reply(reply).always());
                entered.sign_in = SignIn::Password("a-password-of-the-demo".to_owned());
            }
            Staged::Aadsts(code) => entra.fail_next(99, TokenFault::Aadsts(code)),
            Staged::TokenEndpointDown => entra.fail_next(99, TokenFault::UnavailableWithRetryAfter(wait)),
            Staged::TokenEndpointThrottled => entra.fail_next(99, TokenFault::ThrottledWithRetryAfter(wait)),
            Staged::CaptivePortal => entra.fail_next(99, TokenFault::Html),
            Staged::WrongSecret => entra.replace_client_secret("fak8Q~the-new-secret-of-the-fake"),
            Staged::WrongAccount => "alerts@contoso.com".clone_into(&mut entered.username),
            Staged::AppOnlyNotRegistered => {
                let refused = "535 5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.exchangelabs.com 2026-01-27T11:46:49.042Z 08DCA18218166FB4]";
                exchange.inject(FaultPoint::Auth, Fault::reply(refused).always());
                entered.sign_in = SignIn::AppOnly;
            }
            Staged::SendAsDenied => {
                "alerts@contoso.com".clone_into(&mut entered.sender);
                let denied = format!(
                    "554 5.2.252 SendAsDenied; {} not allowed to send as {}; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception",
                    entered.username, entered.sender
                );
                exchange.inject(FaultPoint::Body, Fault::reply(denied).always());
                *sends_test = true;
            }
            Staged::StartTlsStripped => {
                let offer =
                    "250-AM0PR01CA0001.outlook.office365.com Hello\n250-SIZE 157286400\n250 PIPELINING";
                exchange.inject(FaultPoint::Ehlo, Fault::reply(offer).always());
            }
            Staged::UntrustedCertificate => TestAuthority::new().root_pem().clone_into(&mut entered.roots),
            Staged::Unreachable => {
                // Bound and never listening: refused, and nobody else gets the port meanwhile.
                let socket = TcpSocket::new_v4()?;
                socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
                entered.port = socket.local_addr()?.port();
                *silent = Some(socket);
            }
        }
        Ok(())
    }

    /// Builds the mailer of a program that has these settings and a fresh sign-in.
    pub fn mailer(&self) -> Result<Mailer, Box<dyn Error>> {
        let Entered { host, port, roots, username, sender, sign_in } = &self.entered;
        let entra = self.tenant.entra();
        let profile = Office365Profile::builder()
            .host(host)
            .port(*port)
            .extra_roots(roots)
            .without_platform_roots()
            .username(username)
            .sender(sender)
            .test_recipient("admin@contoso.com")
            .build();
        let authentication = match sign_in {
            SignIn::OAuth { client_secret } => {
                let app =
                    client_secret.iter().fold(entra.app(), |app, secret| app.client_secret(secret.as_str()));
                Authentication::oauth(app.build()?.refresh_token(entra.store()))
            }
            SignIn::AppOnly => Authentication::oauth(entra.app().build()?.client_credentials()),
            SignIn::Password(password) => Authentication::basic(password.as_str()),
        };
        let builder = Mailer::builder(profile?).authentication(authentication);
        Ok(builder.retry(RetryPolicy::never()).build()?)
    }
}
