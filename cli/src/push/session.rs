//! What all rounds of a push share: what was sent, what failed, what is said.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use niks3_protocol::api::cache_config::{MULTI_ROOT, RESUME, SERVER_NARINFOS};
use niks3_protocol::api::pending_closures::PendingObject;
use niks3_protocol::nix::StorePath;
use reqwest::StatusCode;

use super::journal::{Entry, Journal};
use super::plan::Plan;
use super::{Options, PushError, Summary};
use crate::client::Client;
use crate::printer::Printer;
use crate::progress::Progress;

/// One run of `niks3 push`.
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

    /// After a conflict, nothing is taken for sent.
    pub(super) fn doubt(&self, error: &PushError) {
        if error.client().and_then(crate::client::ClientError::status) == Some(StatusCode::CONFLICT) {
            self.journal.forget_all();
            self.lock().sent.clear();
        }
    }

    /// A path that is not pushed.
    pub(super) fn fail(&self, path: &StorePath, error: PushError) {
        self.progress.pause(|| self.printer.fail(&error, None));
        self.lock().failed.insert(path.clone(), error);
    }

    /// A path that is not pushed because another is not.
    pub(super) fn needs(&self, path: &StorePath, needed: &StorePath) {
        let (path, needed) = (path.clone(), needed.clone());
        self.lock().failed.entry(path.clone()).or_insert(PushError::Needs { path, needed });
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
        Summary { uploaded, sent, kept, failed: std::mem::take(&mut state.failed).into_iter().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
