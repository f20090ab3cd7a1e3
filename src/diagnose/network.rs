//! The steps from the name in DNS to the EHLO reply: one connection, told step by step. Signs nobody in.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Diagnose, StepName, StepResult, report};
use crate::config::{MailServerConfig, Tls};
use crate::oauth;
use crate::smtp::Phase;
use crate::smtp::capabilities::Capabilities;
use crate::smtp::connection::Connection;
use crate::smtp::facts::{Facts, Observer, TlsFacts};

/// How long before its expiry a server's certificate is a warning: most are renewed earlier, by a machine.
const CERTIFICATE_WARNING: time::Duration = time::Duration::days(7);

/// How far the connection came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    Ehlo,
    NotEhlo,
}

impl Diagnose<'_> {
    /// Resolves, connects, encrypts and greets, and reports each as soon as it is done.
    pub(super) async fn connection(&mut self) -> Reached {
        let observer = Observer::watching();
        let endpoint = self.mailer.endpoint().observed_by(observer.clone());
        let started = self.now();
        let mut waiting =
            VecDeque::from([StepName::Resolve, StepName::Connect, StepName::Tls, StepName::Ehlo]);
        let mut opening = std::pin::pin!(Connection::open(endpoint, self.deadline()));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut opening => break result,
                () = observer.changed() => self.report(&mut waiting, &observer.facts()),
            }
        };
        let total = self.now().since(started);
        let facts = observer.facts();
        let failure = match result {
            Ok(connection) => {
                connection.quit().await;
                self.report(&mut waiting, &facts);
                None
            }
            Err(failure) => Some(failure),
        };
        let Some(failure) = failure else { return Reached::Ehlo };
        let step = step_of(failure.phase);
        let error = self.mailer.explained(failure.into(), None);
        // A step may fail after it was reported as done; the failure is then that of the next one.
        let at = if waiting.contains(&step) { Some(step) } else { waiting.front().copied() };
        for name in waiting {
            match (Some(name) == at, self.found(name, &facts)) {
                (true, _) => {
                    let before = facts.phases.iter().map(|(_, took)| *took).sum();
                    let took = time_of(name, &facts) + total.saturating_sub(before);
                    let finding = report::finding_of(&error);
                    self.record_timed(name, StepResult::Failed, finding, error.remedy(), took);
                }
                (false, Some((finding, result))) => {
                    self.record_timed(name, result, finding, None, time_of(name, &facts));
                }
                (false, None) => self.skip(name, "not reached"),
            }
        }
        Reached::NotEhlo
    }

    /// Reports the steps that are done, in order.
    fn report(&mut self, waiting: &mut VecDeque<StepName>, facts: &Facts) {
        while let Some(name) = waiting.front().copied()
            && let Some((finding, result)) = self.found(name, facts)
        {
            self.record_timed(name, result, finding, None, time_of(name, facts));
            waiting.pop_front();
        }
    }

    /// Puts into words what was learnt of a step that came to its end.
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
            StepName::Tls => {
                let now = self.mailer.endpoint().clock.now();
                facts.tls.as_ref().map(|tls| of_tls(tls, config, now))
            }
            StepName::Ehlo => facts.offered.as_ref().and_then(|offered| passed(of_ehlo(offered))),
            _ => None,
        }
    }
}

fn of_tls(tls: &TlsFacts, config: &MailServerConfig, now: OffsetDateTime) -> (String, StepResult) {
    let TlsFacts { version, cipher_suite, chain } = tls;
    let certificates = match chain.len() {
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    let finding = format!("{version}, {cipher_suite}, {certificates}, valid for {}", config.host());
    match chain.first().and_then(|certificate| oauth::certificate_expiry(certificate)) {
        Some(at) if at - now <= CERTIFICATE_WARNING => {
            (format!("{finding}; the certificate expires on {}", at.date()), StepResult::Warning)
        }
        Some(at) => (format!("{finding} until {}", at.date()), StepResult::Passed),
        None => (finding, StepResult::Passed),
    }
}

fn of_ehlo(offered: &Capabilities) -> String {
    let mechanisms = match offered.mechanisms.is_empty() {
        true => "no way to sign in".to_owned(),
        false => format!("AUTH {}", offered.mechanisms.join(" ")),
    };
    let size = offered.size.map(|size| format!("SIZE {size}"));
    let extensions = [(offered.pipelining, "PIPELINING"), (offered.chunking, "CHUNKING")];
    let extensions = extensions.iter().filter(|(offered, _)| *offered).map(|(_, name)| (*name).to_owned());
    let all: Vec<_> = [mechanisms].into_iter().chain(extensions).chain(size).collect();
    format!("the server offers {}", all.join(", "))
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::testing::{CertificateKind, TestAuthority};

    #[test]
    fn a_certificate_that_expires_within_days_is_a_warning() {
        let config = MailServerConfig::builder().host("mail.example").username("a@mail.example").build();
        let config = config.unwrap();
        let issued = TestAuthority::new().issue(CertificateKind::Valid);
        let certificate = CertificateDer::from_pem_slice(issued.chain_pem().as_bytes()).unwrap();
        let expiry = oauth::certificate_expiry(&certificate).unwrap();
        let tls = |chain| TlsFacts { version: "TLS 1.3", cipher_suite: String::new(), chain };
        let date = expiry.date();
        let cases = [
            (tls(vec![]), 20, StepResult::Passed, "valid for mail.example".to_owned()),
            (
                tls(vec![certificate.clone()]),
                20,
                StepResult::Passed,
                format!("valid for mail.example until {date}"),
            ),
            (tls(vec![certificate]), 2, StepResult::Warning, format!("; the certificate expires on {date}")),
        ];
        for (tls, days, result, words) in cases {
            let (finding, found) = of_tls(&tls, &config, expiry - time::Duration::days(days));
            assert_eq!(found, result, "{finding}");
            assert!(finding.ends_with(&words), "{finding}");
        }
    }
}
