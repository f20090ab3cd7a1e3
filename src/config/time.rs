//! Times as settings have them: `1h 30m`. Knows no bounds.

use std::fmt::Write;
use std::time::Duration;

/// Reads numbers with units, each smaller than the one before: `h`, `m`, `s`, `ms`; a number alone is seconds.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut smallest = Duration::MAX;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let after = after.trim_start();
        let (name, remaining) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let unit = match name {
            "ms" => Duration::from_millis(1),
            "s" | "sec" | "second" | "seconds" => Duration::from_secs(1),
            "m" | "min" | "minute" | "minutes" => Duration::from_secs(60),
            "h" | "hour" | "hours" => Duration::from_secs(60 * 60),
            _ => return None,
        };
        if unit >= smallest {
            return None; // Twice the same is a slip, and not to be guessed at.
        }
        smallest = unit;
        let number: u64 = number.parse().ok()?;
        let millis = u64::try_from(unit.as_millis()).ok()?.checked_mul(number)?;
        total = total.checked_add(Duration::from_millis(millis))?;
        rest = remaining.trim_start();
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// Writes a time in the same way; less than a millisecond, which no setting has, as Rust does.
pub(super) fn written(time: Duration) -> String {
    if time.is_zero() {
        return "0s".to_owned();
    }
    if !time.subsec_nanos().is_multiple_of(1_000_000) {
        return format!("{time:?}");
    }
    let seconds = time.as_secs();
    let units = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(time.subsec_millis()), "ms"),
    ];
    let mut text = String::new();
    for (number, unit) in units.into_iter().filter(|(number, _)| *number > 0) {
        let gap = if text.is_empty() { "" } else { " " };
        _ = write!(text, "{gap}{number}{unit}"); // A string takes everything.
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("30", Some(30_000)),
            (" 5 m ", Some(300_000)),
            ("1h 30m", Some(5_400_000)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("2 minutes", Some(120_000)),
            ("999999999h", Some(3_599_999_996_400_000)),
            ("", None),
            ("s", None),
            ("5 parsecs", None),
            ("-5s", None),
            ("1.5s", None),
            ("5m 3", None),
            ("1h1h1h 3s", None),
            ("30s 5m", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        for text in ["0s", "30s", "5m", "1h 30m", "2h 3m 4s 5ms", "999999999h", "250ms"] {
            assert_eq!(parse(text).map(written).as_deref(), Some(text));
        }
        assert_eq!(written(Duration::from_micros(1500)), "1.5ms");
    }
}
