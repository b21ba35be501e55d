//! The parts of one large NAR, on their way to S3; of an upload that was interrupted, those that S3 lacks.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use niks3_protocol::api::multipart::{CompletedPart, ListPartsRequest, MAX_PART_NUMBER, RequestPartsRequest};
use niks3_protocol::api::pending_closures::MultipartInfo;
use niks3_protocol::nix::StorePath;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::sync::{Mutex, mpsc};

use super::Engine;
use super::memory::Part;
use crate::client::ClientError;
use crate::push::PushError;
use crate::push::journal::{Entry, Interrupted};

/// Parts of one NAR under way at a time.
const PARTS_IN_FLIGHT: usize = 3;
/// Part addresses asked for at a time.
const MORE_PARTS: u32 = 100;

/// An open multipart upload.
pub(super) struct Parts<'a> {
    engine: &'a Engine,
    path: &'a StorePath,
    pub(super) key: String,
    pub(super) upload_id: String,
    /// By number.
    addresses: Mutex<BTreeMap<u32, String>>,
    /// By number, the hash and the tag of what S3 has already.
    there: BTreeMap<u32, (String, String)>,
}

impl<'a> Parts<'a> {
    /// The upload an earlier run left, where it is still open; else the one the server opened now. `None` where
    /// the earlier run had it put together.
    pub(super) async fn open(
        engine: &'a Engine,
        path: &'a StorePath,
        fresh: &MultipartInfo,
    ) -> Result<Option<Self>, PushError> {
        let key = engine.plan.paths[path].nar.clone();
        let new = |upload_id| Self {
            engine,
            path,
            key: key.clone(),
            upload_id,
            addresses: Mutex::default(),
            there: BTreeMap::new(),
        };
        if let Some(left) = engine.session.journal.interrupted(&key) {
            let mut parts = new(left.upload_id.clone());
            if parts.look(&left).await? {
                return Ok(Some(parts));
            }
            // An upload that was about to be put together and is gone was put together. Should it not be so, the
            // commit will miss the object, and it is sent again.
            if left.completing && engine.session.resume {
                return Ok(None);
            }
        }
        let parts = new(fresh.upload_id.clone());
        parts.addresses.lock().await.extend((1..).zip(fresh.part_urls.iter().cloned()));
        Ok(Some(parts))
    }

    /// Learns what S3 has of an upload; whether there is anything to go on with.
    async fn look(&mut self, left: &Interrupted) -> Result<bool, PushError> {
        let gone = |error: ClientError| match error.status() {
            Some(StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => Ok(false),
            _ => Err(error.into()),
        };
        if self.engine.session.resume {
            let request =
                ListPartsRequest { object_key: self.key.clone(), upload_id: self.upload_id.clone() };
            let listed = match self.engine.session.client.list_parts(&request).await {
                Ok(answer) => answer.parts,
                Err(error) => return gone(error),
            };
            for part in listed {
                let known = left.parts.get(&part.part_number);
                if let Some(hash) = known.and_then(|known| known.hash_of(&part.etag)) {
                    self.there.insert(part.part_number, (hash.to_owned(), part.etag));
                }
            }
        } else {
            self.there.extend(left.parts.iter().filter_map(|(number, part)| Some((*number, part.last()?))));
        }
        if self.there.is_empty() {
            return Ok(false);
        }
        // Whether parts can still be added is known only by asking for an address.
        let next = (1..MAX_PART_NUMBER).find(|number| !self.there.contains_key(number)).unwrap_or(1);
        match self.ask(next).await {
            Ok(urls) => self.addresses.lock().await.extend((next..).zip(urls)),
            Err(error) => return gone(error),
        }
        tracing::debug!(key = self.key, parts = self.there.len(), "going on with an interrupted upload");
        Ok(true)
    }

    /// Sends what comes; gives all parts in order. What is under way is looked after at any time: it holds memory, and
    /// others compress only when that is free again.
    pub(super) async fn send(
        &self,
        mut parts: mpsc::Receiver<Part>,
    ) -> Result<Vec<CompletedPart>, PushError> {
        let (mut sending, mut done) = (FuturesUnordered::new(), Vec::new());
        let (mut number, mut more) = (0, true);
        while more || !sending.is_empty() {
            tokio::select! {
                part = parts.recv(), if more && sending.len() < PARTS_IN_FLIGHT => {
                    more = part.is_some();
                    if let Some(part) = part {
                        number += 1;
                        sending.push(self.send_part(number, part));
                    }
                }
                Some(part) = sending.next(), if !sending.is_empty() => done.push(part?),
            }
        }
        done.sort_unstable_by_key(|part| part.part_number);
        Ok(done)
    }

    async fn send_part(&self, part_number: u32, part: Part) -> Result<CompletedPart, PushError> {
        let (engine, path) = (self.engine, self.path);
        let hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&part.bytes));
        if let Some((_, etag)) = self.there.get(&part_number).filter(|(there, _)| *there == hash) {
            engine.session.progress.kept(part.bytes.len() as u64);
            engine.memory.take_back(part);
            return Ok(CompletedPart { part_number, etag: etag.clone() });
        }
        let (key, upload, number) = (self.key.clone(), self.upload_id.clone(), part_number);
        engine.session.journal.note(&Entry::Part { key, upload, number, hash: hash.clone() });
        let url = self.address(part_number).await?;
        let none = HeaderMap::new();
        let etag = match engine.put(path, &url, &none, part.bytes.clone()).await {
            Err(error) if matches!(error.client(), Some(ClientError::Expired { .. })) => {
                self.addresses.lock().await.clear();
                let url = self.address(part_number).await?;
                engine.put(path, &url, &none, part.bytes.clone()).await?
            }
            result => result?,
        };
        engine.memory.take_back(part);
        let (key, upload) = (self.key.clone(), self.upload_id.clone());
        engine.session.journal.note(&Entry::Acknowledged { key, upload, number, hash, etag: etag.clone() });
        Ok(CompletedPart { part_number, etag })
    }

    async fn address(&self, number: u32) -> Result<String, PushError> {
        let mut addresses = self.addresses.lock().await;
        if !addresses.contains_key(&number) {
            addresses.extend((number..).zip(self.ask(number).await?));
        }
        let url = addresses.get(&number).cloned();
        url.ok_or_else(|| PushError::Unexpected(format!("more parts of {}", self.key)))
    }

    async fn ask(&self, start_part_number: u32) -> Result<Vec<String>, ClientError> {
        let left = (MAX_PART_NUMBER + 1).saturating_sub(start_part_number);
        let request = RequestPartsRequest {
            object_key: self.key.clone(),
            upload_id: self.upload_id.clone(),
            start_part_number,
            num_parts: MORE_PARTS.min(left).max(1),
        };
        Ok(self.engine.session.client.request_parts(&request).await?.part_urls)
    }
}
