//! One row of a table of replies, and the search through the tables. Holds no knowledge of any server.

use super::TABLES;
use super::reply_cause::{ReplyCause, Verdict};
use crate::remedy::Advice;
use crate::smtp::{EnhancedStatusCode, Phase, Reply};

/// What a reply must look like to have a cause; what is left open fits everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    cause: ReplyCause,
    advice: &'static Advice,
    codes: &'static [u16],
    /// Such as `5.7.1 5.7.133-136`; `x` as class fits 4 and 5.
    statuses: &'static str,
    /// In lower case; all of them must occur.
    texts: &'static [&'static str],
    phases: &'static [Phase],
    authority: Authority,
    /// Replies as servers send them.
    #[cfg(any(test, feature = "testing"))]
    samples: &'static [(Phase, &'static str)],
}

/// Who decides whether a refusal is temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authority {
    /// The cause, whatever the reply code says: this server's code is known to mislead, or to be right.
    Cause,
    /// The first digit of the reply code (RFC 5321 §4.2.1).
    ReplyCode,
}

/// What a reply was found to mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) cause: ReplyCause,
    /// `None` when the reply code contradicts the cause, so that code and phase decide.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) advice: &'static Advice,
}

impl Row {
    pub(super) const fn new(
        cause: ReplyCause,
        advice: &'static Advice,
        samples: &'static [(Phase, &'static str)],
    ) -> Self {
        #[cfg(not(any(test, feature = "testing")))]
        let _ = samples;
        Self {
            cause,
            advice,
            codes: &[],
            statuses: "",
            texts: &[],
            phases: &[],
            authority: Authority::Cause,
            #[cfg(any(test, feature = "testing"))]
            samples,
        }
    }

    pub(super) const fn codes(mut self, codes: &'static [u16]) -> Self {
        self.codes = codes;
        self
    }

    pub(super) const fn statuses(mut self, statuses: &'static str) -> Self {
        self.statuses = statuses;
        self
    }

    pub(super) const fn texts(mut self, texts: &'static [&'static str]) -> Self {
        self.texts = texts;
        self
    }

    pub(super) const fn phases(mut self, phases: &'static [Phase]) -> Self {
        self.phases = phases;
        self
    }

    /// Lets the reply code say whether it is temporary.
    pub(super) const fn by_code(mut self) -> Self {
        self.authority = Authority::ReplyCode;
        self
    }

    fn fits(&self, refusal: &Refused<'_>) -> bool {
        (self.codes.is_empty() || self.codes.contains(&refusal.code))
            && (self.phases.is_empty() || self.phases.contains(&refusal.phase))
            && self.texts.iter().all(|text| refusal.text.contains(text))
            && (self.statuses.is_empty()
                || refusal.status.is_some_and(|status| is_listed(self.statuses, status)))
    }

    fn finding(&self, code: u16) -> Finding {
        let verdict = self.cause.verdict();
        let verdict = match (self.authority, code / 100) {
            (Authority::ReplyCode, 4) => Some(Verdict::Later),
            (Authority::ReplyCode, _) => Some(verdict).filter(|verdict| *verdict != Verdict::Later),
            (Authority::Cause, _) => Some(verdict),
        };
        Finding { cause: self.cause, verdict, advice: self.advice }
    }
}

/// A refusal prepared for the search.
struct Refused<'a> {
    phase: Phase,
    code: u16,
    status: Option<EnhancedStatusCode>,
    text: &'a str,
}

/// Finds what a refusal means; `None` for a positive reply and for one that no table knows.
pub(crate) fn classify(phase: Phase, reply: &Reply) -> Option<Finding> {
    if reply.code() < 400 {
        return None;
    }
    let text = reply.text().to_lowercase();
    let text = without_trailer(&text);
    // A client that went on after a refused AUTH reads the refusal inside the reply to MAIL: `5.7.57 … Error: 535 5.7.139 …`.
    let nested = nested(text).and_then(|(code, status, text)| {
        find(&Refused { phase: Phase::Auth, code, status: Some(status), text })
    });
    nested.or_else(|| find(&Refused { phase, code: reply.code(), status: reply.enhanced(), text }))
}

fn find(refusal: &Refused<'_>) -> Option<Finding> {
    let row = TABLES.into_iter().flatten().find(|row| row.fits(refusal))?;
    Some(row.finding(refusal.code))
}

/// Cuts off what Exchange appends, `[Hostname=MAILBOXSERVER]` and `[FRONTEND 2024-07-11T11:46:49.042Z 08DC…]`.
fn without_trailer(text: &str) -> &str {
    let mut rest = text.trim_end();
    while let Some((before, _)) = rest.strip_suffix(']').and_then(|open| open.rsplit_once('[')) {
        rest = before.trim_end();
    }
    // A reply that is nothing but a bracket is not cut to nothing.
    if rest.is_empty() { text } else { rest }
}

/// Finds a refused AUTH quoted in the text, and what follows it.
fn nested(text: &str) -> Option<(u16, EnhancedStatusCode, &str)> {
    let (_, quoted) = text.split_once("error: 535 ")?;
    let (word, _) = quoted.split_once(' ')?;
    Some((535, EnhancedStatusCode::parse(word)?, quoted))
}

