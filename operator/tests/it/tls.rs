//! TLS of the server's own: by a Secret of the user's, and by cert-manager.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use niks3_operator::crd::BinaryCache;
use niks3_operator::foreign::Certificate;
use serde_json::{Value, json};

use crate::exposure::install;
use crate::world::{World, condition, embedded};

fn tls(tls: Value) -> Value {
    let mut spec = embedded();
    spec["server"] = json!({"tls": tls});
    spec
}

async fn template(world: &World) -> Value {
    let deployment = world.api::<Deployment>().get("main").await.unwrap();
    serde_json::to_value(deployment.spec.unwrap().template).unwrap()
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_waited_for_and_a_renewed_one_rolls_nothing() {
    let world = World::new().await;
    world.cache("main", tls(json!({"secretName": "mine"}))).await;
    let retention =
        json!({"cacheRef": {"name": "main"}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
    world.policy("nightly", retention).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "ResolvedRefs"), "False/SecretNotFound: Secret mine does not exist");
    let inside = format!("https://main.{}.svc", world.namespace);
    assert_eq!((status.url.as_ref(), status.endpoint.as_ref()), (Some(&inside), Some(&inside)));
    world.secret("mine", &[("tls.crt", "a")]).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "ResolvedRefs"), "False/SecretKeyMissing: Secret mine has no key tls.key");
    let renew = |data: Value| json!({"stringData": data});
    world.patch::<Secret>("mine", renew(json!({"tls.key": "b", "ca.crt": "the CA"}))).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "ResolvedRefs").starts_with("True/"), "{status:?}");
    let ports = world.api::<Service>().get("main").await.unwrap().spec.unwrap().ports.unwrap();
    let ports: Vec<_> = ports.iter().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(ports, [(Some("https"), 443)]);
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    assert_eq!((&*client["NIKS3_SERVER_URL"], &*client["ca.crt"]), (&*inside, "the CA"));

    // The collector trusts it too.
    world.reconcile_policy("nightly").await;
    let job = serde_json::to_value(world.api::<CronJob>().get("main-gc").await.unwrap()).unwrap();
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let env = pod["containers"][0]["env"].to_string();
    assert!(env.contains(&inside) && env.contains("/var/run/niks3/ca/ca.crt"), "{env}");
    assert!(pod["volumes"].to_string().contains(r#""secretName":"mine""#), "{pod}");

    // Issuers that everybody knows leave it empty.
    world.patch::<Secret>("mine", renew(json!({"ca.crt": ""}))).await;
    world.reconcile_cache("main").await;
    world.reconcile_policy("nightly").await;
    let job = serde_json::to_string(&world.api::<CronJob>().get("main-gc").await.unwrap()).unwrap();
    assert!(!job.contains("NIKS3_CA_CERT") && !job.contains(r#""secretName":"mine""#), "{job}");
    let client = world.api::<ConfigMap>().get("main-client").await.unwrap().data.unwrap();
    assert!(!client.contains_key("ca.crt"), "{client:?}");

    let before = template(&world).await;
    assert_eq!(before["spec"]["containers"][0]["readinessProbe"]["httpGet"]["scheme"], "HTTPS");
    world.patch::<Secret>("mine", renew(json!({"tls.crt": "c", "tls.key": "d"}))).await;
    world.reconcile_cache("main").await;
    assert_eq!(template(&world).await, before, "the server reads the new one by itself");

    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"tls": null}}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(status.url, Some(format!("http://main.{}.svc", world.namespace)));
    let ports = world.api::<Service>().get("main").await.unwrap().spec.unwrap().ports.unwrap();
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [80]);
}

