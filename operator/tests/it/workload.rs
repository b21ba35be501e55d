//! What surrounds the server's pods: pull secrets, scheduling, the Service, budgets.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use niks3_operator::crd::BinaryCache;
use serde_json::{Value, json};

use crate::world::{World, condition, embedded};

fn with_server(server: Value) -> Value {
    let mut spec = embedded();
    spec["server"] = server;
    spec
}

async fn pod(world: &World) -> PodSpec {
    world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().template.spec.unwrap()
}

#[tokio::test]
async fn every_pod_pulls_with_the_secrets() {
    let world = World::new().await;
    world.cache("main", with_server(json!({"imagePullSecrets": [{"name": "registry"}]}))).await;
    let policy =
        json!({"cacheRef": {"name": "main"}, "schedule": "@daily", "retention": {"olderThan": "720h"}});
    world.policy("nightly", policy).await;
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    let set =
        async |name| world.api::<StatefulSet>().get(name).await.unwrap().spec.unwrap().template.spec.unwrap();
    let job = world.api::<CronJob>().get("main-gc").await.unwrap().spec.unwrap().job_template.spec.unwrap();
    for pod in
        [pod(&world).await, set("main-s3").await, set("main-postgres").await, job.template.spec.unwrap()]
    {
        assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
    }
}

#[tokio::test]
async fn a_pod_template_is_merged_at_the_end_unless_it_is_none() {
    let world = World::new().await;
    let variable = json!({"name": "server", "env": [{"name": "TZ", "value": "UTC"}]});
    let template = json!({"spec": {"containers": [variable, {"name": "side", "image": "side:1"}]}});
    world.cache("main", with_server(json!({"podTemplate": template}))).await;
    let status = world.reconcile_cache("main").await.status;
    assert!(condition(&status, "Accepted").starts_with("True/"));
    let containers = pod(&world).await.containers;
    let named: Vec<_> =
        containers.iter().map(|container| (&*container.name, container.image.as_deref())).collect();
    assert_eq!(named, [("server", Some("niks3:test")), ("side", Some("side:1"))]);
    let variables: Vec<_> = containers[0].env.iter().flatten().map(|env| &*env.name).collect();
    assert_eq!(variables, ["NIKS3_CONFIG", "TZ"]);

    let typo = json!({"spec": {"server": {"podTemplate": {"spec": {"container": []}}}}});
    world.patch::<BinaryCache>("main", typo).await;
    let status = world.reconcile_cache("main").await.status;
    let expected = "False/InvalidSpec: server.podTemplate: spec.container: a pod template has no such field";
    assert_eq!(condition(&status, "Accepted"), expected);
    assert_eq!(pod(&world).await.containers.len(), 2, "who runs goes on");

    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"podTemplate": null}}})).await;
    world.reconcile_cache("main").await;
    assert_eq!(pod(&world).await.containers.len(), 1);
}

#[tokio::test]
async fn a_service_account_of_ones_own_is_waited_for() {
    let world = World::new().await;
    world.secret("db", &[("uri", "postgres://db")]).await;
    let with = |identity: Value| {
        json!({"storage": {"s3": {"bucket": "identity", "credentials": {"workloadIdentity": identity}}},
            "database": {"urlSecretRef": {"name": "db"}}})
    };
    world.cache("main", with(json!({}))).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<ServiceAccount>().await, ["main"]);
    let own = json!({"spec": with(json!({"serviceAccountName": "robot"}))});
    world.patch::<BinaryCache>("main", own).await;
    let status = world.reconcile_cache("main").await.status;
    let expected = "False/ServiceAccountNotFound: ServiceAccount robot does not exist";
    assert_eq!(condition(&status, "ResolvedRefs"), expected);
    world.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}})).await;
    let status = world.reconcile_cache("main").await.status;
    assert!(condition(&status, "ResolvedRefs").starts_with("True/"));
    assert_eq!(world.names::<ServiceAccount>().await, ["robot"], "ours is no longer wanted");
    let pod = pod(&world).await;
    assert_eq!(pod.service_account_name.as_deref(), Some("robot"));
    let volumes = pod.volumes.unwrap();
    assert!(volumes.iter().all(|volume| volume.name != "s3"), "there is no access key to mount");
}

