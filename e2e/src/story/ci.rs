//! Steps 5, 6 and 8: pods that push.

use anyhow::{Context as _, ensure};

use super::{Cache, Closures, NAMESPACE};
use crate::cluster::Cluster;
use crate::jobs::Job;
use crate::teller::Teller;

/// Makes two closures that share paths and pushes both, the second one pinned. The sentences of the client
/// come last.
const PUSH: &str = r#"
unpinned=$(closure --variant old)
pinned=$(closure --variant main)
niks3 push "$unpinned"
niks3 push --pin ci-main "$pinned"
echo "UNPINNED $unpinned"
echo "PINNED $pinned"
for path in $(nix-store --query --requisites "$pinned" | sort); do
  echo "HASH $path $(nix-hash --type sha256 --base32 "$path") $(nix-store --query --size "$path")"
done
"#;

/// Larger than this, a NAR goes up in parts.
const LARGE: u64 = 10 << 20;

pub(super) fn push(cluster: &Cluster<'_>, teller: &Teller, cache: &Cache) -> anyhow::Result<Closures> {
    teller.command("kubectl apply: Job push in namespace ci, ServiceAccount builder, a projected token and no other secret");
    let env = [("NIKS3_SERVER_URL", cache.endpoint.as_str())];
    let job =
        Job { name: "push", account: "builder", env: &env, audience: Some(&cache.audience), script: PUSH }
            .run(cluster)?;
    teller.output(&job.told());
    ensure!(job.succeeded, "the push failed with exit code {}", job.exit_code);
    let one = |word: &str| {
        job.lines(word).into_iter().next().with_context(|| format!("the Job did not say {word}"))
    };
    let sized: Vec<(String, u64)> = job
        .lines("HASH")
        .iter()
        .map(|line| {
            let (hash, size) = line.rsplit_once(' ').context("a line without size")?;
            Ok((hash.to_owned(), size.parse()?))
        })
        .collect::<anyhow::Result<_>>()?;
    let closures = Closures {
        pinned: one("PINNED")?,
        unpinned: one("UNPINNED")?,
        hashes: sized.iter().map(|(hash, _)| hash.clone()).collect(),
    };
    ensure!(closures.hashes.len() >= 3, "the closure has references");
    ensure!(sized.iter().any(|(_, size)| *size > LARGE), "no NAR above 10 MiB: {sized:?}");
    ensure!(job.log.contains("Pinned "), "the client did not say that it pinned");
    teller.holds(&format!("{} store paths pushed and pinned as ci-main", closures.hashes.len()));
    Ok(closures)
}

pub(super) fn refusal(cluster: &Cluster<'_>, teller: &Teller, cache: &Cache) -> anyhow::Result<()> {
    let before = stats(cluster)?;
    let env = [("NIKS3_SERVER_URL", cache.endpoint.as_str())];
    let script = "niks3 push $(closure --variant stranger)";
    teller.command("the same as ServiceAccount stranger");
    let job =
        Job { name: "refused", account: "stranger", env: &env, audience: Some(&cache.audience), script }
            .run(cluster)?;
    teller.output(&job.told());
    ensure!(!job.succeeded && job.exit_code == 2, "exit code {} instead of 2", job.exit_code);
    ensure!(job.log.contains("403"), "the refusal does not say 403");
    teller.command("the same as builder, with a token for another audience");
    let job = Job {
        name: "refused",
        account: "builder",
        env: &env,
        audience: Some("https://kubernetes.default.svc"),
        script,
    }
    .run(cluster)?;
    teller.output(&job.told());
    ensure!(!job.succeeded && job.exit_code == 2 && job.log.contains("401"), "not refused with 401");
    ensure!(stats(cluster)? == before, "a refused push left something");
    teller.holds("403 for who may not, 401 for a token made for somebody else, and nothing was stored");
    Ok(())
}

pub(super) fn push_again(
    cluster: &Cluster<'_>,
    teller: &Teller,
    cache: &Cache,
    closures: &Closures,
) -> anyhow::Result<()> {
    let before = stats(cluster)?;
    let env = [("NIKS3_SERVER_URL", cache.endpoint.as_str())];
    let script = "niks3 push --pin ci-main $(closure --variant main)";
    teller.command("Job push again");
    let job = Job { name: "again", account: "builder", env: &env, audience: Some(&cache.audience), script }
        .run(cluster)?;
    teller.output(&job.told());
    ensure!(job.succeeded, "the push failed with exit code {}", job.exit_code);
    ensure!(job.log.contains("nothing was uploaded"), "the second push uploaded something");
    ensure!(job.log.contains(&closures.pinned), "another path was pinned");
    ensure!(stats(cluster)? == before, "the second push changed what is stored");
    teller.holds("nothing was uploaded");
    Ok(())
}

/// What the server says it holds.
fn stats(cluster: &Cluster<'_>) -> anyhow::Result<String> {
    // The server counts at most every two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    cluster.run(
        &format!("kubectl get --raw /api/v1/namespaces/{NAMESPACE}/services/main:http/proxy/api/cache-stats"),
        None,
    )
}
