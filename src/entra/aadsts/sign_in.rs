//! AADSTS codes that a person settles by signing in. Source: reference-error-codes and logs.

use super::Row;
use crate::remedy::Who;
use crate::token::TokenErrorKind as Kind;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &[16000, 16003, 50020, 51004, 50034, 90072],
        Some(Kind::SignInRequired),
        Who::User,
        "The account that signed in does not belong to the tenant.",
        &[
            "sign in with {username}, an account of this tenant",
            "or invite it: Entra admin center > Users > New user > Invite external user",
            "check the tenant in the settings",
        ],
    ),
    Row::new(
        &[500_200, 500_208],
        Some(Kind::SignInRequired),
        Who::User,
        "A personal Microsoft account signed in to an app for work or school accounts.",
        &[
            "sign in with a work or school account, {username}",
            "or let the app take personal accounts: App registrations > (the app) > Authentication > Supported account types; then set the tenant to common or consumers",
        ],
    ),
    Row::new(
        &[50055, 50144],
        Some(Kind::SignInRequired),
        Who::User,
        "The password of {username} has expired.",
        &[
            "change it at https://mysignins.microsoft.com/security-info/password/change (50144: in the organization's own Active Directory)",
            "sign in again",
        ],
    ),
    Row::new(
        &[50056, 50064, 50126],
        Some(Kind::SignInRequired),
        Who::User,
        "User name or password is wrong.",
        &["sign in again with the right password; wrong ones lock the account in the end"],
    ),
    Row::new(
        &[50058, 50085, 50089, 50132, 50133, 50173],
        Some(Kind::SignInRequired),
        Who::User,
        "The sign-in of {username} was revoked or has expired, for example because the password was changed.",
        &["sign in again with {username}"],
    ),
    Row::new(
        &[50158, 53004, 70043],
        Some(Kind::SignInRequired),
        Who::User,
        "A policy wants {username} to sign in anew, with another proof of identity.",
        &[
            "sign in again with {username}",
            "if it comes back regularly: a security administrator can lengthen the sign-in frequency in Conditional Access > Policies > Session",
        ],
    ),
    Row::new(
        &[50072, 50074, 50076, 50078, 50079],
        Some(Kind::SignInRequired),
        Who::User,
        "{username} must prove its identity by multifactor authentication.",
        &[
            "sign in again with {username} and complete the second factor",
            "for a program that nobody watches: use app-only access (SMTP.SendAsApp), which needs no person",
        ],
    ),
    Row::new(
        &[500_121],
        Some(Kind::SignInRequired),
        Who::User,
        "The second factor of the sign-in was denied, or not answered in time.",
        &["sign in again and confirm the request"],
    ),
    Row::new(
        &[50140],
        Some(Kind::SignInRequired),
        Who::User,
        "The sign-in was interrupted at the question whether to stay signed in.",
        &["finish the sign-in page in the browser"],
    ),
    Row::new(
        &[54005],
        Some(Kind::SignInRequired),
        Who::User,
        "The authorization code was used before.",
        &["start the sign-in again, and open the callback page once only"],
    ),
    Row::new(
        &[65001],
        Some(Kind::SignInRequired),
        Who::User,
        "Nobody has consented that the app sends mail for {username}.",
        &[
            "sign in again and accept the permissions",
            "or for everybody: Entra admin center > App registrations > (the app) > API permissions > Grant admin consent",
        ],
    ),
    Row::new(
        &[65004],
        Some(Kind::SignInRequired),
        Who::User,
        "The consent was declined.",
        &[
            "sign in again and choose Accept",
            "or for everybody: Entra admin center > App registrations > (the app) > API permissions > Grant admin consent",
        ],
    ),
    Row::new(
        &[70000],
        Some(Kind::SignInRequired),
        Who::User,
        "The stored sign-in is not valid for this app and these permissions.",
        &["sign in again with {username}", "check that client id and cloud are those of the earlier sign-in"],
    ),
    Row::new(
        &[70008, 700_082, 700_084],
        Some(Kind::SignInRequired),
        Who::User,
        "The stored sign-in of {username} has expired, as it does after 90 days without use.",
        &[
            "sign in again with {username}",
            "if it expires after a day: register the redirect address as Mobile and desktop, not as SPA",
        ],
    ),
    Row::new(
        &[70018, 50134, 90119, 90120, 70019, 70020],
        Some(Kind::SignInRequired),
        Who::User,
        "The device code is wrong, was used before, or has expired.",
        &["start the sign-in again and enter the new code within 15 minutes"],
    ),
    Row::new(
        &[70016],
        None,
        Who::User,
        "The sign-in has not been finished in the browser yet.",
        &["open the address shown and enter the code"],
    ),
    Row::new(
        &[700_003],
        Some(Kind::SignInRequired),
        Who::User,
        "The device is not known to the tenant any more.",
        &["sign in again, from a registered device if a policy wants one"],
    ),
    Row::new(
        &[700_020],
        Some(Kind::SignInRequired),
        Who::User,
        "The request needs a person.",
        &["sign in again with {username}"],
    ),
    Row::new(
        &[500_341],
        Some(Kind::SignInRequired),
        Who::User,
        "The account {username} was deleted.",
        &[
            "sign in with another account of the tenant, or have the deleted one restored: Entra admin center > Users > Deleted users",
        ],
    ),
    Row::new(
        &[40008, 40009, 40016],
        Some(Kind::SignInRequired),
        Who::User,
        "The organization's own sign-in service refused {username}.",
        &["sign in again; if it fails again, ask the administrator of that service"],
    ),
];
