//! Says what happens while it happens.

#![expect(clippy::print_stdout, reason = "this is what the demo is for")]

use std::cell::{Cell, RefCell};
use std::time::Instant;

/// Says what happens while it happens, and how long it takes.
#[derive(Debug)]
pub struct Teller {
    begun: Instant,
    step: Cell<Option<Instant>>,
    steps: Cell<u8>,
    not_shown: RefCell<Vec<String>>,
}

impl Default for Teller {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            step: Cell::new(None),
            steps: Cell::new(0),
            not_shown: RefCell::default(),
        }
    }
}

impl Teller {
    /// At the beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next step of the story.
    pub fn step(&self, title: &str) {
        self.end_step();
        let number = self.steps.get() + 1;
        self.steps.set(number);
        self.step.set(Some(Instant::now()));
        println!("\n\u{2501}\u{2501} {number}. {title}");
    }

    /// A command as a user would type it.
    pub fn command(&self, line: &str) {
        println!("\n   $ {line}");
    }

    /// What a command said.
    pub fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("   {line}");
        }
    }

    /// What was found to be true.
    pub fn holds(&self, fact: &str) {
        println!("   \u{2713} {fact}");
    }

    /// What this cluster cannot show. It is said at the end once more.
    pub fn not_shown(&self, what: &str) {
        println!("   ! NOT SHOWN HERE: {what}");
        self.not_shown.borrow_mut().push(what.to_owned());
    }

    /// The end of the story.
    pub fn end(&self) {
        self.end_step();
        for what in self.not_shown.borrow().iter() {
            println!("\n! NOT SHOWN HERE: {what}");
        }
        println!("\nAll of it holds. {:.0} s.", self.begun.elapsed().as_secs_f64());
    }

    /// The story cannot go on.
    pub fn broke_off(&self, error: &anyhow::Error) {
        println!("\n   \u{2717} {error:#}");
    }

    fn end_step(&self) {
        if let Some(begun) = self.step.take() {
            println!("   {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
}
