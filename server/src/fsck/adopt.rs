//! Adopting: rows of narinfos that have none, as of a bucket that `nix copy` or niks3 1.7 wrote, or whose
//! database was lost.
//!
//! Each narinfo is adopted as a push commits it (docs/gc.md): an upload makes its keys roots, then it is looked
//! what the bucket has, then one transaction makes that live. Collections and pushes may go on meanwhile. While
//! it goes on each narinfo is a closure; in the end those stay that no other closure reaches.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::NarInfoMetadata;
use niks3_protocol::nix::{NarInfo, StorePath};
use niks3_protocol::object_key::{ObjectKey, ObjectKind, is_narinfo};

use super::protect::protect;
use super::{Report, pins, realisations};
use crate::app::App;
use crate::bucket::{ReadAnswer, ReadRequest};
use crate::db;
use crate::db::marks::STATEMENT;
use crate::db::objects::CommittedObjects;
use crate::db::uploads::NewUpload;

/// Who pushed what was adopted.
pub(crate) const ADOPTED: &str = "niks3-server fsck";
/// Narinfos or realisations under way at a time.
const CONCURRENT: usize = 16;
/// The longest narinfo, as it is stored and as text.
const MAX_NARINFO: usize = 4 << 20;

/// What became of a narinfo or realisation.
pub(super) enum Outcome {
    /// It was committed by a push, or is being.
    Known,
    Adopted,
    /// It cannot be.
    Incomplete(String),
}

