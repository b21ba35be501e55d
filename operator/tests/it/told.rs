//! What the server says of itself and the status passes on: issuers that are away, the cluster's issuer, its tables. The
//! server's part is tried in server/tests/it/auth/away.rs and migrations.rs; here two pods say what a test wants.

use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::apps::v1::Deployment;
use niks3_operator::cache;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

type Said = Arc<Mutex<Value>>;

const CLUSTER: &str = "https://cluster.example/id/1234";

/// What a server says that has what it needs, with `more`.
fn well(more: Value) -> Value {
    let check = |name: &str| json!({"name": name, "ok": true, "reason": "", "message": ""});
    let mut said =
        json!({"ready": true, "server_version": "9", "checks": [check("database"), check("storage")]});
    said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    said
}

/// A pod, and what it says.
async fn pod(world: &World, name: &str) -> Said {
    let said = Said::new(Mutex::new(well(json!({}))));
    let answer = Arc::clone(&said);
    let readyz = || async move { Json(answer.lock().unwrap().clone()) };
    world.server_pod(name, Router::new().route("/readyz", get(readyz))).await;
    said
}

async fn look(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

/// `look`, and that another one writes nothing.
async fn settled(world: &World) -> BinaryCacheStatus {
    let status = look(world).await;
    world.faults.plan(None);
    assert_eq!(look(world).await, status);
    assert_eq!(world.faults.writes(), [""; 0]);
    status
}

/// As its controller writes it where all pods are ready.
async fn all_ready(world: &World) -> Option<i64> {
    let generation = world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
    let well = json!({"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2});
    world.patch_status::<Deployment>("main", well).await;
    generation
}

fn issuer(name: Option<&str>, keys: &str, since: Option<&str>) -> Value {
    let mut issuer = json!({"keys": keys});
    if let Some(name) = name {
        issuer["name"] = json!(name);
    }
    if let Some(since) = since {
        issuer["problem"] =
            json!({"since": since, "message": "no answer: Connection refused (os error 111)"});
    }
    issuer
}

#[tokio::test]
async fn issuers_that_are_away_are_named_and_stop_nothing() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    look(&world).await;
    let generation = all_ready(&world).await;
    let [one, two] = [pod(&world, "main-1").await, pod(&world, "main-2").await];
    let says = |of_one: Value, of_two: Value| {
        for (said, issuers) in [(&one, of_one), (&two, of_two)] {
            let more = json!({"issuers": issuers, "kubernetes_issuer": CLUSTER, "schema_version": 20_261_121_000_100_i64});
            *said.lock().unwrap() = well(more);
        }
    };
    let status = settled(&world).await;
    let nobody = "False/NoIdentityCanPush: nobody may push: no rule and no token of spec.auth has the permission Push or Admin";
    assert_eq!(condition(&status, "AuthReady"), nobody);
    assert!(condition(&status, "Ready").starts_with("True/Ready"), "{status:?}");
    assert!(world.event_reasons().await.contains(&"NoIdentityCanPush".to_owned()));
    assert_eq!(
        (status.kubernetes_issuer, status.schema_version),
        (None, None),
        "servers of before do not say"
    );

    let rules = json!([{"name": "main", "subjects": ["a"], "permissions": ["Push"]}]);
    let gitlab =
        json!({"name": "gitlab", "issuer": "https://gitlab.example.org", "audience": "a", "rules": rules});
    world.patch::<BinaryCache>("main", json!({"spec": {"auth": {"oidc": [gitlab]}}})).await;
    look(&world).await;
    let before = all_ready(&world).await;
    assert!(before > generation);
    assert_eq!(
        condition(settled(&world).await, "AuthReady"),
        "Unknown/ServerUnreachable: the server does not say"
    );

    let [cluster, fresh] = [issuer(None, "absent", None), issuer(Some("gitlab"), "fresh", None)];
    says(json!([cluster, fresh]), json!([cluster, issuer(Some("gitlab"), "absent", None)]));
    let status = settled(&world).await;
    let all_well = "True/Ready: somebody may push, and no issuer of tokens is away";
    assert_eq!(condition(&status, "AuthReady"), all_well);
    assert_eq!(status.kubernetes_issuer.as_deref(), Some(CLUSTER));
    assert_eq!(status.schema_version, Some(20_261_121_000_100));

    // Each pod asked at another time, and one of them has no keys at all. That another pod's configuration still has an
    // issuer that the spec no longer has is nobody's trouble.
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let stale = issuer(Some("gitlab"), "stale", Some(early));
    let gone = issuer(Some("gone"), "absent", Some(early));
    says(json!([cluster, issuer(Some("gitlab"), "absent", Some(late))]), json!([cluster, stale, gone]));
    let status = settled(&world).await;
    let away = |end: &str| {
        format!(
            "issuer gitlab (https://gitlab.example.org) has given no keys since {early} (no answer: Connection refused \
             (os error 111)): {end}; all others go on"
        )
    };
    let expected = format!("False/IssuerUnreachable: {}", away("its tokens are refused"));
    assert_eq!(condition(&status, "AuthReady"), expected);
    assert!(condition(&status, "Ready").starts_with("True/Ready"), "others go on");
    assert_eq!(all_ready(&world).await, before, "no pod is made anew");
    assert!(world.event_reasons().await.contains(&"IssuerUnreachable".to_owned()));
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    let next = Box::pin(cache::reconcile(&object, &world.context)).await.unwrap();
    assert!(next.as_secs() <= 60, "that it is back is seen soon");

    says(json!([cluster, stale]), json!([cluster, stale]));
    let too_old = away("those it gave before count, though they are too old");
    assert_eq!(condition(settled(&world).await, "AuthReady"), format!("False/JWKSStale: {too_old}"));
    let kept = issuer(None, "fresh", Some(late));
    says(json!([kept, fresh]), json!([cluster, fresh]));
    let said = condition(settled(&world).await, "AuthReady");
    let expected =
        format!("False/IssuerUnreachable: the cluster's own issuer has given no keys since {late} (");
    assert!(
        said.starts_with(&expected) && said.ends_with("those it gave before count; all others go on"),
        "{said}"
    );
    says(json!([cluster, fresh]), json!([cluster, fresh]));
    assert_eq!(condition(settled(&world).await, "AuthReady"), all_well);

    let disabled = json!({"spec": {"auth": {"kubernetes": {"mode": "Disabled"}}}});
    world.patch::<BinaryCache>("main", disabled).await;
    assert_eq!(look(&world).await.kubernetes_issuer, None, "its tokens are taken no more");
}

#[tokio::test]
async fn migrations_that_wait_fail_or_are_too_new_are_said() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["database"]["migrations"] = json!("Manual");
    world.cache("main", spec).await;
    look(&world).await;
    all_ready(&world).await;
    let said = pod(&world, "main-1").await;
    for (reason, message, version) in [
        ("MigrationPending", "1 of 15 migrations are not applied", 1),
        ("MigrationFailed", "the database answers migration 2 with error 42501", 1),
        ("SchemaTooNew", "the database has migration 9", 9),
    ] {
        let check = json!({"name": "database", "ok": false, "reason": reason, "message": message});
        *said.lock().unwrap() =
            json!({"ready": false, "server_version": "9", "checks": [check], "schema_version": version});
        let status = settled(&world).await;
        for about in ["DatabaseReady", "Ready"] {
            assert_eq!(condition(&status, about), format!("False/{reason}: {message}"));
        }
        assert_eq!((status.schema_version, status.ready_replicas), (Some(version), Some(2)));
        assert!(world.event_reasons().await.contains(&reason.to_owned()), "{reason}");
    }
    let strategy = world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().strategy.unwrap();
    let unavailable = serde_json::to_value(strategy.rolling_update.unwrap().max_unavailable).unwrap();
    assert_eq!(unavailable, json!(0), "pods of before go on until new ones are ready");
    *said.lock().unwrap() = well(json!({"schema_version": 15}));
    let status = settled(&world).await;
    assert!(
        condition(&status, "Ready").starts_with("True/Ready") && status.schema_version == Some(15),
        "{status:?}"
    );
}

#[tokio::test]
async fn what_a_server_lacks_is_said_in_its_words_until_it_has_it() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    look(&world).await;
    all_ready(&world).await;
    let said = pod(&world, "main-1").await;
    let check = |name: &str, ok: bool, reason: &str, message: &str| json!({"name": name, "ok": ok, "reason": reason, "message": message});
    for (part, lacks, reason, words) in [
        ("DatabaseReady", "database", "AuthenticationFailed", "the database refuses the credentials"),
        (
            "StorageReady",
            "storage",
            "SignatureRejected",
            "the bucket cannot be used: 403 SignatureDoesNotMatch",
        ),
        ("StorageReady", "storage", "ClockSkew", "the bucket cannot be used: 403 RequestTimeTooSkewed"),
        ("StorageReady", "storage", "StorageIdentityMismatch", "the bucket nix belongs to another database"),
    ] {
        let other = if lacks == "database" { "storage" } else { "database" };
        let checks = [check(lacks, false, reason, words), check(other, true, "", "")];
        *said.lock().unwrap() = well(json!({"ready": false, "checks": checks}));
        let status = settled(&world).await;
        for about in [part, "Ready"] {
            assert_eq!(condition(&status, about), format!("False/{reason}: {words}"));
        }
        assert!(world.event_reasons().await.contains(&reason.to_owned()), "{reason}");
        *said.lock().unwrap() = well(json!({}));
        let status = settled(&world).await;
        assert!(condition(&status, part).starts_with("True/Reachable"), "{reason}: {status:?}");
        assert!(condition(&status, "Ready").starts_with("True/Ready"), "{reason}: {status:?}");
    }
}
