//! The server alone writes narinfos: the one in the bucket is the one that was committed, whoever holds addresses,
//! comes late or dies on the way.

use std::time::Duration;

use niks3_protocol::api::pending_closures::BeginResponse;
use niks3_protocol::nix::NarInfo;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::relay::Relay;
use crate::support::{ADMIN, TestServer, refusal, s3_address};

/// One path built twice, with different content.
fn twice() -> (TestPath, TestPath) {
    let built = |nar: &str| TestPath::with_nar("built", nar.as_bytes().to_vec(), &[]);
    (built("on our machine"), built("on their machine"))
}

impl TestServer {
    async fn collect_all(&self) {
        let run = self.request(Method::DELETE, "/api/closures?older-than=1h&force=true");
        assert_eq!(run.send().await.unwrap().status(), StatusCode::ACCEPTED);
        loop {
            let status = self.request(Method::GET, "/api/gc/status").send().await.unwrap();
            let status: Value = status.json().await.unwrap();
            if status["state"] != "running" {
                assert_eq!(status["state"], "succeeded", "{status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn narinfo(&self, path: &TestPath) -> NarInfo {
        self.get(&format!("/{}", path.key())).await.text().await.unwrap().parse().unwrap()
    }

    async fn begin_and_upload(&self, path: &TestPath) -> BeginResponse {
        let begun = self.begin(ADMIN, &begin_request(path, &[path])).await;
        self.upload(ADMIN, &begun, &[path]).await;
        begun
    }

    async fn completed(&self, begun: &BeginResponse) {
        let answer = self.complete(ADMIN, &begun.id).await;
        let status = answer.status();
        assert_eq!(status, StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
    }
}

/// The slower push holds addresses that are valid for hours, and ends without a commit.
#[tokio::test]
async fn a_slower_push_does_not_overwrite_what_another_committed() {
    let server = TestServer::start().await;
    let (ours, theirs) = twice();
    let slow = server.begin(ADMIN, &begin_request(&ours, &[&ours])).await;
    let quick = server.begin_and_upload(&theirs).await;
    server.completed(&quick).await;
    server.upload(ADMIN, &slow, &[&ours]).await;
    server.place().sql("update uploads set addresses_until = now() - interval '1 day'").await;
    server.place().sql("update uploads set started_at = now() - interval '2 days'").await;
    server.collect_all().await;
    let narinfo = server.narinfo(&ours).await;
    assert_eq!(narinfo.url, theirs.nar_key());
    assert_eq!(server.get(&format!("/{}", narinfo.url)).await.status(), StatusCode::OK);
    // Not even afterwards, with an address of a push that is long gone.
    let late = slow.pending_objects[&ours.key()].presigned_url.as_ref().unwrap();
    assert!(server.http.put(late).body("late").send().await.unwrap().status().is_success());
    assert_eq!(server.narinfo(&ours).await, narinfo);
    server.collect_all().await;
    let left = server.place().list_bucket().await;
    assert!(!left.iter().any(|key| key.starts_with("staging/")), "{left:?}");
}

#[tokio::test]
async fn a_client_that_leaves_narinfos_to_the_server_gets_no_address_for_them() {
    let server = TestServer::start().await;
    let dependency = TestPath::new("dependency", &[]);
    let root = TestPath::new("root", &[&dependency]);
    let config: Value = server.get("/api/cache-config").await.json().await.unwrap();
    assert!(config["extensions"].as_array().unwrap().contains(&json!("server-narinfos")), "{config}");
    let mut body = begin_request(&root, &[&root, &dependency]);
    body.server_narinfos = true;
    let begun = server.begin(ADMIN, &body).await;
    let pending = serde_json::to_value(&begun.pending_objects[&root.key()]).unwrap();
    assert_eq!(pending, json!({"type": "narinfo"}));
    for path in [&root, &dependency] {
        for (key, bytes) in path.stored() {
            server.place().write_object(&key, &bytes).await;
        }
    }
    // Nothing is committed that was not signed.
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("2 of the upload's narinfos were not signed"), "{text}");
    server.sign(ADMIN, &begun.id, &[&root]).await;
    let (_, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert!(text.contains("1 of the upload's narinfos") && text.contains(&dependency.key()), "{text}");
    assert!(!server.place().in_bucket(&root.key()).await, "nothing is written of a part");
    let signed = server.sign(ADMIN, &begun.id, &[&dependency, &root]).await;
    server.completed(&begun).await;
    let expected: NarInfo = root.narinfo(&signed.signatures[&root.key()]).parse().unwrap();
    assert_eq!(server.narinfo(&root).await, expected);
    assert!(server.public_key.verifies(&expected.fingerprint(), &expected.signatures[0]));
    let rows = server.place().rows::<(i64,)>("select count(*) from objects where settles_at is not null");
    assert_eq!(rows.await, [(0,)], "all was answered, so nothing is waited for");
}

#[tokio::test]
async fn what_a_client_of_1_7_sends_of_its_own_goes_again() {
    let server = TestServer::start().await;
    let (ours, _) = twice();
    let begun = server.begin_and_upload(&ours).await;
    let staged = format!("staging/{}/{}", begun.id, ours.key());
    assert!(server.place().in_bucket(&staged).await);
    assert_eq!(server.get(&format!("/{staged}")).await.status(), StatusCode::NOT_FOUND, "nobody reads it");
    server.completed(&begun).await;
    for _ in 0..100 {
        if !server.place().in_bucket(&staged).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{staged} is left");
}

/// A commit that dies after it claimed its narinfos: what it sent may still arrive, so others wait for that.
#[tokio::test]
async fn a_narinfo_is_not_written_while_a_write_of_another_may_arrive() {
    let server = TestServer::start().await;
    let (ours, theirs) = twice();
    let dead = server.begin_and_upload(&ours).await;
    let claimed =
        format!("update objects set writing_by = {}, settles_at = now() + interval '1 day'", dead.id);
    server.place().sql(&format!("{claimed} where key = '{}'", ours.key())).await;
    server.place().sql(&format!("delete from uploads where id = {}", dead.id)).await;
    let begun = server.begin_and_upload(&theirs).await;
    let (status, text) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("is being written by another push"), "{text}");
    assert!(!server.place().in_bucket(&ours.key()).await);

    // Nor is it deleted: what arrives would come back.
    server.place().sql("update uploads set addresses_until = now() - interval '1 day'").await;
    server.place().sql("update uploads set started_at = now() - interval '2 days'").await;
    server.collect_all().await;
    let rows = format!("select count(*) from objects where key = '{}'", ours.key());
    assert_eq!(server.place().rows::<(i64,)>(&rows).await, [(1,)]);

    server.place().sql("update objects set settles_at = now() where settles_at is not null").await;
    let begun = server.begin_and_upload(&theirs).await;
    server.completed(&begun).await;
    assert_eq!(server.narinfo(&theirs).await.url, theirs.nar_key());
}

/// The way to S3 breaks while narinfos are written; whoever completes again goes on where that ended.
#[tokio::test]
async fn a_commit_that_broke_off_is_completed_again() {
    let mut relay = Relay::to(&s3_address()).await;
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server = TestServer::with(|parts| {
        parts.bucket.public_endpoint = parts.bucket.endpoint.replace(s3);
        parts.bucket.request_timeout = Duration::from_secs(1);
    })
    .await;
    let (ours, theirs) = twice();
    let begun = server.begin_and_upload(&ours).await;
    let seal = format!("update uploads set sealed = true where id = {}", begun.id);
    server.place().sql(&seal).await;
    let path = format!("/api/pending_closures/{}/sign", begun.id);
    let answer = server.request(Method::POST, &path).json(&sign_request(&[&ours])).send().await.unwrap();
    let (status, text) = refusal(answer).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("its narinfos stand"), "{text}");
    relay.down().await;
    let (status, _) = refusal(server.complete(ADMIN, &begun.id).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    relay.up();
    let claim =
        "update objects set writing_by = (select id from uploads), settles_at = now() + interval '1 h'";
    server.place().sql(&format!("{claim} where key = '{}'", ours.key())).await;
    server.completed(&begun).await;
    let rows = server.place().rows::<(bool, bool)>(
        "select live, settles_at > now() from objects where key like '%.narinfo' and writing_by is null",
    );
    assert_eq!(rows.await, [(true, true)], "the first attempt may still be sending");
    // Another push finds it live and leaves it.
    let other = server.begin(ADMIN, &begin_request(&theirs, &[&theirs])).await;
    assert!(!other.pending_objects.contains_key(&theirs.key()));
}

#[tokio::test]
async fn a_nar_has_the_size_it_has_in_the_cache() {
    let server = TestServer::start().await;
    let nar = b"the same content".to_vec();
    let first = TestPath::with_nar("first", nar.clone(), &[]);
    let second = TestPath::with_nar("second", nar, &[]);
    server.push(&[&first]).await;
    let mut body = begin_request(&second, &[&second]);
    body.objects[1].nar_size = None;
    let begun = server.begin(ADMIN, &body).await;
    let mut body = serde_json::to_value(sign_request(&[&second])).unwrap();
    body["narinfos"][second.key()]["nar_size"] = json!(7);
    let path = format!("/api/pending_closures/{}/sign", begun.id);
    let (status, text) = refusal(server.request(Method::POST, &path).json(&body).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("has 16 bytes in the cache, 7 here"), "{text}");
}

/// A server that was away between its write and its commit for so long that another push took the narinfo over.
#[tokio::test]
async fn a_late_commit_leaves_the_row_of_a_narinfo_that_another_has_committed() {
    let mut relay = Relay::to(&s3_address()).await;
    relay.up();
    let s3 = format!("http://{}", relay.address);
    let server =
        TestServer::with(|parts| parts.bucket.public_endpoint = parts.bucket.endpoint.replace(s3)).await;
    let replica = server.replica(|_| {}).await;
    let (ours, theirs) = twice();
    let place = server.place();
    let begun = server.begin_and_upload(&ours).await;
    // So slow that it can be held once it has claimed its narinfo, and before it commits.
    relay.down().await;
    relay.delay_at("PUT /", 2000);
    relay.up();
    let away = async {
        let claimed = format!("select count(*) from objects where writing_by = {}", begun.id);
        while place.rows::<(i64,)>(&claimed).await != [(1,)] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut holder = place.database().connect().await.unwrap();
        let hold = format!("begin; select from uploads where id = {} for update", begun.id);
        sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut holder).await.unwrap();
        while place.waiting().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        place.sql("update objects set settles_at = now() where settles_at is not null").await;
        let other = replica.begin_and_upload(&theirs).await;
        replica.completed(&other).await;
        sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    };
    tokio::join!(server.completed(&begun), away);

    assert_eq!(replica.narinfo(&theirs).await.url, theirs.nar_key());
    let said = place.rows::<(String,)>("select nar_key from narinfos").await;
    assert_eq!(said, [(theirs.nar_key(),)], "what stands in the bucket");
    let stored = format!("select stored_size from objects where key = '{}'", ours.key());
    let size = i64::try_from(place.stored_bytes(&ours.key()).await.len()).unwrap();
    assert_eq!(place.rows::<(i64,)>(&stored).await, [(size,)]);
}
