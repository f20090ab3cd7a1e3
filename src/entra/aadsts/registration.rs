//! AADSTS codes of the app registration, its credentials and its requests. Source: reference-error-codes and logs.

use super::Row;
use crate::remedy::Who;
use crate::token::TokenErrorKind as Kind;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &[70002, 7_000_215],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The client secret is wrong.",
        &[
            "enter the secret's Value, not its Secret ID",
            "if the Value is lost: Entra admin center > App registrations > (the app) > Certificates & secrets > New client secret, copy the Value at once",
        ],
    ),
    Row::new(
        &[7_000_222],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The client secret has expired.",
        &[
            "Entra admin center > App registrations > (the app) > Certificates & secrets > New client secret",
            "copy its Value at once (it is shown only then), enter it here, and note the expiry date",
            "delete the old secret when every program has the new one",
        ],
    ),
    Row::new(
        &[7_000_218],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "Entra wants a client secret or certificate, and the program sent none.",
        &[
            "for device code or desktop sign-in: App registrations > (the app) > Authentication > Allow public client flows: Yes",
            "else enter the client secret",
        ],
    ),
    Row::new(
        &[700_025],
        Some(Kind::ClientRefused),
        Who::Operator,
        "The app is a public client and must not send a client secret.",
        &["remove the client secret from the settings"],
    ),
    Row::new(
        &[70001, 700_011, 700_016],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The tenant knows no app with this client id.",
        &[
            "compare with Entra admin center > App registrations > (the app) > Overview: Application (client) ID and Directory (tenant) ID",
            "an app of another tenant needs admin consent in this one first",
        ],
    ),
    Row::new(
        &[7_000_229],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The app has no enterprise application (service principal) in the tenant.",
        &[
            "give admin consent once in that tenant, which creates it: App registrations > (the app) > API permissions > Grant admin consent",
        ],
    ),
    Row::new(
        &[50012, 50013, 50027, 500_133, 700_024, 700_027],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "Entra does not accept the certificate's signature.",
        &[
            "App registrations > (the app) > Certificates & secrets > Certificates: compare the thumbprint",
            "check this computer's clock",
            "check that the private key belongs to the certificate",
        ],
    ),
    Row::new(
        &[700_030],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The certificate's subject is not authorized for the app.",
        &[
            "App registrations > (the app) > Certificates & secrets: upload this certificate, or correct the trusted subject",
        ],
    ),
    Row::new(
        &[700_211, 700_212, 700_213],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "No federated credential of the app fits the presented assertion.",
        &[
            "App registrations > (the app) > Certificates & secrets > Federated credentials: issuer, subject and audience must match to the letter; Entra's message names what it saw",
        ],
    ),
    Row::new(
        &[700_229],
        Some(Kind::ClientRefused),
        Who::Developer,
        "Federated credentials need a token of an app, not of a user.",
        &["present an app-only token as assertion"],
    ),
    Row::new(
        &[501_051],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The app is not assigned to a role of the mail service.",
        &[
            "App registrations > (the app) > API permissions: add SMTP.Send (delegated) or Office 365 Exchange Online > SMTP.SendAsApp (application)",
            "Grant admin consent on the same page",
        ],
    ),
    Row::new(
        &[50001, 500_011],
        Some(Kind::RequestRefused),
        Who::ApplicationAdministrator,
        "The tenant has no Exchange Online.",
        &[
            "check that the tenant is the right one and has a licence with Exchange Online",
            "check the cloud in the settings",
        ],
    ),
    Row::new(
        &[65005, 650_052, 650_054, 650_056, 650_057, 7_000_114],
        Some(Kind::ClientRefused),
        Who::ApplicationAdministrator,
        "The app registration lacks a permission, or the tenant the service that it is for.",
        &[
            "App registrations > (the app) > API permissions: add SMTP.Send (delegated) or SMTP.SendAsApp (application), then Grant admin consent",
            "check that the tenant has a licence with Exchange Online",
        ],
    ),
    Row::new(
        &[50194, 9_001_023, 9_002_332, 90124, 90130],
        Some(Kind::RequestRefused),
        Who::Operator,
        "The app, or this way to get a token, is not allowed with common, organizations or consumers.",
        &["set the tenant to the Directory (tenant) ID shown in App registrations > (the app) > Overview"],
    ),
    Row::new(
        &[50059, 90019],
        Some(Kind::RequestRefused),
        Who::Operator,
        "Entra cannot tell which tenant is meant.",
        &["set the tenant to the Directory (tenant) ID"],
    ),
    Row::new(
        &[90002, 900_023],
        Some(Kind::RequestRefused),
        Who::Operator,
        "There is no such tenant in this cloud.",
        &[
            "compare with Entra admin center > Overview: Tenant ID, or a verified domain",
            "check the cloud in the settings",
        ],
    ),
    Row::new(
        &[90038],
        Some(Kind::RequestRefused),
        Who::Operator,
        "The tenant lives in another national cloud.",
        &["set the cloud in the settings: us-government, us-government-dod or china"],
    ),
    Row::new(
        &[700_005],
        Some(Kind::RequestRefused),
        Who::Developer,
        "The authorization code was redeemed at another tenant than it came from.",
        &["use one and the same tenant for the whole sign-in"],
    ),
    Row::new(
        &[28000, 28002, 28003, 70011, 700_022, 700_023],
        Some(Kind::RequestRefused),
        Who::Operator,
        "The requested scope is not valid, or is for several services at once.",
        &[
            "request the mail server's scope alone, such as https://outlook.office.com/SMTP.Send with offline_access",
            "app-only: https://outlook.office365.com/.default",
        ],
    ),
    Row::new(
        &[50011, 70004, 900_971, 700_009],
        Some(Kind::RequestRefused),
        Who::ApplicationAdministrator,
        "The redirect address does not match the app registration.",
        &[
            "App registrations > (the app) > Authentication > Mobile and desktop applications: add http://localhost, or the address of the settings to the letter",
        ],
    ),
    Row::new(
        &[9_002_326, 9_002_327],
        Some(Kind::RequestRefused),
        Who::ApplicationAdministrator,
        "The redirect address is registered as SPA, which only a browser page can use.",
        &[
            "App registrations > (the app) > Authentication: remove it under SPA, add it under Mobile and desktop applications",
        ],
    ),
    Row::new(
        &[50147, 501_481, 501_491],
        Some(Kind::RequestRefused),
        Who::Developer,
        "The sign-in's proof key (PKCE) is missing or does not match.",
        &["finish each sign-in with the object that started it"],
    ),
    Row::new(
        &[70003, 70005, 70007, 165_900, 901_002, 90013, 90014, 90023, 90100, 900_144, 9_002_313],
        Some(Kind::RequestRefused),
        Who::Developer,
        "Entra finds the request malformed.",
        &["report it with Entra's message: this crate should not send such a request"],
    ),
];
