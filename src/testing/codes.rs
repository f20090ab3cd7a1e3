//! Every AADSTS code the crate's tables know, for tests and documentation that must not drift from them. Sends nothing.

use super::entra::wording;
use crate::entra::known_codes;
use crate::remedy::{Blanks, Remedy};

/// Codes of Entra ID that mean the same, and what to do about them.
///
/// ```
/// use smtp_oauth::testing::KnownCode;
///
/// let known = KnownCode::all();
/// let expired = known.iter().find(|known| known.codes.contains(&7_000_222)).unwrap();
/// assert_eq!(expired.remedy.summary(), "The client secret has expired.");
/// assert!(expired.messages[0].starts_with("AADSTS7000222: The provided client secret keys"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownCode {
    /// The numbers behind `AADSTS`.
    pub codes: Vec<u32>,
    /// What Entra ID prints with them, as far as its words are known here.
    pub messages: Vec<String>,
    /// What to do about it, with `<username>` where the address is filled in.
    pub remedy: Remedy,
}

impl KnownCode {
    /// Returns every row of the tables, in their order.
    pub fn all() -> Vec<Self> {
        let rows = known_codes().map(|(codes, advice)| Self {
            codes: codes.to_vec(),
            messages: codes
                .iter()
                .filter_map(|code| wording(*code).map(|text| format!("AADSTS{code}: {text}")))
                .collect(),
            remedy: advice.fill(&Blanks::default()),
        });
        rows.collect()
    }
}
