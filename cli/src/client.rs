//! One server over HTTP, and the PUTs to S3. Both are tried again where that can help.

mod address;
mod answer;
mod calls;
mod error;
mod exchange;
mod facts;
mod fsck_calls;
mod gc_answer;
mod gc_calls;
mod pace;
mod path_calls;
mod retry;
mod token;

use std::time::Duration;

use bytes::Bytes;
use niks3_protocol::api::ErrorBody;
use niks3_protocol::duration::GoDuration;
use reqwest::header::{ETAG, HeaderMap};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::GlobalArgs;
use answer::{first_line, foreign, is_of_checksum, s3_message};
use error::unreachable;
pub(crate) use error::{ClientError, may_be_reached};
use exchange::{Answered, Failure};
use gc_answer::ConflictAnswer;
use pace::Pace;
use retry::Attempts;
use token::TokenSource;
pub(crate) use token::{TokenError, default_file as default_token_file};

/// To reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte in either direction. A commit of ten thousand objects takes the server a second or two.
const SILENCE: Duration = Duration::from_mins(2);
/// Without a byte of ours acknowledged.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Requests to S3 under way at a time, where nothing else is said.
const MAX_UPLOADS: usize = 30;

/// Talks to one server, and to the S3 it names.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: TokenSource,
    pace: Pace,
    timeout: Option<Duration>,
}

