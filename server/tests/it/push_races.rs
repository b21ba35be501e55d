//! Pushes of the same and of overlapping closures at once, on two replicas.

use futures::future::join_all;
use niks3_protocol::nix::NarInfo;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tokio::time::{Duration, sleep};

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, TestServer, refusal};

/// Collects everything unpinned that no closure younger than an hour reaches.
async fn collect(server: &TestServer) {
    let run = server.request(Method::DELETE, "/api/closures?older-than=1h&force=true").send().await.unwrap();
    assert_eq!(run.status(), StatusCode::ACCEPTED);
    loop {
        let status = server.request(Method::GET, "/api/gc/status").send().await.unwrap();
        let status: Value = status.json().await.unwrap();
        if status["state"] != "running" {
            assert_eq!(status["state"], "succeeded", "{status}");
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Objects that a server itself wrote.
async fn written(server: &TestServer) -> u64 {
    let told = server.get("/metrics").await.text().await.unwrap();
    let line = "niks3_s3_calls_total{operation=\"put\",result=\"ok\"} ";
    told.lines().find_map(|told| told.strip_prefix(line)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn sixty_four_pushes_of_one_closure_at_once_all_succeed() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let leaves: Vec<TestPath> = (0..5).map(|number| TestPath::new(&format!("leaf-{number}"), &[])).collect();
    let root = TestPath::new("root", &leaves.iter().collect::<Vec<_>>());
    let paths: Vec<&TestPath> = std::iter::once(&root).chain(&leaves).collect();
    let before = written(&server).await + written(&replica).await;
    join_all((0..64).map(|number| (if number % 2 == 0 { &server } else { &replica }).push(&paths))).await;
    let written = written(&server).await + written(&replica).await - before;
    assert_eq!(written, 6, "each narinfo is written once, whoever pushes it");
    for server in [&server, &replica] {
        let told = server.get("/metrics").await.text().await.unwrap();
        let mut calls = told.lines().filter(|line| line.contains("method=\"POST\""));
        let failed = calls.find(|line| line.contains("status=\"5"));
        assert!(failed.is_none(), "{failed:?}");
    }
    let rows = server.place().rows::<(i64, i64)>(
        "select (select count(*) from objects where live), (select count(*) from uploads)",
    );
    assert_eq!(rows.await, [(18, 0)]);
    collect(&server).await;
    assert_eq!(server.place().list_objects().await.len(), 18);
}

#[tokio::test]
async fn overlapping_closures_at_once_share_their_objects() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let shared: Vec<TestPath> =
        (0..6).map(|number| TestPath::new(&format!("shared-{number}"), &[])).collect();
    let roots: Vec<TestPath> = (0..10)
        .map(|number| {
            let references: Vec<&TestPath> = shared.iter().skip(number % 4).take(3).collect();
            TestPath::new(&format!("root-{number}"), &references)
        })
        .collect();
    let pushes = roots.iter().enumerate().map(|(number, root)| {
        let mut paths: Vec<&TestPath> = vec![root];
        paths.extend(shared.iter().skip(number % 4).take(3));
        let server = if number % 2 == 0 { &server } else { &replica };
        async move { server.push(&paths).await }
    });
    join_all(pushes).await;
    collect(&replica).await;
    assert_eq!(server.place().list_objects().await.len(), 3 * (10 + 6));
}

/// Both found none of the rows; PostgreSQL tells the later one when it has written all of its own but the last.
#[tokio::test]
async fn a_begin_in_whose_midst_another_writes_one_of_its_rows_has_them_all() {
    let server = TestServer::start().await;
    let place = server.place();
    let paths: Vec<TestPath> = (0..100).map(|number| TestPath::new(&format!("path-{number}"), &[])).collect();
    let request = begin_request(&paths[0], &paths.iter().collect::<Vec<_>>());
    let last = request.objects.iter().map(|object| object.key.as_str()).max().unwrap();
    let mut other = place.database().connect().await.unwrap();
    let insert = format!("begin; insert into objects (key) values ('{last}')");
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut other).await.unwrap();
    let commit = async {
        while place.waiting().await == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        sqlx::raw_sql("commit").execute(&mut other).await.unwrap();
    };
    let (begun, ()) = tokio::join!(server.begin(ADMIN, &request), commit);
    assert_eq!(begun.pending_objects.len(), 300);
    let rows = place.rows::<(i64, i64)>("select count(*), count(*) filter (where live) from objects");
    assert_eq!(rows.await, [(300, 0)]);
    let paths: Vec<&TestPath> = paths.iter().collect();
    server.upload(ADMIN, &begun, &paths).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn one_upload_completed_by_many_is_committed_once() {
    let server = TestServer::start().await;
    let path = TestPath::new("path", &[]);
    let begun = server.begin(ADMIN, &begin_request(&path, &[&path])).await;
    server.upload(ADMIN, &begun, &[&path]).await;
    let answers = join_all((0..8).map(|_| server.complete(ADMIN, &begun.id))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404, 404, 404, 404, 404, 404, 404]);
}

/// A build that is not reproducible, pushed from two machines at once: whichever narinfo ends up in the bucket,
/// its NAR is there.
#[tokio::test]
async fn different_content_of_one_path_is_kept_whichever_narinfo_won() {
    let server = TestServer::start().await;
    let ours = TestPath::with_nar("built", b"on our machine".to_vec(), &[]);
    let theirs = TestPath::with_nar("built", b"on their machine".to_vec(), &[]);
    let our_upload = server.begin(ADMIN, &begin_request(&ours, &[&ours])).await;
    let their_upload = server.begin(ADMIN, &begin_request(&theirs, &[&theirs])).await;
    server.upload(ADMIN, &our_upload, &[&ours]).await;
    server.upload(ADMIN, &their_upload, &[&theirs]).await;
    assert_eq!(server.complete(ADMIN, &their_upload.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.complete(ADMIN, &our_upload.id).await.status(), StatusCode::NO_CONTENT);
    collect(&server).await;
    let narinfo = server.get(&format!("/{}", ours.key())).await.text().await.unwrap();
    let narinfo: NarInfo = narinfo.parse().unwrap();
    assert_eq!(narinfo.url, theirs.nar_key());
    assert_eq!(server.get(&format!("/{}", narinfo.url)).await.status(), StatusCode::OK);
}

/// A dependency that was collected and pushed again has a new row; who stayed live refers to it by the old one.
#[tokio::test]
async fn a_dependency_pushed_anew_is_reached_by_who_stayed() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    server.push(&[&root, &dependency]).await;
    // The root was condemned a moment later than its dependency, so a sweep came between.
    let dependency_keys = [dependency.key(), dependency.nar_key(), dependency.listing_key()];
    for key in &dependency_keys {
        server.place().lose_object(key).await;
        server.place().sql(&format!("delete from objects where key = '{key}'")).await;
    }
    server.place().sql("delete from closures").await;
    let (status, text) = {
        let other = TestPath::new("other", &[&root]);
        let begun = server.begin(ADMIN, &begin_request(&other, &[&other])).await;
        server.upload(ADMIN, &begun, &[&other]).await;
        refusal(server.complete(ADMIN, &begun.id).await).await
    };
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("push the whole closure"), "{text}");

    server.push(&[&root, &dependency]).await;
    server.place().sql("delete from uploads").await;
    collect(&server).await;
    for key in &dependency_keys {
        assert!(server.place().in_bucket(key).await, "{key}");
    }
}

/// A second attempt is told what became of what the first one found outside.
#[tokio::test]
async fn what_was_collected_between_two_attempts_is_not_taken_for_there() {
    let server = TestServer::start().await;
    let place = server.place();
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    let other = TestPath::new("other", &[&root]);
    server.push(&[&root, &dependency]).await;
    let begun = server.begin(ADMIN, &begin_request(&other, &[&other])).await;
    for (key, bytes) in other.stored() {
        server.put_pending(&begun, &key, bytes).await;
    }
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("were not signed"), "{text}");
    // A collection that began before that deletes the dependency, and another push brings it back.
    place.sql("delete from closures").await;
    for key in [dependency.key(), dependency.nar_key(), dependency.listing_key()] {
        place.lose_object(&key).await;
        place.sql(&format!("delete from objects where key = '{key}'")).await;
    }
    server.push(&[&dependency]).await;

    server.sign(ADMIN, &begun.id, &[&other]).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("push the whole closure"), "{text}");
    assert!(
        !place.in_bucket(&other.key()).await,
        "it would lead to what the collection does not keep for it"
    );
    // And so it is whole.
    server.push(&[&other, &root, &dependency]).await;
}

#[tokio::test]
async fn no_narinfo_is_written_that_leads_to_what_is_being_deleted() {
    let server = TestServer::start().await;
    let place = server.place();
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    server.push(&[&dependency]).await;
    let begun = server.begin(ADMIN, &begin_request(&root, &[&root])).await;
    server.upload(ADMIN, &begun, &[&root]).await;
    let claim = "update objects set deleting_since = now(), deleting_by = 7 where key =";
    place.sql(&format!("{claim} '{}'", dependency.nar_key())).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains(&format!("{} is being deleted", dependency.nar_key())), "{text}");
    assert!(!place.in_bucket(&root.key()).await);
}
