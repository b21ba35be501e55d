//! Manifests that the API server refuses, and what it says.

use serde_json::{Value, json};

use crate::api_server;

use super::{cache, create, embedded, own_s3, rule, with};

/// A cache on embedded servers, changed.
fn e(patch: Value) -> Value {
    cache("main", with(&embedded(), &patch))
}

/// Each is refused, for the reason beside it.
pub(super) async fn refused<const N: usize>(table: [(Value, &str); N]) {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    for (object, message) in table {
        let answer = create(&client, &namespace, &object).await;
        let error = answer.expect_err(&format!("{message} should be why this is refused: {object}"));
        assert!(error.contains(message), "wanted {message:?}, got {error}");
    }
}

#[tokio::test]
async fn refused_caches() {
    let long = "a".repeat(41);
    let s = |patch: Value| cache("main", with(&own_s3(), &json!({"storage": {"s3": patch}})));
    refused([
        (cache(&long, embedded()), "metadata.name: at most 40 characters"),
        (cache("1st", embedded()), "metadata.name: at most 40 characters"),
        (cache("main-gc", embedded()), "metadata.name: must not end in -s3, -postgres or -gc"),
        (e(json!({"url": "cache.example.org"})), "spec.url: Invalid value"),
        (e(json!({"url": "ftp://cache.example.org"})), "url: must begin with http:// or https://"),
        (e(json!({"url": "https://cache.example.org/"})), "must not end in /"),
        (e(json!({"cacheInfo": {"priority": -1}})), "spec.cacheInfo.priority"),
        (e(json!({"storage": {"embedded": null}})), "storage: set exactly one of s3 and embedded"),
        (e(json!({"storage": own_s3()["storage"]})), "storage: set exactly one of s3 and embedded"),
        (e(json!({"storage": null})), "spec.storage: Required value"),
        (e(json!({"storage": {"embedded": {"size": "-1Gi"}}})), "spec.storage.embedded.size"),
        (
            e(json!({"database": {"embedded": null}})),
            "database: set exactly one of urlSecretRef, connection, cloudNativePG and embedded",
        ),
        (
            e(json!({"database": {"urlSecretRef": {"name": "db"}}})),
            "database: set exactly one of urlSecretRef, connection, cloudNativePG and embedded",
        ),
        (s(json!({"bucket": "No_Bucket"})), "spec.storage.s3.bucket"),
        (s(json!({"prefix": "/a"})), "spec.storage.s3.prefix"),
        (s(json!({"endpoint": "minio:9000"})), "endpoint: must be http://host[:port]"),
        (s(json!({"endpoint": "http://minio:9000/bucket"})), "endpoint: must be http://host[:port]"),
        (
            s(json!({"publicEndpoint": "http://minio:9000/bucket"})),
            "publicEndpoint: must be http://host[:port]",
        ),
        (s(json!({"addressingStyle": "path"})), "spec.storage.s3.addressingStyle: Unsupported value"),
        (s(json!({"credentials": {"secretRef": null}})), "credentials: set exactly one of secretRef and workloadIdentity"),
        (
            s(json!({"credentials": {"workloadIdentity": {}}})),
            "credentials: set exactly one of secretRef and workloadIdentity",
        ),
        (
            s(json!({"credentials": {"secretRef": null, "workloadIdentity": {"serviceAccountName": "a",
                "serviceAccountAnnotations": {"a": "b"}}}})),
            "workloadIdentity: set serviceAccountName or serviceAccountAnnotations",
        ),
        (e(json!({"cacheInfo": {"storeDir": "nix/store"}})), "spec.cacheInfo.storeDir"),
        (e(json!({"cacheInfo": {"storeDir": "/nix/store/"}})), "spec.cacheInfo.storeDir"),
        (e(json!({"database": {"pool": {"maxConnections": 1}}})), "spec.database.pool.maxConnections"),
        (e(json!({"auth": {"read": "Authenticated"}})), "auth.read: Authenticated needs server.readProxy.mode"),
        (e(json!({"auth": {"read": "Token"}})), "spec.auth.read: Unsupported value"),
        (
            e(json!({"signing": {"keys": (0..9).map(|n| json!({"name": format!("a-{n}")})).collect::<Vec<_>>()}})),
            "spec.signing.keys: Too many",
        ),
        (e(json!({"signing": {"keys": [{"name": "a", "stage": "Retire"}]}})), "one key must be Auto or Sign"),
        (e(json!({"signing": {"keys": [{"name": "a", "stage": "Signs"}]}})), "keys[0].stage: Unsupported value"),
        (e(json!({"signing": {"rotation": {"overlap": "59m"}}})), "rotation: publishBeforeSign must be a duration"),
        (e(json!({"signing": {"rotation": {"promotion": "Never"}}})), "rotation.promotion: Unsupported value"),
        (e(json!({"signing": {"keys": [{"name": "a:b"}]}})), "spec.signing.keys[0].name"),
        (
            e(rule(json!({"serviceAccounts": [{"namespace": "ci-*", "name": "builder"}]}))),
            "serviceAccounts: * stands only for a whole name",
        ),
        (
            e(rule(json!({"serviceAccounts": [{"namespace": "*", "name": "a"}], "permissions": ["Admin"]}))),
            "permissions: Admin cannot be given to *",
        ),
        (e(rule(json!({"serviceAccounts": []}))), "rules[0].serviceAccounts"),
        (e(rule(json!({"permissions": ["Everything"]}))), "rules[0].permissions[0]: Unsupported value"),
        (e(rule(json!({"permissions": ["Push", "Push"]}))), "Duplicate value"),
        (
            e(json!({"database": {"cloudNativePG": {"clusterName": "db"}}})),
            "database: set exactly one of urlSecretRef, connection, cloudNativePG and embedded",
        ),
        (
            e(json!({"database": {"embedded": null, "cloudNativePG": {}}})),
            "spec.database.cloudNativePG.clusterName: Required value",
        ),
        (
            e(json!({"server": {"readProxy": {"mode": "Cdn"}}})),
            "spec.server.readProxy.mode: Unsupported value",
        ),
        (e(json!({"suspend": "All"})), "spec.suspend: Unsupported value"),
        (
            e(json!({"deletionPolicy": {"signingKeys": "Keep"}})),
            "spec.deletionPolicy.signingKeys: Unsupported value",
        ),
    ])
    .await;
}

