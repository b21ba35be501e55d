//! A Nix store in a folder of the test's own, with a store directory of its own, so that no privilege is needed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use niks3_protocol::nix::StorePath;
use tempfile::TempDir;

use super::environment;

pub(crate) struct NixStore {
    folder: TempDir,
    directory: String,
}

impl NixStore {
    pub(crate) fn create() -> Self {
        // Nix refuses a store behind a symlink.
        let folder = tempfile::Builder::new().prefix("nix-").tempdir().unwrap();
        let directory = folder.path().canonicalize().unwrap().join("store");
        Self { directory: directory.into_os_string().into_string().unwrap(), folder }
    }

    /// In place of `/nix/store`.
    pub(crate) fn directory(&self) -> &str {
        &self.directory
    }

    /// The environment in which Nix uses this store.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let base = Path::new(&self.directory).parent().unwrap();
        let below = |name: &str| base.join(name).into_os_string().into_string().unwrap();
        let config = "substituters =\nbuild-users-group =\nsandbox = false\nconnect-timeout = 2\n";
        [
            ("NIX_STORE_DIR", self.directory.clone()),
            ("NIX_STATE_DIR", below("var/nix")),
            ("NIX_LOG_DIR", below("var/log/nix")),
            ("NIX_LOCALSTATE_DIR", below("var")),
            ("NIX_CONF_DIR", below("etc")),
            ("NIX_CONFIG", config.to_owned()),
            ("XDG_CACHE_HOME", below("cache")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Adds a line to its `nix.conf`.
    pub(crate) fn configure(&self, line: &str) {
        let folder = Path::new(&self.directory).with_file_name("etc");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("nix.conf"), format!("{line}\n")).unwrap();
    }

    /// Runs a program of Nix.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", environment("PATH"))
            .env("HOME", self.folder.path())
            .envs(self.variables())
            .output();
        output.unwrap_or_else(|error| panic!("{program} cannot be started ({error}); the tests need Nix"))
    }

    /// Runs a program that has to succeed; gives what it printed, trimmed.
    pub(crate) fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Puts files into a directory of that name and adds it; those under `bin/` are executable.
    pub(crate) fn add(&self, name: &str, files: &[(&str, &[u8])]) -> StorePath {
        let tree = self.folder.path().join("trees").join(name);
        for (file, content) in files {
            let path = tree.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            let mode = if file.starts_with("bin/") { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let added = self.ask("nix-store", &["--add", tree.to_str().unwrap()]);
        std::fs::remove_dir_all(tree).unwrap();
        added.parse().unwrap()
    }

    /// Builds a derivation whose script may name its inputs; it has a log.
    pub(crate) fn build(&self, name: &str, script: &str, inputs: &[&StorePath]) -> StorePath {
        let inputs: Vec<String> =
            inputs.iter().map(|path| format!("(builtins.storePath \"{path}\")")).collect();
        let expression = format!(
            "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
             args = [ \"-c\" ''{script}'' ]; PATH = \"/usr/bin:/bin\"; inputs = [ {} ]; }}",
            inputs.join(" ")
        );
        self.ask("nix-build", &["--no-out-link", "--expr", &expression]).parse().unwrap()
    }

    /// The same closure in every test: a tree with a directory, an executable, symlinks, an empty file and a file
    /// of 12 MB; a path with the same content under another name; a built path that refers to both and to itself.
    pub(crate) fn closure(&self) -> StorePath {
        let big = noise(12_000_000);
        let files: [(&str, &[u8]); 4] = [
            ("bin/run", b"#!/bin/sh\necho hi\n"),
            ("share/doc/text", b"text"),
            ("empty", b""),
            ("big", &big),
        ];
        let (tree, twin) = (self.add("tree", &files), self.add("twin", &[("share/x", b"x")]));
        let script = format!(
            "mkdir -p $out/bin; echo $out > $out/self; ln -s {tree}/bin/run $out/bin/run; ln -s ../nowhere $out/broken; \
             echo {twin} > $out/refs; echo the log of the build"
        );
        self.build("user", &script, &[&tree, &twin])
    }

    /// `nix copy` from a cache into an empty store, signatures required; gives that store.
    pub(crate) fn copy_from(&self, url: &str, keys: &str, path: &StorePath) -> Result<PathBuf, String> {
        let target = tempfile::Builder::new().prefix("copy-").tempdir_in(self.folder.path()).unwrap().keep();
        let nix = ["--extra-experimental-features", "nix-command"];
        let from = ["copy", "--from", url, "--to", target.to_str().unwrap(), path.as_str()];
        let options = ["--option", "trusted-public-keys", keys, "--option", "require-sigs", "true"];
        // What was learned of this address before is not to be believed: a test's server may have changed.
        let _ = std::fs::remove_dir_all(Path::new(&self.directory).with_file_name("cache"));
        let output = self.run("nix", &[&nix[..], &from[..], &options[..]].concat());
        if output.status.success() {
            return Ok(target);
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Asserts that a copied path is what it is here.
    pub(crate) fn assert_equal(&self, path: &StorePath, copy: &Path) {
        // Whatever a store's directory is called, below a root of its own Nix puts it here.
        let copied = copy.join("nix/store").join(path.base_name());
        let nar = |path: &str| self.run("nix-store", &["--dump", path]).stdout;
        let (here, there) = (nar(path.as_str()), nar(copied.to_str().unwrap()));
        assert!(!here.is_empty() && here == there, "{path} came back different");
    }

    /// Everything a path needs.
    pub(crate) fn requisites(&self, path: &StorePath) -> Vec<StorePath> {
        let text = self.ask("nix-store", &["--query", "--requisites", path.as_str()]);
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for NixStore {
    /// Store directories are read-only, which an ordinary user's removal stumbles over.
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.folder.path()).output();
    }
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(count).collect()
}
