//! Any message to any address: what arrives is that message, with CRLF line ends, and no command but those that belong to it.
//!
//! The first octet of an input chooses the settings; then, each up to a 0xFF: local part and domain of the sender and of the
//! recipient, and the envelope id. The rest is the message.

use memchr::memmem;
use smtp_oauth::lettre::Address;
use smtp_oauth::lettre::address::Envelope;
use smtp_oauth::{Disposition, Dsn, Notify, SubmitOptions};

use super::session::{Variant, crlf, play, tells_no_secret};

/// Checks one input.
pub fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let variant = Variant::of(*first & 0x1F);
    if memmem::find(rest, variant.secret().as_bytes()).is_some() {
        return; // An address that is the password is told, as any other.
    }
    let mut parts = rest.splitn(6, |octet| *octet == 0xFF);
    let mut next = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let from = Address::new_dangerous(next(), next());
    let to = Address::new_dangerous(next(), next());
    let id = next();
    let message = parts.next().unwrap_or_default();
    let envelope = Envelope::new(Some(from.clone()), vec![to.clone()]).unwrap();
    let options = SubmitOptions::new().dsn(Dsn::new().notify([Notify::Failure]).envelope_id(id));
    let (result, server) = play(variant, Vec::new(), async |mailer, _clock| {
        mailer.submit_with(&envelope, message, &options).await
    });
    let commands: Vec<_> =
        server.conversations.iter().flat_map(|conversation| &conversation.commands).collect();
    let starting =
        |word: &[u8]| commands.iter().filter(|line| line.starts_with(word)).copied().collect::<Vec<_>>();
    let known: usize = [&b"EHLO "[..], b"AUTH ", b"MAIL ", b"RCPT ", b"DATA\r\n", b"BDAT ", b"QUIT\r\n"]
        .iter()
        .map(|word| starting(word).len())
        .sum();
    assert_eq!(known, commands.len(), "an unexpected command\n{commands:?}");
    match result {
        Ok(submission) => {
            assert_eq!(submission.accepted(), std::slice::from_ref(&to));
            let [received] = &server.received[..] else { panic!("{} messages", server.received.len()) };
            assert_eq!(received.octets.escape_ascii().to_string(), crlf(message).escape_ascii().to_string());
            let ([mail], [rcpt]) = (&starting(b"MAIL ")[..], &starting(b"RCPT ")[..]) else {
                panic!("one of each\n{commands:?}")
            };
            assert_path(mail, b"MAIL FROM:<", &from, &["SIZE=", "BODY=8BITMIME", "SMTPUTF8", "ENVID="]);
            assert_path(rcpt, b"RCPT TO:<", &to, &["NOTIFY=FAILURE"]);
        }
        Err(error) => {
            tells_no_secret(&error, variant.secret());
            assert_eq!(error.disposition(), Disposition::FixMessage, "{error:?}");
            assert!(server.received.is_empty() && starting(b"MAIL ").is_empty(), "{error:?}");
        }
    }
}

/// The command names this address and nothing else that could be taken for one (RFC 5321 §4.1.2).
fn assert_path(line: &[u8], start: &[u8], address: &Address, parameters: &[&str]) {
    let line = String::from_utf8(line.to_vec()).unwrap();
    let rest = line.as_bytes().strip_prefix(start).unwrap();
    let mut quoted = false;
    let mut escaped = false;
    let end = rest.iter().position(|octet| {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' | b' ' | b'<' if !quoted => return true,
            _ => {}
        }
        false
    });
    let (path, rest) = rest.split_at(end.unwrap_or_else(|| panic!("no end: {line:?}")));
    let path = std::str::from_utf8(path).unwrap();
    let local = path.strip_prefix(address.user());
    assert!(local.is_some_and(|rest| rest.starts_with('@')), "{line:?}");
    assert!(path == AsRef::<str>::as_ref(address) || path.is_ascii(), "{line:?}");
    let rest = std::str::from_utf8(rest).unwrap().strip_prefix('>').unwrap_or_else(|| panic!("{line:?}"));
    let given: Vec<_> = rest.trim_end_matches("\r\n").split(' ').skip(1).collect();
    for parameter in &given {
        assert!(parameters.iter().any(|known| parameter.starts_with(known)), "{line:?}");
    }
}
