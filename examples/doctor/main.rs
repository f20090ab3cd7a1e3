//! Checks mail settings step by step and says what to do about what is wrong.
//!
//! `cargo run --example doctor -- settings.toml` asks the real servers and sends nothing;
//! `cargo run --example doctor -- --demo smtp-auth-disabled-tenant` needs neither account nor network.

mod demo;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use demo::{DEMOS, Demo};
use smtp_oauth::{Diagnose, Diagnosis, DiagnosisStep, Mailer, Settings, StepResult};

const USAGE: &str = "\
usage: doctor [options] SETTINGS.toml
       doctor [options] --demo FAULT

options:
  --send-test   send a message to the test recipient when everything else has passed
  --json        print the result as JSON
  --markdown    print the result as Markdown, for a support ticket
  --demo FAULT  diagnose a fault on fakes of Entra ID and Exchange Online; `--demo list` names them
  --help        print this

exit code: 0 nothing failed, 1 something failed, 2 the arguments or settings cannot be used";

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    target: Option<Target>,
    send_test: bool,
    format: Format,
}

enum Target {
    Settings(String),
    Demo(String),
    Help,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Text,
    Json,
    Markdown,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        // Whoever reads may stop early, as `head` does: nobody is left to tell, and nothing was found healthy.
        Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => ExitCode::from(2),
        Err(error) => {
            eprintln!("doctor: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { target, send_test, format } = Arguments::parse(given()?.into_iter())?;
    match target {
        None => Err(format!("name a settings file or a demo\n\n{USAGE}").into()),
        Some(Target::Help) => {
            writeln!(io::stdout(), "{USAGE}")?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Target::Settings(path)) => examine(&mailer(&path)?, send_test, format).await,
        Some(Target::Demo(name)) if name == "list" => {
            for Demo { name, about, .. } in DEMOS {
                writeln!(io::stdout(), "{name:<28}{about}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Target::Demo(name)) => {
            let demo =
                Demo::find(&name).ok_or(format!("there is no demo `{name}`; `--demo list` names them"))?;
            let stage = demo.stage().await?;
            examine(&stage.mailer()?, send_test || stage.sends_test, format).await
        }
    }
}

fn given() -> Result<Vec<String>, String> {
    let is_text = |argument: OsString| {
        argument.into_string().map_err(|given| format!("the argument {given:?} is not UTF-8"))
    };
    std::env::args_os().skip(1).map(is_text).collect()
}

impl Arguments {
    fn parse(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut arguments, mut given) = (Self::default(), given);
        while let Some(argument) = given.next() {
            let target = match argument.as_str() {
                "--help" | "-h" => Target::Help,
                "--demo" => {
                    Target::Demo(given.next().ok_or("--demo needs a name; `--demo list` shows them")?)
                }
                "--send-test" => {
                    arguments.send_test = true;
                    continue;
                }
                "--json" | "--markdown" if arguments.format != Format::Text => {
                    return Err("choose one of --json and --markdown".to_owned());
                }
                "--json" => {
                    arguments.format = Format::Json;
                    continue;
                }
                "--markdown" => {
                    arguments.format = Format::Markdown;
                    continue;
                }
                option if option.starts_with('-') => {
                    return Err(format!("there is no option `{option}`\n\n{USAGE}"));
                }
                path => Target::Settings(path.to_owned()),
            };
            if arguments.target.replace(target).is_some() {
                return Err(format!("name one settings file or one demo\n\n{USAGE}"));
            }
        }
        Ok(arguments)
    }
}

/// Reads the settings; the error lists every problem in them.
fn mailer(path: &str) -> Result<Mailer, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // A format's own error quotes the line, which may hold a secret: only its message and place are shown.
    let settings: Settings = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("{path} is not valid TOML: line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    let settings = settings.relative_to(Path::new(path).parent().unwrap_or(Path::new("")));
    Ok(Mailer::from_settings(&settings).map_err(|error| format!("{path}: {error}"))?)
}

async fn examine(mailer: &Mailer, send_test: bool, format: Format) -> Result<ExitCode, Box<dyn Error>> {
    let screen = Screen::new();
    let mut written = Ok(());
    let mut diagnose = Diagnose::new(mailer);
    if send_test {
        diagnose = diagnose.send_test();
    }
    if format == Format::Text {
        written = screen.wait();
        diagnose = diagnose.on_step(|step| {
            if written.is_ok() {
                written = screen.show(step);
            }
        });
    }
    let diagnosis = diagnose.run().await;
    written?;
    match format {
        Format::Text => screen.finish(&diagnosis)?,
        Format::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&diagnosis)?)?,
        Format::Markdown => write!(io::stdout(), "{}", diagnosis.to_markdown())?,
    }
    Ok(if diagnosis.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Writes steps as they are done; colours and moves the cursor only where somebody watches.
struct Screen {
    is_terminal: bool,
    has_colours: bool,
}

impl Screen {
    fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        // https://no-color.org: set to anything but nothing.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_terminal, has_colours: is_terminal && !no_color }
    }

    /// Says that the next step is under way.
    fn wait(&self) -> io::Result<()> {
        if self.is_terminal {
            write!(io::stdout(), "…")?;
            io::stdout().flush()?;
        }
        Ok(())
    }

    fn show(&self, step: &DiagnosisStep) -> io::Result<()> {
        let back = if self.is_terminal { "\r" } else { "" };
        let text = step.to_string();
        let colour = match step.result() {
            StepResult::Passed => "32",
            StepResult::Warning => "33",
            StepResult::Failed => "1;31",
            _ => "2",
        };
        let result = step.result().to_string();
        match text.strip_prefix(&result).filter(|_| self.has_colours) {
            Some(rest) => writeln!(io::stdout(), "{back}\u{1b}[{colour}m{result}\u{1b}[0m{rest}")?,
            None => writeln!(io::stdout(), "{back}{text}")?,
        }
        self.wait()
    }

    fn finish(&self, diagnosis: &Diagnosis) -> io::Result<()> {
        let back = if self.is_terminal { "\r \r" } else { "" };
        match diagnosis.first_failure() {
            Some(step) => writeln!(io::stdout(), "{back}\nBegin with the first failure: {}.", step.name()),
            None => writeln!(io::stdout(), "{back}\nNothing failed."),
        }
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
