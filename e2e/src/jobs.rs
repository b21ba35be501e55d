//! Jobs that run a script as a ServiceAccount, in pods as the restricted profile wants them.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, condition};

/// The user of the CI image, who owns its Nix store.
const USER: i64 = 65532;
/// The limit on one Job.
const LIMIT: Duration = Duration::from_mins(5);

/// Where Jobs of the story run.
pub const NAMESPACE: &str = "ci";

/// What a Job came to.
#[derive(Debug)]
pub struct Outcome {
    /// It ended with exit code 0.
    pub succeeded: bool,
    /// The exit code of its only container.
    pub exit_code: i64,
    /// All it said.
    pub log: String,
}

impl Outcome {
    /// What a user would want to see of it: not what Nix builds and copies, nor what is meant for the story.
    pub fn told(&self) -> String {
        let noise = ["HASH ", "PINNED ", "UNPINNED ", "PUSHED ", "SERVED ", "built ", "copying path "];
        let lines = self.log.lines().filter(|line| !noise.iter().any(|word| line.starts_with(word)));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The rest of each line that begins with this word, in order.
    pub fn lines(&self, word: &str) -> Vec<String> {
        let rests = self.log.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        rests.map(str::to_owned).collect()
    }
}

/// A script to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The Job's name; one that has it already is replaced.
    pub name: &'a str,
    /// The ServiceAccount it runs as.
    pub account: &'a str,
    /// Variables.
    pub env: &'a [(&'a str, &'a str)],
    /// What its token is made for; without it, it has none.
    pub audience: Option<&'a str>,
    /// For bash.
    pub script: &'a str,
}

impl Job<'_> {
    /// Runs it to its end.
    pub fn run(&self, cluster: &Cluster<'_>) -> anyhow::Result<Outcome> {
        self.start(cluster)?;
        finish(cluster, self.name)
    }

    /// Starts it.
    pub fn start(&self, cluster: &Cluster<'_>) -> anyhow::Result<()> {
        let name = self.name;
        cluster.run(&format!("kubectl delete job {name} -n {NAMESPACE} --ignore-not-found --wait"), None)?;
        cluster.apply(&self.object())
    }

    fn object(&self) -> Value {
        let Self { name, account, env, audience, script } = self;
        let mut variables: Vec<Value> =
            env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        variables.push(json!({"name": "HOME", "value": "/tmp"}));
        let (mut volumes, mut mounts) =
            (vec![json!({"name": "tmp", "emptyDir": {}})], vec![json!({"name": "tmp", "mountPath": "/tmp"})]);
        if let Some(audience) = audience {
            let token = json!({"path": "token", "audience": audience, "expirationSeconds": 3600});
            volumes.push(
                json!({"name": "niks3-token", "projected": {"sources": [{"serviceAccountToken": token}]}}),
            );
            mounts.push(
                json!({"name": "niks3-token", "mountPath": "/var/run/secrets/niks3", "readOnly": true}),
            );
            variables.push(json!({"name": "NIKS3_AUTH_TOKEN_FILE", "value": "/var/run/secrets/niks3/token"}));
        }
        let mut container = container(script);
        container["env"] = variables.into();
        container["volumeMounts"] = mounts.into();
        let pod = json!({
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": restricted(),
            "containers": [container],
            "volumes": volumes,
        });
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        })
    }
}

/// What the restricted profile wants of a pod.
pub fn restricted() -> Value {
    json!({"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"}})
}

/// A container of the CI image that runs a script, as that profile wants it.
pub fn container(script: &str) -> Value {
    json!({
        "name": "main", "image": Cluster::image("ci"), "command": ["bash", "-euc", script],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

/// Waits for the end of a script.
pub fn finish(cluster: &Cluster<'_>, name: &str) -> anyhow::Result<Outcome> {
    let succeeded = cluster.wait(&format!("Job {name}"), LIMIT, || {
        let job = cluster.get(&format!("job {name} -n {NAMESPACE}"))?;
        let ended = |kind: &str| condition(&job, kind)["status"] == "True";
        Ok(if ended("Complete") { Some(true) } else { ended("Failed").then_some(false) })
    })?;
    let log = cluster.run(&format!("kubectl logs job/{name} -n {NAMESPACE}"), None)?;
    let pods = cluster.get(&format!("pods -n {NAMESPACE} -l batch.kubernetes.io/job-name={name}"))?;
    let terminated = &pods["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"];
    let exit_code =
        terminated["exitCode"].as_i64().with_context(|| format!("the pod of Job {name} has no exit code"))?;
    Ok(Outcome { succeeded, exit_code, log })
}