#[tokio::test]
async fn keys_that_end_make_no_new_pods() {
    let world = World::new().await;
    world.secret("db", &[("uri", "postgres://db")]).await;
    world.secret("s3", &[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]).await;
    let with = |credentials: Value| {
        json!({"storage": {"s3": {"bucket": "session", "credentials": {"secretRef": credentials}}},
            "database": {"urlSecretRef": {"name": "db"}}})
    };
    world.cache("main", with(json!({"name": "s3", "sessionTokenKey": "token"}))).await;
    let status = world.reconcile_cache("main").await.status;
    let expected = "False/SecretKeyMissing: Secret s3 has no key token";
    assert_eq!(condition(&status, "ResolvedRefs"), expected);
    let changed = |key: &str| json!({"stringData": {"AWS_ACCESS_KEY_ID": key, "token": key}});
    world.patch::<Secret>("s3", changed("a1")).await;
    let status = world.reconcile_cache("main").await.status;
    assert!(condition(&status, "ResolvedRefs").starts_with("True/"));
    let template = async || world.api::<Deployment>().get("main").await.unwrap().spec.unwrap().template;
    let before = template().await;
    let volumes = before.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let mounted = volumes.iter().find(|volume| volume.name == "s3").unwrap().secret.as_ref().unwrap();
    let files: Vec<_> = mounted.items.iter().flatten().map(|item| (&*item.key, &*item.path)).collect();
    let keys = [("AWS_ACCESS_KEY_ID", "access-key"), ("AWS_SECRET_ACCESS_KEY", "secret-key")];
    assert_eq!(files, [&keys[..], &[("token", "session-token")]].concat());
    let config = world.server_config("main").await.data.unwrap();
    assert!(config["config.json"].contains("\"session_token_file\": \"/var/run/niks3/s3/session-token\""));
    world.patch::<Secret>("s3", changed("a2")).await;
    world.reconcile_cache("main").await;
    assert_eq!(template().await, before, "the server reads its files again");

    // A key without an end does make new ones.
    world
        .patch::<BinaryCache>("main", json!({"spec": with(json!({"name": "s3", "sessionTokenKey": null}))}))
        .await;
    world.reconcile_cache("main").await;
    let before = template().await;
    world.patch::<Secret>("s3", changed("a3")).await;
    world.reconcile_cache("main").await;
    assert_ne!(template().await, before);
}

#[tokio::test]
async fn a_ca_is_waited_for_and_looked_at() {
    let world = World::new().await;
    world.secret("db", &[("username", "nix"), ("password", "secret")]).await;
    let mut spec = embedded();
    spec["database"] = json!({"ca": {"configMapKeyRef": {"name": "ca"}},
        "connection": {"host": "db.example.org", "database": "nix", "userSecretRef": {"name": "db"}}});
    world.cache("main", spec).await;
    let said = async || condition(world.reconcile_cache("main").await.status, "ResolvedRefs");
    assert_eq!(said().await, "False/ConfigMapNotFound: ConfigMap ca does not exist");
    world.create::<ConfigMap>(json!({"metadata": {"name": "ca"}, "data": {"other": "a"}})).await;
    assert_eq!(said().await, "False/ConfigMapNotFound: ConfigMap ca has no key ca.crt");
    world.patch::<ConfigMap>("ca", json!({"data": {"ca.crt": "a"}})).await;
    let expected = "False/InvalidCA: database.ca: ConfigMap ca, key ca.crt: it holds no certificate as PEM";
    assert_eq!(said().await, expected);
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    world.patch::<ConfigMap>("ca", json!({"data": {"ca.crt": pem}})).await;
    assert!(said().await.starts_with("True/"));
    let pod = pod(&world).await;
    let address = pod.containers[0].env.iter().flatten().find(|env| env.name == "NIKS3_DB").unwrap();
    let expected = "host=db.example.org port=5432 dbname=nix sslmode=verify-full user=$(NIKS3_DB_USER) \
                    password=$(NIKS3_DB_PASSWORD)";
    assert_eq!(address.value.as_deref(), Some(expected));
    let volumes = pod.volumes.unwrap();
    let mounted = volumes.iter().find(|volume| volume.name == "database-ca").unwrap();
    assert_eq!(mounted.config_map.as_ref().unwrap().name, "ca");
}

