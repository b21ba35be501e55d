//! The token GitHub Actions gives a job with `permissions: id-token: write`, for the audience the server names.

use std::time::{Duration, Instant};

use niks3_protocol::api::cache_config::CacheConfig;
use reqwest::{Response, Url};
use serde::Deserialize;

use super::{Kept, TokenError, checked, variable};
use crate::client::may_be_reached;
use crate::client::retry::is_passing;

/// GitHub's last five minutes.
const LASTS: Duration = Duration::from_mins(4);
/// Without an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// What GitHub lets a job ask with.
pub(super) struct GitHub {
    url: String,
    token: String,
    /// Who signs: github.com, or a GitHub Enterprise Server.
    issuer: String,
}

#[derive(Deserialize)]
struct Given {
    value: String,
}

impl GitHub {
    pub(super) fn of_this_job() -> Option<Self> {
        let server = variable("GITHUB_SERVER_URL").unwrap_or_default();
        let issuer = match server.trim_end_matches('/') {
            "" | "https://github.com" => "https://token.actions.githubusercontent.com".to_owned(),
            server => format!("{server}/_services/token"),
        };
        let (url, token) = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
        Some(Self { url: variable(url)?, token: variable(token)?, issuer })
    }

    /// A token for the audience of this server; `None` where it takes none of GitHub's.
    pub(super) async fn ask(&self, http: &reqwest::Client, server: &Url) -> Result<Option<Kept>, TokenError> {
        let unnamed = |error| failed(&error, "the cache names no audience: ");
        let given = |error| failed(&error, "");
        let mut url = server.clone();
        url.set_path(&format!("{}/api/cache-config", server.path().trim_end_matches('/')));
        let config = http.get(url).query(&[("issuer", &self.issuer)]).timeout(LIMIT);
        let config = config.send().await.and_then(Response::error_for_status);
        let config: CacheConfig = config.map_err(unnamed)?.json().await.map_err(unnamed)?;
        let Some(audience) = config.oidc_audience else { return Ok(None) };
        let url =
            Url::parse(&self.url).map_err(|_| TokenError::GitHub("its address is not a URL".to_owned()))?;
        let request = http.get(url).query(&[("audience", &audience)]).bearer_auth(&self.token).timeout(LIMIT);
        let answer = request.send().await.and_then(Response::error_for_status);
        let answer: Given = answer.map_err(given)?.json().await.map_err(given)?;
        let token = checked(&answer.value, || "GitHub's answer".to_owned())?;
        Ok(Some(Kept { token, until: Instant::now() + LASTS }))
    }
}

/// That GitHub or the cache is away, or has too much to do, says nothing of the configuration.
fn failed(error: &reqwest::Error, what: &str) -> TokenError {
    let problem = format!("{what}{}", said(error));
    let passing = match error.status() {
        Some(status) => is_passing(status),
        None => !error.is_decode() && may_be_reached(error),
    };
    if passing { TokenError::NotNow(problem) } else { TokenError::GitHub(problem) }
}

/// Without the address, which is nobody else's.
fn said(error: &reqwest::Error) -> String {
    match error.status() {
        Some(status) => format!("it answered {status}"),
        None if error.is_decode() => "the answer cannot be read".to_owned(),
        None => "it cannot be reached".to_owned(),
    }
}
