//! Key files to signatures.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use niks3_protocol::api::health::KeysInForce;
use niks3_protocol::nix::signature::KeyError;
use niks3_protocol::nix::{PublicKey, SecretKey, Signature};

use crate::watched::{Source, Watched};

/// Key files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// One cannot be read.
    #[error("signing key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of one is no key.
    #[error("signing key {path}, line {line}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// Why; never the content.
        source: KeyError,
    },
    /// Nobody could tell their signatures apart.
    #[error("two signing keys are named {0}; a name has one key for ever")]
    Twice(String),
    /// One is to sign and is not to be trusted.
    #[error("the key {0} is revoked and is to sign; take it out of one of the two")]
    Revoked(String),
}

/// All keys that sign; a signature of each goes into every narinfo.
#[derive(Debug, Clone, Default)]
pub struct Signer(Arc<Vec<SecretKey>>);

impl Signer {
    /// What clients trust.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.0.iter().map(SecretKey::public_key).collect()
    }

    /// One signature a key.
    pub fn sign(&self, fingerprint: &str) -> Vec<Signature> {
        self.0.iter().map(|key| key.sign(fingerprint)).collect()
    }
}

/// Whose signatures a narinfo is to have, and whose not: one set, in force as a whole.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Those that sign.
    pub signer: Signer,
    /// Those that clients trust no more.
    pub revoked: Vec<PublicKey>,
}

impl Keys {
    /// As others are told of them, in an order that says nothing.
    pub fn told(&self) -> KeysInForce {
        let sorted = |keys: &[PublicKey]| {
            let mut texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
            texts.sort_unstable();
            texts
        };
        KeysInForce { keys: sorted(&self.signer.public_keys()), revoked: sorted(&self.revoked) }
    }
}

/// Where keys are.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles {
    /// Files with secret keys, `name:base64`, one a line.
    pub signing: Vec<PathBuf>,
    /// A file with revoked public keys, separated by white space.
    pub revoked: Option<PathBuf>,
    /// Revoked public keys that stand in no file of their own.
    pub always_revoked: Vec<PublicKey>,
}

/// The keys in force.
pub type WatchedKeys = Watched<KeyFiles>;

impl Source for KeyFiles {
    type Contents = Vec<(PathBuf, String)>;
    type Made = Keys;
    type Error = SignerError;
    const WHAT: &'static str = "key files";

    fn read(&self) -> Result<Self::Contents, SignerError> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            text.map(|text| (path.clone(), text))
                .map_err(|source| SignerError::Read { path: path.clone(), source })
        };
        self.signing.iter().chain(&self.revoked).map(read).collect()
    }

    fn make(&self, contents: &Self::Contents) -> Result<Keys, SignerError> {
        let (signing, revoked_file) = contents.split_at(self.signing.len());
        let (mut keys, mut revoked) = (Vec::new(), self.always_revoked.clone());
        for (path, text) in signing {
            let error = |line, source| SignerError::Key { path: path.clone(), line, source };
            let before = keys.len();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                keys.push(line.parse::<SecretKey>().map_err(|source| error(number + 1, source))?);
            }
            if keys.len() == before {
                return Err(error(1, KeyError::Form));
            }
        }
        for (path, text) in revoked_file {
            for (number, line) in text.lines().enumerate() {
                let parse = |key: &str| {
                    key.parse::<PublicKey>().map_err(|source| SignerError::Key {
                        path: path.clone(),
                        line: number + 1,
                        source,
                    })
                };
                revoked.extend(line.split_whitespace().map(parse).collect::<Result<Vec<_>, _>>()?);
            }
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = keys.iter().find(|key| !names.insert(key.name().to_owned())) {
            return Err(SignerError::Twice(twice.name().to_owned()));
        }
        if let Some(key) = keys.iter().find(|key| revoked.contains(&key.public_key())) {
            return Err(SignerError::Revoked(key.name().to_owned()));
        }
        Ok(Keys { signer: Signer(Arc::new(keys)), revoked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::from_seed(name, [seed; 32]).unwrap()
    }

    /// What comes of one file with signing keys and one with revoked ones.
    fn made(signing: &str, revoked: &str) -> Result<Vec<String>, String> {
        let files = KeyFiles {
            signing: vec!["/keys".into()],
            revoked: Some("/revoked".into()),
            always_revoked: Vec::new(),
        };
        let contents = vec![("/keys".into(), signing.to_owned()), ("/revoked".into(), revoked.to_owned())];
        let keys = files.make(&contents).map_err(|error| error.to_string())?;
        let all = keys.signer.public_keys().into_iter().chain(keys.revoked);
        Ok(all.map(|key| key.name().to_owned()).collect())
    }

    #[test]
    fn a_file_holds_keys_line_by_line() {
        let (a, b) = (key("a-1", 1), key("b-1", 2));
        let both = format!("{}\n\n{}\n", a.to_secret_text(), b.to_secret_text());
        let (gone, other) = (key("c-1", 3).public_key(), key("d-1", 4).public_key());
        assert_eq!(made(&both, &format!("{gone} {other}\n")).unwrap(), ["a-1", "b-1", "c-1", "d-1"]);
        assert_eq!(made(&a.to_secret_text(), "").unwrap(), ["a-1"]);
    }

    #[test]
    fn a_set_that_cannot_be_is_refused_with_its_place_and_not_its_content() {
        let (a, again) = (key("a-1", 1).to_secret_text(), key("a-1", 2).to_secret_text());
        for (signing, revoked, said) in [
            (format!("{a}\nb-1:c2VjcmV0"), String::new(), "signing key /keys, line 2"),
            ("\n".to_owned(), String::new(), "signing key /keys, line 1"),
            (format!("{a}\n{again}"), String::new(), "two signing keys are named a-1"),
            (a.clone(), "a-1".to_owned(), "signing key /revoked, line 1"),
            (a.clone(), key("a-1", 1).public_key().to_string(), "a-1 is revoked and is to sign"),
        ] {
            let error = made(&signing, &revoked).unwrap_err();
            assert!(error.contains(said) && !error.contains("c2VjcmV0"), "{error}");
        }
        // Another key of a revoked one's name may sign: docs/keys.md.
        assert!(made(&again, &key("a-1", 1).public_key().to_string()).is_ok());
    }
}
