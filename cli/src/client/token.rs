//! Where the token comes from. A file is read for every call: projected tokens are renewed in place. What a
//! command or GitHub gives is kept for as long as it lasts.

mod command;
mod github;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::Url;
use tokio::sync::Mutex;

use crate::args::GlobalArgs;
use github::GitHub;

/// Where manifests of Kubernetes put a token that is made for a cache.
const PROJECTED: &str = "/var/run/secrets/niks3/token";

/// A token that is not there. No token stands in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token file {path} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token file {0} is empty")]
    Empty(PathBuf),
    #[error("{0} does not hold a token: one word of printable characters")]
    Form(String),
    #[error("the token command cannot be started")]
    Start(#[source] std::io::Error),
    #[error("the token command failed: {0}")]
    Command(String),
    #[error("the token command did not end within {0} seconds")]
    Slow(u64),
    #[error("GitHub gives no token for this job: {0}")]
    GitHub(String),
    #[error("GitHub gives no token for this job at the moment: {0}")]
    NotNow(String),
}

impl TokenError {
    /// Whether another try may go better.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::NotNow(_))
    }
}

/// Its `Debug` does not show a token.
pub(super) struct TokenSource {
    place: Place,
    kept: Mutex<Option<Kept>>,
}

enum Place {
    None,
    Text(&'static str, String),
    File(PathBuf),
    Command(String),
    GitHub(GitHub),
}

/// A token that need not be asked for yet.
struct Kept {
    token: String,
    until: Instant,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::None => f.write_str("None"),
            Place::Text(name, _) => write!(f, "Text({name})"),
            Place::File(path) => write!(f, "File({})", path.display()),
            Place::Command(_) => f.write_str("Command"),
            Place::GitHub(_) => f.write_str("GitHub"),
        }
    }
}

impl TokenSource {
    /// What was named counts most: file, variable, command. Then what is usual: the file of this user, the mount of
    /// a pod, the job of GitLab or GitHub.
    pub(super) fn new(args: &GlobalArgs) -> Result<Self, TokenError> {
        let place = Self::find(args);
        if let Place::File(path) = &place {
            read_file(path)?;
        }
        Ok(Self { place, kept: Mutex::default() })
    }

    fn find(args: &GlobalArgs) -> Place {
        let filled = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        if let Some(path) = GlobalArgs::given(args.auth_token_file.as_ref()) {
            return Place::File(path.clone());
        }
        if let Some(token) = filled(args.auth_token.as_ref()) {
            return Place::Text("NIKS3_AUTH_TOKEN", token);
        }
        if let Some(command) = filled(args.auth_token_command.as_ref()) {
            return Place::Command(command);
        }
        let usual = default_file().into_iter().chain([PathBuf::from(PROJECTED)]).find(|path| path.exists());
        if let Some(path) = usual {
            return Place::File(path);
        }
        if let Some(token) = variable("NIKS3_ID_TOKEN") {
            return Place::Text("NIKS3_ID_TOKEN", token);
        }
        GitHub::of_this_job().map_or(Place::None, Place::GitHub)
    }

    /// Where it is looked for, in words.
    pub(super) fn place_name(&self) -> String {
        match &self.place {
            Place::None => "nowhere".to_owned(),
            Place::Text(name, _) => (*name).to_owned(),
            Place::File(path) => path.display().to_string(),
            Place::Command(_) => "the token command".to_owned(),
            Place::GitHub(_) => "GitHub".to_owned(),
        }
    }

    pub(super) async fn read(
        &self,
        http: &reqwest::Client,
        server: &Url,
    ) -> Result<Option<String>, TokenError> {
        match &self.place {
            Place::None => Ok(None),
            Place::Text(name, token) => checked(token, || (*name).to_owned()).map(Some),
            Place::File(path) => read_file(path).map(Some),
            Place::Command(_) | Place::GitHub(_) => {
                let mut kept = self.kept.lock().await;
                if let Some(kept) = kept.as_ref().filter(|kept| kept.until > Instant::now()) {
                    return Ok(Some(kept.token.clone()));
                }
                let made = match &self.place {
                    Place::Command(command) => Some(command::run(command).await?),
                    Place::GitHub(github) => github.ask(http, server).await?,
                    _ => None,
                };
                let token = made.as_ref().map(|made| made.token.clone());
                *kept = made;
                Ok(token)
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, TokenError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(TokenError::Empty(path.to_owned())),
        token => checked(token, || format!("the token file {}", path.display())),
    }
}

/// Whether it can be sent at all.
fn checked(token: &str, place: impl FnOnce() -> String) -> Result<String, TokenError> {
    let token = token.trim();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(token.to_owned()) } else { Err(TokenError::Form(place())) }
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// `$XDG_CONFIG_HOME/niks3/auth-token`. A relative folder would be one of whatever is worked on, and what lies there may
/// name a command to run.
pub(crate) fn default_file() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("niks3/auth-token"))
}
