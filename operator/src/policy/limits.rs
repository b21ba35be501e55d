//! Pure: `spec.retention`, `spec.safety` and `spec.mode` as the server takes them.

use niks3_protocol::api::gc::GcParams;
use niks3_protocol::api::gc::policy::{ByteSize, PinRule};
use niks3_protocol::duration::GoDuration;

use crate::crd::conditions::{ConditionType, Reason};
use crate::crd::gc_policy::{GCMode, GCPolicySpec};
use crate::crd::schema::Duration;

use super::validate::Invalid;

/// How long the server's upload addresses live, and what was sent to them may take: uploads given up before that
/// would fail under their pushers.
const UPLOADS_LAST: GoDuration = GoDuration::seconds(5 * 3600 + 300);

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
    };
    limits.check().map_err(|error| invalid(format!("retention: {error}")))?;
    if limits.failed_uploads_older_than < UPLOADS_LAST {
        let message = format!(
            "retention.failedUploadsOlderThan: {} is shorter than an upload may last, {UPLOADS_LAST}",
            limits.failed_uploads_older_than
        );
        return Err(Invalid { about: ConditionType::Accepted, reason: Reason::UnsafeUploadWindow, message });
    }
    Ok(limits)
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
