//! What large closures take of a server's memory: a process of its own, so that it can be measured.

use std::time::Duration;

use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, UploadObject};
use reqwest::{Client, StatusCode};

use crate::start::{Running, program, variables, wait_for_address};
use crate::support::closure::TestPath;
use crate::support::{ADMIN, Place, TestServer};

const MIB: u64 = 1 << 20;

/// The most that a process ever had.
fn peak(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

async fn begin(http: &Client, url: &str, objects: Vec<UploadObject>, root: &TestPath) -> usize {
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
    answer.json::<BeginResponse>().await.unwrap().pending_objects.len()
}

#[tokio::test]
async fn large_closures_take_memory_that_is_bounded() {
    let place = Place::create().await;
    TestServer::at(place.clone(), |_| {}).await.stop().await;
    let mut server = Running(program().envs(variables(&place)).spawn().unwrap());
    let url = wait_for_address(&mut server.0);
    let http = Client::builder().timeout(Duration::from_mins(5)).build().unwrap();
    while http.get(format!("{url}/readyz")).send().await.unwrap().status() != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let idle = peak(&server);

    let leaves: Vec<TestPath> =
        (0..10_000).map(|number| TestPath::new(&format!("leaf-{number}"), &[])).collect();
    let root = TestPath::new("root", &leaves.iter().collect::<Vec<_>>());
    let objects = leaves.iter().chain([&root]).flat_map(TestPath::objects).collect();
    assert_eq!(begin(&http, &url, objects, &root).await, 30_003);
    let took = peak(&server) - idle;
    assert!(took < 100 * MIB, "a narinfo of 10 000 references took {} MiB", took / MIB);

    let paths: Vec<TestPath> =
        (0..33_334).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let objects = paths.iter().flat_map(TestPath::objects).collect();
    assert_eq!(begin(&http, &url, objects, &paths[0]).await, 100_002);
    let took = peak(&server) - idle;
    println!("an upload of 100 000 objects took {} MiB", took / MIB);
    assert!(took < 100 * MIB, "an upload of 100 000 objects took {} MiB", took / MIB);
}
