//! `uploads.verify: Hash`: reading new NARs back before anything is signed that names them.

use std::collections::{BTreeMap, HashSet};

use async_compression::tokio::bufread::{BzDecoder, XzDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{NarInfoMetadata, SignRequest};
use niks3_protocol::nix::NarHash;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, BufReader};

use super::PushError;
use crate::app::App;
use crate::bucket::{ReadAnswer, ReadRequest};

/// NARs one call reads at a time; all calls together, as many as [`App::verifying`] lets.
const CONCURRENT_READS: usize = 4;
/// What decompressing one NAR may take: 128 MiB, which is what Nix itself allows.
const ZSTD_WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 128 << 20;
const CHUNK: usize = 128 << 10;

/// Reads the NARs among `missing` that the narinfos name; gives the entity tag of each, by which a commit knows
/// that it is still the one that was read.
pub(super) async fn read_back(
    app: &App,
    missing: &[String],
    request: &SignRequest,
) -> Result<BTreeMap<String, String>, PushError> {
    let missing: HashSet<&String> = missing.iter().collect();
    let by_nar: BTreeMap<String, (String, NarInfoMetadata)> = request
        .narinfos
        .iter()
        .filter(|(_, narinfo)| missing.contains(&narinfo.url))
        .map(|(key, narinfo)| (narinfo.url.clone(), (key.clone(), narinfo.clone())))
        .collect();
    futures::stream::iter(by_nar)
        .map(|(nar, (key, narinfo))| async move {
            let _turn = app.verifying.acquire().await;
            let tag = read_one(app, &nar, &narinfo).await.map_err(|problem| match problem {
                Problem::Wrong(text) => PushError::Invalid(format!("{key}: the NAR {nar} {text}")),
                Problem::Absent => PushError::NotUploaded(vec![nar.clone()]),
                Problem::Push(error) => error,
            })?;
            Ok::<_, PushError>((nar, tag))
        })
        .buffer_unordered(CONCURRENT_READS)
        .try_collect()
        .await
}

enum Problem {
    Wrong(String),
    Absent,
    Push(PushError),
}

async fn read_one(app: &App, key: &str, narinfo: &NarInfoMetadata) -> Result<String, Problem> {
    let answer = app.bucket.get(key, ReadRequest::default()).await;
    let ReadAnswer::Found(object) = answer.map_err(|error| Problem::Push(error.into()))? else {
        return Err(Problem::Absent);
    };
    let tag = object.etag.clone().unwrap_or_default();
    let stored = BufReader::with_capacity(CHUNK, object.body.into_async_read());
    let (hash, size) = digest(stored, &narinfo.compression, narinfo.nar_size)
        .await
        .map_err(|error| Problem::Wrong(format!("cannot be read as {}: {error}", narinfo.compression)))?;
    if size > narinfo.nar_size {
        return Err(Problem::Wrong(format!("holds more than the {} bytes it should have", narinfo.nar_size)));
    }
    if (hash, size) != (narinfo.nar_hash, narinfo.nar_size) {
        return Err(Problem::Wrong(format!(
            "holds {size} bytes with the hash {hash}, not {} bytes with {}",
            narinfo.nar_size, narinfo.nar_hash
        )));
    }
    Ok(tag)
}

/// Hash and size of what is stored, decompressed; no further than one byte past `limit`.
pub(crate) async fn digest(
    stored: impl AsyncBufRead + Unpin + Send,
    compression: &str,
    limit: u64,
) -> std::io::Result<(NarHash, u64)> {
    let parameters = [DParameter::window_log_max(ZSTD_WINDOW_LOG)];
    let plain: Box<dyn AsyncRead + Unpin + Send + '_> = match compression {
        "zstd" => {
            let mut decoder = ZstdDecoder::with_params(stored, &parameters);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        "xz" => {
            let mut decoder = XzDecoder::with_mem_limit(stored, XZ_MEMORY);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        "bzip2" => {
            let mut decoder = BzDecoder::new(stored);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        _ => Box::new(stored),
    };
    let mut plain = plain.take(limit.saturating_add(1));
    let (mut hasher, mut size, mut chunk) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        let length = plain.read(&mut chunk).await?;
        if length == 0 {
            return Ok((NarHash(hasher.finalize().into()), size));
        }
        hasher.update(&chunk[..length]);
        size += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn of(stored: &[u8], compression: &str, limit: u64) -> std::io::Result<(NarHash, u64)> {
        digest(stored, compression, limit).await
    }

    #[tokio::test]
    async fn a_bomb_is_read_no_further_than_its_nar_may_be_long() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
        assert!(bomb.len() < 1 << 17);
        assert_eq!(of(&bomb, "zstd", 1000).await.unwrap().1, 1001);
    }

    #[tokio::test]
    async fn every_compression_is_read_and_a_cut_one_is_an_error() {
        use async_compression::tokio::write::{BzEncoder, XzEncoder};
        use tokio::io::AsyncWriteExt as _;

        let nar = b"the same NAR".repeat(1000);
        let expected = (NarHash(Sha256::digest(&nar).into()), nar.len() as u64);
        let mut xz = XzEncoder::new(Vec::new());
        xz.write_all(&nar).await.unwrap();
        xz.shutdown().await.unwrap();
        let mut bzip2 = BzEncoder::new(Vec::new());
        bzip2.write_all(&nar).await.unwrap();
        bzip2.shutdown().await.unwrap();
        let zstd = zstd::encode_all(nar.as_slice(), 3).unwrap();
        for (stored, name) in
            [(zstd, "zstd"), (xz.into_inner(), "xz"), (bzip2.into_inner(), "bzip2"), (nar.clone(), "none")]
        {
            assert_eq!(of(&stored, name, 1 << 20).await.unwrap(), expected, "{name}");
            let cut = of(&stored[..stored.len() / 2], name, 1 << 20).await;
            assert!(cut.is_err() || cut.unwrap() != expected, "{name}");
        }
    }
}
