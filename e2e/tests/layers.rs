//! What keeps the layers apart. Fails with the line that crossed one. Needs no cluster.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

use niks3_e2e::root;

/// The longest file a reader should meet.
const MAX_LINES: usize = 300;

/// `cargo tree`: the names of all crates that `package` is built from.
fn crates_of(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<String> =
        text.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    assert!(crates.len() > 10, "cargo tree -p {package} says too little: {text}");
    crates
}

/// Every Rust file under `folder`, with its path from the root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root().unwrap();
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    assert!(!found.is_empty(), "no Rust files in {folder}");
    let relative = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(|path| (relative(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// No line of `folder` has one of `words`, but in files that begin with `home`.
fn assert_only_in(folder: &str, words: &[&str], home: &[&str]) {
    for (path, text) in rust_files(folder) {
        if home.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = words.iter().find(|word| code.contains(**word));
            assert!(found.is_none(), "{path}:{}: {} belongs in {home:?}", number + 1, found.unwrap());
        }
    }
}

#[test]
fn the_protocol_does_no_io() {
    let io = ["tokio", "reqwest", "hyper", "axum", "sqlx", "kube", "aws-sdk-s3", "rustls", "mio", "clap"];
    for name in crates_of("niks3-protocol") {
        assert!(!io.contains(&name.as_str()), "niks3-protocol depends on {name}");
    }
}

#[test]
fn there_is_one_tls_provider() {
    for package in ["niks3-server", "niks3-operator", "niks3-cli"] {
        for name in crates_of(package) {
            assert!(
                !["ring", "openssl", "native-tls"].contains(&name.as_str()),
                "{package} depends on {name}"
            );
        }
    }
}

#[test]
fn programs_know_only_what_is_theirs() {
    for (package, foreign) in [
        ("niks3-cli", &["sqlx", "aws-sdk-s3", "kube", "axum"][..]),
        ("niks3-operator", &["sqlx", "aws-sdk-s3"]),
        ("niks3-server", &["kube", "k8s-openapi", "clap_mangen"]),
    ] {
        for name in crates_of(package) {
            assert!(!foreign.contains(&name.as_str()), "{package} depends on {name}");
        }
    }
}

#[test]
fn s3_is_spoken_in_bucket_alone() {
    assert_only_in("server/src", &["aws_sdk_s3", "aws_config", "aws_smithy"], &["server/src/bucket"]);
}

#[test]
fn sql_is_spoken_in_db_alone() {
    let words = ["query!", "query_as!", "query_scalar!", "sqlx::query", "raw_sql"];
    assert_only_in("server/src", &words, &["server/src/db"]);
}

#[test]
fn the_cluster_is_written_by_apply_alone() {
    let words = ["Patch::", "PostParams", "DeleteParams"];
    let home = [
        "operator/src/apply.rs",
        "operator/src/cache/apply.rs",
        "operator/src/cache/apply/published.rs",
        "operator/src/cache/apply/secrets.rs",
        "operator/src/cache/apply/volumes.rs",
        "operator/src/policy/apply.rs",
        "operator/src/status.rs",
        "operator/src/lease.rs",
        // A dry run.
        "operator/src/self_test.rs",
        // What people ask for by hand.
        "operator/src/bin/kubectl-niks3/gc.rs",
        "operator/src/bin/kubectl-niks3/job.rs",
        "operator/src/bin/kubectl-niks3/rotate.rs",
    ];
    assert_only_in("operator/src", &words, &home);
}

#[test]
fn the_environment_is_read_where_a_program_starts() {
    let home = ["server/src/args.rs", "server/src/telemetry.rs", "server/src/main.rs"];
    assert_only_in("server/src", &["std::env::var", "env::vars"], &home);
}

#[test]
fn files_are_short() {
    let folders = ["protocol", "server", "cli", "operator", "e2e"];
    let long: Vec<String> = folders
        .iter()
        .flat_map(|folder| rust_files(folder))
        .filter(|(_, text)| text.lines().count() > MAX_LINES)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines: {long:#?}");
}
