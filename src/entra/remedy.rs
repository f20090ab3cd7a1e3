//! What to do about a refusal by Entra ID, from its AADSTS code or, failing that, from the kind of the error.

use super::aadsts::{self, Row};
use crate::oauth::{MissingScope, WrongCallback};
use crate::remedy::{Blanks, Remedy, Who};
use crate::token::{ServerAnswer, TokenError, TokenErrorKind};

/// Returns what to do about a token that could not be had, if anything is known about it.
///
/// Codes are for people; programs branch on [`TokenError::kind`]. Source:
/// learn.microsoft.com/entra/identity-platform/reference-error-codes.
///
/// ```
/// use smtp_oauth::{TokenError, TokenErrorKind, Who, entra};
///
/// let error = TokenError::new(TokenErrorKind::SignInRequired, "there is no refresh token");
/// assert_eq!(entra::remedy(&error).map(|remedy| remedy.who()), Some(Who::User));
/// ```
pub fn remedy(error: &TokenError) -> Option<Remedy> {
    remedy_for(error, &Blanks::default())
}

/// The same, with the account's name filled in.
pub(crate) fn remedy_for(error: &TokenError, blanks: &Blanks<'_>) -> Option<Remedy> {
    let mut remedy = match row(error.server_answer()) {
        Some(row) => row.advice.fill(blanks),
        None => match source::<MissingScope>(error) {
            Some(missing) => of_missing_scope(missing),
            None if error.kind() == TokenErrorKind::SignInRequired
                && *error.server_answer() == ServerAnswer::default() =>
            {
                nothing_stored(blanks)
            }
            None if source::<WrongCallback>(error).is_some() => of_wrong_callback(),
            None => of_kind(error.kind(), blanks)?,
        },
    };
    if let Some(id) = &error.server_answer().correlation_id {
        remedy = remedy.with_step(format!(
            "for details: Entra admin center > Monitoring & health > Sign-in logs, filter by Correlation ID {id}"
        ));
    }
    Some(remedy)
}

/// Finds the first of the listed codes that the tables know.
pub(super) fn row(answer: &ServerAnswer) -> Option<&'static Row> {
    answer.codes.iter().find_map(|code| aadsts::find(*code))
}

fn source<E: std::error::Error + 'static>(error: &TokenError) -> Option<&E> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The browser brought the answer, so no server can be to blame.
fn of_wrong_callback() -> Remedy {
    Remedy::new("The browser came back with something that does not answer this sign-in.".to_owned(), Who::User)
        .with_step("begin the sign-in again, in one tab, and do not use the browser's Back or an old address")
        .with_step("if that does not help: check that the redirect URL is this program's, and that the browser keeps its cookies")
}

/// Entra granted something, so it gave no code: the app registration asks for less than the sign-in did.
fn of_missing_scope(missing: &MissingScope) -> Remedy {
    let permission = missing.permission();
    Remedy::new(
        format!("The sign-in did not grant the app the permission {permission}."),
        Who::ApplicationAdministrator,
    )
    .with_step(format!(
        "App registrations > (the app) > API permissions > Add a permission > Microsoft Graph > Delegated \
         permissions: add {permission}"
    ))
    .with_step("consent to it: Grant admin consent on the same page, or accept it at the next sign-in")
    .with_step("sign in again")
}

/// No server was asked: there is no sign-in to ask it with.
fn nothing_stored(blanks: &Blanks<'_>) -> Remedy {
    Remedy::new(blanks.fill("There is no sign-in of {username} to get a token with."), Who::User)
        .with_step(blanks.fill("sign in as {username} where this program offers it, and consent; the sign-in fills the token store"))
        .with_step("a refresh token from elsewhere is put there by `TokenStore::seed`")
        .with_step("after a sign-in: check that this program opens the same store, such as the same path of the token file, and as the same user")
}

