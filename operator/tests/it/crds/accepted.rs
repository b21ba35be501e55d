//! Manifests that the API server takes.

use serde_json::{Value, json};

use crate::api_server;

use super::{cache, create, embedded, own_s3, policy, retention, rule, with};

fn identity(identity: Value) -> Value {
    json!({"storage": {"s3": {"credentials": {"secretRef": null, "workloadIdentity": identity}}}})
}

/// Each is taken.
async fn accepted<const N: usize>(table: [(&str, Value); N]) {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    for (what, object) in table {
        create(&client, &namespace, &object).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test]
async fn accepted_manifests() {
    let forty = "a".repeat(40);
    let limits = json!({"storage": {"s3": {"requestsPerSecond": 200, "maxConcurrency": 20}},
        "server": {"limits": {"callsPerSecond": 0, "callsBurst": 1, "callTimeout": "1h", "openUploads": 0,
            "openUploadsPerIdentity": 0, "objectsPerUpload": 10_000_000, "pathsPerSign": 1, "closureBodySize": "1Gi"},
            "uploads": {"boundAddresses": "Enabled", "maxNarSize": "5Ti"}}});
    accepted([
        ("the smallest", cache("main", embedded())),
        ("a long name", cache(&forty, embedded())),
        ("own S3", cache("main", own_s3())),
        ("limits", cache("main", with(&own_s3(), &limits))),
        ("an URL", cache("main", with(&embedded(), &json!({"url": "https://cache.example.org"})))),
        (
            "a key generated under a name",
            cache("main", with(&embedded(), &json!({"signing": {"keys": [{"name": "example-1"}]}}))),
        ),
        (
            "a rotation",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"signing": {"keys": [{"name": "a", "stage": "Retire"}, {"name": "b"}],
                        "rotation": {"publishBeforeSign": "0s", "overlap": "1h", "promotion": "Manual",
                            "resign": "None", "resignPerSecond": 0, "resignConcurrency": 1000}}}),
                ),
            ),
        ),
        (
            "any ServiceAccount",
            cache(
                "main",
                with(&embedded(), &rule(json!({"serviceAccounts": [{"namespace": "*", "name": "*"}]}))),
            ),
        ),
        (
            "numbers as quantities",
            cache("main", with(&embedded(), &json!({"server": {"resources": {"limits": {"cpu": 2}}}}))),
        ),
        ("null where nothing is meant", cache("main", with(&embedded(), &json!({})))),
        (
            "a pod's surroundings",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {
                        "imagePullSecrets": [{"name": "registry"}],
                        "scheduling": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
                            "affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": [],
                            "priorityClassName": "high"},
                        "service": {"type": "LoadBalancer", "loadBalancerClass": "example.org/lb"},
                        "podDisruptionBudget": {"maxUnavailable": "25%"}
                    }}),
                ),
            ),
        ),
        (
            "a cluster of CloudNativePG",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"database": {"embedded": null, "cloudNativePG": {"clusterName": "db"}}}),
                ),
            ),
        ),
        (
            "ways in, scaling, network",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {
                        "ingress": {"host": "cache.example.org"},
                        "httpRoute": {"hostnames": ["cache"], "parentRefs": [{"name": "a", "port": 443}]},
                        "autoscaling": {"maxReplicas": 4},
                        "networkPolicy": {"mode": "Enabled", "ingressFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
                            "extraEgress": [{}]}
                    }}),
                ),
            ),
        ),
        ("a cache at rest", cache("main", with(&embedded(), &json!({"suspend": "Server"})))),
        ("hands off", cache("main", with(&embedded(), &json!({"suspend": "Reconcile"})))),
    ])
    .await;
}

