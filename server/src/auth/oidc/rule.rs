//! What a token's claims have to be.

use niks3_protocol::api::Permission;
use serde_json::Value;

use crate::auth::glob;

/// All of subjects and claims have to fit.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) subjects: Vec<String>,
    pub(super) claims: Vec<(Claim, Vec<String>)>,
    pub(super) permissions: Vec<Permission>,
    pub(super) pins: Vec<String>,
}

/// Where a claim stands.
#[derive(Debug)]
pub(super) enum Claim {
    /// Its name, or the path its dots make, as in niks3 1.7.
    Path(String),
    /// A JSON pointer.
    Pointer(String),
}

impl Rule {
    /// Why it does not fit, where it does not.
    pub(super) fn refuses(&self, subject: &str, claims: &Value) -> Option<String> {
        let rule = self.name.as_ref().map(|name| format!(" (rule {name:?})")).unwrap_or_default();
        if !self.subjects.is_empty() && !self.subjects.iter().any(|glob| glob::matches(glob, subject)) {
            return Some(format!("it is not a subject this cache lets in{rule}"));
        }
        self.claims.iter().find_map(|(claim, globs)| {
            let (name, found) = match claim {
                Claim::Path(name) => (name, find_claim(claims, name)),
                Claim::Pointer(pointer) => (pointer, claims.pointer(pointer)),
            };
            let values = found.map(texts).unwrap_or_default();
            let fits = values.iter().any(|value| globs.iter().any(|glob| glob::matches(glob, value)));
            let why = || format!("its claim {name:?} is {values:?}, not one of those configured{rule}");
            (!fits).then(why)
        })
    }
}

/// A claim by its name, or by the path its dots make.
fn find_claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |value, part| value.get(part)))
}

/// A claim's values as text: any of a list counts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
        Value::Null | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "a.b": "direct", "a": {"b": "nested", "c": {"d": ["x", 1, "y"]}}, "n": 7, "t": true, "o": {},
        });
        let found = |name: &str| find_claim(&claims, name).map(texts);
        assert_eq!(found("a.b"), Some(vec!["direct".to_owned()]));
        assert_eq!(found("a.c.d"), Some(vec!["x".to_owned(), "y".to_owned()]));
        assert_eq!(found("n"), Some(vec!["7".to_owned()]));
        assert_eq!(found("t"), Some(vec!["true".to_owned()]));
        assert_eq!(found("o"), Some(Vec::new()));
        assert_eq!(found("a.x"), None);
    }
}
