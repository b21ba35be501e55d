//! `uploads.verify: Hash`: reading new NARs back before anything is signed that names them.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_compression::tokio::bufread::{BzDecoder, XzDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{NarInfoMetadata, SignRequest};
use niks3_protocol::nix::NarHash;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use super::PushError;
use crate::app::App;
use crate::bucket::{BucketError, ReadAnswer, ReadRequest};

/// NARs one call reads at a time; all calls together, as many as [`App::verifying`] lets.
const CONCURRENT_READS: usize = 4;
/// What decompressing one NAR may take: 128 MiB, which is what Nix itself allows.
const ZSTD_WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 128 << 20;
const CHUNK: usize = 128 << 10;
/// How often one NAR is read whose bytes stop coming, and the pause after the first time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

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
    let found = digest_of(app, key, &narinfo.compression, narinfo.nar_size).await;
    let Some(Stored { tag, content }) = found.map_err(|error| Problem::Push(error.into()))? else {
        return Err(Problem::Absent);
    };
    let (hash, size) = content
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

/// What was found under a NAR's key.
pub(crate) struct Stored {
    tag: String,
    /// Hash and size, decompressed, or why what is stored is no such NAR.
    pub(crate) content: std::io::Result<(NarHash, u64)>,
}

/// Reads a NAR in the bucket, no further than one byte past `limit`; `None` where it is not there. It is read again
/// where its bytes stop coming: that is an error of S3 or of the way there, and says nothing of the NAR.
pub(crate) async fn digest_of(
    app: &App,
    key: &str,
    compression: &str,
    limit: u64,
) -> Result<Option<Stored>, BucketError> {
    let mut attempt = 1;
    loop {
        let ReadAnswer::Found(object) = app.bucket.get(key, ReadRequest::default()).await? else {
            return Ok(None);
        };
        let tag = object.etag.clone().unwrap_or_default();
        match digest(object.body.into_async_read(), compression, limit).await {
            Ok(content) => return Ok(Some(Stored { tag, content: Ok(content) })),
            Err(Unread::Decode(error)) => return Ok(Some(Stored { tag, content: Err(error) })),
            Err(Unread::Source(error)) => {
                tracing::warn!(key, attempt, error = %error, "a NAR was not read to its end");
                if attempt == ATTEMPTS {
                    return Err(BucketError::cut_off(key));
                }
            }
        }
        tokio::time::sleep(PAUSE * attempt).await;
        attempt += 1;
    }
}

/// Why something was not read to its end.
#[derive(Debug)]
enum Unread {
    /// Its bytes stopped coming.
    Source(std::io::Error),
    /// They are not what they should be.
    Decode(std::io::Error),
}

/// Remembers that its own bytes stopped coming: a decoder's errors look the same.
struct Source<'a, R> {
    stored: R,
    failed: &'a AtomicBool,
}

impl<R: AsyncRead + Unpin> AsyncRead for Source<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stored).poll_read(context, buffer);
        if matches!(read, Poll::Ready(Err(_))) {
            self.failed.store(true, Ordering::Relaxed);
        }
        read
    }
}

/// Hash and size of what is stored, decompressed.
async fn digest(
    stored: impl AsyncRead + Unpin + Send,
    compression: &str,
    limit: u64,
) -> Result<(NarHash, u64), Unread> {
    let failed = AtomicBool::new(false);
    let stored = BufReader::with_capacity(CHUNK, Source { stored, failed: &failed });
    digest_plain(stored, compression, limit).await.map_err(|error| {
        if failed.load(Ordering::Relaxed) { Unread::Source(error) } else { Unread::Decode(error) }
    })
}

async fn digest_plain(
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
        // A few stored bytes may be gigabytes, none of which is waited for: without this neither the end of the call's time nor
        // any other task of this thread would have its turn.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn of(stored: &[u8], compression: &str, limit: u64) -> Result<(NarHash, u64), Unread> {
        digest(stored, compression, limit).await
    }

    /// Gives what it has, then the error of a connection that was cut.
    struct Cut<'a>(&'a [u8]);

    impl AsyncRead for Cut<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Ready(Err(std::io::ErrorKind::UnexpectedEof.into()));
            }
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
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
            assert!(!matches!(cut, Err(Unread::Source(_))), "{name}");
            assert!(cut.is_err() || cut.unwrap() != expected, "{name}");
            // The same bytes, and no end: that is no damage.
            let stopped = digest(Cut(&stored[..stored.len() / 2]), name, 1 << 20).await;
            assert!(matches!(stopped, Err(Unread::Source(_))), "{name}");
        }
    }
}
