//! The list of recipients, and the report of those not sent, which is a list too. Sends nothing.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim, Writer};
use smtp_oauth::lettre::message::Mailbox;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Accepted,
    /// For good: the same message would be refused again.
    Refused,
    /// Not accepted, and worth another run.
    Failed,
    /// Nobody knows; another run leaves it alone.
    MaybeSent,
    NotTried,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::MaybeSent => "maybe sent",
            Self::NotTried => "not tried",
        })
    }
}

/// A recipient, and what is known of the message to it.
pub struct Recipient {
    pub mailbox: Mailbox,
    pub state: State,
    pub reason: String,
}

/// Reads CSV with a column `address` and perhaps `name`, as spreadsheets and [`write()`] make it; or one address on a line,
/// `Name <address>` with a name. Finds every problem.
pub fn read(path: &Path, is_named: bool, problems: &mut Vec<String>) -> Vec<Recipient> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("--recipients: cannot read {}: {error}", path.display()));
            return Vec::new();
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let (heading, _) = text.split_once('\n').unwrap_or((text, ""));
    let delimiter = if heading.contains(';') { ';' } else { ',' };
    let is_csv = heading.split(delimiter).any(|cell| cell.trim().trim_matches('"') == "address");
    let rows = if is_csv { table(text, delimiter) } else { Ok(lines(text)) };
    let rows = rows.unwrap_or_else(|error| {
        problems.push(format!("--recipients: {}: {error}", path.display()));
        Vec::new()
    });
    let (mut recipients, mut seen) = (Vec::new(), HashMap::new());
    for (line, recipient) in rows {
        let mut problem = |what| problems.push(format!("{} line {line}: {what}", path.display()));
        let recipient = match recipient {
            Ok(recipient) => recipient,
            Err(text) => {
                problem(format!("`{}` is not an address", text.escape_debug()));
                continue;
            }
        };
        let Mailbox { name, email } = &recipient.mailbox;
        if is_named && name.is_none() {
            problem(format!("{email} has no name, which the message uses"));
        }
        if let Some(before) = seen.insert(email.to_string().to_lowercase(), line) {
            problem(format!("{email} is on line {before} already"));
        }
        recipients.push(recipient);
    }
    if recipients.is_empty() && problems.is_empty() {
        problems.push(format!("--recipients: {} names nobody", path.display()));
    }
    recipients
}

/// A row's line number, and the recipient or the text that is none.
type Row = (u64, Result<Recipient, String>);

fn table(text: &str, delimiter: char) -> Result<Vec<Row>, csv::Error> {
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter as u8).trim(Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers()?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cell = |name| cell(&headers, &record, name);
        let state = if cell("state") == "maybe sent" { State::MaybeSent } else { State::NotTried };
        let mailbox = cell("address").parse().ok().filter(|_| !cell("name").contains(char::is_control));
        let recipient = mailbox.map(|email| {
            let name = Some(cell("name").to_owned()).filter(|name| !name.is_empty());
            let reason = if state == State::MaybeSent { cell("reason") } else { "" };
            Recipient { mailbox: Mailbox::new(name, email), state, reason: reason.to_owned() }
        });
        let line = record.position().map_or(0, csv::Position::line);
        rows.push((line, recipient.ok_or_else(|| format!("{} {}", cell("name"), cell("address")))));
    }
    Ok(rows)
}

fn cell<'a>(headers: &StringRecord, record: &'a StringRecord, name: &str) -> &'a str {
    let column = headers.iter().position(|header| header == name);
    column.and_then(|column| record.get(column)).unwrap_or_default()
}

fn lines(text: &str) -> Vec<Row> {
    let numbered = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
    let row = |(number, line): (u64, &str)| {
        let mailbox = line.parse().ok().filter(|_| !line.contains(char::is_control));
        let new = |mailbox| Recipient { mailbox, state: State::NotTried, reason: String::new() };
        (number, mailbox.map(new).ok_or_else(|| line.to_owned()))
    };
    numbered.map(row).collect()
}

/// Returns where the report goes unless the user says: beside the list, or in the place of a list that is a report.
pub fn default_report(list: &Path) -> PathBuf {
    if is_report(list) {
        return list.to_owned();
    }
    let mut name = list.as_os_str().to_owned();
    name.push(".not-sent.csv");
    name.into()
}

fn is_report(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".not-sent.csv")
}

/// Replaces the report by those for whom the message was not accepted; nobody ever sees half of it.
///
/// `state` is what is written of everybody, in place of what is known.
pub fn write(path: &Path, recipients: &[Recipient], state: Option<State>) -> Result<(), Box<dyn Error>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    let mut writer = Writer::from_writer(&mut file);
    writer.write_record(["address", "name", "state", "reason"])?;
    for Recipient { mailbox, state: known, reason } in recipients {
        let state = state.unwrap_or(*known);
        if state != State::Accepted {
            let name = mailbox.name.as_deref().unwrap_or_default();
            writer.write_record([mailbox.email.as_ref(), name, &state.to_string(), reason])?;
        }
    }
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
