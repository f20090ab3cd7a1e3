//! With only what the remedy says, each fault that the example `doctor` shows can be repaired.

#[path = "../examples/doctor/demo.rs"]
mod demo;

use demo::{DEMOS, Demo, SignIn, Stage};
use smtp_oauth::{Diagnose, Diagnosis, StepName};

/// The step that fails, the words of the remedy that say what to do, and their effect.
struct Repair {
    demo: &'static str,
    step: StepName,
    advice: &'static [&'static str],
    effect: fn(&mut Stage),
}

const fn repair(
    demo: &'static str,
    step: StepName,
    advice: &'static [&'static str],
    effect: fn(&mut Stage),
) -> Repair {
    Repair { demo, step, advice, effect }
}

/// An administrator has turned a switch, granted a right or mended a server.
fn exchange_mended(stage: &mut Stage) {
    stage.tenant.exchange().clear_faults();
}

fn entra_mended(stage: &mut Stage) {
    stage.tenant.entra().recover();
}

fn oauth_entered(stage: &mut Stage) {
    exchange_mended(stage); // The block concerned passwords only.
    stage.entered.sign_in = SignIn::OAuth { client_secret: stage.tenant.entra().client_secret() };
}

fn new_secret_entered(stage: &mut Stage) {
    stage.tenant.entra().recover();
    stage.tenant.entra().replace_client_secret("fak8Q~made-by-the-administrator");
    stage.entered.sign_in = SignIn::OAuth { client_secret: stage.tenant.entra().client_secret() };
}

fn port_entered(stage: &mut Stage) {
    stage.entered.port = stage.tenant.exchange().port();
}

const REPAIRS: &[Repair] = &[
    repair(
        "smtp-auth-disabled-tenant",
        StepName::Authentication,
        &[
            "Set-CASMailbox -Identity 'svc-mail@contoso.com' -SmtpClientAuthenticationDisabled $false",
            "Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
        ],
        exchange_mended,
    ),
    repair(
        "smtp-auth-disabled-mailbox",
        StepName::Authentication,
        &["Active users > svc-mail@contoso.com > Mail > Manage email apps: tick Authenticated SMTP"],
        exchange_mended,
    ),
    repair(
        "send-as-denied",
        StepName::TestMessage,
        &[
            "Add-RecipientPermission -Identity 'alerts@contoso.com' -AccessRights SendAs -Trustee 'svc-mail@contoso.com'",
        ],
        exchange_mended,
    ),
    repair(
        "client-secret-expired",
        StepName::Token,
        &["Certificates & secrets > New client secret", "copy its Value at once"],
        new_secret_entered,
    ),
    repair(
        "client-secret-wrong",
        StepName::Token,
        &["New client secret, copy the Value"],
        new_secret_entered,
    ),
    repair(
        "consent-missing",
        StepName::Token,
        &["sign in again and accept", "Grant admin consent"],
        entra_mended,
    ),
    repair("sign-in-expired", StepName::Token, &["sign in again with svc-mail@contoso.com"], entra_mended),
    repair("conditional-access", StepName::Token, &["exclude svc-mail@contoso.com"], entra_mended),
    repair(
        "wrong-account",
        StepName::Authentication,
        &["the token belongs to another account than alerts@contoso.com"],
        |stage| stage.entered.username = stage.tenant.account(),
    ),
    repair(
        "app-only-not-registered",
        StepName::Authentication,
        &[
            "New-ServicePrincipal -AppId",
            "Object ID from Entra admin center > Enterprise applications",
            "Add-MailboxPermission -Identity 'svc-mail@contoso.com'",
        ],
        exchange_mended,
    ),
    repair("basic-auth-retired", StepName::Authentication, &["set this program to OAuth 2.0"], oauth_entered),
    repair("security-defaults", StepName::Authentication, &["set this program to OAuth 2.0"], oauth_entered),
    repair("recipient-unknown", StepName::Envelope, &["recipient"], exchange_mended),
    repair("throttled", StepName::TestMessage, &["3 or less"], exchange_mended),
    repair("token-endpoint-down", StepName::Token, &["later"], entra_mended),
    repair("token-endpoint-throttled", StepName::Token, &["later"], entra_mended),
    repair("captive-portal", StepName::Token, &["proxy or captive portal"], entra_mended),
    repair("starttls-stripped", StepName::Tls, &["switch off SMTP inspection"], exchange_mended),
    repair("wrong-certificate", StepName::Tls, &["add its root certificate to the settings"], |stage| {
        stage.entered.roots = stage.tenant.exchange().root_pem().to_owned();
    }),
    repair("server-unreachable", StepName::Connect, &["check host and port in the settings"], port_entered),
];

async fn examined(stage: &Stage) -> Diagnosis {
    let mailer = stage.mailer().unwrap();
    let diagnose = Diagnose::new(&mailer);
    if stage.sends_test { diagnose.send_test().run().await } else { diagnose.run().await }
}

#[tokio::test]
async fn every_demo_but_the_healthy_one_has_a_repair() {
    let repaired: Vec<_> = REPAIRS.iter().map(|repair| repair.demo).collect();
    let shown: Vec<_> = DEMOS.iter().map(|demo| demo.name).filter(|name| *name != "healthy").collect();
    assert_eq!(repaired, shown);
    let stage = Demo::find("healthy").unwrap().stage().await.unwrap();
    assert!(examined(&stage).await.is_healthy());
    assert!(DEMOS.iter().all(|demo| !demo.about.is_empty()));
}

#[tokio::test]
async fn what_the_remedy_says_repairs_the_fault() {
    for Repair { demo, step, advice, effect } in REPAIRS {
        let mut stage = Demo::find(demo).unwrap().stage().await.unwrap();
        let diagnosis = examined(&stage).await;
        let failed =
            diagnosis.first_failure().unwrap_or_else(|| panic!("{demo} shows no fault:\n{diagnosis}"));
        assert_eq!(failed.name(), *step, "{demo}:\n{diagnosis}");
        let remedy =
            failed.remedy().unwrap_or_else(|| panic!("{demo} has no remedy:\n{diagnosis}")).to_string();
        for words in *advice {
            assert!(remedy.contains(words), "{demo}: `{words}` is missing in\n{remedy}");
        }
        for blank in ["<username>", "<sender>", "<host>"] {
            assert!(!remedy.contains(blank), "{demo}: {remedy}");
        }
        effect(&mut stage);
        let diagnosis = examined(&stage).await;
        assert!(diagnosis.is_healthy(), "{demo} was not repaired:\n{diagnosis}");
    }
}

#[tokio::test]
async fn an_app_alone_is_shown_with_its_id_and_advised_as_such() {
    let stage = Demo::find("app-only-not-registered").unwrap().stage().await.unwrap();
    let diagnosis = examined(&stage).await;
    let token = diagnosis.steps().iter().find(|step| step.name() == StepName::Token).unwrap();
    let client_id = stage.tenant.entra().client_id();
    for words in [
        format!("by client credentials grant, client id {client_id}"),
        "the app signs in as itself".to_owned(),
        "granted https://outlook.office365.com/.default".to_owned(),
    ] {
        assert!(token.finding().contains(&words), "{token}");
    }
    let remedy = diagnosis.first_failure().unwrap().remedy().unwrap();
    assert!(remedy.steps()[0].starts_with("Get-ServicePrincipal must list the app"), "{remedy}");
    assert!(!remedy.to_string().contains("sign in again"), "nobody signs in: {remedy}");
}
