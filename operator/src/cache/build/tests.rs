//! What caches are made of, as YAML that a review can read, and what must hold of every child.

mod samples;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Secret};
use serde_json::{Value, json};

use crate::args::Images;
use crate::cache::observe::{Fresh, Observed, Surroundings};
use crate::cache::validate::{ValidCache, validate};
use crate::crd::BinaryCache;

use super::{Resources, build};

fn fresh() -> Fresh {
    Fresh {
        signing_seed: [7; 32],
        s3_access_key: "NIKS3ACCESS".to_owned(),
        s3_secret_key: "secret-of-s3".to_owned(),
        postgres_password: "secret-of-postgres".to_owned(),
        id: "1".to_owned(),
    }
}

fn valid(spec: &Value, secrets: &[(&str, &[&str])]) -> ValidCache {
    let cache: BinaryCache = serde_json::from_value(json!({
        "apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache",
        "metadata": {"name": "main", "namespace": "nix", "uid": "0000"}, "spec": spec
    }))
    .unwrap();
    let secret = |name: &str, keys: &[&str]| -> Secret {
        let data: BTreeMap<&str, &str> = keys.iter().map(|key| (*key, "c2VjcmV0")).collect();
        serde_json::from_value(json!({"metadata": {"name": name, "resourceVersion": "12"}, "data": data}))
            .unwrap()
    };
    let observed = Observed {
        secrets: secrets.iter().map(|(name, keys)| ((*name).to_owned(), secret(name, keys))).collect(),
        told: None,
        config_maps: BTreeMap::new(),
        service_accounts: ["robot".to_owned()].into(),
        secret_versions: BTreeMap::new(),
        replicas: None,
        deployment: None,
        stateful_sets: BTreeMap::new(),
        bucket_taken_by: None,
        surroundings: Surroundings { api_ports: [16443].into(), operator: "niks3-system".to_owned() },
        fresh: fresh(),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let images = Images {
        server: "niks3:1".to_owned(),
        s3: "versitygw:1".to_owned(),
        postgres: "postgres:17".to_owned(),
        pull_policy: None,
    };
    validate(&cache, &observed, &images).unwrap()
}

fn embedded() -> ValidCache {
    let rule = json!({"name": "ci", "serviceAccounts": [{"namespace": "ci", "name": "builder"}],
        "permissions": ["Push", "Pin"], "pins": ["ci-*"]});
    valid(
        &json!({"storage": {"embedded": {}}, "database": {"embedded": {}}, "auth": {"kubernetes": {"rules": [rule]}}}),
        &[],
    )
}

fn own() -> ValidCache {
    valid(
        &json!({
            "url": "https://cache.example.org",
            "storage": {"s3": {"bucket": "nix", "prefix": "team", "credentials": {"secretRef": {"name": "aws"}}}},
            "database": {"urlSecretRef": {"name": "db"}},
            "auth": {"staticTokens": [{"name": "laptop", "secretKeyRef": {"name": "token", "key": "t"}, "permissions": ["Push"]}],
                "clientCertificates": {"proxy": {"verifiedHeader": "x-verified", "addresses": ["10.1.0.0/16"]},
                    "rules": [{"name": "builders", "subjects": ["CN=builder"], "permissions": ["Push"]}]}},
            "server": {"replicas": 1, "readProxy": {"mode": "Proxy"}}
        }),
        &[("aws", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]), ("db", &["uri"]), ("token", &["t"])],
    )
}

/// Every child but the Secrets.
fn open(resources: &Resources) -> Vec<Value> {
    fn all<K: serde::Serialize>(objects: &[K]) -> impl Iterator<Item = Value> {
        objects.iter().map(|object| serde_json::to_value(object).unwrap())
    }
    all(&resources.service_accounts)
        .chain(all(&resources.config_maps))
        .chain(all(&resources.services))
        .chain(all(&resources.stateful_sets))
        .chain(all(&resources.deployments))
        .chain(all(&resources.disruption_budgets))
        .chain(all(&resources.autoscalers))
        .chain(all(&resources.network_policies))
        .chain(all(&resources.ingresses))
        .chain(all(&resources.http_routes))
        .collect()
}

#[test]
fn children_of_an_embedded_cache() {
    let resources = build(&embedded());
    insta::assert_yaml_snapshot!(open(&resources));
}

#[test]
fn children_of_a_cache_on_own_servers() {
    let resources = build(&own());
    insta::assert_yaml_snapshot!(open(&resources));
}

