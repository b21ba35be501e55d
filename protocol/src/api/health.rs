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
    /// How many connections the database has at most, for all that use this server's user; where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_connections: Option<u32>,
    /// Those whose tokens are taken. None of them makes the server unready; a server of before it could tell does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers: Option<Vec<IssuerState>>,
    /// The issuer that `ServiceAccount` tokens are taken from, as they have it in `iss`. It is no secret: each token says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_issuer: Option<String>,
    /// The newest migration of the database that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i64>,
}

/// An issuer of tokens, and what became of its keys. Nothing is fetched for this page: the last try counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IssuerState {
    /// As the configuration calls it; left out, it is the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its tokens are judged by.
    pub keys: IssuerKeys,
    /// Why they cannot be fetched, where the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<IssuerProblem>,
}

/// What the tokens of an issuer are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IssuerKeys {
    /// There are none: no token of it came in yet, or it did not give them.
    Absent,
    /// Those that it gave.
    Fresh,
    /// Those that it gave longer ago than they should be used, because it gives no others.
    Stale,
}

/// Why an issuer's keys cannot be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IssuerProblem {
    /// The first try that failed since they were fetched last, as RFC 3339.
    pub since: String,
    /// How the last one failed, in a few words without its address.
    pub message: String,
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
}
