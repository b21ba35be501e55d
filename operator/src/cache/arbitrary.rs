//! Whatever is stored: what can be read becomes a cache that can be built or a reason why not, and never a panic.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::args::Images;
use crate::crd::{BinaryCache, GCPolicy};
use crate::policy;
use crate::policy::claims::Claimant;
use crate::policy::observe::Found;

use super::build::build;
use super::observe::{Fresh, Observed, Surroundings};
use super::validate::validate;

const CASES: usize = 3000;

/// Something of everything.
fn cache() -> Value {
    let rule = json!({"name": "ci", "serviceAccounts": [{"namespace": "ci", "name": "a"}], "permissions": ["Push"],
        "pins": ["a*"]});
    json!({
        "apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache",
        "metadata": {"name": "main", "namespace": "nix", "uid": "0", "generation": 1},
        "spec": {
            "url": "https://cache.example.org", "suspend": "None",
            "cacheInfo": {"priority": 30, "wantMassQuery": true, "storeDir": "/nix/store"},
            "storage": {"s3": {"bucket": "nix", "prefix": "a", "endpoint": "http://s3:9000", "region": "a",
                "addressingStyle": "Path", "serverSideEncryption": {"type": "KMS", "kmsKeyId": "a"}, "ca": {"configMapKeyRef": {"name": "ca", "key": "a"}},
                "credentials": {"secretRef": {"name": "s3", "sessionTokenKey": "t"}}}},
            "database": {"connection": {"host": "db", "port": 5432, "database": "nix", "userSecretRef": {"name": "db"},
                "sslMode": "Require"}, "schema": "a", "migrations": "Manual",
                "pool": {"maxConnections": 10, "minIdle": 2, "acquireTimeout": "5s"}},
            "signing": {
                "keys": [{"name": "a-1", "secretKeyRef": {"name": "key", "key": "secret"}}, {"name": "a-2", "stage": "Auto"}],
                "rotation": {"interval": "2160h", "publishBeforeSign": "168h", "overlap": "720h", "promotion": "Automatic",
                    "resign": "Background", "resignPerSecond": 200, "resignConcurrency": 8}
            },
            "auth": {"read": "Public", "kubernetes": {"mode": "Enabled", "audience": "a", "rules": [rule]},
                "oidc": [{"name": "a", "issuer": "https://a", "jwksURL": "https://a", "audience": "a", "ca": {"configMapKeyRef": {"name": "ca", "key": "a"}},
                    "rules": [{"name": "a", "subjects": ["a*"], "claims": [{"pointer": "/a", "anyOf": ["b"]}], "permissions": ["Push"]}]}],
                "clientCertificates": {"ca": {"secretKeyRef": {"name": "key", "key": "secret"}},
                    "crl": {"secretKeyRef": {"name": "key", "key": "secret"}},
                    "rules": [{"name": "a", "subjects": ["CN=a"], "permissions": ["Push"]}]},
                "staticTokens": [{"name": "a", "secretKeyRef": {"name": "t", "key": "t"}, "permissions": ["Push"]}]},
            "server": {
                "replicas": 2, "image": "a", "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
                "readProxy": {"mode": "Redirect", "redirectTTL": "10m"},
                "uploads": {"maxNarSize": "1Ti", "presignExpiry": "5h", "verify": "Hash", "boundAddresses": "Enabled"},
                "limits": {"callTimeout": "1m", "closureBodySize": "64Mi", "openUploads": 5, "objectsPerUpload": 9},
                "ingress": {"host": "a", "tlsSecretName": "tls"},
                "tls": {"certManager": {"issuerRef": {"name": "a"}, "duration": "2160h"}},
                "httpRoute": {"hostnames": ["a"], "parentRefs": [{"name": "a"}]},
                "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
                "networkPolicy": {"mode": "Enabled", "ingressFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
                "podDisruptionBudget": {"maxUnavailable": "25%"},
                "podTemplate": {"spec": {"containers": [{"name": "server", "env": [{"name": "A", "value": "b"}]}]}}
            }
        }
    })
}

fn policy_of_it() -> Value {
    json!({
        "apiVersion": "niks3.dev/v1alpha1", "kind": "GCPolicy",
        "metadata": {"name": "nightly", "namespace": "nix", "uid": "1", "generation": 1},
        "spec": {
            "cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "timeZone": "Etc/UTC", "mode": "Enforce",
            "startingDeadlineSeconds": 3600,
            "retention": {"olderThan": "720h", "maxSize": "1Gi", "minAge": "24h", "deletionGrace": "24h",
                "failedUploadsOlderThan": "6h", "keepIfReadWithin": "1h",
                "pinRules": [{"prefix": "ci-", "keepLast": 20, "maxAge": "1h", "keepRevisions": 1}]},
            "safety": {"maxDeletePercent": 50, "maxDeleteObjects": 5},
            "job": {"backoffLimit": 2, "activeDeadlineSeconds": 3600}
        }
    })
}

/// The places of all values but the object's identity.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    if at.starts_with("/spec/") {
        all.push(at.to_owned());
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), all));
        }
        _ => {}
    }
}

