//! A thousand caches and a thousand policies: how long the operator takes from its start until each was looked at,
//! what memory and whose time that takes, and that an hour of looking again writes nothing. `make scale` runs it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use niks3_operator::crd::{self, BinaryCache, GCPolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api_server::{self, Server};
use crate::world::{condition, own};

const NAMESPACES: usize = 10;
/// What the operator may take.
const MEMORY_KIB: u64 = 64 * 1024;
const COLD: Duration = Duration::from_mins(1);
/// A cache that is well is looked at every five minutes: so often in an hour.
const LOOKS: u64 = 12;
/// How long that may take: a machine that is too slow for its interval takes more.
const HOUR: Duration = Duration::from_mins(10);
/// What the operator does unless it is told otherwise.
const USUAL: Duration = Duration::from_mins(5);
/// Each of the looks of an hour, sped up.
const INTERVAL: Duration = Duration::from_secs(10);

/// The operator; it ends with the test.
struct Operator {
    child: Child,
    port: u16,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    /// Looks at what is well after `resync`.
    fn start(server: &Server, resync: Duration) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program =
            std::env::var_os("NIKS3_OPERATOR").unwrap_or_else(|| env!("CARGO_BIN_EXE_niks3-operator").into());
        let child = Command::new(program)
            .args(["run", "--server-image=niks3:test", "--leader-elect=false"])
            .arg(format!("--resync-interval={}s", resync.as_secs()))
            .arg(format!("--http-addr=127.0.0.1:{port}"))
            .env("KUBECONFIG", server.kubeconfig())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// A line of /proc/PID/status, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        found.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    /// Reconciliations so far.
    async fn looks(&self) -> u64 {
        // It does not listen at once.
        let Ok(page) = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await else {
            return 0;
        };
        sum(&page.text().await.unwrap(), |line| line.starts_with("niks3_operator_reconciliations_total"))
    }
}

fn sum(page: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let values = page.lines().filter(|line| wanted(line)).filter_map(|line| line.rsplit(' ').next());
    // Large ones are written as 1.2e+06.
    let whole = |value: &str| format!("{:.0}", value.parse::<f64>().ok()?).parse::<u64>().ok();
    values.filter_map(whole).sum()
}

/// Requests that the API server counted, by verb and resource, of the kinds that the operator knows.
async fn requests(client: &Client) -> BTreeMap<String, u64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let page = client.request_text(request).await.unwrap();
    let label = |line: &str, name: &str| {
        let value = line.split_once(&format!("{name}=\""))?.1;
        value.split_once('"').map(|(value, _)| value.to_owned())
    };
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let (verb, of) = (label(line, "verb").unwrap(), label(line, "resource").unwrap());
        let part = label(line, "subresource").filter(|part| !part.is_empty());
        let own = [
            "leases",
            "flowschemas",
            "prioritylevelconfigurations",
            "apiservices",
            "customresourcedefinitions",
            "namespaces",
        ];
        if verb != "WATCH" && !own.contains(&&*of) && !of.is_empty() {
            let name = format!("{verb} {of}{}", part.map(|part| format!("/{part}")).unwrap_or_default());
            *found.entry(name).or_default() += sum(line, |_| true);
        }
    }
    found
}

/// What came since `before`, without the looks of the test itself.
async fn since(client: &Client, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut now = requests(client).await;
    for (name, count) in &mut now {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    now.retain(|name, count| *count > 0 && !["LIST binarycaches", "LIST gcpolicies"].contains(&&**name));
    now
}

/// Those that were no mere reads.
fn writes(requests: &BTreeMap<String, u64>) -> u64 {
    let reads = ["GET ", "LIST "];
    let written = requests.iter().filter(|(name, _)| reads.iter().all(|read| !name.starts_with(read)));
    written.map(|(_, count)| count).sum()
}

/// Seconds on the cores of a process, and of those that the test's API server consists of.
fn seconds(operator: u32, server: &Server) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(") ").unwrap();
        let (id, name) = head.split_once(" (").unwrap();
        let fields: Vec<&str> = tail.split(' ').collect();
        if id == operator.to_string() || fields[1] == server.keeper().to_string() {
            let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
            found.insert(name.to_owned(), ticks / 100.0);
        }
    }
    found
}

