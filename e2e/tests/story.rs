//! `make demo` tells the first ten steps of this: `cargo test -p niks3-e2e -- --nocapture` tells it whole.

use niks3_e2e::story::{Extent, tell};
use niks3_e2e::teller::Teller;

#[test]
fn the_story_holds() {
    if let Err(error) = tell(&Teller::new(), Extent::Whole) {
        panic!("{error:#}");
    }
}
