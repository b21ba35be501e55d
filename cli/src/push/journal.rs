//! What a push has sent so far, in a file, so that the next one need not send it again should this one be killed.
//!
//! A run has one file and holds it locked; a file that nobody holds was left by a run that ended early, and the
//! next run for the same server takes it over. Nothing in it is believed: an object counts as sent because the
//! commit looks for it in the bucket, a part because S3 lists it and its bytes are still the same.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::printer::Printer;
use files::Files;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// The object is whole in the bucket.
    Sent { key: String },
    /// A part with these bytes is about to be sent.
    Part { key: String, upload: String, number: u32, hash: String },
    /// All parts are there and are about to be put together.
    Completing { key: String, upload: String },
    /// S3 has it, under this tag.
    Acknowledged { key: String, upload: String, number: u32, hash: String, etag: String },
}

/// A multipart upload that is not over.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupted {
    pub(super) upload_id: String,
    pub(super) parts: BTreeMap<u32, SentPart>,
    /// It may be whole already.
    pub(super) completing: bool,
}

/// What was sent under one number: more than one thing, where another level compressed differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SentPart {
    /// Hashes of what was about to be sent.
    tried: Vec<String>,
    /// Hash and tag of what S3 was seen to take.
    acknowledged: Vec<(String, String)>,
}

impl SentPart {
    /// The hash of what S3 has under that tag, where there is no doubt.
    pub(super) fn hash_of(&self, etag: &str) -> Option<&str> {
        let bare = |etag: &str| etag.trim_matches('"').to_owned();
        let seen = self.acknowledged.iter().find(|(_, seen)| bare(seen) == bare(etag));
        match (seen, self.tried.as_slice()) {
            (Some((hash, _)), _) => Some(hash),
            (None, [only]) => Some(only),
            _ => None,
        }
    }

    /// What S3 must have, as far as is known without asking.
    pub(super) fn last(&self) -> Option<(String, String)> {
        self.acknowledged.last().filter(|_| self.tried.len() == 1).cloned()
    }
}

/// What earlier runs left and this one sent, and its file.
pub(super) struct Journal {
    state: Mutex<State>,
    printer: Printer,
}

#[derive(Default)]
struct State {
    files: Files,
    known: Known,
}

#[derive(Default)]
struct Known {
    sent: HashSet<String>,
    uploads: HashMap<String, Interrupted>,
}

impl Journal {
    /// The journal for a server. That none can be kept is no failure.
    pub(super) fn open(server: &str, printer: Printer) -> Self {
        let journal = Self { state: Mutex::default(), printer };
        let mut state = journal.lock();
        let result = Files::take_over(server).and_then(|(files, entries)| {
            state.files = files;
            for entry in entries {
                state.known.take(entry);
            }
            let entries = state.known.entries();
            state.files.replace(&entries)
        });
        journal.warn(&mut state, result);
        drop(state);
        journal
    }

    /// Whether this run or an earlier one sent the whole object.
    pub(super) fn is_sent(&self, key: &str) -> bool {
        self.lock().known.sent.contains(key)
    }

    /// What was sent of an object that is not whole yet.
    pub(super) fn interrupted(&self, key: &str) -> Option<Interrupted> {
        self.lock().known.uploads.get(key).cloned()
    }

    /// Adds a line. This run itself goes by it too: when it begins anew, and when it commits a part of its paths.
    pub(super) fn note(&self, entry: &Entry) {
        let mut state = self.lock();
        state.known.take(entry.clone());
        let result = state.files.append(entry);
        self.warn(&mut state, result);
    }

    /// The bucket does not have what is said here.
    pub(super) fn forget_all(&self) {
        let mut state = self.lock();
        state.known = Known::default();
        let result = state.files.replace(&[]);
        self.warn(&mut state, result);
    }

