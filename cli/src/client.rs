//! The server's calls, one method each, and the PUTs to S3. Both are tried again where that can help.

mod gc_answer;
mod retry;
mod token;

use std::time::Duration;

use bytes::Bytes;
use niks3_protocol::api::ErrorBody;
use niks3_protocol::api::WhoAmI;
use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::api::closures::{Closure, RefreshRequest, RefreshResponse};
use niks3_protocol::api::gc::{GcParams, GcStatus};
use niks3_protocol::api::multipart::{CompleteMultipartRequest, RequestPartsRequest, RequestPartsResponse};
use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, SignRequest, SignResponse};
use niks3_protocol::api::pins::{CreatePinRequest, Pin, PinName};
use niks3_protocol::nix::StorePath;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, LOCATION};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::GlobalArgs;
use gc_answer::{ConflictAnswer, GcAnswer};
use retry::Attempts;
pub(crate) use token::TokenError;
use token::TokenSource;

/// To reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte of the answer. A commit of ten thousand objects takes the server a second or two.
const READ_TIMEOUT: Duration = Duration::from_mins(2);
/// Without a byte of ours acknowledged.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no server: give --server-url or set NIKS3_SERVER_URL")]
    NoServer,
    #[error("{0:?} is not the URL of a server")]
    BadUrl(String),
    #[error("{what} {path} cannot be read")]
    ReadFile { what: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("{what} {path} is not PEM")]
    Pem { what: &'static str, path: std::path::PathBuf },
    #[error("the HTTP client cannot be set up")]
    SetUp(#[source] reqwest::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("a client certificate and its key go together; only one of them was given")]
    HalfIdentity,
    #[error("{host} cannot be reached: {problem}")]
    Unreachable {
        host: String,
        problem: String,
        /// Another try may go better.
        passing: bool,
    },
    #[error("{message} ({host} answered {status})")]
    Refused { host: String, status: StatusCode, message: String },
    #[error("{host} does not answer as a niks3 server does: {problem}")]
    NotNiks3 { host: String, problem: String },
    #[error("{host} is a server of an older version, which cannot {what}")]
    TooOld { host: String, what: &'static str },
    #[error("another collection is running")]
    GcConflict(Box<GcStatus>),
}

impl ClientError {
    /// Wrong configuration or permission: trying again cannot help.
    pub(crate) fn is_configuration(&self) -> bool {
        match self {
            Self::NoServer
            | Self::BadUrl(_)
            | Self::ReadFile { .. }
            | Self::Pem { .. }
            | Self::SetUp(_)
            | Self::Token(_)
            | Self::HalfIdentity
            | Self::NotNiks3 { .. } => true,
            Self::Refused { status, .. } => {
                matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            Self::Unreachable { .. } | Self::TooOld { .. } | Self::GcConflict(_) => false,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => {
                Some("is the token file the one of this cache, and made for its audience?")
            }
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN => {
                Some("`niks3 whoami` shows who the server thinks you are and what you may do")
            }
            Self::NotNiks3 { .. } => {
                Some("--server-url is where paths are pushed to; Nix may read them from elsewhere")
            }
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Talks to one server, and to the S3 it names.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: TokenSource,
}

impl Client {
    pub(crate) fn new(args: &GlobalArgs) -> Result<Self, ClientError> {
        let text = args.server_url.as_deref().filter(|url| !url.is_empty()).ok_or(ClientError::NoServer)?;
        let base = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                // A password may stand before the @.
                ClientError::BadUrl(text.rsplit('@').next().unwrap_or_default().to_owned())
            })?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("niks3/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
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
        Ok(Self { http, base, token: TokenSource::new(args)? })
    }

    /// Host and port, for messages.
    pub(crate) fn host(&self) -> String {
        host(&self.base)
    }

    pub(crate) async fn cache_config(&self) -> Result<CacheConfig, ClientError> {
        let answer = self.call(Method::GET, "api/cache-config", &[], None::<&()>).await;
        answer.map_err(|error| match error.status() {
            Some(status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)) => {
                ClientError::NotNiks3 {
                    host: self.host(),
                    problem: format!("/api/cache-config gives {status}"),
                }
            }
            _ => error,
        })
    }

    pub(crate) async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        match self.call(Method::GET, "api/whoami", &[], None::<&()>).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.cache_config().await?;
                Err(ClientError::TooOld { host: self.host(), what: "say who you are" })
            }
            answer => answer,
        }
    }

    /// Which of the roots are there already; `None` where the server is too old to say.
    pub(crate) async fn refresh(
        &self,
        closures: Vec<String>,
    ) -> Result<Option<RefreshResponse>, ClientError> {
        let body = RefreshRequest { closures };
        match self.call(Method::POST, "api/closures/refresh", &[], Some(&body)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error)
                if matches!(
                    error.status(),
                    Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn begin(&self, request: &BeginRequest) -> Result<BeginResponse, ClientError> {
        self.call(Method::POST, "api/pending_closures", &[], Some(request)).await
    }

    pub(crate) async fn sign(&self, id: &str, request: &SignRequest) -> Result<SignResponse, ClientError> {
        self.call(Method::POST, &format!("api/pending_closures/{id}/sign"), &[], Some(request)).await
    }

    /// Commits. Where the answer to an earlier attempt was lost, the closure is found committed.
    pub(crate) async fn complete(&self, id: &str, root: &str) -> Result<(), ClientError> {
        let path = format!("api/pending_closures/{id}/complete");
        match self.send(Method::POST, &path, &[], None::<&()>).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                let found = self.call(Method::GET, &format!("api/closures/{root}"), &[], None::<&()>).await;
                found.map(|_: Closure| ()).map_err(|_| error)
            }
            result => result.map(drop),
        }
    }

    pub(crate) async fn request_parts(
        &self,
        request: &RequestPartsRequest,
    ) -> Result<RequestPartsResponse, ClientError> {
        self.call(Method::POST, "api/multipart/request-parts", &[], Some(request)).await
    }

    pub(crate) async fn complete_multipart(
        &self,
        request: &CompleteMultipartRequest,
    ) -> Result<(), ClientError> {
        self.send(Method::POST, "api/multipart/complete", &[], Some(request)).await.map(drop)
    }

    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, ClientError> {
        self.call(Method::GET, "api/pins", &[], None::<&()>).await
    }

    pub(crate) async fn create_pin(&self, name: &PinName, path: &StorePath) -> Result<(), ClientError> {
        let body = CreatePinRequest { store_path: path.to_string() };
        self.send(Method::POST, &format!("api/pins/{name}"), &[], Some(&body)).await.map(drop)
    }

    pub(crate) async fn delete_pin(&self, name: &PinName) -> Result<(), ClientError> {
        self.send(Method::DELETE, &format!("api/pins/{name}"), &[], None::<&()>).await.map(drop)
    }

    pub(crate) async fn start_gc(&self, params: &GcParams) -> Result<GcStatus, ClientError> {
        let mut query = vec![
            ("older-than", params.older_than.to_string()),
            ("failed-uploads-older-than", params.failed_uploads_older_than.to_string()),
        ];
        if params.force {
            query.push(("force", "true".to_owned()));
        }
        if let Some(grace) = params.deletion_grace {
            query.push(("deletion-grace", grace.to_string()));
        }
        let answer: GcAnswer = self.call(Method::DELETE, "api/closures", &query, None::<&()>).await?;
        Ok(answer.0)
    }

    pub(crate) async fn gc_status(&self) -> Result<GcStatus, ClientError> {
        let answer: GcAnswer = self.call(Method::GET, "api/gc/status", &[], None::<&()>).await?;
        Ok(answer.0)
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
            let request = self.http.put(target.clone()).headers(headers.clone()).body(body.clone());
            let error = match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
                    return Ok(etag.unwrap_or_default().to_owned());
                }
                Ok(answer) => {
                    attempts.note(answer.headers());
                    let (host, status) = (host(&target), answer.status());
                    let message = s3_message(&answer.text().await.unwrap_or_default());
                    ClientError::Refused { host, status, message }
                }
                Err(error) => unreachable(host(&target), &error),
            };
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
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        let body = body.map(serde_json::to_vec).transpose().map(|body| body.map(Bytes::from));
        let body =
            body.map_err(|error| ClientError::NotNiks3 { host: self.host(), problem: error.to_string() })?;
        let mut attempts = Attempts::new();
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if !query.is_empty() {
                request = request.query(query);
            }
            if let Some(token) = self.token.read()? {
                request = request.bearer_auth(token);
            }
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.clone());
            }
            let error = match request.send().await {
                Ok(answer) => {
                    attempts.note(answer.headers());
                    match self.read_answer(answer).await {
                        Ok(bytes) => return Ok(bytes),
                        Err(error) => error,
                    }
                }
                Err(error) => unreachable(self.host(), &error),
            };
            attempts.wait_or(error).await?;
        }
    }

    async fn read_answer(&self, answer: reqwest::Response) -> Result<Bytes, ClientError> {
        let (host, status) = (self.host(), answer.status());
        let headers = answer.headers().clone();
        let bytes = answer.bytes().await.map_err(|error| unreachable(host.clone(), &error))?;
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
            Ok(body) => body.error,
            // niks3 1.7 answers with plain text.
            Err(_) => first_line(&String::from_utf8_lossy(&bytes)),
        };
        Err(ClientError::Refused { host, status, message })
    }
}

