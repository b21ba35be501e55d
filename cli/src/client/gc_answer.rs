//! A run of the collector as servers of any version describe it.

use niks3_protocol::api::gc::GcStatus;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// niks3 1.7 leaves the phase out until a run is in one.
pub(super) struct GcAnswer(pub(super) GcStatus);

/// The answer 409.
#[derive(Deserialize)]
pub(super) struct ConflictAnswer {
    pub(super) active_task: GcAnswer,
}

impl<'de> Deserialize<'de> for GcAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(status) = value.as_object_mut() {
            status.entry("phase").or_insert_with(|| Value::from("cleanup_pending_uploads"));
        }
        serde_json::from_value(value).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use niks3_protocol::api::gc::{GcPhase, GcState};

    use super::*;

    /// The first answer of niks3 1.7.0 to `DELETE /api/closures?older-than=0s&force=true`.
    const STARTED: &str = r#"{"state":"running","params":{"older_than":"0s","failed_uploads_older_than":"6h0m0s",
        "force":true},"stats":{"failed_uploads_deleted":0,"old_closures_deleted":0,"objects_marked_for_deletion":0,
        "objects_deleted_after_grace_period":0,"objects_failed_to_delete":0},
        "started_at":"2026-07-01T10:00:00Z","updated_at":"2026-07-01T10:00:00.5Z"}"#;

    #[test]
    fn reads_the_first_answer_of_niks3_1_7() {
        let status = serde_json::from_str::<GcAnswer>(STARTED).unwrap().0;
        assert_eq!((status.state, status.phase), (GcState::Running, GcPhase::CleanupPendingUploads));
        let conflict = format!(r#"{{"error":"a different run is active","active_task":{STARTED}}}"#);
        assert!(serde_json::from_str::<ConflictAnswer>(&conflict).is_ok());
    }

    #[test]
    fn what_is_no_run_is_refused() {
        for other in ["null", "[]", "{}", r#"{"state":"asleep"}"#] {
            assert!(serde_json::from_str::<GcAnswer>(other).is_err(), "{other}");
        }
    }
}
