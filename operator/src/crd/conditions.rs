//! The types and reasons of conditions, and how they are carried from one status to the next.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Kubernetes' limit on a condition's message.
const MAX_MESSAGE: usize = 32_768;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $meaning:literal])+ $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $meaning])+ $variant),+ }

        impl $name {
            /// All of them, in the order in which they are told of.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),+).trim()),+ }
            }

            /// As it stands in a status, an event or a metric.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// The one of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == name)
            }
        }
    };
}

mod reason;
mod remedy;
mod server;

pub use reason::Reason;
pub use remedy::remedy;
pub use server::ServerReason;

words! {
    /// What a condition is about.
    ConditionType {
        /// Sums the others up.
        Ready,
        /// The spec can be carried out.
        Accepted,
        /// What the spec refers to is there.
        ResolvedRefs,
        /// The server reaches its database.
        DatabaseReady,
        /// The server reaches its bucket.
        StorageReady,
        /// The server has a key to sign with.
        SigningKeysReady,
        /// Somebody may push, and no issuer of tokens is away. Not a part of `Ready`.
        AuthReady,
        /// Enough pods are ready.
        Available,
        /// A change is being rolled out.
        Progressing,
        /// The ways in from outside are there. Absent where there should be none.
        Exposed,
        /// The ServiceMonitor is there. Absent where there should be none.
        Monitored,
        /// What clients need is in all namespaces that the spec selects. Absent where it selects none.
        Published,
        /// Generated credentials were followed by new ones as asked for, and open nothing any more. Absent where that was
        /// never asked for.
        CredentialsRotated,
        /// The volumes of embedded servers are as large as the spec says. Absent before there are any.
        VolumesResized,
        /// The operator keeps its hands off. Absent unless it does.
        ReconciliationPaused,
        /// The caches to collect are there, and can be collected.
        CachesResolved,
        /// The last collections did what they were asked for, of each of a policy's caches.
        LastRunSucceeded,
        /// The last collection of the cache did what it was asked for. Absent where no policy has the cache.
        LastGCSucceeded,
        /// The last comparison found bucket and database as they should be. Absent where they are not compared.
        LastFsckClean,
    }
}

impl ConditionType {
    /// Whether the operator writes conditions of this type. Others keep theirs.
    pub fn is_ours(name: &str) -> bool {
        Self::ALL.iter().any(|known| known.as_str() == name)
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl Verdict {
    /// As it stands in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: ConditionType,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Why: a [`Reason`], or the server's [`ServerReason`].
    pub reason: Cow<'static, str>,
    /// One sentence for people.
    pub message: String,
}

impl Finding {
    /// It holds.
    pub fn yes(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(about, Verdict::True, reason, message)
    }

    /// It does not hold.
    pub fn no(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(about, Verdict::False, reason, message)
    }

    /// Nobody knows.
    pub fn unknown(about: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(about, Verdict::Unknown, reason, message)
    }

    fn new(about: ConditionType, verdict: Verdict, reason: Reason, message: impl Into<String>) -> Self {
        Self { about, verdict, reason: reason.as_str().into(), message: message.into() }
    }

    /// `Ready` of the findings that it depends on: the first that is false speaks for all, else the first that
    /// nobody knows, which more often than not is what another one leads to.
    pub fn summary(findings: &[Self], parts: &[ConditionType], well: &str) -> Self {
        let first = |verdict| {
            let mut about = parts.iter().filter_map(|part| findings.iter().find(|f| f.about == *part));
            about.find(|finding| finding.verdict == verdict)
        };
        match first(Verdict::False).or_else(|| first(Verdict::Unknown)) {
            None => Self::yes(ConditionType::Ready, Reason::Ready, well),
            Some(bad) => Self {
                about: ConditionType::Ready,
                verdict: Verdict::False,
                reason: bad.reason.clone(),
                message: bad.message.clone(),
            },
        }
    }
}

/// The condition that is about this.
pub fn find(conditions: &[Condition], about: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == about.as_str())
}

/// The conditions of the next status. A condition whose verdict stays keeps its time.
pub fn next(
    old: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut next: Vec<Condition> = findings
        .iter()
        .map(|finding| {
            let before = find(old, finding.about);
            let unchanged = before.filter(|condition| condition.status == finding.verdict.as_str());
            Condition {
                type_: finding.about.as_str().to_owned(),
                status: finding.verdict.as_str().to_owned(),
                reason: finding.reason.clone().into_owned(),
                message: truncated(&finding.message, MAX_MESSAGE),
                observed_generation: generation,
                last_transition_time: unchanged
                    .map_or_else(|| Time(now), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect();
    next.sort_by(|a, b| a.type_.cmp(&b.type_));
    next
}

/// What became of conditions between two statuses: those whose verdict or reason is another one.
pub fn changed<'a>(old: &[Condition], next: &'a [Condition]) -> Vec<&'a Condition> {
    next.iter()
        .filter(|condition| {
            let before = old.iter().find(|before| before.type_ == condition.type_);
            before.is_none_or(|before| before.status != condition.status || before.reason != condition.reason)
        })
        .collect()
}

/// At most `max` bytes of a text.
pub fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_verdict_changes() {
        let refs = |verdict| {
            vec![Finding {
                about: ConditionType::ResolvedRefs,
                verdict,
                reason: "x".into(),
                message: String::new(),
            }]
        };
        let first = next(&[], &refs(Verdict::False), Some(1), at(10));
        let second = next(&first, &refs(Verdict::False), Some(2), at(20));
        assert_eq!(second[0].last_transition_time, Time(at(10)));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = next(&second, &refs(Verdict::True), Some(2), at(30));
        assert_eq!(third[0].last_transition_time, Time(at(30)));
        assert_eq!(changed(&first, &second).len(), 0);
        assert_eq!(changed(&second, &third).len(), 1);
    }

    #[test]
    fn the_first_part_that_is_false_speaks_for_all() {
        let parts = [ConditionType::Accepted, ConditionType::ResolvedRefs];
        let mut findings = vec![
            Finding::yes(ConditionType::Accepted, Reason::Accepted, ""),
            Finding::no(ConditionType::ResolvedRefs, Reason::SecretNotFound, "Secret db is missing"),
        ];
        let ready = Finding::summary(&findings, &parts, "well");
        assert_eq!((ready.verdict, &*ready.reason), (Verdict::False, "SecretNotFound"));
        findings[0] = Finding::unknown(ConditionType::Accepted, Reason::Reconciling, "");
        assert_eq!(Finding::summary(&findings, &parts, "well").reason, "SecretNotFound");
        findings[1].verdict = Verdict::True;
        assert_eq!(Finding::summary(&findings, &parts, "well").reason, "Reconciling");
        findings[0].verdict = Verdict::True;
        assert_eq!(Finding::summary(&findings, &parts, "well").reason, "Ready");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(truncated("äöü", 6), "äöü");
        assert_eq!(truncated("äöüä", 7), "äö…");
    }
}
