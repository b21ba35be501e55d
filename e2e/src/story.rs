//! The story in ten steps, and what a cache goes through in its life in nine more. Each shows what a user would want
//! to see, and ends the story where it does not hold.

mod by_hand;
mod changes;
mod ci;
mod collection;
mod credentials;
mod deletion;
mod earlier;
mod network;
mod pushing;
mod reading;
mod retention;
mod rotation;
mod samples;
mod set_up;
mod tls;
mod uninstall;
mod upgrade;
mod volumes;

use self::tls::Speaker;
use crate::cluster::Cluster;
use crate::teller::Teller;

/// The cache of `manifests/quickstart.yaml`.
const NAMESPACE: &str = "nix";

/// What a client has to know, from the status of the cache.
#[derive(Debug)]
struct Cache {
    url: String,
    endpoint: String,
    audience: String,
    public_key: String,
}

/// Closures by their root's store path.
#[derive(Debug)]
struct Closures {
    /// Pushed and pinned.
    pinned: String,
    /// Pushed and not pinned.
    unpinned: String,
    /// `store path, NAR hash` of each path of the pinned one, as the CI pod has them.
    hashes: Vec<String>,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the product is for.
    Demo,
    /// That, and what a cache goes through in its life.
    Whole,
}

/// Tells the story.
pub fn tell(teller: &Teller, extent: Extent) -> anyhow::Result<()> {
    let cluster = &Cluster::new(teller)?;
    teller.step("A Kubernetes cluster");
    set_up::cluster(cluster)?;
    teller.step("One image, three programs");
    set_up::images(cluster)?;
    set_up::namespaces(cluster)?;
    if extent == Extent::Whole {
        teller
            .step("The operator, with Helm: from the last release's chart to this one while a CI pod pushes");
        upgrade::from_the_previous_chart(cluster, teller)?;
    } else {
        teller.step("The operator, with Helm");
        set_up::helm(cluster, "install", "")?;
    }
    teller.step("A cache, declared");
    let cache = set_up::cache(cluster, teller)?;
    teller.step("A CI pod pushes with its own token");
    let closures = ci::push(cluster, teller, &cache)?;
    teller.step("A pod that no rule names is refused");
    ci::refusal(cluster, teller, &cache)?;
    teller.step("Nix reads it back, signatures required");
    reading::read_back(cluster, teller, &cache, &closures)?;
    teller.step("The same push again");
    ci::push_again(cluster, teller, &cache, &closures)?;
    // Becomes ready while a schedule is waited for.
    let speaker = if extent == Extent::Whole { Some(tls::declare(cluster)?) } else { None };
    teller.step("The policy collects what nobody keeps");
    collection::collect(cluster, teller, &closures)?;
    reading::read_back(cluster, teller, &cache, &closures)?;
    if let Some(speaker) = speaker {
        live(cluster, teller, &cache, &closures, speaker)?;
    }
    teller.step("Deleting the cache keeps what cannot be made again");
    deletion::delete(cluster, teller)?;
    teller.end();
    Ok(())
}

/// Between the first collection and the end.
fn live(
    cluster: &Cluster<'_>,
    teller: &Teller,
    cache: &Cache,
    closures: &Closures,
    mut speaker: Speaker,
) -> anyhow::Result<()> {
    teller.step("A cache that speaks TLS itself gets another certificate while a CI pod pushes");
    speaker.exchange(cluster, teller)?;
    teller.step("Everything under the cache changes while a CI pod pushes without pause");
    changes::begin_pushing(cluster, teller, cache)?;
    changes::go_through(cluster, teller)?;
    teller.step("One signing key follows another");
    rotation::rotate(cluster, teller, cache)?;
    changes::end_pushing(cluster, teller)?;
    teller.step("The other certificate is served by the same pods");
    speaker.served(cluster, teller)?;
    teller.step("A policy keeps the last three pins and a size");
    retention::collect(cluster, teller)?;
    teller.step("Bucket and database are compared");
    retention::compare(cluster, teller)?;
    teller.step("What people do by hand, with `kubectl niks3`");
    by_hand::look(cluster, teller, closures)?;
    teller.step("The operator leaves and comes back, and the cache goes on");
    uninstall::leave_and_return(cluster, teller, cache, closures)?;
    teller.step("The samples of CI, as they are written");
    samples::run(cluster, teller)
}
