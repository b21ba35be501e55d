//! etcd and kube-apiserver on free ports with their state in a temporary folder. They are children of a shell
//! that waits for the end of its standard input, so they end with the test run, however that ends.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, Config};
use niks3_operator::lease::Fence;
use tokio::sync::OnceCell;

use crate::faults::Faults;

const PROGRAMS_VARIABLE: &str = "NIKS3_PROGRAMS";
const START_TIMEOUT: Duration = Duration::from_mins(1);
const TOKEN: &str = "test-admin";
/// The token of the user `tenant`, who may do what a test lets them.
pub(crate) const TENANT: &str = "test-tenant";

/// Where a shell stops what it started: at the end of its input.
const KEEPER: &str = r#"
cd "$1" || exit 1
"$2/etcd" --data-dir etcd --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$3" \
  --advertise-client-urls "http://127.0.0.1:$3" --listen-peer-urls "http://127.0.0.1:$4" >etcd.log 2>&1 &
etcd=$!
"$2/kube-apiserver" --etcd-servers="http://127.0.0.1:$3" --secure-port="$5" --bind-address=127.0.0.1 \
  --cert-dir=certs --service-cluster-ip-range=10.96.0.0/16 --token-auth-file=tokens.csv \
  --service-account-key-file=sa.pub --service-account-signing-key-file=sa.pem \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local --authorization-mode=RBAC \
  --disable-admission-plugins=ServiceAccount >apiserver.log 2>&1 &
apiserver=$!
controllers=
if [ "$6" = collected ] && [ -x "$2/kube-controller-manager" ]; then
  (until [ -s ready ]; do sleep 0.2; done
   exec "$2/kube-controller-manager" --kubeconfig=kubeconfig --leader-elect=false --secure-port=0 \
     --controllers=garbage-collector-controller >controllers.log 2>&1) &
  controllers=$!
fi
while read -r _; do :; done
kill $controllers $apiserver $etcd 2>/dev/null
wait
rm -rf "$1"
"#;

/// An API server, for as long as it is kept.
pub(crate) struct Server {
    config: Config,
    kubeconfig: PathBuf,
    keeper: Child,
}

impl Server {
    /// One of a test's own, for what would disturb the others.
    pub(crate) async fn start(crds: Vec<CustomResourceDefinition>) -> Self {
        start(crds, "collected").await
    }

    /// The same without the controller that deletes what has lost its owner.
    pub(crate) async fn bare(crds: Vec<CustomResourceDefinition>) -> Self {
        start(crds, "bare").await
    }

    /// The processes behind it.
    pub(crate) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    pub(crate) fn client(&self) -> Client {
        Client::try_from(self.config.clone()).expect("the client should be made")
    }

    /// Its calls pass through a layer.
    pub(crate) fn client_through(&self, layer: &Faults) -> Client {
        self.client_of(TOKEN, layer)
    }

    /// One that writes while a lease lasts.
    pub(crate) fn client_behind(&self, fence: &Fence) -> Client {
        let builder = ClientBuilder::try_from(self.config.clone()).expect("the client should be made");
        builder.with_layer(fence).build()
    }

    /// The same, with somebody's token.
    pub(crate) fn client_of(&self, token: &str, layer: &Faults) -> Client {
        let mut config = self.config.clone();
        config.auth_info.token = Some(token.to_owned().into());
        let builder = ClientBuilder::try_from(config).expect("the client should be made");
        builder.with_layer(layer).build()
    }

    /// A file by which other programs reach it, with all rights.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// A client of the run's API server, with the project's CRDs loaded. Each test has its own, for a client
/// belongs to the runtime that made it.
pub(crate) async fn client() -> Client {
    shared().await.client()
}

/// One that has only the rights of somebody else.
pub(crate) async fn client_as(user: &str, groups: &[&str]) -> Client {
    let mut config = shared().await.config.clone();
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    Client::try_from(config).expect("the client should be made")
}

/// The run's API server.
pub(crate) async fn shared() -> &'static Server {
    SERVER.get_or_init(|| start(niks3_operator::crd::all(), "collected")).await
}

/// A namespace of the test's own.
pub(crate) async fn namespace(client: &Client) -> String {
    let name = format!("test-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
    let namespace: Namespace =
        serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("a namespace");
    name
}

fn programs() -> PathBuf {
    let folder = std::env::var_os(PROGRAMS_VARIABLE).map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME should be set");
            Path::new(&home).join(".cache/niks3/bin")
        },
        PathBuf::from,
    );
    for program in ["etcd", "kube-apiserver", "helm"] {
        assert!(
            folder.join(program).is_file(),
            "{} is missing: these tests run a real API server; put etcd, kube-apiserver and helm there or \
             name their folder in {PROGRAMS_VARIABLE}",
            folder.join(program).display()
        );
    }
    folder
}

/// The path of a program such as `helm`.
pub(crate) fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound port").port())
}

async fn start(crds: Vec<CustomResourceDefinition>, controllers: &str) -> Server {
    let programs = programs();
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    let [etcd, peer, port] = free_ports();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().expect("the public key's form");
    let secret = key.to_pkcs8v1().expect("the key's form");
    std::fs::write(folder.join("sa.pub"), pem("PUBLIC KEY", public.as_ref())).expect("writing the key");
    std::fs::write(folder.join("sa.pem"), pem("PRIVATE KEY", secret.as_ref())).expect("writing the key");
    std::fs::write(
        folder.join("tokens.csv"),
        format!("{TOKEN},admin,admin,\"system:masters\"\n{TENANT},tenant,tenant\n"),
    )
    .expect("writing the tokens");
    let kubeconfig = kubeconfig(port);
    std::fs::write(folder.join("kubeconfig"), serde_json::to_string(&kubeconfig).unwrap()).unwrap();
    let keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(&folder)
        .arg(&programs)
        .args([etcd, peer, port].map(|port| port.to_string()))
        .arg(controllers)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh should start");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig should be one");
    let client = Client::try_from(config.clone()).expect("the client should be made");
    let begun = Instant::now();
    let ready = || http::Request::get("/readyz").body(Vec::new()).unwrap();
    while let Err(error) = client.request_text(ready()).await {
        if begun.elapsed() > START_TIMEOUT {
            let log = std::fs::read_to_string(folder.join("apiserver.log")).unwrap_or_default();
            eprintln!("the API server was not ready after {START_TIMEOUT:?}: {error:?}\n{log}");
            // The other tests would each wait as long.
            std::process::exit(1);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load_crds(&client, crds).await;
    std::fs::write(folder.join("ready"), "ready").unwrap();
    Server { config, kubeconfig: folder.join("kubeconfig"), keeper }
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

async fn load_crds(client: &Client, definitions: Vec<CustomResourceDefinition>) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in definitions {
        let name = crd.metadata.name.clone().unwrap();
        crds.create(&PostParams::default(), &crd).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let established = await_condition(crds.clone(), &name, is_crd_established());
        tokio::time::timeout(START_TIMEOUT, established).await.expect("established in time").unwrap();
    }
}

fn kubeconfig(port: u16) -> Kubeconfig {
    let name = "test".to_owned();
    Kubeconfig {
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(format!("https://127.0.0.1:{port}")),
                insecure_skip_tls_verify: Some(true),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo { token: Some(TOKEN.to_owned().into()), ..AuthInfo::default() }),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() }),
            ..NamedContext::default()
        }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}