pub(super) async fn adopt(app: &App, report: &mut Report<'_>) -> anyhow::Result<()> {
    adopt_below(app, report, "", Adopts::Narinfos).await?;
    for prefix in realisations::PREFIXES {
        adopt_below(app, report, prefix, Adopts::Realisations).await?;
    }
    let mut conn = app.db.acquire().await?;
    for keys in db::fsck::list_incomplete_closures(&mut conn, ADOPTED).await?.chunks(STATEMENT) {
        for key in db::fsck::delete_adopted_closures(&mut conn, keys, ADOPTED).await? {
            incomplete(report, &key, "something that it reaches is not in the bucket".to_owned())?;
        }
    }
    drop(conn);
    pins::adopt(app, report).await?;
    let mut conn = app.db.acquire().await?;
    for keys in db::fsck::list_inner_closures(&mut conn, ADOPTED).await?.chunks(STATEMENT) {
        db::fsck::delete_adopted_closures(&mut conn, keys, ADOPTED).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Adopts {
    Narinfos,
    Realisations,
}

impl Adopts {
    fn takes(self, key: &str) -> bool {
        match self {
            Self::Narinfos => is_narinfo(key),
            Self::Realisations => realisations::is_realisation(key),
        }
    }

    async fn adopt(self, app: &App, key: &str) -> anyhow::Result<Outcome> {
        match self {
            Self::Narinfos => adopt_one(app, key).await,
            Self::Realisations => realisations::adopt_one(app, key).await,
        }
    }
}

/// Adopts what it takes of all that is below a prefix.
async fn adopt_below(app: &App, report: &mut Report<'_>, prefix: &str, adopts: Adopts) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = app.bucket.list(prefix, after.as_deref()).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let wanted = page.into_iter().filter(|object| adopts.takes(&object.key));
        let outcomes: Vec<(String, Outcome)> = futures::stream::iter(wanted)
            .map(|object| async move {
                let outcome = adopts.adopt(app, &object.key).await.with_context(|| object.key.clone())?;
                anyhow::Ok((object.key, outcome))
            })
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        for (key, outcome) in outcomes {
            match outcome {
                Outcome::Known => {}
                Outcome::Adopted => report.summary.adopted += 1,
                Outcome::Incomplete(why) => incomplete(report, &key, why)?,
            }
        }
        tracing::info!(adopted = report.summary.adopted, after, "fsck adopts");
    }
}

pub(super) fn incomplete(report: &mut Report<'_>, key: &str, why: String) -> anyhow::Result<()> {
    report.summary.incomplete += 1;
    report.find("incomplete", key, why)
}

async fn adopt_one(app: &App, key: &str) -> anyhow::Result<Outcome> {
    if super::find_row(app, key).await?.is_some_and(|row| row.live) {
        return Ok(Outcome::Known);
    }
    let Some(narinfo) = read(app, key).await? else { return Ok(Outcome::Known) };
    let narinfo = match narinfo {
        Ok(narinfo) => narinfo,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    // Not every writer makes listings, and few paths have a log.
    let mut extras = vec![narinfo.store_path.listing_key()];
    if let Some(log) = log_key(&narinfo)
        && app.bucket.head(&log).await?.is_some()
    {
        extras.push(log);
    }
    let mut refs: Vec<String> = narinfo.references.iter().map(StorePath::narinfo_key).collect();
    refs.push(narinfo.url.clone());
    refs.extend(extras.iter().cloned());
    let mut keys = refs.clone();
    keys.push(key.to_owned());
    keys.sort_unstable();
    keys.dedup();

    let id = begin(app, &[key.to_owned()], &keys).await?;
    let adopted = commit(app, id, key, narinfo, &Parts { extras, refs, keys }).await;
    end(app, id, adopted).await
}

/// Begins an upload of ours, as a push does.
pub(super) async fn begin(app: &App, roots: &[String], keys: &[String]) -> anyhow::Result<i64> {
    let upload = NewUpload {
        owner: ADOPTED,
        origin: &serde_json::json!({ "fsck": "adopt" }),
        roots,
        keys,
        addresses: app.config.presign_expiry,
        staged: false,
    };
    let mut conn = app.db.acquire().await?;
    Ok(db::uploads::insert(&mut conn, &upload).await?.0)
}

/// An upload of ours does not outlive a commit that came to nothing.
pub(super) async fn end(app: &App, id: i64, adopted: anyhow::Result<Outcome>) -> anyhow::Result<Outcome> {
    if !matches!(adopted, Ok(Outcome::Adopted)) {
        let mut conn = app.db.acquire().await?;
        db::uploads::delete(&mut conn, id).await?;
    }
    adopted
}

/// The key of a path's build log, where it may have one: no narinfo names its log, yet it is to live as long.
fn log_key(narinfo: &NarInfo) -> Option<String> {
    let key = narinfo.deriver.as_ref()?.log_key();
    key.parse::<ObjectKey>().is_ok().then_some(key)
}

/// What a narinfo is adopted with.
struct Parts {
    /// Its listing and its log, which need not be there.
    extras: Vec<String>,
    /// All it leads to, these too.
    refs: Vec<String>,
    /// That and itself, sorted.
    keys: Vec<String>,
}

/// From the states on, as begin and commit of a push.
async fn commit(app: &App, id: i64, own: &str, narinfo: NarInfo, parts: &Parts) -> anyhow::Result<Outcome> {
    let Parts { extras, refs, keys } = parts;
    let protected = match protect(app, id, keys).await? {
        Ok(protected) => protected,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    let nar_size = i64::try_from(narinfo.nar_size)?;
    let mut sizes = Vec::new();
    for wanted in [own, narinfo.url.as_str()].into_iter().chain(extras.iter().map(String::as_str)) {
        match app.bucket.head(wanted).await? {
            Some(head) => sizes.push((wanted.to_owned(), head.size)),
            None if extras.iter().any(|extra| extra == wanted) => {}
            None => return Ok(Outcome::Incomplete(format!("{wanted} is not in the bucket"))),
        }
    }

    let mut transaction = db::begin(&app.db).await?;
    let states = match protected.lock(&mut transaction, id, keys).await? {
        Ok(states) => states,
        Err(why) => return Ok(Outcome::Incomplete(why)),
    };
    let row = |wanted: &str| states.iter().find(|state| state.key == wanted);
    let is_busy = |wanted: &str| row(wanted).is_none_or(|row| row.writing_by.is_some());
    if row(own).is_some_and(|row| row.live) {
        return Ok(Outcome::Known);
    }
    if let Some((busy, _)) = sizes.iter().find(|(wanted, _)| is_busy(wanted)) {
        return Ok(Outcome::Incomplete(format!("{busy} is being written; run this again")));
    }
    let mut committed = CommittedObjects::default();
    for (wanted, size) in &sizes {
        let Some(row) = row(wanted) else { continue };
        let leads_to: Vec<String> = if wanted == own {
            refs.iter()
                .filter(|key| !extras.contains(key) || sizes.iter().any(|(found, _)| found == *key))
                .filter_map(|key| states.iter().find(|state| state.key == *key))
                .map(|state| state.id.to_string())
                .collect()
        } else {
            Vec::new()
        };
        committed.ids.push(row.id);
        committed.stored_sizes.push(Some(*size));
        committed.nar_sizes.push((*wanted == narinfo.url).then_some(nar_size));
        committed.refs.push(format!("{{{}}}", leads_to.join(",")));
    }
    let roots = [own.to_owned()];
    let narinfo = NarInfoMetadata::from(narinfo);
    db::narinfos::insert_of_upload(&mut transaction, id, &[(&narinfo, narinfo.signatures.as_slice())])
        .await?;
    db::objects::set_live(&mut transaction, &committed).await?;
    db::closures::adopt(&mut transaction, &roots, ADOPTED).await?;
    db::uploads::delete(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok(Outcome::Adopted)
}

/// A narinfo, or what is wrong with it; `None` where it is not there any more.
async fn read(app: &App, key: &str) -> anyhow::Result<Option<Result<NarInfo, String>>> {
    let Some((bytes, encoding)) = read_small(app, key, MAX_NARINFO).await? else { return Ok(None) };
    let text = match encoding.as_deref() {
        None => Ok(bytes),
        Some("zstd") => zstd::bulk::decompress(&bytes, MAX_NARINFO).map_err(|error| error.to_string()),
        Some(other) => Err(format!("its Content-Encoding {other:?} is none this server can undo")),
    };
    Ok(Some(text.and_then(|text| check(app, key, &text))))
}

fn check(app: &App, key: &str, text: &[u8]) -> Result<NarInfo, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let narinfo: NarInfo = text.parse().map_err(|error| format!("it is not a narinfo: {error}"))?;
    let path = &narinfo.store_path;
    if key != path.narinfo_key() {
        return Err(format!("it is the narinfo of {path}, which has another key"));
    }
    if path.store_dir() != app.config.store_dir {
        return Err(format!("{path} is not in {}, this cache's store directory", app.config.store_dir));
    }
    let nar: Result<ObjectKey, _> = narinfo.url.parse();
    if !nar.is_ok_and(|key| key.kind() == ObjectKind::Nar) {
        return Err(format!("its NAR's URL {:?} is not a key of this cache", narinfo.url));
    }
    Ok(narinfo)
}

/// An object that has to be small, and its encoding.
pub(super) async fn read_small(
    app: &App,
    key: &str,
    limit: usize,
) -> anyhow::Result<Option<(Vec<u8>, Option<String>)>> {
    let ReadAnswer::Found(object) = app.bucket.get(key, ReadRequest::default()).await? else {
        return Ok(None);
    };
    anyhow::ensure!(
        usize::try_from(object.content_length).is_ok_and(|length| length <= limit),
        "{key} has {} bytes, and {limit} are the most there may be",
        object.content_length
    );
    let bytes = object.body.collect().await.with_context(|| format!("reading {key}"))?;
    Ok(Some((bytes.to_vec(), object.content_encoding)))
}
