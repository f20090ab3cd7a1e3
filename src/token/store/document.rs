//! The JSON text of stored tokens, version 1: writes it and reads it back. Opens no file.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::serde::rfc3339;
use zeroize::Zeroizing;

use super::StoredTokens;
use crate::token::{AccessToken, TokenError};

const VERSION: u32 = 1;

/// Why a text is not that of stored tokens; never quotes the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// Not the JSON of stored tokens.
    Malformed { line: usize, column: usize },
    /// A later version of this crate wrote it.
    Version(u32),
    /// A stored access token holds characters that no token may hold.
    Token,
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    refresh_token: Secret,
    #[serde(with = "rfc3339")]
    obtained_at: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    access_tokens: BTreeMap<String, Access>,
}

#[derive(Serialize, Deserialize)]
struct Access {
    token: Secret,
    #[serde(with = "rfc3339")]
    expires_at: OffsetDateTime,
    #[serde(default)]
    scopes: Vec<String>,
}

/// A secret in the one place where it may be written out.
struct Secret(SecretString);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// Writes the text, in a buffer that is zeroed on drop and large enough not to move.
pub(super) fn write(tokens: &StoredTokens) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut text = Zeroizing::new(Vec::with_capacity(2 * tokens.secret_len() + 4096));
    serde_json::to_writer_pretty(&mut *text, tokens)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads the text.
pub(super) fn read(text: &[u8]) -> Result<StoredTokens, Damage> {
    let header: Header = serde_json::from_slice(text).map_err(|error| Damage::at(&error))?;
    if header.version != VERSION {
        return Err(Damage::Version(header.version));
    }
    let document: Document = serde_json::from_slice(text).map_err(|error| Damage::at(&error))?;
    document.into_tokens().map_err(|_| Damage::Token)
}

/// Writes the secrets in plain text, for stores of one's own: encrypt them, or keep them where nobody else can read.
///
/// The fields are those of a [`FileStore`](super::FileStore)'s file, with its version, so that tokens can move.
impl Serialize for StoredTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document::of(self).serialize(serializer)
    }
}

/// Refuses what a later version wrote. As any deserialiser's, an error may quote what was read: do not show it.
impl<'de> Deserialize<'de> for StoredTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        if document.version != VERSION {
            return Err(D::Error::custom(Damage::Version(document.version).explain()));
        }
        document.into_tokens().map_err(|_| D::Error::custom(Damage::Token.explain()))
    }
}

impl Document {
    fn of(tokens: &StoredTokens) -> Self {
        let access_tokens = tokens.access_tokens().map(|(scope, token)| {
            let access = Access {
                token: Secret(token.secret().clone()),
                expires_at: token.expires_at(),
                scopes: token.scopes().to_vec(),
            };
            (scope.to_owned(), access)
        });
        Self {
            version: VERSION,
            refresh_token: Secret(tokens.refresh_token().clone()),
            obtained_at: tokens.obtained_at(),
            account: tokens.account().map(str::to_owned),
            access_tokens: access_tokens.collect(),
        }
    }

    fn into_tokens(self) -> Result<StoredTokens, TokenError> {
        let mut tokens = StoredTokens::new(self.refresh_token.0, self.obtained_at);
        if let Some(account) = self.account {
            tokens = tokens.with_account(account);
        }
        for (scope, access) in self.access_tokens {
            tokens = tokens.with_access_token(scope, access.into_token()?);
        }
        Ok(tokens)
    }
}

impl Access {
    fn into_token(self) -> Result<AccessToken, TokenError> {
        Ok(AccessToken::new(self.token.0, self.expires_at)?.with_scopes(self.scopes))
    }
}

impl Damage {
    /// Says what is wrong and what to do, to follow on the name of the place.
    pub(super) fn explain(&self) -> String {
        match self {
            Self::Malformed { line, column } => format!(
                "is damaged at line {line}, column {column}: restore it, or remove it and sign in again"
            ),
            Self::Version(version) => {
                format!("has version {version}, which this program does not know: update the program")
            }
            Self::Token => "holds an access token that cannot be one: remove it and sign in again".to_owned(),
        }
    }

    /// Keeps the place only: the parser's own message may quote a token.
    fn at(error: &serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = AccessToken::new("access", now).unwrap().with_scopes(["a", "b"]);
        let tokens = StoredTokens::new("refresh \"quoted\"", now)
            .with_account("svc@contoso.com")
            .with_access_token("scope", token);
        let back = read(&write(&tokens).unwrap()).unwrap();
        assert_eq!(back.refresh_token().expose_secret(), "refresh \"quoted\"");
        assert_eq!(back.obtained_at(), now);
        assert_eq!(back.account(), Some("svc@contoso.com"));
        let access = back.access_token("scope").unwrap();
        assert_eq!(access.secret().expose_secret(), "access");
        assert_eq!(access.scopes(), ["a", "b"]);
    }

    #[test]
    fn damage_is_named_without_quoting_the_text() {
        let cases = [
            ("", Damage::Malformed { line: 1, column: 0 }),
            ("{\"version\":1,\"refresh_token\":7}", Damage::Malformed { line: 1, column: 30 }),
            ("{\"version\":2,\"anything\":true}", Damage::Version(2)),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_store_of_ones_own_keeps_the_same_in_any_format_and_refuses_a_later_version() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = AccessToken::new("access", now).unwrap();
        let tokens = StoredTokens::new("refresh", now).with_access_token("scope", token);
        let mut value = serde_json::to_value(&tokens).unwrap();
        let back: StoredTokens = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(write(&back).unwrap(), write(&tokens).unwrap());
        value["version"] = 2.into();
        let error = serde_json::from_value::<StoredTokens>(value).unwrap_err().to_string();
        assert!(error.contains("version 2") && !error.contains("refresh"), "{error}");
    }
}
