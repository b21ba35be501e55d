//! NARs, listings and logs on their way to S3: read, hash, compress and send in one pass, in bounded memory.
//!
//! Compressing runs on threads of its own, so many at a time as the machine has cores; sending overlaps it. The
//! largest NAR goes first, so that no giant is left for the end, and a giant's compression is spread over cores.

mod compress;
mod jobs;
mod memory;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::multipart::{CompleteMultipartRequest, CompletedPart, RequestPartsRequest};
use niks3_protocol::api::pending_closures::{MultipartInfo, PendingObject, part_size};
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::ObjectKind;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::plan::Plan;
use super::{Options, PushError};
use crate::client::{Client, ClientError};
use crate::nar::{self, Listing};
use crate::progress::Progress;
use crate::store;
use compress::Source;
use jobs::{Job, jobs};
use memory::{Memory, Part};

/// Parts of one NAR under way at a time.
const PARTS_IN_FLIGHT: usize = 3;
/// Part addresses asked for at a time.
const MORE_PARTS: u32 = 100;

/// What every job needs.
struct Engine {
    client: Arc<Client>,
    plan: Arc<Plan>,
    options: Options,
    progress: Arc<Progress>,
    cores: Arc<Semaphore>,
    memory: Memory,
}

/// Sends everything that is missing, narinfos aside.
pub(super) async fn upload(
    client: &Arc<Client>,
    plan: &Arc<Plan>,
    pending: &BTreeMap<String, PendingObject>,
    options: Options,
    progress: &Arc<Progress>,
) -> Result<(), PushError> {
    let engine = Engine {
        client: Arc::clone(client),
        plan: Arc::clone(plan),
        options,
        progress: Arc::clone(progress),
        cores: Arc::new(Semaphore::new(options.jobs)),
        memory: Memory::new(),
    };
    let jobs = jobs(plan, pending)?;
    futures::stream::iter(jobs)
        .map(|job| engine.run(job))
        .buffer_unordered(options.uploads)
        .try_collect()
        .await
}

impl Engine {
    async fn run(&self, job: Job) -> Result<(), PushError> {
        match job {
            Job::Nar { path, nar, listing } => {
                let made = match &nar.multipart_info {
                    Some(multipart) => self.send_in_parts(&path, multipart).await?,
                    None => self.send_whole(&path, &nar).await?,
                };
                match listing {
                    Some(pending) => self.send_listing(&path, &pending, made).await,
                    None => Ok(()),
                }
            }
            Job::Listing { path, listing } => {
                let source = path.clone();
                let made = tokio::task::spawn_blocking(move || nar::list(source.as_str().as_ref())).await?;
                let made = made.map_err(|source| PushError::ReadNar { path: path.clone(), source })?;
                self.send_listing(&path, &listing, made).await
            }
            Job::Log { path, file, log } => {
                let level = self.options.level;
                let read = tokio::task::spawn_blocking(move || {
                    zstd::encode_all(BufReader::new(store::open_log(&file)?), level)
                });
                let body = read.await?.map_err(|source| PushError::ReadLog { path: path.clone(), source })?;
                self.send_compressed(&path, &log, body).await
            }
        }
    }

    fn source(&self, path: &StorePath) -> Source {
        let info = &self.plan.paths[path].info;
        Source {
            path: path.clone(),
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            level: self.options.level,
            jobs: self.options.jobs,
            progress: Arc::clone(&self.progress),
            memory: self.memory.clone(),
        }
    }

    /// A small NAR: one PUT.
    async fn send_whole(&self, path: &StorePath, nar: &PendingObject) -> Result<Listing, PushError> {
        let source = self.source(path);
        let core = self.core().await;
        let (part, listing) = tokio::task::spawn_blocking(move || {
            let _core = core;
            source.compress_whole()
        })
        .await??;
        self.put(path, address(nar)?, &headers(ObjectKind::Nar), part.bytes.clone()).await?;
        self.memory.take_back(part);
        Ok(listing)
    }

