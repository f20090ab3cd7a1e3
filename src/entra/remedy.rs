//! What to do about an AADSTS code, in words for whoever runs the program. Decides nothing (see the error's kind).

use crate::oauth::MissingScope;
use crate::token::TokenError;

/// Returns what to do about a refusal by Entra, when its code has a known remedy.
///
/// Codes are for people; programs branch on [`TokenError::kind`]. Source:
/// learn.microsoft.com/entra/identity-platform/reference-error-codes.
///
/// ```
/// use smtp_oauth::{TokenError, TokenErrorKind, entra};
///
/// let error = TokenError::new(TokenErrorKind::Unavailable, "token endpoint failed");
/// assert_eq!(entra::remedy(&error), None);
/// ```
pub fn remedy(error: &TokenError) -> Option<&'static str> {
    let missing = std::error::Error::source(error).and_then(|source| source.downcast_ref::<MissingScope>());
    if missing.is_some() {
        return Some(
            "add the permission in the app registration, API permissions, Microsoft Graph, Delegated permissions \
             (for mail: SMTP.Send), then consent to it and sign in again",
        );
    }
    error.server_answer().codes.iter().find_map(|code| of_code(*code))
}

fn of_code(code: u32) -> Option<&'static str> {
    of_app_code(code).or_else(|| of_account_code(code))
}

/// The app registration, its secret and its tenant.
fn of_app_code(code: u32) -> Option<&'static str> {
    Some(match code {
        7000215 | 70002 => {
            "set the client secret to the secret's Value (not its Secret ID) from the app registration, \
             Certificates & secrets"
        }
        7000222 => {
            "the client secret has expired: make a new one in the app registration, Certificates & secrets"
        }
        7000218 => {
            "set the client secret, or switch on `Allow public client flows` in the app registration, \
             Authentication"
        }
        700025 => "remove the client secret: the app registration is a public client",
        700016 | 70001 | 700011 => {
            "check client id and tenant: the tenant has no app with this id, or nobody gave admin consent there"
        }
        50011 => {
            "add the redirect URL to the app registration, Authentication, to the letter (for desktop programs \
             http://localhost under `Mobile and desktop applications`)"
        }
        501_481 | 50147 => "start the sign-in again in the same browser: its PKCE verifier does not fit",
        9_002_327 | 9_002_326 => {
            "register the redirect URL under `Web` or `Mobile and desktop applications`, not as a SPA"
        }
        7000112 => "switch the enterprise application on again: Properties, `Enabled for users to sign-in`",
        7000229 => "give admin consent once in that tenant, which creates the enterprise application",
        90002 | 900023 => "check the tenant: Entra knows none with this id or domain in this cloud",
        90038 => "set the cloud in which the tenant lives",
        50194 | 9001023 | 9002332 => "use the tenant's own id instead of `common` or `organizations`",
        70011 | 28002 | 28003 | 28000 | 700022 => {
            "request the scope of the mail server's cloud alone, such as \
             https://outlook.office.com/SMTP.Send"
        }
        50001 | 500011 | 650052 | 65005 => {
            "check that the tenant has an Exchange Online licence and the app the SMTP.Send permission"
        }
        700027 | 50012 | 50013 => {
            "check that the certificate is registered with the app and that the clock is right"
        }
        _ => return None,
    })
}

/// The account that signed in, and the policies that apply to it.
fn of_account_code(code: u32) -> Option<&'static str> {
    Some(match code {
        70008 | 700082 | 700084 => {
            "sign in again: the refresh token has expired, as it does when unused for 90 days"
        }
        50173 | 50132 | 50133 | 50089 | 50085 => {
            "sign in again: the sessions were revoked, or the password was changed"
        }
        54005 => "start the sign-in again: its code was redeemed already",
        65004 => "sign in again and consent, or have an administrator consent for the tenant",
        70018 | 70019 | 70020 | 90120 => {
            "start the sign-in again: its code has expired or was not entered right"
        }
        70000 => "sign in again: the refresh token is not valid for this app and scope",
        65001 => "sign in again and consent to SMTP.Send, or have an administrator consent for the tenant",
        90094 | 90095 => "have an administrator consent to the app: users may not in this tenant",
        50072 | 50074 | 50076 | 50078 | 50079 | 50158 | 70043 => {
            "sign in again: a policy asks for another proof of identity"
        }
        50055 | 50144 => "change the account's password, which has expired, and sign in again",
        50057 => "enable the account again in Entra ID, Users",
        50105 => "assign the account to the enterprise application, Users and groups",
        53003 | 53002 | 53000 | 53001 | 530_032 => {
            "have an administrator exempt the account or the app from the Conditional Access policy that blocks it"
        }
        500341 => "sign in with another account: this one was deleted",
        50020 | 50034 | 16000 | 51004 => {
            "sign in with an account of this tenant, or invite the account as a guest"
        }
        50053 => "wait until the account is unlocked, or have an administrator unlock it",
        _ => return None,
    })
}
