//! The CRDs: the committed files are the generated ones, and the API server takes and refuses what it should.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec,
};
use kube::api::{Api, DynamicObject, GroupVersionKind, PostParams};
use kube::core::ApiResource;
use kube::{Client, CustomResourceExt as _};
use niks3_operator::crd::{self, BinaryCache, GCPolicy};
use serde_json::{Value, json};

use crate::api_server;

#[test]
fn committed_crds_are_the_generated_ones() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for definition in crd::all() {
        let (name, text) = crd::file(&definition);
        for folder in ["crds", "charts/niks3-operator/files/crds"] {
            let path = format!("{root}/{folder}/{name}");
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == text, "{path} is out of date; run: niks3-operator crd --write {folder}");
        }
    }
}

#[test]
fn names_are_for_ever() {
    let names = |definition: CustomResourceDefinition| {
        let CustomResourceDefinitionSpec { group, names, versions, .. } = definition.spec;
        let short = names.short_names.unwrap_or_default().join(",");
        let categories = names.categories.unwrap_or_default().join(",");
        [group, names.plural, short, categories, versions[0].name.clone()]
    };
    assert_eq!(names(BinaryCache::crd()), ["niks3.dev", "binarycaches", "bcache", "nix", "v1alpha1"]);
    assert_eq!(names(GCPolicy::crd()), ["niks3.dev", "gcpolicies", "gcpol", "nix", "v1alpha1"]);
    assert_eq!(crd::GROUP, "niks3.dev");
}

fn cache(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "BinaryCache", "metadata": {"name": name}, "spec": spec})
}

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "niks3.dev/v1alpha1", "kind": "GCPolicy", "metadata": {"name": "nightly"}, "spec": spec})
}

/// `base` with what `patch` says, as a JSON merge patch would have it.
fn with(base: &Value, patch: &Value) -> Value {
    let mut merged = base.clone();
    merge(&mut merged, patch);
    merged
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn embedded() -> Value {
    json!({"storage": {"embedded": {}}, "database": {"embedded": {}}})
}

fn own_s3() -> Value {
    json!({
        "storage": {"s3": {"bucket": "nix-cache", "endpoint": "http://minio.minio.svc:9000",
            "credentials": {"secretRef": {"name": "minio"}}}},
        "database": {"urlSecretRef": {"name": "nix-db"}}
    })
}

fn retention() -> Value {
    json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}})
}

fn rule(rule: Value) -> Value {
    json!({"auth": {"kubernetes": {"rules": [with(
        &json!({"name": "ci", "serviceAccounts": [{"namespace": "ci", "name": "builder"}], "permissions": ["Push"]}), &rule)]}}})
}

