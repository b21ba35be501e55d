//! One run, from an empty database and bucket to the last judgement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::history::History;
use crate::place::{Place, Services};
use crate::plan::Plan;
use crate::proxy::{Kind, Way};
use crate::servers::{Server, Settings};
use crate::world::World;
use crate::{actors, judge};

/// Servers of one cache.
const REPLICAS: usize = 2;

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// The promises that were broken: none, where all is well.
    pub broken: Vec<String>,
    /// What it lacks to prove anything; empty where it proves something.
    pub too_little: Vec<String>,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
    /// Everything that happened.
    pub history: PathBuf,
    /// How long it took until it was judged, or until a promise was broken.
    pub took: Duration,
}

impl Report {
    /// The machine was too busy for T to hold: what was found proves nothing.
    pub fn time_broke(&self) -> bool {
        self.counts.contains_key("T broken")
    }
}

/// Runs a plan with a server's program; logs, keys and the history go to a folder.
pub async fn run(plan: &Plan, program: &Path, services: &Services, folder: &Path) -> anyhow::Result<Report> {
    std::fs::create_dir_all(folder)?;
    let history = Arc::new(History::create(&folder.join("history.jsonl"), plan)?);
    let place = Place::create(services).await?;
    let way = |kind, target| Way::open(kind, target, plan.seed, plan.latest(), Arc::clone(&history));
    let ways = [
        way(Kind::Postgres, place.database.as_str()).await?,
        way(Kind::S3, place.s3.as_str()).await?,
        way(Kind::Uploads, place.s3.as_str()).await?,
    ];
    let [database, s3, uploads] = &ways;
    let settings = Settings::new(program, folder, &place, [database, s3, uploads], plan.request_seconds);
    let public_key = settings.write_key()?;
    let servers: Vec<Server> =
        (0..REPLICAS).map(|_| Server::new(settings.clone())).collect::<Result<_, _>>()?;
    let (plan, started) = (plan.clone(), Instant::now());
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    for server in &servers {
        server.start().await?;
        server.wait_until_ready(&http).await?;
    }
    for way in &ways {
        way.set_calm(false);
    }
    let world = Arc::new(World::new(plan, place, ways, servers, public_key, Arc::clone(&history))?);

    let mut everybody = actors::start(&world);
    judge::watch(&world).await;
    while let Some(ended) = everybody.join_next().await {
        if let Err(error) = ended {
            world.break_promise("harness", &format!("somebody ended early: {error}"));
        }
    }
    let took = started.elapsed();
    if world.broken().is_empty()
        && let Err(error) = judge::end::judge(&world).await
    {
        world.break_promise("end", &format!("cannot judge: {error:#}"));
    }
    for server in &world.servers {
        server.kill().await?;
    }
    Ok(Report {
        broken: world.broken(),
        too_little: history.too_little(),
        counts: history.counts(),
        history: history.close(),
        took,
    })
}
