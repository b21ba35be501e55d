//! Rules 1 and 2 of docs/gc.md for what is adopted. What has rows already may be condemned, with all that leads to:
//! a database that was brought back, a collection at work. It becomes part of our upload before its states are read,
//! and is looked at once more in the transaction that commits.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::app::App;
use crate::db;
use crate::db::objects::ObjectState;

/// What an upload of ours reaches, as far as it had rows: their ids.
pub(super) struct Protected {
    rows: HashMap<String, i64>,
    /// Its own keys, and all these.
    keys: Vec<String>,
}

/// From a begin's second transaction on; what speaks against adopting it.
pub(super) async fn protect(
    app: &App,
    upload: i64,
    own: &[String],
) -> anyhow::Result<Result<Protected, String>> {
    let mut transaction = db::begin(&app.db).await?;
    let reached = db::objects::list_reachable_rows(&mut transaction, own).await?;
    if reached.iter().any(|(_, key)| key.is_none()) {
        return Ok(Err("something that it reaches was collected; push it again".to_owned()));
    }
    let rows: HashMap<String, i64> = reached.into_iter().filter_map(|(id, key)| Some((key?, id))).collect();
    let outside: Vec<String> = rows.keys().filter(|key| !own.contains(key)).cloned().collect();
    if !outside.is_empty() {
        db::uploads::add_keys(&mut transaction, upload, &outside).await?;
    }
    transaction.commit().await?;

    let keys = [own, &outside].concat();
    let mut transaction = db::begin(&app.db).await?;
    let expected = db::expected::expect(&mut transaction, &keys).await?;
    transaction.commit().await?;
    Ok(match expected.deleting {
        Some(key) => Err(being_deleted(&key)),
        None => Ok(Protected { rows, keys }),
    })
}

impl Protected {
    /// Their states in the transaction that commits, which holds the upload and `own` until its end.
    pub(super) async fn lock(
        &self,
        conn: &mut PgConnection,
        upload: i64,
        own: &[String],
    ) -> sqlx::Result<Result<Vec<ObjectState>, String>> {
        if db::uploads::lock(conn, upload).await?.is_none() {
            return Ok(Err("its upload expired, or was ended; run this again".to_owned()));
        }
        db::objects::lock_and_lift(conn, &self.keys, own).await?;
        let states = db::objects::list_states(conn, &self.keys).await?;
        let found: HashMap<&str, &ObjectState> =
            states.iter().map(|state| (state.key.as_str(), state)).collect();
        for key in &self.keys {
            match found.get(key.as_str()) {
                Some(state) if state.deleting => return Ok(Err(being_deleted(key))),
                // What refers to one that was written anew leads to the row that is gone.
                Some(state) if self.rows.get(key).is_none_or(|id| *id == state.id) => {}
                _ => return Ok(Err(format!("{key} was collected meanwhile; run this again"))),
            }
        }
        Ok(Ok(states))
    }
}

fn being_deleted(key: &str) -> String {
    format!("{key} is being deleted; run this again")
}
