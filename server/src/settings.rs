//! Arguments and configuration file, merged and checked once at start.

mod bucket;
mod database;
mod limits;
mod resign;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{AuthSection, ReadMode, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::app::Settings;
use crate::args::Args;
use crate::bucket::BucketConfig;
use crate::db::Database;
use crate::listen::Waits;
use crate::tls::TlsFiles;

/// What S3 takes for the lifetime of a presigned address, its lower end by reason.
const MIN_EXPIRY: GoDuration = GoDuration::seconds(60);
const MAX_EXPIRY: GoDuration = GoDuration::hours(7 * 24);

/// Everything a server is made of.
#[derive(Debug)]
pub struct Parts {
    /// How to reach PostgreSQL.
    pub database: Database,
    /// How to reach S3.
    pub bucket: BucketConfig,
    /// TLS of the server's own.
    pub tls: Option<TlsFiles>,
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
    pub fn load(mut args: Args) -> anyhow::Result<Self> {
        let mut file: ServerConfig = match given(args.config.as_deref()) {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("the configuration file {}", path.display()))?;
                serde_json::from_str(&text)
                    .with_context(|| format!("the configuration file {}", path.display()))?
            }
            None => ServerConfig::default(),
        };
        let database = database::database(args.database, file.database)?;
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
        let (tls, private_by_certificates) = tls::tls(args.tls, file.tls.take(), &mut file.auth)?;
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
        let bucket = bucket::bucket(args.s3, file.s3)?;
        let redirect_ttl = match text(args.cache.redirect_ttl) {
            Some(text) => text.parse().context("NIKS3_REDIRECT_TTL")?,
            None => file.reads.redirect_ttl.0,
        };
        if redirect_ttl < MIN_EXPIRY || redirect_ttl > MAX_EXPIRY {
            bail!("readers' addresses are to live {redirect_ttl}; S3 takes {MIN_EXPIRY} to {MAX_EXPIRY}");
        }
        Ok(Self {
            database,
            settings: Settings {
                cache_url: text(args.cache.cache_url)
                    .or(file.cache.url)
                    .or(text(args.cache.server_url))
                    .unwrap_or_default(),
                store_dir: text(args.cache.store_dir).unwrap_or(file.cache.store_dir),
                priority: file.cache.priority,
                want_mass_query: file.cache.want_mass_query,
                presign_expiry: presign_expiry.0,
                read_mode: (args.cache.read_mode)
                    .or_else(|| args.cache.enable_read_proxy.map(proxied))
                    .or(file.reads.mode)
                    .unwrap_or_else(|| proxied(file.read_proxy)),
                redirect_ttl: redirect_ttl.0,
                private_reads: args.cache.private_reads.unwrap_or(file.reads.private)
                    || private_by_certificates,
                s3_concurrency: concurrency,
                verify: args.cache.verify_uploads.unwrap_or(file.uploads.verify),
                bound: args.cache.bound_uploads.unwrap_or(file.uploads.bound),
                waits: Waits::default(),
                limits: limits::limits(args.limits, &file.limits)?,
                revoked_keys: resign::revoked_keys(args.resign.revoked_keys.take(), &file.revoked_keys)?,
                revoked_keys_file: given(args.resign.revoked_keys_file.as_deref())
                    .map(Path::to_owned)
                    .or(file.revoked_keys_file.map(PathBuf::from)),
                resign: resign::section(args.resign, file.resign)?,
            },
            bucket,
            tls,
            signing_keys,
            auth: file.auth,
            api_token,
            oidc,
        })
    }
}

fn proxied(is: bool) -> ReadMode {
    if is { ReadMode::Proxy } else { ReadMode::Disabled }
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

/// A file of CAs, looked at before anything relies on it.
fn ca(what: &str, path: Option<String>) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    let pem = std::fs::read(&path).with_context(|| format!("{what}: {path}"))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| format!("{what}: {path} is not PEM"))?;
        store
            .add(certificate)
            .with_context(|| format!("{what}: {path} has a certificate that cannot be read"))?;
    }
    if store.is_empty() {
        bail!("{what}: {path} has no certificate");
    }
    Ok(Some(pem))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;

    fn load(file: &Value, flags: &[&str]) -> Parts {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let config = path.to_str().unwrap();
        let common =
            ["niks3-server", "--db", "postgres://x@localhost/x", "--s3-bucket", "x", "--config", config];
        Parts::load(Args::try_parse_from(common.iter().chain(flags)).unwrap()).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_whatever_they_say() {
        let (on, off) = (json!({"private": true}), json!({"private": false}));
        for (reads, flags, expected) in [
            (&on, &[][..], true),
            (&on, &["--private-reads=false"], false),
            (&off, &["--private-reads"], true),
            (&on, &["--private-reads=false", "--mtls-bound-subject-read", "CN=r"], true),
        ] {
            let proxy = ["--mtls-proxy-header", "X-V", "--mtls-proxy-addresses", "10.0.0.1"];
            let parts = load(&json!({ "reads": reads }), &[&proxy[..], flags].concat());
            assert_eq!(parts.settings.private_reads, expected, "{reads} {flags:?}");
        }
        for (bound, flags, expected) in [
            (true, &[][..], true),
            (true, &["--bound-uploads=false"], false),
            (false, &["--bound-uploads"], true),
        ] {
            let parts = load(&json!({ "uploads": { "bound": bound } }), flags);
            assert_eq!(parts.settings.bound, expected, "{bound} {flags:?}");
        }
        let mode = |mode: &str| json!({ "reads": { "mode": mode } });
        for (file, flags, expected) in [
            (json!({}), &[][..], ReadMode::Disabled),
            (json!({ "read_proxy": true }), &[], ReadMode::Proxy),
            (json!({ "read_proxy": true }), &["--enable-read-proxy=false"], ReadMode::Disabled),
            (mode("Disabled"), &["--enable-read-proxy"], ReadMode::Proxy),
            (mode("Redirect"), &[], ReadMode::Redirect),
            (mode("Redirect"), &["--enable-read-proxy=false"], ReadMode::Disabled),
            (mode("Disabled"), &["--enable-read-proxy=false", "--read-mode", "redirect"], ReadMode::Redirect),
        ] {
            assert_eq!(load(&file, flags).settings.read_mode, expected, "{file} {flags:?}");
        }
    }

    #[test]
    fn a_certificate_of_flags_leaves_the_files_cas_and_lists_in_force() {
        let tls =
            json!({"cert_file": "/c", "key_file": "/k", "client_ca_file": "/a", "client_crl_file": "/r"});
        let other = ["--tls-cert", "/c2", "--tls-key", "/k2"];
        for (flags, expected) in [
            (&[][..], ["/c", "/k", "/a", "/r"]),
            (&other, ["/c2", "/k2", "/a", "/r"]),
            (&[&other[..], &["--tls-client-ca", "/a2"]].concat(), ["/c2", "/k2", "/a2", "/r"]),
            (&[&other[..], &["--tls-client-crl", "/r2"]].concat(), ["/c2", "/k2", "/a", "/r2"]),
            (&["--tls-client-ca", "/a2"], ["/c", "/k", "/a2", "/r"]),
        ] {
            let files = load(&json!({ "tls": tls }), flags).tls.unwrap();
            let found = [Some(files.certificate), Some(files.key), files.client_ca, files.client_crl];
            assert_eq!(found, expected.map(|path| Some(PathBuf::from(path))), "{flags:?}");
        }
    }
}
