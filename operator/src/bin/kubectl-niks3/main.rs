//! `kubectl niks3`: looks after binary caches, with the rights of whoever calls it. It speaks to the API server
//! alone; what it changes are fields and annotations that `kubectl` could change as well.

mod args;
mod cluster;
mod gc;
mod job;
mod migrate;
mod report;
mod rotate;
mod screen;
mod status;
mod table;
mod use_cache;
mod why;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Args, Command};
use crate::cluster::Cluster;

fn main() -> ExitCode {
    // First: two TLS providers in one program make rustls panic.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    if let Command::Completions { shell } = args.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "kubectl-niks3", &mut text);
        return print(&String::from_utf8_lossy(&text));
    }
    let cluster = Cluster::connect(&args.cluster).await?;
    match args.command {
        Command::Status { cache } => print(&status::run(&cluster, cache.as_deref()).await?),
        Command::Use { cache } => print(&use_cache::run(&cluster, cache.as_deref()).await?),
        Command::Gc(args) => print(&gc::run(&cluster, &args).await?),
        Command::Rotate(args) => print(&rotate::run(&cluster, &args).await?),
        Command::Why(args) => print(&why::run(&cluster, &args).await?),
        Command::Migrate { cache } => print(&migrate::run(&cluster, cache.as_deref()).await?),
        Command::Report(args) => print(&Box::pin(report::run(&cluster, &args)).await?),
        Command::Completions { .. } => Ok(()),
    }
}

/// To standard output. Who reads only the beginning has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// To standard error; what cannot be said there cannot be said.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("error: {error:#}"));
    ExitCode::FAILURE
}
