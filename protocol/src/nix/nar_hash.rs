//! The sha256 of a NAR, in the three spellings Nix uses.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::base32;

/// A text that is not a sha256 in a spelling of Nix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sha256 as `sha256:` with base-32 or hex digits, or `sha256-` with base-64")]
pub struct NarHashError(String);

/// The sha256 of a NAR. [`Display`](fmt::Display) gives `sha256:{52 base-32 digits}`, as narinfos and
/// fingerprints spell it; [`FromStr`] reads that, hex (`sha256:{64}`) and SRI (`sha256-{44}`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NarHash(pub [u8; 32]);

impl NarHash {
    /// 52 digits of Nix base-32; the stem of the NAR's key.
    pub fn to_base32(self) -> String {
        base32::encode(&self.0)
    }

    /// `sha256-{base-64}`.
    pub fn to_sri(self) -> String {
        format!("sha256-{}", STANDARD.encode(self.0))
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for NarHash {
    type Err = NarHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = if let Some(sri) = text.strip_prefix("sha256-") {
            STANDARD.decode(sri).ok().and_then(|bytes| bytes.try_into().ok())
        } else if let Some(digits) = text.strip_prefix("sha256:") {
            match digits.len() {
                52 => base32::decode(digits),
                64 => hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok()),
                _ => None,
            }
        } else {
            None
        };
        bytes.map(Self).ok_or_else(|| NarHashError(text.to_owned()))
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_base32())
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<NarHash> for String {
    fn from(hash: NarHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for NarHash {
    type Error = NarHashError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_spellings_of_one_hash() {
        let hash: NarHash = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73".parse().unwrap();
        assert_eq!(hash.to_sri(), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(hash.to_sri().parse::<NarHash>().unwrap(), hash);
        assert_eq!(format!("sha256:{}", hash.to_hex()).parse::<NarHash>().unwrap(), hash);
        assert_eq!(hash.to_string().parse::<NarHash>().unwrap(), hash);
    }

    #[test]
    fn refuses_other_algorithms_and_lengths() {
        for bad in ["", "sha256:", "sha512:abc", "md5:0", "sha256-AAAA", "sha256:zz", "47DEQpj8HBSa"] {
            assert!(bad.parse::<NarHash>().is_err(), "{bad}");
        }
    }
}
