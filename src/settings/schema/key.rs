//! One key of settings: its kind, meaning, default and example. Names no key itself.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// What a description says of one key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: &'static str,
    pub(super) default: Option<Value>,
    example: Option<Value>,
}

impl Key {
    pub(super) fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self { name, kind, meaning, default: None, example: None }
    }

    pub(super) fn default(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }

    pub(super) fn example(mut self, example: impl Into<Value>) -> Self {
        self.example = Some(example.into());
        self
    }

    /// Returns the list of examples, as JSON Schema has it.
    pub(super) fn examples(&self) -> Option<Value> {
        self.example.clone().map(|example| json!([example]))
    }
}

/// What a key takes; numbers and booleans may be texts, since the environment has nothing else.
pub(super) enum Kind {
    Text,
    /// One of a few values.
    Choice(Value),
    /// A number from 1 on.
    Integer {
        most: Option<u32>,
    },
    /// A number from 1 on, or `"none"`.
    Limit,
    Boolean,
    Time,
    Date,
    Secret,
    /// A table, and the rules that hold for it as a whole.
    Table(Vec<Key>, Value),
    /// A path, or a table in its place.
    PathOr(Vec<Key>, Value),
}

impl Kind {
    /// Describes a kind that has no keys inside.
    pub(super) fn schema(&self) -> Value {
        match self {
            Self::Text => json!({ "type": "string", "minLength": 1 }),
            Self::Choice(values) => json!({ "enum": values }),
            Self::Integer { most } => {
                let pattern = r"^\s*0*[1-9][0-9]*\s*$";
                let mut schema = json!({ "type": ["integer", "string"], "minimum": 1, "pattern": pattern });
                if let (Some(most), Some(schema)) = (most, schema.as_object_mut()) {
                    schema.insert("maximum".to_owned(), (*most).into());
                }
                schema
            }
            Self::Limit => {
                let pattern = r"^\s*0*[1-9][0-9]*\s*$|^none$";
                json!({ "type": ["integer", "string"], "minimum": 1, "pattern": pattern })
            }
            Self::Boolean => {
                let pattern = r"^\s*([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])\s*$";
                json!({ "type": ["boolean", "string"], "pattern": pattern })
            }
            Self::Time => {
                // One or more units, the larger first: those from each one on are optional, but for it.
                let of = |unit: &str| format!(r"[0-9]+\s*({unit})\s*");
                let units = ["h|hours?", "m|min|minutes?", "s|sec|seconds?", "ms"].map(of);
                let from = |(first, unit): (usize, &String)| {
                    let smaller = units.iter().skip(first + 1).map(|unit| format!("({unit})?"));
                    format!("{unit}{}", smaller.collect::<String>())
                };
                let times = units.iter().enumerate().map(from).collect::<Vec<_>>().join("|");
                let pattern = format!(r"^\s*([0-9]+|{times})\s*$");
                json!({ "type": ["string", "integer"], "minimum": 0, "pattern": pattern })
            }
            Self::Date => json!({ "type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$" }),
            Self::Secret | Self::Table(..) | Self::PathOr(..) => json!({}),
        }
    }
}

/// A secret, by value or by where it is.
pub(super) struct Secret;

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Secret").into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let place =
            |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
        json_schema!({
            "anyOf": [
                { "type": "string", "minLength": 1, "description": "The secret itself. Better kept elsewhere." },
                {
                    "type": "object",
                    "properties": {
                        "env": place("The name of the environment variable that holds the secret."),
                        "file": place("The path of the file that holds the secret."),
                    },
                    "additionalProperties": false,
                    "oneOf": [{ "required": ["env"] }, { "required": ["file"] }],
                },
            ],
        })
    }
}
