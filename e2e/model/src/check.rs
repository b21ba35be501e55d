//! Going through all states.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use crate::size::Size;
use crate::step::Step;

/// What the checker found.
#[derive(Debug)]
pub struct Verdict {
    /// Different states.
    pub states: usize,
    /// Steps to the farthest of them.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// What should always hold and does not, and how it came to that.
    pub broken: Vec<(&'static str, Vec<Step>)>,
    /// What should happen and never did.
    pub never: Vec<&'static str>,
}

/// Goes through all states of a size; or, where a property is named, only until that one is broken. With one
/// thread the history is a shortest one.
pub fn check(size: Size, until: Option<&'static str>, threads: usize) -> Verdict {
    let start = Instant::now();
    let finish = until.map_or(HasDiscoveries::All, |name| HasDiscoveries::AllOf([name].into()));
    let checker = size.checker().threads(threads).finish_when(finish).spawn_bfs().join();
    let mut verdict = Verdict {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        time: start.elapsed(),
        broken: Vec::new(),
        never: Vec::new(),
    };
    for property in size.properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => verdict.never.push(property.name),
            (Expectation::Always, Some(path)) => verdict.broken.push((property.name, path.into_actions())),
            _ => {}
        }
    }
    verdict
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, depth, time, .. } = self;
        write!(f, "{states} states, {depth} steps deep, {:.1} s", time.as_secs_f64())
    }
}
