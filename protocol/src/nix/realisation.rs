//! Realisations: which path a content-addressed derivation was built to, as JSON in a binary cache.
//!
//! Source: Nix, `src/libstore/realisation.cc`. Until 2.34 it stands under `realisations/{id}.doi` and says its `id`; from
//! 2.35 on under `build-trace-v2/{derivation}/{output}.doi`, which says the same by its name.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::signature::{KeyError, Signature};
use super::store_path::{DEFAULT_STORE_DIR, StorePath, StorePathError, StorePathHash};
use crate::object_key::ObjectKey;

/// The longest text of one, in bytes. Those of Nix have some hundred, and about a hundred for each output they depend on.
pub const MAX_REALISATION: usize = 1 << 20;

/// Why a text is not the realisation of its key.
#[derive(Debug, thiserror::Error)]
pub enum RealisationError {
    /// No JSON of that shape.
    #[error("it is not a realisation as Nix writes it: {0}")]
    Form(#[from] serde_json::Error),
    /// The key is another's.
    #[error("it says it is of {0:?}")]
    OtherId(String),
    /// A path that is none.
    #[error("its path {path:?} is not the base name of a store path")]
    Path {
        /// What stands there.
        path: String,
        /// Why it is not one.
        source: StorePathError,
    },
    /// A signature that is none.
    #[error("its signature {signature:?} is not NAME:BASE64")]
    Signature {
        /// What stands there.
        signature: String,
        /// Why it is not one.
        source: KeyError,
    },
    /// A key of something else.
    #[error("its key is not one of a realisation")]
    Key,
}

/// A realisation that fits its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// The hash part of the path that was built.
    pub out_path: StorePathHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    id: Option<String>,
    out_path: String,
    #[serde(default)]
    signatures: Vec<SignatureText>,
    #[serde(default)]
    dependent_realisations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SignatureText {
    Line(String),
    Fields {
        #[serde(rename = "keyName")]
        name: String,
        sig: String,
    },
}

impl Realisation {
    /// Reads the text stored under this key.
    pub fn read(key: &ObjectKey, text: &[u8]) -> Result<Self, RealisationError> {
        let text: Text = serde_json::from_slice(text)?;
        match key {
            ObjectKey::Realisation(name) => {
                let id = text.id.unwrap_or_default();
                if name.strip_suffix(".doi") != Some(&*id) {
                    return Err(RealisationError::OtherId(id));
                }
            }
            ObjectKey::BuildTrace(_) => {
                if let Some(id) = text.id {
                    return Err(RealisationError::OtherId(id));
                }
            }
            _ => return Err(RealisationError::Key),
        }
        for signature in text.signatures {
            let signature = match signature {
                SignatureText::Line(line) => line,
                SignatureText::Fields { name, sig } => format!("{name}:{sig}"),
            };
            if let Err(source) = signature.parse::<Signature>() {
                return Err(RealisationError::Signature { signature, source });
            }
        }
        for (id, path) in text.dependent_realisations {
            if format!("realisations/{id}.doi").parse::<ObjectKey>().is_err() {
                return Err(RealisationError::OtherId(id));
            }
            base_name(path)?;
        }
        Ok(Self { out_path: base_name(text.out_path)?.hash() })
    }
}

fn base_name(path: String) -> Result<StorePath, RealisationError> {
    StorePath::in_dir(DEFAULT_STORE_DIR, &path).map_err(|source| RealisationError::Path { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:01ab836cad1d712312b0b913d12b5cc1fafa847108c72ce4e9827b1f56478b93!out";
    const OUT: &str = "j80pxs844q0cfjdnxzx956537pkb4ji1-ca";
    const SIGNATURE: &str =
        "ca-1:298mcHLtQEVoHQJs/lucZIx97Y+7T48jWDWRP5bKP9QMBB5OO0xZfGdwOFVIbCJm7N5zOXg8y2OodlpJPNHYAA==";

    fn key() -> ObjectKey {
        format!("realisations/{ID}.doi").parse().unwrap()
    }

    fn traced() -> ObjectKey {
        "build-trace-v2/026k39lfgdyv6hks4w3zqpkwnmkp05ph-ca.drv/out.doi".parse().unwrap()
    }

    /// As Nix 2.8 wrote it.
    fn of_nix() -> String {
        format!(
            r#"{{"dependentRealisations":{{}},"id":"{ID}","outPath":"{OUT}","signatures":["{SIGNATURE}"]}}"#
        )
    }

    #[test]
    fn reads_what_nix_writes_of_either_kind() {
        let expected = Realisation { out_path: OUT[..32].parse().unwrap() };
        assert_eq!(Realisation::read(&key(), of_nix().as_bytes()).unwrap(), expected);
        // The client of niks3 1.7 leaves empty fields out.
        let short = format!(r#"{{"id":"{ID}","outPath":"{OUT}"}}"#);
        assert_eq!(Realisation::read(&key(), short.as_bytes()).unwrap(), expected);
        let (name, sig) = SIGNATURE.split_once(':').unwrap();
        for signature in
            [format!("\"{SIGNATURE}\""), format!(r#"{{"keyName":"{name}","sig":"{sig}"}}"#), String::new()]
        {
            let text = format!(r#"{{"outPath":"{OUT}","signatures":[{signature}]}}"#);
            assert_eq!(Realisation::read(&traced(), text.as_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn refuses_what_is_not_of_its_key() {
        let changed = |from: &str, to: &str| of_nix().replace(from, to);
        for (text, sentence) in [
            ("{".to_owned(), "not a realisation as Nix writes it"),
            ("[]".to_owned(), "not a realisation as Nix writes it"),
            (format!(r#"{{"id":"{ID}"}}"#), "not a realisation as Nix writes it"),
            (changed("!out", "!dev"), "it says it is of"),
            (changed(&format!("\"id\":\"{ID}\","), ""), "it says it is of \"\""),
            (changed(OUT, "/nix/store/j80pxs844q0cfjdnxzx956537pkb4ji1-ca"), "not the base name"),
            (changed(OUT, "../secret"), "not the base name"),
            (changed("ca-1:", "ca-1"), "is not NAME:BASE64"),
            (changed("NHYAA==", "NHYAA"), "is not NAME:BASE64"),
            (changed("{}", r#"{"sha256:x":"y"}"#), "it says it is of \"sha256:x\""),
            (changed("{}", r#"{"sha256:00!out":"y"}"#), "its path \"y\""),
        ] {
            let error = Realisation::read(&key(), text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(sentence), "{text}: {error}");
        }
        let error = Realisation::read(&traced(), of_nix().as_bytes()).unwrap_err().to_string();
        assert!(error.contains("it says it is of"), "{error}");
    }
}
