//! What a policy is made of, as `niks3 gc` and the operator write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::GcParams;
use crate::duration::GoDuration;

/// Rules a policy may have.
pub const MAX_PIN_RULES: usize = 64;

/// Which pins stay, of those whose names begin so. Of a rule without limits all do, for ever.
///
/// As text: `prefix=ci-,keep-last=20,max-age=336h,keep-revisions=3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PinRule {
    /// What the names begin with; empty means all.
    pub prefix: String,
    /// So many of a pin's targets stay, the newest first: the current one, and earlier ones. 1 where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_revisions: Option<u32>,
    /// So many names stay, those last written first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// A name last written within so long stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<GoDuration>,
}

impl PinRule {
    /// Whether it ever lets a name go.
    pub fn drops_names(&self) -> bool {
        self.keep_last.is_some() || self.max_age.is_some()
    }
}

/// A policy that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It has no limit.
    #[error(
        "the policy says of nothing that it may go; give older_than, max_size, or a pin rule with a limit"
    )]
    NoLimit,
    /// A number that means nothing.
    #[error("{0} is {1}; it has to be {2}")]
    OutOfRange(String, u64, &'static str),
    /// Two rules for one prefix.
    #[error("two pin rules have the prefix {0:?}; make them one")]
    SamePrefix(String),
    /// No pin can have that prefix.
    #[error("pin rule: no pin's name begins with {0:?}; names are made of A-Z a-z 0-9 . _ -")]
    BadPrefix(String),
    /// Too many.
    #[error("{0} pin rules are more than the {MAX_PIN_RULES} a policy may have")]
    TooManyRules(usize),
    /// A rule's text.
    #[error("{0:?} is not a pin rule like prefix=ci-,keep-last=20,max-age=336h,keep-revisions=3: {1}")]
    RuleText(String, String),
}

fn at_least_one(what: &str, value: Option<u64>) -> Result<(), PolicyError> {
    match value {
        Some(0) => Err(PolicyError::OutOfRange(what.to_owned(), 0, "at least 1")),
        _ => Ok(()),
    }
}

/// Whether `max_delete_percent` and `max_delete_objects` mean something.
pub(crate) fn check_safety(percent: Option<u32>, objects: Option<u64>) -> Result<(), PolicyError> {
    at_least_one("max_delete_objects", objects)?;
    match percent.filter(|percent| !(1..=100).contains(percent)) {
        Some(percent) => {
            Err(PolicyError::OutOfRange("max_delete_percent".to_owned(), percent.into(), "1 to 100"))
        }
        None => Ok(()),
    }
}

impl GcParams {
    /// Whether the policy can be carried out, whatever the cache.
    pub fn check(&self) -> Result<(), PolicyError> {
        at_least_one("max_size", self.max_size)?;
        check_safety(self.max_delete_percent, self.max_delete_objects)?;
        if self.pin_rules.len() > MAX_PIN_RULES {
            return Err(PolicyError::TooManyRules(self.pin_rules.len()));
        }
        for (index, rule) in self.pin_rules.iter().enumerate() {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if rule.prefix.len() > 256 || !rule.prefix.bytes().all(fits) {
                return Err(PolicyError::BadPrefix(rule.prefix.clone()));
            }
            if self.pin_rules[..index].iter().any(|other| other.prefix == rule.prefix) {
                return Err(PolicyError::SamePrefix(rule.prefix.clone()));
            }
            let field = |name| format!("{name} of the pin rule {:?}", rule.prefix);
            at_least_one(&field("keep_last"), rule.keep_last.map(u64::from))?;
            at_least_one(&field("keep_revisions"), rule.keep_revisions.map(u64::from))?;
        }
        if self.older_than.is_none()
            && self.max_size.is_none()
            && !self.pin_rules.iter().any(PinRule::drops_names)
        {
            return Err(PolicyError::NoLimit);
        }
        Ok(())
    }
}