/// Only what the other snapshots lack.
#[test]
fn children_of_a_cache_with_tls_and_identities_from_outside() {
    let map = |name: &str| json!({"configMapKeyRef": {"name": name}});
    let resources = build(&valid(
        &json!({
            "url": "https://cache.example.org", "storage": {"embedded": {}}, "database": {"embedded": {}, "migrations": "Manual"},
            "auth": {
                "oidc": [{"name": "gitlab", "issuer": "https://gitlab.example.org:8443", "jwksURL": "https://keys.example.org:9443/a", "audience": "cache", "ca": map("gitlab"),
                    "rules": [{"name": "main", "claims": [{"pointer": "/ref_protected", "anyOf": ["true"]}],
                        "permissions": ["Push"], "pins": ["ci-*"]}]}],
                "clientCertificates": {"ca": map("clients"), "crl": {"secretKeyRef": {"name": "lists"}},
                    "rules": [{"name": "builders", "subjects": ["CN=builder,*"], "permissions": ["Push"]}]}
            },
            "server": {"tls": {"certManager": {"issuerRef": {"name": "internal"}, "duration": "2160h"}},
                "ingress": {"host": "cache.example.org"}, "networkPolicy": {"mode": "Enabled"}}
        }),
        &[],
    ));
    let template = serde_json::to_value(&resources.deployments[0].spec.as_ref().unwrap().template).unwrap();
    let server = &template["spec"]["containers"][0];
    insta::assert_yaml_snapshot!(json!({
        "certificate": resources.certificates[0],
        "config": resources.config_maps[0],
        "client": resources.config_maps[1],
        "service": resources.services[0].spec,
        "ingress": resources.ingresses[0].spec,
        "egress": resources.network_policies[0].spec.as_ref().unwrap().egress,
        "annotations": template["metadata"]["annotations"],
        "mounts": server["volumeMounts"],
        "volumes": template["spec"]["volumes"],
        "ports": server["ports"],
        "probes": [server["startupProbe"], server["readinessProbe"]],
    }));
}

/// Only what the other snapshots lack.
#[test]
fn what_surrounds_the_pods_of_a_cache() {
    let peer = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ci"}}});
    let egress = json!({"ports": [{"port": 3128}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]});
    let cache = valid(
        &json!({
            "storage": {"s3": {"bucket": "nix", "endpoint": "http://minio:9000", "credentials": {"secretRef": {"name": "aws"}}}},
            "database": {"embedded": {}},
            "server": {
                "autoscaling": {"maxReplicas": 8},
                "ingress": {"host": "a.example.org", "className": "nginx", "tlsSecretName": "tls"},
                "httpRoute": {"hostnames": ["b.example.org"], "parentRefs": [{"name": "public", "sectionName": "https"}]},
                "networkPolicy": {"mode": "Enabled", "ingressFrom": [peer], "extraEgress": [egress]},
            }
        }),
        &[("aws", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])],
    );
    assert_eq!(cache.url, "https://b.example.org");
    let mut resources = build(&cache);
    assert_eq!(resources.deployments[0].spec.as_ref().unwrap().replicas, None);
    resources.service_accounts.clear();
    resources.config_maps.clear();
    resources.services.clear();
    resources.stateful_sets.clear();
    resources.deployments.clear();
    insta::assert_yaml_snapshot!(open(&resources));
}

/// Only what the other snapshots lack.
#[test]
fn children_of_a_cache_in_a_cloud() {
    let template = json!({
        "metadata": {"annotations": {"example.org/scrape": "true", "niks3.dev/config-hash": "mine"}},
        "spec": {
            "terminationGracePeriodSeconds": 120,
            "containers": [
                {"name": "server", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
                    "volumeMounts": [{"name": "identity", "mountPath": "/var/run/identity"}]},
                {"name": "proxy", "image": "proxy:1"}
            ],
            "volumes": [{"name": "identity", "emptyDir": {}}]
        }
    });
    let role = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/nix-cache"});
    let cache = valid(
        &json!({
            "cacheInfo": {"wantMassQuery": false, "storeDir": "/gnu/store"},
            "storage": {"s3": {"bucket": "nix", "endpoint": "http://gateway:9000", "requestsPerSecond": 200, "maxConcurrency": 20,
                "serverSideEncryption": {"type": "KMS", "kmsKeyId": "alias/nix"},
                "ca": {"secretKeyRef": {"name": "s3-ca"}}, "credentials": {"workloadIdentity": {"serviceAccountAnnotations": role}}}},
            "database": {"connection": {"host": "db.example.org", "database": "nix", "userSecretRef": {"name": "db"}},
                "ca": {"configMapKeyRef": {"name": "ca"}}, "schema": "main", "pool": {"maxConnections": 20, "minIdle": 2, "acquireTimeout": "30s"}},
            "auth": {"read": "Authenticated"},
            "signing": {"rotation": {"resign": "None", "resignPerSecond": 1000, "resignConcurrency": 16}},
            "server": {"limits": {"callsPerSecond": 50, "callTimeout": "5m", "openUploads": 100, "openUploadsPerIdentity": 10,
                    "objectsPerUpload": 1000, "pathsPerSign": 500, "closureBodySize": "64Mi"},
                 "readProxy": {"mode": "Redirect", "redirectTTL": "10m"}, "uploads": {"verify": "Hash", "presignExpiry": "1h", "boundAddresses": "Enabled", "maxNarSize": "100Gi"},
                "networkPolicy": {"mode": "Enabled"}, "podTemplate": template}
        }),
        &[("db", &["username", "password"]), ("s3-ca", &["ca.crt"])],
    );
    let mut resources = build(&cache);
    resources.services.clear();
    resources.disruption_budgets.clear();
    insta::assert_yaml_snapshot!(open(&resources));
}

