//! The product on a real cluster: one story, told by `make demo` and asserted by `make test`.

use std::path::PathBuf;

pub mod cluster;
pub mod jobs;
pub mod story;
pub mod teller;

/// The project's tree.
pub fn root() -> std::io::Result<PathBuf> {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()
}
