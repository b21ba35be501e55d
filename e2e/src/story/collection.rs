//! Step 9: the CronJob of the policy, on its schedule.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Closures, NAMESPACE};
use crate::cluster::Cluster;
use crate::teller::Teller;

/// A minute until the schedule fires, and the run.
const LIMIT: Duration = Duration::from_mins(4);

pub(super) fn collect(cluster: &Cluster<'_>, teller: &Teller, closures: &Closures) -> anyhow::Result<()> {
    let (old, kept) = (narinfo(&closures.unpinned)?, narinfo(&closures.pinned)?);
    let old_nar = nar_of(&read(cluster, &old).context("the old closure should be there before")?)?;
    read(cluster, &old_nar).context("the old NAR should be there before")?;
    let before: i64 = count(cluster, "select count(*) from closures")?;
    ensure!(before == 2, "{before} closures instead of 2");
    teller.command("two months pass: update closures set updated_at = now() - interval '60 days'");
    sql(cluster, "update closures set updated_at = now() - interval '60 days'")?;
    cluster.show(&format!(
        "kubectl patch gcpolicy nightly -n {NAMESPACE} --type merge -p '{}'",
        r#"{"spec": {"schedule": "* * * * *", "retention": {"deletionGrace": "0s"}, "safety": {"maxDeletePercent": 100}}}"#
    ))?;
    let run = cluster.wait("the CronJob's first run", LIMIT, || {
        let policy = cluster.get(&format!("gcpolicy nightly -n {NAMESPACE}"))?;
        let run = policy["status"]["caches"][0]["lastRun"].clone();
        Ok((!run.is_null()).then_some(run))
    })?;
    cluster.run(
        &format!(
            "kubectl patch gcpolicy nightly -n {NAMESPACE} --type merge -p '{}'",
            r#"{"spec": {"suspend": true}}"#
        ),
        None,
    )?;
    cluster.show(&format!("kubectl get gcpolicy,cronjob,job -n {NAMESPACE}"))?;
    teller.output(&serde_json::to_string_pretty(&run)?);
    ensure!(run["result"] == "Succeeded", "the run failed: {run}");
    let number = |field: &str| run[field].as_i64().unwrap_or(-1);
    ensure!(number("closuresDeleted") == 1, "one closure is old and not pinned: {run}");
    ensure!(number("objectsDeleted") > 0 && number("bytesFreed") > 0, "nothing was deleted: {run}");
    ensure!(
        count(cluster, "select count(*) from closures")? == 1,
        "the database has more than the pinned closure"
    );
    for key in [&old, &old_nar] {
        let gone = read(cluster, key).err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(
            gone.contains("NotFound") || gone.contains("not in this cache"),
            "{key} is still there: {gone}"
        );
    }
    read(cluster, &kept).context("the pinned closure should still be there")?;
    teller.holds("the old closure is gone from bucket and database, the pinned one is there");
    Ok(())
}

/// The key of a store path's narinfo.
pub(super) fn narinfo(path: &str) -> anyhow::Result<String> {
    let hash =
        path.strip_prefix("/nix/store/").and_then(|name| name.split_once('-')).context("no store path")?.0;
    Ok(format!("{hash}.narinfo"))
}

fn nar_of(narinfo: &str) -> anyhow::Result<String> {
    let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).context("a narinfo without URL")?;
    Ok(url.to_owned())
}

/// Reads an object through the server, which reads the bucket.
pub(super) fn read(cluster: &Cluster<'_>, key: &str) -> anyhow::Result<String> {
    cluster.run(
        &format!("kubectl get --raw /api/v1/namespaces/{NAMESPACE}/services/main:http/proxy/{key}"),
        None,
    )
}

pub(super) fn count(cluster: &Cluster<'_>, query: &str) -> anyhow::Result<i64> {
    Ok(sql(cluster, query)?.trim().parse()?)
}

pub(super) fn sql(cluster: &Cluster<'_>, statement: &str) -> anyhow::Result<String> {
    let psql = "PGPASSWORD=$(cat /var/run/niks3/password) psql -h 127.0.0.1 -U $POSTGRES_USER -v ON_ERROR_STOP=1 -tA niks3";
    cluster.run(&format!("kubectl exec -i main-postgres-0 -n {NAMESPACE} -- sh -c '{psql}'"), Some(statement))
}
