//! docs/benchmarks.md.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures are what one runs this for")]

use std::fmt::Write as _;

use crate::Args;
use crate::samples::{Samples, figure};
use crate::server::Program;

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
    /// `P1`, as the targets are numbered; empty where nothing is asked.
    pub(crate) number: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) who: String,
    pub(crate) samples: Samples,
    /// Whose figure of the same row it is held against.
    pub(crate) against: Option<String>,
    pub(crate) goal: Option<Goal>,
}

impl Row {
    /// A figure of each program, ours held against that of niks3 1.7.
    pub(crate) fn of_each<F>(
        (number, what, unit): (&'static str, &str, &'static str),
        programs: &[Program],
        figures: &[F],
        samples: fn(&F) -> &Samples,
        goal: Option<Goal>,
    ) -> Vec<Self> {
        let row = |(program, figures): (&Program, &F)| {
            let ours = program.name == "this";
            Self {
                number,
                what: what.to_owned(),
                unit,
                who: program.name.to_owned(),
                samples: samples(figures).clone(),
                against: ours.then(|| "niks3 1.7".to_owned()),
                goal: goal.filter(|_| ours),
            }
        };
        programs.iter().zip(figures).map(row).collect()
    }
}

/// What the median is to be, or its ratio to the other's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Self::RatioAtMost(limit) => format!("≤ {limit}"),
            Self::RatioAtLeast(limit) => format!("≥ {limit}"),
            Self::AtMost(limit) => format!("≤ {limit} {unit}"),
            Self::AtLeast(limit) => format!("≥ {limit} {unit}"),
        }
    }

    /// Nobody knows where the other was not measured.
    fn is_met(self, median: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::RatioAtMost(limit) => ratio.map(|ratio| ratio <= limit),
            Self::RatioAtLeast(limit) => ratio.map(|ratio| ratio >= limit),
            Self::AtMost(limit) => Some(median <= limit),
            Self::AtLeast(limit) => Some(median >= limit),
        }
    }
}

impl Table {
    fn text(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.how);
        text.push_str("| | what | who | minimum / **median** / maximum | ratio | target | met |\n");
        text.push_str("|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let Row { number, what, unit, who, samples, goal, .. } = row;
            let (peer, median) = (self.peer_of(row), samples.median());
            let ratio = peer.map(|peer| median / peer.samples.median());
            let shown = ratio.zip(peer).map(|(ratio, peer)| format!("{} of {}", figure(ratio), peer.who));
            let target = goal.map(|goal| goal.text(unit));
            let met = goal.and_then(|goal| goal.is_met(median, ratio));
            let _ = writeln!(
                text,
                "| {number} | {what} | {who} | {} {unit} | {} | {} | {} |",
                samples.spread(),
                shown.unwrap_or_default(),
                target.unwrap_or_default(),
                met.map_or("", |met| if met { "yes" } else { "**no**" })
            );
        }
        text
    }

    /// The same row of the one it is held against, where that was measured.
    fn peer_of(&self, row: &Row) -> Option<&Row> {
        let peer = row.against.as_ref()?;
        let same = |other: &&Row| other.who == *peer && other.what == row.what && other.number == row.number;
        self.rows.iter().find(same)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(who: &str, figure: f64, against: Option<&str>, goal: Option<Goal>) -> Row {
        let mut samples = Samples::default();
        samples.push(figure);
        let against = against.map(str::to_owned);
        Row { number: "P1", what: "push".to_owned(), unit: "s", who: who.to_owned(), samples, against, goal }
    }

    fn met(goal: Goal, ours: f64, peer: Option<f64>) -> String {
        let mut rows = vec![row("this", ours, Some("other"), Some(goal))];
        rows.extend(peer.map(|peer| row("other", peer, None, None)));
        let text = Table { title: String::new(), how: String::new(), rows }.text();
        let line = text.lines().find(|line| line.contains("| this |")).unwrap().to_owned();
        line.split(" | ").skip(4).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_target_is_met_or_not_or_nobody_knows() {
        assert_eq!(met(Goal::RatioAtMost(0.5), 4.0, Some(8.0)), "0.50 of other, ≤ 0.5, yes |");
        assert_eq!(met(Goal::RatioAtMost(0.5), 4.1, Some(8.0)), "0.51 of other, ≤ 0.5, **no** |");
        assert_eq!(met(Goal::RatioAtLeast(0.8), 4.0, Some(8.0)), "0.50 of other, ≥ 0.8, **no** |");
        assert_eq!(met(Goal::RatioAtLeast(0.8), 4.0, None), ", ≥ 0.8,  |");
        assert_eq!(met(Goal::AtMost(5.0), 4.0, None), ", ≤ 5 s, yes |");
        assert_eq!(met(Goal::AtLeast(5.0), 4.0, Some(8.0)), "0.50 of other, ≥ 5 s, **no** |");
    }
}
