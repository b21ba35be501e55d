//! Generated credentials that follow one another, by the real S3 server and PostgreSQL where they have the last word.

mod servers;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use niks3_operator::cache;
use niks3_operator::crd::BinaryCache;
use niks3_operator::crd::binary_cache::ROTATE_CREDENTIALS;
use serde_json::{Value, json};

use self::servers::{Postgres, S3};
use crate::faults::Fault;
use crate::world::{World, condition, embedded};

const BASES: [&str; 2] = ["main-s3", "main-postgres"];
const VERSIONS: &str = "niks3.dev/secret-versions";
const CREDENTIALS: &str = "niks3.dev/credentials";

/// What runs, as far as a kubelet would have got: it is always one step behind the API server.
struct Running {
    world: World,
    /// The Secrets that the pod of each server takes.
    taken: [BTreeSet<String>; 2],
    /// The Secrets that pods of the cache have.
    used: [BTreeSet<String>; 2],
}

fn named(versions: &str, base: &str) -> BTreeSet<String> {
    let names = versions.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
    names.filter(|name| name == base || name.starts_with(&format!("{base}-"))).collect()
}

impl Running {
    async fn new() -> Self {
        let world = World::new().await;
        world.cache("main", embedded()).await;
        world.reconcile_cache("main").await;
        // What was made within this second is not older than it.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let mut running = Self { world, taken: Default::default(), used: Default::default() };
        running.settle().await;
        running
    }

    async fn ask(&self) -> String {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let patch = json!({"metadata": {"annotations": {ROTATE_CREDENTIALS: now}}});
        self.world.patch::<BinaryCache>("main", patch).await;
        now
    }

    /// A look that may fail, and what must hold whatever happens: who runs can log in, and so can who comes.
    async fn look(&self) -> bool {
        let object = self.world.api::<BinaryCache>().get("main").await.unwrap();
        let well = Box::pin(cache::reconcile(&object, &self.world.context)).await.is_ok();
        for (index, base) in BASES.into_iter().enumerate() {
            let (taken, used) = (self.taken_by(base).await, self.used_of(base).await);
            assert!(
                used.is_subset(&self.taken[index]),
                "new pods use {used:?}, taken are {:?}",
                self.taken[index]
            );
            assert!(
                self.used[index].is_subset(&taken),
                "{:?} run, {taken:?} will be taken",
                self.used[index]
            );
        }
        well
    }

    async fn taken_by(&self, base: &str) -> BTreeSet<String> {
        let set = self.world.api::<StatefulSet>().get(base).await.unwrap();
        named(&set.spec.unwrap().template.metadata.unwrap().annotations.unwrap()[VERSIONS], base)
    }

    async fn used_of(&self, base: &str) -> BTreeSet<String> {
        let pods = self.world.api::<Deployment>().get("main").await.unwrap().spec.unwrap();
        named(&pods.template.metadata.unwrap().annotations.unwrap()[VERSIONS], base)
    }

