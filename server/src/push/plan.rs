//! What an upload says of its objects, as its row keeps it between its calls.
//!
//! The keys stand in the row already, so references are numbers: as the request's JSON ten thousand objects were 2.5 MB,
//! written once and read twice.

use std::collections::HashMap;

use niks3_protocol::api::pending_closures::UploadObject;
use niks3_protocol::object_key::{ObjectKey, ObjectKeyError};
use niks3_protocol::server_config::LARGEST_NAR;
use serde::{Deserialize, Serialize};

use super::PushError;
use super::reading::Text;

/// An upload's objects, in the order of its keys.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    objects: Vec<Planned>,
    /// Keys that are referred to and are not in the upload.
    pub(super) outside: Vec<String>,
}

/// What an upload says of one object.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Planned {
    /// Bytes of the NAR, uncompressed; of NARs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nar_size: Option<u64>,
    /// Numbers of what it refers to, ascending: of the upload's keys first, then of those outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) refs: Vec<usize>,
}

/// The objects of a begin in the order of their keys, each once, as its body has them.
#[derive(Debug)]
pub(super) struct Sorted<'a>(Vec<UploadObject<Text<'a>>>);

impl<'a> Sorted<'a> {
    /// Checks what is said of each, but what it refers to.
    pub(super) fn new(mut objects: Vec<UploadObject<Text<'a>>>) -> Result<Self, PushError> {
        let invalid = |message: String| Err(PushError::Invalid(message));
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        objects.dedup_by(|again, first| {
            let same = *again.key == *first.key && again.kind == first.kind;
            if same {
                first.refs.append(&mut again.refs);
                first.nar_size = first.nar_size.max(again.nar_size);
            }
            same
        });
        for UploadObject { key, kind, nar_size, .. } in &objects {
            let key: &str = key;
            if parse(key)?.kind() != *kind {
                return invalid(format!("{key} is named as {kind:?}, which its key is not"));
            }
            if nar_size.is_some_and(|size| size > LARGEST_NAR) {
                return invalid(format!("{key} is larger than the 5 TiB S3 can hold"));
            }
        }
        if let Some([twice, _]) = objects.array_windows().find(|[a, b]| *a.key == *b.key) {
            return invalid(format!("{} is named twice, as different kinds", &*twice.key));
        }
        Ok(Self(objects))
    }

    /// Their keys.
    pub(super) fn keys(&self) -> Vec<String> {
        self.0.iter().map(|object| (*object.key).to_owned()).collect()
    }

    /// Whether this is the key of one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.binary_search_by(|object| (*object.key).cmp(key)).is_ok()
    }

    /// Numbers what each refers to.
    pub(super) fn plan(&self) -> Result<Plan, PushError> {
        let mut numbers: HashMap<&str, usize> =
            self.0.iter().enumerate().map(|(number, object)| (&*object.key, number)).collect();
        let mut plan = Plan { objects: Vec::with_capacity(self.0.len()), outside: Vec::new() };
        for UploadObject { key, refs, nar_size, .. } in &self.0 {
            let mut planned = Planned { nar_size: *nar_size, refs: Vec::with_capacity(refs.len()) };
            for reference in refs {
                let next = self.0.len() + plan.outside.len();
                let number = *numbers.entry(reference).or_insert(next);
                if number == next {
                    parse(reference).map_err(|error| {
                        PushError::Invalid(format!("{} refers to a key that is none: {error}", &**key))
                    })?;
                    plan.outside.push((**reference).to_owned());
                }
                planned.refs.push(number);
            }
            planned.refs.sort_unstable();
            planned.refs.dedup();
            plan.objects.push(planned);
        }
        Ok(plan)
    }
}

fn parse(key: &str) -> Result<ObjectKey, PushError> {
    key.parse().map_err(|error: ObjectKeyError| PushError::Invalid(error.to_string()))
}

impl Plan {
    /// As it is kept.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, PushError> {
        serde_json::to_vec(self).map_err(|error| PushError::Invalid(error.to_string()))
    }

    /// Reads what an upload's row keeps.
    pub(super) fn from_bytes(bytes: &[u8], upload: i64) -> Result<Self, PushError> {
        // Another version of the server wrote it, or a hand in the database.
        serde_json::from_slice(bytes).map_err(|_| PushError::Changed(format!("the plan of upload {upload}")))
    }

    /// The keys it was made from, with which `keys` begin: a commit adds what it protects outside.
    pub(super) fn own<'a>(&self, keys: &'a [String]) -> &'a [String] {
        &keys[..self.objects.len().min(keys.len())]
    }

    /// Each key of the upload with what is said of it; `keys` begin with those it was made from.
    pub(super) fn objects<'a>(
        &'a self,
        keys: &'a [String],
    ) -> impl Iterator<Item = (&'a String, &'a Planned)> {
        keys.iter().zip(&self.objects)
    }

    /// All keys by number: the upload's own, then those outside.
    pub(super) fn keys<'a>(&'a self, keys: &'a [String]) -> impl Iterator<Item = &'a String> {
        self.own(keys).iter().chain(&self.outside)
    }

    /// What is said of the object of this number; nothing of one outside.
    pub(super) fn get(&self, number: usize) -> Option<&Planned> {
        self.objects.get(number)
    }
}

impl Planned {
    /// Whether it refers to what has this number.
    pub(super) fn refers_to(&self, number: usize) -> bool {
        self.refs.binary_search(&number).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(body: &str) -> Result<Sorted<'_>, PushError> {
        Sorted::new(serde_json::from_str(body).unwrap())
    }

    #[test]
    fn what_is_kept_is_what_was_said() {
        let [a, b, c] = ["a", "b", "c"].map(|digit| format!("{}.narinfo", digit.repeat(32)));
        let nar = format!("nar/{}.nar.zst", "0".repeat(52));
        // The escape is one of the digit a.
        let body = format!(
            r#"[{{"key":"{b}","type":"narinfo","refs":["{c}","{nar}","{a}","{c}"]}},
                {{"key":"{nar}","type":"nar","nar_size":5}},
                {{"key":"\u0061{}","type":"narinfo","refs":["{c}"]}},
                {{"key":"{b}","type":"narinfo","refs":["{b}"]}}]"#,
            &a[1..]
        );
        let said = sorted(&body).unwrap();
        let (keys, plan) = (said.keys(), said.plan().unwrap());
        assert_eq!(keys, [a.as_str(), &b, &nar]);
        assert!(said.has(&a) && !said.has(&c));
        let plan = Plan::from_bytes(&plan.to_bytes().unwrap(), 1).unwrap();
        assert_eq!(plan.outside, std::slice::from_ref(&c));
        assert_eq!(plan.keys(&keys).collect::<Vec<_>>(), [&a, &b, &nar, &c]);
        let refs: Vec<&[usize]> = plan.objects(&keys).map(|(_, planned)| planned.refs.as_slice()).collect();
        assert_eq!(refs, [&[3][..], &[0, 1, 2, 3], &[]]);
        assert_eq!(plan.get(2).and_then(|planned| planned.nar_size), Some(5));
        assert!(plan.get(3).is_none());
    }

    #[test]
    fn plans_of_other_versions_are_refused_with_a_sentence() {
        let error = Plan::from_bytes(br#"[{"key":"x","type":"nar"}]"#, 7).unwrap_err();
        assert_eq!(error.to_string(), "the plan of upload 7 changed while the upload was open; begin again");
    }
}
