//! What the server says of stored narinfos that are signed again: in the status rarely, at its end at once, and a key
//! retires after it. The server's part is tried in server/tests/it/resign.rs; here it says what a test wants.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Secret;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

type Said = Arc<Mutex<Option<Value>>>;
/// The keys that the pod has in force.
type InForce = Arc<Mutex<Value>>;

async fn serve(world: &World, said: Said, in_force: InForce) {
    let ready = || async move {
        let signing = in_force.lock().unwrap().clone();
        Json(json!({"ready": true, "checks": [], "server_version": "9", "signing": signing}))
    };
    let resign = |State(said): State<Said>| async move {
        said.lock().unwrap().clone().map(Json).ok_or(StatusCode::NOT_FOUND)
    };
    let stats = || async { Json(json!({"objects": 3, "logical_bytes": 3})) };
    let routes = Router::new()
        .route("/readyz", get(ready))
        .route("/api/cache-stats", get(stats))
        .route("/api/resign", get(resign))
        .with_state(said);
    world.server_pod("main-server", routes).await;
}

async fn look(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

fn stages(status: &BinaryCacheStatus) -> Vec<String> {
    status.signing_keys.iter().map(|key| format!("{} {:?}", key.name, key.stage)).collect()
}

#[tokio::test]
async fn a_key_retires_when_its_successor_has_signed_what_is_stored() {
    let world = World::new().await;
    let said = Said::default();
    let in_force = InForce::default();
    let mut spec = embedded();
    spec["signing"] =
        json!({"keys": [{"name": "a-1"}, {"name": "b-1"}], "rotation": {"publishBeforeSign": "0s"}});
    world.cache("main", spec).await;
    look(&world).await;
    serve(&world, Arc::clone(&said), Arc::clone(&in_force)).await;

    let status = look(&world).await;
    assert_eq!(stages(&status), ["a-1 Sign", "b-1 Sign"]);
    assert_eq!(status.server_version.as_deref(), Some("9"), "the server is asked");
    let has = |keys: &[String]| {
        let mut keys = keys.to_vec();
        keys.sort();
        *in_force.lock().unwrap() = json!({"keys": keys, "revoked": []});
    };
    has(&status.public_keys);
    let unknown = "True/RotationInProgress: a-1, b-1 sign; how many stored narinfos they have signed is not known: \
                   the server does not say";
    assert_eq!(condition(&status, "SigningKeysReady"), unknown);

    // Of other keys it may say what it likes.
    let run = |state: &str, done: u64, keys: &[String]| {
        Some(
            json!({"id": 7, "state": state, "keys": keys, "total": 5000, "done": done, "signed": done, "left": 0,
            "failed": 0, "remaining": 5000 - done, "started_at": LONG_AGO, "updated_at": LONG_AGO}),
        )
    };
    *said.lock().unwrap() = run("succeeded", 5000, &status.public_keys[..1]);
    assert_eq!(condition(&look(&world).await, "SigningKeysReady"), unknown);
    *said.lock().unwrap() = run("running", 1200, &status.public_keys);
    let status = look(&world).await;
    let resigned = "True/RotationInProgress: a-1, b-1 sign; re-signed 1200 of 5000 stored narinfos";
    assert_eq!(condition(&status, "SigningKeysReady"), resigned);
    *said.lock().unwrap() = run("running", 1300, &status.public_keys);
    world.faults.plan(None);
    assert_eq!(look(&world).await, status, "that waits five minutes");
    assert_eq!(world.faults.writes(), [""; 0]);

    // The overlap is over, but not where each pod signs with both since so long.
    let secret = &status.signing_keys[1].secret_name;
    let clock = async |clock: Value| {
        let clock = json!({"b-1": clock}).to_string();
        let clock = json!({"metadata": {"annotations": {"niks3.dev/signing-clock.main": clock}}});
        world.patch::<Secret>(secret, clock).await;
    };
    clock(json!({"publishedAt": LONG_AGO, "signingSince": LONG_AGO})).await;
    has(&status.public_keys[..1]);
    let told = look(&world).await;
    assert_eq!((stages(&told), told.signing_keys[1].in_force_since.as_ref()), (stages(&status), None));
    let lags =
        "True/RotationInProgress: a-1, b-1 sign; 1 of 1 pods do not sign with these keys yet; re-signed";
    let said_of_it = condition(&told, "SigningKeysReady");
    assert!(said_of_it.starts_with(lags), "{said_of_it}");
    let since = json!({"metadata": {"annotations": {"niks3.dev/keys-changed": LONG_AGO}}});
    world.patch::<Secret>("main-signing", since).await;
    let lags = "; pod main-server does not sign with these keys yet, 5 minutes after they changed; ";
    let said_of_it = condition(&look(&world).await, "SigningKeysReady");
    assert!(said_of_it.contains(lags), "{said_of_it}");
    *in_force.lock().unwrap() = Value::Null;
    let said_of_it = condition(&look(&world).await, "SigningKeysReady");
    assert!(said_of_it.contains("; pod main-server does not say which keys it signs with; "), "{said_of_it}");
    has(&status.public_keys);
    let told = look(&world).await;
    assert!(told.signing_keys[1].in_force_since.is_some(), "now each pod signs with both");
    assert_eq!(stages(&look(&world).await), ["a-1 Sign", "b-1 Sign"], "the overlap counts from there");
    let noted = world.api::<Secret>().get(secret).await.unwrap().metadata.annotations.unwrap();
    assert!(noted["niks3.dev/signing-clock.main"].contains("inForceSince"), "it outlives the status");
    clock(json!({"publishedAt": LONG_AGO, "signingSince": LONG_AGO, "inForceSince": LONG_AGO})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), ["a-1 Sign", "b-1 Sign"]);
    let waits = format!("{resigned}; a-1 retires once they are all signed again");
    assert_eq!(condition(&status, "SigningKeysReady"), waits);
    *said.lock().unwrap() = run("failed", 1300, &status.public_keys);
    assert_eq!(condition(&look(&world).await, "SigningKeysReady"), waits, "it is tried again, and no news");
    *said.lock().unwrap() = run("succeeded", 5000, &status.public_keys);
    let status = look(&world).await;
    assert_eq!(status.resign.as_ref().map(|resign| (resign.done, resign.total)), Some((5000, 5000)));
    let status = if stages(&status) == ["a-1 Sign", "b-1 Sign"] { look(&world).await } else { status };
    assert_eq!(stages(&status), ["a-1 Retire", "b-1 Sign"]);
    assert!(world.event_reasons().await.contains(&"SigningKeyRetired".to_owned()));
    assert_eq!(
        condition(&look(&world).await, "SigningKeysReady"),
        "True/RotationInProgress: b-1 signs; pod main-server does not sign with these keys yet"
            .replace("pod main-server does", "1 of 1 pods do")
    );
    has(&status.public_keys[1..]);
    // The server begins anew, with the one key that signs now: the old one does not come back.
    let status = look(&world).await;
    assert_eq!(stages(&status), ["a-1 Retire", "b-1 Sign"]);
    assert_eq!(condition(&status, "SigningKeysReady"), "True/Stable: b-1 signs");
    for (state, more) in [("running", ""), ("failed", ", which failed and is tried again")] {
        // What is known of before is told anew after five minutes alone.
        world.patch_status::<BinaryCache>("main", json!({"resign": null})).await;
        *said.lock().unwrap() = run(state, 1200, &status.public_keys[1..]);
        let expected = format!("True/Resigning: b-1 signs; re-signed 1200 of 5000 stored narinfos{more}");
        assert_eq!(condition(&look(&world).await, "SigningKeysReady"), expected);
    }
    *said.lock().unwrap() = run("succeeded", 5000, &status.public_keys[1..]);
    assert_eq!(condition(&look(&world).await, "SigningKeysReady"), "True/Stable: b-1 signs");
    world.patch::<BinaryCache>("main", json!({"metadata": {"labels": {"a": "b"}}})).await;
    world.faults.plan(None);
    look(&world).await;
    assert_eq!(world.faults.writes(), [""; 0]);
}

#[tokio::test]
async fn where_nothing_is_signed_again_a_key_retires_by_the_clock() {
    let world = World::new().await;
    let rotation = |resign: &str| json!({"publishBeforeSign": "0s", "resign": resign});
    let mut spec = embedded();
    spec["signing"] = json!({"keys": [{"name": "a-1"}, {"name": "b-1"}], "rotation": rotation("Background")});
    world.cache("main", spec).await;
    let status = look(&world).await;
    let clock = json!({"b-1": {"publishedAt": LONG_AGO, "signingSince": LONG_AGO, "inForceSince": LONG_AGO}});
    let clock = json!({"metadata": {"annotations": {"niks3.dev/signing-clock.main": clock.to_string()}}});
    world.patch::<Secret>(&status.signing_keys[1].secret_name, clock).await;
    assert_eq!(stages(&look(&world).await), ["a-1 Sign", "b-1 Sign"], "its successor has not signed all");
    world.patch::<BinaryCache>("main", json!({"spec": {"signing": {"rotation": rotation("None")}}})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), ["a-1 Retire", "b-1 Sign"]);
    assert_eq!(condition(&status, "SigningKeysReady"), "True/Stable: b-1 signs");
}
