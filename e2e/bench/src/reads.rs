//! P8 and P9: narinfos and NARs through the server, beside nginx.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::Args;
use crate::nginx::Nginx;
use crate::push::Closure;
use crate::report::{Goal, Row, Table, say};
use crate::samples::Samples;
use crate::server::{Program, Server, run};

/// Bytes of the NARs that are read, which do not compress.
const NARS: [(usize, &str); 2] = [(169_000, "169 kB"), (20_000_000, "20 MB")];
/// Seconds that one figure is taken for.
const SECONDS: u32 = 3;

#[derive(Debug, Default)]
struct Figures {
    narinfos: Samples,
    /// The narinfo as an object of S3, for who only passes on.
    passed_on: Samples,
    nars: [Samples; NARS.len()],
}

pub(crate) async fn measure(args: &Args, programs: &[Program]) -> anyhow::Result<Vec<Table>> {
    let folder = tempfile::tempdir()?;
    let mut roots = Vec::new();
    for (size, _) in NARS {
        let file = folder.path().join(format!("niks3-bench-{size}"));
        std::fs::write(&file, noise(size))?;
        roots.push(run(Command::new("nix-store").arg("--add").arg(&file)).await?.trim().to_owned());
    }
    let closure = Closure { paths: roots.clone(), roots, bytes: 0 };
    let mut figures: Vec<Figures> = programs.iter().map(|_| Figures::default()).collect();
    let mut nginx = Figures::default();
    for round in 1..=args.rounds {
        for (number, (program, figures)) in programs.iter().zip(&mut figures).enumerate() {
            let peer = (number == 0).then_some(&mut nginx);
            one(args, program, &closure, figures, peer)
                .await
                .with_context(|| format!("on {}", program.name))?;
            let narinfos = figures.narinfos.spread();
            say(&format!("reads {round}/{}: {}: narinfos {narinfos}/s", args.rounds, program.name));
        }
    }
    Ok(vec![table(programs, &figures, &nginx)])
}

/// A server that has the paths; beside the first one, what nginx makes of the same narinfo and the same objects.
async fn one(
    args: &Args,
    program: &Program,
    closure: &Closure,
    figures: &mut Figures,
    nginx: Option<&mut Figures>,
) -> anyhow::Result<()> {
    let server = Server::start(program, &args.services).await?;
    let pushed = server.client(program).arg("push").args(&closure.roots).status().await?;
    ensure!(pushed.success(), "the push ended with {pushed}");
    let mut nars = Vec::new();
    let mut narinfo = String::new();
    for root in &closure.roots {
        let hash = root.trim_start_matches("/nix/store/").get(..32).context("no store path")?;
        narinfo = format!("{}/{hash}.narinfo", server.url);
        let text = server.http.get(&narinfo).send().await?.error_for_status()?.text().await?;
        let url =
            text.lines().find_map(|line| line.strip_prefix("URL: ")).context("a narinfo without URL")?;
        nars.push(url.to_owned());
    }
    figures.narinfos.push(rate(&narinfo, 16).await?);
    for (nar, samples) in nars.iter().zip(&mut figures.nars) {
        samples.push(throughput(&server, &format!("{}/{nar}", server.url)).await?);
    }
    if let Some(figures) = nginx {
        let text = server.http.get(&narinfo).send().await?.bytes().await?;
        let addresses =
            args.services.bucket(&server.bucket).await?.presigner(Duration::from_hours(1)).await?;
        let key = narinfo.trim_start_matches(&server.url).trim_start_matches('/').to_owned();
        let objects = nars
            .iter()
            .chain([&key])
            .map(|key| addresses.read("GET", key).replacen(&args.services.s3_endpoint, "", 1))
            .collect::<Vec<_>>();
        let nginx = Nginx::start(&text, args.services.s3_host(), &objects).await?;
        figures.narinfos.push(rate(&format!("{}/file", nginx.url), 16).await?);
        figures.passed_on.push(rate(&format!("{}/objects/{}", nginx.url, nars.len()), 16).await?);
        for (number, samples) in figures.nars.iter_mut().enumerate() {
            samples.push(throughput(&server, &format!("{}/objects/{number}", nginx.url)).await?);
        }
        nginx.stop().await?;
    }
    server.stop().await
}

/// Answers a second.
async fn rate(url: &str, connections: u32) -> anyhow::Result<f64> {
    let (threads, connections) = ("-t1", format!("-c{connections}"));
    let mut wrk = Command::new("wrk");
    let said = run(wrk.args([threads, &connections, &format!("-d{SECONDS}s"), url])).await?;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{url}: {said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk said {said}"))
}

/// MB a second on one connection.
async fn throughput(server: &Server, url: &str) -> anyhow::Result<f64> {
    let size = server.http.get(url).send().await?.error_for_status()?.bytes().await?.len();
    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    let megabytes = size as f64 / 1e6;
    Ok(rate(url, 1).await? * megabytes)
}

/// Bytes that do not compress, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(count).collect()
}

fn table(programs: &[Program], figures: &[Figures], nginx: &Figures) -> Table {
    let mut rows = Vec::new();
    let mut add = |number, what: String, unit, samples: &dyn Fn(&Figures) -> Samples, peer: &str, goal| {
        let whose = programs.iter().map(|program| program.name).zip(figures);
        for (who, figures) in whose.chain([(peer, nginx)]) {
            rows.push(Row {
                number,
                what: what.clone(),
                unit,
                who: who.to_owned(),
                samples: samples(figures),
                against: (who != peer).then(|| peer.to_owned()),
                goal: (who == "this").then_some(goal),
            });
        }
    };
    let proxy = "nginx, `proxy_pass`";
    let narinfos = |figures: &Figures| figures.narinfos.clone();
    let goal = Goal::RatioAtLeast(0.5);
    add("P8", "a narinfo, 16 connections".to_owned(), "/s", &narinfos, "nginx, static file", goal);
    for (number, (_, size)) in NARS.iter().enumerate() {
        let what = format!("a NAR of {size}, 1 connection");
        let nars = move |figures: &Figures| figures.nars[number].clone();
        add("P9", what, "MB/s", &nars, proxy, Goal::RatioAtLeast(0.8));
    }
    let passed_on = Row {
        number: "P8",
        what: rows[0].what.clone(),
        unit: "/s",
        who: proxy.to_owned(),
        samples: nginx.passed_on.clone(),
        against: None,
        goal: None,
    };
    rows.insert(programs.len() + 1, passed_on);
    let how = format!(
        "One object read again and again for {SECONDS} seconds by `wrk -t1`: a narinfo through the server, and as a file \
         by nginx; a NAR through the server. By `proxy_pass` nginx passes on the same object of the same S3 by a presigned \
         address, connections to S3 kept."
    );
    Table { title: "Reading".to_owned(), how, rows }
}
