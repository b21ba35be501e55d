//! What the processes of niks3 agree on, and nothing else.
//!
//! | part | between |
//! |---|---|
//! | [`api`] | client and server: the bodies of the HTTP calls |
//! | [`object_key`] | client, server and Nix: the keys of the bucket |
//! | [`nix`] | server and Nix: store paths, hashes, narinfo, signatures |
//! | [`server_config`] | operator and server: the file one renders and the other loads |
//! | [`duration`] | all: Go-style durations |
//!
//! A type belongs here only if two of our processes, or one of ours and Nix, must agree on it.
//! This crate does no I/O and knows no clock.

#![warn(missing_docs)]

pub mod api;
pub mod duration;
pub mod nix;
pub mod object_key;
#[cfg(feature = "schema")]
pub mod schema;
pub mod server_config;
