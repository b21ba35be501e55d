//! P1, P2 and P10: a closure pushed cold and again, and what client and server take for it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::Args;
use crate::report::{Goal, Row, Table, say};
use crate::samples::Samples;
use crate::server::{Program, Server, memory, run, ticks};

/// Small paths of one closure.
const MANY: u32 = 3000;

/// What is pushed.
#[derive(Debug)]
pub(crate) struct Closure {
    pub(crate) roots: Vec<String>,
    pub(crate) paths: Vec<String>,
    /// Of all NARs.
    pub(crate) bytes: u64,
}

impl Closure {
    /// Of the roots in a file; its files are read once, so that the first push reads them from memory as well.
    pub(crate) async fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let roots: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let requisites =
            run(Command::new("nix-store").args(["--query", "--requisites"]).args(&roots)).await?;
        let paths: Vec<String> = requisites.lines().map(str::to_owned).collect();
        let sizes = run(Command::new("nix-store").args(["--query", "--size"]).args(&paths)).await?;
        let bytes = sizes.lines().map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Self { roots, paths, bytes })
    }
}

/// The figures of one pair of programs.
#[derive(Debug, Default)]
struct Figures {
    cold: Samples,
    cached: Samples,
    cpu: Samples,
    /// Of everything that took part.
    all: Samples,
    client: Samples,
    stored: Samples,
    ready: Samples,
    idle: Samples,
    peak: Samples,
    giant: Samples,
    many: Samples,
    many_cpu: Samples,
}

pub(crate) async fn measure(
    args: &Args,
    programs: &[Program],
    closure: &Closure,
) -> anyhow::Result<Vec<Table>> {
    let mut figures: Vec<Figures> = programs.iter().map(|_| Figures::default()).collect();
    let mut floor = Samples::default();
    let nars = tempfile::NamedTempFile::new()?;
    for path in &closure.paths {
        let dump =
            Command::new("nix-store").args(["--dump", path]).stdout(nars.reopen_at_end()?).status().await?;
        ensure!(dump.success(), "nix-store --dump {path}");
    }
    let (giant, many) = (giant().await?, many().await?);
    for round in 1..=args.rounds {
        for (program, figures) in programs.iter().zip(&mut figures) {
            one(args, program, closure, (&giant, &many), figures).await?;
            say(&format!("push {round}/{}: {}: cold {} s", args.rounds, program.name, figures.cold.spread()));
        }
        let begun = Instant::now();
        run(Command::new("zstd").args(["-T2", "-3", "-q", "-c"]).arg(nars.path()).stdout(Stdio::null()))
            .await?;
        floor.push(begun.elapsed().as_secs_f64());
    }
    Ok(vec![table(programs, &figures, &floor)])
}

/// Opens a file that is written to by one process after another.
trait ReopenAtEnd {
    fn reopen_at_end(&self) -> std::io::Result<std::fs::File>;
}

impl ReopenAtEnd for tempfile::NamedTempFile {
    fn reopen_at_end(&self) -> std::io::Result<std::fs::File> {
        std::fs::File::options().append(true).open(self.path())
    }
}

/// One path of 1 GiB, and what else `e2e/closure` makes.
async fn giant() -> anyhow::Result<Closure> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../closure/closure");
    let root =
        run(Command::new(program).args(["--variant", "giant", "--mib", "1024", "--parts", "1"])).await?;
    of_root(&root).await
}

/// Small paths, each of which refers to two others.
async fn many() -> anyhow::Result<Closure> {
    let expression = concat!(env!("CARGO_MANIFEST_DIR"), "/../closure/many.nix");
    let mut eval = Command::new("nix-instantiate");
    eval.args(["--eval", "--read-write-mode", expression, "--arg", "count", &MANY.to_string()]);
    of_root(run(&mut eval).await?.trim().trim_matches('"')).await
}

async fn of_root(root: &str) -> anyhow::Result<Closure> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), root)?;
    Closure::read(file.path()).await
}

