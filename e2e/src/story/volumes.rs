//! The embedded S3 server gets a larger volume under pushes, where its class lets volumes grow. Where not, the operator says
//! so, in the API server's words, and changes nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::NAMESPACE;
use super::changes::{LIFE, patch};
use crate::cluster::{Cluster, condition_of_now};
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_mins(3);
const BEFORE: &str = "10Gi";
const WANTED: &str = "11Gi";

pub(super) fn grow(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let (size, runs) = (claim(cluster)?, pod(cluster)?);
    ensure!(size == (BEFORE.to_owned(), BEFORE.to_owned()), "the volume has {size:?} before it grows");
    let condition = ask_for(cluster, WANTED)?;
    let said = condition["message"].as_str().unwrap_or_default();
    teller.output(said);
    let (asked, has) = claim(cluster)?;
    if condition["status"] == "True" {
        ensure!(asked == WANTED && has != BEFORE, "the claim asks for {asked} and has {has}: {condition}");
        ensure!(pod(cluster)? == runs, "the pod was replaced or restarted");
        return LIFE.goes_on(cluster, teller, "the volume of S3 has grown under its pod");
    }
    // The API server asks who may do it first, and only then the class.
    ensure!(said.contains("must support resize"), "the operator may not ask for more: {condition}");
    ensure!(asked == BEFORE, "the claim asks for {asked} where it may not");
    let condition = ask_for(cluster, BEFORE)?;
    ensure!(condition["status"] == "True", "the size was set back: {condition}");
    teller.not_shown(
        "that a volume grows: this cluster's default StorageClass lets none; the operator says so",
    );
    Ok(())
}

/// What is said once that is through, or refused.
fn ask_for(cluster: &Cluster<'_>, size: &str) -> anyhow::Result<Value> {
    patch(cluster, &json!({"spec": {"storage": {"embedded": {"size": size}}}}).to_string())?;
    cluster.wait("the volume to have its size, or a word that it may not", LIMIT, || {
        let cache = cluster.get(&format!("binarycache main -n {NAMESPACE}"))?;
        let found = condition_of_now(&cache, "VolumesResized");
        let said = |found: &&Value| found["status"] == "True" || found["reason"] == "ResizeRefused";
        Ok(found.filter(said).cloned())
    })
}

/// What the claim asks for, and what it has.
fn claim(cluster: &Cluster<'_>) -> anyhow::Result<(String, String)> {
    let claim = cluster.get(&format!("persistentvolumeclaim data-main-s3-0 -n {NAMESPACE}"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a claim without size");
    let asked = text(&claim["spec"]["resources"]["requests"]["storage"])?;
    Ok((asked, text(&claim["status"]["capacity"]["storage"])?))
}

/// Which pod it is, and how often its container was started anew.
fn pod(cluster: &Cluster<'_>) -> anyhow::Result<(Value, Value)> {
    let pod = cluster.get(&format!("pod main-s3-0 -n {NAMESPACE}"))?;
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].clone();
    Ok((pod["metadata"]["uid"].clone(), restarts))
}
