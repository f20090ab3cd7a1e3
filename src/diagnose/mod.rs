//! Walks the way of a message step by step and says what each step shows: settings, network, TLS, token, sign-in, envelope.
//! Takes the mailer's own code path; classifies nothing itself.

mod claims;
mod report;

use std::time::Duration;

use crate::authentication::Method;
use crate::clock::Moment;
use crate::config::{MailProvider, Tls};
use crate::error::Error;
use crate::mailer::Mailer;
use crate::pool::Checkout;
use crate::smtp::Phase;
use crate::smtp::connection::Connection;
use crate::smtp::facts::{Facts, Observer};
use crate::token::{AccessToken, TokenRequest};

pub use report::{Diagnosis, DiagnosisStep, StepName, StepResult};

/// Checks a mailer's settings against the real servers; sends no message.
///
/// For a test message at the end, or to show the steps as they are done, see [`Diagnose`].
///
/// ```
/// use smtp_oauth::{diagnose, testing::FakeMicrosoft365};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let tenant = FakeMicrosoft365::start().await;
/// let diagnosis = diagnose(&tenant.mailer()).await;
/// assert!(diagnosis.is_healthy(), "{diagnosis}");
/// # }
/// ```
///
/// # Cancellation
/// A dropped future closes its connections.
pub async fn diagnose(mailer: &Mailer) -> Diagnosis {
    Diagnose::new(mailer).run().await
}

/// A diagnosis to be made.
pub struct Diagnose<'a> {
    mailer: &'a Mailer,
    test_message: TestMessage,
    on_step: Box<dyn FnMut(&DiagnosisStep) + Send + 'a>,
    steps: Vec<DiagnosisStep>,
    started: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestMessage {
    Sent,
    NotSent,
}

impl std::fmt::Debug for Diagnose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mailer, test_message, on_step: _, steps, started: _ } = self;
        f.debug_struct("Diagnose")
            .field("mailer", mailer)
            .field("test_message", test_message)
            .field("steps", steps)
            .finish()
    }
}

impl<'a> Diagnose<'a> {
    /// Prepares a diagnosis that sends no message.
    pub fn new(mailer: &'a Mailer) -> Self {
        let started = mailer.endpoint().clock.moment();
        Self {
            mailer,
            test_message: TestMessage::NotSent,
            on_step: Box::new(|_| {}),
            steps: Vec::new(),
            started,
        }
    }

    /// Sends the test message at the end, if everything before has passed.
    #[must_use]
    pub fn send_test(mut self) -> Self {
        self.test_message = TestMessage::Sent;
        self
    }

    /// Calls `show` with each step as soon as it is done.
    #[must_use]
    pub fn on_step(mut self, show: impl FnMut(&DiagnosisStep) + Send + 'a) -> Self {
        self.on_step = Box::new(show);
        self
    }

    /// Makes the diagnosis. A step that fails does not end it as long as something can still be learnt.
    ///
    /// # Cancellation
    /// A dropped future closes its connections.
    pub async fn run(mut self) -> Diagnosis {
        self.settings();
        let reached = self.connection().await;
        let token = self.token().await;
        let checkout = match (reached, token) {
            (Reached::Ehlo, Ok(())) => self.sign_in().await,
            (Reached::Ehlo, Err(())) => self.skip(StepName::Authentication, "there is no access token"),
            (Reached::NotEhlo, _) => self.skip(StepName::Authentication, "the server was not reached"),
        };
        match checkout {
            Some(checkout) => self.envelope(checkout).await,
            None => {
                let _: Option<()> = self.skip(StepName::Envelope, "nobody is signed in");
            }
        }
        self.test_message().await;
        Diagnosis::new(self.steps)
    }

    fn settings(&mut self) {
        self.started = self.now();
        let config = self.mailer.config();
        let test = config.test_recipient().map_or("none".to_owned(), |mailbox| mailbox.email.to_string());
        let finding = format!(
            "{}:{} ({}), user {}, sender {}, test recipient {test}, {}",
            config.host(),
            config.port(),
            config.tls().name(),
            config.username(),
            config.sender().email,
            self.mailer.method().name(),
        );
        let warnings = self.mailer.warnings();
        match warnings.is_empty() {
            true => self.record(StepName::Settings, StepResult::Passed, finding, None),
            false => self.record(
                StepName::Settings,
                StepResult::Warning,
                format!("{finding}; {}", warnings.join("; ")),
                None,
            ),
        }
    }

