//! Programs say of which crates, in which versions, they are made, and a statement beside them what they were built from:
//! `make release` builds them so, and reads it back.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use auditable_info::audit_info_from_file;
use niks3_e2e::root;
use serde_json::Value;

/// A program, a crate that is in it and one that is not.
const PROGRAMS: [(&str, &str, &str); 3] =
    [("niks3-operator", "kube", "sqlx"), ("niks3-server", "sqlx", "kube"), ("niks3", "reqwest", "sqlx")];

fn folder() -> PathBuf {
    std::env::var_os("NIKS3_RELEASE").expect("NIKS3_RELEASE should be the folder of the programs").into()
}

/// What a program prints, in the project's folder.
fn output(line: &[&str]) -> String {
    let told = Command::new(line[0]).args(&line[1..]).current_dir(root().unwrap()).output().unwrap();
    assert!(told.status.success(), "{line:?}: {}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap()
}

/// The names and versions of Cargo.lock.
fn locked() -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(root().unwrap().join("Cargo.lock")).unwrap();
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
    let (folder, locked) = (folder(), locked());
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

#[test]
#[ignore = "needs the programs of `make release`, which runs it"]
fn the_provenance_is_that_of_these_programs_and_this_commit() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.join("niks3.provenance.json")).unwrap();
    let statement: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    assert_eq!(subjects.len(), PROGRAMS.len());
    for (subject, (program, ..)) in subjects.iter().zip(PROGRAMS) {
        let sum = output(&["sha256sum", folder.join(program).to_str().unwrap()]);
        assert_eq!(subject["name"], program);
        assert_eq!(subject["digest"]["sha256"].as_str(), sum.split(' ').next());
    }
    let definition = &statement["predicate"]["buildDefinition"];
    let commit = output(&["git", "rev-parse", "HEAD"]);
    assert_eq!(definition["externalParameters"]["commit"], commit.trim());
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["gitCommit"], commit.trim());
    let lock = output(&["sha256sum", "Cargo.lock"]);
    assert_eq!(definition["resolvedDependencies"][1]["digest"]["sha256"].as_str(), lock.split(' ').next());
    let details = &statement["predicate"]["runDetails"];
    let times = ["startedOn", "finishedOn"].map(|name| details["metadata"][name].as_str().unwrap());
    assert!(times[0] <= times[1] && details["builder"]["id"].is_string(), "{details}");
}