fn api(client: &Client, namespace: &str, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let plural = if kind == "BinaryCache" { "binarycaches" } else { "gcpolicies" };
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(crd::GROUP, "v1alpha1", kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Asks the API server, which keeps nothing.
async fn create(client: &Client, namespace: &str, object: &Value) -> Result<DynamicObject, String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let parsed = serde_json::from_value(object.clone()).unwrap();
    api(client, namespace, object).create(&dry_run, &parsed).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn accepted_manifests() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let forty = "a".repeat(40);
    for (what, object) in [
        ("the smallest", cache("main", embedded())),
        ("a long name", cache(&forty, embedded())),
        ("own S3", cache("main", own_s3())),
        ("an URL", cache("main", with(&embedded(), &json!({"url": "https://cache.example.org"})))),
        (
            "a key generated under a name",
            cache("main", with(&embedded(), &json!({"signing": {"keys": [{"name": "example-1"}]}}))),
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
        ("a policy", policy(retention())),
        (
            "a policy without grace",
            policy(with(&retention(), &json!({"retention": {"deletionGrace": "0s"}}))),
        ),
    ] {
        create(&client, &namespace, &object).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test]
async fn defaults_are_visible() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let stored = create(&client, &namespace, &cache("main", embedded())).await.unwrap();
    insta::assert_yaml_snapshot!("defaults_of_a_cache", stored.data["spec"]);
    let stored = create(&client, &namespace, &policy(retention())).await.unwrap();
    insta::assert_yaml_snapshot!("defaults_of_a_policy", stored.data["spec"]);
}

#[tokio::test]
async fn refused_manifests() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let long = "a".repeat(41);
    let e = |patch: Value| cache("main", with(&embedded(), &patch));
    let s = |patch: Value| cache("main", with(&own_s3(), &json!({"storage": {"s3": patch}})));
    let p = |patch: Value| policy(with(&retention(), &patch));
    for (object, message) in [
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
            "database: set exactly one of urlSecretRef and embedded",
        ),
        (
            e(json!({"database": {"urlSecretRef": {"name": "db"}}})),
            "database: set exactly one of urlSecretRef and embedded",
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
        (s(json!({"credentials": {"secretRef": null}})), "credentials: set secretRef"),
        (e(json!({"signing": {"keys": [{"name": "a"}, {"name": "b"}]}})), "spec.signing.keys: Too many"),
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
        (e(json!({"server": {"replicas": 0}})), "spec.server.replicas"),
        (
            e(json!({"server": {"readProxy": {"mode": "Redirect"}}})),
            "spec.server.readProxy.mode: Unsupported value",
        ),
        (
            e(json!({"deletionPolicy": {"signingKeys": "Keep"}})),
            "spec.deletionPolicy.signingKeys: Unsupported value",
        ),
        (p(json!({"cacheRef": null})), "cacheRef: set the cache to collect"),
        (p(json!({"schedule": "TZ=Europe/Berlin 17 3 * * *"})), "schedule: has no time zone; use timeZone"),
        (p(json!({"retention": {"olderThan": null}})), "retention.olderThan: set it"),
        (p(json!({"retention": {"olderThan": "59m"}})), "retention.olderThan: at least 1h"),
        (p(json!({"retention": {"olderThan": "30d"}})), "spec.retention.olderThan"),
        (
            p(json!({"retention": {"failedUploadsOlderThan": "30m"}})),
            "retention.failedUploadsOlderThan: at least 1h",
        ),
        (p(json!({"retention": {"deletionGrace": "soon"}})), "spec.retention.deletionGrace"),
        (p(json!({"failedJobsHistoryLimit": 101})), "spec.failedJobsHistoryLimit"),
    ] {
        let answer = create(&client, &namespace, &object).await;
        let error = answer.expect_err(&format!("{message} should be why this is refused: {object}"));
        assert!(error.contains(message), "wanted {message:?}, got {error}");
    }
}

#[tokio::test]
async fn refused_changes() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let own_key =
        json!({"signing": {"keys": [{"name": "a", "secretKeyRef": {"name": "k", "key": "secret"}}]}});
    for (index, (before, after, message)) in [
        (own_s3(), json!({"storage": {"s3": {"bucket": "other"}}}), "bucket and prefix cannot be changed"),
        (own_s3(), json!({"storage": {"s3": {"prefix": "a/"}}}), "bucket and prefix cannot be changed"),
        (
            own_s3(),
            json!({"storage": {"s3": null, "embedded": {}}}),
            "a cache on s3 cannot move back to embedded",
        ),
        (
            embedded(),
            json!({"storage": {"embedded": {"size": "20Gi"}}}),
            "size and storageClassName of a volume cannot be changed",
        ),
        (
            embedded(),
            json!({"database": {"embedded": {"storageClassName": "fast"}}}),
            "size and storageClassName of a volume cannot be changed",
        ),
        (
            embedded(),
            json!({"signing": {"keys": [{"name": "a"}]}}),
            "keys cannot be added, removed or renamed",
        ),
        (
            with(&embedded(), &own_key),
            json!({"signing": {"keys": []}}),
            "keys cannot be added, removed or renamed",
        ),
        (
            with(&embedded(), &own_key),
            json!({"signing": {"keys": [{"name": "a"}]}}),
            "where a key comes from cannot be changed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let object = cache(&format!("change-{index}"), before.clone());
        let api = api(&client, &namespace, &object);
        let stored = api
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap_or_else(|error| panic!("{before}: {error}"));
        let mut changed = stored.clone();
        changed.data["spec"] = with(&changed.data["spec"], &after);
        let answer =
            api.replace(stored.metadata.name.as_deref().unwrap(), &PostParams::default(), &changed).await;
        let error = answer.expect_err(message).to_string();
        assert!(error.contains(message), "wanted {message:?}, got {error}");
    }
}

#[tokio::test]
async fn a_cache_may_move_from_embedded_to_s3() {
    let client = api_server::client().await;
    let namespace = api_server::namespace(&client).await;
    let object = cache("main", embedded());
    let api = api(&client, &namespace, &object);
    let mut stored =
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    stored.data["spec"]["storage"] = own_s3()["storage"].clone();
    api.replace("main", &PostParams::default(), &stored).await.unwrap();
}
