//! `kubectl niks3 migrate`: runs `niks3-server migrate` in a Job made of the server's newest pod template. So it has the image,
//! the configuration and the Secrets of the pods that wait for it.

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use niks3_operator::labels::{Component, Names, selector};

use crate::cluster::{Cluster, full_name, said};
use crate::job;

/// A migration of a large cache may rewrite a table.
const DEADLINE_SECONDS: i64 = 3600;

pub(crate) async fn run(cluster: &Cluster, cache: Option<&str>) -> anyhow::Result<String> {
    let cache = cluster.cache(cache).await?;
    let (full, server) = (full_name(&cache), Names(&cache.name_any()).server());
    let found = cluster.api::<Deployment>().get_opt(&server).await;
    let found = found.map_err(|error| said(error, &format!("Deployment {server} cannot be read")))?;
    let pod = found.and_then(|found| found.spec?.template.spec);
    let pod = pod.with_context(|| {
        format!("BinaryCache {full} has no pods yet whose database could be asked; `kubectl niks3 status` says why")
    })?;
    let job = job_of(pod, &cache.name_any()).context("its pods have no container named server")?;
    let (text, succeeded) = job::run(cluster, &job).await?;
    if !succeeded {
        bail!("the tables of BinaryCache {full} were not brought up to date:\n{}", text.trim());
    }
    Ok(format!(
        "The tables of BinaryCache {full} are up to date; pods that waited for it are ready within seconds.\n"
    ))
}

/// The server's pod, with another command and an end.
fn job_of(pod: PodSpec, cache: &str) -> Option<Job> {
    let mut container = pod.containers.into_iter().find(|container| container.name == "server")?;
    let mut args = container.args.take().unwrap_or_default();
    args.retain(|argument| argument != "serve");
    args.push("migrate".to_owned());
    container.args = Some(args);
    // It serves nobody.
    container.ports = None;
    container.lifecycle = None;
    container.startup_probe = None;
    container.liveness_probe = None;
    container.readiness_probe = None;
    let pod = PodSpec {
        // Others would keep the Job from ending. Those among the init containers that go on beside it do not.
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        topology_spread_constraints: None,
        ..pod
    };
    // Not the labels of the server: no Service may lead here.
    let labels = || Some(selector(cache, Component::Migration));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: labels(), ..ObjectMeta::default() }),
        spec: Some(pod),
    };
    let metadata = ObjectMeta {
        generate_name: Some(format!("{cache}-migrate-")),
        labels: labels(),
        ..ObjectMeta::default()
    };
    let spec = JobSpec { template, ..JobSpec::default() };
    Some(Job { metadata, spec: Some(job::once(spec, DEADLINE_SECONDS)), status: None })
}
