//! On what, and of which versions, the figures are.

use tokio::process::Command;

use crate::Args;
use crate::push::Closure;

/// A paragraph in Markdown.
pub(crate) async fn describe(args: &Args, closure: &Closure) -> anyhow::Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("a CPU");
    let cores = std::thread::available_parallelism()?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).unwrap_or_default().parse()?;
    let system = std::fs::read_to_string("/etc/os-release")?;
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let mut versions = Vec::new();
    for (program, arguments) in [
        (args.programs.join("niks3").display().to_string(), "--version"),
        ("nix".to_owned(), "--version"),
        ("psql".to_owned(), "--version"),
        ("zstd".to_owned(), "--version"),
        ("nginx".to_owned(), "-v"),
    ] {
        versions.extend(first_line(&program, arguments).await);
    }
    Ok(format!(
        "Machine: {cores} cores ({model}), {} GiB, {}; client, server, PostgreSQL (`fsync=off`) and S3 (versitygw, \
         POSIX backend) share it. Versions: {}. Closure: {} paths, {:.2} GB of NARs.",
        kib / 1024 / 1024,
        system.trim_matches('"'),
        versions.join("; "),
        closure.paths.len(),
        closure.bytes as f64 / 1e9,
    ))
}

async fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().await.ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim_matches(['*', ' ']).to_owned())
}
