//! `GET /readyz?verbose`: what the server needs and whether it has it.

use serde::{Deserialize, Serialize};

/// Whether the server can do its work, and what is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Readiness {
    /// All checks are ok.
    pub ready: bool,
    /// One a dependency.
    pub checks: Vec<ReadinessCheck>,
    /// The server's version.
    pub server_version: String,
    /// The keys in force; a server that takes no others without a restart does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<KeysInForce>,
    /// The newest migration of the database that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i64>,
}

/// What a server signs with, as public keys, each list sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KeysInForce {
    /// Those that sign.
    pub keys: Vec<String>,
    /// Those whose signatures are taken out of stored narinfos.
    pub revoked: Vec<String>,
}

/// One dependency. No secret and no address stands in it: the page needs no identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadinessCheck {
    /// Which.
    pub name: Dependency,
    /// It answered as it should.
    pub ok: bool,
    /// A reason of `BinaryCache`'s conditions, such as `ConnectionFailed` or `AccessDenied`; empty when ok.
    #[serde(default)]
    pub reason: String,
    /// One sentence; empty when ok.
    #[serde(default)]
    pub message: String,
}

/// What the server depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// PostgreSQL.
    Database,
    /// The bucket.
    Storage,
    /// The signing keys.
    SigningKeys,
    /// Identity providers; never makes the server unready.
    Auth,
}
