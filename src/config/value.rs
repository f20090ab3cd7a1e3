//! Settings as they come from a file or the environment: any serde format, any type, nothing judged yet.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// The key under which `toml` passes a date through serde.
const TOML_DATE: &str = "$__toml_private_datetime";

/// One value; `Debug` shows its kind only, since it may be a secret.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Zeroizing<String>),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    List,
    Table(Table),
    Nothing,
}

/// Values by their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(BTreeMap<String, Value>);

impl Value {
    /// Returns what kind of value it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::List => "a list",
            Self::Table(_) => "a table",
            Self::Nothing => "nothing",
        }
    }
}

impl Value {
    /// Returns the value as it was entered, if it is no list and no table.
    pub(super) fn entered(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.as_str().to_owned()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Boolean(boolean) => Some(boolean.to_string()),
            Self::List | Self::Table(_) | Self::Nothing => None,
        }
    }
}

impl Table {
    /// Returns the value of a key by its path, such as `timeouts.connect`.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        match path.split_once('.') {
            Some((table, rest)) => match self.get(table)? {
                Value::Table(table) => table.at(rest),
                _ => None,
            },
            None => self.get(path),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !matches!(value, Value::Nothing))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            value => write!(f, "[{}]", value.kind()),
        }
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Table(table) => Ok(table),
            other => Err(D::Error::custom(format_args!(
                "the settings must be a table of keys, not {}",
                other.kind()
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        // Serde's own refusal would quote it, and it may be a secret without quotation marks.
        let beyond = || Value::Float(value.to_string().parse().unwrap_or(f64::INFINITY));
        Ok(i128::try_from(value).map_or_else(|_| beyond(), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(value)))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value()?;
            if key == TOML_DATE {
                return Ok(value);
            }
            table.insert(key, value);
        }
        Ok(Value::Table(Table(table)))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::Error;

    use super::*;

    #[test]
    fn a_number_beyond_all_integers_is_a_number_still() {
        let deserializer: serde::de::value::U128Deserializer<Error> = u128::MAX.into_deserializer();
        assert_eq!(Value::deserialize(deserializer).unwrap().kind(), "a number");
    }
}
