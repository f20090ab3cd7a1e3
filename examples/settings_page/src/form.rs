//! The form's fields, and what the library says about them. Checks nothing by itself.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smtp_oauth::entra::{App, AppProblem};
use smtp_oauth::{Authentication, ConfigError, Mailer, ResolvedSettings, Settings};
use zeroize::Zeroizing;

use crate::tokens::SqliteTokens;

/// What stands in the form's fields, and in the database's record `settings`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    pub method: String,
    pub host: String,
    pub port: String,
    pub tls: String,
    pub sender: String,
    pub test_recipient: String,
    pub username: String,
    pub tenant: String,
    pub client_id: String,
    pub client_secret: Zeroizing<String>,
    pub client_secret_expires: String,
    pub password: Zeroizing<String>,
}

/// A problem at a field; at none when `field` is empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub field: String,
    pub message: String,
}

/// Settings that the library found valid.
pub struct Ready {
    pub settings: ResolvedSettings,
    /// The app registration; `None` for Basic.
    pub app: Option<App>,
}

impl Form {
    /// Returns what the fields of a new installation hold.
    pub fn suggested() -> Self {
        let text = str::to_owned;
        Self {
            method: text("oauth"),
            host: text("smtp.office365.com"),
            port: text("587"),
            tls: text("starttls"),
            ..Self::default()
        }
    }

    /// Keeps the saved secrets where the fields were left empty, since they are never sent to a browser.
    ///
    /// The password is for its server alone: another one gets it only when it is entered again.
    pub fn keeping_secrets(mut self, saved: &Self) -> Self {
        if self.client_secret.is_empty() {
            self.client_secret.clone_from(&saved.client_secret);
        }
        if self.password.is_empty() && self.host == saved.host {
            self.password.clone_from(&saved.password);
        }
        self
    }

    /// Tells whether tokens of the one are of no use to the other.
    pub fn is_another_app(&self, other: &Self) -> bool {
        (&self.tenant, &self.client_id) != (&other.tenant, &other.client_id)
    }

    /// Has everything checked by the library. `fixed` are settings that are not the administrator's to make.
    pub fn check(&self, fixed: &Value) -> Result<Ready, Vec<Problem>> {
        let settings: Settings = serde_json::from_value(self.settings(fixed))
            .map_err(|error| vec![Problem { field: String::new(), message: error.to_string() }])?;
        let settings = settings.resolve().map_err(|error| problems(&error))?;
        let app = settings.app().map_err(|error| problems(&error))?;
        let app = app.map(smtp_oauth::entra::AppBuilder::build).transpose();
        let app = app.map_err(|error| error.problems().iter().map(Problem::of_app).collect::<Vec<_>>())?;
        Ok(Ready { settings, app })
    }

    /// Writes the settings as they would stand in a file; an empty field is a key that is not there.
    fn settings(&self, fixed: &Value) -> Value {
        let is_basic = self.method == "basic";
        let profile = if is_basic { "custom" } else { "office365" };
        let server = [
            ("profile", profile),
            ("host", &self.host),
            ("port", &self.port),
            ("tls", &self.tls),
            ("sender", &self.sender),
            ("test_recipient", &self.test_recipient),
            ("username", &self.username),
        ];
        let oauth = [
            ("tenant", self.tenant.as_str()),
            ("client_id", &self.client_id),
            ("client_secret", &self.client_secret),
            ("client_secret_expires", &self.client_secret_expires),
        ];
        let basic = [("password", self.password.as_str())];
        let method = [("method", self.method.as_str())];
        let chosen: &[_] = if is_basic { &basic } else { &oauth };
        serde_json::json!({
            "server": table(server.iter(), &fixed["server"]),
            "authentication": table(
                method.iter().chain(chosen),
                if is_basic { &Value::Null } else { &fixed["authentication"] },
            ),
        })
    }
}

fn table<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>, fixed: &Value) -> Map<String, Value> {
    let entered = fields.filter(|(_, value)| !value.is_empty());
    let mut table: Map<_, _> = entered.map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    table.extend(fixed.as_object().cloned().unwrap_or_default());
    table
}

fn problems(error: &ConfigError) -> Vec<Problem> {
    let problems = error.problems().iter();
    problems
        .map(|problem| {
            // `server.port` is the field `port`; a whole table is no field.
            let field = problem.field().split_once('.').map_or("", |(_table, key)| key);
            Problem { field: field.to_owned(), message: sentence(problem.mend()) }
        })
        .collect()
}

impl Problem {
    fn of_app(problem: &AppProblem) -> Self {
        let field = match problem {
            AppProblem::ClientId => "client_id",
            AppProblem::MalformedSecret | AppProblem::SecretId => "client_secret",
            _ => "",
        };
        Self { field: field.to_owned(), message: sentence(&problem.to_string()) }
    }
}

/// Makes a sentence of the library's messages, which have no capital letter and no full stop.
pub fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let rest = chars.as_str();
    let end = if rest.ends_with(['.', '!', '?', ')']) { "" } else { "." };
    first + rest + end
}

impl Ready {
    /// Returns the mailer for these settings. A product makes it once, keeps it, and makes another after a change.
    pub fn mailer(&self, tokens: &SqliteTokens) -> Result<Mailer, ConfigError> {
        let authentication = match (&self.settings.authentication, &self.app) {
            (_, Some(app)) => Some(Authentication::oauth(app.refresh_token(tokens.clone()))),
            (smtp_oauth::AuthenticationSettings::Basic { password, .. }, None) => {
                Some(Authentication::basic(password.clone()))
            }
            (_, None) => None,
        };
        let builder = Mailer::builder(self.settings.server.clone());
        match authentication {
            Some(authentication) => builder.authentication(authentication).build(),
            None => builder.build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Form {
        Form {
            username: "svc-mail@contoso.com".to_owned(),
            tenant: "contoso.onmicrosoft.com".to_owned(),
            client_id: "6731de76-14a6-49ae-97bc-6eba6914391e".to_owned(),
            client_secret: "8Q~made-up".to_owned().into(),
            ..Form::suggested()
        }
    }

    #[test]
    fn every_problem_stands_at_its_field_at_once() {
        let form = Form {
            port: "465".to_owned(),
            sender: "alerts".to_owned(),
            username: String::new(),
            tenant: String::new(),
            client_id: "my app".to_owned(),
            client_secret: "6731de76-14a6-49ae-97bc-6eba6914391e".to_owned().into(),
            client_secret_expires: "soon".to_owned(),
            ..filled()
        };
        let problems = form.check(&Value::Null).err().unwrap();
        let mut fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        fields.sort_unstable();
        let expected =
            ["client_id", "client_secret", "client_secret_expires", "port", "sender", "tenant", "username"];
        assert_eq!(fields, expected, "{problems:?}");
    }

    #[test]
    fn the_fields_of_the_other_method_do_not_matter() {
        assert!(filled().check(&Value::Null).ok().unwrap().app.is_some());
        let basic = Form { method: "basic".to_owned(), tenant: "not a tenant".to_owned(), ..filled() };
        let problems = basic.check(&Value::Null).err().unwrap();
        assert_eq!(problems[0].field, "password");
        let basic = Form { password: "hunter2".to_owned().into(), ..basic };
        assert!(basic.check(&Value::Null).ok().unwrap().app.is_none());
    }

    #[test]
    fn an_empty_secret_keeps_the_saved_one() {
        let empty = Form { client_secret: String::new().into(), ..filled() };
        assert!(empty.keeping_secrets(&filled()) == filled());
    }
}