impl Client {
    pub(crate) fn new(args: &GlobalArgs) -> Result<Self, ClientError> {
        let base = address(args)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("niks3/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(STALL_TIMEOUT)
            .tcp_nodelay(true)
            .redirect(Policy::custom(follow))
            .pool_max_idle_per_host(64);
        let read = |what, path: &std::path::Path| {
            std::fs::read(path).map_err(|source| ClientError::ReadFile {
                what,
                path: path.to_owned(),
                source,
            })
        };
        if let Some(path) = GlobalArgs::given(args.ca_cert.as_ref()) {
            let what = "the CA certificate";
            let certificates = reqwest::Certificate::from_pem_bundle(&read(what, path)?)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| ClientError::Pem { what, path: path.clone() })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let pair = (args.client_cert.as_ref(), args.client_key.as_ref());
        let pair = (GlobalArgs::given(pair.0), GlobalArgs::given(pair.1));
        if pair.0.is_some() != pair.1.is_some() {
            return Err(ClientError::HalfIdentity);
        }
        if let (Some(certificate), Some(key)) = pair {
            let what = "the client certificate";
            let mut pem = read(what, certificate)?;
            pem.extend_from_slice(&read("the client key", key)?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|_| ClientError::Pem { what, path: certificate.clone() })?;
            builder = builder.identity(identity);
        }
        let http = builder.build().map_err(ClientError::SetUp)?;
        Ok(Self { http, base, token: TokenSource::new(args)?, pace: Pace::new(MAX_UPLOADS), timeout: None })
    }

    /// So many requests to S3 at a time; each request ends after that time at the latest.
    pub(crate) fn with_limits(self, uploads: usize, timeout: Option<Duration>) -> Self {
        Self { pace: Pace::new(uploads), timeout, ..self }
    }

    /// The server, as journals name it.
    pub(crate) fn server(&self) -> &str {
        self.base.as_str()
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> String {
        host(&self.base)
    }

    /// Sends an object or a part to S3; gives its `ETag`.
    pub(crate) async fn put(
        &self,
        url: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<String, ClientError> {
        let target = Url::parse(url).map_err(|_| ClientError::NotNiks3 {
            host: self.host(),
            problem: "an upload address is not a URL".to_owned(),
        })?;
        let mut attempts = Attempts::new();
        loop {
            let request = self.http.put(target.clone()).headers(headers.clone());
            let turn = self.pace.turn().await;
            let error = match self.exchange(request, Some(&body)).await {
                Ok(answer) if answer.status.is_success() => {
                    turn.went_well();
                    let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok());
                    return Ok(etag.unwrap_or_default().to_owned());
                }
                Ok(answer) => {
                    attempts.note(&answer.headers);
                    let (host, status) = (host(&target), answer.status);
                    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                        turn.was_too_much();
                    }
                    let said = answer.body.unwrap_or_default();
                    let said = String::from_utf8_lossy(&said);
                    if status == StatusCode::FORBIDDEN && address::is_over(&target, &said) {
                        return Err(ClientError::Expired { host });
                    }
                    if status == StatusCode::BAD_REQUEST && is_of_checksum(&said) {
                        return Err(ClientError::Damaged { host, message: s3_message(&said) });
                    }
                    ClientError::Bucket { host, status, message: s3_message(&said) }
                }
                Err(_) if address::is_over(&target, "") => {
                    return Err(ClientError::Expired { host: host(&target) });
                }
                Err(failure) => self.unanswered(host(&target), &failure),
            };
            drop(turn); // others may go on while this one waits
            attempts.wait_or(error).await?;
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let bytes = self.send(method, path, query, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::NotNiks3 { host: self.host(), problem: error.to_string() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, ClientError> {
        let url = self.at(path);
        let body = body.map(serde_json::to_vec).transpose().map(|body| body.map(Bytes::from));
        let body =
            body.map_err(|error| ClientError::NotNiks3 { host: self.host(), problem: error.to_string() })?;
        let mut attempts = Attempts::new();
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if !query.is_empty() {
                request = request.query(query);
            }
            match self.token.read(&self.http, &self.base).await {
                Ok(Some(token)) => request = request.bearer_auth(token),
                Ok(None) => {}
                Err(error) => {
                    attempts.wait_or(error.into()).await?;
                    continue;
                }
            }
            if body.is_some() {
                request = request.header("content-type", "application/json");
            }
            let error = match self.exchange(request, body.as_ref()).await {
                Ok(answer) => {
                    attempts.note(&answer.headers);
                    match self.read_answer(answer) {
                        Ok(bytes) => return Ok(bytes),
                        Err(error) => error,
                    }
                }
                Err(failure) => self.unanswered(self.host(), &failure),
            };
            attempts.wait_or(error).await?;
        }
    }

    /// The address of a call.
    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// No answer, or none within the time that was given.
    fn unanswered(&self, host: String, failure: &Failure) -> ClientError {
        let error = match failure {
            Failure::Http(error) => error,
            Failure::Silence(limit) => {
                let problem = format!("nothing was taken or said for {}", GoDuration(*limit));
                return ClientError::Unreachable { host, problem, passing: true };
            }
        };
        match self.timeout.filter(|_| error.is_timeout() && !error.is_connect()) {
            Some(timeout) => ClientError::TimedOut { host, timeout: GoDuration(timeout) },
            None => unreachable(host, error),
        }
    }

    fn read_answer(&self, answer: Answered) -> Result<Bytes, ClientError> {
        let (host, status, headers) = (self.host(), answer.status, answer.headers);
        let bytes = answer.body.map_err(|error| self.unanswered(host.clone(), &Failure::Http(error)))?;
        if status.is_success() {
            return Ok(bytes);
        }
        if let Some(problem) = foreign(status, &headers) {
            return Err(ClientError::NotNiks3 { host, problem });
        }
        if status == StatusCode::CONFLICT
            && let Ok(conflict) = serde_json::from_slice::<ConflictAnswer>(&bytes)
        {
            return Err(ClientError::GcConflict(Box::new(conflict.active_task.0)));
        }
        let message = match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error: message, objects, .. }) if !objects.is_empty() => {
                return Err(ClientError::RefusedObjects { host, status, message, objects });
            }
            Ok(body) => body.error,
            // niks3 1.7 answers with plain text.
            Err(_) => first_line(&String::from_utf8_lossy(&bytes)),
        };
        Err(ClientError::Refused { host, status, message })
    }
}

/// The server's address.
pub(crate) fn address(args: &GlobalArgs) -> Result<Url, ClientError> {
    let text = args.server_url.as_deref().filter(|url| !url.is_empty()).ok_or(ClientError::NoServer)?;
    let url = Url::parse(text).ok();
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(|| {
        // A password may stand before the @.
        ClientError::BadUrl(text.rsplit('@').next().unwrap_or_default().to_owned())
    })
}

/// Only redirects that keep the method, as S3 sends them: after others a POST arrives as a GET.
fn follow(attempt: Attempt<'_>) -> Action {
    let keeps = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
    if keeps && attempt.previous().len() < 5 { attempt.follow() } else { attempt.stop() }
}

fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}
