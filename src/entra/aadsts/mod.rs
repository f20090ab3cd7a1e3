//! What Entra's error codes mean: whose move it is, and the remedy. Reads no answer.

mod policy;
mod registration;
mod sign_in;

use crate::remedy::{Advice, Who};
use crate::token::TokenErrorKind;

const TABLES: [&[Row]; 3] = [sign_in::ROWS, policy::ROWS, registration::ROWS];

/// Codes with one meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    codes: &'static [u32],
    /// `None` leaves it to the `error` field.
    pub(super) kind: Option<TokenErrorKind>,
    pub(super) advice: Advice,
}

impl Row {
    const fn new(
        codes: &'static [u32],
        kind: Option<TokenErrorKind>,
        who: Who,
        summary: &'static str,
        steps: &'static [&'static str],
    ) -> Self {
        let link = "https://learn.microsoft.com/entra/identity-platform/reference-error-codes";
        Self { codes, kind, advice: Advice { who, summary, steps, link } }
    }
}

/// Every row: its codes, and what to do about them.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn known() -> impl Iterator<Item = (&'static [u32], &'static Advice)> {
    TABLES.into_iter().flatten().map(|row| (row.codes, &row.advice))
}

/// Finds the row of a code.
pub(super) fn find(code: u32) -> Option<&'static Row> {
    TABLES.into_iter().flatten().find(|row| row.codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_one_row() {
        let mut seen = HashSet::new();
        for row in TABLES.into_iter().flatten() {
            assert!(row.advice.summary.ends_with('.') && !row.advice.steps.is_empty(), "{row:?}");
            assert!(!row.advice.steps.iter().any(|step| step.contains("by itself")), "{row:?}");
            for code in row.codes {
                assert!(seen.insert(*code), "AADSTS{code} has two rows");
            }
        }
        assert!(seen.len() > 150, "{}", seen.len());
    }

    #[test]
    fn codes_that_mislead_are_settled_by_the_table() {
        // All of these arrive as `invalid_grant`.
        let cases = [
            (50196, Some(TokenErrorKind::Unavailable)),
            (90033, Some(TokenErrorKind::Unavailable)),
            (80010, Some(TokenErrorKind::Unavailable)),
            (50057, Some(TokenErrorKind::AccountRefused)),
            (53003, Some(TokenErrorKind::AccountRefused)),
            (70008, Some(TokenErrorKind::SignInRequired)),
            (70016, None),
            (1, None),
        ];
        for (code, kind) in cases {
            assert_eq!(find(code).and_then(|row| row.kind), kind, "AADSTS{code}");
        }
    }
}
