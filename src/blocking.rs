//! The mailers for programs without async: the same names, each call waiting for its result (feature `blocking`).

use std::fmt;
use std::io;
use std::sync::Arc;

use lettre::address::Envelope;
use lettre::{Message, Transport};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::{ConfigError, MailServerConfig};
use crate::error::Error;
use crate::mailer::{self, MailersStatus, SubmitOptions};
use crate::outcome::Submission;
use crate::pool::PoolStatus;

/// A [`Mailer`](mailer::Mailer) whose calls block; cheap to clone, clones share connections, tokens and one thread.
///
/// The thread drives connections and token requests, also between calls. Called from within an async runtime, every
/// call fails with [`InsideRuntime`](crate::ErrorKind::InsideRuntime): it would block the runtime's own thread. Use the
/// async mailer there. Threads of tokio's `spawn_blocking` count as inside too, because they cannot be told apart.
///
/// ```
/// use smtp_oauth::testing::FakeMicrosoft365;
/// use smtp_oauth::blocking;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = tokio::runtime::Runtime::new()?; // for the fakes only
/// let tenant = runtime.block_on(FakeMicrosoft365::start());
///
/// let mailer = blocking::Mailer::new(tenant.mailer())?;
/// let submission = mailer.send_test()?;
/// assert_eq!(submission.accepted().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mailer {
    mailer: mailer::Mailer,
    thread: Arc<Thread>,
}

/// The runtime, and the way it ends.
struct Thread(Option<Runtime>);

impl Thread {
    fn start() -> io::Result<Arc<Self>> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("smtp-oauth").enable_all().build()?;
        Ok(Arc::new(Self(Some(runtime))))
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match &self.0 {
            Some(runtime) if Handle::try_current().is_err() => runtime.block_on(work),
            _ => Err(Error::inside_runtime()),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Waiting for its tasks, as dropping it does, would panic on a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Mailer {
    /// Starts the thread for a mailer, which must not have been used in another runtime.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(mailer: mailer::Mailer) -> io::Result<Self> {
        Ok(Self { mailer, thread: Thread::start()? })
    }

    /// Returns the settings this mailer was built with.
    pub fn config(&self) -> &MailServerConfig {
        self.mailer.config()
    }

    /// Submits a message to the recipients in its headers.
    ///
    /// # Errors
    /// As for [`Mailer::submit`](mailer::Mailer::submit).
    pub fn submit(&self, message: &Message) -> Result<Submission, Error> {
        self.thread.wait(self.mailer.submit(message))
    }

    /// Submits a message that is already formatted.
    ///
    /// # Errors
    /// As for [`Mailer::submit_raw`](mailer::Mailer::submit_raw).
    pub fn submit_raw(&self, envelope: &Envelope, message: &[u8]) -> Result<Submission, Error> {
        self.thread.wait(self.mailer.submit_raw(envelope, message))
    }

    /// Submits a message that is already formatted, with options.
    ///
    /// # Errors
    /// As for [`Mailer::submit_with`](mailer::Mailer::submit_with).
    pub fn submit_with(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
    ) -> Result<Submission, Error> {
        self.thread.wait(self.mailer.submit_with(envelope, message, options))
    }

    /// Checks that a connection can be made and signed in to; sends nothing.
    ///
    /// # Errors
    /// As for [`Mailer::verify`](mailer::Mailer::verify).
    pub fn verify(&self) -> Result<(), Error> {
        self.thread.wait(self.mailer.verify())
    }

    /// Sends a short message to the configured test recipient.
    ///
    /// # Errors
    /// As for [`Mailer::send_test`](mailer::Mailer::send_test).
    pub fn send_test(&self) -> Result<Submission, Error> {
        self.thread.wait(self.mailer.send_test())
    }

    /// Returns what needs the administrator's attention; see [`Mailer::warnings`](mailer::Mailer::warnings).
    pub fn warnings(&self) -> Vec<String> {
        self.mailer.warnings()
    }

    /// Returns how the connections are used at the moment.
    pub fn pool_status(&self) -> PoolStatus {
        self.mailer.pool_status()
    }

    /// Closes the mailer and its clones; see [`Mailer::close`](mailer::Mailer::close).
    ///
    /// # Errors
    /// [`InsideRuntime`](crate::ErrorKind::InsideRuntime), when nothing is closed.
    pub fn close(&self) -> Result<(), Error> {
        self.thread.wait(async {
            self.mailer.close().await;
            Ok(())
        })
    }
}

impl Transport for Mailer {
    type Ok = Submission;
    type Error = Error;