async fn create<K>(client: &Client, namespace: &str, object: Value)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "niks3.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Caches on servers of their own, a policy each.
async fn fill(client: &Client, count: usize) {
    let mut namespaces = Vec::new();
    for _ in 0..NAMESPACES {
        let namespace = api_server::namespace(client).await;
        let keys = json!({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"});
        create::<Secret>(client, &namespace, json!({"metadata": {"name": "s3"}, "stringData": keys})).await;
        let uri = json!({"uri": "postgres://db"});
        create::<Secret>(client, &namespace, json!({"metadata": {"name": "db"}, "stringData": uri})).await;
        namespaces.push(namespace);
    }
    futures::stream::iter(0..count)
        .for_each_concurrent(8, async |number| {
            let (namespace, name) = (&namespaces[number % NAMESPACES], format!("cache-{number}"));
            let spec = own(&format!("bucket-{number}"));
            create::<BinaryCache>(client, namespace, object("BinaryCache", &name, &spec)).await;
            let spec = json!({"cacheRef": {"name": name}, "schedule": "17 3 * * *", "retention": {"olderThan": "720h"}});
            create::<GCPolicy>(client, namespace, object("GCPolicy", &name, &spec)).await;
        })
        .await;
}

/// How many caches were looked at, how many of them are ready, and how many policies are.
async fn counts(client: &Client) -> [usize; 3] {
    let ready =
        |status: Value| status["conditions"].is_array() && condition(status, "Ready").starts_with("True/");
    let caches = Api::<BinaryCache>::all(client.clone()).list(&ListParams::default()).await.unwrap().items;
    let policies = Api::<GCPolicy>::all(client.clone()).list(&ListParams::default()).await.unwrap().items;
    let known = caches.iter().filter(|cache| cache.status.is_some()).count();
    let well = caches.iter().filter(|cache| ready(json!(cache.status))).count();
    [known, well, policies.iter().filter(|policy| ready(json!(policy.status))).count()]
}

async fn until(client: &Client, wanted: [usize; 3]) {
    let begun = Instant::now();
    loop {
        let found = counts(client).await;
        if found.iter().zip(wanted).all(|(found, wanted)| *found >= wanted) {
            return;
        }
        assert!(begun.elapsed() < COLD * 20, "{found:?} of {wanted:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// As a cluster with kubelets would say it.
async fn pods_become_ready(client: &Client) {
    let found = Api::<Deployment>::all(client.clone()).list_metadata(&ListParams::default()).await.unwrap();
    futures::stream::iter(found.items)
        .for_each_concurrent(8, async |deployment| {
            let api: Api<Deployment> = Api::namespaced(client.clone(), &deployment.namespace().unwrap());
            let status = json!({"status": {"observedGeneration": deployment.metadata.generation, "replicas": 2,
                "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
                "conditions": [{"type": "Available", "status": "True"},
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}});
            let how = PatchParams::default();
            api.patch_status(&deployment.name_any(), &how, &Patch::Merge(status)).await.unwrap();
        })
        .await;
}

#[tokio::test]
#[ignore = "takes five minutes and the whole machine: make scale"]
async fn a_thousand_of_each() {
    let wanted = std::env::var_os("NIKS3_SCALE").and_then(|count| count.into_string().ok());
    let count: usize = wanted.and_then(|count| count.parse().ok()).unwrap_or(1000);
    let server = Server::bare(crd::all()).await;
    let client = server.client();
    fill(&client, count).await;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    eprintln!("load before it began: {}", load.trim());
    let (before, idle) = (requests(&client).await, seconds(0, &server));
    let begun = Instant::now();
    let operator = Operator::start(&server, USUAL);
    // To list them all takes as much of the API server as a dozen looks: not before each was looked at, by the operator's word.
    while operator.looks().await < 2 * count as u64 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    until(&client, [count, 0, count]).await;
    let cold = begun.elapsed();
    let (made, used) = (since(&client, &before).await, seconds(operator.child.id(), &server));
    let used: BTreeMap<_, _> = used
        .into_iter()
        .map(|(name, used)| {
            let idle = idle.get(&name).copied().unwrap_or_default();
            (name, format!("{:.1} s", used - idle))
        })
        .collect();
    eprintln!("{count} of each: looked at after {cold:?}, {} looks", operator.looks().await);
    eprintln!("{} writes: {made:?}", writes(&made));
    eprintln!("on the cores: {used:?}");
    let coldest = operator.memory("VmHWM:");
    eprintln!("memory: {} KiB, at most {coldest} KiB", operator.memory("VmRSS:"));
    pods_become_ready(&client).await;
    until(&client, [count, count, count]).await;
    drop(operator);
    let operator = Operator::start(&server, INTERVAL);
    // A new one writes each child once; what became ready a moment ago may still be told in events.
    let mut before = requests(&client).await;
    loop {
        tokio::time::sleep(INTERVAL * 2).await;
        let asked = since(&client, &before).await;
        if operator.looks().await >= count as u64 * 2 && writes(&asked) == 0 {
            break;
        }
        before = requests(&client).await;
    }
    let (before, looks, begun) = (requests(&client).await, operator.looks().await, Instant::now());
    // Policies are looked at half as often.
    let wanted = LOOKS * count as u64 * 3 / 2;
    let mut looked = 0;
    while looked < wanted {
        assert!(begun.elapsed() < HOUR, "{looked} looks of {wanted} in {HOUR:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        looked = operator.looks().await - looks;
    }
    let (asked, peak) = (since(&client, &before).await, coldest.max(operator.memory("VmHWM:")));
    eprintln!("an hour took {:?}: {looked} looks, {asked:?}, at most {peak} KiB", begun.elapsed());
    assert_eq!(writes(&asked), 0, "an hour of looking again should write nothing: {asked:?}");
    assert!(peak <= MEMORY_KIB, "{peak} KiB");
    assert!(cold <= COLD, "{cold:?} from cold");
}
