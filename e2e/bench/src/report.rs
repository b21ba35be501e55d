//! docs/benchmarks.md.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what one runs this for")]

use std::fmt::Write as _;

use crate::Args;
use crate::samples::Samples;

/// Some figures beside each other.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// How they were taken.
    pub(crate) how: String,
    pub(crate) rows: Vec<Row>,
}

/// One figure of one program.
#[derive(Debug)]
pub(crate) struct Row {
    /// `P1`, as the targets are numbered.
    pub(crate) number: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) who: String,
    pub(crate) samples: Samples,
    /// Who it is held against, and what the ratio of the medians may be.
    pub(crate) against: Option<(String, &'static str)>,
}

impl Table {
    fn text(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.how);
        text.push_str(
            "| | what | who | minimum / **median** / maximum | ratio | target |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let (mut ratio, mut target) = (String::new(), "");
            if let Some((peer, goal)) = &row.against {
                target = goal;
                let peer = self
                    .rows
                    .iter()
                    .find(|other| other.who == *peer && other.what == row.what && other.number == row.number);
                if let Some(peer) = peer {
                    ratio = format!("{:.2} of {}", row.samples.median() / peer.samples.median(), peer.who);
                }
            }
            let Row { number, what, unit, who, samples, .. } = row;
            let _ = writeln!(
                text,
                "| {number} | {what} | {who} | {} {unit} | {ratio} | {target} |",
                samples.spread()
            );
        }
        text
    }
}

/// What the page says above this line is written by hand, and kept.
const MARKER: &str = "<!-- `make bench` writes what follows -->\n";

/// The figures, after what stands above them in `page`.
pub(crate) fn document(page: &str, args: &Args, machine: &str, tables: &[Table]) -> String {
    let by_hand = page.split(MARKER).next().unwrap_or_default();
    let mut text = format!("{by_hand}{MARKER}\n{} rounds. {machine}\n", args.rounds);
    for table in tables {
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// What is going on.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