#[tokio::test]
async fn a_certificate_waits_for_cert_manager_and_for_what_it_makes() {
    let world = World::new().await;
    let mut spec = tls(json!({"certManager": {"issuerRef": {"name": "internal"}, "duration": "2160h"}}));
    spec["url"] = json!("https://cache.example.org");
    world.cache("main", spec).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "Exposed").starts_with("False/CertManagerNotInstalled: "), "{status:?}");
    install(&world, "cert-manager.io", "Certificate").await;
    let mut said = String::new();
    for _ in 0..50 {
        // Established is not yet served by every handler.
        said = condition(world.reconcile_cache("main").await.status.unwrap(), "Exposed");
        if !said.contains("CertManagerNotInstalled") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let waits =
        "False/CertificateNotReady: cert-manager has not made Secret main-tls yet; see Certificate main";
    assert_eq!(said, waits);
    let certificate = world.api::<Certificate>().get("main").await.unwrap();
    let inside = |end: &str| format!("main.{}{end}", world.namespace);
    let names = ["cache.example.org".to_owned(), inside(""), inside(".svc"), inside(".svc.cluster.local")];
    assert_eq!(certificate.spec["dnsNames"], json!(names));
    assert_eq!(
        certificate.spec["issuerRef"],
        json!({"name": "internal", "kind": "Issuer", "group": "cert-manager.io"})
    );
    let ready = json!({"conditions": [{"type": "Ready", "status": "False", "message": "no such issuer"}]});
    world.patch_status::<Certificate>("main", ready).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(condition(&status, "Exposed"), format!("{waits}: no such issuer"));
    world.secret("main-tls", &[("tls.crt", "a"), ("tls.key", "b"), ("ca.crt", "the CA")]).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert!(condition(&status, "Exposed").starts_with("True/Reachable: "), "{status:?}");
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"tls": null}}})).await;
    let status = world.reconcile_cache("main").await.status.unwrap();
    assert_eq!(world.names::<Certificate>().await, [""; 0]);
    assert!(status.conditions.iter().all(|condition| condition.type_ != "Exposed"));
}

#[tokio::test]
async fn cas_of_issuers_and_clients_are_waited_for() {
    let world = World::new().await;
    let map = |name: &str| json!({"configMapKeyRef": {"name": name}});
    let mut spec = tls(json!({"secretName": "mine"}));
    spec["auth"] = json!({
        "oidc": [{"name": "gitlab", "issuer": "https://gitlab.example.org", "audience": "a", "ca": map("gitlab")}],
        "clientCertificates": {"ca": map("clients")}
    });
    world.secret("mine", &[("tls.crt", "a"), ("tls.key", "b")]).await;
    world.cache("main", spec).await;
    let said = async || condition(world.reconcile_cache("main").await.status.unwrap(), "ResolvedRefs");
    let all = said().await;
    assert!(all.starts_with("False/ConfigMapNotFound: "), "{all}");
    assert!(all.contains("ConfigMap gitlab does not exist"), "{all}");
    let ca = pem();
    for name in ["gitlab", "clients"] {
        world.create::<ConfigMap>(json!({"metadata": {"name": name}, "data": {"ca.crt": ca}})).await;
    }
    let all = said().await;
    assert!(all.starts_with("True/"), "{all}");
    world.patch::<ConfigMap>("clients", json!({"data": {"ca.crt": "none"}})).await;
    let all = said().await;
    assert!(all.starts_with("False/InvalidCA: auth.clientCertificates.ca: ConfigMap clients"), "{all}");
}

/// What looks like a certificate.
fn pem() -> String {
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()
}

/// One of each day would make new pods each day else.
#[tokio::test]
async fn revocation_lists_are_waited_for_and_newer_ones_roll_nothing() {
    let world = World::new().await;
    let mut spec = tls(json!({"secretName": "mine"}));
    let of = |name: &str| json!({"secretKeyRef": {"name": name}});
    spec["auth"] = json!({"clientCertificates": {"ca": of("clients"), "crl": of("clients")}});
    world.secret("mine", &[("tls.crt", "a"), ("tls.key", "b")]).await;
    world.secret("clients", &[("ca.crt", &pem())]).await;
    world.cache("main", spec).await;
    let said = async || condition(world.reconcile_cache("main").await.status.unwrap(), "ResolvedRefs");
    assert_eq!(said().await, "False/SecretKeyMissing: Secret clients has no key ca.crl");
    let write = async |lists: &str| {
        world.patch::<Secret>("clients", json!({"stringData": {"ca.crl": lists}})).await;
    };
    write(&pem()).await;
    let expected = "False/InvalidCRL: auth.clientCertificates.crl: Secret clients, key ca.crl: it holds no revocation \
                    list as PEM";
    assert_eq!(said().await, expected);
    let list = pem().replace("CERTIFICATE", "X509 CRL");
    write(&list).await;
    assert!(said().await.starts_with("True/"));
    let before = template(&world).await;
    let volumes = before["spec"]["volumes"].to_string();
    assert!(volumes.contains(r#""path":"ca.crl"}],"secretName":"clients""#), "{volumes}");
    let config = world.server_config("main").await.data.unwrap();
    assert!(config["config.json"].contains(r#""client_crl_file": "/var/run/niks3/client-crl/ca.crl""#));
    write(&list.repeat(2)).await;
    assert!(said().await.starts_with("True/"));
    assert_eq!(template(&world).await, before, "the server reads the newer one by itself");
}
