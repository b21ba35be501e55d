//! NARs, listings and logs on their way to S3: read, hash, compress and send in one pass, in bounded memory.
//!
//! Compressing runs on threads of its own, so many at a time as the machine has cores; sending overlaps it. The
//! largest NAR goes first, so that no giant is left for the end, and a giant's compression is spread over cores.

mod addresses;
mod budget;
mod compress;
mod encoder;
mod jobs;
mod memory;
mod parts;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::multipart::CompleteMultipartRequest;
use niks3_protocol::api::pending_closures::{MultipartInfo, PendingObject, StoredBytes, part_size};
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::ObjectKind;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::PushError;
use super::journal::Entry;
use super::plan::Plan;
use super::session::Session;
use crate::client::ClientError;
use crate::nar::{self, Listing};
use crate::store;
use addresses::{Addresses, add_checksum, bytes_of, told_headers, twice};
use budget::Budget;
use compress::{Source, unreadable};
use encoder::Contexts;
use jobs::{Job, jobs};
use memory::Memory;
use parts::Parts;

/// What every job needs.
struct Engine {
    session: Arc<Session>,
    plan: Arc<Plan>,
    cores: Arc<Semaphore>,
    memory: Memory,
    contexts: Contexts,
    budget: Budget,
    addresses: Addresses,
    /// What the server says that each PUT has to have.
    told: HeaderMap,
}

/// Sends everything that is missing, narinfos aside. A path that fails is noted where others are to go on.
pub(super) async fn upload(
    session: &Arc<Session>,
    plan: &Arc<Plan>,
    id: String,
    told: &BTreeMap<String, String>,
    pending: &BTreeMap<String, PendingObject>,
) -> Result<(), PushError> {
    let options = session.options;
    let engine = Engine {
        session: Arc::clone(session),
        plan: Arc::clone(plan),
        cores: Arc::new(Semaphore::new(options.jobs)),
        memory: Memory::new(),
        contexts: Contexts::default(),
        budget: Budget::new(),
        addresses: Addresses::new(id, session.upload_headers),
        told: told_headers(told)?,
    };
    let jobs = jobs(plan, pending)?;
    futures::stream::iter(jobs)
        .map(|job| engine.run_or_note(job))
        .buffer_unordered(options.uploads)
        .try_collect()
        .await
}