    /// Resolves, connects, encrypts and greets, and reports each.
    async fn connection(&mut self) -> Reached {
        let observer = Observer::watching();
        let endpoint = self.mailer.endpoint().observed_by(observer.clone());
        let result = Connection::open(endpoint, self.deadline()).await;
        let facts = observer.facts();
        let failed = match result {
            Ok(connection) => {
                connection.quit().await;
                None
            }
            Err(failure) => Some((failure.phase, self.mailer.explained(failure.into(), None))),
        };
        let mut failed = failed.map(|(phase, error)| (step_of(phase), error));
        for name in [StepName::Resolve, StepName::Connect, StepName::Tls, StepName::Ehlo] {
            match (&failed, self.found(name, &facts)) {
                (_, Some((finding, result))) => {
                    self.record_timed(name, result, finding, time_of(name, &facts));
                }
                (Some((step, _)), None) if *step == name => {
                    if let Some((_, error)) = failed.take() {
                        self.failure(name, &error);
                        failed = Some((name, error));
                    }
                }
                (_, None) => {
                    let _: Option<()> = self.skip(name, "not reached");
                }
            }
        }
        if failed.is_some() { Reached::NotEhlo } else { Reached::Ehlo }
    }

    /// Puts into words what was learnt of a step of the connection that came to its end.
    fn found(&self, name: StepName, facts: &Facts) -> Option<(String, StepResult)> {
        let config = self.mailer.config();
        let passed = |finding| Some((finding, StepResult::Passed));
        let is_done = |phase| facts.phases.iter().any(|(done, _)| *done == phase);
        match name {
            StepName::Resolve if is_done(Phase::Resolve) => {
                let addresses: Vec<_> =
                    facts.addresses.iter().map(|address| address.ip().to_string()).collect();
                passed(format!("{} is {}", config.host(), addresses.join(", ")))
            }
            StepName::Connect if is_done(Phase::Connect) => passed(format!("port {} is open", config.port())),
            StepName::Tls if config.tls() == Tls::LoopbackPlaintext && is_done(Phase::Ehlo) => {
                Some(("none, to a server on this machine".to_owned(), StepResult::Skipped))
            }
            StepName::Tls => facts.tls.as_ref().and_then(|tls| {
                let certificates = match tls.chain.len() {
                    1 => "1 certificate".to_owned(),
                    count => format!("{count} certificates"),
                };
                passed(format!(
                    "{}, {}, {certificates}, valid for {}",
                    tls.version,
                    tls.cipher_suite,
                    config.host()
                ))
            }),
            StepName::Ehlo => facts.offered.as_ref().and_then(|offered| {
                let mechanisms = match offered.mechanisms.is_empty() {
                    true => "no way to sign in".to_owned(),
                    false => format!("AUTH {}", offered.mechanisms.join(" ")),
                };
                let size = offered.size.map(|size| format!("SIZE {size}"));
                let extensions = [(offered.pipelining, "PIPELINING"), (offered.chunking, "CHUNKING")];
                let extensions =
                    extensions.iter().filter(|(offered, _)| *offered).map(|(_, name)| (*name).to_owned());
                let all: Vec<_> = [mechanisms].into_iter().chain(extensions).chain(size).collect();
                passed(format!("the server offers {}", all.join(", ")))
            }),
            _ => None,
        }
    }

    async fn token(&mut self) -> Result<(), ()> {
        self.started = self.now();
        let Method::OAuth(provider) = self.mailer.authentication() else {
            let _: Option<()> = self.skip(StepName::Token, "a password needs none");
            return Ok(());
        };
        let provider = provider.clone();
        let clock = self.mailer.endpoint().clock.clone();
        let fetched = clock.until(self.deadline(), provider.token(TokenRequest::new())).await;
        match fetched {
            Ok(Ok(token)) => {
                let (result, finding) = self.describe(&token);
                self.record(StepName::Token, result, finding, None);
                Ok(())
            }
            Ok(Err(error)) => {
                self.failure(StepName::Token, &self.mailer.explained(error.into(), None));
                Err(())
            }
            Err(_) => {
                let error = Error::overdue(Phase::Token, self.mailer.config().timeouts().total());
                self.failure(StepName::Token, &self.mailer.explained(error, None));
                Err(())
            }
        }
    }

