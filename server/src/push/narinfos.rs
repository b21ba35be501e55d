//! Writing narinfos: the server alone does, so that the one in the bucket is always the one that was committed.
//!
//! A narinfo that is not live has one writer at a time: the upload that claimed it. The claim lasts until the
//! last request to write has happened or never will, so no late one can replace what another upload wrote since.
//! What is live by now was written by another upload and is left as that committed it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use niks3_protocol::nix::StorePath;
use niks3_protocol::object_key::{ObjectKey, is_narinfo};
use time::OffsetDateTime;
use tokio::time::Instant;
use zstd::bulk::Compressor;

use super::PushError;
use super::signed::{self, Signed};
use crate::app::App;
use crate::db;
use crate::writing::{self, Sent};

/// How long a commit waits for another that writes the same narinfos.
const WAIT_FOR_WRITER: Duration = Duration::from_secs(20);

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    /// Each, and its stored bytes.
    pub(super) narinfos: Vec<(Signed, i64)>,
    /// Until when they were claimed, where nothing is under way any more.
    pub(super) settled: Option<OffsetDateTime>,
}

/// Claims and writes the narinfos among `missing` that nobody has committed meanwhile.
pub(super) async fn write(app: &App, id: i64, missing: &[String]) -> Result<Written, PushError> {
    let keys: Vec<String> = missing.iter().filter(|key| is_narinfo(key)).cloned().collect();
    if keys.is_empty() {
        return Ok(Written::default());
    }
    let claim = claim(app, id, &keys).await?;
    let signed = claim.signed;
    let render = tokio::task::spawn_blocking(move || {
        let mut compressor = writing::compressor().map_err(|error| PushError::Invalid(error.to_string()))?;
        let bodies: Result<Vec<Body>, PushError> =
            signed.iter().map(|signed| Body::render(signed, &mut compressor)).collect();
        Ok::<_, PushError>((bodies?, signed))
    });
    let (bodies, signed) = render.await??;
    let answered = send_all(app, &bodies, claim.send_until).await?;
    let sizes = bodies.iter().map(|body| i64::try_from(body.bytes.len()).unwrap_or(i64::MAX));
    Ok(Written {
        narinfos: signed.into_iter().zip(sizes).collect(),
        settled: claim.until.filter(|_| answered && !claim.again),
    })
}

/// The right to write narinfos.
struct Claim {
    signed: Vec<Signed>,
    /// When it ends; none where nothing is left to write.
    until: Option<OffsetDateTime>,
    /// Requests may be sent until then; T later all have happened or never will.
    send_until: Instant,
    /// This upload had claimed some before, and may be writing them elsewhere.
    again: bool,
}