    fn send_raw(&self, envelope: &Envelope, email: &[u8]) -> Result<Submission, Error> {
        self.submit_raw(envelope, email)
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mailer, thread: _ } = self;
        f.debug_tuple("blocking::Mailer").field(mailer).finish()
    }
}

/// [`Mailers`](mailer::Mailers) whose calls block; cheap to clone, clones share everything, one thread included.
///
/// Calls from within an async runtime fail as those of [`Mailer`] do.
///
/// ```
/// use smtp_oauth::testing::FakeMicrosoft365;
/// use smtp_oauth::{blocking, lettre::address::Envelope};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = tokio::runtime::Runtime::new()?; // for the fakes only
/// let tenant = runtime.block_on(FakeMicrosoft365::start());
/// tenant.grant_access("alerts@contoso.com");
///
/// let mailers = blocking::Mailers::new(tenant.mailers())?;
/// let envelope = Envelope::new(Some("alerts@contoso.com".parse()?), vec!["reader@example.com".parse()?])?;
/// mailers.submit_raw(&envelope, b"Subject: Hello\r\n\r\nHello!\r\n")?;
/// mailers.mailbox("alerts@contoso.com")?.send_test()?;
/// assert_eq!(tenant.exchange().message_count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mailers {
    mailers: mailer::Mailers,
    thread: Arc<Thread>,
}

impl Mailers {
    /// Starts the thread for mailers, which must not have been used in another runtime.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(mailers: mailer::Mailers) -> io::Result<Self> {
        Ok(Self { mailers, thread: Thread::start()? })
    }

    /// Returns the settings that mailboxes start from.
    pub fn config(&self) -> &MailServerConfig {
        self.mailers.config()
    }

    /// Returns the mailer of one mailbox, on the same thread; see [`Mailers::mailbox`](mailer::Mailers::mailbox).
    ///
    /// # Errors
    /// As for [`Mailers::mailbox`](mailer::Mailers::mailbox).
    pub fn mailbox(&self, address: impl AsRef<str>) -> Result<Mailer, ConfigError> {
        // Within the runtime, so that the task can be started that drops what is kept of mailboxes.
        let _inside = self.thread.0.as_ref().map(Runtime::enter);
        Ok(Mailer { mailer: self.mailers.mailbox(address)?, thread: self.thread.clone() })
    }

    /// Submits a message to the recipients in its headers, from the mailbox of its sender.
    ///
    /// # Errors
    /// As for [`Mailers::submit`](mailer::Mailers::submit).
    pub fn submit(&self, message: &Message) -> Result<Submission, Error> {
        self.thread.wait(self.mailers.submit(message))
    }

    /// Submits a message that is already formatted, from the mailbox of the envelope's sender.
    ///
    /// # Errors
    /// As for [`Mailers::submit_raw`](mailer::Mailers::submit_raw).
    pub fn submit_raw(&self, envelope: &Envelope, message: &[u8]) -> Result<Submission, Error> {
        self.thread.wait(self.mailers.submit_raw(envelope, message))
    }

    /// Submits a message that is already formatted, with options.
    ///
    /// # Errors
    /// As for [`Mailers::submit_with`](mailer::Mailers::submit_with).
    pub fn submit_with(
        &self,
        envelope: &Envelope,
        message: &[u8],
        options: &SubmitOptions,
    ) -> Result<Submission, Error> {
        self.thread.wait(self.mailers.submit_with(envelope, message, options))
    }

    /// Returns how many connections and mailboxes there are; see [`Mailers::status`](mailer::Mailers::status).
    pub fn status(&self) -> MailersStatus {
        self.mailers.status()
    }

    /// Closes all mailboxes; see [`Mailers::close`](mailer::Mailers::close).
    ///
    /// # Errors
    /// [`InsideRuntime`](crate::ErrorKind::InsideRuntime), when nothing is closed.
    pub fn close(&self) -> Result<(), Error> {
        self.thread.wait(async {
            self.mailers.close().await;
            Ok(())
        })
    }
}

impl Transport for Mailers {
    type Ok = Submission;
    type Error = Error;

    fn send_raw(&self, envelope: &Envelope, email: &[u8]) -> Result<Submission, Error> {
        self.submit_raw(envelope, email)
    }
}

impl fmt::Debug for Mailers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mailers, thread: _ } = self;
        f.debug_tuple("blocking::Mailers").field(mailers).finish()
    }
}
