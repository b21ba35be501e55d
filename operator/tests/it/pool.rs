//! Connections to the database: a warning where all pods together may open more than it has. The server's part is tried in
//! server/tests/it/databases.rs; here it says what a test wants.

use axum::routing::get;
use axum::{Json, Router};
use niks3_operator::crd::BinaryCache;
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

/// A pod of a server whose user has 50 connections.
async fn serve(world: &World) {
    let ready = || async {
        let check = |name: &str| json!({"name": name, "ok": true});
        let checks = ["database", "storage", "signing_keys"].map(check);
        Json(json!({"ready": true, "checks": checks, "server_version": "9", "database_connections": 50}))
    };
    let routes = Router::new().route("/readyz", get(ready));
    world.server_pod("main-server", routes).await;
}

#[tokio::test]
async fn more_connections_than_the_database_has_are_warned_of_once() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["server"] = json!({"replicas": 5});
    world.cache("main", spec).await;
    world.reconcile_cache("main").await;
    serve(&world).await;
    let said = async || condition(world.reconcile_cache("main").await.status, "DatabaseReady");
    let well = "True/Reachable: the server reaches it";
    assert_eq!(said().await, well, "as many as there are");
    let change = async |server: Value| {
        world.patch::<BinaryCache>("main", json!({"spec": {"server": server}})).await;
    };
    let warning = |pods: u32, all: u32| {
        format!(
            "True/TooFewConnections: the server reaches it; but {pods} pods of 10 connections each \
             (database.pool.maxConnections) may open {all}, and it has 50"
        )
    };
    change(json!({"replicas": 6})).await;
    assert_eq!(said().await, warning(6, 60));
    let before = world.api::<BinaryCache>().get("main").await.unwrap();
    world.faults.plan(None);
    assert_eq!(said().await, warning(6, 60));
    assert_eq!(world.faults.writes(), [""; 0], "said once");
    assert_eq!(world.api::<BinaryCache>().get("main").await.unwrap(), before);
    change(json!({"autoscaling": {"maxReplicas": 8}})).await;
    assert_eq!(said().await, warning(8, 80), "what the load may ask for counts");
    change(json!({"autoscaling": {"maxReplicas": 5}})).await;
    assert_eq!(said().await, well);
    let reasons = world.event_reasons().await;
    assert_eq!(reasons.iter().filter(|reason| *reason == "TooFewConnections").count(), 1, "{reasons:?}");
}
