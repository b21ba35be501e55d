//! How stored narinfos are signed again.

use serde::{Deserialize, Serialize};

/// How stored narinfos are signed again when the keys that sign change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResignSection {
    /// Whether the server does so by itself.
    pub mode: ResignMode,
    /// Narinfos written in a second at most; 0 is any number.
    pub rate: u32,
    /// Writes under way at a time.
    pub concurrency: usize,
}

impl Default for ResignSection {
    fn default() -> Self {
        Self { mode: ResignMode::Auto, rate: 200, concurrency: 8 }
    }
}

/// Whether stored narinfos are signed again by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum ResignMode {
    /// Whenever the keys that sign are others.
    #[default]
    Auto,
    /// Only by `POST /api/resign`.
    Manual,
}