#[tokio::test]
async fn refused_databases_and_cas() {
    let connection = json!({"host": "db", "database": "nix", "userSecretRef": {"name": "db"}});
    let own = json!({"database": {"embedded": null, "connection": connection}});
    let d = |patch: Value| e(with(&own, &json!({"database": patch})));
    let s = |patch: Value| cache("main", with(&own_s3(), &json!({"storage": {"s3": patch}})));
    let map = json!({"configMapKeyRef": {"name": "ca"}});
    refused([
        (d(json!({"embedded": {}})), "database: set exactly one of urlSecretRef, connection, cloudNativePG"),
        (d(json!({"connection": {"host": "a b"}})), "spec.database.connection.host"),
        (d(json!({"connection": {"port": 0}})), "spec.database.connection.port"),
        (d(json!({"connection": {"database": "a password=b"}})), "spec.database.connection.database"),
        (d(json!({"connection": {"userSecretRef": null}})), "connection.userSecretRef: Required value"),
        (d(json!({"connection": {"sslMode": "Prefer"}})), "connection.sslMode: Unsupported value"),
        (
            d(json!({"ca": map, "connection": {"sslMode": "Disable"}})),
            "database.ca: only for a database of your own",
        ),
        (e(json!({"database": {"ca": map}})), "database.ca: only for a database of your own"),
        (d(json!({"schema": "Main"})), "spec.database.schema"),
        (d(json!({"schema": "pg_catalog"})), "spec.database.schema"),
        (d(json!({"schema": "1st"})), "spec.database.schema"),
        (s(json!({"ca": {}})), "ca: set exactly one of configMapKeyRef and secretKeyRef"),
        (
            s(json!({"ca": {"configMapKeyRef": {"name": "a"}, "secretKeyRef": {"name": "a"}}})),
            "ca: set exactly one of configMapKeyRef and secretKeyRef",
        ),
        (e(json!({"server": {"readProxy": {"redirectTTL": "59s"}}})), "redirectTTL: from 1m to 168h"),
        (e(json!({"server": {"readProxy": {"redirectTTL": "169h"}}})), "redirectTTL: from 1m to 168h"),
    ])
    .await;
}

#[tokio::test]
async fn refused_servers() {
    refused([
        (e(json!({"server": {"replicas": 0}})), "spec.server.replicas"),
        (e(json!({"server": {"uploads": {"presignExpiry": "4m"}}})), "presignExpiry: from 5m to 12h"),
        (e(json!({"server": {"uploads": {"presignExpiry": "13h"}}})), "presignExpiry: from 5m to 12h"),
        (e(json!({"server": {"uploads": {"presignExpiry": "1d"}}})), "spec.server.uploads.presignExpiry"),
        (
            e(json!({"server": {"uploads": {"verify": "Size"}}})),
            "spec.server.uploads.verify: Unsupported value",
        ),
        (e(json!({"server": {"podTemplate": "a"}})), "spec.server.podTemplate"),
        (e(json!({"server": {"imagePullSecrets": [{}]}})), "imagePullSecrets[0].name: Required value"),
        (
            e(json!({"server": {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}})),
            "imagePullSecrets[1]: Duplicate value",
        ),
        (
            e(json!({"server": {"service": {"type": "ExternalName"}}})),
            "spec.server.service.type: Unsupported value",
        ),
        (
            e(json!({"server": {"service": {"loadBalancerClass": "example.org/lb"}}})),
            "loadBalancerClass: only with type: LoadBalancer",
        ),
        (
            e(json!({"server": {"podDisruptionBudget": {"maxUnavailable": 0}}})),
            "maxUnavailable: a number of pods from 1",
        ),
        (
            e(json!({"server": {"podDisruptionBudget": {"maxUnavailable": "0%"}}})),
            "maxUnavailable: a number of pods from 1",
        ),
        (
            e(json!({"server": {"podDisruptionBudget": {"mode": "Always"}}})),
            "spec.server.podDisruptionBudget.mode: Unsupported value",
        ),
        (
            e(json!({"server": {"scheduling": {"topologySpreadConstraints": [{"maxSkew": 1}]}}})),
            "topologySpreadConstraints[0].topologyKey: Required value",
        ),
    ])
    .await;
}

