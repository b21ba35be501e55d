//! What was signed for an upload, as it is kept until its commit.

use std::collections::BTreeMap;

use niks3_protocol::api::pending_closures::NarInfoMetadata;
use niks3_protocol::nix::Signature;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::PushError;
use crate::db;

/// A narinfo that was signed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signed {
    /// Its key.
    pub(super) key: String,
    /// What it is to say.
    pub(super) narinfo: NarInfoMetadata,
    /// One a signing key.
    pub(super) signatures: Vec<Signature>,
    /// What its NAR was when it was read back: a commit wants it to be that still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nar_etag: Option<String>,
}

/// As some of a call's are kept.
pub(super) fn to_bytes(signed: &[Signed]) -> Result<Vec<u8>, PushError> {
    serde_json::to_vec(signed).map_err(|error| PushError::Invalid(error.to_string()))
}

/// All that was signed for an upload, by key; of what was signed again, the last.
pub(super) async fn read(
    conn: &mut PgConnection,
    upload: i64,
) -> Result<BTreeMap<String, Signed>, PushError> {
    let mut all = BTreeMap::new();
    for call in db::narinfos::list_signed(conn, upload).await? {
        let call: Vec<Signed> = serde_json::from_slice(&call)
            .map_err(|_| PushError::Changed(format!("what was signed for upload {upload}")))?;
        all.extend(call.into_iter().map(|signed| (signed.key.clone(), signed)));
    }
    Ok(all)
}
