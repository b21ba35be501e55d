//! A command that prints a token: the token itself, or `{"token", "expires_at"}`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use time::OffsetDateTime;
use tokio::process::Command;

use super::{Kept, TokenError, checked};

/// How long it may take: somebody may have to touch a key.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a token is used that does not say when it expires.
const DEFAULT: Duration = Duration::from_mins(1);
/// A token is made anew so long before it expires.
const EARLY: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Printed {
    token: String,
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

pub(super) async fn run(command: &str) -> Result<Kept, TokenError> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, shell.output()).await;
    let output = output.map_err(|_| TokenError::Slow(LIMIT.as_secs()))?.map_err(TokenError::Start)?;
    if !output.status.success() {
        return Err(TokenError::Command(output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let printed: Printed = if text.trim_start().starts_with('{') {
        // The text of this error would show where the token is.
        serde_json::from_str(&text)
            .map_err(|_| TokenError::Command("it did not print {\"token\", \"expires_at\"}".to_owned()))?
    } else {
        Printed { token: text.into_owned(), expires_at: None }
    };
    let lasts = printed.expires_at.map_or(DEFAULT, |end| {
        Duration::try_from(end - OffsetDateTime::now_utc()).unwrap_or_default().saturating_sub(EARLY)
    });
    let token = checked(&printed.token, || "what the token command printed".to_owned())?;
    Ok(Kept { token, until: Instant::now() + lasts })
}
