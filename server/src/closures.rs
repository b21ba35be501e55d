//! Committed closures: reading them, and making them new without an upload.

use std::fmt::Display;
use std::str::FromStr;

use niks3_protocol::api::cache_config::CacheStats;
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};
use niks3_protocol::api::paths::PathDetails;
use niks3_protocol::nix::StorePathHash;
use niks3_protocol::object_key::ObjectKey;
use serde_json::Value;

use crate::app::App;
use crate::auth::Identity;
use crate::db;
use crate::db::narinfos::Pushed;
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

/// What a narinfo in the bucket says, and who pushed it.
pub async fn find_path(app: &App, hash: &StorePathHash) -> Result<Option<PathDetails>, PushError> {
    let mut conn = app.db.acquire().await?;
    let found = db::narinfos::find(&mut conn, &format!("{hash}.narinfo")).await?;
    found.map(details).transpose()
}

/// The row was written by a sign, which has read all of this before.
fn details(row: Pushed) -> Result<PathDetails, PushError> {
    fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, PushError> {
        text.parse().map_err(|error| PushError::Invalid(format!("the database holds {text:?}: {error}")))
    }
    Ok(PathDetails {
        store_path: read(&row.store_path)?,
        url: row.nar_key,
        compression: row.compression,
        nar_hash: read(&row.nar_hash)?,
        nar_size: row.nar_size.unsigned_abs(),
        references: row.refs.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        deriver: row.deriver.as_deref().map(read).transpose()?,
        ca: row.ca,
        signatures: row.signatures.iter().map(|text| read(text)).collect::<Result<_, _>>()?,
        pushed_by: row.pushed_by,
        pushed_at: row.pushed_at,
        origin: match row.origin {
            Value::Object(origin) => origin,
            _ => serde_json::Map::new(),
        },
    })
}

/// Counts roots that are there as pushed now, and says which those are. Safe while a collection runs: a
/// committed root keeps all it reaches, and whoever locks its row first, this or its expiry, wins.
pub async fn refresh(
    app: &App,
    identity: &Identity,
    request: &RefreshRequest,
) -> Result<RefreshResponse, PushError> {
    if request.closures.len() > MAX_ROOTS {
        return Err(PushError::Invalid(format!("more than {MAX_ROOTS} closures in one request")));
    }
    if let Some(bad) = request.closures.iter().find(|key| !matches!(key.parse(), Ok(ObjectKey::Narinfo(_)))) {
        return Err(PushError::Invalid(format!("{bad:?} is not a narinfo's key")));
    }
    let mut conn = app.db.acquire().await?;
    let mut present = db::closures::refresh(&mut conn, &request.closures, &identity.name).await?;
    present.sort_unstable();
    Ok(RefreshResponse { present })
}

/// How much the cache holds.
pub async fn stats(app: &App) -> Result<CacheStats, PushError> {
    let mut conn = app.db.acquire().await?;
    let (objects, logical_bytes) = db::objects::count_live(&mut conn).await?;
    Ok(CacheStats { objects, logical_bytes })
}
