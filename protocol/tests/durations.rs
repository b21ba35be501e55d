//! Durations beside what Go reads and writes.

use std::time::Duration;

use niks3_protocol::duration::GoDuration;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_written_reads_back_to_the_millisecond(millis in 0_u64..9_000_000_000_000) {
        let duration = GoDuration(Duration::from_millis(millis));
        let read: GoDuration = duration.to_string().parse().unwrap();
        let apart = read.0.abs_diff(duration.0);
        prop_assert!(apart < Duration::from_millis(1), "{duration}: {apart:?}");
    }

    #[test]
    fn nothing_makes_the_reader_panic(text in "[-+]?([0-9.]{0,25}(h|m|s|ms|us|µs|ns|d|x|)){0,5}") {
        if let Ok(duration) = text.parse::<GoDuration>() {
            prop_assert!(!text.starts_with('-') || duration.0.is_zero());
        }
    }
}
