//! Narinfos: signed by the server, and written by it too, but for servers that leave this to the client: there
//! they come last, dependencies before dependents, so that whoever finds one finds all it leads to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{PendingObject, SignRequest};
use niks3_protocol::nix::{Signature, StorePath};
use niks3_protocol::object_key::ObjectKind;

use super::PushError;
use super::plan::{Plan, PlannedPath};
use super::round::Upload;
use super::session::Session;
use super::upload::{address, headers};

/// Level of zstd for a few hundred bytes of text.
const LEVEL: i32 = 3;

/// Has the missing narinfos signed, each by one upload that misses it, and sends them.
pub(super) async fn sign_and_upload(
    session: &Arc<Session>,
    plan: &Arc<Plan>,
    uploads: &[Upload],
) -> Result<(), PushError> {
    let by_key: HashMap<&str, &PlannedPath> =
        plan.paths.values().map(|path| (path.narinfo.as_str(), path)).collect();
    let mut signed: HashMap<StorePath, (PendingObject, Vec<Signature>)> = HashMap::new();
    for upload in uploads {
        let mut request = SignRequest { narinfos: BTreeMap::new() };
        for (key, pending) in &upload.answer.pending_objects {
            if pending.kind == ObjectKind::Narinfo {
                let path = by_key.get(key.as_str()).ok_or_else(|| PushError::Unexpected(key.clone()))?;
                request.narinfos.insert(key.clone(), path.metadata());
            }
        }
        if request.narinfos.is_empty() {
            continue;
        }
        let mut answer = session.client.sign(&upload.answer.id, &request).await?;
        for key in request.narinfos.keys() {
            let pending = upload.answer.pending_objects[key].clone();
            // The server writes it when it commits.
            if pending.presigned_url.is_none() {
                continue;
            }
            let signatures = answer.signatures.remove(key).unwrap_or_default();
            signed.insert(by_key[key.as_str()].info.path.clone(), (pending, signatures));
        }
    }
    for level in levels(plan, signed.keys().cloned().collect()) {
        let bodies: Vec<_> = level
            .into_iter()
            .filter_map(|path| signed.remove(&path).map(|(pending, signatures)| (path, pending, signatures)))
            .collect();
        futures::stream::iter(bodies)
            .map(|(path, pending, signatures)| send(session, plan, path, pending, signatures))
            .buffer_unordered(session.options.uploads)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}

async fn send(
    session: &Session,
    plan: &Plan,
    path: StorePath,
    pending: PendingObject,
    signatures: Vec<Signature>,
) -> Result<(), PushError> {
    let narinfo = plan.paths[&path].metadata().into_narinfo(signatures);
    let body = zstd::encode_all(narinfo.to_string().as_bytes(), LEVEL)
        .map_err(|source| PushError::ReadNar { path: path.clone(), source })?;
    let length = body.len() as u64;
    session
        .client
        .put(address(&pending)?, &headers(ObjectKind::Narinfo), body.into())
        .await
        .map_err(|source| PushError::Upload { path, source })?;
    session.progress.sent(length);
    Ok(())
}

/// The paths in groups, each of which refers only to groups before it (and to itself).
fn levels(plan: &Plan, mut left: HashSet<StorePath>) -> Vec<Vec<StorePath>> {
    let mut levels = Vec::new();
    while !left.is_empty() {
        let ready: Vec<StorePath> = left
            .iter()
            .filter(|path| {
                let references = &plan.paths[*path].info.references;
                references.iter().all(|reference| reference == *path || !left.contains(reference))
            })
            .cloned()
            .collect();
        // Nix knows no cycles; should there be one, its members go together.
        let ready = if ready.is_empty() { left.iter().cloned().collect() } else { ready };
        for path in &ready {
            left.remove(path);
        }
        levels.push(ready);
    }
    levels
}
