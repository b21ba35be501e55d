//! Committed closures: reading them, and making them new without an upload.

use niks3_protocol::api::cache_config::CacheStats;
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};
use niks3_protocol::object_key::ObjectKey;

use crate::app::App;
use crate::db;
use crate::push::PushError;

/// Roots one refresh may name.
const MAX_ROOTS: usize = 10_000;

/// A committed closure and everything it reaches.
pub async fn find(app: &App, key: &str) -> Result<Option<Closure>, PushError> {
    let mut conn = app.db.acquire().await?;
    let Some(updated_at) = db::closures::find_updated_at(&mut conn, key).await? else { return Ok(None) };
    let objects = db::objects::list_reachable(&mut conn, &[key.to_owned()]).await?;
    Ok(Some(Closure { id: key.to_owned(), updated_at, objects }))
}

/// Counts roots that are there as pushed now, and says which those are. Safe while a collection runs: a
/// committed root keeps all it reaches, and whoever locks its row first, this or its expiry, wins.
pub async fn refresh(app: &App, request: &RefreshRequest) -> Result<RefreshResponse, PushError> {
    if request.closures.len() > MAX_ROOTS {
        return Err(PushError::Invalid(format!("more than {MAX_ROOTS} closures in one request")));
    }
    if let Some(bad) = request.closures.iter().find(|key| !matches!(key.parse(), Ok(ObjectKey::Narinfo(_)))) {
        return Err(PushError::Invalid(format!("{bad:?} is not a narinfo's key")));
    }
    let mut conn = app.db.acquire().await?;
    let mut present = db::closures::refresh(&mut conn, &request.closures).await?;
    present.sort_unstable();
    Ok(RefreshResponse { present })
}

/// How much the cache holds.
pub async fn stats(app: &App) -> Result<CacheStats, PushError> {
    let mut conn = app.db.acquire().await?;
    let (objects, logical_bytes) = db::objects::count_live(&mut conn).await?;
    Ok(CacheStats { objects, logical_bytes })
}
