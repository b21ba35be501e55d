//! Programs say of which crates, in which versions, they are made: `make release` builds them so, and reads it back.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use auditable_info::audit_info_from_file;

/// A program, a crate that is in it and one that is not.
const PROGRAMS: [(&str, &str, &str); 3] =
    [("niks3-operator", "kube", "sqlx"), ("niks3-server", "sqlx", "kube"), ("niks3", "reqwest", "sqlx")];

/// The names and versions of Cargo.lock.
fn locked() -> BTreeSet<(String, String)> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let text = std::fs::read_to_string(lock).unwrap();
    let value = |line: Option<&str>, key: &str| {
        Some(line?.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let packages = text.split("[[package]]\n").filter_map(|package| {
        let mut lines = package.lines();
        Some((value(lines.next(), "name")?, value(lines.next(), "version")?))
    });
    packages.collect()
}

#[test]
#[ignore = "needs the programs of `make release`, which runs it"]
fn each_program_lists_its_crates() {
    let folder = std::env::var_os("NIKS3_RELEASE").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| panic!("set NIKS3_RELEASE to the folder of the programs"));
    let locked = locked();
    assert!(locked.len() > 200, "{} are too few: were they found?", locked.len());
    for (program, within, without) in PROGRAMS {
        let path = folder.join(program);
        let listed = audit_info_from_file(&path, auditable_info::Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names: BTreeSet<&str> = listed.packages.iter().map(|package| package.name.as_str()).collect();
        assert!(names.contains(within) && !names.contains(without), "{program}: {names:?}");
        for package in &listed.packages {
            let found = locked.contains(&(package.name.clone(), package.version.to_string()));
            assert!(found, "{program}: {} {} is not in Cargo.lock", package.name, package.version);
        }
        assert!(listed.packages.iter().any(|package| package.root), "{program} names no root");
    }
}
