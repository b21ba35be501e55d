//! Traces, by the variables of OpenTelemetry. What only its SDK is told (headers, timeouts, queue, resource) it reads
//! itself.

use clap::{Args as ClapArgs, ValueEnum};

/// Traces.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// OTLP collector that traces are sent to, over HTTP as protobuf: http://collector:4318. None without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true)]
    pub otlp_endpoint: Option<String>,
    /// The same with its path, where that is not /v1/traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", global = true)]
    pub otlp_traces_endpoint: Option<String>,
    /// Which requests are traced.
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        value_enum,
        default_value = "parentbased_always_on",
        global = true
    )]
    pub traces_sampler: Sampler,
    /// The share of them, of samplers by ratio.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_parser = share, default_value = "1", global = true)]
    pub traces_sampler_arg: f64,
}

/// OpenTelemetry's samplers.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share of all.
    #[value(name = "traceidratio")]
    Ratio,
    /// As the caller says, else all.
    #[value(name = "parentbased_always_on")]
    ParentOrOn,
    /// As the caller says, else none.
    #[value(name = "parentbased_always_off")]
    ParentOrOff,
    /// As the caller says, else a share.
    #[value(name = "parentbased_traceidratio")]
    ParentOrRatio,
}

impl TraceArgs {
    /// Where traces go. An empty variable counts as absent.
    pub fn address(&self) -> Option<String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        given(&self.otlp_traces_endpoint).or_else(|| {
            given(&self.otlp_endpoint).map(|origin| format!("{}/v1/traces", origin.trim_end_matches('/')))
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is not a number from 0 to 1"))
}
