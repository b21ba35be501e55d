//! One round of a push: begin, upload what is missing, sign, commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, PendingObject};
use niks3_protocol::nix::StorePath;

use super::plan::{Plan, PlannedPath};
use super::session::Session;
use super::{PushError, narinfos, upload};
use crate::client::ClientError;
use crate::printer::{bytes, paths};

/// How a round ended.
pub(super) enum Outcome {
    /// Everything of the plan is committed.
    Committed,
    /// Paths failed, and others are to go on without them.
    Failed,
}

pub(super) async fn run(session: &Arc<Session>, plan: &Arc<Plan>) -> Result<Outcome, PushError> {
    let failed = session.failed_count();
    let uploads = match begin(session, plan).await {
        Ok(uploads) => uploads,
        Err(error) => return refused(session, plan, error),
    };
    let mut pending: BTreeMap<String, PendingObject> =
        uploads.iter().flat_map(|upload| upload.answer.pending_objects.clone()).collect();
    let missing = plan.missing(&pending);
    let first = session.note_missing(missing.iter().copied());
    let skipped = session.skip_sent(&mut pending);
    let size = plan.nar_bytes(&pending);
    session.progress.expect(size);
    if first {
        let interrupted = if skipped { "; what an interrupted push sent is not sent again" } else { "" };
        session.printer.open_group("niks3 push");
        session.printer.say(&format!(
            "{}: {} cached, {} to upload ({}){interrupted}",
            paths(plan.paths.len()),
            plan.paths.len() - missing.len(),
            missing.len(),
            bytes(size)
        ));
    }
    tracing::debug!("the upload is open");
    let first = uploads.first().map(|upload| (upload.answer.id.clone(), &upload.answer.upload_headers));
    let (id, told) = first.ok_or_else(|| PushError::Unexpected("no upload".to_owned()))?;
    upload::upload(session, plan, id, told, &pending).await?;
    if session.failed_count() > failed {
        return Ok(Outcome::Failed);
    }
    tracing::debug!("all but the narinfos is sent");
    narinfos::sign_and_upload(session, plan, &uploads).await?;
    tracing::debug!("the narinfos are sent");
    for upload in &uploads {
        session.client.complete(&upload.answer.id, &upload.root).await?;
    }
    session.journal.committed(plan.keys());
    session.committed(plan);
    Ok(Outcome::Committed)
}

/// Where a server takes some NARs not, the paths that they are of fail, before anything is read or sent.
fn refused(session: &Session, plan: &Plan, error: PushError) -> Result<Outcome, PushError> {
    let PushError::Client(ClientError::RefusedObjects { host, status, objects, .. }) = &error else {
        return Err(error);
    };
    let of_path = |(path, planned): (&StorePath, &PlannedPath)| {
        let (host, status, message) = (host.clone(), *status, objects.get(&planned.nar)?.clone());
        let message = format!("its NAR {message}");
        let source = ClientError::Refused { host, status, message };
        Some((path.clone(), PushError::Upload { path: path.clone(), source }))
    };
    let mut paths: BTreeMap<StorePath, PushError> = plan.paths.iter().filter_map(of_path).collect();
    if paths.is_empty() || !session.options.keep_going {
        return Err(paths.pop_first().map_or(error, |(_, error)| error));
    }
    for (path, error) in paths {
        session.fail(&path, error);
    }
    Ok(Outcome::Failed)
}

/// An open upload.
pub(super) struct Upload {
    /// Its first root's key.
    root: String,
    pub(super) answer: BeginResponse,
}

/// One upload for all roots, or one each where the server knows no other way.
async fn begin(session: &Arc<Session>, plan: &Arc<Plan>) -> Result<Vec<Upload>, PushError> {
    let groups: Vec<Vec<StorePath>> = if session.multi_root {
        vec![plan.roots.clone()]
    } else {
        plan.roots.iter().map(|root| vec![root.clone()]).collect()
    };
    futures::stream::iter(groups)
        .map(|group| async move {
            let mut closures: Vec<String> = group.iter().map(StorePath::narinfo_key).collect();
            let closure = closures.remove(0);
            let objects = plan.objects(&group);
            let (verify_s3, server_narinfos) = (session.options.verify_s3, session.server_narinfos);
            let bound_addresses = session.is_bound();
            let request = BeginRequest {
                closure: closure.clone(),
                closures,
                objects,
                verify_s3,
                server_narinfos,
                bound_addresses,
                upload_headers: session.upload_headers,
            };
            let answer = session.client.begin(&request).await?;
            Ok::<_, PushError>(Upload { root: closure, answer })
        })
        .buffered(4)
        .try_collect()
        .await
}
