//! What is small as it is stored and endless when it is decompressed.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use futures::future::join_all;
use reqwest::{Response, StatusCode};

use super::{Idle, begin};
use crate::support::closure::{TestPath, sign_request};
use crate::support::inspect::s3;
use crate::support::{ADMIN, refusal};

const GIB: u64 = 1 << 30;

/// One frame of zstd that is so many zeros: 128 KiB for every four bytes, and a window as large as is said.
fn bomb(window_log: u8, bytes: u64) -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    // Neither a size nor a checksum.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    let blocks = bytes / u64::from(BLOCK);
    for block in 1..=blocks {
        // One byte, repeated; the lowest bit says which block is the last.
        let header = BLOCK << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn a_bomb_is_zstd() {
    assert_eq!(zstd::decode_all(&*bomb(20, 1 << 20)).unwrap(), vec![0; 1 << 20]);
}

/// Begins an upload of the paths, said to be so long, and sends this in place of each NAR; its id.
async fn upload(server: &Idle, paths: &[TestPath], bytes: &[u8]) -> String {
    let objects = paths.iter().flat_map(TestPath::objects).collect();
    let begun = begin(&server.http, &server.url, objects, &paths[0]).await;
    for path in paths {
        let address = begun.pending_objects[&path.nar_key()].presigned_url.as_ref().unwrap();
        let put = server.http.put(address).body(bytes.to_vec()).send().await.unwrap();
        assert!(put.status().is_success(), "{}", put.status());
    }
    begun.id
}

async fn sign(server: &Idle, id: &str, path: &TestPath, nar_size: Option<u64>) -> Response {
    let mut body = sign_request(&[path]);
    let said = body.narinfos.get_mut(&path.key()).unwrap();
    said.nar_size = nar_size.unwrap_or(said.nar_size);
    let call = format!("{}/api/pending_closures/{id}/sign", server.url);
    server.http.post(call).bearer_auth(ADMIN).json(&body).send().await.unwrap()
}

/// As many at once as nobody needs, with the largest window that a NAR may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nar_that_is_a_bomb_is_refused_in_bounded_time_and_memory() {
    let server = Idle::told(&[("NIKS3_VERIFY_UPLOADS", "hash"), ("NIKS3_CALL_TIMEOUT", "3s")]).await;
    let paths: Vec<TestPath> = (0..16).map(|number| TestPath::new(&format!("bomb-{number}"), &[])).collect();
    let id = upload(&server, &paths, &bomb(27, 64 * GIB)).await;
    let begun = Instant::now();
    for answer in join_all(paths.iter().map(|path| sign(&server, &id, path, None))).await {
        let (status, text) = refusal(answer).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("holds more than the"), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.is_in_bounds_after("16 NARs that are bombs");

    // A window that Nix would not take either is not made room for.
    let wide = [TestPath::new("wide", &[])];
    let id = upload(&server, &wide, &bomb(31, GIB)).await;
    let (status, text) = refusal(sign(&server, &id, &wide[0], None).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("cannot be read as zstd"), "{text}");
    server.is_in_bounds_after("a NAR with a window of 2 GiB");
}

/// A NAR may be as long as it is said to be: then the time of the call is what ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_that_is_said_to_be_as_long_as_it_is_takes_no_longer_than_a_call_may() {
    let server = Idle::told(&[("NIKS3_VERIFY_UPLOADS", "hash"), ("NIKS3_CALL_TIMEOUT", "3s")]).await;
    let path = TestPath::new("long", &[]);
    let mut objects = path.objects();
    objects[1].nar_size = None;
    let begun = begin(&server.http, &server.url, objects, &path).await;
    server.place.write_object(&path.nar_key(), &bomb(20, 1024 * GIB)).await;
    let started = Instant::now();
    let (status, text) = refusal(sign(&server, &begun.id, &path, Some(1024 * GIB)).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    server.is_in_bounds_after("a NAR of a TiB of zeros");
}

/// Readers who ask for it plain are sent as much of it as they take, and it takes no more memory for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decoded_for_readers_takes_memory_that_is_bounded() {
    const TAKEN: usize = 64 << 20;
    let server = Idle::start().await;
    let path = TestPath::new("path", &[]);
    let keys = [path.key(), path.listing_key()];
    let put = async |key: &str, bytes: Vec<u8>| {
        let put = s3().put_object().bucket(server.place.bucket()).key(key).content_encoding("zstd");
        put.body(ByteStream::from(bytes)).send().await.unwrap();
    };
    for key in &keys {
        put(key, bomb(20, 64 * GIB)).await;
    }
    let read = async |key: &str| {
        let mut answer = server.http.get(format!("{}/{key}", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut total = 0;
        // Where the end is cut off, hyper says so.
        while total < TAKEN
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            total += chunk.len();
        }
        total
    };
    for total in join_all((0..8).map(|number| read(&keys[number % 2]))).await {
        assert!(total >= TAKEN, "{total} bytes came");
    }
    server.is_in_bounds_after("8 readers of bombs");
    put(&keys[1], bomb(31, GIB)).await;
    let wide = server.http.get(format!("{}/{}", server.url, keys[1])).send().await.unwrap();
    assert_eq!(wide.status(), StatusCode::BAD_GATEWAY, "no room is made for a window of 2 GiB");
    server.is_in_bounds_after("a listing with a window of 2 GiB");
    let health = server.http.get(format!("{}/readyz", server.url)).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
}
