//! The pages in docs/ are made of what the crate itself reads and prints, and say the same.

#[path = "../examples/doctor/demo.rs"]
#[allow(dead_code, reason = "the test needs some of the faults, and not their descriptions")]
mod demo;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use demo::Demo;
use smtp_oauth::entra::{SendingRight, setup_script};
use smtp_oauth::testing::{KnownCode, KnownReply};
use smtp_oauth::{ConfigProblem, DiagnosisStep, Remedy, ReplyCause, Settings, diagnose};

const HEAD: &str = "\
<!-- Made by tests/troubleshooting.rs; to make it anew: UPDATE_DOCS=1 cargo test --test troubleshooting -->

# Troubleshooting

Search this page for what the server printed: a reply code such as `535 5.7.139`, some words of the text, or a code such as
`AADSTS7000222`. Below each text stands what is wrong, who can put it right, and the steps. The crate gives the same advice by
itself, with the addresses of your settings filled in: `Error::remedy()`, or for everything from DNS to the mailbox

```console
$ cargo run --example doctor -- settings.toml
```

Steps that are a line of PowerShell are for Exchange Online PowerShell (`Connect-ExchangeOnline`). How to set everything up:
[Microsoft 365 from an empty tenant to the first mail][office365].

[office365]: office365.md
";

/// Faults of the way to the server, which have no reply: the demo that stages each, and what the error says.
const WITHOUT_REPLY: [(&str, &str); 4] = [
    ("cannot reach the mail server", "server-unreachable"),
    ("the TLS handshake with the mail server failed", "wrong-certificate"),
    ("the mail server does not offer STARTTLS", "starttls-stripped"),
    ("token endpoint answered the refresh token grant with", "captive-portal"),
];

/// Keeps Markdown from reading placeholders as tags, and stars as emphasis; makes addresses links.
fn escaped(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        if let Some(start) = word.find("https://").or_else(|| word.find("http://")) {
            let (before, address) = word.split_at(start);
            let (address, after) =
                address.split_at(address.trim_end_matches([':', ',', ';', '.', ')']).len());
            return format!("{before}<{address}>{after}");
        }
        word.chars().fold(String::new(), |mut escaped, char| {
            if matches!(char, '<' | '*' | '\\') {
                escaped.push('\\');
            }
            escaped.push(char);
            escaped
        })
    });
    words.collect::<Vec<_>>().join(" ")
}

fn write_remedy(page: &mut String, remedy: &Remedy) {
    writeln!(page, "\n{}", escaped(remedy.summary())).unwrap();
    match remedy.who().to_string().as_str() {
        "nobody" => writeln!(page, "Nothing has to be changed.\n").unwrap(),
        who => writeln!(page, "To be done by {who}:\n").unwrap(),
    }
    for (index, step) in remedy.steps().iter().enumerate() {
        writeln!(page, "{}. {}", index + 1, escaped(step)).unwrap();
    }
    if let Some(link) = remedy.link() {
        writeln!(page, "\nSee <{link}>.").unwrap();
    }
}

fn write_literal(page: &mut String, lines: &[String]) {
    writeln!(page, "\n```text\n{}\n```", lines.join("\n")).unwrap();
}

/// `SmtpAuthDisabledForTenant` is "SMTP auth disabled for tenant".
fn title(cause: ReplyCause) -> String {
    let name = format!("{cause:?}");
    let mut words = String::new();
    for char in name.chars() {
        match char.is_uppercase() && !words.is_empty() {
            true => words.extend([' ', char.to_ascii_lowercase()]),
            false => words.push(char),
        }
    }
    words.replace("Smtp", "SMTP").replace("Tls", "TLS").replace("ign in", "ign-in")
}

async fn write_replies(page: &mut String) {
    page.push_str("\n## Replies of the mail server\n");
    let known = KnownReply::all();
    let mut causes: Vec<ReplyCause> = Vec::new();
    for reply in &known {
        if !causes.contains(&reply.cause) {
            causes.push(reply.cause);
        }
    }
    for cause in causes {
        writeln!(page, "\n### {}\n\n`ReplyCause::{cause:?}`", title(cause)).unwrap();
        let mut of_cause: Vec<(&Remedy, Vec<String>)> = Vec::new();
        for KnownReply { reply, remedy, .. } in known.iter().filter(|reply| reply.cause == cause) {
            match of_cause.iter_mut().find(|(known, _)| *known == remedy) {
                Some((_, replies)) if replies.contains(reply) => {}
                Some((_, replies)) => replies.push(reply.clone()),
                None => of_cause.push((remedy, vec![reply.clone()])),
            }
        }
        for (remedy, replies) in of_cause {
            write_literal(page, &replies);
            write_remedy(page, remedy);
        }
        if cause == ReplyCause::SignInRefused {
            write_refused_token(page).await;
        }
    }
}

