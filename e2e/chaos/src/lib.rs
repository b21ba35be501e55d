//! The promise of docs/gc.md on the real thing, under fire.
//!
//! Clients push, pin, read and collect at two real servers, which are killed with SIGKILL and started again. Between
//! the servers, PostgreSQL and S3 stand ways that fail ([`proxy`]). A judge on a straight way compares what clients
//! were told, rows and bucket, all the time and at the end ([`judge`]). docs/chaos.md says what is judged and found.

pub mod actors;
pub mod dice;
pub mod history;
pub mod judge;
pub mod mutants;
pub mod nix;
pub mod place;
pub mod plan;
pub mod proxy;
pub mod push;
pub mod run;
pub mod servers;
pub mod universe;
pub mod world;
