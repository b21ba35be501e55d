//! A client certificate against the server's own TLS: whoever has one needs no token.

use std::path::Path;

use niks3_protocol::api::Permission;
use niks3_protocol::server_config::{CertificateRule, ClientCertificates};
use niks3_server::tls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::support::Cache;
use crate::support::program::Niks3;

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.crt` and `NAME.key`: a server's for 127.0.0.1, or a client's of `O=Example`.
    fn write(&self, folder: &Path, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_all_that_a_push_needs() {
    let (servers, clients, others) = (Ca::new("servers"), Ca::new("clients"), Ca::new("others"));
    let cache = Cache::with(|parts, folder| {
        servers.write(folder, "server", ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(folder.join("servers.crt"), &servers.pem).unwrap();
        std::fs::write(folder.join("clients.crt"), &clients.pem).unwrap();
        for (ca, name) in [(&clients, "builder"), (&clients, "visitor"), (&others, "stranger")] {
            ca.write(folder, name, ExtendedKeyUsagePurpose::ClientAuth);
        }
        parts.tls = Some(TlsFiles {
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
            client_ca: Some(folder.join("clients.crt")),
            client_crl: None,
        });
        let rule = CertificateRule {
            name: "builders".to_owned(),
            subjects: vec!["CN=builder,O=Example".to_owned()],
            permissions: vec![Permission::Push, Permission::Pin],
            pins: vec!["ci-*".to_owned()],
        };
        parts.auth.client_certificates = Some(ClientCertificates { rules: vec![rule], proxy: None });
    })
    .await;
    let path = cache.store.add("tree", &[("x", b"x")]);
    let file = |name: &str| cache.folder.path().join(name);
    let run = |arguments: &[&str], name: Option<&str>| -> Niks3 {
        let run = cache.niks3(arguments).without("NIKS3_AUTH_TOKEN_FILE");
        let run = run.env("NIKS3_CA_CERT", file("servers.crt"));
        let Some(name) = name else { return run };
        let run = run.env("NIKS3_CLIENT_CERT", file(&format!("{name}.crt")));
        run.env("NIKS3_CLIENT_KEY", file(&format!("{name}.key")))
    };
    let push = ["push", "--pin", "ci-main", path.as_str()];
    insta::assert_snapshot!(run(&push, None).run().await.failed(2), @r"
    error: no identity: send `Authorization: Bearer TOKEN` (SERVER answered 401 Unauthorized)
    hint: `niks3 login` keeps a token; --auth-token-file or --client-cert gives one for this call
    ");
    insta::assert_snapshot!(run(&push, Some("visitor")).run().await.failed(2), @r"
    error: certificate:CN=visitor,O=Example is not named by any rule of this cache; it needs the permission Push (SERVER answered 403 Forbidden)
    hint: `niks3 whoami` shows who the server thinks you are and what you may do
    ");
    // The server's word may be lost when it closes the connection on what was sent meanwhile.
    let said = run(&push, Some("stranger")).run().await.failed(1);
    let hint = "hint: does the server trust the CA that signed --client-cert?\n";
    assert!(said.starts_with("error: SERVER cannot be reached: "), "{said}");
    assert!(!said.contains("alert") || said.ends_with(hint), "{said}");
    cache.assert_nothing_committed().await;

    insta::assert_snapshot!(run(&["whoami"], Some("builder")).run().await.data(), @r"
    certificate:CN=builder,O=Example
    permissions: Push, Pin
    pins: ci-*
    ");
    insta::assert_snapshot!(run(&push, Some("builder")).run().await.succeeded(), @r"
    1 path: 0 cached, 1 to upload (SIZE)
    Pushed 1 path to SERVER: SIZE sent in TIME
    Pinned /nix/store/HASH-tree as ci-main
    ");
    let pushed_by = sqlx::query_scalar("select pushed_by from closures").fetch_one(&cache.app.db);
    let pushed_by: String = pushed_by.await.unwrap();
    assert_eq!(pushed_by, "certificate:CN=builder,O=Example");
}