/// What can be said without a code.
fn of_kind(kind: TokenErrorKind, blanks: &Blanks<'_>) -> Option<Remedy> {
    let (summary, who, steps): (_, _, &[&str]) = match kind {
        TokenErrorKind::SignInRequired => (
            "The account {username} must sign in again.",
            Who::User,
            &["sign in with {username} and consent"],
        ),
        TokenErrorKind::ClientRefused => (
            "The sign-in service does not accept the app.",
            Who::ApplicationAdministrator,
            &[
                "check client id and client secret or certificate against the app registration, at Entra ID the tenant too",
                "elsewhere than at Entra ID: see whether the server takes the client secret in the header or in the body, and set token_endpoint_auth_method to it",
            ],
        ),
        TokenErrorKind::AccountRefused => (
            "The account {username} may not use the app.",
            Who::SecurityAdministrator,
            &["Entra admin center > Monitoring & health > Sign-in logs: the failed sign-in gives the reason"],
        ),
        TokenErrorKind::RequestRefused => (
            "The sign-in service does not accept the request for a token.",
            Who::Operator,
            &["check the scope against the app registration, at Entra ID tenant and cloud too"],
        ),
        TokenErrorKind::Unavailable => (
            "The sign-in service cannot be reached, or is busy.",
            Who::Operator,
            &[
                "send the message again later",
                "if it lasts: check DNS, proxy and firewall for HTTPS to the sign-in host (of Entra ID: login.microsoftonline.com)",
            ],
        ),
        TokenErrorKind::InvalidResponse => (
            "What answers at the token endpoint is no sign-in service.",
            Who::Operator,
            &[
                "look for a proxy or captive portal that answers in its place",
                "check the URL in token_endpoint or authority, if one is set",
            ],
        ),
        TokenErrorKind::Store => (
            "The token store cannot be read, written or locked.",
            Who::Operator,
            &[
                "send the message again later: nothing was sent, and the store may only be restarting",
                "if it lasts: mend the store at the place that the error names; where it says what to restore or remove, do that",
                "a file: its directory must exist, belong to the user this program runs as, and not be full",
                "Redis: the server must run, answer at the address in the error, let this program in, and have room to write",
                "the keyring: it must be there for the user this program runs as, and unlocked",
                "a store of the program's own: see in its vault or database why it refused",
            ],
        ),
        TokenErrorKind::InvalidToken => (
            "The token provider returned what cannot be used as an access token.",
            Who::Developer,
            &[
                "return the access token alone, without line break, space or `Bearer`: trim what is read from a file or a command",
                "return a new token each time: not one that has expired, and not the one that `TokenRequest::rejected` names",
            ],
        ),
        TokenErrorKind::Configuration => return None,
    };
    Some(
        steps
            .iter()
            .fold(Remedy::new(blanks.fill(summary), who), |remedy, step| remedy.with_step(blanks.fill(step))),
    )
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::token::AccessToken;

    #[test]
    fn what_passes_is_not_said_to_be_tried_again() {
        // A remedy is read where an error ended up: by then whatever repeats has given up.
        let unavailable = |codes| {
            let answer = ServerAnswer { codes, ..ServerAnswer::default() };
            TokenError::new(TokenErrorKind::Unavailable, "busy").with_server_answer(answer)
        };
        for codes in [vec![], vec![80_001], vec![90_033], vec![50_166]] {
            let remedy = remedy(&unavailable(codes.clone())).unwrap();
            assert_eq!(remedy.steps()[0], "send the message again later", "{codes:?}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_used_and_an_empty_store_have_remedies() {
        let error = AccessToken::new("two words", OffsetDateTime::UNIX_EPOCH).unwrap_err();
        let found = remedy(&error).unwrap();
        assert_eq!(found.who(), Who::Developer);
        assert!(found.steps()[0].contains("without line break"), "{found}");

        let error = TokenError::new(TokenErrorKind::SignInRequired, "nothing is stored");
        let found = remedy(&error).unwrap();
        assert_eq!(found.who(), Who::User);
        assert!(found.steps().iter().any(|step| step.contains("TokenStore::seed")), "{found}");
        // Somebody whose sign-in the server refused has a store that works.
        let answer = ServerAnswer { status: Some(400), ..ServerAnswer::default() };
        let found = remedy(&error.with_server_answer(answer)).unwrap();
        assert!(!found.steps().iter().any(|step| step.contains("store")), "{found}");
    }

    #[test]
    fn a_known_code_says_more_than_its_kind_and_the_log_is_named() {
        let answer = ServerAnswer {
            codes: vec![1, 7_000_222],
            correlation_id: Some("5c4f".to_owned()),
            ..ServerAnswer::default()
        };
        let error = TokenError::new(TokenErrorKind::ClientRefused, "refused").with_server_answer(answer);
        let remedy = remedy(&error).unwrap();
        assert_eq!(remedy.summary(), "The client secret has expired.");
        assert_eq!(remedy.who(), Who::ApplicationAdministrator);
        assert!(remedy.steps().last().unwrap().contains("Correlation ID 5c4f"), "{remedy}");
    }

    #[test]
    fn each_kind_alone_says_whose_move_it_is() {
        let cases = [
            (TokenErrorKind::ClientRefused, Who::ApplicationAdministrator, "does not accept the app"),
            (
                TokenErrorKind::AccountRefused,
                Who::SecurityAdministrator,
                "svc@contoso.com may not use the app",
            ),
            (TokenErrorKind::RequestRefused, Who::Operator, "does not accept the request"),
            (TokenErrorKind::Unavailable, Who::Operator, "cannot be reached, or is busy"),
            (TokenErrorKind::InvalidResponse, Who::Operator, "is no sign-in service"),
            (TokenErrorKind::Store, Who::Operator, "cannot be read, written or locked"),
            (TokenErrorKind::InvalidToken, Who::Developer, "cannot be used as an access token"),
        ];
        let blanks = Blanks { username: Some("svc@contoso.com"), ..Blanks::default() };
        for (kind, who, words) in cases {
            let found = remedy_for(&TokenError::new(kind, "refused"), &blanks).unwrap();
            assert_eq!(found.who(), who, "{kind:?}");
            assert!(found.summary().contains(words), "{kind:?}: {found}");
        }
        // The message itself says which setting to mend.
        assert_eq!(remedy(&TokenError::new(TokenErrorKind::Configuration, "refused")), None);
    }

    #[test]
    fn another_source_than_a_missing_permission_leaves_it_to_the_kind() {
        let source = std::fmt::Error;
        let error = TokenError::new(TokenErrorKind::RequestRefused, "refused").with_source(source);
        assert_eq!(remedy(&error).unwrap().who(), Who::Operator);
    }
}
