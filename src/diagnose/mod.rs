//! Walks the way of a message step by step and says what each step shows: settings, network, TLS, token, sign-in, envelope.
//! Takes the mailer's own code path; classifies nothing itself.

mod access_token;
mod claims;
mod network;
mod report;

use std::time::Duration;

use crate::clock::Moment;
use crate::error::Error;
use crate::mailer::Mailer;
use crate::pool::Checkout;
use crate::remedy::Remedy;

use network::Reached;

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
///
/// ```
/// use smtp_oauth::testing::FakeMicrosoft365;
/// use smtp_oauth::{Diagnose, StepName};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let tenant = FakeMicrosoft365::start().await;
/// let mailer = tenant.mailer();
/// tenant.entra().expire_refresh_tokens();
/// let diagnosis = Diagnose::new(&mailer).send_test().on_step(|step| println!("{step}")).run().await;
/// let failed = diagnosis.first_failure().unwrap();
/// assert_eq!(failed.name(), StepName::Token);
/// assert!(failed.remedy().unwrap().steps()[0].starts_with("sign in again"));
/// # }
/// ```
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
            (Reached::Ehlo, Err(())) => {
                self.skip(StepName::Authentication, "there is no access token");
                None
            }
            (Reached::NotEhlo, _) => {
                self.skip(StepName::Authentication, "the server was not reached");
                None
            }
        };
        match checkout {
            Some(checkout) => self.envelope(checkout).await,
            None => self.skip(StepName::Envelope, "nobody is signed in"),
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
        checkout.quit().await;
        match result {
            Ok(()) => {
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
        match self.test_message {
            TestMessage::NotSent => self.skip(StepName::TestMessage, "not asked for"),
            TestMessage::Sent if self.steps.iter().any(|step| step.result() == StepResult::Failed) => {
                self.skip(StepName::TestMessage, "a step before it failed");
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
            }
        }
    }

    fn failure(&mut self, name: StepName, error: &Error) {
        self.record(name, StepResult::Failed, report::finding_of(error), error.remedy());
    }

    fn skip(&mut self, name: StepName, why: &str) {
        self.record_timed(name, StepResult::Skipped, why.to_owned(), None, Duration::ZERO);
    }

    fn record(&mut self, name: StepName, result: StepResult, finding: String, remedy: Option<Remedy>) {
        let took = self.now().since(self.started);
        self.record_timed(name, result, finding, remedy, took);
    }

    fn record_timed(
        &mut self,
        name: StepName,
        result: StepResult,
        finding: String,
        remedy: Option<Remedy>,
        took: Duration,
    ) {
        let step = DiagnosisStep::new(name, result, took, finding, remedy);
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
