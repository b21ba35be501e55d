//! Begin, in two transactions.
//!
//! First the upload with all its keys is written and committed. Only then are the objects' states read. The
//! order is what makes it safe: a collection that did not see the upload took its snapshot before the states
//! were read, so whatever it claims was condemned before, and such a condemnation is lifted here first.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use niks3_protocol::api::pending_closures::{
    BeginRequest, BeginResponse, MULTIPART_THRESHOLD, MultipartInfo, PendingObject, UploadObject, part_size,
};
use niks3_protocol::object_key::{ObjectKey, ObjectKind};
use tokio::time::Instant;

use super::look::ask;
use super::staging::staging_key;
use super::{MAX_NAR_SIZE, PushError};
use crate::app::App;
use crate::auth::Identity;
use crate::bucket::Presigner;
use crate::db;
use crate::db::uploads::NewUpload;
use crate::parallel;

/// How long a begin waits for objects that a collection is deleting.
const WAIT_FOR_DELETES: Duration = Duration::from_secs(10);
/// Part addresses handed out at begin; a client asks for more when it has used them.
const FIRST_PARTS: u64 = 100;
/// Multipart uploads opened at S3 at a time for one begin.
const CONCURRENT_OPENS: usize = 16;

/// Opens an upload and says what is missing and where to send it.
pub async fn begin(
    app: &App,
    identity: &Identity,
    request: BeginRequest,
) -> Result<BeginResponse, PushError> {
    let BeginRequest { closure, closures, objects, verify_s3, server_narinfos, bound_addresses } = request;
    let mut roots = closures;
    roots.push(closure);
    roots.sort_unstable();
    roots.dedup();
    let objects = check(&roots, objects)?;
    let keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
    let plan = serde_json::to_vec(&objects).map_err(|error| PushError::Invalid(error.to_string()))?;

    let mut conn = app.db.acquire().await?;
    let upload = NewUpload {
        owner: &identity.name,
        origin: &identity.origin,
        roots: &roots,
        keys: &keys,
        plan: &plan,
        addresses: app.config.presign_expiry,
        staged: !server_narinfos,
    };
    let (id, started_at) = db::uploads::insert(&mut conn, &upload).await?;
    drop(conn);

    match open(app, id, &objects, &keys, How { verify_s3, server_narinfos, bound_addresses }).await {
        Ok(pending_objects) => Ok(BeginResponse { id: id.to_string(), started_at, pending_objects }),
        Err(error) => {
            // Nobody knows the id yet. Should this fail too, the upload expires.
            if let Ok(mut conn) = app.db.acquire().await {
                let _ = db::uploads::delete(&mut conn, id).await;
            }
            Err(error)
        }
    }
}

/// What the client asked for.
#[derive(Clone, Copy)]
struct How {
    verify_s3: bool,
    server_narinfos: bool,
    bound_addresses: bool,
}

/// Everything after the first transaction.
async fn open(
    app: &App,
    id: i64,
    objects: &[UploadObject],
    keys: &[String],
    how: How,
) -> Result<BTreeMap<String, PendingObject>, PushError> {
    if how.verify_s3 {
        forget_lost(app, keys).await?;
    }
    let (missing, presigner) = read_states(app, id, keys).await?;
    let missing: Vec<&UploadObject> =
        objects.iter().filter(|object| missing.contains(object.key.as_str())).collect();
    let (large, small): (Vec<_>, Vec<_>) = missing.into_iter().partition(|object| is_multipart(object));
    let staging = !how.server_narinfos;
    // Never the address of a narinfo: whoever has one may replace what others committed since.
    let addresses = parallel::map(&small, |object| match object.kind {
        ObjectKind::Narinfo if staging => Some(presigner.put(&staging_key(id, &object.key))),
        ObjectKind::Narinfo => None,
        _ if how.bound_addresses => None,
        _ => Some(presigner.put(&object.key)),
    });
    let mut pending: BTreeMap<String, PendingObject> = small
        .into_iter()
        .zip(addresses)
        .map(|(object, presigned_url)| {
            (object.key.clone(), PendingObject { kind: object.kind, presigned_url, multipart_info: None })
        })
        .collect();
    pending.extend(open_multiparts(app, id, &presigner, large).await?);
    Ok(pending)
}

/// Parses what the request says; the objects come back sorted by key, each once.
fn check(roots: &[String], mut objects: Vec<UploadObject>) -> Result<Vec<UploadObject>, PushError> {
    let invalid = |message: String| Err(PushError::Invalid(message));
    objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    objects.dedup_by(|again, first| {
        let same = again.key == first.key && again.kind == first.kind;
        if same {
            first.refs.append(&mut again.refs);
            first.nar_size = first.nar_size.max(again.nar_size);
        }
        same
    });
    for object in &mut objects {
        object.refs.sort_unstable();
        object.refs.dedup();
        let key: ObjectKey = object.key.parse().map_err(|error| PushError::Invalid(format!("{error}")))?;
        if key.kind() != object.kind {
            return invalid(format!("{key} is named as {:?}, which its key is not", object.kind));
        }
        if object.nar_size.is_some_and(|size| size > MAX_NAR_SIZE) {
            return invalid(format!("{key} is larger than the 5 TiB S3 can hold"));
        }
        for reference in &object.refs {
            reference.parse::<ObjectKey>().map_err(|error| {
                PushError::Invalid(format!("{key} refers to a key that is none: {error}"))
            })?;
        }
    }
    if let Some(pair) = objects.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return invalid(format!("{} is named twice, as different kinds", pair[0].key));
    }
    for root in roots {
        if !matches!(root.parse(), Ok(ObjectKey::Narinfo(_))) {
            return invalid(format!("the closure {root:?} is not a narinfo's key ({{32 digits}}.narinfo)"));
        }
        if objects.binary_search_by(|object| object.key.cmp(root)).is_err() {
            return invalid(format!("the closure {root} is not among the objects"));
        }
    }
    Ok(objects)
}