#[tokio::test]
async fn accepted_policies() {
    accepted([
        ("a policy", policy(retention())),
        (
            "a policy without grace",
            policy(with(&retention(), &json!({"retention": {"deletionGrace": "0s"}}))),
        ),
        (
            "a policy of all caches",
            policy(with(&retention(), &json!({"cacheRef": null, "cacheSelector": {}, "schedule": "H H * * *"}))),
        ),
        (
            "a policy of some caches",
            policy(with(
                &retention(),
                &json!({"cacheRef": null, "cacheSelector": {"matchLabels": {"tier": "scratch"}, "matchExpressions": [
                    {"key": "team", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}),
            )),
        ),
        (
            "a policy that compares and repairs",
            policy(with(
                &retention(),
                &json!({"fsck": {"schedule": "0 5 * * 0", "mode": "Repair", "deep": true}}),
            )),
        ),
    ])
    .await;
}

#[tokio::test]
async fn accepted_ways_to_storage_and_readers() {
    accepted([
        (
            "an identity that the cloud knows",
            cache(
                "main",
                with(
                    &own_s3(),
                    &identity(json!({"serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "a"}})),
                ),
            ),
        ),
        (
            "a key of KMS",
            cache(
                "main",
                with(
                    &own_s3(),
                    &json!({"storage": {"s3": {"serverSideEncryption": {"type": "KMS",
                        "kmsKeyId": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}}}}),
                ),
            ),
        ),
        (
            "keys that end",
            cache(
                "main",
                with(
                    &own_s3(),
                    &json!({"storage": {"s3": {"credentials": {"secretRef": {"sessionTokenKey": "AWS_SESSION_TOKEN"}}}}}),
                ),
            ),
        ),
        (
            "a ServiceAccount of one's own",
            cache("main", with(&own_s3(), &identity(json!({"serviceAccountName": "robot"})))),
        ),
        ("an identity by the cache's name", cache("main", with(&own_s3(), &identity(json!({}))))),
        (
            "private reads, redirected, verified uploads",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"auth": {"read": "Authenticated"}, "cacheInfo": {"wantMassQuery": false, "storeDir": "/gnu/store"},
                        "database": {"pool": {"maxConnections": 20, "minIdle": 20, "acquireTimeout": "10m"}},
                        "server": {"readProxy": {"mode": "Redirect"}, "uploads": {"presignExpiry": "12h", "verify": "Hash"}}}),
                ),
            ),
        ),
        (
            "a database part by part",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"database": {"embedded": null, "schema": "pgsql_main", "migrations": "Manual", "ca": {"configMapKeyRef": {"name": "ca"}},
                        "connection": {"host": "::1", "database": "nix", "userSecretRef": {"name": "db"}, "sslMode": "VerifyCA"}}}),
                ),
            ),
        ),
        ("a CA of S3", cache("main", with(&own_s3(), &json!({"storage": {"s3": {"ca": {"secretKeyRef": {"name": "a"}}}}})))),
        (
            "identities from outside, and TLS",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {"tls": {"secretName": "a"}}, "auth": {
                        "oidc": [{"name": "github", "issuer": "https://token.actions.githubusercontent.com", "jwksURL": "https://keys.example.org:8443/a",
                            "audience": "https://cache.example.org", "rules": [{"name": "main",
                                "subjects": ["repo:example/*:ref:refs/heads/main"],
                                "claims": [{"pointer": "/kubernetes.io/a~1b", "anyOf": ["1*"]}], "permissions": ["Push"]},
                            {"name": "boss", "subjects": ["boss"], "permissions": ["Admin"]}]}],
                        "clientCertificates": {"ca": {"secretKeyRef": {"name": "ca"}}, "rules": [
                            {"name": "boss", "subjects": ["CN=boss"], "permissions": ["Admin"]}]}}}),
                ),
            ),
        ),
        (
            "revocation lists",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {"tls": {"secretName": "a"}}, "auth": {"clientCertificates": {
                        "ca": {"secretKeyRef": {"name": "ca"}}, "crl": {"secretKeyRef": {"name": "ca"}}}}}),
                ),
            ),
        ),
        (
            "a proxy that verifies certificates",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"auth": {"clientCertificates": {"proxy": {"addresses": ["10.0.0.1", "10.1.0.0/16", "fd00::/8"]},
                        "rules": [{"name": "boss", "subjects": ["CN=boss"], "permissions": ["Admin"]}]}}}),
                ),
            ),
        ),
        (
            "an issuer of cert-manager",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {"tls": {"certManager": {"issuerRef": {"name": "a", "kind": "ClusterIssuer"}}}}}),
                ),
            ),
        ),
        (
            "whatever a pod template says",
            cache(
                "main",
                with(
                    &embedded(),
                    &json!({"server": {"podTemplate": {"spec": {"containers": [{"name": "a"}]}}}}),
                ),
            ),
        ),
    ])
    .await;
}

#[tokio::test]
async fn accepted_intervals() {
    let again = |patch: Value| cache("main", with(&embedded(), &json!({"signing": {"rotation": patch}})));
    accepted([
        ("keys that follow one another by themselves", again(json!({"interval": "888h"}))),
        ("at once", again(json!({"interval": "1h", "publishBeforeSign": "0s", "overlap": "1h"}))),
    ])
    .await;
}
