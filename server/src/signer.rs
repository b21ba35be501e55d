//! Key files to signatures.

use std::path::PathBuf;
use std::sync::Arc;

use niks3_protocol::nix::signature::KeyError;
use niks3_protocol::nix::{PublicKey, SecretKey, Signature};

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// It cannot be read.
    #[error("signing key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content is no key.
    #[error("signing key {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why; never the content.
        source: KeyError,
    },
}

/// All keys that sign; a signature of each goes into every narinfo.
#[derive(Debug, Clone, Default)]
pub struct Signer(Arc<Vec<SecretKey>>);

impl Signer {
    /// Reads files with one `name:base64` each.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self, SignerError> {
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SignerError::Read { path: path.clone(), source })?;
            text.parse::<SecretKey>().map_err(|source| SignerError::Key { path: path.clone(), source })
        };
        Ok(Self(Arc::new(paths.iter().map(read).collect::<Result<_, _>>()?)))
    }

    /// What clients trust.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.0.iter().map(SecretKey::public_key).collect()
    }

    /// One signature a key.
    pub fn sign(&self, fingerprint: &str) -> Vec<Signature> {
        self.0.iter().map(|key| key.sign(fingerprint)).collect()
    }
}