impl FromStr for PinRule {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: String| PolicyError::RuleText(text.to_owned(), why);
        let (mut rule, mut prefix) = (Self::default(), None);
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| wrong(format!("{part:?} is no key=value")))?;
            let count = || value.parse::<u32>().map_err(|_| wrong(format!("{key}: {value:?} is no count")));
            let again = match key {
                "prefix" => prefix.replace(value.to_owned()).is_some(),
                "keep-last" => rule.keep_last.replace(count()?).is_some(),
                "keep-revisions" => rule.keep_revisions.replace(count()?).is_some(),
                "max-age" => {
                    let age = value.parse().map_err(|error| wrong(format!("{key}: {error}")))?;
                    rule.max_age.replace(age).is_some()
                }
                _ => return Err(wrong(format!("there is no {key:?}"))),
            };
            if again {
                return Err(wrong(format!("{key} is given twice")));
            }
        }
        rule.prefix = prefix.ok_or_else(|| wrong("prefix is missing".to_owned()))?;
        Ok(rule)
    }
}

impl fmt::Display for PinRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prefix={}", self.prefix)?;
        if let Some(count) = self.keep_last {
            write!(f, ",keep-last={count}")?;
        }
        if let Some(age) = self.max_age {
            write!(f, ",max-age={age}")?;
        }
        if let Some(count) = self.keep_revisions {
            write!(f, ",keep-revisions={count}")?;
        }
        Ok(())
    }
}

/// Bytes as people and Kubernetes write them: `2Ti`, `500Gi`, `1.5G`, `1000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A text that is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size like 500Gi, 2Ti or 1.5G")]
pub struct ByteSizeError(String);

/// Exact: in the largest unit that divides it.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        match units.iter().find(|(_, bits)| self.0 > 0 && self.0.trailing_zeros() >= *bits) {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ByteSizeError(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: u64 = match unit.trim_end_matches('B') {
            "" => 1,
            "k" | "K" => 1000,
            "M" => 1000_u64.pow(2),
            "G" => 1000_u64.pow(3),
            "T" => 1000_u64.pow(4),
            "P" => 1000_u64.pow(5),
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "Pi" => 1 << 50,
            _ => return Err(error()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(error());
        }
        let whole: u128 = whole.parse().map_err(|_| error())?;
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9));
        let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| error())? };
        let bytes = whole.checked_mul(scale).and_then(|whole| (whole + fraction).checked_mul(factor.into()));
        bytes.and_then(|bytes| u64::try_from(bytes / scale).ok()).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in ["prefix=", "prefix=ci-,keep-last=20", "prefix=x,max-age=336h,keep-revisions=3"] {
            assert_eq!(text.parse::<PinRule>().unwrap().to_string(), text);
        }
        for bad in ["", "ci-", "keep-last=3", "prefix=a,keep-last=x", "prefix=a,prefix=b", "prefix=a,keep=1"]
        {
            let error = bad.parse::<PinRule>().unwrap_err().to_string();
            assert!(error.contains("is not a pin rule like"), "{error}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("2Ti", 2 << 40), ("500Gi", 500 << 30), ("1.5G", 1_500_000_000), ("17", 17), ("0.5Ki", 512)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["2Ti", "500Gi", "1536Mi", "1Ki", "1001", "0"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for bad in ["", "Gi", "1.2.3G", "-1", "1e9", "1X", "99999999Pi", "1 G", "."] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        let rule = |text: &str| text.parse::<PinRule>().unwrap();
        let with = |change: fn(&mut GcParams)| {
            let mut params = GcParams { older_than: Some(GoDuration::hours(1)), ..GcParams::default() };
            change(&mut params);
            params.check()
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|params| params.older_than = None), Err(PolicyError::NoLimit));
        assert!(with(|params| params.max_size = Some(0)).is_err());
        assert!(with(|params| params.max_delete_percent = Some(101)).is_err());
        assert!(with(|params| params.max_delete_percent = Some(0)).is_err());
        let rules = |texts: &[&str]| GcParams {
            pin_rules: texts.iter().map(|text| rule(text)).collect(),
            ..GcParams::default()
        };
        assert_eq!(rules(&["prefix=a,keep-last=1"]).check(), Ok(()));
        assert_eq!(rules(&["prefix=a,keep-revisions=1"]).check(), Err(PolicyError::NoLimit));
        assert!(matches!(
            rules(&["prefix=a,keep-last=1", "prefix=a"]).check(),
            Err(PolicyError::SamePrefix(_))
        ));
        assert!(matches!(rules(&["prefix=a/,keep-last=1"]).check(), Err(PolicyError::BadPrefix(_))));
        assert!(matches!(rules(&["prefix=a,keep-last=0"]).check(), Err(PolicyError::OutOfRange(..))));
    }
}
