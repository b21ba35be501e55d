//! Traces by OTLP. Nothing of this is made where no collector is named.
//!
//! A request is a span, with the caller's as its parent; below it are its calls to S3, and its statements as events.
//! A collection is a span of its own. What cannot be sent is dropped: the queue is bounded, and nobody waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{HeaderMap, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use crate::args::{Sampler as Choice, TraceArgs};
use crate::db::STATEMENTS;

/// How long the end of the process waits for the last spans to be sent.
const LAST: Duration = Duration::from_secs(5);

const TRACEPARENT: &str = "traceparent";

/// What sends traces.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// As it is said; `None` where no collector is named. Nothing is sent yet.
    pub fn open(args: &TraceArgs) -> anyhow::Result<Option<Self>> {
        let Some(address) = args.address() else { return Ok(None) };
        let sender = Otlp::builder().with_http().with_protocol(Protocol::HttpBinary);
        let sender = sender.with_endpoint(&address).build().context("the collector of traces")?;
        let sender = Sender { otlp: sender, failing: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(args))
            .with_resource(resource())
            .with_batch_exporter(sender)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What takes spans from where they are made.
    pub(super) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        // Spans of calls are of the level TRACE, so that logs do without them. Nothing of what sends them is traced.
        let ours =
            Targets::new().with_target("niks3_server", Level::TRACE).with_target(STATEMENTS, Level::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("niks3-server"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours)
            .boxed()
    }

    /// Sends what is left.
    pub fn close(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last traces are not sent");
        }
    }
}

fn sampler(args: &TraceArgs) -> Sampler {
    let ratio = Sampler::TraceIdRatioBased(args.traces_sampler_arg);
    let by_parent = |otherwise| Sampler::ParentBased(Box::new(otherwise));
    match args.traces_sampler {
        Choice::AlwaysOn => Sampler::AlwaysOn,
        Choice::AlwaysOff => Sampler::AlwaysOff,
        Choice::Ratio => ratio,
        Choice::ParentOrOn => by_parent(Sampler::AlwaysOn),
        Choice::ParentOrOff => by_parent(Sampler::AlwaysOff),
        Choice::ParentOrRatio => by_parent(ratio),
    }
}

/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and our own name where they say none.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&Key::from_static_str("service.name")).map(|name| name.to_string());
    let builder =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match name {
        Some(name) if !name.starts_with("unknown_service") => builder.build(),
        _ => builder.with_service_name("niks3-server").build(),
    }
}

/// Makes the caller's span the parent of a request's, where it says one.
pub fn continues(span: &Span, headers: &HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        // Without a collector there is nothing to set.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Sent(headers)));
    }
}

/// Notes how a request was answered.
pub fn answered(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
}

struct Sent<'a>(&'a HeaderMap);

impl Extractor for Sent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Sends spans under OpenTelemetry's names, and says once that it cannot and once that it can again.
#[derive(Debug)]
struct Sender {
    otlp: Otlp,
    failing: AtomicBool,
}

impl SpanExporter for Sender {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.retain(|span| !is_probe(span));
        if batch.is_empty() {
            return Ok(());
        }
        batch.iter_mut().for_each(name);
        let sent = self.otlp.export(batch).await;
        match (&sent, self.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "traces cannot be sent; they are dropped until they can");
            }
            (Ok(()), true) => tracing::info!("traces are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.otlp.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| &attribute.value)
}

/// They come every few seconds, and tell nothing.
fn is_probe(span: &SpanData) -> bool {
    span.name == "request"
        && attribute(span, "route")
            .is_some_and(|route| matches!(&*route.as_str(), "/readyz" | "/livez" | "/health" | "/metrics"))
}

/// From the names of the logs to those of OpenTelemetry's conventions.
fn name(span: &mut SpanData) {
    let text = |name| attribute(span, name).map(|value| value.as_str().into_owned()).unwrap_or_default();
    let (kind, name) = match &*span.name {
        "request" => (SpanKind::Server, format!("{} {}", text("method"), text("route"))),
        "s3" => (SpanKind::Client, format!("S3 {}", text("operation"))),
        _ => return,
    };
    (span.span_kind, span.name) = (kind, name.into());
    for attribute in &mut span.attributes {
        attribute.key = Key::from_static_str(match attribute.key.as_str() {
            "method" => "http.request.method",
            "route" => "http.route",
            "identity" => "enduser.id",
            "operation" => "rpc.method",
            "key" => "aws.s3.key",
            _ => continue,
        });
    }
}
