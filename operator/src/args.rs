//! Flags and environment. No logic.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use niks3_protocol::duration::{DurationError, GoDuration};

use crate::crd::binary_cache::PullPolicy;

/// Reconciles BinaryCaches and GCPolicies.
#[derive(Debug, Parser)]
#[command(name = "niks3-operator", version, about, long_about = None)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile until told to stop.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions.
    Crd(CrdArgs),
    /// Print docs/reference.md: every field, condition and reason.
    Reference(ReferenceArgs),
    /// Ask the API server, in a dry run, whether it takes a BinaryCache.
    SelfTest(SelfTestArgs),
}

/// `niks3-operator crd`
#[derive(Debug, ClapArgs)]
pub struct CrdArgs {
    /// Write a file for each kind into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    pub write: Option<PathBuf>,
}

/// `niks3-operator reference`
#[derive(Debug, ClapArgs)]
pub struct ReferenceArgs {
    /// Write it into this file instead.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// `niks3-operator self-test`
#[derive(Debug, ClapArgs)]
pub struct SelfTestArgs {
    /// The namespace that it would be made in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "niks3-system")]
    pub namespace: String,
}

/// `niks3-operator run`
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "NIKS3_OPERATOR_ADDR", default_value = "0.0.0.0:8080")]
    pub http_addr: SocketAddr,
    /// Objects of a kind reconciled at a time, in each namespace that is watched.
    #[arg(long, env = "NIKS3_OPERATOR_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Caches whose pods are made anew at a time for a reason of the operator's own, such as another image after its
    /// upgrade. What their specs say is carried out at once.
    #[arg(long, env = "NIKS3_OPERATOR_MAX_ROLLOUTS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_rollouts: u16,
    /// A namespace to look in; may be given several times. Left out, it is the whole cluster. In such a namespace the
    /// operator needs the rights of its ClusterRole by a Role, and none elsewhere.
    #[arg(long = "watch-namespace", env = "NIKS3_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE",
          value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// A cache that is well is looked at again after so long, a policy after twice that: Secrets are not watched.
    #[arg(long, env = "NIKS3_OPERATOR_RESYNC", default_value = "5m", value_parser = resync, value_name = "DURATION")]
    pub resync_interval: Duration,
    /// More detailed logs.
    #[arg(long, env = "NIKS3_DEBUG", default_value_t = false)]
    pub debug: bool,
}

/// What caches run where they do not say so themselves.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Images")]
pub struct Images {
    /// Image of server and client.
    #[arg(long = "server-image", env = "NIKS3_SERVER_IMAGE")]
    pub server: String,
    /// Image of the embedded S3 server.
    #[arg(long = "s3-image", env = "NIKS3_S3_IMAGE", default_value = "versity/versitygw:v1.8.0")]
    pub s3: String,
    /// Image of the embedded PostgreSQL.
    #[arg(long = "postgres-image", env = "NIKS3_POSTGRES_IMAGE", default_value = "postgres:17")]
    pub postgres: String,
    /// When these images are pulled; left out, Kubernetes decides by their tags.
    #[arg(long = "image-pull-policy", env = "NIKS3_IMAGE_PULL_POLICY", value_parser = pull_policy)]
    pub pull_policy: Option<PullPolicy>,
}

/// One operator at a time.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Leader election")]
pub struct LeaseArgs {
    /// Wait for the lease before reconciling.
    #[arg(long, env = "NIKS3_LEADER_ELECT", action = clap::ArgAction::Set, default_value_t = true)]
    pub leader_elect: bool,
    /// Name of the lease.
    #[arg(long, env = "NIKS3_LEASE_NAME", default_value = "niks3-operator")]
    pub lease_name: String,
    /// Namespace of the lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "niks3-system")]
    pub namespace: String,
    /// Who this operator is.
    #[arg(long, env = "POD_NAME", default_value = "niks3-operator")]
    pub identity: String,
}

fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well = (1..=63).contains(&text.len()) && text.chars().all(inner);
    let edges = !text.starts_with('-') && !text.ends_with('-');
    (well && edges).then(|| text.to_owned()).ok_or_else(|| "is no name of a namespace".to_owned())
}

fn resync(text: &str) -> Result<Duration, String> {
    let GoDuration(wait) = text.parse().map_err(|error: DurationError| error.to_string())?;
    let allowed = Duration::from_secs(10)..=Duration::from_hours(24);
    allowed.contains(&wait).then_some(wait).ok_or_else(|| "must be from 10s to 24h".to_owned())
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    [PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never]
        .into_iter()
        .find(|policy| policy.as_str() == text)
        .ok_or_else(|| "is none of Always, IfNotPresent and Never".to_owned())
}