fn odd() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "",
        " ",
        "/",
        "*",
        "https://",
        "http://[::1",
        "ftp://a:b@c",
        "-1",
        "0",
        "1Gi",
        "999999999999999999999h",
        "0s",
        "9223372036s",
        "106751d",
        "1e400",
        "None",
        "Auto",
        "Revoke",
        "Retire",
        "Manual",
        "Embedded",
        "a:b",
        "é\u{0}\u{202e}",
        "$(HOME)",
        "2562047h47m16s",
        "H H * * *",
        "9/4294967295 * 31 2 ?",
        "-----BEGIN CERTIFICATE-----",
    ]);
    prop_oneof![
        3 => word.prop_map(|text| json!(text)),
        1 => ".{0,80}".prop_map(|text| json!(text)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::from(i32::MAX), i64::MAX]).prop_map(|number| json!(number)),
        1 => any::<bool>().prop_map(|flag| json!(flag)),
        1 => Just(Value::Null),
        1 => Just(json!({})),
        1 => Just(json!([])),
        1 => Just(json!({"name": "a", "key": "b", "embedded": {}, "size": "1Gi"})),
    ]
}

/// `base`, with some of its values replaced by odd ones.
fn bent(base: &Value, runner: &mut TestRunner) -> Value {
    let mut all = Vec::new();
    places(base, "", &mut all);
    let changes = prop::collection::vec((prop::sample::select(all), odd()), 0..4);
    let mut object = base.clone();
    for (place, value) in changes.new_tree(runner).unwrap().current() {
        if let Some(target) = object.pointer_mut(&place) {
            *target = value;
        }
    }
    object
}

pub(super) fn observed() -> Observed {
    let secret = |name: &str, data: Value| -> (String, Secret) {
        let secret = json!({"metadata": {"name": name, "resourceVersion": "1"}, "data": data});
        (name.to_owned(), serde_json::from_value(secret).unwrap())
    };
    Observed {
        secrets: [
            secret("key", json!({"secret": "bm9uZQ=="})),
            secret("db", json!({"username": "YQ==", "password": "YQ=="})),
        ]
        .into(),
        told: None,
        config_maps: BTreeMap::new(),
        service_accounts: ["a".to_owned()].into(),
        secret_versions: BTreeMap::new(),
        replicas: Some(2),
        deployment: None,
        stateful_sets: BTreeMap::new(),
        bucket_taken_by: None,
        surroundings: Surroundings::default(),
        fresh: Fresh {
            signing_seed: [7; 32],
            s3_access_key: "a".to_owned(),
            s3_secret_key: "b".to_owned(),
            postgres_password: "c".to_owned(),
            id: "1".to_owned(),
        },
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

pub(super) fn images() -> Images {
    Images { server: "a".to_owned(), s3: "b".to_owned(), postgres: "c".to_owned(), pull_policy: None }
}

#[test]
fn no_stored_cache_makes_the_operator_panic() {
    let (mut runner, base, observed) = (TestRunner::deterministic(), cache(), observed());
    let (mut built, mut refused, mut unreadable) = (0, 0, 0);
    for _ in 0..CASES {
        let stored: DeserializeGuard<BinaryCache> = serde_json::from_value(bent(&base, &mut runner)).unwrap();
        match stored.0.map(|cache| validate(&cache, &observed, &images())) {
            Ok(Ok(valid)) => built += usize::from(!build(&valid).deployments.is_empty()),
            Ok(Err(_)) => refused += 1,
            Err(_) => unreadable += 1,
        }
    }
    assert!(
        built > 300 && refused > 30 && unreadable > 300,
        "{built} {refused} {unreadable}: too few of a kind"
    );
}

#[test]
fn no_stored_policy_makes_the_operator_panic() {
    let (mut runner, named) = (TestRunner::deterministic(), policy_of_it());
    let mut selecting = named.clone();
    selecting["spec"].as_object_mut().unwrap().remove("cacheRef");
    selecting["spec"]["cacheSelector"] = json!({"matchLabels": {"tier": "scratch"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]});
    let cache: BinaryCache = serde_json::from_value(cache()).unwrap();
    let found = Found { name: "main".to_owned(), cache: Some(Ok(Box::new(cache))), ..Found::default() };
    let observed = policy::observe::Observed { caches: vec![found], ..policy::observe::Observed::default() };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let (mut built, mut refused, mut unreadable) = (0, 0, 0);
    for base in [named, selecting].iter().cycle().take(CASES) {
        let stored: DeserializeGuard<GCPolicy> = serde_json::from_value(bent(base, &mut runner)).unwrap();
        let validated = stored.0.map(|policy| {
            Claimant::of(&policy);
            policy::validate::validate(&policy, &observed, &images())
        });
        match validated {
            Ok(Ok(valid)) => {
                let first = &valid.caches[0];
                let _ = policy::schedule::next(&first.schedule, &first.time_zone, now);
                built += usize::from(!policy::build::build(&valid.caches, &[]).cron_jobs.is_empty());
            }
            Ok(Err(_)) => refused += 1,
            Err(_) => unreadable += 1,
        }
    }
    assert!(
        built > 100 && refused > 100 && unreadable > 100,
        "{built} {refused} {unreadable}: too few of a kind"
    );
}
