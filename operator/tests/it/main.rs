//! The operator against a real API server with etcd, without a kubelet: one server a run, a namespace a test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail as tests do, and read best with values"
)]

mod api_server;
mod caches;
mod chain;
mod chart;
mod clients;
mod collected;
mod configurations;
mod crds;
mod credentials;
mod distribution;
mod docs;
mod exposure;
mod faults;
mod fsck;
mod lease;
mod manifests;
mod moving;
mod outage;
mod plugin;
mod policies;
mod pool;
mod resigning;
mod resilience;
mod rollouts;
mod rotation;
mod run_now;
mod running;
mod scale;
mod scaling;
mod selectors;
mod specs;
mod stale;
mod strangers;
mod suspend;
mod tls;
mod told;
mod trouble;
mod unreadable;
mod upgrade;
mod volumes;
mod workload;
mod world;
