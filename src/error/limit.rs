//! Which sending limit keeps a message back, and what can be done about it. Counts nothing; see `crate::limits`.

use std::time::Duration;

use super::{Error, ErrorKind};
use crate::remedy::{Remedy, Who};
use crate::smtp::Phase;

const LIMITS: &str = "https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits";

/// What keeps a message back before it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReachedLimit {
    /// So many messages a minute, by the mailer's own count.
    Messages(u32),
    /// So many recipients a day, by the mailer's own count.
    Recipients(u32),
    /// A limit that others of the fleet have used up; which one, the fleet's count does not say.
    Fleet,
    /// The pause after the server has said that it is too much.
    Throttling,
    /// Submissions that came before and wait for their turn.
    Queue,
}

impl Error {
    /// There is room after `wait`, if that is known.
    pub(crate) fn limit_reached(limit: ReachedLimit, wait: Option<Duration>) -> Self {
        let message = match limit {
            ReachedLimit::Queue => "waiting for earlier submissions took too long",
            ReachedLimit::Messages(_)
            | ReachedLimit::Recipients(_)
            | ReachedLimit::Fleet
            | ReachedLimit::Throttling => "the mailbox's sending limit is reached",
        };
        let mut error = Self::new(ErrorKind::LimitReached, Phase::Preparation, message);
        error.0.retry_after = wait;
        error.0.limit = Some(limit);
        error
    }
}

impl ReachedLimit {
    /// Says which limit it is, whose count, when it goes on, and how to get more.
    pub(super) fn remedy(self, wait: Option<Duration>) -> Remedy {
        let again = match wait {
            Some(wait) => {
                format!("send the message again {} after this error: nothing was sent", spoken(wait))
            }
            None => "send the message again later: nothing was sent".to_owned(),
        };
        let remedy = Remedy::new(self.summary(), Who::Operator).with_step(again).with_link(LIMITS);
        match self {
            Self::Messages(_) => remedy
                .with_step(
                    "keep the limit: this program counts for itself so that the server need not refuse mail",
                )
                .with_step("more in a minute: spread the mail over several mailboxes, each of which has its own limit")
                .with_step("raise limits.messages_per_minute only if Microsoft has raised the mailbox's limit")
                .with_step(ELSEWHERE),
            Self::Recipients(_) => remedy
                .with_step(KEEP)
                .with_step(
                    "more in a day: spread the mail over several mailboxes, each of which has its own limit, or send to a \
                     distribution group, which counts as one recipient",
                )
                .with_step("raise limits.recipients_per_day only if Microsoft has raised the mailbox's limit")
                .with_step(ELSEWHERE),
            Self::Fleet => remedy
                .with_step(KEEP)
                .with_step("more at once: spread the mail over several mailboxes, each of which has its own limit")
                .with_step(
                    "raise limits.messages_per_minute or limits.recipients_per_day only if Microsoft has raised the \
                     mailbox's limits, and then for every program of the fleet",
                )
                .with_step(ELSEWHERE),
            Self::Throttling => remedy
                .with_step("keep to the pause: it is this program's own, and grows while the server goes on refusing")
                .with_step(
                    "if it comes back: see who else sends from the mailbox, and lower limits.messages_per_minute or \
                     max_connections",
                ),
            Self::Queue => remedy
                .with_step("if it comes back: submit less at once, or allow a longer wait with timeouts.total"),
        }
    }

    fn summary(self) -> String {
        match self {
            Self::Messages(most) => {
                let most = counted(most, "message");
                format!("By this program's own count, the mailbox has reached its limit of {most} in 60 seconds.")
            }
            Self::Recipients(most) => {
                let most = counted(most, "recipient");
                format!("By this program's own count, the mailbox has reached its limit of {most} in 24 hours.")
            }
            Self::Fleet => "By the count that the fleet shares, the mailbox has reached its limit of messages in 60 seconds \
                            or of recipients in 24 hours."
                .to_owned(),
            Self::Throttling => {
                "The mail server has said that it is too much, so the mailbox sends nothing for a while.".to_owned()
            }
            Self::Queue => "Earlier messages from the mailbox were still waiting for its sending limits when this one's time \
                            was up."
                .to_owned(),
        }
    }
}

const KEEP: &str =
    "keep the limit: a mailbox that goes beyond it is refused by Microsoft for a day, and may be blocked";
const ELSEWHERE: &str =
    "for more: High Volume Email inside the organization, or Azure Communication Services";

fn counted(most: u32, what: &str) -> String {
    let plural = if most == 1 { "" } else { "s" };
    format!("{most} {what}{plural}")
}

/// Rounds up: a little later is no harm, a little sooner is in vain.
fn spoken(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    match seconds {
        0..=1 => "1 second".to_owned(),
        2..120 => format!("{seconds} seconds"),
        120..7200 => format!("about {} minutes", seconds.div_ceil(60)),
        _ => format!("about {} hours", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_says_what_it_is_and_when_it_goes_on() {
        let limits = [
            (ReachedLimit::Messages(30), "30 messages in 60 seconds"),
            (ReachedLimit::Messages(1), "1 message in 60 seconds"),
            (ReachedLimit::Recipients(10_000), "10000 recipients in 24 hours"),
            (ReachedLimit::Fleet, "the fleet"),
            (ReachedLimit::Throttling, "The mail server"),
            (ReachedLimit::Queue, "Earlier messages"),
        ];
        for (limit, words) in limits {
            let remedy = Error::limit_reached(limit, Some(Duration::from_secs(40))).remedy().unwrap();
            assert!(remedy.summary().contains(words), "{remedy}");
            assert_eq!(
                remedy.steps()[0],
                "send the message again 40 seconds after this error: nothing was sent"
            );
            assert!(remedy.steps().len() > 1 && remedy.who() == Who::Operator, "{remedy}");
        }
    }

    #[test]
    fn waits_are_rounded_up_to_what_a_person_reads() {
        let cases = [
            (Duration::ZERO, "1 second"),
            (Duration::from_millis(1001), "2 seconds"),
            (Duration::from_secs(119), "119 seconds"),
            (Duration::from_secs(121), "about 3 minutes"),
            (Duration::from_secs(24 * 3600), "about 24 hours"),
            (Duration::from_secs(24 * 3600 + 1), "about 25 hours"),
        ];
        for (wait, text) in cases {
            assert_eq!(spoken(wait), text, "{wait:?}");
        }
    }
}