async fn one(
    args: &Args,
    program: &Program,
    closure: &Closure,
    (giant, many): (&Closure, &Closure),
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let server = Server::start(program, &args.services).await?;
    figures.ready.push_ms(server.ready);
    tokio::time::sleep(Duration::from_secs(1)).await;
    figures.idle.push(server.memory("VmRSS"));
    let (before, others_before) = (children_cpu()?, args.services.cpu()? + server.cpu()?);
    let (cold, client) = push(&server, program, closure).await?;
    let client_cpu = children_cpu()? - before;
    figures.cpu.push(client_cpu);
    figures.all.push(client_cpu + args.services.cpu()? + server.cpu()? - others_before);
    figures.cold.push(cold.as_secs_f64());
    figures.client.push(client);
    figures.peak.push(server.memory("VmHWM"));
    let (cached, _) = push(&server, program, closure).await?;
    figures.cached.push_ms(cached);
    let listed = args.services.s3("GET", &format!("{}?list-type=2", server.bucket)).await?;
    let sizes = listed.split("<Size>").skip(1).filter_map(|rest| rest.split('<').next());
    let stored = sizes.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    figures.stored.push(stored / 1e6);
    figures.giant.push(push(&server, program, giant).await?.1);
    let before = children_cpu()?;
    figures.many.push(push(&server, program, many).await?.0.as_secs_f64());
    figures.many_cpu.push(children_cpu()? - before);
    server.stop().await
}

/// Pushes; gives the time, and the most memory the client had, in MiB.
async fn push(server: &Server, program: &Program, closure: &Closure) -> anyhow::Result<(Duration, f64)> {
    let begun = Instant::now();
    let mut child = server.client(program).arg("push").args(&closure.roots).stderr(Stdio::piped()).spawn()?;
    let id = child.id().context("no process")?;
    let mut stderr = child.stderr.take().context("no stderr")?;
    let said = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    let mut most = 0.0_f64;
    let status = loop {
        // The kernel keeps the maximum: the last look before the end shows it.
        most = most.max(memory(id, "VmHWM").unwrap_or_default());
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(5), child.wait()).await {
            break status?;
        }
    };
    let took = begun.elapsed();
    ensure!(status.success(), "{} push: {status}: {}", program.name, said.await??);
    Ok((took, most))
}

/// Seconds that programs which were started here and have ended spent on the cores. A busy machine changes them less
/// than the time that passed.
fn children_cpu() -> anyhow::Result<f64> {
    ticks("self", 13)
}

fn table(programs: &[Program], figures: &[Figures], floor: &Samples) -> Table {
    const LIMIT: Option<Goal> = Some(Goal::AtMost(200.0));
    const HALF: Option<Goal> = Some(Goal::RatioAtMost(0.5));
    type Figure = fn(&Figures) -> &Samples;
    let rows: [(&str, &str, &str, Figure, Option<Goal>); 12] = [
        ("P1", "cold push", "s", |figures| &figures.cold, HALF),
        ("P1", "the client's time on the cores", "s", |figures| &figures.cpu, HALF),
        ("P1", "the same of all: client, server, PostgreSQL, S3", "s", |figures| &figures.all, None),
        ("P1", "bytes stored", "MB", |figures| &figures.stored, Some(Goal::RatioAtMost(1.0))),
        ("P1", "the client's most memory", "MiB", |figures| &figures.client, LIMIT),
        ("P1", "the same, one file of 1 GiB", "MiB", |figures| &figures.giant, LIMIT),
        ("", "cold push of 3 000 small paths", "s", |figures| &figures.many, None),
        ("", "the client's time on the cores for these", "s", |figures| &figures.many_cpu, None),
        ("P2", "the same push again", "ms", |figures| &figures.cached, HALF),
        ("P10", "server: start to ready", "ms", |figures| &figures.ready, Some(Goal::AtMost(100.0))),
        ("P10", "server: memory idle", "MiB", |figures| &figures.idle, Some(Goal::AtMost(15.0))),
        (
            "P10",
            "server: most memory while P1 runs",
            "MiB",
            |figures| &figures.peak,
            Some(Goal::AtMost(40.0)),
        ),
    ];
    let mut all = Vec::new();
    for (number, what, unit, figure, goal) in rows {
        all.extend(Row::of_each((number, what, unit), programs, figures, figure, goal));
        if what == "cold push" {
            all.push(Row {
                number,
                what: what.to_owned(),
                unit,
                who: "`zstd -T2 -3` of the NARs as one file".to_owned(),
                samples: floor.clone(),
                against: None,
                goal: None,
            });
        }
    }
    let how = "`niks3 push ROOT…` of the closure to an empty cache, then again. Each client with its own server; S3 and \
               PostgreSQL keep their files in memory. The small paths come from `e2e/closure/many.nix`.";
    Table { title: "Pushing".to_owned(), how: how.to_owned(), rows: all }
}
