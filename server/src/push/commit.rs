//! Commit: outside any transaction the bucket is looked at and the narinfos are written, then one transaction
//! makes the closure live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use niks3_protocol::api::pending_closures::UploadObject;
use niks3_protocol::object_key::is_narinfo;
use sqlx::{PgConnection, PgTransaction};
use time::OffsetDateTime;

use super::look::look_for_sent;
use super::narinfos::Written;
use super::{PushError, load_own, multipart, narinfos, realisations, staging};
use crate::app::App;
use crate::auth::Identity;
use crate::db;
use crate::db::objects::{CommittedObjects, ObjectState};
use crate::db::uploads::Upload;

/// Deadlocks with other transactions are broken by running this one again, so often at most.
const ATTEMPTS: u32 = 5;

/// Commits an upload: afterwards everything its roots reach is in the bucket.
pub async fn complete(app: &Arc<App>, identity: &Identity, id: i64) -> Result<(), PushError> {
    let upload = load_own(app, identity, id).await?;
    let plan: Vec<UploadObject> =
        serde_json::from_slice(&upload.plan).map_err(|error| PushError::Invalid(error.to_string()))?;

    let mut sizes = look_for_sent(app, id, &upload, &plan).await?;
    realisations::look_into(app, &upload).await?;
    let outside = protect_outside(app, id, &upload, &plan).await?;
    let Written { sizes: written, settled } = narinfos::write(app, id, &upload.missing).await?;
    let narinfos: Vec<String> = written.keys().cloned().collect();
    sizes.extend(written.into_iter().map(|(key, size)| (key, Some(size))));
    let seen = Seen { upload: &upload, plan: &plan, sizes: &sizes, outside: &outside, narinfos, settled };
    let mut attempt = 1;
    loop {
        match commit(app, id, &seen).await {
            Err(PushError::Database(error)) if attempt < ATTEMPTS && db::is_retryable(&error) => attempt += 1,
            result => break result?,
        }
    }
    // The closure is committed; what is left at S3 goes with the next collection if not now.
    if let Err(error) = multipart::abort_abandoned(app).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "multipart uploads are left open");
    }
    if upload.staged {
        let app = Arc::clone(app);
        tokio::spawn(async move { staging::clear(&app, id, &upload.missing).await });
    }
    Ok(())
}

/// What the commit knows before its transaction.
struct Seen<'a> {
    upload: &'a Upload,
    plan: &'a [UploadObject],
    sizes: &'a HashMap<String, Option<i64>>,
    /// What the upload depends on beside its own keys, and the rows of that.
    outside: &'a HashMap<String, i64>,
    /// Keys of the narinfos that this commit wrote.
    narinfos: Vec<String>,
    /// Until when they were claimed, where nothing is under way any more.
    settled: Option<OffsetDateTime>,
}

/// What the plan refers to outside the upload, and all that reaches, becomes part of the upload: in a
/// transaction of its own, before their states are read, for the reason begin has two.
async fn protect_outside(
    app: &App,
    id: i64,
    upload: &Upload,
    plan: &[UploadObject],
) -> Result<HashMap<String, i64>, PushError> {
    let own: HashSet<&str> = upload.keys.iter().map(String::as_str).collect();
    let mut outside: Vec<String> = plan
        .iter()
        .flat_map(|object| &object.refs)
        .filter(|reference| !own.contains(reference.as_str()))
        .cloned()
        .collect();
    outside.sort_unstable();
    outside.dedup();
    if outside.is_empty() {
        return Ok(HashMap::new());
    }
    let mut transaction = db::begin(&app.db).await?;
    let rows = db::objects::list_reachable_rows(&mut transaction, &outside).await?;
    if rows.iter().any(|(_, key)| key.is_none()) {
        return Err(PushError::Incomplete);
    }
    let mut reachable: HashMap<String, i64> =
        rows.into_iter().filter_map(|(row, key)| Some((key?, row))).collect();
    reachable.retain(|key, _| !own.contains(key.as_str()));
    if let Some(unknown) = outside.into_iter().find(|key| !reachable.contains_key(key)) {
        return Err(PushError::DanglingReference(unknown));
    }
    let keys: Vec<String> = reachable.keys().cloned().collect();
    db::uploads::add_keys(&mut transaction, id, &keys).await?;
    // The commit asks again; this is so that no narinfo is written that leads nowhere.
    let states = db::objects::list_states(&mut transaction, &keys).await?;
    if let Some(state) = states.into_iter().find(|state| !state.live) {
        return Err(PushError::DanglingReference(state.key));
    }
    transaction.commit().await?;
    Ok(reachable)
}

