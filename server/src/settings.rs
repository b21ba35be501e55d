//! Arguments and configuration file, merged and checked once at start.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{AddressingStyle, AuthSection, ReadMode, S3Section, ServerConfig};
use sqlx::postgres::PgConnectOptions;

use crate::app::Settings;
use crate::args::{Args, S3Args};
use crate::bucket::{BucketConfig, StaticCredentials};

/// What S3 takes for the lifetime of a presigned address, its lower end by reason.
const MIN_EXPIRY: GoDuration = GoDuration::seconds(60);
const MAX_EXPIRY: GoDuration = GoDuration::hours(7 * 24);

/// Everything a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// How to reach PostgreSQL.
    pub database: PgConnectOptions,
    /// Connections at most.
    pub max_connections: u32,
    /// How to reach S3.
    pub bucket: BucketConfig,
    /// Files with signing keys.
    pub signing_keys: Vec<PathBuf>,
    /// Who may do what.
    pub auth: AuthSection,
    /// The token of niks3 1.7 that may do everything.
    pub api_token: Option<String>,
    /// niks3 1.7's file of OIDC providers.
    pub oidc: Option<PathBuf>,
    /// What requests need.
    pub settings: Settings,
}

impl Parts {
    /// Reads and checks what was given.
    pub fn load(args: Args) -> anyhow::Result<Self> {
        let unsupported = args.unsupported.given();
        if !unsupported.is_empty() {
            bail!("{} is not supported by this version; unset it", unsupported.join(", "));
        }
        let file: ServerConfig = match given(args.config.as_deref()) {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("the configuration file {}", path.display()))?;
                serde_json::from_str(&text)
                    .with_context(|| format!("the configuration file {}", path.display()))?
            }
            None => ServerConfig::default(),
        };
        let url = match text(args.db) {
            Some(url) => url,
            None => read_secret("the database URL", file.database.url_file.as_ref())?
                .context("no database: set NIKS3_DB or --db to postgres://user:password@host/database")?,
        };
        let mut signing_keys = args.cache.sign_key_path;
        signing_keys.extend(
            args.cache.sign_key_paths.iter().flat_map(|all| all.split_whitespace()).map(PathBuf::from),
        );
        if signing_keys.is_empty() {
            signing_keys = file.signing_key_files.iter().map(PathBuf::from).collect();
        }
        let api_token = match read_secret("the API token", args.auth.api_token_path.as_ref())? {
            Some(token) => Some(token),
            None => text(args.auth.api_token),
        };
        let oidc = given(args.auth.oidc_config.as_deref()).map(Path::to_owned);
        if api_token.is_none() && oidc.is_none() && file.auth == AuthSection::default() {
            tracing::warn!("no identities are configured: nobody can push; set NIKS3_API_TOKEN");
        }
        let presign_expiry = match text(args.cache.presign_expiry) {
            Some(text) => text.parse().context("NIKS3_PRESIGN_EXPIRY")?,
            None => file.presign_expiry.0,
        };
        if presign_expiry < MIN_EXPIRY || presign_expiry > MAX_EXPIRY {
            bail!("upload addresses are to live {presign_expiry}; S3 takes {MIN_EXPIRY} to {MAX_EXPIRY}");
        }
        let concurrency = args.s3.s3_concurrency;
        let bucket = bucket(args.s3, file.s3)?;
        Ok(Self {
            database: database(&url)?,
            max_connections: file.database.max_connections,
            settings: Settings {
                cache_url: text(args.cache.cache_url)
                    .or(file.cache.url)
                    .or(text(args.cache.server_url))
                    .unwrap_or_default(),
                store_dir: text(args.cache.store_dir).unwrap_or(file.cache.store_dir),
                priority: file.cache.priority,
                want_mass_query: file.cache.want_mass_query,
                presign_expiry: presign_expiry.0,
                read_mode: match args.cache.read_mode.or(file.reads.mode) {
                    Some(mode) => mode,
                    None if args.cache.enable_read_proxy || file.read_proxy => ReadMode::Proxy,
                    None => ReadMode::Disabled,
                },
                private_reads: args.cache.private_reads || file.reads.private,
                s3_concurrency: concurrency,
                verify: args.cache.verify_uploads.unwrap_or(file.uploads.verify),
            },
            bucket,
            signing_keys,
            auth: file.auth,
            api_token,
            oidc,
        })
    }
}

