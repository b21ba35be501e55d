//! One operator at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use niks3_operator::args::LeaseArgs;
use niks3_operator::lease::Leadership;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::World;

fn contender(world: &World, identity: &str) -> Arc<Leadership> {
    let args = LeaseArgs {
        leader_elect: true,
        lease_name: "operator".to_owned(),
        namespace: world.namespace.clone(),
        identity: identity.to_owned(),
    };
    Arc::new(Leadership::new(world.client(), &args))
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
