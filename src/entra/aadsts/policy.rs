//! AADSTS codes of accounts, policies and outages. Source: reference-error-codes and logs.

use super::Row;
use crate::remedy::Who;
use crate::token::TokenErrorKind as Kind;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &[50053],
        Some(Kind::Unavailable),
        Who::UserAdministrator,
        "The account {username} is locked after too many wrong passwords, or signs in from a blocked address.",
        &[
            "wait some minutes; stop programs that still use an old password",
            "Entra admin center > Protection > Risky sign-ins: look at the attempts",
        ],
    ),
    Row::new(
        &[50057],
        Some(Kind::AccountRefused),
        Who::UserAdministrator,
        "The account {username} is disabled.",
        &[
            "Entra admin center > Users > {username} > Edit properties > Settings > Account enabled",
            "then sign in again if asked to",
        ],
    ),
    Row::new(
        &[50105],
        Some(Kind::AccountRefused),
        Who::ApplicationAdministrator,
        "{username} is not assigned to the app.",
        &[
            "Entra admin center > Enterprise applications > (the app) > Users and groups > Add: {username}",
            "or Properties > Assignment required: No",
        ],
    ),
    Row::new(
        &[7_000_112],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The app is switched off in this tenant.",
        &[
            "Entra admin center > Enterprise applications > (the app) > Properties > Enabled for users to sign-in: Yes",
        ],
    ),
    Row::new(
        &[50131, 53002, 53003, 530_032],
        Some(Kind::AccountRefused),
        Who::SecurityAdministrator,
        "A Conditional Access policy blocks {username} or the app.",
        &[
            "Entra admin center > Monitoring & health > Sign-in logs > (the failed sign-in) > Conditional Access: names the policy",
            "Conditional Access > Policies > (the policy): exclude {username}, this program's address, or the app",
        ],
    ),
    Row::new(
        &[53011, 530_034, 530_035],
        Some(Kind::AccountRefused),
        Who::SecurityAdministrator,
        "The sign-in is blocked because of risk, security defaults, or a suspicious delegated administrator.",
        &["Entra admin center > Protection > Risky users and Risky sign-ins: confirm or dismiss the risk"],
    ),
    Row::new(
        &[500_021, 500_022, 500_212, 500_213],
        Some(Kind::AccountRefused),
        Who::SecurityAdministrator,
        "The tenant's restrictions do not let {username} use this app or tenant.",
        &[
            "Entra admin center > External Identities > Cross-tenant access settings: allow the other tenant",
            "check tenant restrictions at the company's proxy",
        ],
    ),
    Row::new(
        &[50097, 50155, 50129, 53000, 53001, 530_002, 530_003],
        Some(Kind::AccountRefused),
        Who::SecurityAdministrator,
        "A policy wants a registered or compliant device, which this program cannot prove.",
        &[
            "exclude the account or the app: Conditional Access > Policies > (the policy)",
            "or use app-only access (SMTP.SendAsApp)",
        ],
    ),
    Row::new(
        &[90094, 90095],
        Some(Kind::AccountRefused),
        Who::ApplicationAdministrator,
        "Users of this tenant may not consent to the app; an administrator must.",
        &[
            "Entra admin center > App registrations > (the app) > API permissions > Grant admin consent",
            "or open the admin consent link of this program as administrator",
        ],
    ),
    Row::new(
        &[
            80001, 80002, 80003, 80004, 80005, 80006, 80007, 80008, 80009, 80010, 80011, 80012, 80013, 80014,
            40010,
        ],
        Some(Kind::Unavailable),
        Who::UserAdministrator,
        "The organization's own password check or sign-in service has a fault.",
        &[
            "send the message again later",
            "if it lasts: check the pass-through authentication agents: Entra admin center > Microsoft Entra Connect",
        ],
    ),
    Row::new(
        &[50087, 50088, 50033, 90006, 90012, 90024, 90033, 90090],
        Some(Kind::Unavailable),
        Who::Nobody,
        "Entra ID has a fault that passes.",
        &[
            "send the message again later",
            "if it lasts: Microsoft 365 admin center > Health > Service health",
        ],
    ),
    Row::new(
        &[50166, 90055],
        Some(Kind::Unavailable),
        Who::Nobody,
        "Entra ID is throttling the tenant.",
        &["send the message again later"],
    ),
    Row::new(
        &[50196],
        Some(Kind::Unavailable),
        Who::Developer,
        "The same token was requested too often within a short time.",
        &["share one token cache, and one store, between all tasks and programs"],
    ),
];