/// Only redirects that keep the method, as S3 sends them: after others a POST arrives as a GET.
fn follow(attempt: Attempt<'_>) -> Action {
    let keeps = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
    if keeps && attempt.previous().len() < 5 { attempt.follow() } else { attempt.stop() }
}

/// What shows that an answer is not a niks3 server's. A gateway before one may send pages of its own while the
/// server is away, so a status that may pass shows nothing.
fn foreign(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if status.is_redirection() {
        return Some(format!("it redirects to {}", text(LOCATION)));
    }
    let kind = text(CONTENT_TYPE);
    let page = kind.contains("html") || kind.contains("xml");
    (page && !retry::is_passing(status)).then(|| format!("it sent a web page with status {status}"))
}

/// No answer. The causes between ours and the first one say nothing to people.
fn unreachable(host: String, error: &reqwest::Error) -> ClientError {
    let mut first: &dyn std::error::Error = error;
    while let Some(cause) = first.source() {
        first = cause;
    }
    let problem = first.to_string();
    // What is not trusted now will not be in a second.
    let passing = !error.is_builder() && !problem.contains("certificate");
    ClientError::Unreachable { host, problem, passing }
}

fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

fn first_line(text: &str) -> String {
    let line: String = text.lines().next().unwrap_or_default().chars().take(300).collect();
    if line.is_empty() || line.starts_with('<') { "no reason was given".to_owned() } else { line }
}

/// The code and message of S3's XML.
fn s3_message(xml: &str) -> String {
    let part = |tag: &str| {
        let start = xml.find(&format!("<{tag}>"))? + tag.len() + 2;
        xml[start..].split('<').next()
    };
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!("S3 refused the upload: {code}: {message}"),
        _ => "S3 refused the upload".to_owned(),
    }
}
