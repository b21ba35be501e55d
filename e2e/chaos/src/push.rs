//! A push as niks3 1.7 does it, where the client sends NARs, listings and, once they are signed, narinfos; or as ours,
//! which leaves the narinfos to the server.

use std::time::{Duration, Instant};

use niks3_protocol::api::multipart::{CompleteMultipartRequest, CompletedPart};
use niks3_protocol::api::pending_closures::{
    BeginRequest, BeginResponse, MultipartInfo, SignRequest, SignResponse,
};
use niks3_protocol::object_key::{NarCompression, ObjectKind};
use reqwest::{Method, StatusCode};
use serde_json::json;
use time::OffsetDateTime;

use crate::dice::Dice;
use crate::universe::Path;
use crate::world::{GaveUp, World, is_transient};

/// Addresses live a minute; within it no upload may go.
const LASTS: Duration = Duration::from_secs(50);

/// One client's push of one root.
pub struct Push<'a> {
    world: &'a World,
    who: &'a str,
    dice: Dice,
    /// Milliseconds between any two calls, at most.
    leisure: u64,
    /// The server writes the narinfos.
    modern: bool,
    root: usize,
    paths: Vec<(&'a Path, NarCompression)>,
    began: Instant,
}

impl<'a> Push<'a> {
    /// A push that the dice choose.
    pub fn new(world: &'a World, who: &'a str, mut dice: Dice, leisure: u64) -> Self {
        let root = world.choose_root(&mut dice);
        let modern = leisure == 0 && dice.chance(500);
        // Two clients bring different builds of one path.
        let compression = |dice: &mut Dice| match dice.roll(2) {
            0 => NarCompression::Zstd,
            _ => NarCompression::None,
        };
        let closure = &world.universe.paths[root].closure;
        let paths = closure
            .iter()
            .map(|index| &world.universe.paths[*index])
            .map(|path| (path, compression(&mut dice)))
            .collect();
        Self { world, who, dice, leisure, modern, root, paths, began: Instant::now() }
    }

    /// Pushes; the root, where the push was acknowledged. The upload of a client that gave up expires, mostly at
    /// once: nothing of it is under way any more.
    pub async fn run(mut self) -> Result<usize, GaveUp> {
        let begun = self.begin().await?;
        let result = self.send(&begun).await;
        if result.is_err() {
            self.world.history.note(self.who, "push given up", &json!([self.root, begun.id]));
            if self.dice.chance(800) {
                let _ = self.world.place.expire(&begun.id).await;
            }
        }
        result
    }

    async fn send(&mut self, begun: &BeginResponse) -> Result<usize, GaveUp> {
        // A client may die anywhere.
        let dies = self.dice.chance(120);
        let dies_at = self.dice.index(self.paths.len());
        for (at, (path, compression)) in self.paths.clone().into_iter().enumerate() {
            if dies && at == dies_at {
                return Err(GaveUp);
            }
            self.put_content(begun, path, compression).await?;
            self.dawdle().await;
        }
        let signed = self.sign(&begun.id).await?;
        for (at, (path, compression)) in self.paths.clone().into_iter().enumerate() {
            if dies && at == dies_at / 2 && self.dice.chance(500) {
                return Err(GaveUp);
            }
            let signatures = signed.signatures.get(&path.key()).cloned().unwrap_or_default();
            self.put(begun, &path.key(), || path.narinfo(compression, signatures)).await?;
        }
        self.dawdle().await;
        self.complete(&begun.id).await?;
        Ok(self.root)
    }

    async fn put_content(
        &mut self,
        begun: &BeginResponse,
        path: &Path,
        compression: NarCompression,
    ) -> Result<(), GaveUp> {
        let key = path.nar_key(compression);
        match begun.pending_objects.get(&key).and_then(|pending| pending.multipart_info.clone()) {
            Some(info) => self.put_parts(&key, path, compression, &info).await?,
            None => self.put(begun, &key, || path.stored_nar(compression)).await?,
        }
        self.put(begun, &path.listing_key(), || path.stored_listing()).await
    }

    async fn dawdle(&mut self) {
        if self.leisure > 0 {
            self.dice.pause(self.leisure).await;
        }
    }

    /// An answer that an honest client must not get.
    async fn refused(&self, call: &str, answer: reqwest::Response) -> GaveUp {
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        if self.began.elapsed() < LASTS {
            let path = &self.world.universe.paths[self.root].store_path;
            self.world
                .break_promise(self.who, &format!("{call} of {path} was refused with {status}: {text}"));
        }
        GaveUp
    }

