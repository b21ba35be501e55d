//! How to reach S3.

use std::path::PathBuf;

use anyhow::bail;
use niks3_protocol::server_config::{AddressingStyle, EncryptionSection, S3Section};

use super::{ca, read_secret, text};
use crate::args::{S3Args, WebIdentityArgs};
use crate::bucket::{BucketConfig, Encryption, SessionFiles, StaticCredentials, WebIdentity};

pub(super) fn bucket(args: S3Args, file: S3Section) -> anyhow::Result<BucketConfig> {
    let session = session(&args, &file)?;
    let credentials = if session.is_some() { None } else { keys(&args, &file)? };
    if args.s3_use_iam && (session.is_some() || credentials.is_some()) {
        bail!("NIKS3_S3_USE_IAM and S3 keys exclude each other; give one of them");
    }
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
    let encryption = match (args.s3_encryption, text(args.s3_kms_key_id)) {
        (Some(kind), kms_key_id) => Some(EncryptionSection { kind, kms_key_id }),
        (None, None) => file.encryption,
        (None, Some(_)) => bail!("a KMS key is given and no encryption: set NIKS3_S3_ENCRYPTION=kms"),
    };
    let encryption = encryption.map(Encryption::of).transpose().map_err(anyhow::Error::msg)?;
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
        session,
        encryption,
        web_identity: web_identity(args.web_identity)?,
        request_timeout: args.s3_request_timeout.0,
        create_bucket: file.create_bucket,
        rate_limit: super::limits::s3_rate(args.s3_rate_limit)?.unwrap_or(file.rate_limit),
        ca: ca("the CA file of S3", text(args.s3_ca_file).or(file.ca_file))?,
    })
}

/// The keys, where both are given.
fn keys(args: &S3Args, file: &S3Section) -> anyhow::Result<Option<StaticCredentials>> {
    let access_key = secret(
        "the S3 access key",
        args.s3_access_key.as_ref(),
        args.s3_access_key_path.as_ref(),
        file.access_key_file.as_ref(),
    )?;
    let secret_key = secret(
        "the S3 secret key",
        args.s3_secret_key.as_ref(),
        args.s3_secret_key_path.as_ref(),
        file.secret_key_file.as_ref(),
    )?;
    match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => Ok(Some(StaticCredentials { access_key, secret_key })),
        (None, None) => Ok(None),
        _ => bail!("the S3 access key and secret key belong together; only one is given"),
    }
}

/// The files of keys that end, where a session token is named.
fn session(args: &S3Args, file: &S3Section) -> anyhow::Result<Option<SessionFiles>> {
    let path = |argument: Option<&PathBuf>, configured: Option<&String>| {
        let argument = argument.filter(|path| !path.as_os_str().is_empty()).cloned();
        argument.or_else(|| configured.filter(|path| !path.is_empty()).map(PathBuf::from))
    };
    let Some(session_token) = path(args.s3_session_token_path.as_ref(), file.session_token_file.as_ref())
    else {
        return Ok(None);
    };
    let access_key = path(args.s3_access_key_path.as_ref(), file.access_key_file.as_ref());
    let secret_key = path(args.s3_secret_key_path.as_ref(), file.secret_key_file.as_ref());
    let (Some(access_key), Some(secret_key)) = (access_key, secret_key) else {
        bail!(
            "the S3 session token {} changes together with its keys: give those as files too (NIKS3_S3_ACCESS_KEY_PATH, \
             NIKS3_S3_SECRET_KEY_PATH)",
            session_token.display()
        );
    };
    Ok(Some(SessionFiles { access_key, secret_key, session_token }))
}

/// Where a file with a token is named. A role alone is nothing: the SDK reads it with other sources.
fn web_identity(args: WebIdentityArgs) -> anyhow::Result<Option<WebIdentity>> {
    let Some(token_file) = text(args.s3_web_identity_token_file) else { return Ok(None) };
    let sts_endpoint = text(args.s3_sts_endpoint);
    if let Some(endpoint) = sts_endpoint.as_ref().filter(|endpoint| !endpoint.contains("://")) {
        bail!("AWS_ENDPOINT_URL_STS={endpoint} is no origin; it begins with https:// or http://");
    }
    Ok(Some(WebIdentity {
        token_file: token_file.into(),
        role_arn: text(args.s3_role_arn),
        session_name: text(args.s3_role_session_name).unwrap_or_else(|| "niks3-server".to_owned()),
        sts_endpoint,
    }))
}

/// A secret from the file an argument names (which wins, as in niks3 1.7), an argument, or the file that the
/// configuration names.
fn secret(
    what: &str,
    value: Option<&String>,
    path: Option<&PathBuf>,
    configured: Option<&String>,
) -> anyhow::Result<Option<String>> {
    if let Some(secret) = read_secret(what, path)? {
        return Ok(Some(secret));
    }
    match text(value.cloned()) {
        Some(secret) => Ok(Some(secret)),
        None => read_secret(what, configured),
    }
}
