//! Flags and NIKS3_* variables, those of niks3 1.7 first. Where a flag and the configuration file both say
//! something, the flag wins. An empty variable counts as absent.

mod limits;
mod resign;
mod tls;
mod traces;
mod values;
mod web_identity;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args as ClapArgs, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{EncryptionType, ReadMode, VerifyUploads};

pub use limits::LimitArgs;
pub use resign::ResignArgs;
pub use tls::TlsArgs;
pub use traces::{Sampler, TraceArgs};
use values::{concurrency, encryption, read_mode, request_timeout, switch, verify};
pub use web_identity::WebIdentityArgs;

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
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub s3: S3Args,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub auth: AuthArgs,
    #[command(flatten)]
    pub tls: TlsArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub traces: TraceArgs,
    #[command(flatten)]
    pub resign: ResignArgs,
}

/// What to do.
#[derive(Debug, Clone, Subcommand, PartialEq, Eq)]
pub enum Command {
    /// Serve until told to stop.
    Serve,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Check configuration, database and bucket, and end.
    Check,
    /// Compare bucket and database, and end: a line of JSON for each finding, then a summary. Exit code 1 where
    /// damage is left, 2 where it could not be compared.
    Fsck {
        /// Make rows of narinfos that have none, with what they need: of a bucket that `nix copy` or niks3 1.7
        /// wrote, or whose database was lost.
        #[arg(long)]
        adopt: bool,
        /// What was lost counts as not pushed, so that the next push sends it again, and narinfos that lead there
        /// are withdrawn; objects that no push committed are deleted once no push can be about to commit them.
        #[arg(long)]
        repair: bool,
        /// Read every NAR and compare its hash.
        #[arg(long)]
        deep: bool,
        /// Compare only keys after this one: where an interrupted run was.
        #[arg(long)]
        after: Option<String>,
    },
}

/// PostgreSQL.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Database, as `postgres://user:password@host/database`.
    #[arg(long, env = "NIKS3_DB", hide_env_values = true, global = true)]
    pub db: Option<String>,
    /// PEM file of CAs beside the system's; the database's certificate and name are verified then.
    #[arg(long, env = "NIKS3_DB_CA_FILE", global = true)]
    pub db_ca_file: Option<String>,
    /// Schema of the tables, made where it is missing: caches may share a database.
    #[arg(long, env = "NIKS3_DB_SCHEMA", global = true)]
    pub db_schema: Option<String>,
    /// Whether the server brings the tables up to date at its start: automatic, or manual (`niks3-server migrate` does).
    #[arg(long, env = "NIKS3_DB_MIGRATIONS", global = true)]
    pub db_migrations: Option<String>,
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
    /// File with the session token of keys that end; it and the files of its keys are read again and again.
    #[arg(long, env = "NIKS3_S3_SESSION_TOKEN_PATH", global = true)]
    pub s3_session_token_path: Option<PathBuf>,
    /// Tell S3 to encrypt what is written: aes256 (with its own keys) or kms.
    #[arg(long, env = "NIKS3_S3_ENCRYPTION", value_parser = encryption, global = true)]
    pub s3_encryption: Option<EncryptionType>,
    /// The key of the key management service, with the encryption kms.
    #[arg(long, env = "NIKS3_S3_KMS_KEY_ID", global = true)]
    pub s3_kms_key_id: Option<String>,
    /// PEM file of CAs beside the system's.
    #[arg(long, env = "NIKS3_S3_CA_FILE", global = true)]
    pub s3_ca_file: Option<String>,
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
    #[arg(long, env = "NIKS3_S3_CONCURRENCY", default_value = "100", value_parser = concurrency, global = true)]
    pub s3_concurrency: usize,
    /// The limit on one S3 request; the collector derives from it when a lost request is settled.
    #[arg(long, env = "NIKS3_S3_REQUEST_TIMEOUT", default_value = "30s", value_parser = request_timeout, global = true)]
    pub s3_request_timeout: GoDuration,
    /// Requests to S3 a second at most; 0 is any number. Either way the server slows down while S3 throttles.
    #[arg(long, env = "NIKS3_S3_RATE_LIMIT", global = true)]
    pub s3_rate_limit: Option<String>,
    #[command(flatten)]
    pub web_identity: WebIdentityArgs,
}

