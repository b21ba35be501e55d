//! The dashboard and the alerts of the chart ask for metrics and labels that the server has.

use std::time::Duration;

use niks3_server::auth::AuthError;
use niks3_server::metrics::{Metrics, S3Calls};

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
    metrics.count_collection(Duration::from_secs(1), true);
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