#[test]
fn a_service_account_of_ones_own_is_not_made_and_embedded_servers_have_theirs() {
    let own = |name: &str, database: Value| {
        let identity = json!({"workloadIdentity": {"serviceAccountName": name}});
        let storage = json!({"s3": {"bucket": "nix", "credentials": identity}});
        valid(&json!({"storage": storage, "database": database}), &[("db", &["uri"])])
    };
    let (outside, embedded) = (json!({"urlSecretRef": {"name": "db"}}), json!({"embedded": {}}));
    let resources = build(&own("robot", outside.clone()));
    assert!(resources.service_accounts.is_empty());
    let pod = resources.deployments[0].spec.clone().unwrap().template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some("robot"));
    assert!(own("robot", outside.clone()).missing.is_empty());
    assert_eq!(own("nobody", outside).missing[0].message, "ServiceAccount nobody does not exist");

    let resources = build(&own("robot", embedded.clone()));
    assert_eq!(resources.service_accounts[0].metadata.name.as_deref(), Some("main"));
    let pod = |spec: &PodTemplateSpec| spec.spec.clone().unwrap().service_account_name;
    assert_eq!(pod(&resources.deployments[0].spec.as_ref().unwrap().template).as_deref(), Some("robot"));
    assert_eq!(pod(&resources.stateful_sets[0].spec.as_ref().unwrap().template).as_deref(), Some("main"));
    assert!(build(&own("main", embedded)).service_accounts.is_empty(), "theirs has the name");
}

#[test]
fn secrets_are_immutable_and_stay() {
    let secrets = build(&embedded()).secrets;
    let names: Vec<_> = secrets.iter().map(|secret| secret.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["main-signing-1", "main-s3", "main-postgres"]);
    for secret in &secrets {
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(secret.metadata.owner_references, None, "it must outlive the cache");
    }
    assert!(
        build(&own()).secrets.iter().all(|secret| secret.metadata.name.as_deref() == Some("main-signing-1"))
    );
}

#[test]
fn no_secret_leaves_its_secret() {
    let text = serde_json::to_string(&open(&build(&embedded()))).unwrap();
    let key = embedded().signing.keys[0].material.as_ref().unwrap().to_secret_text();
    for secret in ["NIKS3ACCESS", "secret-of-s3", "secret-of-postgres", key.split_once(':').unwrap().1] {
        assert!(!text.contains(secret), "{secret} stands in a child");
    }
}

#[test]
fn every_pod_is_restricted() {
    for cache in [embedded(), own()] {
        let resources = build(&cache);
        let servers = resources.deployments.iter().filter_map(|d| d.spec.as_ref()?.template.spec.as_ref());
        let sets = resources.stateful_sets.iter().filter_map(|s| s.spec.as_ref()?.template.spec.as_ref());
        for pod in servers.chain(sets) {
            assert_restricted(pod);
        }
    }
}

fn assert_restricted(pod: &PodSpec) {
    let context = pod.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in &pod.containers {
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
    }
}

#[test]
fn a_changed_secret_rolls_the_pods() {
    let versions = |cache: &ValidCache| {
        let deployment = &build(cache).deployments[0];
        deployment.spec.clone().unwrap().template.metadata.unwrap().annotations.unwrap()
            [crate::labels::SECRET_VERSIONS]
            .clone()
    };
    assert!(versions(&own()).contains("db=12"), "{}", versions(&own()));
}
