//! Narinfos of clients that send their own, as those of niks3 1.7 do. They go to where nobody reads, and go again.

use std::collections::{BTreeMap, HashSet};

use niks3_protocol::object_key::{STAGING_PREFIX, is_narinfo};

use super::PushError;
use crate::app::App;
use crate::bucket::{Deletion, Listed, MAX_DELETE_KEYS};
use crate::db;

/// Where an upload's client sends a narinfo.
pub(super) fn staging_key(upload: i64, key: &str) -> String {
    format!("{STAGING_PREFIX}{upload}/{key}")
}

/// Removes what the client of a committed upload sent. What is left goes with the next collection.
pub(super) async fn clear(app: &App, upload: i64, missing: &[String]) {
    let narinfos = missing.iter().filter(|key| is_narinfo(key));
    delete(app, narinfos.map(|key| staging_key(upload, key)).collect()).await;
}

/// Removes what no open upload has any use for: of clients that went away, or that sent something once more.
pub(super) async fn clear_abandoned(app: &App) -> Result<(), PushError> {
    let mut after: Option<String> = None;
    loop {
        let page = app.bucket.list(STAGING_PREFIX, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let mut by_upload: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for Listed { key, .. } in page {
            let upload =
                key.strip_prefix(STAGING_PREFIX).and_then(|rest| rest.split_once('/')?.0.parse().ok());
            by_upload.entry(upload.unwrap_or(0)).or_default().push(key);
        }
        let ids: Vec<i64> = by_upload.keys().copied().collect();
        let mut conn = app.db.acquire().await?;
        let open: HashSet<i64> = db::uploads::list_open(&mut conn, &ids).await?.into_iter().collect();
        drop(conn);
        let abandoned = by_upload.into_iter().filter(|(upload, _)| !open.contains(upload));
        delete(app, abandoned.flat_map(|(_, keys)| keys).collect()).await;
    }
}

async fn delete(app: &App, keys: Vec<String>) {
    for keys in keys.chunks(MAX_DELETE_KEYS) {
        let outcomes = app.bucket.delete(keys).await;
        if let Some(Deletion::Refused(message) | Deletion::Unknown(message)) =
            outcomes.iter().find(|outcome| **outcome != Deletion::Confirmed)
        {
            tracing::warn!(message, "narinfos that clients sent are left in staging");
        }
    }
}
