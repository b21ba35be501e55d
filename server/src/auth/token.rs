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
    /// Two of a name.
    #[error(
        "two static tokens are named {0}, and would share uploads and limits: give each a name of its own (that of \
         NIKS3_API_TOKEN is named default)"
    )]
    Twice(String),
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
        let mut all: Vec<([u8; 32], Identity)> = Vec::new();
        if let Some(token) = api_token {
            all.push(entry("default", &token, vec![Permission::Admin], Vec::new())?);
        }
        for StaticToken { name, token_file, permissions, pins } in tokens {
            let token = std::fs::read_to_string(token_file).map_err(|source| TokenError::Read {
                name: name.clone(),
                file: token_file.clone(),
                source,
            })?;
            let entry = entry(name, token.trim(), permissions.clone(), pins.clone())?;
            if all.iter().any(|(_, other)| other.name == entry.1.name) {
                return Err(TokenError::Twice(name.clone()));
            }
            all.push(entry);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_are_not_one_identity() {
        let folder = tempfile::tempdir().unwrap();
        let token = |name: &str, text: &str| {
            let file = folder.path().join(text);
            std::fs::write(&file, text.repeat(MIN_TOKEN)).unwrap();
            let (name, token_file) = (name.to_owned(), file.to_str().unwrap().to_owned());
            StaticToken { name, token_file, permissions: vec![Permission::Push], pins: Vec::new() }
        };
        let load = |tokens: &[StaticToken], api_token: Option<&str>| {
            let api_token = api_token.map(|text| text.repeat(MIN_TOKEN));
            StaticTokens::load(tokens, api_token).map_err(|error| error.to_string())
        };
        assert!(load(&[token("a", "1"), token("b", "2")], Some("3")).is_ok());
        assert!(load(&[token("default", "1")], None).is_ok());
        let error = load(&[token("a", "1"), token("b", "2"), token("a", "3")], None).unwrap_err();
        assert!(error.contains("two static tokens are named a,"), "{error}");
        let error = load(&[token("default", "1")], Some("2")).unwrap_err();
        assert!(error.contains("named default,") && error.contains("NIKS3_API_TOKEN"), "{error}");
    }
}
