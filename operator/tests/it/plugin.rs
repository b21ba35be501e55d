//! `kubectl niks3`, the program, against the real API server.

mod jobs;

use std::process::Output;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams};
use niks3_operator::crd::BinaryCache;
use regex::Regex;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::api_server;
use crate::world::{World, condition, embedded};

async fn command(namespace: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-niks3"));
    command.args(["--namespace", namespace, "--kubeconfig"]).arg(api_server::shared().await.kubeconfig());
    command.args(arguments).env_clear().kill_on_drop(true);
    command
}

async fn run(world: &World, arguments: &[&str]) -> Output {
    command(&world.namespace, arguments).await.output().await.unwrap()
}

/// What it printed; it must have succeeded.
async fn printed(world: &World, arguments: &[&str]) -> String {
    let output = run(world, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it said when it failed.
async fn error(world: &World, arguments: &[&str]) -> String {
    let output = run(world, arguments).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Without what differs from run to run.
fn steady(world: &World, text: &str) -> String {
    let mut text = text.replace(&world.namespace, "NAMESPACE");
    for (shape, steady) in [
        (r":[A-Za-z0-9+/]{43}=", ":KEY"),
        (r" \d+s\b", " 0s"),
        (r"\bin \d+[smhd]\b", "in 0s"),
        (r"(\S) {2,}", "$1   "),
    ] {
        text = Regex::new(shape).unwrap().replace_all(&text, steady).into_owned();
    }
    text
}

#[tokio::test]
async fn a_screen_says_how_a_cache_stands_and_what_to_do() {
    let world = World::new().await;
    let missing = error(&world, &["status"]).await;
    assert!(missing.contains("has no BinaryCache; -n names another"), "{missing}");
    world.cache("main", embedded()).await;
    let new = printed(&world, &["status"]).await;
    assert!(new.contains("the operator has not looked at it yet; does it run?"), "{new}");
    world.policy("nightly", policy()).await;
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    let waiting = json!({"containerStatuses": [{"name": "server", "image": "niks3:9", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
    world.pod("main-1", "server", waiting).await;
    world.reconcile_cache("main").await;
    insta::assert_snapshot!("plugin-status", steady(&world, &printed(&world, &["status", "main"]).await));
    world.cache("other", embedded()).await;
    let both = steady(&world, &printed(&world, &["status"]).await);
    assert!(both.contains("main   False   ImagePullBackOff") && both.contains("other   Unknown"), "{both}");
    let missing = error(&world, &["status", "third"]).await;
    assert!(
        missing.contains("has no BinaryCache third; `kubectl get nix -A` lists what there is"),
        "{missing}"
    );
}

#[tokio::test]
async fn use_prints_what_the_config_map_has() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let early = error(&world, &["use"]).await;
    assert!(early.contains("has no address yet; `kubectl niks3 status` says why"), "{early}");
    world.reconcile_cache("main").await;
    let lines = printed(&world, &["use"]).await;
    assert!(
        lines.starts_with(&format!("extra-substituters = http://main.{}.svc\n", world.namespace)),
        "{lines}"
    );
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    assert_eq!(lines, client["nix.conf"]);
    let private =
        json!({"spec": {"auth": {"read": "Authenticated"}, "server": {"readProxy": {"mode": "Proxy"}}}});
    world.patch::<BinaryCache>("main", private).await;
    let lines = printed(&world, &["use"]).await;
    let machine = format!("#   machine main.{}.svc login nix password TOKEN\n", world.namespace);
    assert!(lines.contains(&machine) && lines.ends_with("netrc-file = /etc/nix/netrc\n"), "{lines}");
}

fn policy() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

#[tokio::test]
async fn rotate_goes_the_way_of_the_keys() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let first = status.signing_keys[0].name.clone();
    let second = format!("{}2", first.strip_suffix('1').unwrap());
    printed(&world, &["rotate", "--dry-run"]).await;
    let unchanged = world.api::<BinaryCache>().get("main").await.unwrap();
    assert!(unchanged.spec.signing.keys.is_empty());
    let yaml = printed(&world, &["rotate", "main"]).await;
    assert!(
        yaml.contains(&format!("- name: {first}\n")) && yaml.contains(&format!("- name: {second}\n")),
        "{yaml}"
    );
    let stages = async || {
        let status = world.reconcile_cache("main").await.status.unwrap();
        status.signing_keys.iter().map(|key| format!("{:?}", key.stage)).collect::<Vec<_>>()
    };
    assert_eq!(stages().await, ["Sign", "Publish"]);
    let again = error(&world, &["rotate", "main"]).await;
    assert!(again.contains(&format!("{second} is published already and waits to sign")), "{again}");
    printed(&world, &["rotate", "main", "--promote", &second]).await;
    assert_eq!(stages().await, ["Sign", "Sign"]);
    assert!(error(&world, &["rotate", "main"]).await.contains("two keys sign already"));
    let kept = error(&world, &["rotate", "main", "--remove", &first]).await;
    assert!(kept.contains("was not changed") && kept.contains("Retire"), "the API server's own rule: {kept}");
    printed(&world, &["rotate", "main", "--retire", &first]).await;
    assert_eq!(stages().await, ["Retire", "Sign"]);
    let unsure = run(&world, &["rotate", "main", "--revoke", &first]).await;
    assert_eq!(unsure.status.code(), Some(2), "it wants --yes");
    printed(&world, &["rotate", "main", "--revoke", &first, "--yes"]).await;
    printed(&world, &["rotate", "main", "--remove", &first]).await;
    assert_eq!(stages().await, ["Sign"]);
    let unknown = error(&world, &["rotate", "main", "--promote", "x-1"]).await;
    assert!(unknown.contains(&format!("there is no key x-1, but {second}")), "{unknown}");
}

#[tokio::test]
async fn rotate_lists_what_followed_by_itself() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["signing"] = json!({"rotation": {"interval": "2160h"}});
    world.cache("main", spec).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    let screen = printed(&world, &["status", "main"]).await;
    let next = format!("is generated and published at {}\n", status.next_key_rotation.unwrap());
    assert!(screen.contains(&next), "{screen}");
    let first = status.signing_keys[0].name.clone();
    let second = format!("{}2", first.trim_end_matches('1'));
    let long_ago = "2020-01-01T00:00:00Z";
    let clock = json!({&first: {"publishedAt": long_ago, "signingSince": long_ago}}).to_string();
    let clock = json!({"metadata": {"annotations": {"niks3.dev/signing-clock.main": clock}}});
    world.patch::<Secret>("main-signing-1", clock).await;
    world.reconcile_cache("main").await;
    let waits = error(&world, &["rotate", "main"]).await;
    assert!(waits.contains(&format!("{second} is published already and waits to sign")), "{waits}");
    printed(&world, &["rotate", "main", "--promote", &second]).await;
    let cache = world.reconcile_cache("main").await;
    let listed: Vec<&str> = cache.spec.signing.keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(listed, [&first, &second]);
    let stages: Vec<String> =
        cache.status.unwrap().signing_keys.iter().map(|key| format!("{:?}", key.stage)).collect();
    assert_eq!(stages, ["Sign", "Sign"]);
}

#[tokio::test]
async fn rotate_asks_for_new_credentials_once_at_a_time() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    world.reconcile_cache("main").await;
    // What was made within this second is not older than it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    printed(&world, &["rotate", "--credentials", "--dry-run"]).await;
    let unchanged = world.api::<BinaryCache>().get("main").await.unwrap();
    assert!(unchanged.metadata.annotations.is_none());
    printed(&world, &["rotate", "main", "--credentials"]).await;
    let told = condition(world.reconcile_cache("main").await.status, "CredentialsRotated");
    assert!(told.starts_with("False/RotationInProgress: S3 is told to take"), "{told}");
    let again = error(&world, &["rotate", "main", "--credentials"]).await;
    assert!(again.contains("one rotation is under way: S3 is told to take"), "{again}");
    world.cache("own", crate::world::own(&world.namespace)).await;
    let own = error(&world, &["rotate", "own", "--credentials"]).await;
    assert!(own.contains("are your own"), "{own}");
}

#[tokio::test]
async fn a_report_has_everything_but_secrets() {
    let world = World::new().await;
    let mut spec = embedded();
    let token = "a-token-that-nobody-else-may-ever-see";
    world.secret("laptop", &[("token", token)]).await;
    let secret = json!({"name": "laptop", "key": "token"});
    let missing = json!({"name": "gone", "key": "token"});
    spec["auth"] = json!({"staticTokens": [
        {"name": "laptop", "secretKeyRef": secret, "permissions": ["Push"]},
        {"name": "gone", "secretKeyRef": missing, "permissions": ["Push"]}]});
    world
        .secret("certificate", &[("tls.crt", "a-certificate"), ("tls.key", "the-key-of-the-certificate")])
        .await;
    spec["server"] = json!({"tls": {"secretName": "certificate"}});
    let cache = world.cache("main", spec).await;
    let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": token});
    world.patch::<BinaryCache>("main", json!({"metadata": {"annotations": applied}})).await;
    world.policy("nightly", policy()).await;
    assert!(cache.status.is_none());
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    let init = json!({"name": "roles", "image": "a", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0}}});
    world.pod("main-postgres-0", "postgres", json!({"initContainerStatuses": [init]})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.tar.gz");
    let said = printed(&world, &["report", "main", "--output", file.to_str().unwrap()]).await;
    assert!(said.contains("Secrets were not read"), "{said}");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap()));
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        files.insert(world.plain(&path).await, text);
    }
    insta::assert_snapshot!("plugin-report", files.keys().cloned().collect::<Vec<_>>().join("\n"));
    let all = files.values().map(String::as_str).collect::<String>();
    assert!(!all.contains(token));
    for secret in world.api::<Secret>().list(&ListParams::default()).await.unwrap() {
        for (key, value) in secret.data.unwrap() {
            let (plain, text) = (String::from_utf8(value.0).unwrap(), serde_json::to_string(&key).unwrap());
            let leaks = plain.lines().any(|line| all.contains(line));
            assert!(!leaks, "Secret {}: {text}", secret.metadata.name.as_ref().unwrap());
        }
    }
    assert!(files["niks3-report/NAMESPACE/events.txt"].contains("SecretCreated"), "{files:?}");
    let gaps = &files["niks3-report/gaps.txt"];
    assert!(gaps.contains("Secret gone does not exist"), "{gaps}");
    assert!(
        gaps.contains("logs/main-postgres-0.roles.log"),
        "no kubelet has one, but it was asked for: {gaps}"
    );
    world.api::<BinaryCache>().delete("main", &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn help_texts() {
    let world = World::new().await;
    for name in ["", "status", "use", "gc", "rotate", "why", "migrate", "report", "completions"] {
        let arguments: Vec<&str> = [name, "--help"].into_iter().filter(|part| !part.is_empty()).collect();
        insta::assert_snapshot!(format!("plugin-help-{name}"), printed(&world, &arguments).await);
    }
    let completions = printed(&world, &["completions", "bash"]).await;
    assert!(completions.contains("kubectl-niks3"), "{completions}");
}

#[tokio::test]
async fn a_cluster_without_the_kinds_or_none_at_all_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-niks3"))
        .args(["status", "--kubeconfig", "/nonexistent"])
        .env_clear()
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("error: /nonexistent"), "{said}");
}
