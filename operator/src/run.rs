//! What the subcommands do.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;

use crate::args::{CrdArgs, ReferenceArgs, RunArgs};
use crate::cache::probe::Probe;
use crate::context::Context;
use crate::lease::{Fence, Leadership};
use crate::metrics::Metrics;
use crate::rollouts::Rollouts;
use crate::scope::Scope;
use crate::{admin, controllers, crd, reference, shutdown, sweeper};

/// `niks3-operator run`
pub fn main(args: RunArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = Config::infer()
        .await
        .context("neither a pod's ServiceAccount nor a kubeconfig leads to a cluster")?;
    let client = Client::try_from(config.clone())?;
    let fence = if args.lease.leader_elect { Fence::closed() } else { Fence::none() };
    let fenced = ClientBuilder::try_from(config)?.with_layer(&fence).build();
    let context = Arc::new(Context {
        namespace: args.lease.namespace.clone(),
        scope: Scope::new(args.watch_namespaces),
        resync: args.resync_interval,
        metrics: Metrics::new(args.resync_interval),
        rollouts: Rollouts::new(args.max_rollouts.into()),
        ..Context::new(fenced, args.images, Probe::default())
    });
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            shutdown::requested().await;
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    let pages = tokio::spawn(admin::serve(args.http_addr, Arc::clone(&context), stop.clone()));
    let leadership = Leadership::new(client, &args.lease, fence);
    if args.lease.leader_elect {
        tokio::select! {
            () = leadership.acquire() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
    context.metrics.leads(true);
    let work = stop.child_token();
    let reconciling = async {
        tokio::join!(
            controllers::run(&context, args.concurrency, &work),
            sweeper::run(Arc::clone(&context), work.clone()),
        );
    };
    if args.lease.leader_elect {
        // The lease is given back after the last reconciliation, not before.
        let done = CancellationToken::new();
        let working = async {
            reconciling.await;
            done.cancel();
        };
        tokio::pin!(working);
        tokio::select! {
            held = leadership.hold(&done) => anyhow::ensure!(held, "the lease was lost; starting anew"),
            () = &mut working => { leadership.hold(&done).await; }
        }
    } else {
        reconciling.await;
    }
    pages.await?.context("the operator's own pages could not be served")
}

/// `niks3-operator crd`
pub fn crd(args: &CrdArgs) -> anyhow::Result<()> {
    for definition in crd::all() {
        let (name, text) = crd::file(&definition);
        match &args.write {
            Some(folder) => {
                let path = folder.join(name);
                std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
            }
            None => std::io::stdout().write_all(text.as_bytes())?,
        }
    }
    Ok(())
}

/// `niks3-operator reference`
pub fn reference(args: &ReferenceArgs) -> anyhow::Result<()> {
    let page = reference::page();
    match &args.write {
        Some(file) => {
            std::fs::write(file, page).with_context(|| format!("could not write {}", file.display()))?;
        }
        None => std::io::stdout().write_all(page.as_bytes())?,
    }
    Ok(())
}
