//! Adopting realisations: what content-addressed derivations were built to. No narinfo names them, so each is adopted
//! beside the narinfo of its path, as a push has it: that refers to it, so it lives as long.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::cache_config::BUILD_TRACE;
use niks3_protocol::object_key::{ObjectKey, ObjectKind};

use super::Report;
use super::adopt::{ADOPTED, CONCURRENT, Outcome, incomplete};
use crate::app::App;
use crate::db;
use crate::db::objects::CommittedObjects;
use crate::db::uploads::NewUpload;
use crate::push::{self, PushError};

/// Of those that have no live row.
pub(super) async fn adopt(app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
    for prefix in ["realisations/".to_owned(), format!("{BUILD_TRACE}/")] {
        adopt_below(app, report, &prefix).await?;
    }
    Ok(())
}

async fn adopt_below(app: &App, report: &mut Report<'_>, prefix: &str) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = app.bucket.list(prefix, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let keys: Vec<ObjectKey> = page
            .iter()
            .filter_map(|object| object.key.parse().ok())
            .filter(|key: &ObjectKey| key.kind() == ObjectKind::Realisation)
            .collect();
        let outcomes: Vec<(String, Outcome)> = futures::stream::iter(keys)
            .map(|key| async move {
                let name = key.to_string();
                let outcome = adopt_one(app, &key, &name).await.with_context(|| name.clone())?;
                anyhow::Ok((name, outcome))
            })
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        for (key, outcome) in outcomes {
            match outcome {
                Outcome::Known => {}
                Outcome::Adopted => report.summary.adopted += 1,
                Outcome::Incomplete(why) => incomplete(report, &key, why)?,
            }
        }
    }
}

async fn adopt_one(app: &App, key: &ObjectKey, name: &str) -> anyhow::Result<Outcome> {
    if super::find_row(app, name).await?.is_some_and(|row| row.live) {
        return Ok(Outcome::Known);
    }
    let narinfo = match push::read_realisation(app, key).await {
        Ok(narinfo) => narinfo,
        Err(PushError::NotUploaded(_)) => return Ok(Outcome::Known),
        Err(PushError::Invalid(why)) => return Ok(Outcome::Incomplete(why)),
        Err(error) => return Err(error.into()),
    };
    let mut keys = [name.to_owned(), narinfo.clone()];
    keys.sort_unstable();
    let mut conn = app.db.acquire().await?;
    // Looked at before an upload could make it expected: most of what is not in the cache never was.
    if !db::objects::is_live(&mut conn, &narinfo).await? {
        return Ok(Outcome::Incomplete(format!(
            "its path has the narinfo {narinfo}, which is not in the cache"
        )));
    }
    let upload = NewUpload {
        owner: ADOPTED,
        origin: &serde_json::json!({ "fsck": "adopt" }),
        roots: &[],
        keys: &keys,
        plan: b"[]",
        addresses: app.config.presign_expiry,
        staged: false,
    };
    let (id, _) = db::uploads::insert(&mut conn, &upload).await?;
    drop(conn);
    let adopted = commit(app, id, name, &narinfo, &keys).await;
    if !matches!(adopted, Ok(Outcome::Adopted)) {
        let mut conn = app.db.acquire().await?;
        db::uploads::delete(&mut conn, id).await?;
    }
    adopted
}

/// From the states on, as begin and commit of a push.
async fn commit(app: &App, id: i64, own: &str, narinfo: &str, keys: &[String]) -> anyhow::Result<Outcome> {
    let mut transaction = db::begin(&app.db).await?;
    db::objects::expect(&mut transaction, keys).await?;
    transaction.commit().await?;
    let Some(head) = app.bucket.head(own).await? else { return Ok(Outcome::Known) };

    let mut transaction = db::begin(&app.db).await?;
    db::objects::lock_and_lift(&mut transaction, keys, keys).await?;
    let states = db::objects::list_states(&mut transaction, keys).await?;
    let row = |wanted: &str| states.iter().find(|state| state.key == wanted && !state.deleting);
    let (Some(row), Some(path)) = (row(own), row(narinfo).filter(|path| path.live)) else {
        return Ok(Outcome::Incomplete(format!("it or {narinfo} is being deleted; run this again")));
    };
    if row.live {
        return Ok(Outcome::Known);
    }
    // What the narinfo refers to already it keeps.
    let committed = CommittedObjects {
        ids: vec![row.id, path.id],
        stored_sizes: vec![Some(head.size), None],
        nar_sizes: vec![None, None],
        refs: vec!["{}".to_owned(), format!("{{{}}}", row.id)],
        settled: None,
    };
    db::objects::set_live(&mut transaction, &committed).await?;
    db::uploads::delete(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(Outcome::Adopted)
}
