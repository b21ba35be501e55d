//! Adopting realisations: what content-addressed derivations were built to. No narinfo names them, so each is adopted
//! beside the narinfo of its path, as a push has it: that refers to it, so it lives as long.

use niks3_protocol::object_key::{BUILD_TRACE_PREFIX, ObjectKey, ObjectKind, REALISATION_PREFIX};

use super::adopt::{Outcome, begin, end};
use super::protect::protect;
use crate::app::App;
use crate::db;
use crate::db::objects::CommittedObjects;
use crate::push::{self, PushError};

/// Where they are.
pub(super) const PREFIXES: [&str; 2] = [REALISATION_PREFIX, BUILD_TRACE_PREFIX];

pub(super) fn is_realisation(key: &str) -> bool {
    realisation(key).is_some()
}

fn realisation(name: &str) -> Option<ObjectKey> {
    name.parse().ok().filter(|key: &ObjectKey| key.kind() == ObjectKind::Realisation)
}

pub(super) async fn adopt_one(app: &App, name: &str) -> anyhow::Result<Outcome> {
    let Some(key) = realisation(name) else { return Ok(Outcome::Known) };
    if super::find_row(app, name).await?.is_some_and(|row| row.live) {
        return Ok(Outcome::Known);
    }
    let narinfo = match push::read_realisation(app, &key).await {
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
    drop(conn);
    let id = begin(app, &[], &keys).await?;
    let adopted = commit(app, id, name, &narinfo, &keys).await;
    end(app, id, adopted).await
}

/// From the states on, as begin and commit of a push.
async fn commit(app: &App, id: i64, own: &str, narinfo: &str, keys: &[String]) -> anyhow::Result<Outcome> {
    let protected = match protect(app, id, keys).await? {
        Ok(protected) => protected,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    let Some(head) = app.bucket.head(own).await? else { return Ok(Outcome::Known) };

    let mut transaction = db::begin(&app.db).await?;
    let states = match protected.lock(&mut transaction, id, keys).await? {
        Ok(states) => states,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    let row = |wanted: &str| states.iter().find(|state| state.key == wanted);
    let (Some(row), Some(path)) = (row(own), row(narinfo).filter(|path| path.live)) else {
        return Ok(Outcome::Incomplete(format!("{narinfo} was given up; run this again")));
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
