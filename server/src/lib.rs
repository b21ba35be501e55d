//! The server of a Nix binary cache on S3.
//!
//! The way of a request: [`router`] (routes, layers) → `http::*` (extract, authorise, one call, answer) →
//! [`push`], [`pins`], [`closures`] or [`gc`] (the rules, and what is one transaction) → [`db`] and [`bucket`],
//! which know nothing of each other. Every failure gets its status in [`error`].

pub mod app;
pub mod args;
pub mod auth;
pub mod bucket;
pub mod closures;
pub mod db;
pub mod error;
pub mod fsck;
pub mod gc;
pub mod http;
pub mod json;
pub mod layers;
pub mod listen;
pub mod metrics;
pub mod openapi;
pub mod parallel;
pub mod pins;
pub mod push;
pub mod rates;
pub mod reads;
pub mod recent;
pub mod resign;
pub mod router;
pub mod runs;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod signer;
pub mod stats;
pub mod storage;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod watched;
pub mod writing;
