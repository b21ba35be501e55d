//! What `niks3 doctor` asks beside the calls of a push.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::exchange::Failure;
use super::{Client, ClientError};

/// A token, without showing it.
#[derive(Debug)]
pub(crate) struct TokenFacts {
    /// Where it was found.
    pub(crate) place: String,
    /// When it is over, where it says so.
    pub(crate) expires: Option<i64>,
}

/// The part of a JWT that matters here. Nothing is trusted that is read so: the server checks it.
#[derive(Deserialize)]
struct Claims {
    exp: Option<i64>,
}

impl Client {
    /// Seconds by which the server's clock is ahead of this machine's; `None` where it does not say its time.
    pub(crate) async fn clock_ahead(&self) -> Result<Option<i64>, ClientError> {
        let before = SystemTime::now();
        let (_, headers, _) = self.read(&self.at("health"), false).await?;
        let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok(date.map(|server| {
            // The header has whole seconds, and the answer took a while.
            let ours = before + before.elapsed().unwrap_or_default() / 2;
            let seconds = |span: std::time::Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
            match server.duration_since(ours) {
                Ok(ahead) => seconds(ahead),
                Err(behind) => -seconds(behind.duration()),
            }
        }))
    }

    /// The token itself.
    pub(crate) async fn token(&self) -> Result<Option<String>, ClientError> {
        Ok(self.token.read(&self.http, &self.base).await?)
    }

    /// The token that calls are made with; `None` where there is none.
    pub(crate) async fn token_facts(&self) -> Result<Option<TokenFacts>, ClientError> {
        let token = self.token().await?;
        Ok(token.map(|token| TokenFacts { place: self.token.place_name(), expires: expiry(&token) }))
    }

    /// One GET of any address. The token goes along only where that is wanted and to the server itself.
    pub(crate) async fn read(
        &self,
        url: &Url,
        with_token: bool,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ClientError> {
        let mut request = self.http.get(url.clone());
        let wanted = with_token && url.origin() == self.base.origin();
        if wanted && let Some(token) = self.token().await? {
            request = request.bearer_auth(token);
        }
        let failed = |failure| self.unanswered(super::host(url), &failure);
        let answer = self.exchange(request, None).await.map_err(failed)?;
        let body = answer.body.map_err(|error| failed(Failure::Http(error)))?;
        Ok((answer.status, answer.headers, body))
    }
}

/// When a JWT is over.
fn expiry(token: &str) -> Option<i64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&payload).ok()?.exp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_when_it_is_over() {
        let jwt = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(expiry(&jwt(r#"{"exp":1795255200,"sub":"x"}"#)), Some(1_795_255_200));
        assert_eq!(expiry(&jwt("{}")), None);
        assert_eq!(expiry("a-static-token-0123456789"), None);
    }
}
