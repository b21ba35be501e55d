//! What README.md and docs/cli.md show of a terminal is what the client says: each line has the form of one that the client's
//! tests have as a snapshot. Figures, paths and hosts differ.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

use niks3_e2e::root;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "s"];
/// What the client's tests write for them.
const STANDINS: [&str; 3] = ["SIZE", "TIME", "SERVER"];

/// A line with `{}` for what differs each time.
fn form(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let core = word.trim_matches(|sign| "(),;:".contains(sign));
        let host = core.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let differs =
            core.parse::<f64>().is_ok() || core.starts_with('/') || host || STANDINS.contains(&core);
        match words.last_mut().filter(|last| last.ends_with("{}") && UNITS.contains(&core)) {
            Some(figure) => figure.push_str(&word.replacen(core, "", 1)),
            None if differs => words.push(word.replacen(core, "{}", 1)),
            None => words.push(word.to_owned()),
        }
    }
    words.join(" ")
}

/// Every line of the Rust files below a folder.
fn lines(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(lines(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned));
        }
    }
    found
}

/// The lines of the first terminal in a document that pushes.
fn recorded(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().unwrap().join(document)).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.into_iter().find(|block| block.starts_with("$ niks3 push")).unwrap();
    // What the shell says, and what is read by programs.
    let ours = |line: &&str| !line.starts_with("$ ") && *line != "Killed" && !line.starts_with('{');
    block.lines().filter(ours).map(str::to_owned).collect()
}

#[test]
fn what_documents_show_is_what_the_client_says() {
    let cli = root().unwrap().join("cli");
    let snapshots: BTreeSet<String> = lines(&cli.join("tests"))
        .iter()
        // One line of several, or a snapshot of its own: `…, @"said");`
        .map(|line| {
            form(line.split_once("@\"").map_or(line.trim(), |(_, said)| said.trim_end_matches("\");")))
        })
        .collect();
    let source = lines(&cli.join("src")).join("\n");
    // A push that goes on where another was killed has a sentence at its end that snapshots leave out.
    let says = |said: &str| {
        let ends = said.match_indices([',', ';']).map(|(at, _)| said.split_at(at));
        snapshots.contains(said)
            || ends
                .into_iter()
                .any(|(line, end)| snapshots.contains(line) && source.contains(&format!("\"{end}\"")))
    };
    for (document, least) in [("README.md", 4), ("docs/cli.md", 6)] {
        let recorded = recorded(document);
        assert!(recorded.len() >= least, "{document} shows too little: {recorded:?}");
        for line in recorded.iter().filter(|line| !line.starts_with("extra-")) {
            assert!(says(&form(line)), "{document}: the client does not say {line:?} ({})", form(line));
        }
    }
}

#[test]
fn a_form_has_no_figures() {
    let line = "Pushed 126 paths to 127.0.0.1:24618: 99.24 MiB sent in 2.7 s, 70.00 MiB were there";
    assert_eq!(form(line), "Pushed {} paths to {}: {} sent in {}, {} were there");
    assert_eq!(
        form("2 paths: 0 cached, 2 to upload (475.39 MiB); more"),
        "{} paths: {} cached, {} to upload ({}); more"
    );
}
