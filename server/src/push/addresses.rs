//! Upload addresses bound to the length and the sha256 of what is to be stored: S3 itself refuses other bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use niks3_protocol::api::pending_closures::{AddressesRequest, AddressesResponse, StoredBytes};
use niks3_protocol::object_key::{ObjectKey, ObjectKind};

use super::PushError;
use crate::app::App;
use crate::auth::Identity;
use crate::db;

/// S3 takes no more in one PUT: 5 GiB.
const MAX_PUT: u64 = 5 << 30;

/// Signs addresses of objects that the upload lacks. It lives on until they have ended.
pub async fn addresses(
    app: &App,
    identity: &Identity,
    id: i64,
    request: AddressesRequest,
) -> Result<AddressesResponse, PushError> {
    for (key, bytes) in &request.objects {
        check(key, bytes)?;
    }
    let keys: Vec<String> = request.objects.keys().cloned().collect();
    // Dated before the row says when its addresses end.
    let presigner = app.bucket.presigner(app.config.presign_expiry).await?;
    let mut conn = app.db.acquire().await?;
    let (owner, missing) =
        db::uploads::find_missing(&mut conn, id, &keys).await?.ok_or(PushError::UploadNotFound(id))?;
    if owner != identity.name {
        return Err(PushError::NotOwner(id));
    }
    if let Some(key) = keys.iter().find(|key| !missing.contains(key)) {
        return Err(PushError::Foreign(format!("{key} is not among what upload {id} has to send")));
    }
    if !db::uploads::extend(&mut conn, id, app.config.presign_expiry).await? {
        return Err(PushError::UploadNotFound(id));
    }
    drop(conn);
    let told = request.upload_headers;
    let address = |(key, bytes): (String, StoredBytes)| {
        let address = presigner.put_bound(&key, bytes.length, &bytes.sha256, told);
        (key, address)
    };
    let upload_headers = if told { presigner.headers().clone() } else { BTreeMap::new() };
    Ok(AddressesResponse { addresses: request.objects.into_iter().map(address).collect(), upload_headers })
}

fn check(key: &str, bytes: &StoredBytes) -> Result<(), PushError> {
    let invalid = |why: &str| Err(PushError::Invalid(format!("{key}: {why}")));
    let parsed: ObjectKey = key.parse().map_err(|error| PushError::Invalid(format!("{error}")))?;
    if parsed.kind() == ObjectKind::Narinfo {
        // Whoever has the address of one may replace what others committed since.
        return invalid("narinfos are written by the server");
    }
    if !(1..=MAX_PUT).contains(&bytes.length) {
        return invalid("one PUT has 1 byte to 5 GiB");
    }
    match STANDARD.decode(&bytes.sha256) {
        Ok(digest) if digest.len() == 32 => Ok(()),
        _ => invalid("its sha256 is not 32 bytes in base-64"),
    }
}
