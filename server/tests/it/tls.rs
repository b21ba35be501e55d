//! TLS of the server's own, and who comes with a client certificate.

mod resumption;

use std::time::Duration;

use clap::Parser as _;
use niks3_protocol::api::{Permission, WhoAmI};
use niks3_protocol::server_config::{CertificateProxy, CertificateRule, ClientCertificates};
use niks3_server::args::Args;
use niks3_server::settings::Parts;
use niks3_server::tls::TlsFiles;
use rcgen::DnType::{CommonName, OrganizationName};
use reqwest::{Certificate, Identity, Method, StatusCode, Version};

use crate::support::tls::{Ca, Pair};
use crate::support::{ADMIN, Place, TestServer, refusal};

/// A client that trusts this CA alone, and has this certificate.
fn client(ca: &Ca, own: Option<&Pair>) -> reqwest::Client {
    let mut builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .tls_certs_only([Certificate::from_pem(ca.pem().as_bytes()).unwrap()]);
    if let Some(Pair { certificate, key }) = own {
        builder = builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

fn write(place: &Place, pair: &Pair) -> (String, String) {
    (place.write_file("tls.crt", &pair.certificate), place.write_file("tls.key", &pair.key))
}

/// A server over TLS with a certificate of this CA.
async fn over_tls(place: &Place, ca: &Ca, client_ca: Option<&Ca>, rules: Vec<CertificateRule>) -> TestServer {
    with_revoked(place, ca, client_ca, None, rules).await
}

/// The same, with a revocation list.
async fn with_revoked(
    place: &Place,
    ca: &Ca,
    client_ca: Option<&Ca>,
    client_crl: Option<String>,
    rules: Vec<CertificateRule>,
) -> TestServer {
    let (certificate, key) = write(place, &ca.server(&["127.0.0.1"]));
    let client_ca = client_ca.map(|ca| place.write_file("clients.crt", ca.pem()).into());
    let client_crl = client_crl.map(Into::into);
    let files = TlsFiles { certificate: certificate.into(), key: key.into(), client_ca, client_crl };
    let mut server = TestServer::launch(place.clone(), |parts| {
        parts.tls = Some(files);
        parts.auth.client_certificates = Some(ClientCertificates { rules, proxy: None });
    })
    .await;
    server.url = server.url.replace("http://", "https://");
    server.http = client(ca, None);
    server.wait_until_ready().await;
    server
}

fn rule(subject: &str, permissions: &[Permission], pins: &[&str]) -> CertificateRule {
    CertificateRule {
        name: subject.to_owned(),
        subjects: vec![subject.to_owned()],
        permissions: permissions.to_vec(),
        pins: pins.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_without_a_restart() {
    let (place, old, new) = (Place::create().await, Ca::new(), Ca::new());
    let server = over_tls(&place, &old, None, Vec::new()).await;
    let answer = server.get("/livez").await;
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    let plain = server.url.replace("https://", "http://");
    assert!(reqwest::get(format!("{plain}/livez")).await.is_err(), "no plain HTTP beside it");
    let pair = new.server(&["127.0.0.1"]);
    // Between the two writes certificate and key do not fit: the old pair serves on.
    place.write_file("tls.key", &pair.key);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(client(&old, None).get(format!("{}/livez", server.url)).send().await.is_ok());
    place.write_file("tls.crt", &pair.certificate);
    for _ in 0..100 {
        if client(&new, None).get(format!("{}/livez", server.url)).send().await.is_ok() {
            assert!(client(&old, None).get(format!("{}/livez", server.url)).send().await.is_err());
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("the new certificate is not served after 20 s");
}

#[tokio::test]
async fn a_client_certificate_does_what_its_rules_say() {
    let (place, ca, clients) = (Place::create().await, Ca::new(), Ca::new());
    let rules = vec![
        rule("CN=*,O=Example", &[Permission::Push], &[]),
        rule("CN=releaser,O=Example", &[Permission::Pin], &["release-*"]),
    ];
    let server = over_tls(&place, &ca, Some(&clients), rules).await;
    let whoami = format!("{}/api/whoami", server.url);
    let of = |ca: &Ca, name: &str, organisation: &str| {
        ca.client(&[(CommonName, name), (OrganizationName, organisation)])
    };
    for (name, organisation, permissions, pins) in [
        ("builder", "Example", vec![Permission::Push], vec![]),
        ("releaser", "Example", vec![Permission::Push, Permission::Pin], vec!["release-*"]),
        ("releaser", "Elsewhere", vec![], vec![]),
        // Not CN=evil of O=Example: a comma of a value is told from one between parts.
        ("evil,O=Example", "Elsewhere", vec![], vec![]),
    ] {
        let pair = of(&clients, name, organisation);
        let answer = client(&ca, Some(&pair)).get(&whoami).send().await.unwrap();
        let identity: WhoAmI = answer.json().await.unwrap();
        let expected = format!("certificate:CN={},O={organisation}", name.replace(',', "\\,"));
        assert_eq!(identity.identity, expected);
        assert_eq!(
            (identity.permissions, identity.pins),
            (permissions, pins.iter().map(ToString::to_string).collect())
        );
    }
    // Nor is it without an O of its own, though `*` is any text.
    let alone = client(&ca, Some(&clients.client(&[(CommonName, "evil,O=Example")])));
    let identity: WhoAmI = alone.get(&whoami).send().await.unwrap().json().await.unwrap();
    assert_eq!((&*identity.identity, identity.permissions), (r"certificate:CN=evil\,O=Example", vec![]));
    // A token counts before the certificate.
    let pair = of(&clients, "builder", "Example");
    let answer = client(&ca, Some(&pair)).get(&whoami).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(answer.json::<WhoAmI>().await.unwrap().identity, "token:default");
    let nobody = client(&ca, Some(&clients.client(&[]))).get(&whoami).send().await.unwrap();
    let (status, text) = refusal(nobody).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("names no subject"), "{text}");
    // Without one, one may still come, and is nobody.
    assert_eq!(refusal(server.get("/api/whoami").await).await.0, StatusCode::UNAUTHORIZED);
    let forged = client(&ca, Some(&of(&ca, "builder", "Example")));
    let refused = match forged.get(&whoami).send().await {
        Err(_) => true,
        Ok(answer) => answer.bytes().await.is_err(),
    };
    assert!(refused, "a certificate of another CA gets no answer");
}

/// Whether the server lets a certificate in: with TLS 1.3 a client learns that after its own part is done.
async fn is_let_in(ca: &Ca, pair: &Pair, whoami: &str) -> bool {
    match client(ca, Some(pair)).get(whoami).send().await {
        Ok(answer) => answer.json::<WhoAmI>().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_from_when_its_list_is_there() {
    let (place, ca, clients) = (Place::create().await, Ca::new(), Ca::new());
    let of = |name: &str| clients.client(&[(CommonName, name)]);
    let (kept, lost) = (of("kept"), of("lost"));
    let list = place.write_file("clients.crl", &clients.revoke(&[]));
    let rules = vec![rule("CN=*", &[Permission::Push], &[])];
    let server = with_revoked(&place, &ca, Some(&clients), Some(list), rules).await;
    let whoami = format!("{}/api/whoami", server.url);
    assert!(is_let_in(&ca, &kept, &whoami).await && is_let_in(&ca, &lost, &whoami).await);
    // What is no list changes nothing.
    place.write_file("clients.crl", "nothing");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(is_let_in(&ca, &kept, &whoami).await && is_let_in(&ca, &lost, &whoami).await);
    place.write_file("clients.crl", &clients.revoke(&[&lost]));
    for _ in 0..100 {
        if !is_let_in(&ca, &lost, &whoami).await {
            assert!(is_let_in(&ca, &kept, &whoami).await, "no other is refused");
            let token = client(&ca, None).get(&whoami).bearer_auth(ADMIN).send().await.unwrap();
            assert_eq!(token.status(), StatusCode::OK);
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("it is not refused after 20 s");
}

#[tokio::test]
async fn headers_of_a_proxy_count_from_its_addresses_alone() {
    let place = Place::create().await;
    let behind = async |address: &str| {
        let proxy = CertificateProxy {
            verified_header: "X-SSL-Client-Verify".to_owned(),
            subject_header: "X-SSL-Client-Dn".to_owned(),
            addresses: vec!["192.0.2.1".to_owned(), address.to_owned()],
        };
        let rules = vec![rule("CN=builder", &[Permission::Push], &[])];
        let certificates = ClientCertificates { rules, proxy: Some(proxy) };
        TestServer::at(place.clone(), |parts| parts.auth.client_certificates = Some(certificates)).await
    };
    let whoami = async |server: &TestServer, headers: &[(&str, &str)]| {
        let request = server.anonymous(Method::GET, "/api/whoami");
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .send()
            .await
            .unwrap()
    };
    let good = [("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-dn", "CN=builder")];
    for address in ["127.0.0.1", "127.0.0.0/8"] {
        let server = behind(address).await;
        let identity: WhoAmI = whoami(&server, &good).await.json().await.unwrap();
        assert_eq!(
            (identity.identity.as_str(), &identity.permissions[..]),
            ("certificate:CN=builder", &[Permission::Push][..])
        );
        for headers in [
            &[("x-ssl-client-verify", "NONE"), ("x-ssl-client-dn", "CN=builder")][..],
            &[("x-ssl-client-verify", "success"), ("x-ssl-client-dn", "CN=builder")],
            &[("x-ssl-client-dn", "CN=builder")],
            &[("x-ssl-client-verify", "SUCCESS")],
            &[("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-dn", "")],
            &[
                ("x-ssl-client-verify", "SUCCESS"),
                ("x-ssl-client-verify", "NONE"),
                ("x-ssl-client-dn", "CN=builder"),
            ],
            &[
                ("x-ssl-client-verify", "SUCCESS"),
                ("x-ssl-client-dn", "CN=x"),
                ("x-ssl-client-dn", "CN=builder"),
            ],
        ] {
            assert_eq!(
                refusal(whoami(&server, headers).await).await.0,
                StatusCode::UNAUTHORIZED,
                "{headers:?}"
            );
        }
    }
    let elsewhere = behind("10.0.0.0/8").await;
    assert_eq!(refusal(whoami(&elsewhere, &good).await).await.0, StatusCode::UNAUTHORIZED);
    let forwarded = [good[0], good[1], ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")];
    assert_eq!(refusal(whoami(&elsewhere, &forwarded).await).await.0, StatusCode::UNAUTHORIZED);
}

#[test]
fn the_flags_of_niks3_1_7_become_rules() {
    let load = |flags: &[&str]| {
        let common = ["niks3-server", "--db", "postgres://x@localhost/x", "--s3-bucket", "x"];
        Parts::load(Args::try_parse_from(common.iter().chain(flags)).unwrap())
    };
    let proxy = ["--mtls-proxy-header", "X-V", "--mtls-proxy-addresses", "10.0.0.1, 10.1.0.0/16"];
    let with = |flags: &[&'static str]| load(&[&proxy[..], flags].concat()).unwrap();
    let rules = |parts: &Parts| parts.auth.client_certificates.clone().unwrap().rules;
    let writes = [Permission::Push, Permission::Pin, Permission::Gc];

    let parts = with(&[]);
    let config = parts.auth.client_certificates.clone().unwrap();
    assert_eq!(config.proxy.unwrap().addresses, ["10.0.0.1", "10.1.0.0/16"]);
    assert_eq!(config.rules[0].subjects, ["*"]);
    assert_eq!(config.rules[0].permissions, [&writes[..], &[Permission::Read]].concat());
    assert!(!parts.settings.private_reads);

    let parts = with(&[
        "--mtls-bound-subject",
        "CN=a",
        "--mtls-bound-subject",
        "CN=b",
        "--mtls-bound-subject-read",
        "CN=r*",
    ]);
    let [write, read] = &rules(&parts)[..] else { panic!("two rules") };
    assert_eq!(
        (&write.subjects[..], &write.permissions[..]),
        (&["CN=a".to_owned(), "CN=b".to_owned()][..], &writes[..])
    );
    assert_eq!(
        (&read.subjects[..], &read.permissions[..]),
        (&["CN=r*".to_owned()][..], &[Permission::Read][..])
    );
    assert!(parts.settings.private_reads);

    let error = load(&["--mtls-bound-subject", "CN=a"]).err().unwrap().to_string();
    assert!(error.contains("nothing verifies certificates"), "{error}");
    let error =
        load(&["--tls-cert", "/c", "--tls-key", "/k", "--tls-client-crl", "/r"]).err().unwrap().to_string();
    assert!(error.contains("NIKS3_TLS_CLIENT_CRL needs NIKS3_TLS_CLIENT_CA"), "{error}");
    let both = [&proxy[..], &["--tls-cert", "/c", "--tls-key", "/k", "--tls-client-ca", "/a"]].concat();
    assert!(load(&both).err().unwrap().to_string().contains("not by both"));
}