/// Waits until no other upload writes any of them: taking some and waiting for others could go in a circle.
async fn claim(app: &App, id: i64, keys: &[String]) -> Result<Claim, PushError> {
    let give_up = Instant::now() + WAIT_FOR_WRITER;
    let mut pause = Duration::from_millis(20);
    loop {
        match try_claim(app, id, keys).await {
            Err(PushError::BeingWritten(_)) if Instant::now() < give_up => {}
            Err(PushError::Database(error)) if Instant::now() < give_up && db::is_retryable(&error) => {}
            result => return result,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

async fn try_claim(app: &App, id: i64, keys: &[String]) -> Result<Claim, PushError> {
    let settle = app.bucket.config().settle_time();
    let send_until = Instant::now() + settle;
    let mut transaction = db::begin(&app.db).await?;
    if let Some(busy) = db::writers::find_busy(&mut transaction, id, keys).await? {
        return Err(PushError::BeingWritten(busy));
    }
    if db::uploads::lock(&mut transaction, id).await?.is_none() {
        return Err(PushError::UploadNotFound(id));
    }
    let rows = db::writers::lock(&mut transaction, id, keys).await?;
    if rows.len() < keys.len() {
        let there: Vec<&String> = rows.iter().map(|row| &row.key).collect();
        let gone = keys.iter().find(|key| !there.contains(key)).cloned();
        return Err(PushError::Changed(gone.unwrap_or_default()));
    }
    if let Some(row) = rows.iter().find(|row| row.deleting) {
        return Err(PushError::BeingDeleted(row.key.clone()));
    }
    if let Some(row) = rows.iter().find(|row| row.busy) {
        return Err(PushError::BeingWritten(row.key.clone()));
    }
    let again = rows.iter().any(|row| !row.live && row.writing_by == Some(id));
    let wanted: Vec<String> = rows.into_iter().filter(|row| !row.live).map(|row| row.key).collect();
    let mut known =
        if wanted.is_empty() { BTreeMap::new() } else { signed::read(&mut transaction, id).await? };
    let (mut signed, mut unsigned) = (Vec::with_capacity(wanted.len()), Vec::new());
    for key in &wanted {
        match known.remove(key) {
            Some(one) => signed.push(one),
            None => unsigned.push(key.clone()),
        }
    }
    if !unsigned.is_empty() {
        return Err(PushError::NotSigned(unsigned));
    }
    let until = if wanted.is_empty() {
        None
    } else {
        db::uploads::seal(&mut transaction, id).await?;
        Some(db::writers::claim(&mut transaction, id, &wanted, settle * 2).await?)
    };
    transaction.commit().await?;
    Ok(Claim { signed, until, send_until, again })
}

/// A narinfo as it is stored.
struct Body {
    key: ObjectKey,
    bytes: Vec<u8>,
    /// Keys of the narinfos it refers to.
    references: Vec<String>,
}

impl Body {
    fn render(signed: &Signed, compressor: &mut Compressor<'_>) -> Result<Self, PushError> {
        let Signed { key, narinfo, signatures, .. } = signed;
        let invalid = |error: &dyn std::fmt::Display| PushError::Invalid(format!("{key}: {error}"));
        let references = narinfo.references.iter().map(StorePath::narinfo_key).collect();
        let narinfo = narinfo.clone().into_narinfo(signatures.clone());
        let bytes = writing::compress(compressor, &narinfo).map_err(|error| invalid(&error))?;
        let key = key.parse().map_err(|error| invalid(&error))?;
        Ok(Self { key, bytes, references })
    }
}

/// Sends dependencies before dependents, so that whoever finds a narinfo finds all it leads to. Whether every
/// request was answered.
async fn send_all(app: &App, bodies: &[Body], until: Instant) -> Result<bool, PushError> {
    let index: HashMap<String, usize> =
        bodies.iter().enumerate().map(|(index, body)| (body.key.to_string(), index)).collect();
    let mut waits = vec![0_usize; bodies.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); bodies.len()];
    for (dependent, body) in bodies.iter().enumerate() {
        for dependency in body.references.iter().filter_map(|key| index.get(key)) {
            if *dependency != dependent {
                waits[dependent] += 1;
                dependents[*dependency].push(dependent);
            }
        }
    }
    let mut ready: VecDeque<usize> = (0..bodies.len()).filter(|index| waits[*index] == 0).collect();
    let mut started = vec![false; bodies.len()];
    let mut under_way = FuturesUnordered::new();
    let mut answered = true;
    loop {
        while under_way.len() < app.config.s3_concurrency
            && let Some(index) = ready.pop_front()
        {
            if !std::mem::replace(&mut started[index], true) {
                under_way.push(async move { (index, send(app, &bodies[index], until).await) });
            }
        }
        let Some((index, result)) = under_way.next().await else {
            // Nix knows no cycles; should there be one, its members go together.
            ready.extend((0..bodies.len()).filter(|index| !started[*index]));
            if ready.is_empty() {
                return Ok(answered);
            }
            continue;
        };
        answered &= result?;
        for dependent in &dependents[index] {
            waits[*dependent] -= 1;
            if waits[*dependent] == 0 {
                ready.push_back(*dependent);
            }
        }
    }
}

/// Sends one; whether every request was answered. A client waits for this: it is told at once where S3 throttles.
async fn send(app: &App, body: &Body, until: Instant) -> Result<bool, PushError> {
    match writing::send(app, &body.key, &body.bytes, until, false).await {
        Sent::Written(answered) => Ok(answered),
        Sent::Refused(_, error) | Sent::Unknown(error) => Err(error.into()),
        Sent::Late => Err(PushError::Late(body.key.to_string())),
    }
}