#[tokio::test]
async fn refused_identities_and_certificates() {
    let rule = |rule: Value| {
        let all = with(&json!({"name": "a", "subjects": ["a"], "permissions": ["Push"]}), &rule);
        let issuer = json!({"name": "a", "issuer": "https://a.example.org", "audience": "a", "rules": [all]});
        e(json!({"auth": {"oidc": [issuer]}}))
    };
    let issuer =
        |issuer: &str| e(json!({"auth": {"oidc": [{"name": "a", "issuer": issuer, "audience": "a"}]}}));
    let clients = |clients: Value| json!({"auth": {"clientCertificates": clients}, "server": {"tls": {"secretName": "a"}}});
    let ca = json!({"configMapKeyRef": {"name": "ca"}});
    let certificate = |rule: Value| e(clients(json!({"ca": ca, "rules": [rule]})));
    let issued = |patch: Value| {
        e(json!({"server": {"tls": {"certManager": with(&json!({"issuerRef": {"name": "a"}}), &patch)}}}))
    };
    refused([
        (issuer("http://a.example.org"), "issuer: must be an https:// address"),
        (issuer("a.example.org"), "issuer: must be an https:// address"),
        (rule(json!({"subjects": []})), "a rule needs subjects or claims"),
        (rule(json!({"claims": [{"pointer": "ref", "anyOf": ["a"]}]})), "claims[0].pointer"),
        (rule(json!({"claims": [{"pointer": "/a~2", "anyOf": ["a"]}]})), "claims[0].pointer"),
        (rule(json!({"claims": [{"pointer": "/a", "anyOf": []}]})), "claims[0].anyOf"),
        (rule(json!({"permissions": []})), "rules[0].permissions"),
        (
            rule(json!({"permissions": ["Admin"], "subjects": ["a*"]})),
            "permissions: Admin cannot be given to globs",
        ),
        (
            rule(json!({"permissions": ["Admin"], "claims": [{"pointer": "/a", "anyOf": ["a", "*"]}]})),
            "permissions: Admin cannot be given to globs",
        ),
        (e(json!({"auth": {"clientCertificates": {"ca": ca}}})), "clientCertificates: ca needs server.tls"),
        (e(clients(json!({}))), "clientCertificates: set exactly one of ca and proxy"),
        (e(clients(json!({"ca": {}}))), "ca: set exactly one of configMapKeyRef and secretKeyRef"),
        (certificate(json!({"name": "a", "subjects": [], "permissions": ["Push"]})), "rules[0].subjects"),
        (
            certificate(json!({"name": "a", "subjects": ["CN=*"], "permissions": ["Admin"]})),
            "permissions: Admin cannot be given to globs",
        ),
        (e(json!({"server": {"tls": {}}})), "tls: set exactly one of secretName and certManager"),
        (issued(json!({"duration": "59m"})), "duration: at least 1h"),
        (issued(json!({"issuerRef": {"name": ""}})), "certManager.issuerRef.name"),
    ])
    .await;
}

#[tokio::test]
async fn refused_surroundings() {
    refused([
        (
            e(json!({"server": {"ingress": {"host": "https://a.example.org"}}})),
            "spec.server.ingress.host: Invalid value",
        ),
        (e(json!({"server": {"ingress": {}}})), "spec.server.ingress.host: Required value"),
        (
            e(json!({"server": {"httpRoute": {"parentRefs": [], "hostnames": ["a"]}}})),
            "spec.server.httpRoute.parentRefs",
        ),
        (
            e(json!({"server": {"httpRoute": {"parentRefs": [{"name": "a"}], "hostnames": []}}})),
            "spec.server.httpRoute.hostnames",
        ),
        (
            e(json!({"server": {"httpRoute": {"parentRefs": [{"name": "a"}], "hostnames": ["*.a"]}}})),
            "spec.server.httpRoute.hostnames[0]: Invalid value",
        ),
        (e(json!({"server": {"autoscaling": {}}})), "spec.server.autoscaling.maxReplicas: Required value"),
        (
            e(json!({"server": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}})),
            "autoscaling: minReplicas must not be more than maxReplicas",
        ),
        (
            e(json!({"server": {"autoscaling": {"maxReplicas": 2}, "resources": {"limits": {"memory": "1Gi"}}}})),
            "autoscaling: needs resources.requests.cpu",
        ),
        (
            e(json!({"server": {"networkPolicy": {"mode": "On"}}})),
            "spec.server.networkPolicy.mode: Unsupported value",
        ),
    ])
    .await;
}
