//! Signatures over store paths: the fingerprint, ed25519 keys, and their text forms.
//!
//! Source: Nix, `src/libstore/path-info.cc` (`fingerprint`) and `src/libutil/signature/local-keys.cc`.
//!
//! AWS-LC signs, which TLS brings along: it takes six tenths of dalek's time, and signatures are most of what a call of
//! sign costs. Dalek verifies; signatures are the same bytes whoever makes them (RFC 8032).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Verifier as _, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{NarHash, StorePath};

/// Why a text is not a key or a signature. The text itself is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `name:base64`.
    #[error("is not `name:base64`")]
    Form,
    /// The part before the colon is empty or has white space.
    #[error("has an empty name or one with white space")]
    Name,
    /// The part after the colon is not base-64 of the right number of bytes.
    #[error("does not hold {expected} bytes of base-64 after the colon")]
    Length {
        /// Bytes a key or signature of this kind has.
        expected: usize,
    },
    /// The two halves of a secret key do not belong together.
    #[error("holds a public half that does not belong to its secret half")]
    Halves,
}

/// The text Nix signs: `1;{path};{sha256:base32};{nar size in bytes};{references, sorted, by comma}`.
pub fn fingerprint(path: &StorePath, nar_hash: NarHash, nar_size: u64, references: &[StorePath]) -> String {
    let mut sorted: Vec<&str> = references.iter().map(StorePath::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    format!("1;{path};{nar_hash};{nar_size};{}", sorted.join(","))
}

/// `name:base64`, the base-64 being of exactly `N` bytes.
fn parse<const N: usize>(text: &str) -> Result<(String, [u8; N]), KeyError> {
    let (name, encoded) = text.trim().split_once(':').ok_or(KeyError::Form)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(KeyError::Name);
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Length { expected: N })?;
    let bytes = bytes.try_into().map_err(|_| KeyError::Length { expected: N })?;
    Ok((name.to_owned(), bytes))
}

/// An ed25519 signing key, `name:base64(seed ‖ public key)`. Its `Debug` shows the name alone.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    pair: Arc<Ed25519KeyPair>,
    public: VerifyingKey,
}

impl SecretKey {
    /// The key of a 32-byte seed, which must come from a cryptographic source of randomness.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == ':') {
            return Err(KeyError::Name);
        }
        Self::of(name.to_owned(), Ed25519KeyPair::from_seed_unchecked(&seed).ok())
    }

    fn of(name: String, pair: Option<Ed25519KeyPair>) -> Result<Self, KeyError> {
        let pair = pair.ok_or(KeyError::Halves)?;
        let public = VerifyingKey::try_from(pair.public_key().as_ref()).map_err(|_| KeyError::Halves)?;
        Ok(Self { name, pair: Arc::new(pair), public })
    }

    /// The name before the colon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What clients trust.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.public }
    }

    /// Signs a [`fingerprint`].
    pub fn sign(&self, fingerprint: &str) -> Signature {
        let signature = self.pair.sign(fingerprint.as_bytes());
        let bytes = signature.as_ref().try_into().expect("an ed25519 signature should have 64 bytes");
        Signature { name: self.name.clone(), bytes }
    }

    /// The text form, which is the secret itself: for a Secret or a key file, never for a log.
    pub fn to_secret_text(&self) -> String {
        let seed: Result<Curve25519SeedBin<'_>, _> = self.pair.seed().and_then(|seed| seed.as_be_bytes());
        let seed = seed.expect("a key pair that was made of a seed should have it");
        format!("{}:{}", self.name, STANDARD.encode([seed.as_ref(), self.public.as_bytes()].concat()))
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = parse::<64>(text)?;
        let (seed, public) = bytes.split_at(32);
        Self::of(name, Ed25519KeyPair::from_seed_and_public_key(seed, public).ok())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.name)
    }
}

/// A public key, `name:base64`, as `trusted-public-keys` lists it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// The name before the colon.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` carries this key's name and is this key's signature of `fingerprint`.
    pub fn verifies(&self, fingerprint: &str, signature: &Signature) -> bool {
        let given = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.name == self.name && self.key.verify(fingerprint.as_bytes(), &given).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = parse::<32>(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Length { expected: 32 })?;
        Ok(Self { name, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

/// A signature, `name:base64`, as a narinfo's `Sig` line holds it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature {
    name: String,
    bytes: [u8; 64],
}

impl Signature {
    /// The name of the key that signed.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = parse::<64>(text)?;
        Ok(Self { name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PublicKey> for String {
    fn from(value: PublicKey) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Signature> for String {
    fn from(value: Signature) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for Signature {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
