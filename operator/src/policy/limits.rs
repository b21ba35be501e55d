//! Pure: `spec.retention`, `spec.safety` and `spec.mode` as the server takes them.

use std::time;

use niks3_protocol::api::fsck::{FsckMode, FsckParams};
use niks3_protocol::api::gc::GcParams;
use niks3_protocol::api::gc::policy::{ByteSize, PinRule};
use niks3_protocol::duration::GoDuration;

use crate::crd::conditions::{ConditionType, Reason};
use crate::crd::gc_policy::{self, GCMode, GCPolicySpec};
use crate::crd::schema::Duration;

use super::validate::Invalid;

/// What was sent to an upload's address may take so much longer than the address lives.
const UPLOADS_LAST_LONGER: time::Duration = time::Duration::from_mins(5);

pub(super) fn limits(spec: &GCPolicySpec) -> Result<GcParams, Invalid> {
    let (retention, safety) = (&spec.retention, &spec.safety);
    let mut pin_rules = Vec::new();
    for rule in &retention.pin_rules {
        pin_rules.push(PinRule {
            prefix: rule.prefix.clone(),
            keep_revisions: rule.keep_revisions.and_then(|count| count.try_into().ok()),
            keep_last: rule.keep_last.and_then(|count| count.try_into().ok()),
            max_age: optional("pinRules", rule.max_age.as_ref())?,
        });
    }
    let max_size = match &retention.max_size {
        Some(size) => {
            let bytes: ByteSize =
                size.0.parse().map_err(|error| invalid(format!("retention.maxSize: {error}")))?;
            Some(bytes.0)
        }
        None => None,
    };
    let limits = GcParams {
        older_than: optional("olderThan", retention.older_than.as_ref())?,
        failed_uploads_older_than: parse("failedUploadsOlderThan", &retention.failed_uploads_older_than)?,
        force: false,
        deletion_grace: Some(parse("deletionGrace", &retention.deletion_grace)?),
        max_size,
        min_age: max_size.map(|_| parse("minAge", &retention.min_age)).transpose()?,
        keep_if_read_within: optional("keepIfReadWithin", retention.keep_if_read_within.as_ref())?,
        pin_rules,
        max_delete_percent: safety.max_delete_percent.try_into().ok(),
        max_delete_objects: safety.max_delete_objects.and_then(|count| count.try_into().ok()),
        dry_run: spec.mode == GCMode::DryRun,
        delete: None,
    };
    limits.check().map_err(|error| invalid(format!("retention: {error}")))?;
    Ok(limits)
}

/// How bucket and database are compared; `spec.safety` holds for what is repaired, too.
pub(super) fn fsck(spec: &GCPolicySpec, limits: &GcParams) -> FsckParams {
    let Some(fsck) = &spec.fsck else { return FsckParams::default() };
    let repairs = fsck.mode == gc_policy::FsckMode::Repair;
    FsckParams {
        mode: if repairs { FsckMode::Repair } else { FsckMode::Check },
        deep: fsck.deep,
        max_delete_percent: limits.max_delete_percent.filter(|_| repairs),
        max_delete_objects: limits.max_delete_objects.filter(|_| repairs),
    }
}

/// Uploads that are given up while their addresses live would fail under their pushers.
pub(super) fn upload_window(limits: &GcParams, presign_expiry: GoDuration) -> Result<(), Invalid> {
    let last = GoDuration(presign_expiry.0.saturating_add(UPLOADS_LAST_LONGER));
    if limits.failed_uploads_older_than >= last {
        return Ok(());
    }
    let message = format!(
        "retention.failedUploadsOlderThan: {} is shorter than an upload may last, {last}",
        limits.failed_uploads_older_than
    );
    Err(Invalid { about: ConditionType::Accepted, reason: Reason::UnsafeUploadWindow, message })
}

fn optional(field: &str, text: Option<&Duration>) -> Result<Option<GoDuration>, Invalid> {
    text.map(|text| parse(field, text)).transpose()
}

fn parse(field: &str, text: &Duration) -> Result<GoDuration, Invalid> {
    text.0.parse().map_err(|error| invalid(format!("retention.{field}: {error}")))
}

fn invalid(message: String) -> Invalid {
    Invalid { about: ConditionType::Accepted, reason: Reason::InvalidSpec, message }
}
