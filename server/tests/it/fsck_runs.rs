//! `POST /api/fsck`: comparisons that the server runs.

use niks3_protocol::api::fsck::{FsckPhase, FsckStatus};
use niks3_protocol::api::gc::{GcReason, GcState};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Duration, Instant, sleep};

use crate::support::closure::TestPath;
use crate::support::{TestServer, refusal};

impl TestServer {
    async fn start_fsck(&self, params: &Value) -> FsckStatus {
        let answer = self.request(Method::POST, "/api/fsck").json(params).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::ACCEPTED, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn ask(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn end_of_fsck(&self, started: &FsckStatus) -> FsckStatus {
        let give_up = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.ask(&format!("/api/fsck/runs/{}", started.id)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let run: FsckStatus = answer.json().await.unwrap();
            if run.state != GcState::Running {
                return run;
            }
            assert!(Instant::now() < give_up, "{run:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run_fsck(&self, params: &Value) -> FsckStatus {
        let started = self.start_fsck(params).await;
        self.end_of_fsck(&started).await
    }
}

#[tokio::test]
async fn a_run_says_what_it_found_and_repairs_no_more_than_it_may() {
    let server = TestServer::start().await;
    let paths = ["one", "two", "three"].map(|name| TestPath::new(name, &[]));
    for path in &paths {
        server.push(&[path]).await;
    }
    assert_eq!(server.ask("/api/fsck/status").await.status(), StatusCode::NOT_FOUND);
    let run = server.run_fsck(&json!({})).await;
    assert!(run.state == GcState::Succeeded && run.summary.is_clean() && run.summary.rows == 9, "{run:?}");

    for path in &paths[..2] {
        server.place().lose_object(&path.nar_key()).await;
    }
    let run = server.run_fsck(&json!({"mode": "check"})).await;
    assert_eq!((run.state, run.summary.missing, run.summary.is_clean()), (GcState::Succeeded, 2, false));
    let mut found: Vec<&String> = run.findings.iter().map(|finding| &finding.key).collect();
    found.sort_unstable();
    let mut lost = [paths[0].nar_key(), paths[1].nar_key()];
    lost.sort_unstable();
    assert_eq!(found, lost.iter().collect::<Vec<_>>());

    for limit in [json!({"max_delete_objects": 1}), json!({"max_delete_percent": 22})] {
        let mut params = json!({"mode": "repair"});
        params.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        let run = server.run_fsck(&params).await;
        assert_eq!((run.state, run.reason), (GcState::Failed, Some(GcReason::SafetyLimitReached)), "{run:?}");
        assert_eq!((run.summary.missing, run.summary.repaired), (2, 0));
        let live = "select key from objects where not live";
        assert_eq!(server.place().rows::<(String,)>(live).await, [] as [(String,); 0], "nothing is changed");
    }
    let run = server.run_fsck(&json!({"mode": "repair", "max_delete_percent": 23})).await;
    assert_eq!((run.state, run.phase), (GcState::Succeeded, FsckPhase::Repair), "{run:?}");
    assert_eq!((run.summary.repaired, run.summary.withdrawn, run.findings.len()), (2, 2, 2));
    assert!(run.summary.is_clean() && server.run_fsck(&json!({})).await.summary.is_clean());
    server.push(&[&paths[0]]).await;

    let runs: Vec<FsckStatus> = server.ask("/api/fsck/runs?limit=2").await.json().await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [run.id + 1, run.id]);
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused() {
    let server = TestServer::start().await;
    for (body, said) in [
        (json!({"mode": "mend"}), "mode"),
        (json!({"depe": true}), "depe"),
        (
            json!({"mode": "repair", "max_delete_percent": 0}),
            "max_delete_percent is 0; it has to be 1 to 100",
        ),
        (
            json!({"mode": "repair", "max_delete_objects": 0}),
            "max_delete_objects is 0; it has to be at least 1",
        ),
    ] {
        let answer = server.request(Method::POST, "/api/fsck").json(&body).send().await.unwrap();
        let (status, error) = refusal(answer).await;
        assert!(status == StatusCode::BAD_REQUEST && error.contains(said), "{body}: {status} {error}");
    }
    let anonymous = server.anonymous(Method::POST, "/api/fsck").json(&json!({})).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    let abort = server.request(Method::POST, "/api/fsck/abort").send().await.unwrap();
    assert_eq!(abort.status(), StatusCode::NOT_FOUND);
    for (id, expected) in [("7", StatusCode::NOT_FOUND), ("x", StatusCode::BAD_REQUEST)] {
        assert_eq!(server.ask(&format!("/api/fsck/runs/{id}")).await.status(), expected);
    }
}

/// Somebody holds the table's lock, so the run waits until it is ended.
#[tokio::test]
async fn one_runs_at_a_time_and_ends_when_asked_to() {
    let server = TestServer::start().await;
    server.push(&[&TestPath::new("one", &[])]).await;
    let mut holder = server.place().database().connect().await.unwrap();
    let lock = "begin; lock table objects in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    let started = server.start_fsck(&json!({"mode": "check"})).await;
    assert_eq!(started.state, GcState::Running);
    assert_eq!(server.start_fsck(&json!({})).await.id, started.id, "the same is the same run");
    let other = server.request(Method::POST, "/api/fsck").json(&json!({"deep": true})).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::CONFLICT);
    let conflict: Value = other.json().await.unwrap();
    assert_eq!(conflict["active_task"]["id"], json!(started.id), "{conflict}");
    let abort = server.request(Method::POST, "/api/fsck/abort").send().await.unwrap();
    assert_eq!(abort.status(), StatusCode::ACCEPTED);
    let run = server.end_of_fsck(&started).await;
    assert_eq!((run.state, run.reason), (GcState::Failed, Some(GcReason::Aborted)), "{run:?}");
    holder.close().await.unwrap();
    assert!(server.run_fsck(&json!({"deep": true})).await.summary.nars_read == 1);
}

#[tokio::test]
async fn what_a_dead_server_began_is_gone_on_with() {
    let server = TestServer::start().await;
    let paths = ["one", "two"].map(|name| TestPath::new(name, &[]));
    for path in &paths {
        server.push(&[path]).await;
    }
    let place = server.place();
    let keys = place.list_objects().await;
    let dead = format!(
        "insert into fsck_runs (state, phase, params, summary, findings, after, updated_at)
         values ('running', 'compare', '{{\"mode\": \"check\"}}', '{{\"objects\": 3, \"rows\": 3}}', '[]', '{}',
                 now() - interval '2 minutes')",
        keys[2]
    );
    place.sql(&dead).await;
    // It had been compared.
    place.lose_object(&keys[0]).await;
    let run = server.run_fsck(&json!({})).await;
    assert_eq!((run.summary.rows, run.summary.missing), (6, 0), "{run:?}");
    let old: FsckStatus = server.ask(&format!("/api/fsck/runs/{}", run.id - 1)).await.json().await.unwrap();
    assert_eq!(old.state, GcState::Failed);
    assert!(old.error.as_ref().is_some_and(|why| why.contains("the server that ran it stopped")), "{old:?}");

    // One of another kind begins at the beginning, and so does one after a whole day.
    place.sql(&dead).await;
    assert_eq!(server.run_fsck(&json!({"deep": true})).await.summary.missing, 1);
    place.sql(&dead).await;
    server.ask("/api/fsck/status").await;
    place.sql("update fsck_runs set finished_at = now() - interval '25 hours'").await;
    assert_eq!(server.run_fsck(&json!({})).await.summary.missing, 1);
}
