//! `kubectl niks3 use`: the lines by which Nix reads from a cache and trusts it.

use anyhow::{Context as _, ensure};

use niks3_operator::crd::binary_cache::ReadAccess;

use crate::cluster::{Cluster, full_name};

pub(crate) async fn run(cluster: &Cluster, name: Option<&str>) -> anyhow::Result<String> {
    let cache = cluster.cache(name).await?;
    let (full, private) = (full_name(&cache), cache.spec.auth.read == ReadAccess::Authenticated);
    let status = cache.status.unwrap_or_default();
    let url = status
        .url
        .with_context(|| format!("BinaryCache {full} has no address yet; `kubectl niks3 status` says why"))?;
    ensure!(
        !status.public_keys.is_empty(),
        "BinaryCache {full} has no signing key yet; `kubectl niks3 status` says why"
    );
    let keys = status.public_keys.iter().map(|key| format!("extra-trusted-public-keys = {key}\n"));
    let host = url.split("://").last().and_then(|rest| rest.split(['/', ':']).next()).unwrap_or(&url);
    let netrc = format!(
        "# Reading needs a token with the permission Read, in the netrc file:\n\
         #   machine {host} login nix password TOKEN\n\
         netrc-file = /etc/nix/netrc\n"
    );
    let lines = [format!("extra-substituters = {url}\n")].into_iter().chain(keys);
    Ok(lines.chain(private.then_some(netrc)).collect())
}