/// An URL, or the `key=value` form of libpq that niks3 1.7 also takes.
fn database(text: &str) -> anyhow::Result<PgConnectOptions> {
    // The URL holds a password: no error may repeat it.
    if let Some((scheme, _)) = text.split_once("://") {
        // sqlx takes any scheme.
        let parsed = ["postgres", "postgresql"].contains(&scheme).then(|| text.parse().ok()).flatten();
        return parsed.context("the database URL is not postgres://user:password@host/database");
    }
    let mut options = PgConnectOptions::new();
    for pair in text.split_whitespace() {
        let (key, value) =
            pair.split_once('=').context("the database is given neither as URL nor as key=value")?;
        options = match key {
            "host" if value.starts_with('/') => options.socket(value),
            "host" => options.host(value),
            "port" => options.port(value.parse().context("the database's port")?),
            "user" => options.username(value),
            "password" => options.password(value),
            "dbname" => options.database(value),
            "sslmode" => options.ssl_mode(value.parse().context("the database's sslmode")?),
            "sslrootcert" => options.ssl_root_cert(value),
            other => bail!("the database option {other} is not supported; use a URL"),
        };
    }
    Ok(options)
}

fn bucket(args: S3Args, file: S3Section) -> anyhow::Result<BucketConfig> {
    let bucket = text(args.s3_bucket).unwrap_or(file.bucket);
    if bucket.is_empty() {
        bail!("no bucket: set NIKS3_S3_BUCKET or --s3-bucket");
    }
    let endpoint = text(args.s3_endpoint).or(file.endpoint).map(|endpoint| {
        if endpoint.contains("://") {
            endpoint
        } else {
            format!("{}://{endpoint}", if args.s3_use_ssl { "https" } else { "http" })
        }
    });
    let style = match text(args.s3_bucket_lookup).as_deref() {
        None => file.addressing_style,
        Some("auto") => AddressingStyle::Auto,
        Some("dns") => AddressingStyle::VirtualHosted,
        Some("path") => AddressingStyle::Path,
        Some(other) => bail!("the bucket lookup {other:?} is none of auto, dns and path"),
    };
    let access_key = secret(
        "the S3 access key",
        args.s3_access_key,
        args.s3_access_key_path.as_ref(),
        file.access_key_file.as_ref(),
    )?;
    let secret_key = secret(
        "the S3 secret key",
        args.s3_secret_key,
        args.s3_secret_key_path.as_ref(),
        file.secret_key_file.as_ref(),
    )?;
    let credentials = match (access_key, secret_key) {
        (Some(_), _) | (_, Some(_)) if args.s3_use_iam => {
            bail!("NIKS3_S3_USE_IAM and S3 keys exclude each other; give one of them")
        }
        (Some(access_key), Some(secret_key)) => Some(StaticCredentials { access_key, secret_key }),
        (None, None) => None,
        _ => bail!("the S3 access key and secret key belong together; only one is given"),
    };
    Ok(BucketConfig {
        path_style: match style {
            AddressingStyle::Auto => endpoint.as_ref().is_some_and(|at| !at.ends_with(".amazonaws.com")),
            AddressingStyle::Path => true,
            AddressingStyle::VirtualHosted => false,
        },
        endpoint,
        public_endpoint: text(args.s3_public_endpoint).or(file.public_endpoint),
        bucket,
        prefix: file.prefix,
        region: text(args.s3_region).unwrap_or(file.region),
        credentials,
        request_timeout: args.s3_request_timeout.0,
        create_bucket: file.create_bucket,
    })
}

/// A secret from the file an argument names (which wins, as in niks3 1.7), an argument, or the file that the
/// configuration names.
fn secret(
    what: &str,
    value: Option<String>,
    path: Option<&PathBuf>,
    configured: Option<&String>,
) -> anyhow::Result<Option<String>> {
    if let Some(secret) = read_secret(what, path)? {
        return Ok(Some(secret));
    }
    match text(value) {
        Some(secret) => Ok(Some(secret)),
        None => read_secret(what, configured),
    }
}

fn text(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

fn given(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn read_secret(what: &str, path: Option<&impl AsRef<Path>>) -> anyhow::Result<Option<String>> {
    let Some(path) = path.map(AsRef::as_ref).and_then(|path| given(Some(path))) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("{what}: {}", path.display()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
