//! `niks3 why` and `niks3 du`: what keeps a path, and what takes the space.

use std::fmt::Write as _;
use std::path::Path;

use niks3_protocol::api::usage::{Standing, Usage, Why, WhyRoot};
use niks3_protocol::nix::StorePathHash;

use super::CommandError;
use super::plan::{size, time};
use crate::args::{DuArgs, WhyArgs};
use crate::client::Client;
use crate::printer::{Printer, bytes};
use crate::store;

/// What a user names a path by. It need not be in the store of this machine.
pub(super) fn hash_of(path: &Path) -> Result<StorePathHash, CommandError> {
    let text = path.to_str().unwrap_or_default();
    if let Ok(hash) = text.parse::<StorePathHash>() {
        return Ok(hash);
    }
    match store::within_store(path) {
        Some(path) => Ok(path.hash()),
        None => Ok(store::resolve(path)?.hash()),
    }
}

pub(super) async fn why(client: &Client, args: WhyArgs, printer: Printer) -> Result<(), CommandError> {
    let why = client.why(&hash_of(&args.path)?).await?;
    if args.json {
        printer.data(&serde_json::to_string_pretty(&why).unwrap_or_default());
    } else {
        printer.data(explained(&why).trim_end());
    }
    Ok(())
}

fn explained(why: &Why) -> String {
    let mut text = String::new();
    let name = why.store_path.as_ref().unwrap_or(&why.key);
    let standing = match why.standing {
        Standing::Live => "is in the cache",
        Standing::Expected => "was promised by a push and is not in the cache yet",
        Standing::Deleting => "is being deleted",
    };
    let size = bytes(u64::try_from(why.bytes).unwrap_or(0));
    let _ = writeln!(text, "{name} {standing}: {size} with all it needs");
    let (kept, dropped): (Vec<_>, Vec<_>) = why.roots.iter().partition(|root| root.kept_by.is_some());
    for root in kept {
        let _ = writeln!(text, "\nkept by {}", root_line(root));
        way(&mut text, root, name);
    }
    for root in dropped {
        let rule = root.dropped_by.map(|rule| rule.to_string()).unwrap_or_default();
        let _ = writeln!(text, "\nno longer kept by {} (goes: {rule})", root_name(root));
        way(&mut text, root, name);
    }
    let named = i64::try_from(why.roots.len()).unwrap_or(i64::MAX);
    if why.roots_count > named {
        let _ = writeln!(text, "\nand {} more", why.roots_count - named);
    }
    if why.uploads > 0 {
        let pushes = if why.uploads == 1 { "push" } else { "pushes" };
        let _ = writeln!(text, "\nkept by {} {pushes} under way", why.uploads);
    }
    if let Some(since) = why.condemned_at {
        let _ = writeln!(text, "\nnothing reaches it since {}", time(since));
    }
    let goes = match why.goes_at {
        Some(at) => format!("goes with the first collection after {}", time(at)),
        None => "stays until somebody changes what keeps it".to_owned(),
    };
    let policy = match why.policy_of_run {
        Some(run) => format!("by the policy of collection {run}"),
        None => "there was no collection yet, so no policy lets anything go".to_owned(),
    };
    let _ = writeln!(text, "\n{goes} ({policy})");
    text
}

fn root_name(root: &WhyRoot) -> &str {
    root.store_path.as_ref().unwrap_or(&root.key)
}

fn root_line(root: &WhyRoot) -> String {
    let rule = root.kept_by.map(|rule| rule.to_string()).unwrap_or_default();
    let by = match root.pins.as_slice() {
        [] => rule,
        [one] => format!("{rule} {one}"),
        many => format!("{rule}: {}", many.join(", ")),
    };
    let until = root.until.map(|at| format!(" until {}", time(at))).unwrap_or_default();
    format!("{} ({by}{until}; last used {})", root_name(root), time(root.last_used))
}

fn way(text: &mut String, root: &WhyRoot, name: &str) {
    if root_name(root) == name {
        return;
    }
    for step in root.through.iter().map(String::as_str).chain([name]) {
        let _ = writeln!(text, "  which needs {step}");
    }
}

pub(super) async fn du(client: &Client, args: DuArgs, printer: Printer) -> Result<(), CommandError> {
    let usage = client.usage(args.limit).await?;
    if args.json {
        printer.data(&serde_json::to_string_pretty(&usage).unwrap_or_default());
    } else {
        printer.data(table(&usage).trim_end());
    }
    Ok(())
}

fn table(usage: &Usage) -> String {
    let mut text = String::new();
    for (name, amount) in
        [("in the cache", usage.live), ("in closures", usage.reached), ("in none", usage.unreached)]
    {
        let _ = writeln!(text, "{name:12}  {:>9} objects  {}", amount.objects, size(amount.bytes));
    }
    let _ =
        writeln!(text, "\n      ALONE   WITH DEPS  {:20}  LARGEST OF {} CLOSURES", "PUSHED", usage.closures);
    for root in &usage.largest {
        let (unique, whole, at) = (size(root.unique_bytes), size(root.bytes), time(root.updated_at));
        let name = root.store_path.as_ref().unwrap_or(&root.key);
        let pins = if root.pins.is_empty() { String::new() } else { format!("  {}", root.pins.join(", ")) };
        let _ = writeln!(text, "{unique} {whole}  {at}  {name}{pins}");
    }
    text
}
