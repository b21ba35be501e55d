//! Servers by name: `$XDG_CONFIG_HOME/niks3/config.toml`, and a token for each beside it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::GlobalArgs;
use crate::client::default_token_file;

/// What the file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The server where none is named.
    default: Option<String>,
    #[serde(default)]
    servers: BTreeMap<String, Server>,
}

/// One server: the options of the same names. Paths are relative to the file's folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Server {
    url: String,
    auth_token_file: Option<PathBuf>,
    auth_token_command: Option<String>,
    ca_cert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// What is wrong with the file, or with a name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServersError {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {problem}")]
    Form { path: PathBuf, line: usize, problem: String },
    #[error("{name:?} is no server that {path} names; it names {known}")]
    Unknown { name: String, path: PathBuf, known: String },
    #[error("{0:?} cannot be the name of a server: 1 to 64 of A-Z a-z 0-9 _ -")]
    Name(String),
    #[error("{name} is {url} in {path}; change it there, or take another name")]
    Taken { name: String, url: String, path: PathBuf },
    #[error("there is no home to keep servers in: set HOME or XDG_CONFIG_HOME")]
    NoHome,
}

/// The options, those of the named server among them. What was given counts more than what the file says.
pub(crate) fn resolve(args: &GlobalArgs) -> Result<GlobalArgs, ServersError> {
    let given = args.server.as_deref().filter(|name| !name.is_empty());
    if let Some(url) = given.filter(|name| name.contains("://")) {
        return Ok(GlobalArgs { server_url: Some(url.to_owned()), ..args.clone() });
    }
    if given.is_none() && args.server_url.as_deref().is_some_and(|url| !url.is_empty()) {
        return Ok(args.clone());
    }
    let Some(folder) = folder() else { return Ok(args.clone()) };
    let path = folder.join("config.toml");
    let file = read(&path)?;
    let Some(name) = given.or(file.default.as_deref()) else { return Ok(args.clone()) };
    let Some(server) = file.servers.get(name) else {
        let known: Vec<&str> = file.servers.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(ServersError::Unknown { name: name.to_owned(), path, known });
    };
    Ok(server.applied(args, &folder, name))
}

/// Where the token of a server is kept that has a name.
pub(crate) fn token_file(name: &str) -> Result<PathBuf, ServersError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(ServersError::Name(name.to_owned()));
    }
    Ok(folder().ok_or(ServersError::NoHome)?.join("tokens").join(name))
}

/// Whether the file has that server by that name already. That it has another one is an error.
pub(crate) fn check(name: &str, url: &str) -> Result<bool, ServersError> {
    let path = folder().ok_or(ServersError::NoHome)?.join("config.toml");
    match read(&path)?.servers.get(name) {
        Some(known) if known.url.trim_end_matches('/') == url => Ok(true),
        Some(known) => Err(ServersError::Taken { name: name.to_owned(), url: known.url.clone(), path }),
        None => Ok(false),
    }
}

/// Gives a server a name, unless it has that name; what else the file says stays as it is.
pub(crate) fn remember(name: &str, url: &str) -> Result<(), ServersError> {
    let path = folder().ok_or(ServersError::NoHome)?.join("config.toml");
    if check(name, url)? {
        return Ok(());
    }
    let failed = |source| ServersError::Read { path: path.clone(), source };
    let known = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(failed)?,
    };
    let gap = if known.is_empty() {
        ""
    } else if known.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let new = path.with_extension(format!("new-{}", std::process::id()));
    // A URL has neither quotes nor backslashes: the client has parsed it.
    let text = format!("{known}{gap}[servers.{name}]\nurl = \"{url}\"\n");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).map_err(failed)
}

impl Server {
    fn applied(&self, args: &GlobalArgs, folder: &Path, name: &str) -> GlobalArgs {
        let beside = |file: &Option<PathBuf>| file.as_ref().map(|file| folder.join(file));
        let or = |given: &Option<PathBuf>, file: &Option<PathBuf>| {
            GlobalArgs::given(given.as_ref()).cloned().or_else(|| beside(file))
        };
        let mut all = GlobalArgs {
            server_url: Some(self.url.clone()),
            ca_cert: or(&args.ca_cert, &self.ca_cert),
            client_cert: or(&args.client_cert, &self.client_cert),
            client_key: or(&args.client_key, &self.client_key),
            ..args.clone()
        };
        let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let named = GlobalArgs::given(args.auth_token_file.as_ref()).is_some();
        if !named && !set(&args.auth_token) && !set(&args.auth_token_command) {
            let kept = token_file(name).ok().filter(|file| file.exists());
            all.auth_token_file = beside(&self.auth_token_file);
            all.auth_token_command.clone_from(&self.auth_token_command);
            if all.auth_token_file.is_none() && all.auth_token_command.is_none() {
                all.auth_token_file = kept;
            }
        }
        all
    }
}

fn folder() -> Option<PathBuf> {
    default_token_file()?.parent().map(Path::to_owned)
}

fn read(path: &Path) -> Result<File, ServersError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        text => text.map_err(|source| ServersError::Read { path: path.to_owned(), source })?,
    };
    toml::from_str(&text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        ServersError::Form { path: path.to_owned(), line, problem: error.message().to_owned() }
    })
}
