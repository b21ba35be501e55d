//! One request and its answer. It is given up when nothing moves, not when it takes long.
//!
//! reqwest's own limit runs from a request's start to its answer, whatever is sent meanwhile: on a slow line a part of
//! 10 MiB takes longer than a server may be silent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Request, RequestBuilder, Response, StatusCode, Url};
use tokio::time::Instant;

use super::{Client, SILENCE};

/// Bytes of a body handed on at a time. The connection asks for more when it has sent most of the last ones.
const CHUNK: usize = 64 << 10;
/// Redirects that a request with a body follows.
const MAX_REDIRECTS: usize = 5;

/// What was answered, and its body as far as it came.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Result<Bytes, reqwest::Error>,
}

/// Why there is no answer.
pub(super) enum Failure {
    Http(reqwest::Error),
    /// Nothing moved for so long.
    Silence(Duration),
}

impl Client {
    /// Sends a request that has no body yet, with this one.
    pub(super) async fn exchange(
        &self,
        request: RequestBuilder,
        body: Option<&Bytes>,
    ) -> Result<Answered, Failure> {
        let mut request = request.build().map_err(Failure::Http)?;
        *request.timeout_mut() = self.timeout;
        within(SILENCE, &self.http, request, body).await
    }
}

async fn within(
    limit: Duration,
    http: &reqwest::Client,
    request: Request,
    body: Option<&Bytes>,
) -> Result<Answered, Failure> {
    let moved = Moved(Arc::new(Mutex::new(Instant::now())));
    let answered = async {
        let mut answer = send(http, request, body, &moved).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answered { status, headers, body: read(&mut answer, &moved).await })
    };
    tokio::select! {
        answered = answered => answered.map_err(Failure::Http),
        () = moved.stopped(limit) => Err(Failure::Silence(limit)),
    }
}

/// Follows the redirects that reqwest does not follow with such a body.
async fn send(
    http: &reqwest::Client,
    mut request: Request,
    body: Option<&Bytes>,
    moved: &Moved,
) -> Result<Response, reqwest::Error> {
    let Some(body) = body else { return http.execute(request).await };
    let mut redirects = 0;
    loop {
        let Some(mut next) = request.try_clone() else { return http.execute(request).await };
        let watched = Watched { left: body.clone(), moved: moved.clone() };
        *next.body_mut() = Some(reqwest::Body::wrap(watched));
        let answer = http.execute(next).await?;
        let keeps = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT];
        redirects += 1;
        match target(request.url(), &answer).filter(|_| keeps.contains(&answer.status())) {
            Some(url) if redirects <= MAX_REDIRECTS => {
                if url.origin() != request.url().origin() {
                    request.headers_mut().remove(AUTHORIZATION);
                }
                *request.url_mut() = url;
            }
            _ => return Ok(answer),
        }
    }
}

fn target(from: &Url, answer: &Response) -> Option<Url> {
    from.join(answer.headers().get(LOCATION)?.to_str().ok()?).ok()
}

async fn read(answer: &mut Response, moved: &Moved) -> Result<Bytes, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        moved.note();
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// When bytes moved last.
#[derive(Clone)]
struct Moved(Arc<Mutex<Instant>>);

impl Moved {
    fn note(&self) {
        *self.lock() = Instant::now();
    }

    /// Waits until nothing has moved for that time.
    async fn stopped(&self, limit: Duration) {
        loop {
            let end = *self.lock() + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that notes when more of it is asked for.
struct Watched {
    left: Bytes,
    moved: Moved,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.moved.note();
        let count = self.left.len().min(CHUNK);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(self.left.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;

    /// A port whose connections take little before somebody reads.
    fn narrow() -> (TcpListener, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(8).unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        (listener, url)
    }

    async fn put(url: &str, limit: Duration, size: usize) -> Result<Answered, Failure> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().build().unwrap();
        let request = http.put(url).bearer_auth("secret").build().unwrap();
        within(limit, &http, request, Some(&Bytes::from(vec![7; size]))).await
    }

    /// Reads a request of that size, a piece after each pause; gives its head.
    async fn take(stream: &mut TcpStream, size: usize, pause: Duration) -> String {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 128 << 10]);
        let head = |all: &[u8]| all.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        while head(&all).is_none_or(|head| all.len() < head + size) {
            tokio::time::sleep(pause).await;
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "it was cut after {} bytes", all.len());
            all.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&all[..head(&all).unwrap()]).to_ascii_lowercase()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_line_is_none_that_stands_still() {
        const SIZE: usize = 24 << 20;
        let (listener, url) = narrow();
        let server = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            let head = take(&mut stream, SIZE, Duration::from_millis(25)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            head
        });
        let (limit, started) = (Duration::from_secs(3), Instant::now());
        let Ok(answer) = put(&url, limit, SIZE).await else { panic!("it was given up while bytes moved") };
        assert_eq!((answer.status, answer.body.unwrap().as_ref()), (StatusCode::OK, &b"ok"[..]));
        assert!(started.elapsed() > limit, "the line was fast: {:?}", started.elapsed());
        let head = server.await.unwrap();
        assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_takes_nothing_or_says_nothing_is_given_up() {
        let limit = Duration::from_secs(1);
        for taken in [0, 100_000] {
            let (listener, url) = narrow();
            let server = tokio::spawn(async move {
                let mut stream = listener.accept().await.unwrap().0;
                if taken > 0 {
                    take(&mut stream, taken, Duration::ZERO).await;
                }
                std::future::pending::<()>().await;
                drop(stream);
            });
            let size = if taken > 0 { taken } else { 16 << 20 };
            assert!(matches!(put(&url, limit, size).await, Err(Failure::Silence(_))), "{taken}");
            server.abort();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn redirects_keep_the_body_and_tell_no_other_host_the_token() {
        let ((first, url), (second, other)) = (narrow(), narrow());
        let server = tokio::spawn(async move {
            let mut heads = Vec::new();
            for (listener, answer) in [
                (
                    &first,
                    "HTTP/1.1 307 Go\r\nconnection: close\r\ncontent-length: 0\r\nlocation: /y\r\n\r\n"
                        .to_owned(),
                ),
                (
                    &first,
                    format!(
                        "HTTP/1.1 308 Go\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {other}\r\n\r\n"
                    ),
                ),
                (&second, "HTTP/1.1 201 Made\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()),
            ] {
                let mut stream = listener.accept().await.unwrap().0;
                heads.push(take(&mut stream, 100_000, Duration::ZERO).await);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        let Ok(answer) = put(&url, Duration::from_secs(20), 100_000).await else { panic!("no answer") };
        assert_eq!(answer.status, StatusCode::CREATED);
        let heads = server.await.unwrap();
        assert!(heads[1].starts_with("put /y ") && heads[1].contains("secret"), "{heads:?}");
        assert!(heads[2].starts_with("put /x ") && !heads[2].contains("secret"), "{heads:?}");
    }
}
