//! What the local Nix store says: which path is meant, its closure, its build logs.

mod path_info;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use niks3_protocol::nix::StorePath;
use tokio::process::Command;

pub(crate) use path_info::PathInfo;

/// What the store cannot tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Not there, or not readable.
    #[error("{path} cannot be read")]
    Resolve { path: PathBuf, source: io::Error },
    /// Outside any store.
    #[error("{0} is not in a Nix store")]
    NotInStore(PathBuf),
    /// No nix.
    #[error("the program {0} cannot be started")]
    NoNix(&'static str, #[source] io::Error),
    /// Nix refused.
    #[error("nix does not know all of the closure: {0}")]
    Refused(String),
    /// Another nix than we know.
    #[error("nix answered something unknown: {0}")]
    Unreadable(String),
    /// The closure has paths of another store.
    #[error("nothing is known of {0}, which the closure refers to")]
    Incomplete(StorePath),
}

impl StoreError {
    /// Whether no path could be asked about.
    pub(crate) fn is_no_nix(&self) -> bool {
        matches!(self, Self::NoNix(..))
    }
}

/// Symlinks that are followed, as by the kernel.
const MAX_LINKS: u32 = 40;

/// The store path that a path or link is, or lies in.
pub(crate) fn resolve(path: &Path) -> Result<StorePath, StoreError> {
    let failed = |source| StoreError::Resolve { path: path.to_owned(), source };
    // A store path may itself be a symlink: what it points to is not what is meant.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut current = parent.canonicalize().map_err(failed)?;
    if let Some(name) = path.file_name() {
        current.push(name);
    }
    for _ in 0..=MAX_LINKS {
        if let Some(found) = within_store(&current) {
            current.symlink_metadata().map_err(failed)?;
            return Ok(found);
        }
        if !current.symlink_metadata().map_err(failed)?.is_symlink() {
            return Err(StoreError::NotInStore(path.to_owned()));
        }
        let target = current.parent().unwrap_or(Path::new("/")).join(current.read_link().map_err(failed)?);
        let folder = target.parent().unwrap_or(Path::new("/")).canonicalize().map_err(failed)?;
        current = match target.file_name() {
            Some(name) => folder.join(name),
            None => folder,
        };
    }
    Err(failed(io::Error::other(format!(
        "more than {MAX_LINKS} symlinks lead on, or they lead back to themselves"
    ))))
}

/// `/nix/store/{hash}-{name}` of that path or of anything below it.
pub(crate) fn within_store(path: &Path) -> Option<StorePath> {
    path.ancestors().filter_map(|part| part.to_str()?.parse::<StorePath>().ok()).last()
}

/// All that the roots need, themselves included.
pub(crate) async fn closure(roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
    let arguments =
        ["--extra-experimental-features", "nix-command", "path-info", "--json", "--recursive", "--"];
    let answer = ask("nix", &arguments, roots.iter().map(StorePath::as_str)).await?;
    let store_dir = roots.first().map_or("/nix/store", |root| root.store_dir());
    let infos = path_info::parse(&answer, store_dir)?;
    let known: HashSet<&StorePath> = infos.iter().map(|info| &info.path).collect();
    if let Some(unknown) = infos.iter().flat_map(|info| &info.references).find(|path| !known.contains(path)) {
        return Err(StoreError::Incomplete(unknown.clone()));
    }
    Ok(infos)
}

/// What a derivation's outputs are.
pub(crate) async fn outputs(derivation: &str) -> Result<Vec<String>, StoreError> {
    let answer = ask("nix-store", &["--query", "--outputs", "--"], [derivation]).await?;
    Ok(String::from_utf8_lossy(&answer).split_whitespace().map(str::to_owned).collect())
}

/// What a program of Nix prints.
async fn ask(
    program: &'static str,
    arguments: &[&str],
    of: impl IntoIterator<Item = &str>,
) -> Result<Vec<u8>, StoreError> {
    let mut command = Command::new(program);
    let output = command.args(arguments).args(of).stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| StoreError::NoNix(program, error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
    Err(StoreError::Refused(line.trim_start_matches("error:").trim().to_owned()))
}

/// The file with the log of a derivation's build, where it is kept here.
pub(crate) fn log_file(deriver: &StorePath) -> Option<PathBuf> {
    let base = Path::new(deriver.store_dir()).parent()?;
    let (first, rest) = deriver.base_name().split_at(2);
    let plain = base.join("var/log/nix/drvs").join(first).join(rest);
    let compressed = plain.with_file_name(format!("{rest}.bz2"));
    [compressed, plain].into_iter().find(|file| file.exists())
}

/// Opens such a file. Asking `nix-store --read-log` for each takes longer than all the rest of a path.
pub(crate) fn open_log(file: &Path) -> io::Result<Box<dyn io::Read>> {
    let log = std::fs::File::open(file)?;
    if file.extension().is_some_and(|extension| extension == "bz2") {
        return Ok(Box::new(bzip2::read::MultiBzDecoder::new(log)));
    }
    Ok(Box::new(log))
}
