//! Store paths and who pushed them. (`/api/paths`)

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use niks3_protocol::api::Permission;
use niks3_protocol::api::paths::PathDetails;
use niks3_protocol::nix::StorePathHash;

use crate::app::App;
use crate::auth::Identity;
use crate::closures;
use crate::error::ApiError;

/// `GET /api/paths/{hash}`
pub async fn find(
    identity: Identity,
    State(app): State<Arc<App>>,
    Path(hash): Path<String>,
) -> Result<Json<PathDetails>, ApiError> {
    identity.may(Permission::Push).or_else(|_| identity.may(Permission::Read))?;
    let hash: StorePathHash = hash.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))?;
    let found = closures::find_path(&app, &hash).await?;
    found.map(Json).ok_or_else(|| ApiError::NotFound(format!("no path with the hash {hash} was pushed")))
}
