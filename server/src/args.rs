//! Flags and NIKS3_* variables, those of niks3 1.7 first. Where a flag and the configuration file both say
//! something, the flag wins. An empty variable counts as absent.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use niks3_protocol::duration::GoDuration;

/// The server of a Nix binary cache on S3.
#[derive(Debug, Parser)]
#[command(name = "niks3-server", version, about, long_about = None)]
pub struct Args {
    /// What to do; `serve` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file (JSON), as the operator writes it.
    #[arg(long, env = "NIKS3_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Address to listen on; `:5751` is every address of this machine.
    #[arg(long, env = "NIKS3_HTTP_ADDR", default_value = ":5751", global = true)]
    pub http_addr: String,
    /// More detailed logs.
    #[arg(long, env = "NIKS3_DEBUG", value_parser = switch, num_args = 0..=1, default_value = "false",
        default_missing_value = "true", global = true)]
    pub debug: bool,
    /// Database, as `postgres://user:password@host/database`.
    #[arg(long, env = "NIKS3_DB", hide_env_values = true, global = true)]
    pub db: Option<String>,
    #[command(flatten)]
    pub s3: S3Args,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub auth: AuthArgs,
    #[command(flatten)]
    pub unsupported: UnsupportedArgs,
}

/// What to do.
#[derive(Debug, Clone, Copy, Subcommand, PartialEq, Eq)]
pub enum Command {
    /// Serve until told to stop.
    Serve,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Check configuration, database and bucket, and end.
    Check,
}

/// The bucket.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "S3")]
pub struct S3Args {
    /// S3 server, `host:port` or an origin with scheme.
    #[arg(long, env = "NIKS3_S3_ENDPOINT", global = true)]
    pub s3_endpoint: Option<String>,
    /// Origin that upload addresses are signed for, where clients reach S3 under another name.
    #[arg(long, env = "NIKS3_S3_PUBLIC_ENDPOINT", global = true)]
    pub s3_public_endpoint: Option<String>,
    /// Bucket.
    #[arg(long, env = "NIKS3_S3_BUCKET", global = true)]
    pub s3_bucket: Option<String>,
    /// Region.
    #[arg(long, env = "NIKS3_S3_REGION", global = true)]
    pub s3_region: Option<String>,
    /// Access key id.
    #[arg(long, env = "NIKS3_S3_ACCESS_KEY", hide_env_values = true, global = true)]
    pub s3_access_key: Option<String>,
    /// Secret access key.
    #[arg(long, env = "NIKS3_S3_SECRET_KEY", hide_env_values = true, global = true)]
    pub s3_secret_key: Option<String>,
    /// File with the access key id.
    #[arg(long, env = "NIKS3_S3_ACCESS_KEY_PATH", global = true)]
    pub s3_access_key_path: Option<PathBuf>,
    /// File with the secret access key.
    #[arg(long, env = "NIKS3_S3_SECRET_KEY_PATH", global = true)]
    pub s3_secret_key_path: Option<PathBuf>,
    /// https for an endpoint without scheme.
    #[arg(long, env = "NIKS3_S3_USE_SSL", value_parser = switch, num_args = 0..=1, default_value = "true",
        default_missing_value = "true", global = true)]
    pub s3_use_ssl: bool,
    /// Credentials from the environment (web identity, instance profile) instead of keys.
    #[arg(long, env = "NIKS3_S3_USE_IAM", value_parser = switch, num_args = 0..=1, default_value = "false",
        default_missing_value = "true", global = true)]
    pub s3_use_iam: bool,
    /// Where the bucket's name stands in an address: auto, dns or path.
    #[arg(long, env = "NIKS3_S3_BUCKET_LOOKUP", global = true)]
    pub s3_bucket_lookup: Option<String>,
    /// S3 requests one push may have under way.
    #[arg(long, env = "NIKS3_S3_CONCURRENCY", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=10_000), global = true)]
    pub s3_concurrency: u16,
    /// The limit on one S3 request; the collector derives from it when a lost request is settled.
    #[arg(long, env = "NIKS3_S3_REQUEST_TIMEOUT", default_value = "30s", global = true)]
    pub s3_request_timeout: GoDuration,
}

/// The cache.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// Where Nix reads from.
    #[arg(long, env = "NIKS3_CACHE_URL", global = true)]
    pub cache_url: Option<String>,
    /// Where clients reach this server; said on the landing page.
    #[arg(long, env = "NIKS3_SERVER_URL", global = true)]
    pub server_url: Option<String>,
    /// Serve objects from the bucket, for private buckets.
    #[arg(long, env = "NIKS3_ENABLE_READ_PROXY", value_parser = switch, num_args = 0..=1,
        default_value = "false", default_missing_value = "true", global = true)]
    pub enable_read_proxy: bool,
    /// File with a signing key; may be given several times.
    #[arg(long = "sign-key-path", global = true)]
    pub sign_key_path: Vec<PathBuf>,
    /// Files with signing keys, separated by white space.
    #[arg(long, env = "NIKS3_SIGN_KEY_PATHS", global = true)]
    pub sign_key_paths: Option<String>,
    /// How long upload addresses live.
    #[arg(long, env = "NIKS3_PRESIGN_EXPIRY", global = true)]
    pub presign_expiry: Option<GoDuration>,
}

/// Identities.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Identities")]
pub struct AuthArgs {
    /// A token that may do everything.
    #[arg(long, env = "NIKS3_API_TOKEN", hide_env_values = true, global = true)]
    pub api_token: Option<String>,
    /// File with a token that may do everything.
    #[arg(long, env = "NIKS3_API_TOKEN_PATH", global = true)]
    pub api_token_path: Option<PathBuf>,
}

/// Options of niks3 1.7 that this version does not have: it refuses to start with one rather than serve
/// without what somebody relies on.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Not supported yet")]
pub struct UnsupportedArgs {
    /// Refused.
    #[arg(long, env = "NIKS3_OIDC_CONFIG", hide = true, global = true)]
    pub oidc_config: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_TLS_CERT", hide = true, global = true)]
    pub tls_cert: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_TLS_KEY", hide = true, global = true)]
    pub tls_key: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_TLS_CLIENT_CA", hide = true, global = true)]
    pub tls_client_ca: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_MTLS_PROXY_HEADER", hide = true, global = true)]
    pub mtls_proxy_header: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_MTLS_SUBJECT_HEADER", hide = true, global = true)]
    pub mtls_subject_header: Option<String>,
    /// Refused.
    #[arg(long, env = "NIKS3_S3_RATE_LIMIT", hide = true, global = true)]
    pub s3_rate_limit: Option<String>,
}

impl UnsupportedArgs {
    /// The options that were given all the same.
    pub fn given(&self) -> Vec<&'static str> {
        [
            ("NIKS3_OIDC_CONFIG", &self.oidc_config),
            ("NIKS3_TLS_CERT", &self.tls_cert),
            ("NIKS3_TLS_KEY", &self.tls_key),
            ("NIKS3_TLS_CLIENT_CA", &self.tls_client_ca),
            ("NIKS3_MTLS_PROXY_HEADER", &self.mtls_proxy_header),
            ("NIKS3_MTLS_SUBJECT_HEADER", &self.mtls_subject_header),
            ("NIKS3_S3_RATE_LIMIT", &self.s3_rate_limit),
        ]
        .into_iter()
        .filter(|(_, value)| value.as_ref().is_some_and(|value| !value.is_empty()))
        .map(|(name, _)| name)
        .collect()
    }
}

/// Go's booleans, and an empty variable as false.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
