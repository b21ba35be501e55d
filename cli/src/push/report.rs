//! A path's line of `--json`.

use niks3_protocol::nix::StorePath;
use serde::Serialize;

/// What became of one path.
#[derive(Debug, Serialize)]
pub(super) struct PathReport<'a> {
    pub(super) path: &'a str,
    /// `cached`, `uploaded` or `failed`
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nar_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl<'a> PathReport<'a> {
    pub(super) fn new(path: &'a StorePath, status: &'static str) -> Self {
        Self { path: path.as_str(), status, nar_size: None, error: None }
    }
}
