//! Begin, in two transactions.
//!
//! First the upload with all its keys is written and committed. Only then are the objects' states read. The
//! order is what makes it safe: a collection that did not see the upload took its snapshot before the states
//! were read, so whatever it claims was condemned before, and such a condemnation is lifted here first.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use niks3_protocol::api::pending_closures::{MULTIPART_THRESHOLD, MultipartInfo, PendingObject, part_size};
use niks3_protocol::object_key::{ObjectKey, ObjectKind};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::look::ask;
use super::plan::Plan;
use super::put_addresses::{Ahead, Missing, PutAddresses, SignedAddresses};
use super::reading::{Begin, Numbering};
use super::{PushError, size};
use crate::app::App;
use crate::auth::Identity;
use crate::bucket::Presigner;
use crate::db;
use crate::db::expected::Expected;
use crate::db::uploads::NewUpload;

/// How long a begin waits for objects that a collection is deleting.
const WAIT_FOR_DELETES: Duration = Duration::from_secs(10);
/// Part addresses handed out at begin; a client asks for more when it has used them.
const FIRST_PARTS: u64 = 100;
/// Multipart uploads opened at S3 at a time for one begin.
const CONCURRENT_OPENS: usize = 16;

/// An open upload.
pub struct Begun {
    /// Its id.
    pub id: i64,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// What is missing and sent in parts.
    pub multiparts: Vec<(String, PendingObject)>,
    /// What else is missing.
    pub missing: Vec<Missing>,
    /// How that is sent.
    pub addresses: Arc<PutAddresses>,
    /// Where some of it goes, signed already.
    pub signed: SignedAddresses,
}

/// Opens an upload and says what is missing and where to send it.
pub async fn begin(
    app: &App,
    identity: &Identity,
    begin: Begin,
    numbering: Numbering,
) -> Result<Begun, PushError> {
    let inserted = async {
        let upload = NewUpload {
            owner: &identity.name,
            origin: &identity.origin,
            roots: &begin.roots,
            keys: &begin.keys,
            addresses: app.config.presign_expiry,
            staged: begin.staged,
        };
        db::uploads::insert(&mut *app.db.acquire().await?, &upload).await
    };
    let (inserted, plan) = tokio::join!(inserted, numbering.end());
    let (id, started_at) = inserted?;
    let begun = match plan {
        Ok((plan, kept)) => open(app, Opening { id, started_at, begin, plan, kept }).await,
        Err(error) => Err(error),
    };
    if begun.is_err()
        // Nobody knows the id yet. Should this fail too, the upload expires.
        && let Ok(mut conn) = app.db.acquire().await
    {
        let _ = db::uploads::delete(&mut conn, id).await;
    }
    begun
}

/// An upload after the first transaction.
struct Opening {
    id: i64,
    started_at: OffsetDateTime,
    begin: Begin,
    plan: Plan,
    /// The same as its row keeps it.
    kept: Vec<u8>,
}

/// Everything after the first transaction.
async fn open(app: &App, upload: Opening) -> Result<Begun, PushError> {
    let States { missing: absent, addresses, signed } = read_states(app, &upload).await?;
    let Opening { id, started_at, begin: Begin { keys, .. }, plan, .. } = upload;
    let nars = absent.iter().filter(|key| key.starts_with("nar/"));
    let nars = nars.filter_map(|key| keys.binary_search(key).ok());
    size::check_missing(app.config.limits.nar_bytes, &keys, &plan, nars)?;
    let (mut large, mut missing) = (Vec::new(), Vec::new());
    for key in absent {
        let parsed: ObjectKey = key.parse().map_err(|error| PushError::Invalid(format!("{error}")))?;
        let number = keys.binary_search(&key).ok();
        let nar_size = number.and_then(|number| plan.get(number)?.nar_size);
        match parsed.kind() {
            // A NAR of unknown size may be large.
            ObjectKind::Nar if nar_size.is_none_or(|size| size == 0 || size > MULTIPART_THRESHOLD) => {
                large.push((key, parsed, nar_size.unwrap_or(0)));
            }
            kind => missing.push(Missing { key, kind }),
        }
    }
    let multiparts = open_multiparts(app, id, &addresses.presigner, large).await?;
    Ok(Begun { id, started_at, multiparts, missing, addresses, signed })
}

/// How its objects stand, once the upload is committed.
struct States {
    missing: Vec<String>,
    /// Dated before the transaction says when they end, however long deletions were waited for.
    addresses: Arc<PutAddresses>,
    /// Those of some that have no row: some of them may be live by now.
    signed: SignedAddresses,
}

/// Reads the states and, in the second transaction, settles them; again until nothing of the upload is being deleted.
async fn read_states(app: &App, upload: &Opening) -> Result<States, PushError> {
    let &Opening { id, begin: Begin { ref keys, verify_s3, staged, bound, headers, .. }, .. } = upload;
    if verify_s3 {
        forget_lost(app, keys).await?;
    }
    let give_up = Instant::now() + WAIT_FOR_DELETES;
    let mut pause = Duration::from_millis(20);
    let expiry = app.config.presign_expiry;
    loop {
        let presigner = app.bucket.presigner(expiry).await?;
        let addresses = Arc::new(PutAddresses { upload: id, presigner, staged, bound, told: headers });
        let exceptions = db::expected::list_exceptions(&app.db, keys).await?;
        let ahead = Ahead::start(&addresses, &exceptions.unknown);
        let mut transaction = db::begin(&app.db).await?;
        let Expected { missing, deleting } = db::expected::settle(&mut transaction, exceptions).await?;
        let open = db::uploads::open(&mut transaction, id, &upload.kept, &missing, expiry).await?;
        transaction.commit().await?;
        if !open {
            return Err(PushError::UploadNotFound(id));
        }
        match deleting {
            None => return Ok(States { missing, addresses, signed: ahead.end().await? }),
            Some(_) if Instant::now() < give_up => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Some(deleting) => return Err(PushError::BeingDeleted(deleting)),
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

async fn open_multiparts(
    app: &App,
    id: i64,
    presigner: &Presigner,
    objects: Vec<(String, ObjectKey, u64)>,
) -> Result<Vec<(String, PendingObject)>, PushError> {
    let mut opening = futures::stream::iter(objects)
        .map(|(key, parsed, nar_size)| async move {
            let s3_id = app.bucket.create_multipart(&parsed).await?;
            Ok::<_, PushError>((key, nar_size, s3_id))
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
        opened.iter().map(|(key, _, s3_id)| (key.clone(), s3_id.clone())).unzip();
    if !keys.is_empty() {
        let mut conn = app.db.acquire().await?;
        db::multipart_uploads::insert(&mut conn, id, &keys, &ids).await?;
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(opened
        .into_iter()
        .map(|(key, nar_size, upload_id)| {
            let parts = nar_size.div_ceil(part_size(nar_size)).clamp(2, FIRST_PARTS);
            let parts = u32::try_from(parts).unwrap_or(2);
            let part_urls = (1..=parts).map(|number| presigner.part(&key, &upload_id, number)).collect();
            let multipart_info = Some(MultipartInfo { upload_id, part_urls });
            (key, PendingObject { kind: ObjectKind::Nar, presigned_url: None, multipart_info })
        })
        .collect())
}
