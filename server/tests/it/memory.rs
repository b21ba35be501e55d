//! What large closures take of a server's memory: a process of its own, so that it can be measured.

#![expect(clippy::print_stdout, reason = "a figure is looked at by hand")]

mod bombs;
mod readers;

use std::time::Duration;

use futures::future::join_all;
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, SignResponse, UploadObject};
use reqwest::{Client, StatusCode};

use crate::start::{Running, program, variables, wait_for_address};
use crate::support::closure::{TestPath, sign_request};
use crate::support::{ADMIN, Place, TestServer};

const MIB: u64 = 1 << 20;

/// The most that a process ever had.
fn peak(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

async fn begin(http: &Client, url: &str, objects: Vec<UploadObject>, root: &TestPath) -> BeginResponse {
    let (closure, closures) = (root.key(), Vec::new());
    let body = BeginRequest {
        closure,
        closures,
        objects,
        verify_s3: false,
        server_narinfos: true,
        bound_addresses: false,
        upload_headers: false,
    };
    let answer = http.post(format!("{url}/api/pending_closures")).bearer_auth(ADMIN).json(&body);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

/// A server that nobody asked anything yet.
struct Idle {
    process: Running,
    url: String,
    http: Client,
    took: u64,
    place: Place,
}

impl Idle {
    async fn start() -> Self {
        // What is not sent is not looked for.
        Self::told(&[("NIKS3_VERIFY_UPLOADS", "none")]).await
    }

    /// With these variables beside what every server is told.
    async fn told(more: &[(&str, &str)]) -> Self {
        let place = Place::create().await;
        TestServer::at(place.clone(), |_| {}).await.stop().await;
        let told = variables(&place);
        let child = program().envs(told).envs(more.iter().copied()).spawn().unwrap();
        let mut process = Running(child);
        let url = wait_for_address(&mut process.0);
        let http = Client::builder().timeout(Duration::from_mins(5)).build().unwrap();
        while http.get(format!("{url}/readyz")).send().await.unwrap().status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = peak(&process);
        Self { process, url, http, took, place }
    }

    fn is_in_bounds_after(&self, what: &str) {
        self.took_less_than(100, what);
    }

    /// Above what it had when it was idle, in MiB.
    fn took_less_than(&self, limit: u64, what: &str) {
        let took = (peak(&self.process) - self.took) / MIB;
        println!("{what} took {took} MiB");
        assert!(took < limit, "{what} took {took} MiB");
    }
}

#[tokio::test]
async fn a_push_of_a_large_narinfo_takes_memory_that_is_bounded() {
    let server = Idle::start().await;
    let (http, url) = (&server.http, &server.url);
    let leaves: Vec<TestPath> =
        (0..10_000).map(|number| TestPath::new(&format!("leaf-{number}"), &[])).collect();
    let root = TestPath::new("root", &leaves.iter().collect::<Vec<_>>());
    let objects = leaves.iter().chain([&root]).flat_map(TestPath::objects).collect();
    let begun = begin(http, url, objects, &root).await;
    assert_eq!(begun.pending_objects.len(), 30_003);
    server.is_in_bounds_after("the begin of a narinfo of 10 000 references");
    let upload = format!("{url}/api/pending_closures/{}", begun.id);
    let body = sign_request(&leaves.iter().chain([&root]).collect::<Vec<_>>());
    let signed = http.post(format!("{upload}/sign")).bearer_auth(ADMIN).json(&body).send().await.unwrap();
    let signed: SignResponse = signed.error_for_status().unwrap().json().await.unwrap();
    assert_eq!(signed.signatures.len(), 10_001);
    server.is_in_bounds_after("its sign");
    let completed = http.post(format!("{upload}/complete")).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(completed.status(), StatusCode::NO_CONTENT, "{}", completed.text().await.unwrap());
    server.is_in_bounds_after("its commit");
    // Decoded for many at once, none of whom asks for it as it is stored.
    let address = format!("{url}/{}", root.key());
    let reads = (0..20).map(async |_| http.get(&address).send().await.unwrap().text().await.unwrap());
    for narinfo in join_all(reads).await {
        let references = narinfo.lines().find_map(|line| line.strip_prefix("References: ")).unwrap();
        assert_eq!(references.split(' ').count(), 10_000);
    }
    server.is_in_bounds_after("reading it");
}

#[tokio::test]
async fn a_begin_of_a_large_closure_takes_memory_that_is_bounded() {
    let server = Idle::start().await;
    let paths: Vec<TestPath> =
        (0..33_334).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let objects = paths.iter().flat_map(TestPath::objects).collect();
    let begun = begin(&server.http, &server.url, objects, &paths[0]).await;
    assert_eq!(begun.pending_objects.len(), 100_002);
    server.is_in_bounds_after("an upload of 100 000 objects");
}
