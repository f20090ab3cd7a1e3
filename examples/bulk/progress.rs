//! What the user sees: progress while it goes on, and at the end what became of everybody. Sends nothing.
//!
//! Whoever reads it may be gone, as `head` is: the run goes on, for the report is what counts. `println!` would panic.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::TRY_LATER;
use super::recipients::{self, Recipient, State};

/// A bar on a terminal, else lines.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(count: usize) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {msg}, {eta} left");
        Self(ProgressBar::new(count as u64).with_style(style.expect("a valid template")))
    }

    pub fn say(&self, text: &str) {
        self.0.suspend(|| _ = writeln!(io::stderr(), "{text}"));
    }

    pub fn show(&self, Recipient { mailbox, state, reason }: &Recipient) {
        match state {
            State::Accepted => {}
            State::NotTried => return,
            _ => self.say(&format!("{state}: {}: {reason}", mailbox.email)),
        }
        self.0.inc(1);
        let (done, count) = (self.0.position(), self.0.length().unwrap_or_default());
        let rate = format!("{:.1} a second", self.rate(done));
        if self.0.is_hidden() && (done % count.div_ceil(10) == 0 || done == count) {
            _ = writeln!(io::stderr(), "{done} of {count}, {rate}");
        }
        self.0.set_message(rate);
    }

    fn rate(&self, messages: u64) -> f64 {
        messages as f64 / self.0.elapsed().as_secs_f64().max(0.001)
    }
}

/// Writes the report and says what became of everybody; returns the exit code.
pub fn conclude(recipients: &[Recipient], report: &Path, progress: &Progress) -> u8 {
    progress.0.finish_and_clear();
    let mut counts = BTreeMap::<State, usize>::new();
    recipients.iter().for_each(|recipient| *counts.entry(recipient.state).or_default() += 1);
    let accepted = counts.remove(&State::Accepted).unwrap_or_default();
    let (seconds, rate) = (progress.0.elapsed().as_secs_f64(), progress.rate(accepted as u64));
    let mut screen = io::stdout();
    _ = writeln!(screen, "{accepted} of {} accepted in {seconds:.1} s, {rate:.1} a second", recipients.len());
    counts.iter().for_each(|(state, count)| _ = writeln!(screen, "  {count} {state}"));
    let written = match counts.is_empty() {
        true => std::fs::remove_file(report).map_err(Into::into),
        false => recipients::write(report, recipients, None),
    };
    let path = report.display();
    if let Err(error) = written {
        _ = writeln!(
            io::stderr(),
            "bulk: {path} says of everybody `maybe sent`, for it cannot be replaced: {error}"
        );
        return 1;
    }
    if counts.is_empty() {
        return 0;
    }
    _ = writeln!(
        screen,
        "Those not sent are in {path}. To send to them, but for the `maybe sent`: --recipients {path}"
    );
    match counts.keys().all(|state| matches!(state, State::Failed | State::NotTried)) {
        true => TRY_LATER,
        false => 1,
    }
}
