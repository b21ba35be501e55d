//! A Job that pushes one closure after another while something changes: not one push may fail.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::cluster::Cluster;
use crate::jobs::{self, Job};
use crate::teller::Teller;

const LIMIT: Duration = Duration::from_mins(4);

/// Each closure is pinned under a name of its own, until the Job is told that this is enough. Where it has a CA it says
/// which certificate it was served with.
const PUSH: &str = r#"
if [ -n "${CA:-}" ]; then
  printf %s "$CA" > /tmp/ca.crt
  export NIKS3_CA_CERT=/tmp/ca.crt
fi
for ((count = 1; ; count++)); do
  path=$(closure --variant "$JOB-$count" --mib 2 --parts 4)
  niks3 push --pin "$(printf "ci-$JOB-%03d" "$count")" "$path"
  echo "PUSHED $path"
  if [ -n "${CA:-}" ]; then
    host=${NIKS3_SERVER_URL#https://}
    served=$(openssl s_client -connect "$host:443" -servername "$host" -CAfile /tmp/ca.crt -verify_return_error \
      < /dev/null 2> /dev/null | openssl x509 -noout -subject)
    echo "SERVED $served"
    sleep 1
  fi
  [ ! -e /tmp/enough ] || exit 0
done
"#;

/// The Job, by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushing(pub &'static str);

impl Pushing {
    /// Starts it, and waits for its first pushes.
    pub(super) fn begin(
        self,
        cluster: &Cluster<'_>,
        teller: &Teller,
        (endpoint, audience): (&str, &str),
        ca: Option<&str>,
    ) -> anyhow::Result<()> {
        let Self(name) = self;
        teller.command(&format!(
            "Job {name}: pushes and pins one closure after another until it is told to stop"
        ));
        let mut env = vec![("NIKS3_SERVER_URL", endpoint), ("JOB", name)];
        env.extend(ca.map(|ca| ("CA", ca)));
        Job { name, account: "builder", env: &env, audience: Some(audience), script: PUSH }.start(cluster)?;
        self.goes_on(cluster, teller, "pushes have begun")
    }

    /// Whether a push that began after a change succeeds.
    pub(super) fn goes_on(self, cluster: &Cluster<'_>, teller: &Teller, what: &str) -> anyhow::Result<()> {
        let before = self.lines(cluster, "PUSHED ", what)?.len();
        // One may have been at its end when the change was through, so two.
        cluster.wait("pushes to go on", LIMIT, || {
            Ok((self.lines(cluster, "PUSHED ", what)?.len() >= before + 2).then_some(()))
        })?;
        teller.holds(&format!("{what}, and pushes go on"));
        Ok(())
    }

    /// What it said so far in lines that begin so; an error where a push failed.
    pub(super) fn lines(self, cluster: &Cluster<'_>, word: &str, what: &str) -> anyhow::Result<Vec<String>> {
        let (Self(name), namespace) = (self, jobs::NAMESPACE);
        // No pod at first.
        let log = cluster.run(&format!("kubectl logs job/{name} -n {namespace}"), None).unwrap_or_default();
        let status = cluster.get(&format!("job {name} -n {namespace}"))?["status"].clone();
        if let Some(failed) = status["failed"].as_i64() {
            bail!("{what}: {failed} push failed:\n{log}");
        }
        Ok(log.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect())
    }

    /// Ends it in peace.
    pub(super) fn end(self, cluster: &Cluster<'_>, teller: &Teller) -> anyhow::Result<()> {
        let Self(name) = self;
        cluster.run(&format!("kubectl exec job/{name} -n {} -- touch /tmp/enough", jobs::NAMESPACE), None)?;
        let job = jobs::finish(cluster, name)?;
        ensure!(job.succeeded, "a push failed:\n{}", job.told());
        teller.holds(&format!("{} pushes, and none of them failed", job.lines("PUSHED").len()));
        Ok(())
    }
}
