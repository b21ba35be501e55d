//! The engine of a push: plan, upload, sign, commit.

mod narinfos;
mod plan;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::cache_config::{MULTI_ROOT, SERVER_NARINFOS};
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, PendingObject};
use niks3_protocol::nix::StorePath;

use crate::client::{Client, ClientError};
use crate::printer::{Printer, bytes, paths};
use crate::progress::Progress;
use crate::store::{self, StoreError};
use plan::Plan;

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} could not be read; it was not pushed")]
    ReadNar { path: StorePath, source: std::io::Error },
    #[error("the log of the build of {path} could not be read; nothing was committed")]
    ReadLog { path: StorePath, source: std::io::Error },
    #[error("{path} is not what Nix recorded: it changed on disk, or the disk is damaged; it was not pushed")]
    Changed { path: StorePath },
    #[error("{path} could not be uploaded")]
    Upload { path: StorePath, source: ClientError },
    #[error("the server asks for {0}, which this push does not have")]
    Unexpected(String),
    #[error("a task of this program ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl PushError {
    pub(crate) fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) | Self::Upload { source: error, .. } => Some(error),
            _ => None,
        }
    }
}

/// How to push.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Ask the bucket even for what the server knows to be there.
    pub(crate) verify_s3: bool,
    /// Requests to S3 under way at a time.
    pub(crate) uploads: usize,
    /// Level of zstd.
    pub(crate) level: i32,
    /// Paths compressed at a time.
    pub(crate) jobs: usize,
    /// No bar, even on a terminal.
    pub(crate) no_progress: bool,
}

/// What a push did.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Paths of which something was uploaded.
    pub(crate) uploaded: usize,
    /// Bytes sent to S3.
    pub(crate) sent: u64,
}

/// Pushes the closures of the roots. What is cached costs one call, and no look into the Nix store.
pub(crate) async fn push(
    client: &Arc<Client>,
    roots: &[StorePath],
    options: Options,
    printer: Printer,
) -> Result<Summary, PushError> {
    let mut roots = roots.to_vec();
    if !options.verify_s3 {
        let keys = roots.iter().map(narinfo_key).collect();
        if let Some(answer) = client.refresh(keys).await? {
            roots.retain(|root| !answer.present.contains(&narinfo_key(root)));
        }
    }
    if roots.is_empty() {
        return Ok(Summary::default());
    }
    let (closure, config) = tokio::join!(store::closure(&roots), client.cache_config());
    tracing::debug!("the closure is known");
    let plan = Arc::new(Plan::new(closure?, &roots));
    let extensions = config?.extensions;
    let uploads = begin(client, &plan, &extensions, options.verify_s3).await?;
    let pending: BTreeMap<String, PendingObject> =
        uploads.iter().flat_map(|upload| upload.answer.pending_objects.clone()).collect();
    let (missing, size) = plan.missing(&pending);
    printer.say(&format!(
        "{}: {} cached, {missing} to upload ({})",
        paths(plan.paths.len()),
        plan.paths.len() - missing,
        bytes(size)
    ));
    tracing::debug!("the upload is open");
    let progress = Arc::new(Progress::new(size, printer, options.no_progress));
    upload::upload(client, &plan, &pending, options, &progress).await?;
    tracing::debug!("all but the narinfos is sent");
    narinfos::sign_and_upload(client, &plan, &uploads, options.uploads, &progress).await?;
    tracing::debug!("the narinfos are sent");
    for upload in &uploads {
        client.complete(&upload.answer.id, &upload.root).await?;
    }
    Ok(Summary { uploaded: missing, sent: progress.finish() })
}

/// An open upload.
struct Upload {
    /// Its first root's key.
    root: String,
    answer: BeginResponse,
}

/// One upload for all roots, or one each where the server knows no other way.
async fn begin(
    client: &Arc<Client>,
    plan: &Arc<Plan>,
    extensions: &[String],
    verify_s3: bool,
) -> Result<Vec<Upload>, PushError> {
    let knows = |wanted: &str| extensions.iter().any(|extension| extension == wanted);
    let (multi_root, server_narinfos) = (knows(MULTI_ROOT), knows(SERVER_NARINFOS));
    let groups: Vec<Vec<StorePath>> = if multi_root {
        vec![plan.roots.clone()]
    } else {
        plan.roots.iter().map(|root| vec![root.clone()]).collect()
    };
    futures::stream::iter(groups)
        .map(|group| async move {
            let mut closures: Vec<String> = group.iter().map(narinfo_key).collect();
            let closure = closures.remove(0);
            let objects = plan.objects(&group);
            let request =
                BeginRequest { closure: closure.clone(), closures, objects, verify_s3, server_narinfos };
            Ok(Upload { root: closure, answer: client.begin(&request).await? })
        })
        .buffered(4)
        .try_collect()
        .await
}

/// `{hash}.narinfo`
fn narinfo_key(path: &StorePath) -> String {
    format!("{}.narinfo", path.hash())
}
