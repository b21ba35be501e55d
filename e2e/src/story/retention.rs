//! A policy with `maxSize` and `keepLast`, run at once by its annotation.

use std::time::Duration;

use anyhow::ensure;

use super::NAMESPACE;
use super::collection::{count, sql};
use crate::cluster::Cluster;
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_mins(3);
/// Of the pins that the pushes without pause left, the last three; of what nobody pinned, nothing that is above 1 MiB.
const POLICY: &str = r#"{"spec": {"retention": {"olderThan": null, "maxSize": "1Mi", "minAge": "0s", "deletionGrace": "0s",
    "pinRules": [{"prefix": "ci-life-", "keepLast": 3}]}, "safety": {"maxDeletePercent": 100}}}"#;

pub(super) fn collect(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let last = "select name from pins where name like 'ci-life-%' order by name desc limit 3";
    let expected = sql(cluster, last)?;
    let unpinned = "select count(*) from closures where key not in (select closure_key from pins)";
    let (pins, before) = (count(cluster, "select count(*) from pins")?, count(cluster, unpinned)?);
    ensure!(
        pins > 4 && before > 0,
        "{pins} pins and {before} closures without one are too few to choose from"
    );
    cluster.show(&format!("kubectl patch gcpolicy nightly -n {NAMESPACE} --type merge -p '{POLICY}'"))?;
    let now = cluster.run("date -u +%FT%TZ", None)?;
    cluster.show(&format!(
        "kubectl annotate gcpolicy nightly -n {NAMESPACE} --overwrite niks3.dev/run-now={}",
        now.trim()
    ))?;
    let run = cluster.wait("the run that was asked for", LIMIT, || {
        let status = cluster.get(&format!("gcpolicy nightly -n {NAMESPACE}"))?["status"].clone();
        let (asked, run) = (&status["runNow"]["jobName"], &status["caches"][0]["lastRun"]);
        Ok((asked.is_string() && *asked == run["jobName"] && run["finishedAt"].is_string())
            .then(|| run.clone()))
    })?;
    teller.output(&serde_json::to_string_pretty(&run)?);
    ensure!(run["result"] == "Succeeded", "the run failed: {run}");
    ensure!(sql(cluster, last)? == expected, "the last three pins have changed");
    let (pins, after) = (count(cluster, "select count(*) from pins")?, count(cluster, unpinned)?);
    ensure!(pins == 4, "{pins} pins are left, not ci-main and three more");
    ensure!(
        after == 0,
        "{after} closures without a pin are left, though the pinned ones alone take more than 1 MiB"
    );
    teller.holds("ci-main and the last three of ci-life- are there; what nobody pinned went, by size");
    Ok(())
}