fn write_codes(page: &mut String) {
    page.push_str("\n## Codes of Entra ID\n");
    for KnownCode { codes, messages, remedy, .. } in KnownCode::all() {
        let codes: Vec<_> = codes.iter().map(|code| format!("AADSTS{code}")).collect();
        writeln!(page, "\n### {}", codes.join(", ")).unwrap();
        if !messages.is_empty() {
            write_literal(page, &messages);
        }
        write_remedy(page, &remedy);
    }
}

/// Stages a fault and returns what its first failure says, and the port of the fake.
async fn shown(demo: &str) -> (DiagnosisStep, String) {
    let stage = Demo::find(demo).unwrap().stage().await.unwrap();
    let diagnosis = diagnose(&stage.mailer().unwrap()).await;
    let settings = diagnosis.steps()[0].finding();
    let port = settings.split([':', ' ']).nth(1).unwrap().to_owned();
    (diagnosis.first_failure().unwrap().clone(), port)
}

async fn write_faults(page: &mut String) {
    page.push_str("\n## On the way to the server\n");
    for (text, demo) in WITHOUT_REPLY {
        let (failed, port) = shown(demo).await;
        assert!(failed.finding().contains(text), "{demo}: {failed}");
        let mut title = text.to_owned();
        title[..1].make_ascii_uppercase();
        writeln!(page, "\n### {title}").unwrap();
        let mut part = String::new();
        write_remedy(&mut part, failed.remedy().unwrap());
        let part = part.replace("localhost", "\\<host>").replace(&format!("-Port {port}"), "-Port \\<port>");
        page.push_str(&part.replace(&format!("\\<host>:{port}"), "\\<host>:\\<port>"));
    }
}

/// What the settings add to the table: a bare refusal of a token is told by its likeliest reasons.
async fn write_refused_token(page: &mut String) {
    for (title, demo) in [("With OAuth", "wrong-account"), ("App-only", "app-only-not-registered")] {
        let (failed, _port) = shown(demo).await;
        let mut part = String::new();
        write_remedy(&mut part, failed.remedy().unwrap());
        let part = part
            .replace("alerts@contoso.com", "\\<username>")
            .replace("svc-mail@contoso.com", "\\<username>");
        write!(page, "\n{title}:\n{part}").unwrap();
    }
}

#[tokio::test]
async fn the_page_says_what_the_tables_say() {
    let mut page = HEAD.to_owned();
    write_replies(&mut page).await;
    write_codes(&mut page);
    write_faults(&mut page).await;
    in_sync("docs/troubleshooting.md", |_| page.clone());
}

fn path(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(page)
}

/// Compares a page with what is made of it now, or writes that.
fn in_sync(page: &str, make: impl Fn(&str) -> String) -> String {
    let path = path(page);
    let written = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let made = make(&written);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
        return made;
    }
    let same = written.lines().zip(made.lines()).take_while(|(written, made)| written == made).count();
    assert!(
        written == made,
        "{page} does not say what the tables say from line {} on: run\n  UPDATE_DOCS=1 cargo test --test troubleshooting",
        same + 1,
    );
    made
}

/// Writes the scripts that the crate makes into the blocks of PowerShell, in order.
fn with_scripts(guide: &str) -> String {
    let alerts = ["alerts@contoso.com".parse().unwrap()];
    let id = "6731de76-14a6-49ae-97bc-6eba6914391e";
    let rights = [SendingRight::Delegated, SendingRight::MailboxPermission, SendingRight::RoleBasedAccess];
    let mut parts = guide.split("```powershell\n");
    let mut made = parts.next().unwrap().to_owned();
    for (part, right) in parts.zip(rights) {
        let (_, after) = part.split_once("```").unwrap();
        let script = setup_script(right, id, "svc-mail@contoso.com", &alerts);
        write!(made, "```powershell\n{script}```{after}").unwrap();
    }
    made
}

#[test]
fn the_guide_has_the_scripts_that_the_crate_makes() {
    let guide = in_sync("docs/office365.md", with_scripts);
    assert_eq!(guide.matches("```powershell\n").count(), 3);
}

#[test]
fn the_settings_of_the_guide_are_valid() {
    let guide = std::fs::read_to_string(path("docs/office365.md")).unwrap();
    let blocks: Vec<_> =
        guide.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let [delegated, app_only] = blocks[..] else { panic!("{blocks:?}") };
    // The second has only the table that differs.
    let (server, _) = delegated.split_once("[authentication]").unwrap();
    for text in [delegated.to_owned(), format!("{server}{app_only}")] {
        let settings: Settings = toml::from_str(&text).unwrap();
        let problems = settings.resolve().unwrap_err();
        let fields: Vec<_> = problems.problems().iter().map(ConfigProblem::field).collect();
        assert_eq!(fields, ["authentication.client_secret"], "the variable is not set here: {problems}");
    }
}
