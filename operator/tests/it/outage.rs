//! An API server that is away for a while: connections are refused, or hang, and come back.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use niks3_operator::crd::BinaryCache;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::api_server;
use crate::world::{World, embedded};

const PATIENCE: Duration = Duration::from_mins(1);
/// As the lease lasts.
const LEASE: Duration = Duration::from_secs(15);

/// As long as a watch waits at most before it is begun again, and what a busy machine takes.
const BLIND: Duration = Duration::from_secs(45);
/// Long enough for what backs off to have reached its longest pause.
const AWAY: Duration = Duration::from_mins(1);

const OPEN: u8 = 0;
const REFUSING: u8 = 1;
const HANGING: u8 = 2;

/// Between operator and API server.
struct Way {
    state: Arc<AtomicU8>,
    kubeconfig: tempfile::NamedTempFile,
}

impl Way {
    async fn new() -> Self {
        let text = std::fs::read_to_string(api_server::shared().await.kubeconfig()).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap().replace("https://", "");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = format!("https://{}", listener.local_addr().unwrap());
        config["clusters"][0]["cluster"]["server"] = json!(here);
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        let state = Arc::new(AtomicU8::new(OPEN));
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    // Ended at once, it is as good as refused.
                    if state.load(Ordering::SeqCst) != REFUSING {
                        tokio::spawn(relay(client, server.clone(), Arc::clone(&state)));
                    }
                }
            }
        });
        Self { state, kubeconfig }
    }

    fn is(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn operator(&self, world: &World, identity: &str, more: &[&str]) -> Operator {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_niks3-operator"))
            .args(["run", "--server-image=niks3:test", &format!("--http-addr=127.0.0.1:{port}")])
            .arg(format!("--watch-namespace={}", world.namespace))
            .args(more)
            .env("KUBECONFIG", self.kubeconfig.path())
            .env("POD_NAMESPACE", &world.namespace)
            .env("POD_NAME", identity)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Operator(child)
    }
}

/// What comes while it hangs is never answered; what was open before ends when that is over.
async fn relay(mut client: TcpStream, server: String, state: Arc<AtomicU8>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut there, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let mut hung = false;
    loop {
        match state.load(Ordering::SeqCst) {
            REFUSING => return,
            HANGING => {
                hung = true;
                look.tick().await;
                continue;
            }
            _ if hung => return,
            _ => {}
        }
        let sent = tokio::select! {
            read = client.read(&mut there) => match read {
                Ok(count) if count > 0 => server.write_all(&there[..count]).await,
                _ => return,
            },
            read = server.read(&mut back) => match read {
                Ok(count) if count > 0 => client.write_all(&back[..count]).await,
                _ => return,
            },
            _ = look.tick() => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Operator(Child);

impl Operator {
    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what} should be so by now");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    begun.elapsed()
}

async fn replicas(world: &World) -> Option<i32> {
    world.api::<Deployment>().get_opt("main").await.unwrap()?.spec?.replicas
}

async fn holder(world: &World) -> Option<String> {
    world.api::<Lease>().get_opt("niks3-operator").await.unwrap()?.spec?.holder_identity
}

/// Asks for another number of pods.
async fn scale(world: &World, count: i32) {
    world.patch::<BinaryCache>("main", json!({"spec": {"server": {"replicas": count}}})).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let way = Way::new().await;
    let mut operator = way.operator(&world, "only", &["--leader-elect=false"]);
    until("the first look", async || replicas(&world).await == Some(2)).await;
    for (state, count) in [(REFUSING, 3), (HANGING, 4)] {
        way.is(state);
        scale(&world, count).await;
        tokio::time::sleep(AWAY).await;
        assert_ne!(replicas(&world).await, Some(count), "it has no way to the API server");
        way.is(OPEN);
        let after =
            until("what was asked for meanwhile", async || replicas(&world).await == Some(count)).await;
        assert!(after < BLIND, "it looked again {after:?} after the API server was back");
        assert!(!operator.ended(), "the same process goes on");
    }
}

#[tokio::test]
async fn a_lease_outlasts_a_short_outage_and_is_let_go_in_a_long_one() {
    let world = World::new().await;
    world.cache("main", embedded()).await;
    let way = Way::new().await;
    let mut first = way.operator(&world, "first", &[]);
    until("the first look", async || replicas(&world).await == Some(2)).await;
    assert_eq!(holder(&world).await.as_deref(), Some("first"));
    way.is(HANGING);
    tokio::time::sleep(LEASE / 3).await;
    way.is(OPEN);
    scale(&world, 3).await;
    until("what was asked for", async || replicas(&world).await == Some(3)).await;
    assert!(!first.ended() && holder(&world).await.as_deref() == Some("first"), "it renewed in time");

    way.is(REFUSING);
    let after = until("the end of who cannot renew", async || first.ended()).await;
    assert!(after < LEASE + Duration::from_secs(5), "it ended {after:?} after its last renewal");
    // As a kubelet starts it again: it waits for the API server, and then for the lease.
    let mut second = way.operator(&world, "second", &[]);
    scale(&world, 4).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!second.ended(), "it waits");
    way.is(OPEN);
    until("what was asked for", async || replicas(&world).await == Some(4)).await;
    assert_eq!(holder(&world).await.as_deref(), Some("second"));
}