    /// All rollouts come to their end.
    async fn settle(&mut self) {
        for (index, base) in BASES.into_iter().enumerate() {
            let generation = self.world.api::<StatefulSet>().get(base).await.unwrap().metadata.generation;
            let status = json!({"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "currentReplicas": 1,
                "currentRevision": "a", "updateRevision": "a", "observedGeneration": generation});
            self.world.patch_status::<StatefulSet>(base, status).await;
            self.taken[index] = self.taken_by(base).await;
            self.used[index] = self.used_of(base).await;
        }
        let generation = self.world.api::<Deployment>().get("main").await.unwrap().metadata.generation;
        let status = json!({"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            "observedGeneration": generation});
        self.world.patch_status::<Deployment>("main", status).await;
    }

    async fn progress(&self, base: &str) -> Value {
        let secret = self.world.api::<Secret>().get(base).await.unwrap();
        serde_json::from_str(&secret.annotations()[CREDENTIALS]).unwrap()
    }

    /// The time that addresses live is over.
    async fn wind(&self) {
        for base in BASES {
            let mut progress = self.progress(base).await;
            assert!(progress["next"]["aloneFrom"].is_string(), "{base}: {progress}");
            progress["next"]["aloneFrom"] = json!("2026-01-01T00:00:00Z");
            let patch = json!({"metadata": {"annotations": {CREDENTIALS: progress.to_string()}}});
            self.world.patch::<Secret>(base, patch).await;
        }
    }

    async fn said(&self) -> String {
        let status = self.world.api::<BinaryCache>().get("main").await.unwrap().status;
        condition(status, "CredentialsRotated").replace(&self.world.namespace, "NAMESPACE")
    }

    async fn finish(&mut self) {
        for _ in 0..3 {
            assert!(self.look().await);
            self.settle().await;
        }
        self.wind().await;
        assert!(self.look().await);
        self.settle().await;
    }
}

#[tokio::test]
async fn new_credentials_are_taken_beside_the_old_ones_then_used_then_alone() {
    let mut running = Running::new().await;
    let (s3, postgres) = (S3::new(), Postgres::new());
    s3.takes(&running.world, &["main-s3"], &[]).await;
    postgres.takes(&running.world, &["main-postgres"], &[]).await;
    let asked = running.ask().await;
    assert!(running.look().await);
    assert_eq!(
        running.used,
        [BASES[0], BASES[1]].map(|base| [base.to_owned()].into()),
        "not before both are taken"
    );
    let said = running.said().await;
    assert!(
        said.starts_with("False/RotationInProgress: S3 is told to take the credentials of Secret main-s3-"),
        "{said}"
    );
    let [s3_next, postgres_next] = {
        let next = async |base| running.progress(base).await["next"]["secret"].as_str().unwrap().to_owned();
        [next("main-s3").await, next("main-postgres").await]
    };
    let secrets = running.world.names::<Secret>().await;
    assert!(secrets.contains(&s3_next) && secrets.contains(&postgres_next), "{secrets:?}");
    s3.takes(&running.world, &["main-s3", &s3_next], &[]).await;
    postgres.takes(&running.world, &["main-postgres", &postgres_next], &[]).await;
    // Nothing happens before the server runs with both.
    assert!(running.look().await);
    assert_eq!(running.used_of("main-s3").await, ["main-s3".to_owned()].into());
    running.settle().await;
    assert!(running.look().await);
    assert_eq!(running.used_of("main-s3").await, [s3_next.clone()].into());
    assert_eq!(running.used_of("main-postgres").await, [postgres_next.clone()].into());
    let said = running.said().await;
    assert!(said.contains("the cache's pods change from Secret main-postgres to main-postgres-"), "{said}");
    running.settle().await;
    assert!(running.look().await);
    let said = running.said().await;
    assert!(said.contains("what was signed with main-s3 is good until "), "{said}");
    assert!(running.look().await);
    assert_eq!(running.taken_by("main-s3").await.len(), 2, "addresses live for five hours");
    running.wind().await;
    assert!(running.look().await);
    running.settle().await;
    let expected = format!(
        "True/Stable: S3 takes the credentials of Secret {s3_next} alone; \
         PostgreSQL takes the credentials of Secret {postgres_next} alone"
    );
    assert_eq!(running.said().await, expected);
    assert_eq!(running.progress("main-s3").await, json!({"requested": asked, "current": s3_next}));
    s3.takes(&running.world, &[&s3_next], &["main-s3"]).await;
    postgres.takes(&running.world, &[&postgres_next], &["main-postgres"]).await;
    assert!(running.world.event_reasons().await.contains(&"CredentialsChanged".to_owned()));

    // That the pods of the embedded servers are ready is said once.
    assert!(running.look().await);
    running.world.faults.plan(None);
    assert!(running.look().await);
    assert_eq!(running.world.faults.writes(), [""; 0], "the same annotation asks for nothing more");

    // And once more, from the second to the third.
    running.ask().await;
    running.finish().await;
    let third = running.progress("main-postgres").await["current"].as_str().unwrap().to_owned();
    assert_ne!(third, postgres_next);
    postgres.takes(&running.world, &[&third], &["main-postgres", &postgres_next]).await;
}

#[tokio::test]
async fn a_rotation_that_fails_at_any_call_ends_where_none_does() {
    let mut running = Running::new().await;
    for at in 0.. {
        let mut calls = 0;
        for fault in [Fault::NeverSent, Fault::AnswerLost] {
            let before = running.world.names::<Secret>().await.len();
            running.ask().await;
            running.world.faults.plan(Some((at, fault)));
            running.look().await;
            calls = running.world.faults.count();
            running.world.faults.plan(None);
            running.finish().await;
            assert!(
                running.said().await.starts_with("True/Stable"),
                "{fault:?} at {at}: {}",
                running.said().await
            );
            let made = running.world.names::<Secret>().await.len() - before;
            assert_eq!(made, 2, "{fault:?} at {at}: one Secret for each server");
        }
        // No call had this number any more.
        if calls <= at {
            assert!(at > 15, "{at} calls are too few: were they counted?");
            return;
        }
    }
}

#[tokio::test]
async fn what_is_no_time_or_not_the_operators_is_said() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    let ask = async |name: &str, at: &str| {
        world
            .patch::<BinaryCache>(name, json!({"metadata": {"annotations": {ROTATE_CREDENTIALS: at}}}))
            .await;
        condition(world.reconcile_cache(name).await.status, "CredentialsRotated")
    };
    let said = ask("main", "now").await;
    assert!(
        said.starts_with("False/InvalidRequest: annotation niks3.dev/rotate-credentials: \"now\" is no"),
        "{said}"
    );
    let said = ask("main", "2999-01-01T00:00:00Z").await;
    assert!(said.ends_with("the time 2999-01-01T00:00:00Z has not come"), "{said}");
    assert!(world.event_reasons().await.contains(&"InvalidRequest".to_owned()));
    // Credentials that are newer than that.
    let before = world.names::<Secret>().await;
    world
        .patch::<BinaryCache>(
            "main",
            json!({"metadata": {"annotations": {ROTATE_CREDENTIALS: "2026-01-01T00:00:00Z"}}}),
        )
        .await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(status.conditions.iter().all(|condition| condition.type_ != "CredentialsRotated"), "{status:?}");
    assert_eq!(world.names::<Secret>().await, before);
    world.secret("s3", &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]).await;
    world.secret("db", &[("uri", "postgres://a@b/c")]).await;
    world.cache("own", crate::world::own(&world.namespace)).await;
    let said = ask("own", "2026-01-01T00:00:00Z").await;
    assert!(said.ends_with("storage and database are your own, and so are their credentials"), "{said}");
}