/// The cache.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// Where Nix reads from.
    #[arg(long, env = "NIKS3_CACHE_URL", global = true)]
    pub cache_url: Option<String>,
    /// Where clients reach this server; stands in for where Nix reads from, where that is left out.
    #[arg(long, env = "NIKS3_SERVER_URL", global = true)]
    pub server_url: Option<String>,
    /// Serve objects from the bucket, for private buckets.
    #[arg(long, env = "NIKS3_ENABLE_READ_PROXY", value_parser = switch, num_args = 0..=1,
        default_missing_value = "true", global = true)]
    pub enable_read_proxy: Option<bool>,
    /// How objects are served: disabled, proxy, or redirect (NARs by an address of the bucket, the rest as with
    /// proxy).
    #[arg(long, env = "NIKS3_READ_MODE", value_parser = read_mode, global = true)]
    pub read_mode: Option<ReadMode>,
    /// How long the addresses live that readers are redirected to.
    #[arg(long, env = "NIKS3_REDIRECT_TTL", global = true)]
    pub redirect_ttl: Option<String>,
    /// Serve objects only to identities with the permission Read.
    #[arg(long, env = "NIKS3_PRIVATE_READS", value_parser = switch, num_args = 0..=1,
        default_missing_value = "true", global = true)]
    pub private_reads: Option<bool>,
    /// File with signing keys, one a line, read again when it changes; may be given several times.
    #[arg(long = "sign-key-path", global = true)]
    pub sign_key_path: Vec<PathBuf>,
    /// Files with signing keys, separated by white space.
    #[arg(long, env = "NIKS3_SIGN_KEY_PATHS", global = true)]
    pub sign_key_paths: Option<String>,
    /// How long upload addresses live.
    #[arg(long, env = "NIKS3_PRESIGN_EXPIRY", global = true)]
    pub presign_expiry: Option<String>,
    /// What is looked at before anything is signed and committed: none, head (each new object is there) or
    /// hash (new NARs are read back).
    #[arg(long, env = "NIKS3_VERIFY_UPLOADS", value_parser = verify, global = true)]
    pub verify_uploads: Option<VerifyUploads>,
    /// Tell clients that they may ask for upload addresses when they have the bytes, bound to length and sha256.
    #[arg(long, env = "NIKS3_BOUND_UPLOADS", value_parser = switch, num_args = 0..=1,
        default_missing_value = "true", global = true)]
    pub bound_uploads: Option<bool>,
    /// The store whose paths this cache holds.
    #[arg(long, env = "NIX_STORE_DIR", global = true)]
    pub store_dir: Option<String>,
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
    /// File of OIDC providers (JSON), as niks3 1.7 has it; may also give each `permissions` and `pins`.
    #[arg(long, env = "NIKS3_OIDC_CONFIG", global = true)]
    pub oidc_config: Option<PathBuf>,
}

impl Args {
    /// What flags and variables say; where that is wrong, the program ends. The parsers of paths, numbers and words would
    /// refuse an empty variable, or take it for one that says something.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let command = Self::command().mut_args(|argument| match argument.get_env() {
            Some(name) if empty(name) => argument.env(Resettable::Reset),
            _ => argument,
        });
        let mut matches = command.get_matches_from(from_go(arguments));
        Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
    }
}

/// The arguments as Go's `flag` takes them: niks3 1.7 is also told `-db URL` and `-s3-use-ssl=false`.
fn from_go(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let long = |argument: &OsString| {
        let text = argument.to_str()?;
        let name = text.strip_prefix('-').filter(|name| !name.starts_with('-'))?;
        (name.split('=').next().is_some_and(|name| name.len() > 1)).then(|| format!("--{name}").into())
    };
    arguments.into_iter().map(|argument| long(&argument).unwrap_or(argument)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Args {
        let arguments = ["niks3-server"].iter().chain(arguments).map(OsString::from);
        Args::try_parse_from(from_go(arguments)).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_may_be_written_as_go_takes_them() {
        let args = parse(&["-db", "postgres://a", "-s3-use-ssl=false", "--s3-use-iam", "-enable-read-proxy"]);
        assert_eq!(args.database.db.as_deref(), Some("postgres://a"));
        assert!(!args.s3.s3_use_ssl && args.s3.s3_use_iam && args.cache.enable_read_proxy == Some(true));
        let args = parse(&["-sign-key-path", "/a", "-sign-key-path", "/b", "migrate"]);
        assert_eq!(args.cache.sign_key_path.len(), 2);
        assert_eq!(args.command, Some(Command::Migrate));
    }
}
