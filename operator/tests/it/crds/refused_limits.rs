//! Limits, and ways of proving who one is, that the API server refuses, and what it says.

use serde_json::{Value, json};

use super::refused::refused;
use super::{cache, embedded, own_s3, with};

#[tokio::test]
async fn refused_limits() {
    let s3 = |patch: Value| cache("main", with(&own_s3(), &json!({"storage": {"s3": patch}})));
    let calls = |patch: Value| cache("main", with(&embedded(), &json!({"server": {"limits": patch}})));
    let nars =
        |size: &str| cache("main", with(&embedded(), &json!({"server": {"uploads": {"maxNarSize": size}}})));
    let pool = |patch: Value| cache("main", with(&embedded(), &json!({"database": {"pool": patch}})));
    let again = |patch: Value| cache("main", with(&embedded(), &json!({"signing": {"rotation": patch}})));
    refused([
        (again(json!({"resign": "Later"})), "rotation.resign: Unsupported value"),
        (again(json!({"interval": "887h"})), "interval: at least publishBeforeSign and overlap together"),
        (again(json!({"interval": "2160h", "overlap": "2160h"})), "publishBeforeSign and overlap together"),
        (again(json!({"interval": "often"})), "spec.signing.rotation.interval"),
        (again(json!({"interval": "2160h", "promotion": "Manual"})), "needs promotion Automatic and resign"),
        (again(json!({"interval": "2160h", "resign": "None"})), "needs promotion Automatic and resign"),
        (again(json!({"resignPerSecond": -1})), "spec.signing.rotation.resignPerSecond"),
        (again(json!({"resignConcurrency": 0})), "spec.signing.rotation.resignConcurrency"),
        (pool(json!({"minIdle": -1})), "spec.database.pool.minIdle"),
        (pool(json!({"minIdle": 11})), "pool.minIdle: must not be more than maxConnections"),
        (pool(json!({"acquireTimeout": "999ms"})), "pool.acquireTimeout: from 1s to 10m"),
        (pool(json!({"acquireTimeout": "11m"})), "pool.acquireTimeout: from 1s to 10m"),
        (
            s3(json!({"serverSideEncryption": {"type": "KMS"}})),
            "serverSideEncryption: kmsKeyId goes with type: KMS",
        ),
        (
            s3(json!({"serverSideEncryption": {"type": "AES256", "kmsKeyId": "a"}})),
            "serverSideEncryption: kmsKeyId goes with type: KMS",
        ),
        (
            s3(json!({"serverSideEncryption": {"type": "aws:kms"}})),
            "serverSideEncryption.type: Unsupported value",
        ),
        (
            s3(json!({"serverSideEncryption": {"type": "KMS", "kmsKeyId": "a b"}})),
            "serverSideEncryption.kmsKeyId",
        ),
        (s3(json!({"requestsPerSecond": 0})), "spec.storage.s3.requestsPerSecond"),
        (s3(json!({"requestsPerSecond": 100_001})), "spec.storage.s3.requestsPerSecond"),
        (s3(json!({"maxConcurrency": 0})), "spec.storage.s3.maxConcurrency"),
        (s3(json!({"maxConcurrency": 10_001})), "spec.storage.s3.maxConcurrency"),
        (calls(json!({"callsPerSecond": -1})), "spec.server.limits.callsPerSecond"),
        (calls(json!({"callsBurst": 0})), "spec.server.limits.callsBurst"),
        (calls(json!({"callTimeout": "0s"})), "callTimeout: from 1s to 1h"),
        (calls(json!({"callTimeout": "61m"})), "callTimeout: from 1s to 1h"),
        (calls(json!({"openUploads": -1})), "spec.server.limits.openUploads"),
        (calls(json!({"openUploadsPerIdentity": -1})), "spec.server.limits.openUploadsPerIdentity"),
        (calls(json!({"objectsPerUpload": 0})), "spec.server.limits.objectsPerUpload"),
        (calls(json!({"pathsPerSign": 0})), "spec.server.limits.pathsPerSign"),
        (calls(json!({"closureBodySize": "1023Ki"})), "closureBodySize: from 1Mi to 1Gi"),
        (calls(json!({"closureBodySize": "2Gi"})), "closureBodySize: from 1Mi to 1Gi"),
        (nars("1023Ki"), "maxNarSize: from 1Mi to 5Ti"),
        (nars("6Ti"), "maxNarSize: from 1Mi to 5Ti"),
        (nars("large"), "spec.server.uploads.maxNarSize"),
        (calls(json!({"closureBodySize": "much"})), "spec.server.limits.closureBodySize"),
    ])
    .await;
}

#[tokio::test]
async fn refused_places_of_keys_and_migrations() {
    let keys = |url: &str| {
        let issuer = json!({"name": "a", "issuer": "https://a.example.org", "audience": "a", "jwksURL": url});
        cache("main", with(&embedded(), &json!({"auth": {"oidc": [issuer]}})))
    };
    refused([
        (keys("http://a.example.org/keys"), "jwksURL: must be an https:// address"),
        (keys("a.example.org"), "jwksURL: must be an https:// address"),
        (keys(""), "spec.auth.oidc[0].jwksURL"),
        (
            cache("main", with(&embedded(), &json!({"database": {"migrations": "Later"}}))),
            "spec.database.migrations: Unsupported value",
        ),
    ])
    .await;
}

#[tokio::test]
async fn refused_certificates() {
    let clients = |clients: Value| {
        let patch = json!({"auth": {"clientCertificates": clients}, "server": {"tls": {"secretName": "a"}}});
        cache("main", with(&embedded(), &patch))
    };
    let map = json!({"configMapKeyRef": {"name": "a"}});
    let proxy = |patch: Value| clients(json!({"proxy": with(&json!({"addresses": ["10.0.0.1"]}), &patch)}));
    let both = json!({"ca": map, "proxy": {"addresses": ["10.0.0.1"]}});
    let bound = json!({"server": {"uploads": {"boundAddresses": "Always"}}});
    refused([
        (clients(both), "clientCertificates: set exactly one of ca and proxy"),
        (clients(json!({"ca": map, "crl": {}})), "crl: set exactly one of configMapKeyRef and secretKeyRef"),
        (
            clients(json!({"crl": map, "proxy": {"addresses": ["10.0.0.1"]}})),
            "clientCertificates.crl: needs ca; where a proxy verifies certificates, it has the lists",
        ),
        (proxy(json!({"addresses": []})), "clientCertificates.proxy.addresses"),
        (proxy(json!({"addresses": null})), "proxy.addresses: Required value"),
        (proxy(json!({"addresses": ["ingress.example.org"]})), "proxy.addresses: an IP address such as"),
        (
            proxy(json!({"addresses": ["10.0.0.1", "::/0"]})),
            "a network of all addresses would believe anybody",
        ),
        (proxy(json!({"subjectHeader": "a b"})), "clientCertificates.proxy.subjectHeader"),
        (cache("main", with(&embedded(), &bound)), "spec.server.uploads.boundAddresses: Unsupported value"),
    ])
    .await;
}
