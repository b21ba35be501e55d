//! A path of a few bytes, pushed as any other and read back as Nix does: found, signed, whole. Nothing keeps it, so
//! that the next collection takes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::nix::{NarInfo, StorePath};
use reqwest::header::CONTENT_ENCODING;
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::{Check, Report, nix};
use crate::client::Client;
use crate::commands::CommandError;
use crate::printer::Printer;
use crate::push::{self, Options, PushError, UnderWay};

const OPTIONS: Options =
    Options { verify_s3: false, uploads: 4, level: 3, jobs: 1, no_progress: true, keep_going: false };

pub(super) async fn run(client: &Arc<Client>, config: &CacheConfig, report: &mut Report) {
    let path = match add().await {
        Ok(path) => path,
        Err(problem) => {
            let change = "`nix-store --add FILE` must work for this user";
            report.add(&Check::fail(
                "bucket",
                format!("no path can be added to the store: {problem}"),
                change,
            ));
            return report.skip(&["commit", "read"], "there is nothing to push");
        }
    };
    if push(client, &path, report).await {
        report.add(&match read(client, config, &path).await {
            Ok(check) => check,
            Err((problem, change)) => Check::fail("read", problem, change),
        });
    }
    // Nix's own collector takes it too, should this fail.
    drop(nix::run("nix-store", &["--delete", path.as_str()]).await);
}

/// A path that no cache has.
async fn add() -> Result<StorePath, String> {
    let folder: PathBuf = std::env::temp_dir().join(format!("niks3-doctor-{:016x}", rand::random::<u64>()));
    let file = folder.join("niks3-doctor");
    let text = format!("niks3 doctor was here: {:032x}\n", rand::random::<u128>());
    let written = std::fs::create_dir(&folder).and_then(|()| std::fs::write(&file, text));
    let added = match written {
        Ok(()) => nix::run("nix-store", &["--add", &file.display().to_string()]).await,
        Err(error) => Err(format!("{}: {error}", file.display())),
    };
    drop(std::fs::remove_dir_all(&folder));
    added?.trim().parse().map_err(|_| "nix-store names no path".to_owned())
}

/// Whether it is in the cache.
async fn push(client: &Arc<Client>, path: &StorePath, report: &mut Report) -> bool {
    let begun = Instant::now();
    let (roots, printer) = (std::slice::from_ref(path), Printer::new(true, false));
    let result = push::push(client, roots, OPTIONS, printer, &UnderWay::default()).await;
    match result {
        Err(error @ PushError::Upload { .. }) => {
            let change = "clients send to S3 themselves: it must be reachable from here, by the address that the \
                          server's --s3-public-endpoint gives";
            report.add(&Check::error("bucket", &CommandError::Push(error), change));
            report.skip(&["commit", "read"], "nothing could be sent");
            false
        }
        Err(error) => {
            report.skip(&["bucket"], "the push failed otherwise");
            report.add(&Check::error("commit", &CommandError::Push(error), "look at the server's log"));
            report.skip(&["read"], "nothing was pushed");
            false
        }
        Ok(_) => {
            report.add(&Check::ok("bucket", "takes uploads from here"));
            let seconds = begun.elapsed().as_secs_f64();
            report.add(&Check::ok("commit", format!("{path} was pushed in {seconds:.1} s")))
        }
    }
}

type Problem = (String, &'static str);

/// By the rules of Nix, and with the keys the server names.
async fn read(client: &Client, config: &CacheConfig, path: &StorePath) -> Result<Check, Problem> {
    let base = config.substituter_url.trim_end_matches('/');
    let (narinfo, private) = get(client, &format!("{base}/{}.narinfo", path.hash())).await?;
    let not_whole = "the address Nix reads from must lead to the bucket that the server writes to";
    let text = String::from_utf8(narinfo).map_err(|_| ("the narinfo is not text".to_owned(), not_whole))?;
    let narinfo: NarInfo =
        text.parse().map_err(|error| (format!("the narinfo is none: {error}"), not_whole))?;
    let fingerprint = narinfo.fingerprint();
    let signed = |key: &&niks3_protocol::nix::PublicKey| {
        narinfo.signatures.iter().any(|signature| key.verifies(&fingerprint, signature))
    };
    let Some(key) = config.public_keys.iter().find(signed) else {
        let change = "the server needs a signing key, and must say the public one of it";
        return Err(("none of the server's keys signed the narinfo; Nix would refuse it".to_owned(), change));
    };
    let (stored, _) = get(client, &format!("{base}/{}", narinfo.url)).await?;
    let nar = match narinfo.compression.as_str() {
        "zstd" => zstd::decode_all(stored.as_slice()).unwrap_or_default(),
        _ => stored,
    };
    if narinfo.store_path != *path || <[u8; 32]>::from(Sha256::digest(&nar)) != narinfo.nar_hash.0 {
        return Err((format!("{base} gives other bytes than were pushed"), not_whole));
    }
    let found = format!("{base} gives it back whole, signed by {}", key.name());
    if private {
        let change = "Nix needs the token as a password in its netrc-file";
        return Ok(Check::warn("read", format!("{found}, to readers with a token alone"), change));
    }
    Ok(Check::ok("read", found))
}

/// What is read there, its encoding undone; whether it took a token.
async fn get(client: &Client, url: &str) -> Result<(Vec<u8>, bool), Problem> {
    let change = "Nix reads from there: it must be reachable from here, and readable";
    let parsed = Url::parse(url).map_err(|_| (format!("{url} is not an address"), change))?;
    let failed = |error| (crate::printer::chain(&error), change);
    let (mut status, mut headers, mut body) = client.read(&parsed, false).await.map_err(failed)?;
    let private = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
    if private {
        (status, headers, body) = client.read(&parsed, true).await.map_err(failed)?;
    }
    if !status.is_success() {
        return Err((format!("{url} gives {status}"), change));
    }
    let is_zstd = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "zstd");
    let plain = if is_zstd { zstd::decode_all(body.as_ref()).unwrap_or_default() } else { body.to_vec() };
    Ok((plain, private))
}
