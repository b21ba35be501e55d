//! One round of a push: begin, upload what is missing, sign, commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, PendingObject};
use niks3_protocol::nix::StorePath;

use super::plan::Plan;
use super::session::Session;
use super::{PushError, narinfos, upload};
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
    let uploads = begin(session, plan).await?;
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
    let id = uploads.first().map(|upload| upload.answer.id.clone()).unwrap_or_default();
    upload::upload(session, plan, id, &pending).await?;
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
            };
            Ok(Upload { root: closure, answer: session.client.begin(&request).await? })
        })
        .buffered(4)
        .try_collect()
        .await
}
