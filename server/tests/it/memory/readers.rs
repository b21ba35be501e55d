//! A large NAR for many at once, none of whom takes it as fast as the bucket gives it. Who takes nothing at all is in
//! connections.rs.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Idle, begin};
use crate::connections::read;
use crate::support::closure::TestPath;

const SIZE: usize = 256 << 20;
const READERS: usize = 16;
/// So much at a time, and a pause: the whole would take each of them a minute.
const STEP: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(250);
/// In MiB, for all readers together. Read ahead for them, in this time the whole NAR would be there for each.
const LIMIT: u64 = 64;

/// A connection on which the NAR is asked for, with little room on the reader's side.
async fn ask(server: &Idle, key: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET /{key} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_nar_for_many_slow_readers_takes_memory_that_is_bounded() {
    let server = Idle::start().await;
    let path = TestPath::new("large", &[]);
    let key = path.nar_key();
    let begun = begin(&server.http, &server.url, path.objects(), &path).await;
    let address = begun.pending_objects[&key].presigned_url.as_ref().unwrap();
    let put = server.http.put(address).body(vec![7; SIZE]).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.status());

    let slow = (0..READERS).map(async |_| {
        let stream = ask(&server, &key).await;
        timeout(Duration::from_secs(6), read(stream, STEP, PAUSE)).await
    });
    for read in join_all(slow).await {
        assert!(read.is_err(), "{read:?} bytes and the end came sooner than they can be taken");
    }
    server.took_less_than(LIMIT, "a NAR of 256 MiB for 16 slow readers");
    // They hung up; who comes then has all of it.
    let total = read(ask(&server, &key).await, usize::MAX, Duration::ZERO).await;
    assert!(total > SIZE, "{total} bytes came");
    server.took_less_than(LIMIT, "the same for one that is fast");
}
