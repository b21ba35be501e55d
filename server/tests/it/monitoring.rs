//! The dashboard and the alerts of the chart ask for metrics and labels that the server has.

use std::time::Duration;

use niks3_protocol::api::gc::{GcState, GcStats};
use niks3_server::auth::AuthError;
use niks3_server::metrics::{Metrics, S3Calls};

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, TestServer};

const DASHBOARD: &str = include_str!("../../../charts/niks3-operator/files/monitoring/dashboard.json");
const ALERTS: &str = include_str!("../../../charts/niks3-operator/files/monitoring/alerts.yaml");

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_the_server_tells() {
    let s3 = S3Calls::default();
    s3.count("get object", "ok", Duration::from_millis(1));
    let metrics = Metrics::new(&s3);
    metrics.count_resigned("failed", 1);
    metrics.count_request("GET", "/", 200, Duration::from_millis(1));
    metrics.count_auth(&Err(AuthError::Missing));
    metrics.count_begin(3, true);
    metrics.count_commit(Duration::from_millis(1), true);
    metrics.count_collection(Duration::from_secs(1), true, &GcStats::default());
    let pool = sqlx::PgPool::connect_lazy("postgres://nobody@127.0.0.1/nothing").unwrap();
    let told = metrics.render(&pool).unwrap();
    let asked = format!("{DASHBOARD}{ALERTS}");
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let names =
        asked.match_indices("niks3_").map(|(at, _)| asked[at..].split(|c| !is_name(c)).next().unwrap());
    let ours: Vec<&str> = names.filter(|name| !name.starts_with("niks3_operator_")).collect();
    assert!(ours.len() > 10, "{} are too few: were they found?", ours.len());
    for name in ours {
        let there =
            told.lines().any(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
        assert!(there, "the server has no metric {name}:\n{told}");
    }
    for label in ["status=", "route=", "outcome=", "le=", "result=", "outcome=\"failed\""] {
        assert!(told.contains(label), "the queries use the label {label}");
    }
}

/// The lines of `server/metrics.go` of niks3 1.7: names, and labels beside `le`.
const FORMER: [(&str, &[&str]); 12] = [
    ("niks3_cache_objects", &[]),
    ("niks3_cache_logical_bytes", &[]),
    ("niks3_pending_closures", &[]),
    ("niks3_db_connections_in_use", &[]),
    ("niks3_db_connections_max", &[]),
    ("niks3_http_requests_total", &["method", "route", "status"]),
    ("niks3_http_request_duration_seconds_bucket", &["method", "route"]),
    ("niks3_http_requests_in_flight", &[]),
    ("niks3_gc_runs_total", &["result"]),
    ("niks3_gc_duration_seconds_bucket", &[]),
    ("niks3_gc_objects_deleted_total", &[]),
    ("niks3_gc_last_run_timestamp_seconds", &[]),
];

#[tokio::test]
async fn what_niks3_1_7_told_is_told_by_its_names() {
    let server = TestServer::start().await;
    let [gone, kept] = ["gone", "kept"].map(|name| TestPath::new(name, &[]));
    server.push(&[&gone]).await;
    assert_eq!(server.collect("older-than=0s&force=true").await.state, GcState::Succeeded);
    server.push(&[&kept]).await;
    server.begin(ADMIN, &begin_request(&gone, &[&gone])).await;
    let told = server.get("/metrics").await.text().await.unwrap();
    let line = |name: &str| {
        let mut lines = told
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        lines.next_back().unwrap_or_else(|| panic!("no {name}:\n{told}"))
    };
    for (name, labels) in FORMER {
        for label in labels {
            assert!(line(name).contains(&format!("{label}=\"")), "{}", line(name));
        }
    }
    for (name, value) in [
        ("niks3_cache_objects", 3.0),
        ("niks3_cache_logical_bytes", f64::from(u32::try_from(kept.nar.len()).unwrap())),
        ("niks3_pending_closures", 1.0),
        ("niks3_db_connections_max", 10.0),
        ("niks3_http_requests_in_flight", 1.0),
        ("niks3_gc_runs_total{result=\"succeeded\"}", 1.0),
        ("niks3_gc_objects_deleted_total", 3.0),
    ] {
        let said = line(name).rsplit(' ').next().unwrap();
        assert_eq!(said.parse(), Ok(value), "{}", line(name));
    }
    let last = line("niks3_gc_last_run_timestamp_seconds").rsplit(' ').next().unwrap();
    let ago = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() - last.parse::<u64>().unwrap();
    assert!(ago < 60, "{ago}");

    // However often it is asked, the cache is counted now and then alone.
    server.place().sql("update objects set nar_size = nar_size + 1").await;
    let again = server.get("/metrics").await.text().await.unwrap();
    assert!(again.lines().any(|said| said == line("niks3_cache_logical_bytes")), "{again}");
}
