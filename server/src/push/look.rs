//! Looking in the bucket for what a client says it sent.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::object_key::{NarCompression, ObjectKey, is_narinfo};
use niks3_protocol::server_config::VerifyUploads;

use super::plan::Plan;
use super::{PushError, signed};
use crate::app::App;
use crate::bucket::{BucketError, ObjectHead};
use crate::db;
use crate::db::uploads::Upload;

/// From so many keys of one folder on, pages of a listing are tried before each key is asked for.
const WORTH_A_LISTING: usize = 100;
/// Keys that a page of a listing must answer on average; it costs as much as a dozen requests for one object, in
/// money and in time.
const WORTH_A_PAGE: usize = 50;
/// Of how many objects of the cache one has to be looked for, so that a page of a thousand shows as many: a folder
/// holds about half of them. Some servers read all of a folder for each page.
const OBJECTS_A_KEY: usize = 2 * 1000 / WORTH_A_PAGE;

/// The stored bytes of each key that was sent since the upload began, where the bucket has it; in no order.
async fn look(app: &App, upload: &Upload, keys: &[String]) -> Result<Vec<(String, Option<i64>)>, PushError> {
    let objects = db::objects::estimate_count(&mut *app.db.acquire().await?).await?;
    let objects = usize::try_from(objects).unwrap_or(0);
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for key in keys {
        let folder = key.find('/').map_or("", |end| &key[..=end]);
        folders.entry(folder).or_default().push(key);
    }
    let worth = |keys: &Vec<&str>| keys.len() >= WORTH_A_LISTING.max(objects / OBJECTS_A_KEY);
    let listings = folders.into_iter().filter(|(_, keys)| worth(keys));
    let began = upload.started_at.unix_timestamp();
    let listings = listings.map(|(folder, keys)| list(app, folder, keys, began));
    let listed: HashMap<String, i64> =
        futures::future::try_join_all(listings).await?.into_iter().flatten().collect();
    let rest: Vec<String> = keys.iter().filter(|key| !listed.contains_key(*key)).cloned().collect();
    let asked = ask(app, &rest).await?.into_iter().map(|(key, head)| (key, head.map(|head| head.size)));
    Ok(listed.into_iter().map(|(key, size)| (key, Some(size))).chain(asked).collect())
}

/// Those of the keys that pages of the folder show, as long as the bucket holds little else there.
///
/// Some servers' listings are late. One that lacks an object proves nothing, and one that shows what was deleted is not
/// believed: only what was written since `began`, in seconds since 1970, counts.
async fn list(
    app: &App,
    folder: &str,
    mut keys: Vec<&str>,
    began: i64,
) -> Result<Vec<(String, i64)>, BucketError> {
    keys.sort_unstable();
    let mut found = Vec::new();
    let (mut next, mut pages) = (0, 0);
    while next < keys.len() && found.len() >= pages * WORTH_A_PAGE {
        // What comes before the next key: itself, its end cut off.
        let mut after = keys[next].chars();
        after.next_back();
        let page = app.bucket.list_folder(folder, Some(after.as_str())).await?;
        let Some(last) = page.last().map(|object| object.key.clone()) else { break };
        let new = page.into_iter().filter(|object| object.modified >= began);
        let mut sizes: HashMap<String, i64> = new.map(|object| (object.key, object.size)).collect();
        let end = next + keys[next..].partition_point(|key| *key <= last.as_str());
        found.extend(keys[next..end].iter().filter_map(|key| sizes.remove_entry(*key)));
        next = end.max(next + 1);
        pages += 1;
    }
    Ok(found)
}

/// Asks for each key; the result is in no order.
pub(super) async fn ask(
    app: &App,
    keys: &[String],
) -> Result<Vec<(String, Option<ObjectHead>)>, BucketError> {
    futures::stream::iter(keys.iter().cloned())
        .map(|key| async move { Ok((key.clone(), app.bucket.head(&key).await?)) })
        .buffer_unordered(app.config.s3_concurrency)
        .try_collect()
        .await
}

/// The stored bytes of all that an upload's client had to send, where the configuration says to look; all of it
/// has to be there, and to be what it has to be.
pub(super) async fn look_for_sent(
    app: &App,
    id: i64,
    upload: &Upload,
    plan: &Plan,
) -> Result<HashMap<String, Option<i64>>, PushError> {
    let sent: Vec<String> = upload.missing.iter().filter(|key| !is_narinfo(key)).cloned().collect();
    if app.config.verify == VerifyUploads::None {
        return Ok(sent.into_iter().map(|key| (key, None)).collect());
    }
    let mut sizes = HashMap::with_capacity(upload.missing.len());
    let mut absent = Vec::new();
    for (key, size) in look(app, upload, &sent).await? {
        match size {
            Some(_) => drop(sizes.insert(key, size)),
            None => absent.push(key),
        }
    }
    if !absent.is_empty() {
        absent.sort_unstable();
        return Err(PushError::NotUploaded(absent));
    }
    for (key, planned) in plan.objects(&upload.keys) {
        let Some(Some(stored)) = sizes.get(key) else { continue };
        let (is_nar, is_plain) = match key.parse() {
            Ok(ObjectKey::Nar(_, compression)) => (true, compression == NarCompression::None),
            _ => (false, false),
        };
        let expected = planned.nar_size.filter(|_| is_plain);
        if is_nar && (*stored == 0 || expected.is_some_and(|size| u64::try_from(*stored) != Ok(size))) {
            return Err(PushError::Replaced(key.clone()));
        }
    }
    match replaced(app, id, &sizes).await? {
        Some(key) => Err(PushError::Replaced(key)),
        None => Ok(sizes),
    }
}

/// A NAR that is not the one any more that was read back when it was signed, where that is configured.
async fn replaced(
    app: &App,
    id: i64,
    sent: &HashMap<String, Option<i64>>,
) -> Result<Option<String>, PushError> {
    if app.config.verify != VerifyUploads::Hash {
        return Ok(None);
    }
    let mut conn = app.db.acquire().await?;
    let signed = signed::read(&mut conn, id).await?;
    drop(conn);
    let read_back: HashMap<String, String> =
        signed.into_values().filter_map(|signed| Some((signed.narinfo.url, signed.nar_etag?))).collect();
    let keys: Vec<String> = read_back.keys().filter(|key| sent.contains_key(*key)).cloned().collect();
    let now = ask(app, &keys).await?.into_iter();
    let changed =
        |key: &String, head: Option<ObjectHead>| head.map(|head| head.etag).as_ref() != read_back.get(key);
    Ok(now.into_iter().find_map(|(key, head)| changed(&key, head).then_some(key)))
}
