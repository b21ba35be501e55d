//! Pure: how far stored narinfos are signed by the keys of now.

use k8s_openapi::jiff::Timestamp;
use niks3_protocol::api::gc::GcState;
use niks3_protocol::api::resign::ResignStatus;

use crate::cache::validate::Signing;
use crate::crd::binary_cache::{ResignProgress, ResignState};
use crate::status;

use super::Outcome;

/// The status says how far it is at most so often.
const AGE: i64 = 300;

/// What the status is to say. What the server does not say, or says of other keys, changes nothing.
pub(super) fn progress(
    old: Option<&ResignProgress>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> Option<ResignProgress> {
    let Ok(valid) = outcome.valid else { return old.cloned() };
    let keys: Vec<String> = valid.signing.signing().map(|key| key.name.clone()).collect();
    let old = old.filter(|old| old.keys == keys);
    let said = outcome.probed.and_then(|answer| answer.as_ref().ok()?.resign.as_ref());
    let Some(said) = said.filter(|said| is_of(said, &valid.signing)) else { return old.cloned() };
    let new = ResignProgress {
        keys,
        state: match said.state {
            GcState::Running => ResignState::Running,
            GcState::Succeeded => ResignState::Succeeded,
            GcState::Failed => ResignState::Failed,
        },
        total: count(said.counts.total),
        done: count(said.counts.total - said.remaining.min(said.counts.total)),
        time: status::timestamp(now),
    };
    // A new cache has nothing to tell.
    if new.total == 0 && new.keys.len() < 2 {
        return None;
    }
    Some(old.filter(|old| !worth_telling(old, &new, now)).cloned().unwrap_or(new))
}

/// A status is no place for what changes all the time.
fn worth_telling(old: &ResignProgress, new: &ResignProgress, now: Timestamp) -> bool {
    let told = old.time.parse::<Timestamp>().ok();
    let old_enough = told.is_none_or(|told| now.as_second() - told.as_second() >= AGE);
    // One that runs, fails and runs again has not become another.
    let ended = (old.state == ResignState::Succeeded) != (new.state == ResignState::Succeeded);
    ended || (old_enough && (old.done, old.total, old.state) != (new.done, new.total, new.state))
}

/// Whether it is about the keys that sign now.
fn is_of(said: &ResignStatus, signing: &Signing) -> bool {
    let mut keys: Vec<&String> = signing.signing().filter_map(|key| key.public_key.as_ref()).collect();
    keys.sort_unstable();
    let mut theirs: Vec<&String> = said.params.keys.iter().collect();
    theirs.sort_unstable();
    keys == theirs
}

/// A sentence's part on that, while there is something to say.
pub(super) fn sentence(progress: Option<&ResignProgress>, several: bool) -> Option<String> {
    Some(match progress {
        None if several => {
            "how many stored narinfos they have signed is not known: the server does not say".to_owned()
        }
        None => return None,
        Some(ResignProgress { state, total, done, .. }) => match state {
            ResignState::Succeeded => return None,
            ResignState::Running => format!("re-signed {done} of {total} stored narinfos"),
            ResignState::Failed => {
                format!("re-signed {done} of {total} stored narinfos, which failed and is tried again")
            }
        },
    })
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: ResignState, done: i64, second: i64) -> ResignProgress {
        let time = status::timestamp(Timestamp::from_second(second).unwrap());
        ResignProgress { keys: vec!["a-1".to_owned()], state, total: 100, done, time }
    }

    #[test]
    fn progress_is_told_rarely_and_an_end_at_once() {
        use ResignState::{Failed, Running, Succeeded};
        let now = Timestamp::from_second(1000).unwrap();
        let told = |old: ResignProgress, new: ResignProgress| worth_telling(&old, &new, now);
        assert!(!told(at(Running, 10, 701), at(Running, 20, 1000)));
        assert!(told(at(Running, 10, 700), at(Running, 20, 1000)));
        assert!(!told(at(Running, 10, 700), at(Running, 10, 1000)));
        assert!(told(at(Running, 99, 999), at(Succeeded, 100, 1000)));
        assert!(!told(at(Running, 10, 999), at(Failed, 10, 1000)));
        assert!(!told(at(Succeeded, 100, 0), at(Succeeded, 100, 1000)), "an hour later nothing is written");
    }

    #[test]
    fn what_is_said_ends_with_the_work() {
        use ResignState::{Failed, Running, Succeeded};
        let said = |state| sentence(Some(&at(state, 10, 0)), true);
        assert_eq!(said(Running).unwrap(), "re-signed 10 of 100 stored narinfos");
        assert!(said(Failed).unwrap().ends_with("tried again"));
        assert_eq!(said(Succeeded), None);
        assert!(sentence(None, true).unwrap().contains("does not say"));
        assert_eq!(sentence(None, false), None, "one key has nothing to catch up with");
    }
}
