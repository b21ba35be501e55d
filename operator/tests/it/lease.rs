//! One operator at a time.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use niks3_operator::args::LeaseArgs;
use niks3_operator::crd::BinaryCache;
use niks3_operator::lease::{Fence, Leadership};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_server;
use crate::world::{World, embedded};

fn contender(world: &World, identity: &str) -> Arc<Leadership> {
    contender_with(world, identity, Fence::closed())
}

fn contender_with(world: &World, identity: &str, fence: Fence) -> Arc<Leadership> {
    let args = LeaseArgs {
        leader_elect: true,
        lease_name: "operator".to_owned(),
        namespace: world.namespace.clone(),
        identity: identity.to_owned(),
    };
    Arc::new(Leadership::new(world.client(), &args, fence))
}

async fn in_time<T>(what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(10), what).await.ok()
}

#[tokio::test]
async fn the_second_waits_until_the_first_gives_the_lease_back() {
    let world = World::new().await;
    let (first, second) = (contender(&world, "first"), contender(&world, "second"));
    in_time(first.acquire()).await.expect("nobody else wants it");
    let stop = CancellationToken::new();
    let holding = tokio::spawn({
        let (first, stop) = (Arc::clone(&first), stop.clone());
        async move { first.hold(&stop).await }
    });
    assert!(in_time(second.acquire()).await.is_none(), "the first holds it");
    stop.cancel();
    assert!(holding.await.unwrap(), "it was given back, not lost");
    in_time(second.acquire()).await.expect("it is free");
}

#[tokio::test]
async fn who_lost_the_lease_is_told() {
    let world = World::new().await;
    let first = contender(&world, "first");
    in_time(first.acquire()).await.expect("nobody else wants it");
    world.patch::<Lease>("operator", json!({"spec": {"holderIdentity": "other"}})).await;
    assert_eq!(in_time(first.hold(&CancellationToken::new())).await, Some(false));
}

/// A process that is stopped notices nothing: not that time passes, nor that another acts.
#[tokio::test]
async fn who_was_stopped_for_longer_than_its_lease_lasts_writes_nothing_any_more() {
    let world = World::new().await;
    let (fence, other) = (Fence::closed(), Fence::closed());
    let (first, second) =
        (contender_with(&world, "first", fence.clone()), contender_with(&world, "second", other.clone()));
    let server = api_server::shared().await;
    let writes = async |fence: &Fence| {
        let maps: Api<ConfigMap> = Api::namespaced(server.client_behind(fence), &world.namespace);
        let map = json!({"metadata": {"generateName": "a-"}});
        let made = maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await;
        made.map_err(|error| format!("{error:?}"))
    };
    let refused = writes(&fence).await.unwrap_err();
    assert!(refused.contains("TooLate"), "before it has the lease: {refused}");
    in_time(first.acquire()).await.expect("nobody else wants it");
    writes(&fence).await.unwrap();
    // It renews no more. The second looks on for as long as the lease lasts.
    let begun = Instant::now();
    let (mut first_wrote, mut last) = (Duration::ZERO, Duration::ZERO);
    let taking = second.acquire();
    tokio::pin!(taking);
    loop {
        tokio::select! {
            () = &mut taking => break,
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                last = begun.elapsed();
                if writes(&fence).await.is_ok() {
                    first_wrote = last;
                }
            }
        }
    }
    assert!(last >= Duration::from_secs(12), "taken over after {last:?}, too early");
    assert!(first_wrote < Duration::from_secs(11), "it wrote {first_wrote:?} after its last renewal");
    writes(&other).await.unwrap();
    assert!(writes(&fence).await.is_err(), "another acts");
    assert_eq!(in_time(first.hold(&CancellationToken::new())).await, Some(false), "it is told");
}

/// The whole program: what it was told to stop, it finishes, and the lease is free for the next one.
#[tokio::test]
async fn a_stopped_operator_ends_in_order() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut operator = Command::new(env!("CARGO_BIN_EXE_niks3-operator"))
        .args(["run", "--server-image=niks3:test", &format!("--http-addr=127.0.0.1:{port}")])
        .arg(format!("--watch-namespace={}", world.namespace))
        .env("KUBECONFIG", api_server::shared().await.kubeconfig())
        .env("POD_NAMESPACE", &world.namespace)
        .env("POD_NAME", "only")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let holder = async || {
        let lease = world.api::<Lease>().get_opt("niks3-operator").await.unwrap();
        lease.and_then(|lease| lease.spec?.holder_identity)
    };
    let reconciled = async || {
        let cache = world.api::<BinaryCache>().get("main").await.unwrap();
        cache.status.is_some_and(|status| status.observed_generation.is_some())
    };
    while !reconciled().await {
        assert!(begun.elapsed() < Duration::from_mins(2), "it should have looked at the cache by now");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(holder().await.as_deref(), Some("only"));
    let asked = Command::new("kill").arg(operator.id().to_string()).status().unwrap();
    assert!(asked.success());
    let stopped = Instant::now();
    let ended = loop {
        if let Some(ended) = operator.try_wait().unwrap() {
            break ended;
        }
        assert!(stopped.elapsed() < Duration::from_secs(30), "it should have ended by now");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(ended.success(), "{ended}");
    assert_eq!(holder().await.as_deref(), Some(""), "the lease was given back");
}