    async fn begin(&mut self) -> Result<BeginResponse, GaveUp> {
        let root = &self.world.universe.paths[self.root];
        let objects = self.paths.iter().flat_map(|(path, compression)| path.objects(*compression)).collect();
        let verify_s3 = self.dice.chance(80);
        let (closure, closures, server_narinfos) = (root.key(), Vec::new(), self.modern);
        let body = BeginRequest {
            closure,
            closures,
            objects,
            verify_s3,
            server_narinfos,
            bound_addresses: false,
            upload_headers: false,
        };
        let body = serde_json::to_value(body).map_err(|_| GaveUp)?;
        let answer =
            self.world.insist(&mut self.dice, Method::POST, "/api/pending_closures", Some(&body)).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused("the begin", answer).await);
        }
        // The addresses count from when the server began, which was a moment before.
        self.began = Instant::now();
        let begun: BeginResponse = answer.json().await.map_err(|_| GaveUp)?;
        let told = json!({ "root": self.root, "id": begun.id, "missing": begun.pending_objects.keys().collect::<Vec<_>>() });
        self.world.history.note(self.who, "push begun", &told);
        Ok(begun)
    }

    async fn put(
        &mut self,
        begun: &BeginResponse,
        key: &str,
        bytes: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> Result<(), GaveUp> {
        let Some(pending) = begun.pending_objects.get(key) else { return Ok(()) };
        if self.modern && pending.kind == ObjectKind::Narinfo {
            return Ok(());
        }
        let url = pending.presigned_url.as_deref().ok_or(GaveUp)?;
        let bytes = bytes().map_err(|_| GaveUp)?;
        for _ in 0..6 {
            if !self.world.going_on() {
                break;
            }
            let mut request = self.world.http.put(url).body(bytes.clone());
            if let Some(encoding) = pending.kind.content_encoding() {
                request = request.header("content-encoding", encoding);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if !is_transient(answer.status()) => {
                    return Err(self.refused(&format!("the PUT of {key}"), answer).await);
                }
                _ => self.dice.pause(300).await,
            }
        }
        Err(GaveUp)
    }

    /// One part is the whole; another push of the same NAR may end this one's.
    async fn put_parts(
        &mut self,
        key: &str,
        path: &Path,
        compression: NarCompression,
        info: &MultipartInfo,
    ) -> Result<(), GaveUp> {
        let bytes = path.stored_nar(compression).map_err(|_| GaveUp)?;
        let url = info.part_urls.first().ok_or(GaveUp)?;
        let mut etag = None;
        for _ in 0..6 {
            let answer = self.world.http.put(url).body(bytes.clone()).send().await;
            let header = answer.ok().filter(|answer| answer.status().is_success());
            etag = header.and_then(|answer| Some(answer.headers().get("etag")?.to_str().ok()?.to_owned()));
            if etag.is_some() {
                break;
            }
            self.dice.pause(300).await;
        }
        let parts = vec![CompletedPart { part_number: 1, etag: etag.ok_or(GaveUp)? }];
        let body =
            CompleteMultipartRequest { object_key: key.to_owned(), upload_id: info.upload_id.clone(), parts };
        let body = serde_json::to_value(body).map_err(|_| GaveUp)?;
        let answer =
            self.world.insist(&mut self.dice, Method::POST, "/api/multipart/complete", Some(&body)).await?;
        if answer.status() == StatusCode::NO_CONTENT { Ok(()) } else { Err(GaveUp) }
    }

    async fn sign(&mut self, id: &str) -> Result<SignResponse, GaveUp> {
        let narinfos = self.paths.iter().map(|(path, compression)| (path.key(), path.metadata(*compression)));
        let body = serde_json::to_value(SignRequest { narinfos: narinfos.collect() }).map_err(|_| GaveUp)?;
        let call = format!("/api/pending_closures/{id}/sign");
        let answer = self.world.insist(&mut self.dice, Method::POST, &call, Some(&body)).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused("the signing", answer).await);
        }
        answer.json().await.map_err(|_| GaveUp)
    }

    async fn complete(&mut self, id: &str) -> Result<(), GaveUp> {
        let call = format!("/api/pending_closures/{id}/complete");
        let sent = OffsetDateTime::now_utc();
        let mut unknown = false;
        for _ in 0..8 {
            match self.world.call(&mut self.dice, Method::POST, &call, None).await {
                Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                    self.acknowledged(sent);
                    return Ok(());
                }
                // An earlier try was committed, its answer lost.
                Ok(answer) if unknown && answer.status() == StatusCode::NOT_FOUND => break,
                Ok(answer) if !is_transient(answer.status()) => {
                    return Err(self.refused("the completion", answer).await);
                }
                Ok(answer) => {
                    let text = answer.text().await.unwrap_or_default();
                    if text.contains("being deleted") && self.began.elapsed() < LASTS {
                        let path = &self.world.universe.paths[self.root].store_path;
                        self.world.break_promise(self.who, &format!("of the open upload of {path}: {text}"));
                        return Err(GaveUp);
                    }
                    unknown = true;
                }
                Err(GaveUp) => unknown = true,
            }
            self.dice.pause(500).await;
        }
        self.world.history.note(self.who, "push of unknown end", &json!(self.root));
        Err(GaveUp)
    }

    fn acknowledged(&self, sent: OffsetDateTime) {
        self.world.history.note(self.who, "push acknowledged", &json!(self.root));
        if let Ok(mut pushed) = self.world.ledger.pushed.lock() {
            let last = pushed.entry(self.root).or_insert(sent);
            *last = sent.max(*last);
        }
    }
}