/// Tells whether `status` is in a list such as `5.7.1 x.7.133-136`.
fn is_listed(list: &str, status: EnhancedStatusCode) -> bool {
    list.split(' ').any(|pattern| {
        let mut parts = pattern.splitn(3, '.');
        let (Some(class), Some(subject), Some(details)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let (first, last) = details.split_once('-').unwrap_or((details, details));
        let number = |digits: &str| digits.parse::<u16>().ok();
        (class == "x" || number(class) == Some(status.class.into()))
            && number(subject) == Some(status.subject)
            && number(first).is_some_and(|first| first <= status.detail)
            && number(last).is_some_and(|last| status.detail <= last)
    })
}

/// Every reply of the tables, for tests of what is made of them.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn samples() -> impl Iterator<Item = (Phase, Reply)> {
    let samples = TABLES.into_iter().flatten().flat_map(|row| row.samples);
    samples.filter_map(|(phase, sample)| Some((*phase, parse(sample)?)))
}

/// Reads a code and, separated by line feeds, the texts of the lines behind it.
#[cfg(any(test, feature = "testing"))]
fn parse(sample: &str) -> Option<Reply> {
    let (code, text) = sample.split_once(' ')?;
    Some(Reply::new(code.parse().ok()?, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> impl Iterator<Item = &'static Row> {
        TABLES.into_iter().flatten()
    }

    fn reply(text: &str) -> Reply {
        parse(text).unwrap()
    }

    #[test]
    fn every_row_is_reached_by_its_own_samples_and_no_other() {
        let mut strays = Vec::new();
        for row in rows() {
            assert!(!row.samples.is_empty(), "{row:?}");
            for (phase, sample) in row.samples {
                let reply = reply(sample);
                let text = reply.text().to_lowercase();
                let text = without_trailer(&text);
                let refusal = Refused { phase: *phase, code: reply.code(), status: reply.enhanced(), text };
                let first = rows().find(|row| row.fits(&refusal));
                if !first.is_some_and(|first| std::ptr::eq(first, row)) {
                    strays.push((sample, first.map(|first| (first.cause, first.samples.first()))));
                }
            }
        }
        assert!(strays.is_empty(), "{strays:#?}");
    }

    #[test]
    fn every_row_is_written_in_the_tables_own_terms() {
        for row in rows() {
            assert!(row.texts.iter().all(|text| *text == text.to_lowercase()), "{row:?}");
            for pattern in row.statuses.split(' ').filter(|pattern| !pattern.is_empty()) {
                let (first, _) = pattern.split_once('-').unwrap_or((pattern, ""));
                let status = EnhancedStatusCode::parse(&first.replace('x', "5")).expect(pattern);
                assert!(is_listed(pattern, status), "{pattern}");
            }
            let Advice { who: _, summary, steps, link } = row.advice;
            assert!(summary.ends_with('.') && !steps.is_empty() && link.starts_with("https://"), "{row:?}");
            assert!(steps.iter().all(|step| !step.ends_with('.')), "{row:?}");
        }
    }

    #[test]
    fn trailers_and_quoted_refusals_do_not_mislead() {
        let cases = [
            (
                Phase::Mail,
                "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, \
                 SmtpClientAuthentication is disabled for the Mailbox. [AM0PR01 2024-07-11T11:46:49.042Z 08DCA1]",
                Some(ReplyCause::SmtpAuthDisabledForMailbox),
            ),
            (
                Phase::Auth,
                "535 5.7.139 Authentication unsuccessful, in words nobody has seen yet. [the user credentials were incorrect]",
                Some(ReplyCause::SignInPolicy),
            ),
            (
                Phase::Auth,
                "535 5.7.3 Authentication unsuccessful [LO4P.PROD.OUTLOOK.COM]",
                Some(ReplyCause::SignInRefused),
            ),
            (Phase::Mail, "599 nobody says this", None),
        ];
        for (phase, text, cause) in cases {
            assert_eq!(classify(phase, &reply(text)).map(|finding| finding.cause), cause, "{text}");
        }
    }

    #[test]
    fn a_misleading_reply_code_is_overruled_only_where_it_is_known_to_mislead() {
        let cases = [
            (Phase::Auth, "421 4.7.66 TLS 1.0 and 1.1 are not supported.", Some(Verdict::Tls)),
            (Phase::FinalReply, "554 4.3.2 mailbox busy; STOREDRV.Deliver", Some(Verdict::Recipients)),
            (
                Phase::Mail,
                "451 4.4.62 Mail sent to the wrong Office 365 region. ATTR35",
                Some(Verdict::Client),
            ),
            (Phase::Rcpt, "450 4.1.1 try later", Some(Verdict::Later)),
            (Phase::Rcpt, "550 5.1.1 gone", Some(Verdict::Recipients)),
            (Phase::FinalReply, "554 5.3.2 odd", None),
        ];
        for (phase, text, verdict) in cases {
            let found = classify(phase, &reply(text)).and_then(|finding| finding.verdict);
            assert_eq!(found, verdict, "{text}");
        }
    }
}
