//! The token GitHub Actions gives a job with `permissions: id-token: write`, for the audience the server names.

use std::time::{Duration, Instant};

use niks3_protocol::api::cache_config::CacheConfig;
use reqwest::{Response, Url};
use serde::Deserialize;

use super::{Kept, TokenError, checked, variable};

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
        let failed = |problem: String| TokenError::GitHub(problem);
        let mut url = server.clone();
        url.set_path(&format!("{}/api/cache-config", server.path().trim_end_matches('/')));
        let config = http.get(url).query(&[("issuer", &self.issuer)]).timeout(LIMIT);
        let config = config.send().await.and_then(Response::error_for_status);
        let config =
            config.map_err(|error| failed(format!("the cache names no audience: {}", said(&error))))?;
        let config: CacheConfig = config
            .json()
            .await
            .map_err(|error| failed(format!("the cache names no audience: {}", said(&error))))?;
        let Some(audience) = config.oidc_audience else { return Ok(None) };
        let url = Url::parse(&self.url).map_err(|_| failed("its address is not a URL".to_owned()))?;
        let request = http.get(url).query(&[("audience", &audience)]).bearer_auth(&self.token).timeout(LIMIT);
        let answer = request.send().await.and_then(Response::error_for_status);
        let answer = answer.map_err(|error| failed(said(&error)))?;
        let given: Given = answer.json().await.map_err(|error| failed(said(&error)))?;
        let token = checked(&given.value, || "GitHub's answer".to_owned())?;
        Ok(Some(Kept { token, until: Instant::now() + LASTS }))
    }
}

/// Without the address, which is nobody else's.
fn said(error: &reqwest::Error) -> String {
    match error.status() {
        Some(status) => format!("it answered {status}"),
        None if error.is_decode() => "the answer cannot be read".to_owned(),
        None => "it cannot be reached".to_owned(),
    }
}
