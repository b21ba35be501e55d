//! Signing keys: how one follows another, with the clock on their Secrets.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use niks3_operator::cache;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use niks3_protocol::nix::SecretKey;
use niks3_protocol::server_config::ServerConfig;
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

/// The names of the files that the server signs with.
async fn server(world: &World) -> Vec<String> {
    let map = world.api::<ConfigMap>().get("main-config").await.unwrap();
    let config: ServerConfig = serde_json::from_str(&map.data.unwrap()["config.json"]).unwrap();
    config.signing_key_files.iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
}

/// The key's clock, so many hours in the past.
async fn wind(world: &World, status: &BinaryCacheStatus, name: &str, clock: Value) {
    let secret = &status.signing_keys.iter().find(|key| key.name == name).unwrap().secret_name;
    let annotations = json!({CLOCK: json!({name: clock}).to_string()});
    world.patch::<Secret>(secret, json!({"metadata": {"annotations": annotations}})).await;
}

async fn secrets_of_keys(world: &World) -> Vec<String> {
    world.names::<Secret>().await.into_iter().filter(|name| name.contains("-signing-")).collect()
}

const LONG_AGO: &str = "2020-01-01T00:00:00Z";

#[tokio::test]
async fn a_generated_key_follows_the_first_one_step_by_step() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let status = look(&world).await;
    let first = status.signing_keys[0].name.clone();
    assert_eq!(condition(&status, "SigningKeysReady"), format!("True/Stable: {first} signs"));

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

    wind(&world, &status, "second-1", json!({"publishedAt": LONG_AGO, "signingSince": LONG_AGO})).await;
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
    let map = world.api::<ConfigMap>().get("main-config").await.unwrap();
    let config: ServerConfig = serde_json::from_str(&map.data.unwrap()["config.json"]).unwrap();
    assert_eq!(config.revoked_keys, [status.signing_keys[0].public_key.clone()]);
    keys(&world, json!([{"name": "second-1"}])).await;
    assert_eq!(stages(&look(&world).await), ["second-1 Sign"]);
    world.faults.plan(None);
    look(&world).await;
    assert_eq!(world.faults.writes(), [""; 0]);
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
    let template = world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().template;
    let volumes = template.spec.unwrap().volumes.unwrap();
    let signing = volumes.into_iter().find(|volume| volume.name == "signing").unwrap();
    assert_eq!(signing.projected.unwrap().sources.unwrap().len(), 2);
    let secret = world.api::<Secret>().get("own").await.unwrap();
    assert!(secret.annotations()[CLOCK].contains("signingSince"), "{:?}", secret.annotations());
    let before = world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
    world.patch::<Secret>("own", json!({"metadata": {"labels": {"a": "b"}}})).await;
    look(&world).await;
    let after = world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
    assert_eq!(before, after, "the key is the same: no pod is rolled");
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
