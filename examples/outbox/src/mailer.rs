//! The mailer of a worker: from the settings file that `SMTP_OAUTH_SETTINGS` names, fit for an outbox.

use std::path::Path;

use smtp_oauth::{MailerBuilder, RetryPolicy, Settings};
use toml::{Table, Value};

use crate::limits::OutboxLimits;
use crate::store::Outbox;

/// Reads a settings file; the error lists every problem in it, without a secret.
pub fn from_file(path: &Path) -> Result<MailerBuilder, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    // A format's own error quotes the line, which may hold a secret.
    let mut table: Table = text.parse().map_err(|_| format!("{name} is not a TOML file of settings"))?;
    fail_at_the_limit(&mut table);
    let settings: Settings =
        table.try_into().map_err(|_| format!("{name} is not a TOML file of settings"))?;
    let settings = settings.relative_to(path.parent().unwrap_or(Path::new("")));
    MailerBuilder::from_settings(&settings).map_err(|error| format!("{name}: {error}"))
}

/// The outbox waits and repeats, across processes and their deaths: the mailer must not.
pub fn for_outbox(builder: MailerBuilder, outbox: &Outbox) -> MailerBuilder {
    builder.retry(RetryPolicy::never()).shared_limits(OutboxLimits::new(outbox.clone()))
}

/// Sets `server.limits.when_reached = "fail"`, whatever the file says.
fn fail_at_the_limit(settings: &mut Table) {
    let server = settings.entry("server").or_insert_with(|| Table::new().into());
    let limits =
        server.as_table_mut().map(|server| server.entry("limits").or_insert_with(|| Table::new().into()));
    if let Some(limits) = limits.and_then(Value::as_table_mut) {
        limits.insert("when_reached".to_owned(), "fail".into());
    }
}
