//! The formats of Nix: pure functions and newtypes, no I/O.

pub mod base32;
pub mod nar_hash;
pub mod narinfo;
pub mod realisation;
pub mod signature;
pub mod store_path;

pub use nar_hash::NarHash;
pub use narinfo::NarInfo;
pub use realisation::Realisation;
pub use signature::{PublicKey, SecretKey, Signature};
pub use store_path::{StorePath, StorePathHash};
