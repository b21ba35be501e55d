//! Traces, as a collector gets them.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use reqwest::Method;
use tokio::net::TcpListener;

use crate::start::{Running, program, variables};
use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, Place, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

type Received = Arc<Mutex<Vec<ResourceSpans>>>;

/// A collector; what does not come compressed and with the header it wants it refuses.
async fn collector() -> (String, Received) {
    async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let mut plain = Vec::new();
        if GzDecoder::new(&body[..]).read_to_end(&mut plain).is_err() {
            return StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        let Ok(request) = ExportTraceServiceRequest::decode(&plain[..]) else {
            return StatusCode::BAD_REQUEST;
        };
        if headers.get("x-tenant").is_none_or(|tenant| tenant != "cache a") {
            return StatusCode::UNAUTHORIZED;
        }
        received.lock().unwrap().extend(request.resource_spans);
        StatusCode::OK
    }
    let received = Received::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, received)
}

/// A server that sends its traces there, and the file it logs to.
async fn traced(place: &Place, more: &[(&str, &str)]) -> (TestServer, Running, String) {
    let server = TestServer::at(place.clone(), |_| {}).await;
    let log = place.write_file("log", "");
    let errors = Stdio::from(File::create(&log).unwrap());
    let more = more.iter().copied();
    let child = program().envs(variables(place)).envs(more).stderr(errors).spawn().unwrap();
    let running = Running(child);
    let mut server = server;
    server.url = wait_for(|| {
        let text = std::fs::read_to_string(&log).unwrap();
        let line = text.lines().find(|line| line.contains("\"listening\""))?;
        let port = line.split("127.0.0.1:").nth(1)?.split('"').next()?;
        Some(format!("http://127.0.0.1:{port}"))
    })
    .await;
    server.wait_until_ready().await;
    (server, running, log)
}

async fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come");
}

fn ask_to_stop(running: &mut Running) -> bool {
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    running.0.wait().unwrap().success()
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    found.map(|found| format!("{:?}", found.value)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_span_below_its_callers_and_its_calls_to_s3_are_below_it() {
    let place = Place::create().await;
    let (url, received) = collector().await;
    // Sent at the end alone: that nothing is lost there is shown too.
    let told = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=cache%20a"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_SERVICE_NAME", "cache-a"),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let (server, mut running, log) = traced(&place, &told).await;
    let path = TestPath::new("path", &[]);
    let begin = server.request(Method::POST, "/api/pending_closures").json(&begin_request(&path, &[&path]));
    let begin = begin.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    assert!(begin.header("x-request-id", "mine").send().await.unwrap().status().is_success());
    server.push(&[&path]).await;
    assert_eq!(server.get("/no-such-key").await.status(), 404);
    assert!(received.lock().unwrap().is_empty());
    assert!(ask_to_stop(&mut running), "{}", std::fs::read_to_string(log).unwrap());

    let received = received.lock().unwrap();
    let resource = &received[0].resource.as_ref().unwrap().attributes;
    assert!(text(resource, "service.name").contains("\"cache-a\""), "{resource:?}");
    let spans: Vec<&Span> =
        received.iter().flat_map(|of| &of.scope_spans).flat_map(|scope| &scope.spans).collect();
    let begun = spans.iter().find(|span| hex::encode(&span.trace_id) == TRACE).unwrap();
    assert_eq!(begun.name, "POST /api/pending_closures");
    assert_eq!((hex::encode(&begun.parent_span_id), begun.kind), (CALLER.to_owned(), 2));
    for (name, value) in [
        ("http.request.method", "\"POST\""),
        ("http.route", "\"/api/pending_closures\""),
        ("http.response.status_code", "IntValue(200)"),
        ("request_id", "\"mine\""),
        ("enduser.id", "\"token:default\""),
    ] {
        assert!(text(&begun.attributes, name).contains(value), "{name}: {begun:?}");
    }
    assert!(
        begun.events.iter().any(|event| text(&event.attributes, "summary").contains("insert into")),
        "{begun:?}"
    );

    let completed = spans.iter().find(|span| span.name.ends_with("/complete")).unwrap();
    assert!(completed.parent_span_id.is_empty());
    let below: Vec<&&Span> = spans
        .iter()
        .filter(|span| span.trace_id == completed.trace_id && span.name.starts_with("S3 "))
        .collect();
    assert!(below.iter().any(|span| span.name == "S3 head"), "{below:?}");
    assert!(below.iter().any(|span| text(&span.attributes, "aws.s3.key").contains(&path.key())), "{below:?}");
    assert!(!spans.iter().any(|span| span.name.contains("readyz")));
    let all = format!("{spans:?}").to_lowercase();
    assert!(!all.contains("x-amz-") && !all.contains(ADMIN), "no address and no token leaves the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_harms_nothing_and_is_told_of_once() {
    let place = Place::create().await;
    let told = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let (server, mut running, log) = traced(&place, &told).await;
    let count = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains("traces cannot be sent")).count()
    };
    server.push(&[&TestPath::new("path", &[])]).await;
    wait_for(|| (count() > 0).then_some(())).await;
    for _ in 0..10 {
        assert!(server.request(Method::GET, "/api/pins").send().await.unwrap().status().is_success());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let started = Instant::now();
    assert!(ask_to_stop(&mut running));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(count(), 1, "{}", std::fs::read_to_string(&log).unwrap());
}

#[test]
fn what_it_is_told_wrongly_of_traces_stops_the_start() {
    for (name, value, sentence) in [
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "is not a number from 0 to 1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[", "the collector of traces"),
    ] {
        let output = program().env(name, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(sentence), "{name}: {said}");
    }
}