    /// What was committed needs no journal; what was sent of other paths stays.
    pub(super) fn committed<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut state = self.lock();
        for key in keys {
            state.known.sent.remove(key);
            state.known.uploads.remove(key);
        }
        let left = state.known.entries();
        let result = state.files.replace(&left);
        self.warn(&mut state, result);
    }

    /// Says once what is wrong with the file, and goes on without it.
    fn warn(&self, state: &mut State, result: std::io::Result<()>) {
        if let Err(error) = result {
            state.files = Files::default();
            self.printer.warn(&format!("should this push be interrupted, the next one begins anew: {error}"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Sent { key } => {
                self.uploads.remove(&key);
                self.sent.insert(key);
            }
            Entry::Part { key, upload, number, hash } => {
                let known = self.uploads.entry(key).or_default();
                if known.upload_id != upload {
                    *known = Interrupted { upload_id: upload, ..Interrupted::default() };
                }
                let tried = &mut known.parts.entry(number).or_default().tried;
                if !tried.contains(&hash) {
                    tried.push(hash);
                }
            }
            Entry::Completing { key, upload } => {
                if let Some(known) = self.of(&key, &upload) {
                    known.completing = true;
                }
            }
            Entry::Acknowledged { key, upload, number, hash, etag } => {
                let known = self.of(&key, &upload);
                if let Some(part) = known.and_then(|known| known.parts.get_mut(&number)) {
                    part.acknowledged.push((hash, etag));
                }
            }
        }
    }

    fn of(&mut self, key: &str, upload: &str) -> Option<&mut Interrupted> {
        self.uploads.get_mut(key).filter(|known| known.upload_id == upload)
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.sent.iter().map(|key| Entry::Sent { key: key.clone() }).collect();
        for (key, Interrupted { upload_id, parts, completing }) in &self.uploads {
            for (&number, SentPart { tried, acknowledged }) in parts {
                let (key, upload) = (|| key.clone(), || upload_id.clone());
                entries.extend(tried.iter().cloned().map(|hash| Entry::Part {
                    key: key(),
                    upload: upload(),
                    number,
                    hash,
                }));
                entries.extend(acknowledged.iter().cloned().map(|(hash, etag)| Entry::Acknowledged {
                    key: key(),
                    upload: upload(),
                    number,
                    hash,
                    etag,
                }));
            }
            if *completing {
                entries.push(Entry::Completing { key: key.clone(), upload: upload_id.clone() });
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(hash: &str) -> Entry {
        Entry::Part { key: "k".to_owned(), upload: "u".to_owned(), number: 1, hash: hash.to_owned() }
    }

    fn acknowledged(hash: &str, etag: &str) -> Entry {
        let (key, upload) = ("k".to_owned(), "u".to_owned());
        Entry::Acknowledged { key, upload, number: 1, hash: hash.to_owned(), etag: etag.to_owned() }
    }

    fn known(entries: &[Entry]) -> SentPart {
        let mut known = Known::default();
        for entry in entries {
            known.take(entry.clone());
        }
        let mut again = Known::default();
        for entry in known.entries() {
            again.take(entry);
        }
        assert_eq!(again.uploads["k"].parts, known.uploads["k"].parts, "it changes when it is written anew");
        known.uploads["k"].parts[&1].clone()
    }

    #[test]
    fn a_part_is_believed_only_without_doubt() {
        let once = known(&[part("a")]);
        assert_eq!((once.hash_of("x"), once.last()), (Some("a"), None));
        let seen = known(&[part("a"), acknowledged("a", "\"x\"")]);
        assert_eq!(seen.last(), Some(("a".to_owned(), "\"x\"".to_owned())));
        // Another level made other bytes: which of both S3 has, only a tag tells.
        let twice = known(&[part("a"), acknowledged("a", "\"x\""), part("b")]);
        assert_eq!((twice.hash_of("x"), twice.hash_of("y"), twice.last()), (Some("a"), None, None));
    }

    #[test]
    fn a_run_knows_what_it_sent_itself() {
        let journal = Journal { state: Mutex::default(), printer: Printer::new(true, false) };
        journal.note(&part("a"));
        journal.note(&acknowledged("a", "x"));
        journal.note(&Entry::Sent { key: "other".to_owned() });
        assert_eq!(
            journal.interrupted("k").unwrap().parts[&1].last(),
            Some(("a".to_owned(), "x".to_owned()))
        );
        journal.committed(["other"].into_iter());
        assert!(!journal.is_sent("other"));
        assert_eq!(journal.lock().known.entries(), [part("a"), acknowledged("a", "x")]);
    }

    #[test]
    fn a_newer_upload_takes_the_place_of_an_older_one() {
        let mut both = Known::default();
        both.take(part("a"));
        let (key, upload) = ("k".to_owned(), "newer".to_owned());
        both.take(Entry::Part { key, upload, number: 2, hash: "b".to_owned() });
        both.take(acknowledged("a", "x"));
        let upload = &both.uploads["k"];
        assert_eq!((upload.upload_id.as_str(), upload.parts.keys().collect::<Vec<_>>()), ("newer", vec![&2]));
        both.take(Entry::Sent { key: "k".to_owned() });
        assert!(both.uploads.is_empty() && both.sent.contains("k"));
    }
}
