//! Between the program, or the server, and S3: knows each call and what S3 said to it, and may answer in its place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::environment;

/// One call, once it was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Without the bucket.
    pub(crate) key: String,
    pub(crate) part: Option<u32>,
    pub(crate) status: u16,
}

/// What to do with a call, by its place in the order of calls and how many are under way with it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Treatment {
    /// Passed on after that time.
    Pass(Duration),
    /// Answered with that status, and never seen by S3.
    Answer(u16),
    /// Answered with that status after that time, and never seen by S3.
    AnswerLate(Duration, u16),
    /// Passed on with another body.
    Damage,
}

type Rule = dyn Fn(&str, usize, usize) -> Treatment + Send + Sync;

pub(crate) struct Recorder {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: String,
    rule: Box<Rule>,
    calls: Mutex<Vec<Call>>,
    begun: AtomicUsize,
    under_way: AtomicUsize,
}

impl Recorder {
    /// Before S3.
    pub(crate) async fn start(rule: impl Fn(usize, usize) -> Treatment + Send + Sync + 'static) -> Self {
        let by_count = move |_: &str, index, under_way| rule(index, under_way);
        Self::before(&environment("NIKS3_TEST_S3_ENDPOINT"), by_count).await
    }

    /// Before another origin, by what requests begin with.
    pub(crate) async fn before(
        origin: &str,
        rule: impl Fn(&str, usize, usize) -> Treatment + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: origin.trim_start_matches("http://").to_owned(),
            rule: Box::new(rule),
            calls: Mutex::default(),
            begun: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { url, shared, task }
    }

    /// Calls that were begun so far.
    pub(crate) fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// What was answered so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// How often S3 took each object or part.
    pub(crate) fn taken(&self) -> BTreeMap<(String, Option<u32>), usize> {
        let mut taken = BTreeMap::new();
        for call in self.calls().into_iter().filter(|call| call.status == 200) {
            *taken.entry((call.key, call.part)).or_insert(0) += 1;
        }
        taken
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection of the program: call after call, each on a connection of its own to S3.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut client = BufReader::new(stream);
    while let Some((head, mut body)) = read_message(&mut client, true).await {
        let index = shared.begun.fetch_add(1, Ordering::Relaxed);
        let under_way = shared.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = match (shared.rule)(&head, index, under_way) {
            Treatment::Pass(pause) => {
                tokio::time::sleep(pause).await;
                pass_on(&shared.target, &head, &body).await
            }
            Treatment::Damage => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
                pass_on(&shared.target, &head, &body).await
            }
            Treatment::Answer(status) => answer(Duration::from_millis(5), status).await,
            Treatment::AnswerLate(pause, status) => answer(pause, status).await,
        };
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        let Some(answer) = answer else { return };
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        shared.calls.lock().unwrap().push(call(&head, status));
        if client.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn answer(pause: Duration, status: u16) -> Option<Vec<u8>> {
    tokio::time::sleep(pause).await;
    Some(format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn call(head: &str, status: u16) -> Call {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let part = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")?.parse().ok());
    let key = path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    Call { method, key, part, status }
}

async fn pass_on(target: &str, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut s3 = BufReader::new(TcpStream::connect(target).await.ok()?);
    s3.get_mut().write_all(head.as_bytes()).await.ok()?;
    // S3 may have refused it already; then its answer is what counts.
    let _ = s3.get_mut().write_all(body).await;
    // What answers a HEAD says how long the body would be.
    let (head, body) = read_message(&mut s3, !head.starts_with("HEAD ")).await?;
    Some([head.as_bytes(), &body].concat())
}

/// Head and body of a request or an answer, as long as its `Content-Length` says.
async fn read_message(stream: &mut BufReader<TcpStream>, has_body: bool) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length, mut chunked) = (String::new(), 0, false);
    loop {
        let start = head.len();
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
        let line = head[start..].trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        chunked |= line == "transfer-encoding: chunked";
        if line.is_empty() {
            break;
        }
    }
    if chunked {
        return Some((head, read_chunks(stream).await?));
    }
    let mut body = vec![0; if has_body { length } else { 0 }];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// A body of which nobody said the length, as it came.
async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + "\r\n".len()];
        stream.read_exact(&mut chunk).await.ok()?;
        body.extend([line.as_bytes(), &chunk].concat());
        if length == 0 {
            return Some(body);
        }
    }
}
