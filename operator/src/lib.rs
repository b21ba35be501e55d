//! Reconciles `BinaryCache` and `GCPolicy`. Each reconciler has five steps in modules of these names: `observe`
//! reads, `validate` judges (pure), `build` makes the children (pure), `apply` writes them, `report` writes the
//! status.

pub mod admin;
pub mod apply;
pub mod args;
pub mod asked;
pub mod cache;
pub mod context;
pub mod controllers;
pub mod crd;
pub mod foreign;
pub mod known;
pub mod labels;
pub mod lease;
pub mod metrics;
pub mod ownership;
pub mod policy;
pub mod quantity;
pub mod reference;
pub mod rollouts;
pub mod run;
pub mod scaled;
pub mod scope;
pub mod self_test;
pub mod settled;
pub mod shutdown;
pub mod status;
pub mod sweeper;
pub mod telemetry;
pub mod unreadable;
pub mod watches;
