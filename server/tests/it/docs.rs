//! What the documentation says is there, is there; and what is there is said.

use clap::CommandFactory as _;
use niks3_protocol::server_config::{AuthSection, ServerConfig};
use niks3_server::args::Args;
use niks3_server::auth::Auth;

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const IDENTITIES: &str = include_str!("../../../docs/identities.md");
const COMPATIBILITY: &str = include_str!("../../../docs/compatibility.md");

/// The blocks of a language in a page.
fn blocks(page: &'static str, language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[test]
fn every_flag_and_variable_is_described() {
    let mut missing = Vec::new();
    for argument in Args::command().get_arguments() {
        let flag = argument.get_long().map(|long| format!("`--{long}`"));
        let variable = argument.get_env().map(|name| format!("`{}`", name.to_str().unwrap()));
        missing.extend([flag, variable].into_iter().flatten().filter(|name| !CONFIGURATION.contains(name)));
    }
    assert_eq!(missing, [""; 0]);
    for command in Args::command().get_subcommands() {
        assert!(CONFIGURATION.contains(&format!("`niks3-server {}`", command.get_name())), "{command}");
    }
}

#[test]
fn the_file_is_one_and_has_every_field() {
    let file = blocks(CONFIGURATION, "json")[0];
    let parsed: ServerConfig = serde_json::from_str(file).unwrap();
    let written = serde_json::to_value(&parsed).unwrap();
    let mut missing = Vec::new();
    let mut pending = vec![written];
    while let Some(value) = pending.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    if !file.contains(&format!("\"{name}\"")) {
                        missing.push(name);
                    }
                    pending.push(value);
                }
            }
            serde_json::Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_files_of_providers_are_such_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = blocks(IDENTITIES, "json");
    assert!(files.len() >= 2);
    for file in files {
        let path = folder.path().join("oidc.json");
        std::fs::write(&path, file).unwrap();
        let auth = Auth::open(AuthSection::default(), None, Some(&path)).unwrap();
        let issuer = file.split("\"issuer\": \"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(auth.audience_of(Some(issuer)).as_deref(), Some("https://cache.example"));
    }
}

#[test]
fn every_weakness_of_the_contract_has_its_test() {
    let rows =
        COMPATIBILITY.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let rows: Vec<&str> = rows.collect();
    assert_eq!(rows.len(), 9);
    for row in rows {
        has_its_tests(row);
    }
}

#[test]
fn every_attack_has_its_test() {
    let rows = IDENTITIES.split("## Attacks").nth(1).unwrap().lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.skip(1).collect();
    assert!(rows.len() >= 16, "{rows:?}");
    for row in rows {
        has_its_tests(row);
    }
}

/// The files and tests that the last cell of a row names are there.
fn has_its_tests(row: &str) {
    let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    let (mut file, mut found) = (String::new(), 0);
    for name in cell.split('`').skip(1).step_by(2) {
        if name.contains(['.', '/']) {
            let folder = if name.contains("/tests/") || name.starts_with("e2e/") { ".." } else { "tests/it" };
            let path = std::path::Path::new(folder).join(name);
            assert!(path.exists(), "{row}: no {}", path.display());
            file = if path.is_file() { std::fs::read_to_string(path).unwrap() } else { String::new() };
        } else {
            assert!(file.contains(&format!("fn {name}()")), "{row}: no test {name}");
            found += 1;
        }
    }
    assert!(found > 0 || !file.is_empty() || cell.contains("e2e/model"), "{row}");
}
