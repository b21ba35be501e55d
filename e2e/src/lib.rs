//! The product on a real cluster: one story, told by `make demo` and asserted by `make test`.

pub mod cluster;
pub mod jobs;
pub mod story;
pub mod teller;
