//! What all rounds of a push share: what was sent, what failed, what is said.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use niks3_protocol::api::cache_config::{
    BOUND_ADDRESSES, MULTI_ROOT, RESUME, SERVER_NARINFOS, UPLOAD_HEADERS,
};
use niks3_protocol::api::pending_closures::PendingObject;
use niks3_protocol::nix::StorePath;
use reqwest::StatusCode;

use super::journal::{Entry, Journal};
use super::plan::Plan;
use super::report::PathReport;
use super::{Options, PushError, Summary};
use crate::client::{Client, ClientError};
use crate::printer::{Printer, chain};
use crate::progress::Progress;

/// One run of `niks3 push`.
#[expect(clippy::struct_excessive_bools, reason = "each is an extension of its own")]
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) options: Options,
    pub(super) printer: Printer,
    pub(super) progress: Arc<Progress>,
    pub(super) journal: Journal,
    /// An upload may have many roots.
    pub(super) multi_root: bool,
    /// The server writes narinfos itself.
    pub(super) server_narinfos: bool,
    /// Addresses are asked for when the bytes are there, and bound to them. All of a push is one upload then.
    bound: AtomicBool,
    /// The server may name headers for what is sent to S3.
    pub(super) upload_headers: bool,
    /// The server helps with what an interrupted push left, and commits nothing that is not in the bucket.
    pub(super) resume: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Keys of whole objects, narinfos aside.
    sent: HashSet<String>,
    /// Paths of which something was missing.
    missing: HashSet<StorePath>,
    failed: BTreeMap<StorePath, PushError>,
    /// Paths of which a line of JSON was printed.
    reported: HashSet<StorePath>,
    /// Paths that were sent, but not all they need.
    waiting: HashSet<StorePath>,
    planned: bool,
}

impl Session {
    pub(super) fn new(
        client: &Arc<Client>,
        options: Options,
        printer: Printer,
        extensions: &[String],
    ) -> Self {
        let knows = |name: &str| extensions.iter().any(|extension| extension == name);
        Self {
            client: Arc::clone(client),
            options,
            printer,
            progress: Arc::new(Progress::new(printer, options.no_progress)),
            journal: Journal::open(client.server(), printer),
            multi_root: knows(MULTI_ROOT),
            server_narinfos: knows(SERVER_NARINFOS),
            bound: AtomicBool::new(knows(BOUND_ADDRESSES) && knows(MULTI_ROOT)),
            upload_headers: knows(UPLOAD_HEADERS),
            resume: knows(RESUME),
            state: Mutex::default(),
        }
    }

    /// Takes out what was sent already, by this push or by one that was interrupted; whether there was any.
    pub(super) fn skip_sent(&self, pending: &mut BTreeMap<String, PendingObject>) -> bool {
        let (before, state) = (pending.len(), self.lock());
        pending.retain(|key, _| !(state.sent.contains(key) || self.resume && self.journal.is_sent(key)));
        pending.len() < before
    }

