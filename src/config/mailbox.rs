//! Mailboxes and user names as they are entered: checked before lettre and SASL see them. Knows no permission.

use lettre::Address;
use lettre::message::{Mailbox, Mailboxes};

use super::blank;
use super::problem::ConfigProblem;

/// The longest user name: the longest path of RFC 5321 §4.5.3.1 with room to spare.
const LONGEST_USERNAME: usize = 320;

/// Reads `alerts@contoso.com` or `Contoso alerts <alerts@contoso.com>`.
pub(super) fn mailbox(field: &'static str, given: &str) -> Result<Mailbox, ConfigProblem> {
    let refuse = |mend: &'static str| Err(ConfigProblem::new(field, mend).showing(given));
    if let Some(mend) = blank::at_ends(given) {
        return Err(ConfigProblem::new(field, mend).showing(given));
    }
    // lettre panics on CR, LF and NUL in a name when it writes the header.
    if given.chars().any(char::is_control) {
        return refuse(
            "remove the control characters (line breaks, tabs, NUL); they could start another header",
        );
    }
    let Ok(mailbox) = given.parse() else {
        return refuse(if given.parse::<Mailboxes>().is_ok_and(|list| list.iter().count() > 1) {
            "enter one address only"
        } else if given.contains('@') {
            "enter an address such as alerts@contoso.com, or \"Contoso, alerts\" <alerts@contoso.com>"
        } else {
            "enter a whole address with @ and domain, such as alerts@contoso.com"
        });
    };
    Ok(mailbox)
}

/// Checks the name that signs in.
pub(super) fn username(given: &str) -> Result<String, ConfigProblem> {
    let refuse = |mend: &'static str| Err(ConfigProblem::new("username", mend).showing(given));
    if given.is_empty() {
        Err(ConfigProblem::new("username", "enter the name that signs in, such as svc-mail@contoso.com"))
    } else if let Some(mend) = blank::at_ends(given) {
        Err(ConfigProblem::new("username", mend).showing(given))
    } else if given.chars().any(char::is_control) {
        // XOAUTH2 separates its parts by ^A, PLAIN (RFC 4616) by NUL.
        refuse(
            "remove the control characters (line breaks, tabs, NUL); they could end the sign-in message early",
        )
    } else if given.len() > LONGEST_USERNAME {
        refuse("enter the name that signs in; no server has names of more than 320 octets")
    } else {
        Ok(given.to_owned())
    }
}

/// Reads the address of a mailbox that signs in under it.
pub(super) fn account(field: &'static str, given: &str) -> Result<(String, Mailbox), ConfigProblem> {
    let sender = mailbox(field, given)?;
    if sender.name.is_some() {
        let mend = "enter the address alone, without a name";
        return Err(ConfigProblem::new(field, mend).showing(given));
    }
    let name = username(sender.email.as_ref())
        .map_err(|problem| ConfigProblem::new(field, problem.mend().to_owned()).showing(given))?;
    Ok((name, sender))
}

/// Reads the user name as the sender's address, where no sender was entered.
pub(super) fn sender_from(username: &str) -> Result<Mailbox, ConfigProblem> {
    username.parse::<Address>().map(Mailbox::from).map_err(|_| {
        ConfigProblem::new(
            "sender",
            "enter the sender's address; the user name is none that could stand in for it",
        )
    })
}

/// Tells whether two names are of one account: upper and lower case never matter, nor do blanks around a name.
pub(crate) fn is_same_account(one: &str, other: &str) -> bool {
    account_key(one) == account_key(other)
}

/// Returns what is the same for all ways to write an account's name.
pub(crate) fn account_key(name: &str) -> String {
    name.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_are_read_with_and_without_a_name() {
        for (given, name, email) in [
            ("alerts@contoso.com", None, "alerts@contoso.com"),
            ("Contoso alerts <alerts@contoso.com>", Some("Contoso alerts"), "alerts@contoso.com"),
            ("\"Contoso, alerts\" <alerts@contoso.com>", Some("Contoso, alerts"), "alerts@contoso.com"),
            ("Jürgen Groß <jg@contoso.com>", Some("Jürgen Groß"), "jg@contoso.com"),
        ] {
            let mailbox = mailbox("sender", given).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!((mailbox.name.as_deref(), mailbox.email.as_ref()), (name, email), "{given}");
        }
    }

    #[test]
    fn a_name_is_the_same_in_either_case() {
        for other in ["SVC-mail@Contoso.com", " svc-mail@contoso.com "] {
            assert!(is_same_account("svc-mail@contoso.com", other), "{other}");
        }
        assert!(is_same_account("JÜRGEN@contoso.com", "jürgen@contoso.com"));
        assert!(!is_same_account("svc-mail@contoso.com", "svc@contoso.com"));
    }

    #[test]
    fn anything_else_is_no_mailbox() {
        for given in
            ["", "alerts", "@contoso.com", "a@b@c.com", "a@contoso.com, b@contoso.com", "A <a@contoso.com> B"]
        {
            assert!(mailbox("sender", given).is_err(), "{given}");
        }
        for given in ["A\r\nBcc: x <a@contoso.com>", "A\0 <a@contoso.com>", "A\u{85} <a@contoso.com>"] {
            let problem = mailbox("sender", given).unwrap_err();
            assert!(problem.mend().contains("control characters"), "{given:?}: {problem}");
        }
    }
}
