//! The plan of a collection as a table.

use std::fmt::{Display, Write as _};

use niks3_protocol::api::gc::plan::{Amount, GcPlan, PlanRoot};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::printer::bytes;

/// To the second.
pub(super) fn time(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// Bytes in a column.
pub(super) fn size(count: i64) -> String {
    format!("{:>11}", bytes(u64::try_from(count).unwrap_or(0)))
}

/// What goes and why, what stays and by which rule, and the largest of both.
pub(super) fn table(plan: &GcPlan) -> String {
    let mut text = String::new();
    let mut amount = |name: &str, amount: Amount, what: &str| {
        let _ = writeln!(text, "{name:12}  {:>9} objects  {}  {what}", amount.objects, size(amount.bytes));
    };
    amount("in the cache", plan.live, "");
    amount("stays", plan.keep, "");
    amount("goes", plan.condemn, "after its grace period");
    amount("in grace", plan.waiting, "condemned earlier");
    amount("deleted now", plan.delete, "");
    text.push('\n');
    for count in &plan.kept_by {
        let _ = writeln!(text, "{:>9} roots stay: {}", count.roots, count.rule);
    }
    for count in &plan.dropped_by {
        let _ = writeln!(text, "{:>9} closures go: {}", count.roots, count.rule);
    }
    if plan.pins_dropped > 0 {
        let _ = writeln!(text, "{:>9} pins go: pin_rules", plan.pins_dropped);
    }
    if plan.uploads_expired > 0 {
        let _ = writeln!(text, "{:>9} unfinished uploads go", plan.uploads_expired);
    }
    roots(&mut text, "LARGEST THAT GO", &plan.largest_dropped);
    roots(&mut text, "LARGEST THAT STAY", &plan.largest_kept);
    if !plan.dropped_pins.is_empty() {
        let width = plan.dropped_pins.iter().map(|pin| pin.name.len()).max().unwrap_or(0).max(12);
        let _ = writeln!(text, "\n{:width$}  {:20}  RULE        STORE PATH", "PINS THAT GO", "WRITTEN");
        for pin in &plan.dropped_pins {
            let (at, prefix) = (time(pin.updated_at), format!("{:?}", pin.prefix));
            let _ = writeln!(text, "{:width$}  {at}  {prefix:10}  {}", pin.name, pin.store_path);
        }
    }
    for note in &plan.notes {
        let _ = write!(text, "\nnote: {note}");
    }
    text.trim_end().to_owned()
}

fn roots<R: Display>(text: &mut String, title: &str, roots: &[PlanRoot<R>]) {
    if roots.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n      ALONE   WITH DEPS  {:20}  {:20}  {title}", "LAST USED", "RULE");
    for root in roots {
        let (unique, whole, at) = (size(root.unique_bytes), size(root.bytes), time(root.last_used));
        let name = root.store_path.as_ref().unwrap_or(&root.key);
        let _ = writeln!(text, "{unique} {whole}  {at}  {:20}  {name}", root.rule.to_string());
    }
}
