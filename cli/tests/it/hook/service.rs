//! A running `niks3 hook serve`, and what it said.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::support::Cache;
use crate::support::nix::NixStore;
use crate::support::program::{Niks3, Outcome};

pub(super) struct Service {
    child: Child,
    pub(super) socket: PathBuf,
    queue: PathBuf,
    log: PathBuf,
}

fn socket(cache: &Cache) -> PathBuf {
    cache.folder.path().join("run/socket")
}

/// Among Nix's roots, as by default.
fn queue(cache: &Cache) -> PathBuf {
    PathBuf::from(cache.store.directory()).with_file_name("var/nix/gcroots/niks3-hook")
}

impl Service {
    pub(super) fn command(cache: &Cache, options: &[&str]) -> Niks3 {
        let (socket, queue) = (socket(cache), queue(cache));
        let named = ["--socket", socket.to_str().unwrap(), "--queue", queue.to_str().unwrap()];
        cache.niks3(&[&["hook", "serve"], &named[..], options].concat())
    }

    pub(super) async fn start(cache: &Cache, options: &[&str]) -> Self {
        let command = Self::command(cache, options).command();
        let service = Self::spawn(cache, command);
        service.until("it waits for paths", async || service.said().contains("Waiting for paths at ")).await;
        service
    }

    /// By systemd's way: the socket is the descriptor 3.
    pub(super) fn activated(cache: &Cache, options: &[&str], listener: UnixListener) -> Self {
        let shell = "exec 3<&0 < /dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let mut command = Self::command(cache, options).within(&["sh", "-c", shell]).command();
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        Self::spawn(cache, command)
    }

    fn spawn(cache: &Cache, mut command: Command) -> Self {
        let log = cache.folder.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, socket: socket(cache), queue: queue(cache), log }
    }

    /// What it said so far.
    pub(super) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Names in the queue.
    pub(super) fn queued(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.queue).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Removes the one link there is.
    pub(super) fn give_up(&self) {
        let [name] = &self.queued()[..] else { panic!("{:?}", self.queued()) };
        std::fs::remove_file(self.queue.join(name)).unwrap();
    }

    /// Makes it what a store's builds are told to.
    pub(super) fn hook_into(&self, store: &NixStore) {
        let (script, program) = (self.log.with_file_name("hook"), env!("CARGO_BIN_EXE_niks3"));
        let text = format!("#!/bin/sh\nexec {program} hook send --socket {}\n", self.socket.display());
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        store.configure(&format!("post-build-hook = {}", script.display()));
    }

    /// `niks3 hook send`
    pub(super) async fn send(&self, paths: &str) -> Outcome {
        let send = Niks3::new(&["hook", "send", "--socket", self.socket.to_str().unwrap()]);
        let outcome = send.env("OUT_PATHS", paths).run().await;
        assert_eq!(outcome.stderr, "");
        outcome
    }

    pub(super) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// Asks it to end; gives its exit code and all it said.
    pub(super) async fn end(self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal).await;
        self.ended().await
    }

    /// The same, once it ends by itself.
    pub(super) async fn ended(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(Duration::from_mins(2), self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it did not end within 2 minutes: {}", self.said()));
        (status.unwrap().code(), self.said())
    }

    /// Kills it; gives where its socket was.
    pub(super) async fn kill(mut self) -> PathBuf {
        self.child.kill().await.unwrap();
        self.socket
    }

    /// Waits for something to be so; a minute at most.
    pub(super) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        for _ in 0..600 {
            if is_so().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not within a minute: {what}; the service said: {}", self.said());
    }
}
