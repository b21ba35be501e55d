//! Step 7: what was pushed comes back.

use anyhow::ensure;

use super::{Cache, Closures};
use crate::cluster::Cluster;
use crate::jobs::Job;
use crate::teller::Teller;

/// An empty store of its own, a trusted key, nothing else. A wrong key must not do.
const READ: &str = r#"
copy() { # STORE KEY
  nix --extra-experimental-features nix-command --option trusted-public-keys "$2" --option require-sigs true \
    copy --from "$SUBSTITUTER" --to "$1" "$ROOT"
}
wrong=${KEY%%:*}:$(head -c 32 /dev/zero | base64)
if copy "/tmp/untrusting" "$wrong"; then echo "a wrong key was good enough"; exit 1; fi
copy /tmp/store "$KEY"
for path in $(nix-store --store /tmp/store --query --requisites "$ROOT" | sort); do
  echo "HASH $path $(nix-hash --type sha256 --base32 "/tmp/store$path")"
done
"#;

pub(super) fn read_back(
    cluster: &Cluster<'_>,
    teller: &Teller,
    cache: &Cache,
    closures: &Closures,
) -> anyhow::Result<()> {
    teller.command(&format!("nix copy --from {} --to /tmp/store {}", cache.url, closures.pinned));
    let env = [("SUBSTITUTER", cache.url.as_str()), ("KEY", &cache.public_key), ("ROOT", &closures.pinned)];
    let job =
        Job { name: "read", account: "default", env: &env, audience: None, script: READ }.run(cluster)?;
    teller.output(&job.told());
    ensure!(job.succeeded, "reading failed with exit code {}", job.exit_code);
    let hashes = job.lines("HASH");
    ensure!(hashes == closures.hashes, "the contents differ:\n{:#?}\n{hashes:#?}", closures.hashes);
    teller.holds(&format!("{} store paths came back, equal; a wrong key is refused", hashes.len()));
    Ok(())
}
