//! Where the token comes from. A file is read for every call: projected tokens are renewed in place.

use std::fmt;
use std::path::PathBuf;

use crate::args::GlobalArgs;

/// A token that is not there. No token stands in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token file {path} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token file {0} is empty")]
    Empty(PathBuf),
    #[error("{0} does not hold a token: one word of printable characters")]
    Form(String),
}

/// Its `Debug` does not show a token.
pub(super) enum TokenSource {
    None,
    Text(String),
    File(PathBuf),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl TokenSource {
    /// The file that was named, the variable, or the usual file where there is one.
    pub(super) fn new(args: &GlobalArgs) -> Result<Self, TokenError> {
        if let Some(path) = GlobalArgs::given(args.auth_token_file.as_ref()) {
            let source = Self::File(path.clone());
            source.read()?;
            return Ok(source);
        }
        if let Some(token) = args.auth_token.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Self::Text(token.clone()));
        }
        Ok(default_file().filter(|path| path.exists()).map_or(Self::None, Self::File))
    }

    pub(super) fn read(&self) -> Result<Option<String>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Text(token) => checked(token, || "NIKS3_AUTH_TOKEN".to_owned()).map(Some),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| TokenError::Read { path: path.clone(), source })?;
                match text.trim() {
                    "" => Err(TokenError::Empty(path.clone())),
                    token => checked(token, || format!("the token file {}", path.display())).map(Some),
                }
            }
        }
    }
}

/// Whether it can be sent at all.
fn checked(token: &str, place: impl FnOnce() -> String) -> Result<String, TokenError> {
    let token = token.trim();
    let fits = token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(token.to_owned()) } else { Err(TokenError::Form(place())) }
}

/// `$XDG_CONFIG_HOME/niks3/auth-token`
fn default_file() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(config.join("niks3/auth-token"))
}
