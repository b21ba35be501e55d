//! `niks3-chaos run | replay | mutants`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program says what it found")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use niks3_chaos::history::History;
use niks3_chaos::mutants::MUTANTS;
use niks3_chaos::place::{Place, Services};
use niks3_chaos::plan::Plan;
use niks3_chaos::run::{Report, run};
use niks3_protocol::duration::GoDuration;

/// Pushes, collections, crashes and a failing network at a real niks3, and a judge. Run it inside e2e/services.
#[derive(Debug, Parser)]
#[command(name = "niks3-chaos", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run with a seed, another each time where none is given.
    Run(RunArguments),
    /// Run what a history tells of once more: the same choices and faults, though not the same instants.
    Replay {
        /// The history of a run.
        history: PathBuf,
        #[command(flatten)]
        with: With,
    },
    /// Build the server with one rule of docs/gc.md switched off, and see that this is caught.
    Mutants {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// How long each may take to be caught.
        #[arg(long, default_value = "10m")]
        within: GoDuration,
        /// Folder to build in.
        #[arg(long)]
        folder: PathBuf,
        #[command(flatten)]
        services: Services,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Every choice follows from it.
    #[arg(long)]
    seed: Option<u64>,
    /// How long, as in 90s or 1h.
    #[arg(long, default_value = "90s")]
    duration: GoDuration,
    #[command(flatten)]
    with: With,
}

#[derive(Debug, Args)]
struct With {
    /// The server's program; the one beside this program where it is left out.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Folder for the history and the servers' logs; kept where a promise is broken.
    #[arg(long)]
    folder: Option<PathBuf>,
    #[command(flatten)]
    services: Services,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match start(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("niks3-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (plan, with) = match arguments.command {
        Command::Run(given) => (plan(given.seed, given.duration)?, given.with),
        Command::Replay { history, with } => (History::plan_of(&history)?, with),
        Command::Mutants { only, within, folder, services } => {
            return runtime.block_on(catch(only.as_deref(), within, &folder, &services));
        }
    };
    let beside = std::env::current_exe()?.with_file_name("niks3-server");
    let program = with.server.unwrap_or(beside);
    anyhow::ensure!(program.exists(), "{} is not there; cargo build -p niks3-server", program.display());
    let folder = match with.folder {
        Some(folder) => folder,
        None => tempfile::Builder::new().prefix("niks3-chaos-").tempdir()?.keep(),
    };
    println!("niks3-chaos: {}", serde_json::to_string(&plan)?);
    let report = runtime.block_on(run(&plan, &program, &with.services, &folder))?;
    Ok(tell(&report, &folder))
}

fn plan(seed: Option<u64>, duration: GoDuration) -> anyhow::Result<Plan> {
    let seed = match seed {
        Some(seed) => seed,
        None => u64::from(getrandom::u32().context("no random seed")?),
    };
    Ok(Plan {
        seed,
        seconds: duration.0.as_secs().max(1),
        paths: 50,
        pushers: 12,
        slow_pushers: 1,
        collectors: 3,
        readers: 2,
        kills: true,
        request_seconds: 1,
    })
}

/// Builds and runs each mutant until it is caught.
async fn catch(
    only: Option<&str>,
    within: GoDuration,
    folder: &Path,
    services: &Services,
) -> anyhow::Result<ExitCode> {
    let place = Place::create(services).await?;
    niks3_server::db::migrations::run(&place.db, None).await?;
    let mut survivors = Vec::new();
    for mutant in MUTANTS.iter().filter(|mutant| only.is_none_or(|only| mutant.name == only)) {
        println!("{}: without rule {}", mutant.name, mutant.rule);
        let program = mutant.build(folder, &place.database_at(&place.database)).await?;
        let plan = plan(None, within)?;
        let report = run(&plan, &program, services, &folder.join(format!("run-{}", mutant.name))).await?;
        match report.broken.first() {
            Some(broken) if !report.time_broke() => {
                println!(
                    "    caught after {:.0} s (seed {}): {broken}",
                    report.took.as_secs_f64(),
                    plan.seed
                );
            }
            _ => {
                println!("    NOT caught in {within} (seed {})", plan.seed);
                survivors.push(mutant.name);
            }
        }
    }
    if survivors.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not caught: {}", survivors.join(", "));
    Ok(ExitCode::FAILURE)
}

/// 0: all promises held. 1: one did not. 3: it proves nothing.
fn tell(report: &Report, folder: &Path) -> ExitCode {
    println!("{:.0} s:", report.took.as_secs_f64());
    for (what, count) in &report.counts {
        println!("{count:>8}  {what}");
    }
    let shown = |path: &Path| path.display().to_string();
    if report.time_broke() {
        eprintln!(
            "T was exceeded: this machine was too busy for the run to prove anything ({})",
            shown(folder)
        );
        return ExitCode::from(3);
    }
    if !report.broken.is_empty() {
        for broken in &report.broken {
            eprintln!("BROKEN: {broken}");
        }
        eprintln!("history: {}\nonce more: niks3-chaos replay {0}", shown(&report.history));
        return ExitCode::FAILURE;
    }
    if !report.too_little.is_empty() {
        eprintln!("too little happened to prove anything: {}", report.too_little.join(", "));
        return ExitCode::from(3);
    }
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("{}: {error}", shown(folder));
    }
    println!("every promise held");
    ExitCode::SUCCESS
}
