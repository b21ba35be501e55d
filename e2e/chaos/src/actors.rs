//! Who takes part: clients that push, pin and read, collectors, and what kills and cuts.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::judge::walk;
use crate::push::Push;
use crate::universe::Universe;
use crate::world::{GaveUp, Mood, World};

/// So many clients push while it is quiet.
const QUIET: usize = 2;
/// A run that is no longer believed in goes on for some seconds all the same: two at once are safe.
const FORGET: &str =
    "update gc_runs set state = 'failed', error = 'forgotten', finished_at = clock_timestamp()
    where state = 'running'";

/// Lets everybody loose. They end with the run.
pub fn start(world: &Arc<World>) -> JoinSet<()> {
    let mut all = JoinSet::new();
    let plan = &world.plan;
    let dice = |who: &str| Dice::new(plan.seed, who);
    for number in 0..plan.pushers + plan.slow_pushers {
        let slow = number >= plan.pushers;
        let who = format!("{} {number}", if slow { "slow pusher" } else { "pusher" });
        let (world, dice) = (Arc::clone(world), dice(&who));
        let (rests, leisure) = (number >= QUIET, if slow { 1500 } else { 0 });
        all.spawn(async move { push(&world, &who, dice, rests, leisure).await });
    }
    for number in 0..plan.collectors {
        let who = format!("collector {number}");
        let (world, dice) = (Arc::clone(world), dice(&who));
        all.spawn(async move { collect(&world, &who, dice).await });
    }
    for number in 0..plan.readers {
        let who = format!("reader {number}");
        let (world, dice) = (Arc::clone(world), dice(&who));
        all.spawn(async move { read(&world, &who, dice).await });
    }
    let (killed, killer) = (Arc::clone(world), dice("killer"));
    all.spawn(async move { kill(&killed, killer).await });
    let still = Arc::clone(world);
    all.spawn(async move { stand_still(&still).await });
    let (cutting, cutter) = (Arc::clone(world), dice("cutter"));
    all.spawn(async move { cut(&cutting, cutter).await });
    all
}

async fn push(world: &World, who: &str, mut dice: Dice, rests: bool, leisure: u64) {
    while world.going_on() {
        if rests && world.mood().is_quiet() {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        let (push, mut then) = (dice.branch(), dice.branch());
        if let Ok(root) = Push::new(world, who, push, leisure).run().await {
            let _ = pin(world, who, &mut then, root).await;
        }
        let rest = match world.mood() {
            Mood::Quiet => 800,
            // Mostly before the next collection, now and then after it.
            Mood::Still => dice.pick(&[1, 1, 400]),
            _ => 150,
        };
        dice.pause(rest).await;
    }
}

/// What follows a push: some roots are pinned for good, others now and then.
async fn pin(world: &World, who: &str, dice: &mut Dice, root: usize) -> Result<(), GaveUp> {
    let for_good = Universe::is_pinned(root);
    let moving = format!("/api/pins/moving-{}", dice.roll(4));
    let (method, path) = match dice.roll(4) {
        _ if for_good => (Method::POST, format!("/api/pins/for-good-{root}")),
        0 if !world.mood().is_quiet() => (Method::POST, moving),
        0 | 1 => (Method::DELETE, moving),
        _ => return Ok(()),
    };
    let body = json!({ "store_path": world.universe.paths[root].store_path });
    let body = (method == Method::POST).then_some(&body);
    let answer = world.insist(dice, method.clone(), &path, body).await?;
    let status = answer.status();
    world.history.note(who, &format!("{method} pin"), &json!([path, status.as_u16()]));
    // 404: a collection took the closure first, or there is no such pin.
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_FOUND {
        world.break_promise(who, &format!("{method} {path} was refused with {status}"));
    }
    if for_good
        && status == StatusCode::NO_CONTENT
        && let Ok(mut pinned) = world.ledger.pinned.lock()
    {
        pinned.entry(root).or_insert_with(OffsetDateTime::now_utc);
    }
    Ok(())
}

async fn collect(world: &World, who: &str, mut dice: Dice) {
    while world.going_on() {
        let mood = world.mood();
        let forget = dice.chance(300) && !mood.is_quiet();
        let short = dice.pick(&["0s", "0s", "200ms"]);
        let long = dice.pick(&["12s", "1h"]);
        let older_than = if mood == Mood::Keeping { long } else { short };
        let grace = dice.pick(&[
            "force=true",
            "force=true",
            "deletion-grace=0s",
            "deletion-grace=300ms",
            "deletion-grace=2s",
        ]);
        let (older_than, grace) = if mood.is_quiet() { ("0s", "force=true") } else { (older_than, grace) };
        if forget && world.place.sql(FORGET).await.is_ok() {
            world.history.note(who, "runs forgotten", &json!(null));
        }
        let path = format!("/api/closures?older-than={older_than}&failed-uploads-older-than=0s&{grace}");
        match world.call(&mut dice, Method::DELETE, &path, None).await {
            Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                world.history.note(who, "collection", &json!(path));
            }
            Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => {
                world.break_promise(who, &format!("{path} was refused"));
            }
            _ => world.history.note(who, "no collection", &json!(path)),
        }
        dice.pause(if mood == Mood::Still { 60 } else { 300 }).await;
    }
}

/// Tells the ways when to be still.
async fn stand_still(world: &World) {
    while world.going_on() {
        let still = world.mood() == Mood::Still;
        world.ways.iter().for_each(|way| way.set_still(still));
        sleep(Duration::from_millis(50)).await;
    }
}

/// Reads what is pinned for good, through the servers, as Nix does.
async fn read(world: &World, who: &str, mut dice: Dice) {
    while world.going_on() {
        let roots: Vec<usize> =
            world.ledger.pinned.lock().map(|pinned| pinned.keys().copied().collect()).unwrap_or_default();
        if !roots.is_empty() {
            let root = roots[dice.index(roots.len())];
            match walk::over_http(world, &mut dice, root).await {
                Ok(Some(missing)) => {
                    world.break_promise(who, &format!("a pinned closure is incomplete: {missing}"));
                }
                Ok(None) => world.history.note(who, "closure read", &json!(root)),
                Err(GaveUp) => world.history.note(who, "read failed", &json!(root)),
            }
        }
        dice.pause(300).await;
    }
}

/// SIGKILL, and a new process.
async fn kill(world: &World, mut dice: Dice) {
    while world.going_on() && world.plan.kills {
        sleep(Duration::from_millis(2000 + dice.roll(6000))).await;
        if world.mood() == Mood::Still {
            continue;
        }
        let server = &world.servers[dice.index(world.servers.len())];
        if server.has_died().await {
            world.break_promise("killer", &format!("{} ended by itself", server.url));
        }
        if let Err(error) = server.kill().await {
            world.break_promise("killer", &format!("{} cannot be killed: {error}", server.url));
        }
        world.history.note("killer", "server killed", &json!(server.url));
        dice.pause(1000).await;
        if let Err(error) = server.start().await {
            world.break_promise("killer", &format!("{} does not start: {error}", server.url));
        }
    }
}

/// Cuts every connection of a way for a moment.
async fn cut(world: &World, mut dice: Dice) {
    while world.going_on() {
        sleep(Duration::from_millis(2000 + dice.roll(6000))).await;
        if world.mood() == Mood::Still {
            continue;
        }
        let way = &world.ways[dice.index(world.ways.len())];
        way.set_open(false);
        dice.pause(1200).await;
        way.set_open(true);
    }
}
