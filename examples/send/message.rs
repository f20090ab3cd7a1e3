//! The message to be sent: built from the options, or read from standard input. Finds every problem, sends nothing.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::ops::Range;
use std::path::Path;

use mail_parser::{HeaderName, MessageParser};
use smtp_oauth::lettre::Address;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::lettre::message::header::{ContentType, Date, From, Headers};
use smtp_oauth::lettre::message::{
    Attachment, Mailbox, Mailboxes, Message, MessageBuilder, MultiPart, SinglePart,
};

use super::Arguments;

/// The most that Exchange Online can be set to take (a message, encoded).
const LARGEST: u64 = 150 * 1024 * 1024;

/// A message with its envelope, checked.
pub struct Outgoing {
    pub envelope: Envelope,
    pub bytes: Vec<u8>,
}

/// `sender` is the one in the settings; `None` when they cannot be used, and then only problems come of this.
pub fn prepare(
    arguments: &Arguments,
    sender: Option<Mailbox>,
    problems: &mut Vec<String>,
) -> Option<Outgoing> {
    let from = match &arguments.from {
        Some(text) => mailbox("--from", text, problems),
        None => sender,
    };
    let mut read = |option, given: &[String]| -> Vec<Mailbox> {
        given.iter().filter_map(|text| mailbox(option, text, problems)).collect()
    };
    let recipients = Recipients {
        to: read("--to", &arguments.to),
        cc: read("--cc", &arguments.cc),
        bcc: read("--bcc", &arguments.bcc),
    };
    let is_built = arguments.subject.is_some()
        || arguments.text.is_some()
        || arguments.text_file.is_some()
        || arguments.html_file.is_some()
        || !arguments.attach.is_empty();
    let given = arguments.to.len() + arguments.cc.len() + arguments.bcc.len();
    if given == 0 && (is_built || !arguments.recipients_from_headers) {
        let headers = if is_built { "" } else { ", or -t to take the recipients from the headers" };
        problems.push(format!("no recipient: give --to{headers}"));
    }
    match is_built {
        true => build(arguments, from, recipients, problems),
        false => read_whole(arguments, from, recipients, problems),
    }
}

struct Recipients {
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    bcc: Vec<Mailbox>,
}

fn mailbox(option: &str, text: &str, problems: &mut Vec<String>) -> Option<Mailbox> {
    let parsed = text.parse().ok().filter(|_| !text.contains(char::is_control));
    if parsed.is_none() {
        problems.push(format!("{option}: `{}` is not an address", text.escape_debug()));
    }
    parsed
}

fn build(
    arguments: &Arguments,
    from: Option<Mailbox>,
    recipients: Recipients,
    problems: &mut Vec<String>,
) -> Option<Outgoing> {
    let before = problems.len();
    if arguments.recipients_from_headers {
        problems.push("-t: is for a message on standard input, and the options build one".to_owned());
    }
    if arguments.text.is_some() && arguments.text_file.is_some() {
        problems.push("choose one of --text and --text-file".to_owned());
    }
    let subject = arguments.subject.clone().unwrap_or_default();
    if subject.contains(char::is_control) {
        problems.push("--subject: must be one line of text".to_owned());
    }
    let file = arguments.text_file.as_deref().and_then(|path| text("--text-file", path, problems));
    let html = arguments.html_file.as_deref().and_then(|path| text("--html-file", path, problems));
    let attached: Vec<_> = arguments.attach.iter().filter_map(|path| attachment(path, problems)).collect();
    if problems.len() > before {
        return None;
    }

    let mut builder = Message::builder().from(from?).subject(subject).message_id(None);
    let Recipients { to, cc, bcc } = recipients;
    builder = to.into_iter().fold(builder, MessageBuilder::to);
    builder = cc.into_iter().fold(builder, MessageBuilder::cc);
    builder = bcc.into_iter().fold(builder, MessageBuilder::bcc);
    let text = arguments.text.clone().or(file);
    let message = match (text, html, attached) {
        (text, None, attached) if attached.is_empty() => {
            builder.singlepart(SinglePart::plain(text.unwrap_or_default()))
        }
        (None, Some(html), attached) if attached.is_empty() => builder.singlepart(SinglePart::html(html)),
        (Some(text), Some(html), attached) => {
            let both = MultiPart::alternative_plain_html(text, html);
            builder.multipart(match attached.is_empty() {
                true => both,
                false => mixed(MultiPart::mixed().multipart(both), attached),
            })
        }
        (text, html, attached) => {
            let body = html.map_or_else(|| SinglePart::plain(text.unwrap_or_default()), SinglePart::html);
            builder.multipart(mixed(MultiPart::mixed().singlepart(body), attached))
        }
    };
    match message {
        Ok(message) => Some(Outgoing { envelope: message.envelope().clone(), bytes: message.formatted() }),
        Err(error) => {
            // Without a recipient there is no message, and that has been said.
            problems.is_empty().then(|| problems.push(format!("the message cannot be built: {error}")));
            None
        }
    }
}

