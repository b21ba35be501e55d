//! A front of the tests' S3 server that lacks something, as other S3 servers do, and is a real one otherwise.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::environment;

/// What it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It knows MD5 alone, and refuses what it does not know: B2, older MinIO.
    Checksums,
    /// It stores what does not fit its checksum: Ceph before Squid.
    Verification,
    /// It forgets `Content-Encoding`.
    Encoding,
    /// It lists from the start, wherever it is to go on.
    StartAfter,
    /// It lists late.
    Listing,
    /// It has no DeleteObjects.
    DeleteObjects,
    /// It deletes one key and not the other.
    OneOfTwo,
    /// It keeps versions.
    Overwriting,
    /// It does not let anybody list parts.
    ListParts,
    /// It says nothing of encryption.
    Encryption,
}

/// A running one.
pub(crate) struct Lesser {
    /// Its origin.
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Lesser {
    pub(crate) async fn without(lack: Lack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::new((lack, client)));
        Self { url, task: tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }) }
    }
}

impl Drop for Lesser {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(state): State<Arc<(Lack, reqwest::Client)>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (lack, client) = &*state;
    let query = uri.query().unwrap_or_default();
    let (deletes, lists) = (query.contains("delete"), query.contains("list-type=2"));
    let has_checksum = headers.keys().any(|name| name.as_str().contains("checksum"));
    let probes = query.contains("prefix=.niks3-probe-");
    match lack {
        Lack::Checksums if has_checksum => {
            return refuse(StatusCode::BAD_REQUEST, "InvalidArgument", "unsupported checksum header");
        }
        Lack::Checksums if deletes && !headers.contains_key("content-md5") => {
            return refuse(StatusCode::BAD_REQUEST, "MissingContentMD5", "Content-MD5 is missing");
        }
        Lack::DeleteObjects if deletes => {
            return refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "no such call");
        }
        Lack::OneOfTwo if deletes => return delete_all_but_the_first(&body),
        Lack::StartAfter if lists && probes => return list(query, &["Z", "a"]),
        Lack::Listing if lists && probes => return list(query, &[]),
        Lack::ListParts if method == Method::GET && query.contains("uploadId=") => {
            return refuse(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied.");
        }
        _ => {}
    }
    let put = method == Method::PUT;
    let target = format!("{}{uri}", environment("NIKS3_TEST_S3_ENDPOINT"));
    let real = client.request(method, target).headers(headers).body(body).send().await.unwrap();
    let mut answer = Response::builder().status(real.status());
    for (name, value) in real.headers() {
        answer = answer.header(name, value);
    }
    let mut answer = answer.body(Body::from(real.bytes().await.unwrap())).unwrap();
    match lack {
        Lack::Verification if put && has_checksum && answer.status() == StatusCode::BAD_REQUEST => {
            return StatusCode::OK.into_response();
        }
        Lack::Encryption => drop(answer.headers_mut().remove("x-amz-server-side-encryption")),
        Lack::Encoding => drop(answer.headers_mut().remove("content-encoding")),
        Lack::Overwriting if put => {
            answer.headers_mut().insert("x-amz-version-id", HeaderValue::from_static("3HL4kqtJlcpXroDTDmJ"));
        }
        _ => {}
    }
    answer
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")).into_response()
}

fn list(query: &str, ends: &[&str]) -> Response {
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap();
    let contents = ends.iter().fold(String::new(), |contents, end| {
        contents + &format!("<Contents><Key>{prefix}{end}</Key><Size>5</Size></Contents>")
    });
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>").into_response()
}

fn delete_all_but_the_first(body: &[u8]) -> Response {
    let body = std::str::from_utf8(body).unwrap();
    let first = body.split("<Key>").nth(1).unwrap().split("</Key>").next().unwrap();
    let error = format!("<Error><Key>{first}</Key><Code>AccessDenied</Code><Message>held</Message></Error>");
    format!("<DeleteResult>{error}</DeleteResult>").into_response()
}