    /// A large NAR: compressed parts are sent while the next ones are made.
    async fn send_in_parts(&self, path: &StorePath, multipart: &MultipartInfo) -> Result<Listing, PushError> {
        let source = self.source(path);
        let size = part_size(source.nar_size);
        let core = if source.is_spread() { self.all_cores().await } else { self.core().await };
        let (sender, parts) = mpsc::channel(1);
        let compressing = tokio::task::spawn_blocking(move || {
            let _core = core;
            source.compress_in_parts(usize::try_from(size).unwrap_or(usize::MAX), sender)
        });
        let key = self.plan.paths[path].nar.clone();
        let sent = self.send_parts(path, &key, multipart, parts).await;
        let listing = compressing.await?;
        // Where sending failed, compressing was told to stop: the cause is the error to show.
        let (parts, listing) = (sent?, listing?);
        let upload_id = multipart.upload_id.clone();
        let request = CompleteMultipartRequest { object_key: key, upload_id, parts };
        self.client.complete_multipart(&request).await?;
        Ok(listing)
    }

    async fn send_parts(
        &self,
        path: &StorePath,
        key: &str,
        multipart: &MultipartInfo,
        mut parts: mpsc::Receiver<Part>,
    ) -> Result<Vec<CompletedPart>, PushError> {
        let mut urls = multipart.part_urls.clone();
        let (mut sent, mut done) = (FuturesUnordered::new(), Vec::new());
        let mut part_number = 0_u32;
        while let Some(part) = parts.recv().await {
            part_number += 1;
            let index = part_number as usize - 1;
            if index >= urls.len() {
                let request = RequestPartsRequest {
                    object_key: key.to_owned(),
                    upload_id: multipart.upload_id.clone(),
                    start_part_number: part_number,
                    num_parts: MORE_PARTS.min(10_001 - part_number.min(10_000)),
                };
                urls.extend(self.client.request_parts(&request).await?.part_urls);
            }
            let url = urls
                .get(index)
                .cloned()
                .ok_or_else(|| PushError::Unexpected(format!("more parts of {key}")))?;
            sent.push(async move {
                let etag = self.put(path, &url, &HeaderMap::new(), part.bytes.clone()).await?;
                self.memory.take_back(part);
                Ok::<_, PushError>(CompletedPart { part_number, etag })
            });
            if sent.len() >= PARTS_IN_FLIGHT
                && let Some(part) = sent.next().await
            {
                done.push(part?);
            }
        }
        while let Some(part) = sent.next().await {
            done.push(part?);
        }
        done.sort_unstable_by_key(|part| part.part_number);
        Ok(done)
    }

    async fn send_listing(
        &self,
        path: &StorePath,
        pending: &PendingObject,
        listing: Listing,
    ) -> Result<(), PushError> {
        let text = serde_json::to_vec(&listing)
            .map_err(|error| PushError::ReadNar { path: path.clone(), source: error.into() })?;
        self.send_small(path, pending, &text).await
    }

    /// An object that is stored as zstd.
    async fn send_small(
        &self,
        path: &StorePath,
        pending: &PendingObject,
        text: &[u8],
    ) -> Result<(), PushError> {
        let body = zstd::encode_all(text, self.options.level)
            .map_err(|source| PushError::ReadNar { path: path.clone(), source })?;
        self.send_compressed(path, pending, body).await
    }

    async fn send_compressed(
        &self,
        path: &StorePath,
        pending: &PendingObject,
        body: Vec<u8>,
    ) -> Result<(), PushError> {
        self.put(path, address(pending)?, &headers(pending.kind), body.into()).await.map(drop)
    }

    async fn put(
        &self,
        path: &StorePath,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<String, PushError> {
        let length = body.len() as u64;
        let failed = |source: ClientError| PushError::Upload { path: path.clone(), source };
        let etag = self.client.put(url, headers, body).await.map_err(failed)?;
        self.progress.sent(length);
        Ok(etag)
    }

    /// Waits for a core to compress on. Memory is waited for with a core in hand and never the other way round:
    /// what holds memory without a core is on its way to S3, and ends.
    async fn core(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.cores).acquire_owned().await.ok()
    }

    async fn all_cores(&self) -> Option<OwnedSemaphorePermit> {
        let all = u32::try_from(self.options.jobs).unwrap_or(1);
        Arc::clone(&self.cores).acquire_many_owned(all).await.ok()
    }
}

/// The address of an object that is one PUT.
pub(super) fn address(pending: &PendingObject) -> Result<&str, PushError> {
    pending
        .presigned_url
        .as_deref()
        .ok_or_else(|| PushError::Unexpected("parts of a small object".to_owned()))
}

/// How S3 is to store an object.
pub(super) fn headers(kind: ObjectKind) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    if let Some(encoding) = kind.content_encoding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    headers
}
