//! The real S3 server and PostgreSQL, started as the StatefulSets say, but for where their files are.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, Secret};
use tempfile::TempDir;

use crate::api_server::{free_ports, program};
use crate::world::World;

/// Ends with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // PostgreSQL ends its sessions at that, versitygw too.
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

async fn value(world: &World, secret: &str, key: &str) -> String {
    let data = world.api::<Secret>().get(secret).await.unwrap().data.unwrap();
    String::from_utf8(data[key].0.clone()).unwrap()
}

/// The pod of a server, with the files of its Secrets below `folder`; their paths in it.
async fn pod(world: &World, name: &str, folder: &Path) -> PodSpec {
    let spec = world.api::<StatefulSet>().get(name).await.unwrap().spec.unwrap().template.spec.unwrap();
    for volume in spec.volumes.iter().flatten() {
        let projected = volume.projected.iter().flat_map(|all| all.sources.iter().flatten());
        let from = projected.filter_map(|source| {
            let secret = source.secret.as_ref()?;
            Some((secret.name.clone(), secret.items.clone().unwrap()))
        });
        let whole = volume
            .secret
            .iter()
            .map(|secret| (secret.secret_name.clone().unwrap(), secret.items.clone().unwrap()));
        let place = folder.join(&volume.name);
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        for (secret, items) in from.chain(whole) {
            for item in items {
                std::fs::write(place.join(item.path), value(world, &secret, &item.key).await).unwrap();
            }
        }
    }
    spec
}

/// A path in a container, as it is here.
fn here(container: &Container, folder: &Path, path: &str) -> String {
    let mounts = container.volume_mounts.iter().flatten();
    let mut mounted = mounts.filter_map(|mount| {
        let rest = path.strip_prefix(&mount.mount_path)?;
        let below = mount.sub_path.clone().map_or(mount.name.clone(), |sub| format!("{}/{sub}", mount.name));
        Some(format!("{}/{below}{rest}", folder.display()))
    });
    mounted.next_back().unwrap_or_else(|| path.to_owned())
}

async fn environment(world: &World, container: &Container, folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for one in container.env.iter().flatten() {
        let from = one.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
        let text = match from {
            Some(key) => value(world, &key.name, &key.key).await,
            None => here(container, folder, one.value.as_ref().unwrap()),
        };
        all.push((one.name.clone(), text));
    }
    all
}

async fn listens(port: u16) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody listens on {port}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) struct S3(TempDir);

impl S3 {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data/buckets", "data/meta"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    /// Starts anew and asks with the credentials of these Secrets.
    pub(super) async fn takes(&self, world: &World, taken: &[&str], refused: &[&str]) {
        let folder = self.0.path();
        let pod = pod(world, "main-s3", folder).await;
        let ([port], container) = (free_ports(), &pod.containers[0]);
        let args = container.args.iter().flatten().map(|arg| match arg.as_str() {
            ":7070" => format!("127.0.0.1:{port}"),
            path => here(container, folder, path),
        });
        let server = Command::new(program("versitygw"))
            .args(args)
            .envs(environment(world, container, folder).await)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let _server = Process(server);
        listens(port).await;
        for (secrets, expected) in [(taken, true), (refused, false)] {
            for secret in secrets {
                let (id, key) =
                    (value(world, secret, "access-key").await, value(world, secret, "secret-key").await);
                // The first one makes the bucket; later ones find and write what lies in it.
                let ask = |how: &[&str], path: &str| {
                    let asked = Command::new("curl")
                        .args([
                            "-s",
                            "-o",
                            "/dev/null",
                            "-w",
                            "%{http_code}",
                            "-H",
                            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                        ])
                        .args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &format!("{id}:{key}")])
                        .args(how)
                        .arg(format!("http://127.0.0.1:{port}/nix-cache{path}"))
                        .output()
                        .unwrap();
                    String::from_utf8(asked.stdout).unwrap()
                };
                let made = ask(&["-X", "PUT"], "");
                let (written, read) = (ask(&["-T", "/etc/hostname"], "/object"), ask(&[], "/object"));
                let said = format!("{secret}: {made} {written} {read}");
                assert_eq!((written == "200", read == "200"), (expected, expected), "{said}");
            }
        }
    }
}

pub(super) struct Postgres(TempDir);

impl Postgres {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        Self(folder)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let mut programs =
            std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|one| one.unwrap().path().join("bin"));
        let mut path = programs.next().expect("Debian's postgresql").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        command.env("PATH", path).env("LANG", "C.UTF-8").stdout(Stdio::null());
        if let Some((user, group)) = postgres_user() {
            // PostgreSQL refuses to run as root.
            chown(self.0.path(), user, group);
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts anew and logs in with the credentials of these Secrets.
    pub(super) async fn takes(&self, world: &World, taken: &[&str], refused: &[&str]) {
        let folder = self.0.path();
        let pod = pod(world, "main-postgres", folder).await;
        for container in pod.init_containers.iter().flatten() {
            let command = container.command.as_ref().unwrap();
            let mut run = self.command(Path::new(&command[0]));
            run.args(&command[1..]).envs(environment(world, container, folder).await).current_dir(folder);
            let ended = run.stderr(Stdio::piped()).output().unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(ended.status.success() && !said.contains("ERROR") && !said.contains("FATAL"), "{said}");
        }
        let ([port], container) = (free_ports(), &pod.containers[0]);
        let entrypoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/images/postgres/entrypoint");
        let server = self
            .command(Path::new("bash"))
            .args([entrypoint, "postgres", "-p", &port.to_string(), "-k"])
            .arg(folder.join("data"))
            .envs(environment(world, container, folder).await)
            .current_dir(folder)
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let _server = Process(server);
        listens(port).await;
        for (secrets, expected) in [(taken, true), (refused, false)] {
            for secret in secrets {
                let uri = value(world, secret, "uri").await;
                let inside = format!("@main-postgres.{}.svc:5432/", world.namespace);
                assert!(uri.contains(&inside), "not {inside}");
                // What one role makes, another one changes.
                let sql = "CREATE TABLE IF NOT EXISTS t (a int); ALTER TABLE t ADD COLUMN IF NOT EXISTS b int; INSERT INTO t VALUES (1)";
                let ask = || {
                    let told = Command::new("psql")
                        .arg(uri.replace(&inside, &format!("@127.0.0.1:{port}/")))
                        .args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
                        .output()
                        .unwrap();
                    (told.status.success(), String::from_utf8(told.stderr).unwrap())
                };
                // It listens a moment before it lets anybody in.
                let (mut done, mut said) = ask();
                while said.contains("is starting up") {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    (done, said) = ask();
                }
                assert_eq!(done, expected, "{secret}: {said}");
            }
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        for secret in taken.iter().chain(refused) {
            assert!(!log.contains(&value(world, secret, "password").await), "the log has a password");
        }
    }
}

/// Who runs PostgreSQL where the test is root.
fn postgres_user() -> Option<(u32, u32)> {
    let id = |which: &str, whose: &[&str]| -> u32 {
        let asked = Command::new("id").arg(which).args(whose).output().unwrap();
        String::from_utf8(asked.stdout).unwrap().trim().parse().unwrap()
    };
    (id("-u", &[]) == 0).then(|| (id("-u", &["postgres"]), id("-g", &["postgres"])))
}

fn chown(folder: &Path, user: u32, group: u32) {
    let mut all: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = all.pop() {
        std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        if path.is_dir() {
            all.extend(std::fs::read_dir(&path).unwrap().map(|one| one.unwrap().path()));
        }
    }
}
