//! What all rounds of a push share: what was sent, what failed, what is said.

use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// By a path that was not sent yet, paths that were sent and need it.
    waiting: HashMap<StorePath, Vec<StorePath>>,
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
        let ready = self.lock().ready_after(plan, path);
        for path in ready {
            let nar_size = plan.paths.get(&path).map(|planned| planned.info.nar_size);
            self.printer.object(&PathReport { nar_size, ..PathReport::new(&path, "uploaded") });
        }
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

impl State {
    /// What is to be reported now that a path was sent: it, and those that waited for it alone; what they need comes
    /// before them. A path waits for one other at a time, so that nobody looks through all that wait.
    fn ready_after(&mut self, plan: &Plan, path: &StorePath) -> Vec<StorePath> {
        let (mut sent, mut ready) = (vec![path.clone()], Vec::new());
        while let Some(path) = sent.pop() {
            // Sent in an earlier round, and left out of this one.
            let Some(planned) = plan.paths.get(&path) else { continue };
            let is_awaited = |one: &&StorePath| {
                let sent = self.reported.contains(*one) && !self.failed.contains_key(*one);
                **one != path && self.missing.contains(*one) && !sent
            };
            if let Some(needed) = planned.info.references.iter().find(is_awaited) {
                self.waiting.entry(needed.clone()).or_default().push(path);
                continue;
            }
            sent.extend(self.waiting.remove(&path).unwrap_or_default());
            if self.reported.insert(path.clone()) {
                ready.push(path);
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PathInfo;

    /// The path with a number, which refers to itself and to others.
    fn path(number: usize, references: &[usize]) -> PathInfo {
        let name = |number: usize| format!("/nix/store/{number:032}-path").parse().unwrap();
        PathInfo {
            path: name(number),
            nar_hash: format!("sha256:0{number:051}").parse().unwrap(),
            nar_size: 1,
            references: references.iter().chain([&number]).copied().map(name).collect(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        }
    }

    /// In the order of their numbers.
    fn planned(paths: Vec<PathInfo>) -> (Plan, Vec<StorePath>, State) {
        let all: Vec<StorePath> = paths.iter().map(|info| info.path.clone()).collect();
        let state = State { missing: all.iter().cloned().collect(), ..State::default() };
        (Plan::new(paths, &[]), all, state)
    }

    #[test]
    fn a_path_is_reported_once_all_it_needs_was_sent() {
        let (plan, all, mut state) =
            planned(vec![path(0, &[]), path(1, &[0]), path(2, &[0, 1]), path(3, &[]), path(4, &[3])]);
        assert!(state.ready_after(&plan, &all[2]).is_empty());
        assert!(state.ready_after(&plan, &all[1]).is_empty());
        assert_eq!(state.ready_after(&plan, &all[0]), all[..3]);
        state.failed.insert(all[3].clone(), PushError::Unexpected("x".to_owned()));
        state.reported.insert(all[3].clone());
        assert!(state.ready_after(&plan, &all[4]).is_empty(), "what it needs failed");
        assert!(state.ready_after(&plan, &all[0]).is_empty(), "it was reported");

        // A round without what failed knows nothing of what waited for it.
        let (smaller, ..) = planned(vec![path(3, &[])]);
        state.failed.clear();
        state.reported.remove(&all[3]);
        assert_eq!(state.ready_after(&smaller, &all[3]), all[3..4]);
    }

    #[test]
    fn many_that_wait_are_not_looked_at_again_and_again() {
        const PATHS: usize = 30_000;
        let needs = |number: usize| if number == 0 { vec![] } else { vec![number - 1, number / 2] };
        let (plan, all, mut state) = planned((0..PATHS).map(|number| path(number, &needs(number))).collect());
        let last_first = all.iter().rev().map(|path| state.ready_after(&plan, path).len());
        let begun = std::time::Instant::now();
        assert_eq!(last_first.sum::<usize>(), PATHS);
        let took = begun.elapsed();
        assert!(took.as_secs() < 20, "{took:?}; looking at all of them each time takes minutes");
    }
}
