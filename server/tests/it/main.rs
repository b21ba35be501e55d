//! The real server on a real socket, against real PostgreSQL and real S3: `e2e/services cargo test -p niks3-server`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

mod abandoned;
mod adopt;
mod auth;
mod bound;
mod cancelled;
mod connections;
mod databases;
mod delete;
mod docs;
mod drain;
mod encryption;
mod fsck;
mod fsck_repair;
mod fsck_runs;
mod fsck_spares;
mod gc;
mod gc_races;
mod gc_trouble;
mod health;
mod hostile;
mod limits;
mod memory;
mod migrations;
mod monitoring;
mod moved;
mod multipart;
mod narinfos;
mod openapi;
mod pins;
mod provenance;
mod proxy;
mod push;
mod push_races;
mod reads;
mod realisations;
mod resign;
mod retention;
mod rights;
mod s3_ca;
mod s3_servers;
mod secrets;
mod session;
mod sign;
mod start;
mod storage;
mod systemd;
mod throttling;
mod tls;
mod traces;
mod variables;
mod verify;
mod web_identity;
