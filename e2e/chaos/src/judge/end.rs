//! The last judgement: nothing fails any more, nobody pushes, and what is there must be exactly what should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::walk;
use crate::dice::Dice;
use crate::nix;
use crate::world::World;

/// Closures that Nix itself fetches.
const FETCHED: usize = 3;
/// What a minute without a client and T would do.
const EXPIRED: &str = "update uploads set addresses_until = addresses_until - interval '1 day',
    started_at = started_at - interval '1 day'";
const FORGET: &str =
    "update gc_runs set state = 'failed', error = 'forgotten', finished_at = clock_timestamp()
    where state = 'running'";
/// How long a collection may take here.
const COLLECTS_WITHIN: Duration = Duration::from_mins(2);
/// Collections in a row at most.
const COLLECTIONS: u32 = 10;

/// Judges a run that is over.
pub async fn judge(world: &World) -> anyhow::Result<()> {
    let mut dice = Dice::new(world.plan.seed, "end");
    for way in &world.ways {
        way.set_open(true);
        way.set_calm(true);
    }
    for server in &world.servers {
        server.start().await?;
        server.wait_until_ready(&world.http).await?;
    }
    // What was sent under fire acts until now, and its claims may be taken over.
    // Narinfos are settled 2 T after they were claimed.
    sleep(world.plan.settle() * 2 + Duration::from_secs(1)).await;
    super::judge(world).await?;
    world.place.sql(EXPIRED).await?;

    collect(world, &mut dice, "older-than=1h&force=true").await?;
    compare(world).await?;
    let mut whole = Vec::new();
    for root in super::closures(world).await?.into_keys() {
        let index = world.universe.paths.iter().position(|path| path.key() == root);
        whole.push(index.with_context(|| format!("{root} was never pushed"))?);
    }
    let reached: BTreeSet<usize> =
        whole.iter().flat_map(|root| world.universe.paths[*root].closure.iter().copied()).collect();
    for index in &reached {
        if let Some(missing) = walk::look_inside(world, *index).await? {
            world.break_promise("end", &format!("of what is committed, {missing}"));
        }
    }
    // The largest closures, as Nix sees them.
    whole.sort_by_key(|root| std::cmp::Reverse(world.universe.paths[*root].closure.len()));
    whole.truncate(FETCHED);
    for root in &whole {
        let path = &world.universe.paths[*root].store_path;
        if let Err(said) = nix::copy(&world.servers[0].url, &world.public_key, path).await? {
            world.break_promise("end", &format!("nix copy of {path} failed: {said}"));
        }
    }
    world.history.note("end", "fetched by nix", &json!([whole.len(), reached.len()]));

    nothing_remains(world, &mut dice).await
}

/// Once nothing is pinned and everything is old, nothing is left.
async fn nothing_remains(world: &World, dice: &mut Dice) -> anyhow::Result<()> {
    let answer = world.call(dice, Method::GET, "/api/pins", None).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("the pins cannot be listed"))?;
    let pins: Vec<Value> = answer.json().await?;
    for pin in &pins {
        let path = format!("/api/pins/{}", pin["name"].as_str().unwrap_or_default());
        let answer = world.call(dice, Method::DELETE, &path, None).await;
        let status = answer.map_err(|_| anyhow::anyhow!("{path} cannot be deleted"))?.status();
        if status != StatusCode::NO_CONTENT {
            bail!("DELETE {path}: {status}");
        }
    }
    collect(world, dice, "older-than=0s&force=true").await?;
    let left = world.place.list_objects().await?;
    let rows: Vec<String> = sqlx::query_scalar("select key from objects").fetch_all(&world.place.db).await?;
    if !left.is_empty() || !rows.is_empty() {
        let more = format!("in the bucket {:?}, rows {rows:?}", left.keys());
        world.break_promise("end", &format!("nothing is committed, and not everything went: {more}"));
    }
    let staged = world.place.list_staged().await?;
    if !staged.is_empty() {
        world.break_promise("end", &format!("what clients of 1.7 sent is left: {staged:?}"));
    }
    Ok(())
}

/// Collects until every delete was answered. On a busy machine some take longer than a request may: these are
/// sent again once T has passed (docs/gc.md, rule 6).
async fn collect(world: &World, dice: &mut Dice, parameters: &str) -> anyhow::Result<()> {
    for _ in 0..COLLECTIONS {
        if collect_once(world, dice, parameters).await? == 0 {
            return Ok(());
        }
        sleep(world.plan.settle() + Duration::from_secs(1)).await;
    }
    bail!("{COLLECTIONS} collections in a row had deletes without an answer")
}

/// A collection that has to succeed; how many objects it failed to delete.
async fn collect_once(world: &World, dice: &mut Dice, parameters: &str) -> anyhow::Result<u64> {
    world.place.sql(FORGET).await?;
    let path = format!("/api/closures?{parameters}&failed-uploads-older-than=0s");
    let answer = world.call(dice, Method::DELETE, &path, None).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("no answer to DELETE {path}"))?;
    if answer.status() != StatusCode::ACCEPTED {
        bail!("DELETE {path}: {} {}", answer.status(), answer.text().await?);
    }
    let give_up = Instant::now() + COLLECTS_WITHIN;
    loop {
        sleep(Duration::from_millis(100)).await;
        let answer = world.call(dice, Method::GET, "/api/gc/status", None).await;
        let status: Value = answer.map_err(|_| anyhow::anyhow!("no status"))?.json().await?;
        match status["state"].as_str() {
            Some("succeeded") => {
                world.history.note("end", "collected", &status["stats"]);
                return Ok(status["stats"]["objects_failed_to_delete"].as_u64().unwrap_or(0));
            }
            Some("running") if Instant::now() < give_up => {}
            _ => bail!("the last collection: {status}"),
        }
    }
}

/// Rows and bucket say the same, and nothing is there that nothing reaches.
async fn compare(world: &World) -> anyhow::Result<()> {
    let bucket = world.place.list_objects().await?;
    let rows: Vec<(String, bool, bool, Option<i64>)> =
        sqlx::query_as("select key, live, deleting_since is not null, stored_size from objects")
            .fetch_all(&world.place.db)
            .await?;
    let rows: BTreeMap<String, (bool, bool, Option<i64>)> =
        rows.into_iter().map(|(key, live, deleting, size)| (key, (live, deleting, size))).collect();
    let reached: BTreeSet<String> = sqlx::query_scalar(
        "with recursive reached (id) as (
             select o.id from closures c join objects o using (key)
             union select unnest(o.refs) from reached join objects o using (id)
         ) select key from reached join objects using (id)",
    )
    .fetch_all(&world.place.db)
    .await?
    .into_iter()
    .collect();
    let complain = |what: String| world.break_promise("end", &what);
    for (key, (live, deleting, size)) in &rows {
        if !live || *deleting {
            complain(format!("the row of {key} is left as live: {live}, deleting: {deleting}"));
        }
        if !reached.contains(key) {
            complain(format!("nothing reaches {key}, and its row did not go"));
        }
        match bucket.get(key) {
            None => complain(format!("{key} has a row and is not in the bucket")),
            Some(stored) if size.is_some_and(|size| size != *stored) => {
                // Another client's bytes of the same NAR or narinfo: as long or not, both are right.
                world.history.note("end", "another size", &json!([key, size, stored]));
            }
            Some(_) => {}
        }
    }
    for key in bucket.keys().filter(|key| !rows.contains_key(*key)) {
        complain(format!("{key} is in the bucket and has no row"));
    }
    world.history.note("end", "compared", &json!([rows.len(), bucket.len()]));
    Ok(())
}
