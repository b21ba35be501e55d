//! `make bench`: starts servers on a database and a bucket of their own each, takes every figure side by side with
//! its peers, round by round in one run, and writes docs/benchmarks.md.

#![expect(clippy::cast_precision_loss, reason = "figures have three digits")]

mod calls;
mod collections;
mod machine;
mod nginx;
mod push;
mod reads;
mod report;
mod samples;
mod server;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use report::Table;
use server::{Program, Services};

/// Takes the figures. Run it as `e2e/services cargo run --release -p niks3-bench`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(flatten)]
    services: Services,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What is taken: push, calls, reads and collections.
    #[arg(long, value_delimiter = ',', default_value = "push,calls,reads,collections")]
    only: Vec<String>,
    /// Objects of other pushes that each server's database has before its calls are measured.
    #[arg(long, default_value_t = 0)]
    others: u64,
    /// Where our niks3 and niks3-server are.
    #[arg(long, env = "NIKS3_BENCH_PROGRAMS", default_value = "target/release")]
    programs: PathBuf,
    /// Where niks3 and niks3-server of niks3 1.7 are; without it only ours are measured.
    #[arg(long, env = "NIKS3_BENCH_PEER")]
    peer: Option<PathBuf>,
    /// A file with the roots of the closure to push, one store path a line.
    #[arg(long, env = "NIKS3_BENCH_ROOTS")]
    roots: PathBuf,
    /// Where to write the figures; without it they go to stdout.
    #[arg(long)]
    write: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let mut programs = vec![Program { name: "this", folder: args.programs.clone() }];
    programs.extend(args.peer.clone().map(|folder| Program { name: "niks3 1.7", folder }));
    let roots = push::Closure::read(&args.roots).await?;
    let mut tables: Vec<Table> = Vec::new();
    for what in &args.only {
        tables.extend(match what.as_str() {
            "push" => push::measure(&args, &programs, &roots).await?,
            "calls" => calls::measure(&args, &programs).await?,
            "reads" => reads::measure(&args, &programs).await?,
            "collections" => collections::measure(&args).await?,
            other => anyhow::bail!("--only {other}: there are push, calls, reads and collections"),
        });
    }
    let machine = machine::describe(&args, &roots).await?;
    match &args.write {
        Some(path) => {
            let what = || format!("{}", path.display());
            let page = std::fs::read_to_string(path).with_context(what)?;
            std::fs::write(path, report::document(&page, &args, &machine, &tables)).with_context(what)?;
        }
        None => report::print(&report::document("", &args, &machine, &tables)),
    }
    Ok(())
}
