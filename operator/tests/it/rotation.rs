//! Signing keys: how one follows another, with the clock on their Secrets.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use niks3_operator::cache;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use niks3_protocol::nix::SecretKey;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::world::{World, condition, embedded};

const CLOCK: &str = "niks3.dev/signing-clock.main";

async fn look(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

async fn keys(world: &World, keys: Value) {
    world.patch::<BinaryCache>("main", json!({"spec": {"signing": {"keys": keys}}})).await;
}

/// What each key does, by name.
fn stages(status: &BinaryCacheStatus) -> Vec<String> {
    status.signing_keys.iter().map(|key| format!("{} {:?}", key.name, key.stage)).collect()
}

/// The lines of a file that the pods sign with.
async fn file(world: &World, name: &str) -> Vec<String> {
    let secret = world.api::<Secret>().get("main-signing").await.unwrap();
    let text = String::from_utf8(secret.data.unwrap()[name].0.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The names of the keys that the pods sign with.
async fn server(world: &World) -> Vec<String> {
    let lines = file(world, "keys").await;
    lines.iter().map(|line| line.parse::<SecretKey>().unwrap().name().to_owned()).collect()
}

/// What changes with the Deployment's spec: its pods are new ones then.
async fn rollouts(world: &World) -> Option<i64> {
    world.api::<Deployment>().get("main").await.unwrap().metadata.generation
}

/// The key's clock, so many hours in the past.
async fn wind(world: &World, status: &BinaryCacheStatus, name: &str, clock: Value) {
    let secret = &status.signing_keys.iter().find(|key| key.name == name).unwrap().secret_name;
    let annotations = json!({CLOCK: json!({name: clock}).to_string()});
    world.patch::<Secret>(secret, json!({"metadata": {"annotations": annotations}})).await;
}

async fn secrets_of_keys(world: &World) -> Vec<String> {
    let names = world.names::<Secret>().await.into_iter();
    names.filter(|name| name.contains("-signing-")).collect()
}

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

#[tokio::test]
async fn a_generated_key_follows_the_first_one_step_by_step() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let status = look(&world).await;
    let first = status.signing_keys[0].name.clone();
    assert_eq!(condition(&status, "SigningKeysReady"), format!("True/Stable: {first} signs"));

    let before = rollouts(&world).await;
    keys(&world, json!([{"name": "second-1"}])).await;
    let said = condition(look(&world).await, "Accepted");
    let expected = format!(
        "False/InvalidSpec: signing.keys: {first} of Secret main-signing-1 signs; list it before the keys that follow it"
    );
    assert_eq!(said, expected);

    keys(&world, json!([{"name": first}, {"name": "second-1"}])).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Sign"), "second-1 Publish".to_owned()]);
    assert_eq!(status.public_keys.len(), 2);
    assert_eq!(server(&world).await, std::slice::from_ref(&first));
    let said = condition(&status, "SigningKeysReady");
    assert!(
        said.starts_with("True/RotationInProgress: ") && said.contains("second-1 is published"),
        "{said}"
    );
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    assert_eq!(client["public-keys"], status.public_keys.join(" "));

    wind(&world, &status, "second-1", json!({"publishedAt": LONG_AGO})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Sign"), "second-1 Sign".to_owned()]);
    assert_eq!(server(&world).await, [first.clone(), "second-1".to_owned()]);
    assert!(world.event_reasons().await.contains(&"SigningKeyPromoted".to_owned()));

    assert!(status.signing_keys[1].in_force_since.is_some(), "there is no pod that has others");
    let clock = json!({"publishedAt": LONG_AGO, "signingSince": LONG_AGO, "inForceSince": LONG_AGO});
    wind(&world, &status, "second-1", clock).await;
    // Its time is over, but nobody knows whether its successor has signed what is stored.
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Sign"), "second-1 Sign".to_owned()]);
    let said = condition(&status, "SigningKeysReady");
    assert!(said.contains("the server does not say"), "{said}");
    assert!(said.ends_with(&format!("; {first} retires once they are all signed again")), "{said}");
    let resigned = |state: &str| {
        let keys = [first.as_str(), "second-1"];
        json!({"keys": keys, "state": state, "total": 5000, "done": 1200, "time": LONG_AGO})
    };
    world.patch_status::<BinaryCache>("main", json!({"resign": resigned("Running")})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Sign"), "second-1 Sign".to_owned()]);
    let said = condition(&status, "SigningKeysReady");
    assert!(said.contains("; re-signed 1200 of 5000 stored narinfos; "), "{said}");
    world.patch_status::<BinaryCache>("main", json!({"resign": resigned("Succeeded")})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Retire"), "second-1 Sign".to_owned()]);
    // Losing the status loses nothing.
    world.patch_status::<BinaryCache>("main", json!({"signingKeys": null, "resign": null})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Retire"), "second-1 Sign".to_owned()]);
    assert_eq!(server(&world).await, ["second-1"]);
    assert_eq!(status.public_keys.len(), 2, "what it signed is still trusted");

    keys(&world, json!([{"name": first, "stage": "Revoke"}, {"name": "second-1"}])).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), [format!("{first} Revoke"), "second-1 Sign".to_owned()]);
    assert_eq!(status.public_keys.len(), 1);
    assert_eq!(file(&world, "revoked").await, [status.signing_keys[0].public_key.clone()]);
    keys(&world, json!([{"name": "second-1"}])).await;
    assert_eq!(stages(&look(&world).await), ["second-1 Sign"]);
    world.faults.plan(None);
    look(&world).await;
    assert_eq!(world.faults.writes(), [""; 0]);
    assert_eq!(rollouts(&world).await, before, "a rotation from its begin to its end needs no new pod");
}

/// Before, each change of keys made new pods: the Secret that they sign with was not there.
#[tokio::test]
async fn a_rotation_that_an_operator_before_began_goes_on_where_it_was() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["signing"] =
        json!({"keys": [{"name": "a-1"}, {"name": "b-1"}], "rotation": {"publishBeforeSign": "0s"}});
    world.cache("main", spec).await;
    let status = look(&world).await;
    let clock = json!({"publishedAt": LONG_AGO, "signingSince": LONG_AGO});
    wind(&world, &status, "b-1", clock.clone()).await;
    let resign =
        json!({"keys": ["a-1", "b-1"], "state": "Succeeded", "total": 5, "done": 5, "time": LONG_AGO});
    world.patch_status::<BinaryCache>("main", json!({"resign": resign, "signingKeys": null})).await;
    world.api::<Secret>().delete("main-signing", &DeleteParams::default()).await.unwrap();
    assert_eq!(stages(&look(&world).await), ["a-1 Retire", "b-1 Sign"]);
    assert_eq!(server(&world).await, ["b-1"]);
    // Nor does a key come back of which that is not known any more.
    wind(&world, &status, "b-1", clock).await;
    world.patch_status::<BinaryCache>("main", json!({"signingKeys": null})).await;
    assert_eq!(stages(&look(&world).await), ["a-1 Retire", "b-1 Sign"]);
}

#[tokio::test]
async fn what_the_pods_sign_with_is_put_right_and_outlives_its_source() {
    let world = World::new().await;
    let own = SecretKey::from_seed("own-1", [3; 32]).unwrap().to_secret_text();
    world.secret("own", &[("k", &own)]).await;
    let mut spec = embedded();
    spec["signing"] = json!({"keys": [{"name": "own-1", "secretKeyRef": {"name": "own", "key": "k"}}]});
    world.cache("main", spec).await;
    look(&world).await;
    let before = rollouts(&world).await;
    assert_eq!(file(&world, "keys").await, std::slice::from_ref(&own));
    let other = SecretKey::from_seed("other-1", [4; 32]).unwrap().to_secret_text();
    world.patch::<Secret>("main-signing", json!({"stringData": {"keys": other}})).await;
    look(&world).await;
    assert_eq!(file(&world, "keys").await, std::slice::from_ref(&own), "drift is repaired");
    world.api::<Secret>().delete("own", &DeleteParams::default()).await.unwrap();
    let status = look(&world).await;
    assert!(condition(&status, "SigningKeysReady").starts_with("False/NoActiveKey"), "{status:?}");
    assert_eq!(file(&world, "keys").await, [own], "pods that start sign on");
    // Another key of the name is another decision of the user's, and needs no new pod either.
    let new = SecretKey::from_seed("own-1", [5; 32]).unwrap().to_secret_text();
    world.secret("own", &[("k", &new)]).await;
    look(&world).await;
    assert_eq!(file(&world, "keys").await, [new]);
    assert_eq!(rollouts(&world).await, before);
    let secret = world.api::<Secret>().get("main-signing").await.unwrap();
    assert_eq!(secret.owner_references()[0].kind, "BinaryCache", "it goes with its cache");
}

#[tokio::test]
async fn without_a_key_pods_wait_and_a_secret_in_the_way_is_named() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["signing"] = json!({"keys": [{"name": "own-1", "secretKeyRef": {"name": "own", "key": "k"}}]});
    world.cache("main", spec).await;
    look(&world).await;
    assert!(!world.names::<Secret>().await.contains(&"main-signing".to_owned()), "no pod signs with nothing");
    world.secret("main-signing", &[("keys", "mine")]).await;
    let said = condition(look(&world).await, "Accepted");
    assert!(said.starts_with("False/InvalidSpec: Secret main-signing is in the way"), "{said}");
    assert_eq!(file(&world, "keys").await, ["mine"]);
}

#[tokio::test]
async fn a_key_of_ones_own_takes_over_when_it_is_told_to() {
    let world = World::new().await;
    let text = SecretKey::from_seed("own-1", [3; 32]).unwrap().to_secret_text();
    world.secret("own", &[("k", &text), ("other", "x")]).await;
    let mut spec = embedded();
    let own = json!({"name": "own-1", "secretKeyRef": {"name": "own", "key": "k"}});
    spec["signing"] = json!({"keys": [{"name": "made-1"}, own], "rotation": {"promotion": "Manual"}});
    world.cache("main", spec).await;
    let status = look(&world).await;
    assert_eq!(stages(&status), ["made-1 Sign", "own-1 Publish"]);
    let said = condition(&status, "SigningKeysReady");
    assert!(said.starts_with("True/AwaitingPromotion: made-1 signs; own-1 is published"), "{said}");
    wind(&world, &status, "own-1", json!({"publishedAt": LONG_AGO})).await;
    assert_eq!(stages(&look(&world).await), ["made-1 Sign", "own-1 Publish"]);
    let mut told = own.clone();
    told["stage"] = json!("Sign");
    keys(&world, json!([{"name": "made-1"}, told])).await;
    assert_eq!(stages(&look(&world).await), ["made-1 Sign", "own-1 Sign"]);
    assert_eq!(server(&world).await, ["made-1", "own-1"]);
    let secret = world.api::<Secret>().get("own").await.unwrap();
    assert!(secret.annotations()[CLOCK].contains("signingSince"), "{:?}", secret.annotations());
    let before = rollouts(&world).await;
    world.patch::<Secret>("own", json!({"metadata": {"labels": {"a": "b"}}})).await;
    look(&world).await;
    assert_eq!(rollouts(&world).await, before, "the key is the same: no pod is rolled");
}

#[tokio::test]
async fn a_key_that_is_none_is_said_and_follows_nobody() {
    let world = World::new().await;
    let other = SecretKey::from_seed("other-1", [3; 32]).unwrap().to_secret_text();
    world.secret("own", &[("k", &other)]).await;
    let mut spec = embedded();
    let own = json!({"name": "own-1", "secretKeyRef": {"name": "own", "key": "k"}});
    spec["signing"] = json!({"keys": [{"name": "made-1"}, own], "rotation": {"publishBeforeSign": "0s"}});
    world.cache("main", spec).await;
    let status = look(&world).await;
    let expected = "False/KeyNameMismatch: key k of Secret own is named other-1, but the spec calls it own-1";
    assert_eq!(condition(&status, "SigningKeysReady"), expected);
    assert_eq!(server(&world).await, ["made-1"]);
    let right = SecretKey::from_seed("own-1", [3; 32]).unwrap().to_secret_text();
    world.patch::<Secret>("own", json!({"stringData": {"k": right}})).await;
    look(&world).await;
    assert_eq!(server(&world).await, ["made-1", "own-1"]);
}

#[tokio::test]
async fn whatever_is_lost_on_the_way_a_name_has_one_key() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["signing"] = json!({"keys": [{"name": "a-1"}, {"name": "b-1"}]});
    world.cache("main", spec).await;
    let object = world.api::<BinaryCache>().get("main").await.unwrap();
    for at in 0..24 {
        world.faults.plan(Some((at, Fault::AnswerLost)));
        let _ = Box::pin(cache::reconcile(&object, &world.context)).await;
    }
    world.faults.plan(None);
    let status = look(&world).await;
    assert_eq!(secrets_of_keys(&world).await.len(), 2);
    for (key, public) in status.signing_keys.iter().zip(&status.public_keys) {
        let secret = world.api::<Secret>().get(&key.secret_name).await.unwrap();
        let text = String::from_utf8(secret.data.unwrap()["secret"].0.clone()).unwrap();
        let held: SecretKey = text.parse().unwrap();
        assert_eq!((held.name(), &held.public_key().to_string()), (&*key.name, public));
    }
    assert_ne!(status.public_keys[0].split(':').nth(1), status.public_keys[1].split(':').nth(1));
    // Another order is another succession, not other keys.
    keys(&world, json!([{"name": "b-1"}, {"name": "a-1"}])).await;
    let turned = look(&world).await;
    assert_eq!(secrets_of_keys(&world).await.len(), 2);
    assert_eq!(turned.public_keys, [status.public_keys[1].clone(), status.public_keys[0].clone()]);
}