/// The second transaction, again until nothing of the upload is being deleted. Gives the missing keys, and what signs
/// their addresses: dated before the transaction says when these end, however long the deletions were waited for.
async fn read_states(app: &App, id: i64, keys: &[String]) -> Result<(HashSet<String>, Presigner), PushError> {
    let give_up = Instant::now() + WAIT_FOR_DELETES;
    let mut pause = Duration::from_millis(20);
    let addresses = app.config.presign_expiry;
    loop {
        let presigner = app.bucket.presigner(addresses).await?;
        let mut transaction = db::begin(&app.db).await?;
        let states = db::objects::expect(&mut transaction, keys).await?;
        let deleting = states.iter().find(|state| state.deleting).map(|state| state.key.clone());
        // A key may have lost its row between two statements: its deletion was just confirmed.
        let complete = states.len() == keys.len();
        let missing: Vec<String> =
            states.into_iter().filter(|state| !state.live).map(|state| state.key).collect();
        let open = db::uploads::set_missing(&mut transaction, id, &missing, addresses).await?;
        transaction.commit().await?;
        if !open {
            return Err(PushError::UploadNotFound(id));
        }
        match deleting {
            None if complete => return Ok((missing.into_iter().collect(), presigner)),
            _ if Instant::now() < give_up => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            deleting => return Err(PushError::BeingDeleted(deleting.unwrap_or_default())),
        }
    }
}

/// Makes expected what its row calls live but the bucket does not have.
async fn forget_lost(app: &App, keys: &[String]) -> Result<(), PushError> {
    let mut conn = app.db.acquire().await?;
    let states = db::objects::list_states(&mut conn, keys).await?;
    drop(conn);
    let live: Vec<String> = states.into_iter().filter(|state| state.live).map(|state| state.key).collect();
    let found = ask(app, &live).await?;
    let lost: Vec<String> =
        found.into_iter().filter(|(_, head)| head.is_none()).map(|(key, _)| key).collect();
    if !lost.is_empty() {
        tracing::warn!(count = lost.len(), first = lost[0], "objects with live rows are not in the bucket");
        let mut conn = app.db.acquire().await?;
        db::objects::set_expected(&mut conn, &lost).await?;
    }
    Ok(())
}

/// A NAR of unknown size may be large.
fn is_multipart(object: &UploadObject) -> bool {
    object.kind == ObjectKind::Nar
        && object.nar_size.is_none_or(|size| size == 0 || size > MULTIPART_THRESHOLD)
}

async fn open_multiparts(
    app: &App,
    id: i64,
    presigner: &Presigner,
    objects: Vec<&UploadObject>,
) -> Result<Vec<(String, PendingObject)>, PushError> {
    let objects: Vec<UploadObject> = objects.into_iter().cloned().collect();
    let mut opening = futures::stream::iter(objects)
        .map(|object| async move {
            let key: ObjectKey =
                object.key.parse().map_err(|error| PushError::Invalid(format!("{error}")))?;
            let s3_id = app.bucket.create_multipart(&key).await?;
            Ok::<_, PushError>((object, s3_id))
        })
        .buffer_unordered(CONCURRENT_OPENS);
    // Where one fails, those under way are waited for: what S3 opened is written down, to be ended.
    let (mut opened, mut failure) = (Vec::new(), None);
    while let Some(result) = opening.next().await {
        match result {
            Ok(one) => opened.push(one),
            Err(error) => failure = Some(error),
        }
    }
    let (keys, ids): (Vec<String>, Vec<String>) =
        opened.iter().map(|(object, s3_id)| (object.key.clone(), s3_id.clone())).unzip();
    if !keys.is_empty() {
        let mut conn = app.db.acquire().await?;
        db::multipart_uploads::insert(&mut conn, id, &keys, &ids).await?;
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(opened
        .into_iter()
        .map(|(object, upload_id)| {
            let nar_size = object.nar_size.unwrap_or(0);
            let parts = nar_size.div_ceil(part_size(nar_size)).clamp(2, FIRST_PARTS);
            let parts = u32::try_from(parts).unwrap_or(2);
            let part_urls =
                (1..=parts).map(|number| presigner.part(&object.key, &upload_id, number)).collect();
            let multipart_info = Some(MultipartInfo { upload_id, part_urls });
            let pending = PendingObject { kind: object.kind, presigned_url: None, multipart_info };
            (object.key, pending)
        })
        .collect())
}
