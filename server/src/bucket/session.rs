//! Credentials that end, in files that somebody replaces before: what STS gave, with its session token. Where they end stands in
//! no file, so they are read again and again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;

/// What was read counts for so long, and is read again after half of it.
const COUNTS: Duration = Duration::from_secs(10);
/// Files are read until two readings in a row are the same, but not more often than this.
const READINGS: usize = 10;

/// Where they are.
#[derive(Debug, Clone)]
pub struct SessionFiles {
    /// Access key id.
    pub access_key: PathBuf,
    /// Secret access key.
    pub secret_key: PathBuf,
    /// Session token.
    pub session_token: PathBuf,
}

impl SessionFiles {
    /// What they hold, all of one time: a kubelet swaps them together, maybe between two reads.
    pub(super) async fn credentials(&self) -> Result<Credentials, String> {
        let mut read = self.read().await?;
        for _ in 0..READINGS {
            let again = self.read().await?;
            if again == read {
                break;
            }
            read = again;
        }
        let [id, secret, token] = read;
        Ok(Credentials::new(id, secret, Some(token), Some(SystemTime::now() + COUNTS), "session"))
    }

    async fn read(&self) -> Result<[String; 3], String> {
        let Self { access_key, secret_key, session_token } = self;
        Ok([
            one("access key", access_key).await?,
            one("secret key", secret_key).await?,
            one("session token", session_token).await?,
        ])
    }
}

async fn one(what: &str, path: &Path) -> Result<String, String> {
    let why = match tokio::fs::read_to_string(path).await.map(|text| text.trim().to_owned()) {
        Ok(text) if !text.is_empty() => return Ok(text),
        Ok(_) => "it is empty".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "the file with the {what}, {}, cannot be used ({why}); see that it is written",
        path.display()
    ))
}