fn mixed(first: MultiPart, attached: Vec<SinglePart>) -> MultiPart {
    attached.into_iter().fold(first, MultiPart::singlepart)
}

fn text(option: &str, path: &Path, problems: &mut Vec<String>) -> Option<String> {
    let read = match path == Path::new("-") {
        true => whole(io::stdin(), "standard input"),
        false => file(path),
    };
    let text = read.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| format!("{} is not text in UTF-8", path.display()))
    });
    text.map_err(|problem| problems.push(format!("{option}: {problem}"))).ok()
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display().to_string();
    let opened = fs::File::open(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    whole(opened, &name)
}

/// Reads no more than a message may have: `/dev/zero` and many a pipe have no end.
fn whole(source: impl Read, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = source.take(LARGEST + 1).read_to_end(&mut bytes);
    match read.map_err(|error| format!("cannot read {name}: {error}"))? {
        size if size as u64 > LARGEST => Err(format!("{name} is larger than 150 MiB")),
        _ => Ok(bytes),
    }
}

fn attachment(path: &Path, problems: &mut Vec<String>) -> Option<SinglePart> {
    let mut problem = |text: String| problems.push(format!("--attach: {text}"));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.is_empty() || name.contains(char::is_control) {
        problem(format!(
            "`{}` is no name for a file in a message",
            path.display().to_string().escape_debug()
        ));
        return None;
    }
    let bytes = file(path).map_err(problem).ok()?;
    // RFC 2046 §5.2.1: Base64, which any file needs, is not for messages.
    let kind = mime_guess::from_path(path).first().filter(|kind| kind.type_() != "message");
    let kind = kind.and_then(|kind| ContentType::parse(kind.as_ref()).ok());
    let kind = kind.unwrap_or(ContentType::parse("application/octet-stream").expect("a valid type"));
    Some(Attachment::new(name).body(bytes, kind))
}

/// Reads a message as it is: takes Bcc out, adds From and Date where they are missing, leaves the rest alone.
fn read_whole(
    arguments: &Arguments,
    from: Option<Mailbox>,
    recipients: Recipients,
    problems: &mut Vec<String>,
) -> Option<Outgoing> {
    if !problems.is_empty() {
        return None; // Not worth waiting for the message.
    }
    if io::stdin().is_terminal() {
        eprintln!("send: type the message, headers first; end with Ctrl-D");
    }
    let mut bytes = whole(io::stdin(), "standard input").map_err(|problem| problems.push(problem)).ok()?;
    let Some(parsed) = MessageParser::default().parse_headers(&bytes).filter(|it| !it.headers().is_empty())
    else {
        problems.push(
            "standard input does not begin with the headers of a message; is it a text, for --text-file - ?"
                .to_owned(),
        );
        return None;
    };

    let Recipients { to, cc, bcc } = recipients;
    let mut addresses: Vec<Address> = [to, cc, bcc].concat().into_iter().map(|it| it.email).collect();
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for header in parsed.headers() {
        if matches!(header.name, HeaderName::Bcc | HeaderName::ResentBcc) {
            hidden.push(header.offset_field as usize..header.offset_end as usize);
        }
        let has_recipients = matches!(header.name, HeaderName::To | HeaderName::Cc | HeaderName::Bcc);
        if !(arguments.recipients_from_headers && has_recipients) {
            continue;
        }
        for address in header.value.as_address().into_iter().flat_map(|found| found.iter()) {
            let text = address.address().or(address.name()).unwrap_or_default();
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => problems.push(format!(
                    "{}: `{}` is not an address",
                    header.name.as_str(),
                    text.escape_debug()
                )),
            }
        }
    }
    let mut added = Headers::new();
    let from = from?;
    if parsed.header(HeaderName::From).is_none() {
        added.set(From::from(Mailboxes::from(from.clone())));
    }
    if parsed.header(HeaderName::Date).is_none() {
        added.set(Date::now());
    }
    hidden.into_iter().rev().for_each(|range| drop(bytes.drain(range)));
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(address.to_string()));
    if addresses.is_empty() && problems.is_empty() {
        problems.push("-t: the headers name no recipient".to_owned());
    }
    let bytes = [added.to_string().into_bytes(), bytes].concat();
    let envelope = Envelope::new(Some(from.email), addresses).ok()?;
    Some(Outgoing { envelope, bytes })
}
