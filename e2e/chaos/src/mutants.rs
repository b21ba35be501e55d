//! Servers with one rule of docs/gc.md switched off: a harness that does not catch these proves nothing.
//!
//! A mutant is an edit of the server's source in a copy of the tree: production code knows nothing of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

/// A rule, and what switches it off.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// One word.
    pub name: &'static str,
    /// The rule of docs/gc.md.
    pub rule: &'static str,
    /// In which file, what is replaced, and by what.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
}

/// All of them.
pub const MUTANTS: [Mutant; 3] = [
    Mutant {
        name: "claim",
        rule: "5: a claim demands that the object is still condemned since exactly when the mark saw it",
        edits: &[(
            "server/src/db/marks.rs",
            "where o.condemned_at = wanted.since and o.deleting_since is null",
            "where o.deleting_since is null",
        )],
    },
    Mutant {
        name: "lost-answer",
        rule: "6: after a lost answer the delete is sent again only when T has passed",
        edits: &[(
            "server/src/gc/sweep.rs",
            "let settle = app.bucket.config().settle_time();",
            "let settle = Duration::ZERO;",
        )],
    },
    Mutant {
        name: "begin",
        // A collection sees the keys of the upload when the states were read already, as if both were one.
        rule: "1: the upload with its keys is committed before the states of these are read",
        edits: &[
            ("server/src/push/begin.rs", "keys: &begin.keys,", "keys: &[],"),
            (
                "server/src/push/begin.rs",
                "let open = db::uploads::open(",
                "db::uploads::add_keys(&mut transaction, id, keys).await?;\n        let open = db::uploads::open(",
            ),
        ],
    },
];

/// What a server is built from.
const PARTS: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "protocol",
    "server",
    "cli",
    "operator",
    "e2e",
    "migrations",
];

/// The project's tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Mutant {
    /// A file of the tree with this mutant's edits.
    fn edit(&self, file: &str, text: &str) -> anyhow::Result<String> {
        let mut text = text.to_owned();
        for (_, find, replace) in self.edits.iter().filter(|(edited, _, _)| *edited == file) {
            let count = text.matches(find).count();
            ensure!(count == 1, "the mutant {}: {file} has {find:?} {count} times, not once", self.name);
            text = text.replacen(find, replace, 1);
        }
        Ok(text)
    }

    /// Builds the server in a copy of the tree; queries are checked against a database that has the schema.
    pub async fn build(&self, copy: &Path, database_url: &str) -> anyhow::Result<PathBuf> {
        for part in PARTS {
            copy_newer(&root().join(part), &copy.join(part)).with_context(|| format!("copying {part}"))?;
        }
        for (file, _, _) in self.edits {
            let original = std::fs::read_to_string(root().join(file))?;
            std::fs::write(copy.join(file), self.edit(file, &original)?)?;
        }
        let target = copy.join("target");
        let output = Command::new("cargo")
            .args(["build", "--quiet", "--package", "niks3-server", "--target-dir"])
            .arg(&target)
            .current_dir(copy)
            .env("SQLX_OFFLINE", "false")
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cargo")?;
        // The next mutant begins with what this one found.
        for (file, _, _) in self.edits {
            std::fs::copy(root().join(file), copy.join(file))?;
        }
        if !output.status.success() {
            bail!("the mutant {} does not build: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        let program = copy.join(format!("niks3-server-{}", self.name));
        // What still runs keeps its file; a new one has the name.
        let _ = std::fs::remove_file(&program);
        std::fs::copy(target.join("debug/niks3-server"), &program)?;
        Ok(program)
    }
}

/// Copies what differs, so that cargo builds anew only what was edited.
fn copy_newer(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        let bytes = std::fs::read(from)?;
        if std::fs::read(to).ok().as_ref() != Some(&bytes) {
            std::fs::write(to, bytes)?;
        }
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "target" {
            copy_newer(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_still_finds_its_place() {
        for mutant in MUTANTS {
            for (file, _, _) in mutant.edits {
                let text = std::fs::read_to_string(root().join(file)).unwrap();
                let edited = mutant.edit(file, &text).unwrap();
                assert_ne!(edited, text, "{}", mutant.name);
            }
        }
    }
}
