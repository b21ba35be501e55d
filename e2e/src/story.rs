//! The story in ten steps. Each shows what a user would want to see, and ends the story where it does not hold.

mod ci;
mod collection;
mod deletion;
mod reading;
mod set_up;

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

/// Tells the whole story.
pub fn tell(teller: &Teller) -> anyhow::Result<()> {
    let cluster = &Cluster::new(teller)?;
    teller.step(1, "A Kubernetes cluster");
    set_up::cluster(cluster)?;
    teller.step(2, "One image, three programs");
    set_up::images(cluster)?;
    teller.step(3, "The operator, with Helm");
    set_up::operator(cluster)?;
    teller.step(4, "A cache, declared");
    let cache = set_up::cache(cluster, teller)?;
    teller.step(5, "A CI pod pushes with its own token");
    let closures = ci::push(cluster, teller, &cache)?;
    teller.step(6, "A pod that no rule names is refused");
    ci::refusal(cluster, teller, &cache)?;
    teller.step(7, "Nix reads it back, signatures required");
    reading::read_back(cluster, teller, &cache, &closures)?;
    teller.step(8, "The same push again");
    ci::push_again(cluster, teller, &cache, &closures)?;
    teller.step(9, "The policy collects what nobody keeps");
    collection::collect(cluster, teller, &closures)?;
    reading::read_back(cluster, teller, &cache, &closures)?;
    teller.step(10, "Deleting the cache keeps what cannot be made again");
    deletion::delete(cluster, teller)?;
    teller.end();
    Ok(())
}
