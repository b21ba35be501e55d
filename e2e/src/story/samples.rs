//! The samples of CI that need no controller of their own, as they are written: only the image is another.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::NAMESPACE;
use crate::cluster::Cluster;
use crate::jobs;
use crate::teller::Teller;

const FOLDER: &str = "manifests/samples";
/// What a user puts the name of an image of theirs for.
const IMAGE: &str = "example/nix-with-niks3:1";
const LIMIT: Duration = Duration::from_mins(2);

pub(super) fn run(cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
    let ci = jobs::NAMESPACE;
    // They are as short as samples are, without what the restricted profile wants of a pod.
    label(cluster, "pod-security.kubernetes.io/enforce=baseline")?;
    apply(cluster, teller, "ci-job.yaml")?;
    let job = jobs::finish(cluster, "build")?;
    teller.output(&job.told());
    ensure!(job.succeeded, "the Job failed with exit code {}:\n{}", job.exit_code, job.log);
    pinned(&job.log)?;
    teller.holds("the Job built, pushed and pinned");

    label(cluster, "niks3.dev/clients=true")?;
    cluster.show(&format!("kubectl apply -f {FOLDER}/publish-to-namespaces.yaml"))?;
    cluster.wait("the published ConfigMap", LIMIT, || {
        cluster.find(&format!("configmap main.{NAMESPACE}.niks3 -n {ci}"))
    })?;
    apply(cluster, teller, "ci-pod.yaml")?;
    let phase = cluster.wait("the pod", LIMIT, || {
        let phase = cluster.get(&format!("pod build -n {ci}"))?["status"]["phase"].clone();
        Ok(["Succeeded", "Failed"].into_iter().find(|ended| phase == *ended))
    })?;
    let log = cluster.run(&format!("kubectl logs build -n {ci}"), None)?;
    teller.output(&log);
    ensure!(phase == "Succeeded", "the pod failed:\n{log}");
    pinned(&log)?;
    let read = log.lines().any(|line| line.starts_with("copying path ") && line.contains("from 'http"));
    ensure!(read, "it built what the Job had pushed, and did not read it:\n{log}");
    teller
        .holds("the pod knows the cache from the published ConfigMap, and reads from it what the Job pushed");
    label(cluster, "pod-security.kubernetes.io/enforce=restricted")
}

/// Applies a sample with the image of the story.
fn apply(cluster: &Cluster<'_>, teller: &Teller, file: &str) -> anyhow::Result<()> {
    let path = crate::root()?.join(FOLDER).join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(text.contains(IMAGE), "{file} names no image {IMAGE}");
    let image = Cluster::image("ci");
    teller.command(&format!("sed s={IMAGE}={image}= {FOLDER}/{file} | kubectl apply -f -"));
    cluster.run("kubectl apply -f -", Some(&text.replace(IMAGE, &image))).map(drop)
}

fn label(cluster: &Cluster<'_>, label: &str) -> anyhow::Result<()> {
    cluster.run(&format!("kubectl label namespace {} {label} --overwrite", jobs::NAMESPACE), None).map(drop)
}

fn pinned(log: &str) -> anyhow::Result<()> {
    let said = log.lines().any(|line| line.starts_with("Pinned ") && line.ends_with("-sample as ci-main"));
    ensure!(said, "it did not pin what it built:\n{log}");
    Ok(())
}