impl Engine {
    async fn run_or_note(&self, job: Job) -> Result<(), PushError> {
        let path = match &job {
            Job::Nar { path, .. } | Job::Listing { path, .. } => Some(path.clone()),
            Job::Log { .. } => None,
        };
        match self.run(&job).await {
            Ok(()) => {
                if let Some(path) = path {
                    self.session.finished(&self.plan, &path);
                }
                Ok(())
            }
            Err(error) if self.session.options.keep_going && error.is_of_one_path() => {
                if let Some(path) = error.path().cloned() {
                    self.session.fail(&path, error);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn run(&self, job: &Job) -> Result<(), PushError> {
        match job {
            Job::Nar { path, nar, listing } => {
                let made = match &nar.multipart_info {
                    Some(multipart) => self.send_in_parts(path, multipart).await?,
                    None => twice(|| self.send_whole(path, nar)).await?,
                };
                match listing {
                    Some(pending) => twice(|| self.send_listing(path, pending, &made)).await,
                    None => Ok(()),
                }
            }
            Job::Listing { path, listing } => {
                let made = self.list(path).await?;
                twice(|| self.send_listing(path, listing, &made)).await
            }
            Job::Log { path, file, log } => twice(|| self.send_log(path, file, log)).await,
        }
    }

    async fn send_log(&self, path: &StorePath, file: &Path, log: &PendingObject) -> Result<(), PushError> {
        let (level, key) = (self.session.options.level, self.plan.paths[path].log_key());
        let (file, room) = (file.to_owned(), self.budget.room(level, None).await);
        let read = tokio::task::spawn_blocking(move || {
            let _room = room;
            zstd::encode_all(BufReader::new(store::open_log(&file)?), level)
        });
        let body = read.await?.map_err(|source| PushError::ReadLog { path: path.clone(), source })?;
        self.send_compressed(path, &key, log, body).await
    }

    /// A listing whose NAR is sent already.
    async fn list(&self, path: &StorePath) -> Result<Listing, PushError> {
        let source = path.clone();
        let made = tokio::task::spawn_blocking(move || nar::list(source.as_str().as_ref())).await?;
        made.map_err(|source| unreadable(path, source))
    }

    fn source(&self, path: &StorePath) -> Source {
        let info = &self.plan.paths[path].info;
        Source {
            path: path.clone(),
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            level: self.session.options.level,
            jobs: self.session.options.jobs,
            progress: Arc::clone(&self.session.progress),
            memory: self.memory.clone(),
            contexts: self.contexts.clone(),
        }
    }

    /// A small NAR: one PUT.
    async fn send_whole(&self, path: &StorePath, nar: &PendingObject) -> Result<Listing, PushError> {
        let source = self.source(path);
        let (core, bound) = (self.core(&source).await, self.is_bound(nar));
        let (part, listing, bytes) = tokio::task::spawn_blocking(move || {
            let _core = core;
            let (part, listing) = source.compress_whole()?;
            let bytes = bound.then(|| bytes_of(&part.bytes));
            Ok::<_, PushError>((part, listing, bytes))
        })
        .await??;
        self.put_whole(path, &self.plan.paths[path].nar, nar, part.bytes.clone(), bytes).await?;
        self.memory.take_back(part);
        self.session.note_sent(&self.plan.paths[path].nar);
        Ok(listing)
    }

    /// A large NAR: compressed parts are sent while the next ones are made.
    async fn send_in_parts(&self, path: &StorePath, multipart: &MultipartInfo) -> Result<Listing, PushError> {
        let source = self.source(path);
        let size = part_size(source.nar_size);
        let Some(open) = Parts::open(self, path, multipart).await? else {
            self.session.note_sent(&self.plan.paths[path].nar);
            return self.list(path).await;
        };
        let core = self.core(&source).await;
        let (sender, parts) = mpsc::channel(1);
        let compressing = tokio::task::spawn_blocking(move || {
            let _core = core;
            source.compress_in_parts(usize::try_from(size).unwrap_or(usize::MAX), sender)
        });
        let sent = open.send(parts).await;
        let listing = compressing.await?;
        // Where sending failed, compressing was told to stop: the cause is the error to show.
        let (parts, listing) = (sent?, listing?);
        let Parts { key, upload_id, .. } = open;
        let (object, upload) = (key.clone(), upload_id.clone());
        self.session.journal.note(&Entry::Completing { key: object, upload });
        let request = CompleteMultipartRequest { object_key: key, upload_id, parts };
        self.session.client.complete_multipart(&request).await?;
        self.session.note_sent(&request.object_key);
        Ok(listing)
    }

    async fn send_listing(
        &self,
        path: &StorePath,
        pending: &PendingObject,
        listing: &Listing,
    ) -> Result<(), PushError> {
        let text = serde_json::to_vec(listing)
            .map_err(|error| PushError::ReadNar { path: path.clone(), source: error.into() })?;
        let body = zstd::bulk::compress(&text, self.session.options.level)
            .map_err(|source| PushError::ReadNar { path: path.clone(), source })?;
        self.send_compressed(path, &self.plan.paths[path].listing, pending, body).await
    }

    /// An object that is stored as zstd.
    async fn send_compressed(
        &self,
        path: &StorePath,
        key: &str,
        pending: &PendingObject,
        body: Vec<u8>,
    ) -> Result<(), PushError> {
        let bytes = self.is_bound(pending).then(|| bytes_of(&body));
        self.put_whole(path, key, pending, body.into(), bytes).await?;
        self.session.note_sent(key);
        Ok(())
    }

    /// Whether its address is to be asked for when its bytes are there.
    fn is_bound(&self, pending: &PendingObject) -> bool {
        self.session.is_bound() && pending.presigned_url.is_none()
    }

    /// An object that is one PUT, by an address bound to these bytes where they are given.
    async fn put_whole(
        &self,
        path: &StorePath,
        key: &str,
        pending: &PendingObject,
        body: Bytes,
        bound: Option<StoredBytes>,
    ) -> Result<(), PushError> {
        let mut headers = headers(pending.kind);
        let address = if let Some(bytes) = &bound {
            add_checksum(&mut headers, bytes);
            let (address, told) = self.addresses.get(&self.session.client, key, bytes).await?;
            headers.extend(told_headers(&told)?);
            address
        } else {
            headers.extend(self.told.clone());
            address(pending)?.to_owned()
        };
        self.put(path, &address, &headers, body).await.map(drop)
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
        let etag = self.session.client.put(url, headers, body).await.map_err(failed)?;
        self.session.progress.sent(length);
        Ok(etag)
    }

    /// Waits for a core to compress on, all of them where it is spread, and for room for the encoder. Memory is waited
    /// for with these in hand and never the other way round: what holds memory without them is on its way to S3, and
    /// ends.
    async fn core(&self, source: &Source) -> [Option<OwnedSemaphorePermit>; 2] {
        let count = if source.is_spread() { u32::try_from(source.jobs).unwrap_or(1) } else { 1 };
        let cores = Arc::clone(&self.cores).acquire_many_owned(count).await.ok();
        let size = Some(source.nar_size).filter(|_| !source.is_spread());
        [cores, self.budget.room(source.level, size).await]
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