async fn commit(app: &App, id: i64, seen: &Seen<'_>) -> Result<(), PushError> {
    let mut transaction = db::begin(&app.db).await?;
    commit_in(&mut transaction, id, seen).await?;
    transaction.commit().await?;
    Ok(())
}

async fn commit_in(transaction: &mut PgTransaction<'_>, id: i64, seen: &Seen<'_>) -> Result<(), PushError> {
    let Seen { upload, plan, sizes, outside, narinfos, settled } = seen;
    let conn: &mut PgConnection = transaction;
    if db::uploads::lock(conn, id).await?.is_none() {
        return Err(PushError::UploadNotFound(id));
    }
    let mut keys = upload.keys.clone();
    keys.extend(outside.keys().cloned());
    db::objects::lock_and_lift(conn, &keys, &upload.missing).await?;
    let states = db::objects::list_states(conn, &keys).await?;
    let rows: HashMap<&str, &ObjectState> = states.iter().map(|state| (state.key.as_str(), state)).collect();
    for key in &keys {
        match rows.get(key.as_str()) {
            None => return Err(PushError::Changed(key.clone())),
            // Deleted and pushed again meanwhile: what refers to it leads to the row that is gone.
            Some(row) if outside.get(key).is_some_and(|id| *id != row.id) => {
                return Err(PushError::Changed(key.clone()));
            }
            Some(row) if row.deleting => return Err(PushError::BeingDeleted(key.clone())),
            Some(row) if row.live => {}
            // This server was away for so long that another push took the narinfo over.
            Some(row) if is_narinfo(key) && sizes.contains_key(key) && row.writing_by != Some(id) => {
                return Err(PushError::BeingWritten(key.clone()));
            }
            Some(_) if sizes.contains_key(key) => {}
            Some(_) if outside.contains_key(key) => return Err(PushError::DanglingReference(key.clone())),
            Some(_) => return Err(PushError::Lost(key.clone())),
        }
    }

    db::narinfos::insert_of_upload(conn, id, narinfos).await?;
    let logs = logs_of(conn, &upload.keys, &rows).await?;
    let mut committed = CommittedObjects { settled: *settled, ..CommittedObjects::default() };
    for object in *plan {
        let Some(row) = rows.get(object.key.as_str()) else { continue };
        let ids = object.refs.iter().filter_map(|key| rows.get(key.as_str())).map(|row| row.id);
        let ids: Vec<String> = ids.chain(logs.get(&object.key).copied()).map(|id| id.to_string()).collect();
        committed.ids.push(row.id);
        committed.stored_sizes.push(sizes.get(&object.key).copied().flatten());
        committed.nar_sizes.push(object.nar_size.and_then(|size| i64::try_from(size).ok()));
        committed.refs.push(format!("{{{}}}", ids.join(",")));
    }
    db::objects::set_live(conn, &committed).await?;
    db::closures::upsert(conn, &upload.roots, &upload.owner).await?;
    db::uploads::delete(conn, id).await?;
    Ok(())
}

/// The row of each narinfo's build log, where the upload has it: no narinfo names its log, yet a log is to
/// live as long as its path.
async fn logs_of(
    conn: &mut PgConnection,
    keys: &[String],
    rows: &HashMap<&str, &ObjectState>,
) -> Result<HashMap<String, i64>, PushError> {
    if !keys.iter().any(|key| key.starts_with("log/")) {
        return Ok(HashMap::new());
    }
    let derivers = db::narinfos::list_derivers(conn, keys).await?;
    let logs = derivers.into_iter().filter_map(|(key, deriver)| {
        let base = deriver.rsplit('/').next()?;
        Some((key, rows.get(format!("log/{base}").as_str())?.id))
    });
    Ok(logs.collect())
}