#[tokio::test]
async fn pods_run_where_the_spec_says() {
    let world = World::new().await;
    let hosts =
        json!({"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"});
    let scheduling = json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "cache", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}}, "topologySpreadConstraints": [hosts], "priorityClassName": "high"});
    world.cache("main", with_server(json!({"scheduling": scheduling}))).await;
    world.reconcile_cache("main").await;
    let found = pod(&world).await;
    assert_eq!(found.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(found.tolerations.unwrap()[0].key.as_deref(), Some("cache"));
    assert!(found.affinity.is_some_and(|affinity| affinity.pod_anti_affinity.is_some()));
    assert_eq!(found.priority_class_name.as_deref(), Some("high"));
    let spread = found.topology_spread_constraints.unwrap();
    let selected = spread[0].label_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!((spread.len(), &*selected["app.kubernetes.io/component"]), (1, "server"));
    let none =
        json!({"spec": {"server": {"scheduling": {"topologySpreadConstraints": [], "affinity": null}}}});
    world.patch::<BinaryCache>("main", none).await;
    world.reconcile_cache("main").await;
    let found = pod(&world).await;
    assert_eq!((found.topology_spread_constraints, found.affinity), (None, None));
}

#[tokio::test]
async fn the_service_is_as_wanted_and_put_right_when_its_annotations_are_edited() {
    let world = World::new().await;
    let service = json!({"type": "NodePort", "annotations": {"example.org/pool": "a"}});
    world.cache("main", with_server(json!({"service": service}))).await;
    world.reconcile_cache("main").await;
    let read = async || world.api::<Service>().get("main").await.unwrap();
    assert_eq!(read().await.spec.unwrap().type_.as_deref(), Some("NodePort"));
    world
        .patch::<Service>(
            "main",
            json!({"metadata": {"annotations": {"example.org/pool": "b", "other": "c"}}}),
        )
        .await;
    world.reconcile_cache("main").await;
    let annotations = read().await.metadata.annotations.unwrap();
    assert_eq!(
        (&*annotations["example.org/pool"], &*annotations["other"]),
        ("a", "c"),
        "the other is not ours"
    );
    let cluster_ip = json!({"spec": {"server": {"service": {"type": "ClusterIP", "annotations": null}}}});
    world.patch::<BinaryCache>("main", cluster_ip).await;
    world.reconcile_cache("main").await;
    let service = read().await;
    assert_eq!(service.spec.unwrap().type_.as_deref(), Some("ClusterIP"));
    assert_eq!(service.metadata.annotations.unwrap().get("example.org/pool"), None);
}

#[tokio::test]
async fn a_budget_is_as_wanted() {
    let world = World::new().await;
    world.cache("main", with_server(json!({"podDisruptionBudget": {"maxUnavailable": "50%"}}))).await;
    world.reconcile_cache("main").await;
    let budget = world.api::<PodDisruptionBudget>().get("main").await.unwrap().spec.unwrap();
    assert_eq!(serde_json::to_value(budget.max_unavailable).unwrap(), json!("50%"));
    let off = json!({"spec": {"server": {"podDisruptionBudget": {"mode": "Disabled"}}}});
    world.patch::<BinaryCache>("main", off).await;
    world.reconcile_cache("main").await;
    assert_eq!(world.names::<PodDisruptionBudget>().await, [""; 0]);
}

#[tokio::test]
async fn a_cluster_of_cloud_native_pg_is_waited_for() {
    let world = World::new().await;
    let mut spec = embedded();
    spec["database"] = json!({"cloudNativePG": {"clusterName": "db"}});
    world.cache("main", spec).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "Ready"), "False/SecretNotFound: Secret db-app does not exist");
    world.secret("db-app", &[("uri", "postgresql://app@db-rw/app")]).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "ResolvedRefs").starts_with("True"));
    let volume =
        pod(&world).await.volumes.unwrap().into_iter().find(|volume| volume.name == "database").unwrap();
    assert_eq!(volume.secret.unwrap().secret_name.as_deref(), Some("db-app"));
    world
        .patch::<BinaryCache>(
            "main",
            json!({"spec": {"database": {"cloudNativePG": {"secretName": "mine"}}}}),
        )
        .await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "ResolvedRefs"), "False/SecretNotFound: Secret mine does not exist");
}
