//! Durations as Go writes them: `720h`, `1h30m`, `500ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text that is not a duration, or one that is negative or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units.
    #[error("{0:?} is not a duration like 720h, 1h30m or 90s")]
    Syntax(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// Longer than Go's 290 years.
    #[error("{0:?} is too long")]
    TooLong(String),
}

/// A duration of at least zero. [`Display`](fmt::Display) writes hours, minutes and seconds, without zero parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Whole hours.
    pub const fn hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours * 3600))
    }

    /// Whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// Go's limit: 2^63 nanoseconds.
const MAX_NANOS: f64 = 9_223_372_036_854_775_807.0;

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || DurationError::Syntax(text.to_owned());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut nanos = 0.0_f64;
        let mut rest = digits;
        if rest != "0" {
            if rest.is_empty() {
                return Err(syntax());
            }
            while !rest.is_empty() {
                let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(syntax)?;
                let unit_end = rest[number_end..]
                    .find(|c: char| c.is_ascii_digit() || c == '.')
                    .map_or(rest.len(), |end| number_end + end);
                let number: f64 = rest[..number_end].parse().map_err(|_| syntax())?;
                let unit = match &rest[number_end..unit_end] {
                    "ns" => 1.0,
                    "us" | "µs" | "μs" => 1e3,
                    "ms" => 1e6,
                    "s" => 1e9,
                    "m" => 60e9,
                    "h" => 3600e9,
                    _ => return Err(syntax()),
                };
                nanos += number * unit;
                rest = &rest[unit_end..];
            }
        }
        if nanos >= MAX_NANOS {
            return Err(DurationError::TooLong(text.to_owned()));
        }
        if negative && nanos > 0.0 {
            return Err(DurationError::Negative(text.to_owned()));
        }
        Ok(Self(Duration::from_secs_f64(nanos / 1e9)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let millis = self.0.subsec_millis();
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if millis > 0 {
            write!(f, "{seconds}.{millis:03}s")
        } else if seconds > 0 || self.0.as_secs() == 0 {
            write!(f, "{seconds}s")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<GoDuration> for String {
    fn from(value: GoDuration) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for GoDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, seconds) in [
            ("720h", 2_592_000.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("90s", 90.0),
            ("0", 0.0),
            ("0s", 0.0),
            ("250ms", 0.25),
        ] {
            let parsed: GoDuration = text.parse().unwrap();
            assert!((parsed.0.as_secs_f64() - seconds).abs() < 1e-9, "{text}");
            assert_eq!(parsed.to_string().parse::<GoDuration>().unwrap(), parsed);
        }
    }

    #[test]
    fn refuses_what_go_refuses_and_what_is_negative() {
        for bad in ["", "h", "5", "5d", "1h-2m", "-1h", "1 h", ".h", "99999999999h", "1..5h"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