    /// Says until when the token is good, and what stands in it if it can be read.
    fn describe(&self, token: &AccessToken) -> (StepResult, String) {
        let left = token.expires_at() - self.mailer.endpoint().clock.now();
        let mut finding = format!("expires in {} minutes", left.whole_minutes());
        if !token.scopes().is_empty() {
            finding.push_str(&format!(", granted {}", token.scopes().join(" ")));
        }
        let MailProvider::Exchange(_) = self.mailer.config().provider() else {
            return (StepResult::Passed, finding);
        };
        let doubts = claims::doubts(token, self.mailer.config().username());
        match doubts.is_empty() {
            true => (StepResult::Passed, finding),
            false => (StepResult::Warning, format!("{finding}; {}", doubts.join("; "))),
        }
    }

    async fn sign_in(&mut self) -> Option<Checkout> {
        self.started = self.now();
        match self.mailer.pool().checkout_new(self.deadline()).await {
            Ok(checkout) => {
                let finding = format!("signed in as {}", self.mailer.config().username());
                self.record(StepName::Authentication, StepResult::Passed, finding, None);
                Some(checkout)
            }
            Err(error) => {
                self.failure(StepName::Authentication, &self.mailer.explained(error, None));
                None
            }
        }
    }

    async fn envelope(&mut self, mut checkout: Checkout) {
        self.started = self.now();
        let config = self.mailer.config();
        let (sender, recipient) =
            (&config.sender().email, config.test_recipient().map(|mailbox| &mailbox.email));
        let result = checkout.connection.probe(sender, recipient).await;
        checkout.connection.quit().await;
        match result {
            Ok(_) => {
                let recipient =
                    recipient.map(|recipient| format!(", and mail to {recipient}")).unwrap_or_default();
                let finding = format!("the server takes mail from {sender}{recipient}; nothing was sent");
                self.record(StepName::Envelope, StepResult::Passed, finding, None);
            }
            Err(failure) => {
                let error = self.mailer.explained(failure.into(), Some(sender));
                self.failure(StepName::Envelope, &error);
            }
        }
    }

    async fn test_message(&mut self) {
        let _: Option<()> = match self.test_message {
            TestMessage::NotSent => self.skip(StepName::TestMessage, "not asked for"),
            TestMessage::Sent if self.steps.iter().any(|step| step.result() == StepResult::Failed) => {
                self.skip(StepName::TestMessage, "a step before it failed")
            }
            TestMessage::Sent => {
                self.started = self.now();
                match self.mailer.send_test().await {
                    Ok(submission) => {
                        let finding = format!("accepted: {}", submission.reply());
                        self.record(StepName::TestMessage, StepResult::Passed, finding, None);
                    }
                    Err(error) => self.failure(StepName::TestMessage, &error),
                }
                None
            }
        };
    }

    fn failure(&mut self, name: StepName, error: &Error) {
        self.record(name, StepResult::Failed, report::finding_of(error), error.remedy());
    }

    fn skip<T>(&mut self, name: StepName, why: &str) -> Option<T> {
        self.record_timed(name, StepResult::Skipped, why.to_owned(), Duration::ZERO);
        None
    }

    fn record(
        &mut self,
        name: StepName,
        result: StepResult,
        finding: String,
        remedy: Option<crate::remedy::Remedy>,
    ) {
        let took = self.now().since(self.started);
        self.push(DiagnosisStep::new(name, result, took, finding, remedy));
    }

    fn record_timed(&mut self, name: StepName, result: StepResult, finding: String, took: Duration) {
        self.push(DiagnosisStep::new(name, result, took, finding, None));
        self.started = self.now();
    }

    fn push(&mut self, step: DiagnosisStep) {
        (self.on_step)(&step);
        self.steps.push(step);
    }

    fn now(&self) -> Moment {
        self.mailer.endpoint().clock.moment()
    }

    fn deadline(&self) -> Moment {
        self.now().after(self.mailer.config().timeouts().total())
    }
}

/// How far the connection came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Ehlo,
    NotEhlo,
}

/// The step to which a phase of the connection belongs.
fn step_of(phase: Phase) -> StepName {
    match phase {
        Phase::Resolve => StepName::Resolve,
        Phase::Connect => StepName::Connect,
        Phase::StartTls | Phase::Tls => StepName::Tls,
        _ => StepName::Ehlo,
    }
}

fn time_of(name: StepName, facts: &Facts) -> Duration {
    let phases = facts.phases.iter().filter(|(phase, _)| step_of(*phase) == name);
    phases.map(|(_, took)| *took).sum()
}
