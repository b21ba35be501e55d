//! The largest NAR that this cache takes. What it holds already may be larger: a closure that leads there is pushed all the same.

use std::collections::BTreeMap;

use niks3_protocol::api::gc::policy::ByteSize;
use niks3_protocol::api::pending_closures::SignRequest;

use super::PushError;
use super::plan::Plan;

/// Refuses an upload that has to send a larger one; `nars` are by their keys' numbers.
pub(super) fn check_missing(
    limit: u64,
    keys: &[String],
    plan: &Plan,
    nars: impl Iterator<Item = usize>,
) -> Result<(), PushError> {
    let sizes = nars.filter_map(|number| Some((number, plan.get(number)?.nar_size?)));
    let larger: Vec<(usize, u64)> = sizes.filter(|(_, size)| *size > limit).collect();
    let Some((first, _)) = larger.first() else { return Ok(()) };
    let path = plan.objects(keys).find(|(_, planned)| planned.refers_to(*first)).map(|(key, _)| key.as_str());
    let objects = larger.iter().map(|(number, size)| (keys[*number].clone(), sentence(*size, limit)));
    Err(refusal(path.unwrap_or("no narinfo"), &keys[*first], objects.collect()))
}

/// The same of NARs of which an upload said no size.
pub(super) fn check_signed(limit: u64, missing: &[String], request: &SignRequest) -> Result<(), PushError> {
    let mut larger = request
        .narinfos
        .values()
        .filter(|narinfo| narinfo.nar_size > limit && missing.contains(&narinfo.url))
        .peekable();
    let Some(first) = larger.peek().copied() else { return Ok(()) };
    let objects = larger.map(|narinfo| (narinfo.url.clone(), sentence(narinfo.nar_size, limit)));
    Err(refusal(first.store_path.as_str(), &first.url, objects.collect()))
}

fn refusal(path: &str, nar: &str, objects: BTreeMap<String, String>) -> PushError {
    let others = match objects.len() {
        1 => String::new(),
        count => format!("; so it is with {} more", count - 1),
    };
    let sentence = objects.get(nar).map_or("", String::as_str);
    PushError::TooLarge { message: format!("{path}: the NAR {nar} {sentence}{others}"), objects }
}

fn sentence(size: u64, limit: u64) -> String {
    format!(
        "has {size} bytes, and this cache takes NARs of {} at most, which whoever runs it may raise (--max-nar-size, of a \
         BinaryCache server.uploads.maxNarSize)",
        ByteSize(limit)
    )
}
