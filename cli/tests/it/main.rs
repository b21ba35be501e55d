//! The real program against a real server on a real socket, with real PostgreSQL, real S3 and real Nix:
//! `e2e/services cargo test -p niks3-cli`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

mod bad_input;
mod bound;
mod certificates;
mod counts;
mod doctor;
mod encryption;
mod explain;
mod failures;
mod fsck;
mod gc;
mod help;
mod hook;
mod identity;
mod limits;
mod network;
mod older_servers;
mod output;
mod pins;
mod private;
mod push;
mod resume;
mod servers;
mod set_up;
