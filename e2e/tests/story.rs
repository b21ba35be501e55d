//! `make demo` and this are the same story: `cargo test -p niks3-e2e -- --nocapture` tells it.

use niks3_e2e::teller::Teller;

#[test]
fn the_story_holds() {
    if let Err(error) = niks3_e2e::story::tell(&Teller::new()) {
        panic!("{error:#}");
    }
}