    /// Whether addresses are bound to bytes.
    pub(super) fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Relaxed)
    }

    /// An object is whole in the bucket.
    pub(super) fn note_sent(&self, key: &str) {
        self.journal.note(&Entry::Sent { key: key.to_owned() });
        self.lock().sent.insert(key.to_owned());
    }

    pub(super) fn sent_count(&self) -> usize {
        self.lock().sent.len()
    }

    /// The plan of a round; gives whether it is the first.
    pub(super) fn note_missing<'a>(&self, missing: impl Iterator<Item = &'a StorePath>) -> bool {
        let mut state = self.lock();
        state.missing.extend(missing.cloned());
        !std::mem::replace(&mut state.planned, true)
    }

    /// After a conflict, nothing is taken for sent; after a replica that knows no bound addresses, none are asked for.
    pub(super) fn doubt(&self, error: &PushError) {
        match error.client() {
            Some(ClientError::TooOld { .. }) => self.bound.store(false, Ordering::Relaxed),
            Some(error) if error.status() == Some(StatusCode::CONFLICT) => {
                self.journal.forget_all();
                self.lock().sent.clear();
            }
            _ => {}
        }
    }

    /// A path that is not pushed.
    pub(super) fn fail(&self, path: &StorePath, error: PushError) {
        self.progress.pause(|| self.printer.fail(&error, None));
        self.report(&PathReport { error: Some(chain(&error)), ..PathReport::new(path, "failed") }, path);
        self.lock().failed.insert(path.clone(), error);
    }

    /// A path that is not pushed because another is not.
    pub(super) fn needs(&self, path: &StorePath, needed: &StorePath) {
        let (path, needed) = (path.clone(), needed.clone());
        let error = PushError::Needs { path: path.clone(), needed: needed.clone() };
        self.report(&PathReport { error: Some(chain(&error)), ..PathReport::new(&path, "failed") }, &path);
        self.lock().failed.entry(path.clone()).or_insert(PushError::Needs { path, needed });
    }

    /// A path was sent. It is reported when all it needs was sent too, so that a path is reported once.
    pub(super) fn finished(&self, plan: &Plan, path: &StorePath) {
        let mut waiting = self.lock().waiting.clone();
        waiting.insert(path.clone());
        loop {
            let state = self.lock();
            let is_ready = |path: &&StorePath| {
                let mut needed = plan.paths[*path].info.references.iter();
                needed.all(|one| {
                    let sent = state.reported.contains(one) && !state.failed.contains_key(one);
                    one == *path || sent || !state.missing.contains(one)
                })
            };
            let Some(path) = waiting.iter().find(is_ready).cloned() else { break };
            drop(state);
            waiting.remove(&path);
            let nar_size = Some(plan.paths[&path].info.nar_size);
            self.report(&PathReport { nar_size, ..PathReport::new(&path, "uploaded") }, &path);
        }
        self.lock().waiting = waiting;
    }

    /// The others of a plan that was committed.
    pub(super) fn committed(&self, plan: &Plan) {
        let missing = self.lock().missing.clone();
        for (path, planned) in &plan.paths {
            let status = if missing.contains(path) { "uploaded" } else { "cached" };
            let nar_size = Some(planned.info.nar_size);
            self.report(&PathReport { nar_size, ..PathReport::new(path, status) }, path);
        }
    }

    fn report(&self, report: &PathReport<'_>, path: &StorePath) {
        if self.lock().reported.insert(path.clone()) {
            self.printer.object(report);
        }
    }

    /// Paths of a plan of which nothing was missing.
    pub(super) fn cached(&self, plan: &Plan) -> usize {
        let state = self.lock();
        plan.paths.keys().filter(|path| !state.missing.contains(*path)).count()
    }

    pub(super) fn failed_paths(&self) -> HashSet<StorePath> {
        self.lock().failed.keys().cloned().collect()
    }

    pub(super) fn failed_count(&self) -> usize {
        self.lock().failed.len()
    }

    /// What was done, `plan` being what was committed last.
    pub(super) fn summary(&self, plan: &Plan) -> Summary {
        let mut state = self.lock();
        let (sent, kept) = self.progress.finish();
        let uploaded = state.missing.iter().filter(|path| plan.paths.contains_key(*path)).count();
        Summary {
            cached: 0,
            uploaded,
            sent,
            kept,
            failed: std::mem::take(&mut state.failed).into_iter().collect(),
        }
    }

    /// The same of a push that ended early: what was said of paths one by one, and the bytes.
    pub(super) fn so_far(&self) -> Summary {
        let mut state = self.lock();
        let (sent, kept) = self.progress.finish();
        let failed = std::mem::take(&mut state.failed);
        let sound = |path: &&StorePath| state.missing.contains(*path) && !failed.contains_key(*path);
        let uploaded = state.reported.iter().filter(sound).count();
        Summary { cached: 0, uploaded, sent, kept, failed: failed.into_iter().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
