//! What the calls about collections and about comparisons have in common.

use serde::Deserialize;

use crate::error::ApiError;

/// Runs a list has where it is not said.
const LISTED: u32 = 20;

/// `?limit=20`
#[derive(Debug, Deserialize)]
pub struct ListQuery {
    limit: Option<u32>,
}

impl ListQuery {
    /// How many are asked for.
    pub fn limit(&self) -> i64 {
        self.limit.unwrap_or(LISTED).into()
    }
}

/// The number of a run.
pub fn number(id: &str) -> Result<i64, ApiError> {
    id.parse().map_err(|_| ApiError::BadRequest(format!("{id:?} is not the number of a run")))
}
