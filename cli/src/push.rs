//! The engine of a push: plan, upload, sign, commit; once more where addresses expired or paths failed.

mod error;
mod journal;
mod narinfos;
mod plan;
mod report;
mod round;
mod session;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::nix::StorePath;

use crate::client::Client;
use crate::printer::Printer;
use crate::store::{self, PathInfo};
pub(crate) use error::PushError;
use plan::Plan;
use report::PathReport;
use round::Outcome;
use session::Session;

/// Begins that follow one another without anything being sent between them.
const IDLE_ROUNDS: u32 = 3;

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
    /// A path that fails stops only what needs it.
    pub(crate) keep_going: bool,
}

/// What a push did.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Paths that were there.
    pub(crate) cached: usize,
    /// Paths of which something was uploaded.
    pub(crate) uploaded: usize,
    /// Bytes sent to S3.
    pub(crate) sent: u64,
    /// Bytes of large NARs that an interrupted push had sent.
    pub(crate) kept: u64,
    /// Paths that were not pushed, and why; those that need one of them included.
    pub(crate) failed: Vec<(StorePath, PushError)>,
}

impl Summary {
    /// What another push did comes on top.
    pub(crate) fn add(&mut self, other: Self) {
        self.cached += other.cached;
        self.uploaded += other.uploaded;
        self.sent += other.sent;
        self.kept += other.kept;
        self.failed.extend(other.failed);
    }
}

/// The push that is under way, for whoever has to tell of one that failed or was given up.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<Option<(Arc<Session>, usize)>>);

impl UnderWay {
    fn set(&self, session: Option<(&Arc<Session>, usize)>) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *place = session.map(|(session, cached)| (Arc::clone(session), cached));
    }

    /// What it did until it ended early; nothing where none did.
    pub(crate) fn take(&self) -> Summary {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map_or_else(Summary::default, |(session, cached)| Summary { cached, ..session.so_far() })
    }
}

/// Pushes the closures of the roots. What is cached costs one call, and no look into the Nix store.
pub(crate) async fn push(
    client: &Arc<Client>,
    roots: &[StorePath],
    options: Options,
    printer: Printer,
    under_way: &UnderWay,
) -> Result<Summary, PushError> {
    let (mut roots, mut cached): (Vec<StorePath>, Vec<StorePath>) = (roots.to_vec(), Vec::new());
    if !options.verify_s3 {
        let keys = roots.iter().map(StorePath::narinfo_key).collect();
        if let Some(answer) = client.refresh(keys).await? {
            let (present, missing) =
                roots.into_iter().partition(|root| answer.present.contains(&root.narinfo_key()));
            roots = missing;
            cached = present;
        }
    }
    for root in &cached {
        printer.object(&PathReport::new(root, "cached"));
    }
    if roots.is_empty() {
        return Ok(Summary { cached: cached.len(), ..Summary::default() });
    }
    let (closure, config) = tokio::join!(closure(&roots, options.keep_going), client.cache_config());
    tracing::debug!("the closure is known");
    let ((closure, unknown), CacheConfig { extensions, store_dir, .. }) = (closure?, config?);
    require_store(&closure, store_dir)?;
    roots.retain(|root| unknown.iter().all(|(path, _)| path != root));
    let session = Arc::new(Session::new(client, options, printer, &extensions));
    under_way.set(Some((&session, cached.len())));
    for (path, error) in unknown {
        session.fail(&path, error);
    }
    let mut plan = Arc::new(Plan::new(closure, &roots));
    let (mut idle, mut sent) = (0, 0);
    while !plan.roots.is_empty() {
        match round::run(&session, &plan).await {
            Ok(Outcome::Committed) => break,
            Ok(Outcome::Failed) => {}
            Err(error) if error.wants_new_begin() && idle < IDLE_ROUNDS => {
                tracing::debug!(error = &error as &dyn std::error::Error, "beginning anew");
                session.doubt(&error);
            }
            Err(error) => return Err(error),
        }
        plan = Arc::new(plan.without(&session.failed_paths(), |path, cause| session.needs(path, cause)));
        idle = if session.sent_count() > sent { 0 } else { idle + 1 };
        sent = session.sent_count();
    }
    under_way.set(None);
    Ok(Summary { cached: cached.len() + session.cached(&plan), ..session.summary(&plan) })
}

/// Refuses what the server would refuse when all NARs are sent, where it says of which store directory it is.
fn require_store(closure: &[PathInfo], directory: Option<String>) -> Result<(), PushError> {
    let Some(directory) = directory else { return Ok(()) };
    let other = closure.iter().find(|info| info.path.store_dir() != directory);
    other.map_or(Ok(()), |info| Err(PushError::OtherStore { path: info.path.clone(), directory }))
}

/// A closure, and the roots of which Nix cannot tell one.
type Known = (Vec<PathInfo>, Vec<(StorePath, PushError)>);

/// The closure of all roots; where that fails and others are to go on, of each that has one.
async fn closure(roots: &[StorePath], keep_going: bool) -> Result<Known, PushError> {
    match store::closure(roots).await {
        Ok(closure) => Ok((closure, Vec::new())),
        Err(error) if !keep_going || error.is_no_nix() => Err(error.into()),
        Err(_) => {
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            for root in roots {
                match store::closure(std::slice::from_ref(root)).await {
                    Ok(closure) => known.extend(closure),
                    Err(error) => unknown.push((root.clone(), error.into())),
                }
            }
            Ok((known, unknown))
        }
    }
}
