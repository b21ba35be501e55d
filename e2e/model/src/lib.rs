//! The protocol of docs/gc.md as a model that `stateright` goes through state by state.
//!
//! Names are those of the server: `push` is `server/src/push`, `collect` is `server/src/gc`, the fields of
//! [`State`] are tables and columns. A step is one transaction or one request to the bucket; between any two,
//! everybody else may do theirs, so a server that dies between two steps is one that takes no further step.

mod check;
mod collect;
mod keys;
mod promise;
mod push;
mod resign;
mod rule;
mod size;
mod state;
mod step;
mod write;

pub use check::{Verdict, check};
pub use keys::{KEYS, Keys};
pub use promise::{GOES, HAS_ROW, LIVE, NOT_MISSING, PROMISE, READER};
pub use resign::{Resigner, Work};
pub use rule::Rule;
pub use size::{A, D, Plan, Puts, Size, X};
pub use state::{Client, Collector, Delete, Phase, Row, State};
pub use step::Step;

use state::{CLIENTS, COLLECTORS};
use stateright::{Model, Property};

impl Model for Size {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            rows: [None; KEYS],
            bucket: [None; KEYS],
            outstanding: [0; KEYS],
            late_writes: [Keys::NONE; CLIENTS],
            late_resigns: [None; KEYS],
            resigner: Resigner { turns: self.resigns, losses: self.resign_losses, ..Resigner::default() },
            closures: Keys::NONE,
            clients: [Client::default(); CLIENTS],
            collectors: [Collector::default(); COLLECTORS],
        };
        for (client, (pushes, losses)) in
            state.clients.iter_mut().zip(self.pushes.into_iter().zip(self.losses))
        {
            (client.pushes, client.losses) = (pushes, losses);
        }
        for (index, collector) in state.collectors.iter_mut().enumerate() {
            (collector.marks, collector.crashes) = (self.marks[index], self.crashes[index]);
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend(Step::all().filter(|step| step.take(self, state).is_some()));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = step.take(self, state)?;
        Some(if self.symmetric { next.representative() } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promise::properties()
    }
}
