//! Commit: outside any transaction the bucket is looked at and the narinfos are written, then one transaction
//! makes the closure live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::is_narinfo;
use sqlx::{PgConnection, PgTransaction};
use time::OffsetDateTime;

use super::look::look_for_sent;
use super::narinfos::Written;
use super::plan::Plan;
use super::signed::Signed;
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
    let plan = Plan::from_bytes(&upload.plan, id)?;

    let mut sizes = look_for_sent(app, id, &upload, &plan).await?;
    realisations::look_into(app, plan.own(&upload.keys), &upload.missing).await?;
    let outside = protect_outside(app, id, &upload, &plan).await?;
    let Written { narinfos, settled } = narinfos::write(app, id, &upload.missing).await?;
    sizes.extend(narinfos.iter().map(|(signed, size)| (signed.key.clone(), Some(*size))));
    let narinfos: Vec<Signed> = narinfos.into_iter().map(|(signed, _)| signed).collect();
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
    plan: &'a Plan,
    sizes: &'a HashMap<String, Option<i64>>,
    /// What the upload depends on beside its own keys, and the rows of that.
    outside: &'a HashMap<String, i64>,
    /// The narinfos that this commit wrote.
    narinfos: Vec<Signed>,
    /// Until when they were claimed, where nothing is under way any more.
    settled: Option<OffsetDateTime>,
}

/// What the plan refers to outside the upload, and all that reaches, becomes part of the upload: in a
/// transaction of its own, before their states are read, for the reason begin has two. To whoever completes again it is
/// still outside: something of it may have gone meanwhile, and another push may have written it anew.
async fn protect_outside(
    app: &App,
    id: i64,
    upload: &Upload,
    plan: &Plan,
) -> Result<HashMap<String, i64>, PushError> {
    if plan.outside.is_empty() {
        return Ok(HashMap::new());
    }
    let own: HashSet<&str> = plan.own(&upload.keys).iter().map(String::as_str).collect();
    let mut transaction = db::begin(&app.db).await?;
    let rows = db::objects::list_reachable_rows(&mut transaction, &plan.outside).await?;
    if rows.iter().any(|(_, key)| key.is_none()) {
        return Err(PushError::Incomplete);
    }
    let mut reachable: HashMap<String, i64> =
        rows.into_iter().filter_map(|(row, key)| Some((key?, row))).collect();
    reachable.retain(|key, _| !own.contains(key.as_str()));
    if let Some(unknown) = plan.outside.iter().find(|key| !reachable.contains_key(*key)) {
        return Err(PushError::DanglingReference(unknown.clone()));
    }
    let keys: Vec<String> = reachable.keys().cloned().collect();
    let known: HashSet<&str> = upload.keys.iter().map(String::as_str).collect();
    let new: Vec<String> = keys.iter().filter(|key| !known.contains(key.as_str())).cloned().collect();
    if !new.is_empty() {
        db::uploads::add_keys(&mut transaction, id, &new).await?;
    }
    // The commit asks again; this is so that no narinfo is written that leads nowhere.
    let states = db::objects::list_states(&mut transaction, &keys).await?;
    match states.into_iter().find(|state| !state.live || state.deleting) {
        Some(state) if state.deleting => return Err(PushError::BeingDeleted(state.key)),
        Some(state) => return Err(PushError::DanglingReference(state.key)),
        None => {}
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
    let own = plan.own(&upload.keys);
    let mut keys = own.to_vec();
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

    // Away for so long, another push may have taken a narinfo over and committed it: what that wrote later is what is
    // in the bucket, and its row says so.
    let is_others = |key: &str| is_narinfo(key) && rows.get(key).is_some_and(|row| row.live);
    let written: Vec<_> = narinfos
        .iter()
        .filter(|signed| !is_others(&signed.key))
        .map(|signed| (&signed.narinfo, signed.signatures.as_slice()))
        .collect();
    db::narinfos::insert_of_upload(conn, id, &written).await?;
    let logs = logs_of(conn, own, &rows).await?;
    let mut committed = CommittedObjects { settled: *settled, ..CommittedObjects::default() };
    let ids: Vec<Option<i64>> =
        plan.keys(&upload.keys).map(|key| rows.get(key.as_str()).map(|row| row.id)).collect();
    for (number, (key, planned)) in plan.objects(&upload.keys).enumerate() {
        let Some(id) = ids[number] else { continue };
        let refs = planned.refs.iter().filter_map(|number| ids.get(*number).copied().flatten());
        let refs: Vec<String> = refs.chain(logs.get(key).copied()).map(|id| id.to_string()).collect();
        committed.ids.push(id);
        committed.stored_sizes.push(sizes.get(key).copied().flatten().filter(|_| !is_others(key)));
        committed.nar_sizes.push(planned.nar_size.and_then(|size| i64::try_from(size).ok()));
        committed.refs.push(format!("{{{}}}", refs.join(",")));
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
        let deriver: StorePath = deriver.parse().ok()?;
        Some((key, rows.get(deriver.log_key().as_str())?.id))
    });
    Ok(logs.collect())
}
