//! Annotations that ask for something once: their value is the time at which it is asked for.

use k8s_openapi::jiff::Timestamp;

/// A time as it is asked with. To the millisecond: who asks twice in a second means two things.
pub fn asked(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The time that is meant, or what is wrong with it.
pub fn asked_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is no RFC 3339 time such as {now:.0}"))
}
