//! Signing keys that follow one another by themselves: `signing.rotation.interval`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use niks3_operator::cache;
use niks3_operator::crd::{BinaryCache, BinaryCacheStatus};
use niks3_protocol::nix::SecretKey;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::world::{World, condition, embedded};

const CLOCK: &str = "niks3.dev/signing-clock.main";
const CHAIN: &str = "main-signing-chain";

fn days_ago(days: i64) -> String {
    let wait = SignedDuration::from_hours(days * 24);
    Timestamp::now().checked_sub(wait).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn look(world: &World) -> BinaryCacheStatus {
    world.reconcile_cache("main").await.status.unwrap()
}

async fn keys(world: &World, keys: Value) {
    world.patch::<BinaryCache>("main", json!({"spec": {"signing": {"keys": keys}}})).await;
}

/// A cache whose keys follow one another each quarter of a year, and the first one's name without the number.
async fn begun(world: &World, keys: Value) -> String {
    let mut spec = embedded();
    spec["signing"] = json!({"keys": keys, "rotation": {"interval": "2160h"}});
    world.cache("main", spec).await;
    look(world).await.signing_keys[0].name.trim_end_matches('1').to_owned()
}

/// What each key does, by what follows the stem of its name.
fn stages(status: &BinaryCacheStatus, stem: &str) -> Vec<String> {
    let keys = status.signing_keys.iter();
    keys.map(|key| format!("{} {:?}", key.name.trim_start_matches(stem), key.stage)).collect()
}

/// Sets a key's clock.
async fn wind(world: &World, status: &BinaryCacheStatus, name: &str, clock: Value) {
    let secret = &status.signing_keys.iter().find(|key| key.name == name).unwrap().secret_name;
    let annotations = json!({CLOCK: json!({name: clock}).to_string()});
    world.patch::<Secret>(secret, json!({"metadata": {"annotations": annotations}})).await;
}

/// It has signed for longer than a quarter of a year: another one is due.
fn due() -> Value {
    json!({"publishedAt": days_ago(100), "signingSince": days_ago(90)})
}

/// It has signed in every pod for longer than the overlap, and the next one is not due.
fn in_force() -> Value {
    json!({"publishedAt": days_ago(60), "signingSince": days_ago(50), "inForceSince": days_ago(50)})
}

/// It signs no more for longer than clients remember what it signed.
fn over() -> Value {
    json!({"publishedAt": days_ago(200), "signingSince": days_ago(190), "retiredAt": days_ago(40)})
}

/// All that is stored is signed by these.
async fn signed_again(world: &World, names: &[&str]) {
    let resign = json!({"keys": names, "state": "Succeeded", "total": 5, "done": 5, "time": days_ago(1)});
    world.patch_status::<BinaryCache>("main", json!({"resign": resign})).await;
}

async fn server(world: &World) -> Vec<String> {
    let secret = world.api::<Secret>().get("main-signing").await.unwrap();
    let text = String::from_utf8(secret.data.unwrap()["keys"].0.clone()).unwrap();
    text.lines().map(|line| line.parse::<SecretKey>().unwrap().name().to_owned()).collect()
}

async fn secrets_of_keys(world: &World) -> usize {
    let names = world.names::<Secret>().await;
    names.iter().filter(|name| name.contains("-signing-") && *name != CHAIN).count()
}

/// Another look writes nothing.
async fn settled(world: &World) {
    world.faults.plan(None);
    look(world).await;
    assert_eq!(world.faults.writes(), [""; 0]);
}

/// From the first key alone to the second one alone.
async fn second(world: &World, stem: &str) -> BinaryCacheStatus {
    let (first, second) = (format!("{stem}1"), format!("{stem}2"));
    wind(world, &look(world).await, &first, due()).await;
    wind(world, &look(world).await, &second, json!({"publishedAt": days_ago(8)})).await;
    let status = look(world).await;
    assert_eq!(server(world).await, [first.clone(), second.clone()]);
    wind(world, &status, &second, in_force()).await;
    signed_again(world, &[&first, &second]).await;
    let status = look(world).await;
    assert_eq!(stages(&status, stem), ["1 Retire", "2 Sign"]);
    assert_eq!(server(world).await, [second]);
    // The operator leaves alone what others wrote.
    world.patch_status::<BinaryCache>("main", json!({"resign": null})).await;
    status
}

#[tokio::test]
async fn keys_follow_one_another_and_go_when_nothing_needs_them() {
    let world = World::new().await;
    let stem = begun(&world, json!([])).await;
    let status = look(&world).await;
    let next = status.next_key_rotation.clone().unwrap();
    let expected =
        format!("True/Stable: {stem}1 signs; another key follows by itself and is published from {next}");
    assert_eq!(condition(&status, "SigningKeysReady"), expected);
    assert!(!world.names::<Secret>().await.contains(&CHAIN.to_owned()), "it is made when there is one");
    settled(&world).await;

    wind(&world, &status, &format!("{stem}1"), due()).await;
    let status = look(&world).await;
    assert_eq!(stages(&status, &stem), ["1 Sign", "2 Publish"]);
    assert_eq!((status.next_key_rotation.as_ref(), status.public_keys.len()), (None, 2));
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    assert_eq!(client["public-keys"], status.public_keys.join(" "));
    assert_eq!(server(&world).await, [format!("{stem}1")]);
    assert!(world.event_reasons().await.contains(&"SigningKeyPublished".to_owned()));
    let made = world.api::<Secret>().get(&status.signing_keys[1].secret_name).await.unwrap();
    assert_eq!((made.immutable, made.owner_references().len()), (Some(true), 0));
    settled(&world).await;

    let status = second(&world, &stem).await;
    assert_eq!(status.public_keys.len(), 2, "what the first one signed is still trusted");
    settled(&world).await;
    signed_again(&world, &[&format!("{stem}2")]).await;
    wind(&world, &status, &format!("{stem}1"), over()).await;
    let status = look(&world).await;
    assert_eq!((stages(&status, &stem), status.public_keys.len()), (vec!["2 Sign".to_owned()], 1));
    wind(&world, &status, &format!("{stem}2"), due()).await;
    let status = look(&world).await;
    assert_eq!(stages(&status, &stem), ["2 Sign", "3 Publish"]);
    settled(&world).await;

    // Losing the status, or the Secret that says who followed whom, loses nothing; nor does throwing old keys away.
    let same = async |what: &str| {
        let found = look(&world).await;
        assert_eq!(
            (stages(&found, &stem), &found.public_keys),
            (stages(&status, &stem), &status.public_keys),
            "{what}"
        );
    };
    world.patch_status::<BinaryCache>("main", json!({"signingKeys": null, "resign": null})).await;
    same("without a status").await;
    world.api::<Secret>().delete(CHAIN, &DeleteParams::default()).await.unwrap();
    same("without the chain").await;
    world.api::<Secret>().delete("main-signing-1", &DeleteParams::default()).await.unwrap();
    same("without the first key").await;
    assert_eq!(secrets_of_keys(&world).await, 2, "no key of its name is made again");
    settled(&world).await;
    world.patch::<BinaryCache>("main", json!({"spec": {"signing": {"rotation": {"interval": null}}}})).await;
    same("without an interval").await;
    world.api::<BinaryCache>().delete("main", &DeleteParams::background()).await.unwrap();
    for _ in 0..300 {
        if !world.names::<Secret>().await.contains(&"main-signing".to_owned()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.cache("main", embedded()).await;
    same("another cache of its name takes them up").await;
    assert_eq!(server(&world).await, [format!("{stem}2")]);
}

#[tokio::test]
async fn a_key_that_followed_by_itself_is_made_once_whatever_call_fails() {
    let world = World::new().await;
    let stem = begun(&world, json!([])).await;
    let (mut number, mut at, mut calls) = (1, 0, usize::MAX);
    while at < calls {
        for fault in [Fault::NeverSent, Fault::AnswerLost] {
            let (old, new) = (format!("{stem}{number}"), format!("{stem}{}", number + 1));
            let why = format!("{fault:?} at call {at}");
            wind(&world, &look(&world).await, &old, due()).await;
            let object = world.api::<BinaryCache>().get("main").await.unwrap();
            world.faults.plan(Some((at, fault)));
            let _ = Box::pin(cache::reconcile(&object, &world.context)).await;
            world.faults.plan(None);
            let status = look(&world).await;
            if at == 0 {
                // Nothing was done before it.
                calls = world.faults.count();
            }
            assert_eq!(
                stages(&status, &stem),
                [format!("{number} Sign"), format!("{} Publish", number + 1)],
                "{why}"
            );
            let secret = world.api::<Secret>().get(&status.signing_keys[1].secret_name).await.unwrap();
            let held = String::from_utf8(secret.data.unwrap()["secret"].0.clone()).unwrap();
            let held = held.parse::<SecretKey>().unwrap().public_key().to_string();
            assert_eq!(status.public_keys[1], held, "{why}");
            assert_eq!(secrets_of_keys(&world).await, number + 1, "{why}");
            // It takes over, and the old one goes.
            wind(&world, &status, &new, in_force()).await;
            signed_again(&world, &[&old, &new]).await;
            let status = look(&world).await;
            wind(&world, &status, &old, over()).await;
            signed_again(&world, &[&new]).await;
            assert_eq!(stages(&look(&world).await, &stem), [format!("{} Sign", number + 1)], "{why}");
            number += 1;
        }
        at += 1;
    }
    assert!(number > 40, "{number} keys are too few: were the calls counted?");
}

#[tokio::test]
async fn a_key_waits_for_as_long_as_clients_know_of_it() {
    let world = World::new().await;
    let stem = begun(&world, json!([])).await;
    wind(&world, &look(&world).await, &format!("{stem}1"), due()).await;
    let status = look(&world).await;
    // As where the ConfigMap could not be written for weeks after the key was made.
    let before = json!({"data": {"public-keys": status.public_keys[0]}});
    world.patch::<ConfigMap>("main-client", before).await;
    wind(&world, &status, &format!("{stem}2"), json!({"publishedAt": days_ago(8)})).await;
    let status = look(&world).await;
    assert_eq!(stages(&status, &stem), ["1 Sign", "2 Publish"]);
    assert!(status.signing_keys[1].published_at.as_deref() > Some(&*days_ago(1)), "{status:?}");
    settled(&world).await;
}

#[tokio::test]
async fn what_followed_by_itself_can_be_listed_and_taken_back() {
    let world = World::new().await;
    let stem = begun(&world, json!([])).await;
    let (first, next) = (format!("{stem}1"), format!("{stem}2"));
    second(&world, &stem).await;
    keys(&world, json!([{"name": next, "stage": "Sign"}])).await;
    let status = look(&world).await;
    assert_eq!(stages(&status, &stem), ["1 Retire", "2 Sign"], "the first one goes when its time has come");
    let said = condition(&status, "SigningKeysReady");
    assert!(said.ends_with(&format!("; none follows {next} by itself while its stage is Sign")), "{said}");
    keys(&world, json!([{"name": next, "stage": "Revoke"}, {"name": "other-1"}])).await;
    let status = look(&world).await;
    assert_eq!(
        stages(&status, &stem),
        ["1 Sign", "2 Revoke", "other-1 Publish"],
        "the one before signs again"
    );
    keys(&world, json!([{"name": first}, {"name": "other-1"}])).await;
    assert_eq!(stages(&look(&world).await, &stem), ["1 Sign", "other-1 Publish"]);
    keys(&world, json!([{"name": first}, {"name": "other-1", "stage": "Retire"}])).await;
    look(&world).await;
    keys(&world, json!([{"name": first}])).await;
    // The name of what was revoked is not used again.
    wind(&world, &look(&world).await, &first, due()).await;
    assert_eq!(stages(&look(&world).await, &stem), ["1 Sign", "3 Publish"]);
}

#[tokio::test]
async fn a_generated_key_follows_one_of_ones_own() {
    let world = World::new().await;
    let own = SecretKey::from_seed("own-1", [3; 32]).unwrap().to_secret_text();
    world.secret("own", &[("k", &own)]).await;
    begun(&world, json!([{"name": "own-1", "secretKeyRef": {"name": "own", "key": "k"}}])).await;
    wind(&world, &look(&world).await, "own-1", due()).await;
    assert_eq!(stages(&look(&world).await, "own-"), ["1 Sign", "2 Publish"]);
    // Whoever writes the Secret anew takes its clock away; the status knows it.
    world.api::<Secret>().delete("own", &DeleteParams::default()).await.unwrap();
    world.secret("own", &[("k", &own)]).await;
    assert_eq!(stages(&look(&world).await, "own-"), ["1 Sign", "2 Publish"]);
    let brought = |name: &str| json!({"name": name, "secretKeyRef": {"name": "own", "key": "k"}});
    keys(&world, json!([brought("own-1"), brought("own-2")])).await;
    let said = condition(look(&world).await, "Accepted");
    assert!(said.starts_with("False/InvalidSpec: signing.keys: own-2 was generated when it"), "{said}");
    world.secret(CHAIN.replace("main", "other").as_str(), &[("a", "b")]).await;
    let mut spec = embedded();
    spec["signing"] = json!({"rotation": {"interval": "2160h"}});
    world.cache("other", spec).await;
    let said = condition(world.reconcile_cache("other").await.status.unwrap(), "Accepted");
    assert!(said.starts_with("False/InvalidSpec: Secret other-signing-chain is in the way"), "{said}");
}
