//! Shared secrets.

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::StaticToken;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Identity;

/// Characters a token has at least.
pub const MIN_TOKEN: usize = 36;

/// A token that cannot be used. Its content is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("static token {name}: file {file}")]
    Read {
        /// The token's name.
        name: String,
        /// Its file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Too short to be a secret.
    #[error("static token {name} has {length} characters; at least {MIN_TOKEN} are needed")]
    Short {
        /// The token's name.
        name: String,
        /// What it has.
        length: usize,
    },
}

/// Tokens by the hash of their text: the comparison takes the same time wherever two differ.
#[derive(Default)]
pub(super) struct StaticTokens(Vec<([u8; 32], Identity)>);

impl std::fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, identity)| &identity.name)).finish()
    }
}

impl StaticTokens {
    /// Reads the files. `api_token` is the one of niks3 1.7, which may do everything.
    pub(super) fn load(tokens: &[StaticToken], api_token: Option<String>) -> Result<Self, TokenError> {
        let mut all = Vec::new();
        if let Some(token) = api_token {
            all.push(entry("default", &token, vec![Permission::Admin], Vec::new())?);
        }
        for StaticToken { name, token_file, permissions, pins } in tokens {
            let token = std::fs::read_to_string(token_file).map_err(|source| TokenError::Read {
                name: name.clone(),
                file: token_file.clone(),
                source,
            })?;
            all.push(entry(name, token.trim(), permissions.clone(), pins.clone())?);
        }
        Ok(Self(all))
    }

    /// Compares with every token, so that not even their number of tries tells which came near.
    pub(super) fn find(&self, token: &str) -> Option<Identity> {
        let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for (known, identity) in &self.0 {
            if bool::from(known.ct_eq(&given)) {
                found = Some(identity);
            }
        }
        found.cloned()
    }
}

fn entry(
    name: &str,
    token: &str,
    permissions: Vec<Permission>,
    pins: Vec<String>,
) -> Result<([u8; 32], Identity), TokenError> {
    let length = token.chars().count();
    if length < MIN_TOKEN {
        return Err(TokenError::Short { name: name.to_owned(), length });
    }
    let origin = serde_json::json!({ "token": name });
    let identity = Identity { name: format!("token:{name}"), permissions, pins, origin };
    Ok((Sha256::digest(token.as_bytes()).into(), identity))
}
