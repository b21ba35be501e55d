//! Reads through the server: what a Nix client and an HTTP cache between see.

mod decoded;

use niks3_protocol::server_config::ReadMode;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response, StatusCode};

use crate::support::TestServer;
use crate::support::closure::TestPath;
use crate::support::inspect::s3;

impl TestServer {
    async fn read(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = headers
            .iter()
            .fold(self.anonymous(method, path), |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}")).to_str().unwrap()
}

/// A server with one path whose NAR has these stored bytes.
async fn with_path() -> (TestServer, TestPath, Vec<u8>) {
    let server = TestServer::start().await;
    let path = TestPath::with_nar("path", (0..100_000_u32).flat_map(u32::to_le_bytes).collect(), &[]);
    server.push(&[&path]).await;
    let stored = path.stored()[&path.nar_key()].clone();
    (server, path, stored)
}

#[tokio::test]
async fn narinfos_listings_and_logs_come_plain_or_as_stored() {
    let (server, path, _) = with_path().await;
    let narinfo = server.get(&format!("/{}", path.key())).await.text().await.unwrap();
    assert!(narinfo.starts_with(&format!("StorePath: {}\n", path.store_path)), "{narinfo}");
    // A client of niks3 stores them as zstd and says so.
    let put = format!("/log/{}", "00bgd045z0d4icpbc2yyz4gx48ak44la-hello.drv");
    server.place().write_encoded(&put[1..], b"built it").await;
    for (url, plain, kind) in [
        (format!("/{}", path.key()), narinfo.as_bytes(), "text/x-nix-narinfo"),
        (
            format!("/{}", path.listing_key()),
            &br#"{"version":1,"root":{"type":"directory","entries":{}}}"#[..],
            "application/json",
        ),
        (put.clone(), b"built it", "text/plain; charset=utf-8"),
    ] {
        let answer = server.get(&url).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(answer.headers(), "content-type"), kind);
        assert_eq!(header(answer.headers(), "vary"), "accept-encoding");
        assert!(answer.headers().get("content-encoding").is_none());
        assert_eq!(answer.bytes().await.unwrap(), plain, "{url}");

        let answer = server.read(Method::GET, &url, &[("accept-encoding", "gzip, zstd")]).await;
        assert_eq!(header(answer.headers(), "content-encoding"), "zstd");
        let tag = header(answer.headers(), "etag").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        assert_eq!(zstd::decode_all(&answer.bytes().await.unwrap()[..]).unwrap(), plain, "{url}");

        let head = server.read(Method::HEAD, &url, &[]).await;
        assert_eq!((head.status(), header(head.headers(), "content-type")), (StatusCode::OK, kind));
        assert!(head.bytes().await.unwrap().is_empty());
        let again = server.read(Method::GET, &url, &[("if-none-match", &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{url}");
        // Part of what is decoded on the way means nothing: the whole comes.
        let range = server.read(Method::GET, &url, &[("range", "bytes=0-1")]).await;
        assert_eq!((range.status(), range.bytes().await.unwrap().as_ref()), (StatusCode::OK, plain));
    }
}

#[tokio::test]
async fn a_narinfo_is_read_from_memory_for_a_moment_and_says_the_same() {
    let (server, path, _) = with_path().await;
    let url = format!("/{}", path.key());
    let encoded = [("accept-encoding", "zstd")];
    let what = async |method: Method, headers: &[(&str, &str)]| {
        let answer = server.read(method, &url, headers).await;
        let told = ["content-type", "etag", "last-modified", "cache-control", "vary", "content-encoding"]
            .map(|name| answer.headers().get(name).cloned());
        (answer.status(), told, answer.bytes().await.unwrap())
    };
    let (plain, stored) = (what(Method::GET, &[]).await, what(Method::GET, &encoded).await);
    assert_eq!(zstd::decode_all(&stored.2[..]).unwrap(), plain.2);
    // Behind the server's back: what it says now it does not have from the bucket.
    server.place().write_encoded(&path.key(), b"something else").await;
    assert_eq!(what(Method::GET, &[]).await, plain);
    assert_eq!(what(Method::GET, &encoded).await, stored);
    let (status, told, body) = what(Method::HEAD, &[]).await;
    assert_eq!((status, &told, body.len()), (plain.0, &plain.1, 0));
    // Who asks whether it changed is asking the bucket.
    let tag = plain.1[1].as_ref().unwrap().to_str().unwrap().to_owned();
    let changed = what(Method::GET, &[("if-none-match", &tag)]).await;
    assert_eq!((changed.0, &changed.2[..]), (StatusCode::OK, &b"something else"[..]));
}

#[tokio::test]
async fn a_nar_comes_whole_or_in_ranges() {
    let (server, path, stored) = with_path().await;
    let url = format!("/{}", path.nar_key());
    let whole = server.get(&url).await;
    let headers = whole.headers().clone();
    assert_eq!(header(&headers, "content-type"), "application/x-nix-nar");
    assert_eq!(header(&headers, "content-length"), stored.len().to_string());
    assert_eq!(header(&headers, "accept-ranges"), "bytes");
    assert!(header(&headers, "cache-control").contains("immutable"));
    assert!(headers.get("content-encoding").is_none());
    assert_eq!(whole.bytes().await.unwrap(), stored);

    let length = stored.len();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-99", 10, 99),
        (&format!("bytes={}-", length - 5), length - 5, length - 1),
        ("bytes=-7", length - 7, length - 1),
        ("bytes=5-99999999", 5, length - 1),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.read(method.clone(), &url, &[("range", range)]).await;
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{method} {range}");
            let said = header(answer.headers(), "content-range").to_owned();
            assert_eq!(said, format!("bytes {first}-{last}/{length}"), "{method} {range}");
            assert_eq!(header(answer.headers(), "content-length"), (last - first + 1).to_string());
            if method == Method::GET {
                assert_eq!(answer.bytes().await.unwrap(), stored[first..=last], "{range}");
            }
        }
    }
    for range in [format!("bytes={length}-"), "bytes=99999999-".to_owned()] {
        let answer = server.read(Method::GET, &url, &[("range", &range)]).await;
        assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(header(answer.headers(), "content-range"), format!("bytes */{length}"));
    }
    for range in ["bytes=9-1", "bytes=0-1,5-6", "lines=1-2", "bytes=x"] {
        let answer = server.read(Method::GET, &url, &[("range", range)]).await;
        assert_eq!(
            (answer.status(), answer.bytes().await.unwrap().len()),
            (StatusCode::OK, length),
            "{range}"
        );
    }
}

#[tokio::test]
async fn who_has_it_already_is_not_sent_it_again() {
    let (server, path, stored) = with_path().await;
    let url = format!("/{}", path.nar_key());
    let head = server.read(Method::HEAD, &url, &[]).await;
    assert_eq!(header(head.headers(), "content-length"), stored.len().to_string());
    let tag = header(head.headers(), "etag").to_owned();
    let date = header(head.headers(), "last-modified").to_owned();
    for (name, value, expected) in [
        ("if-none-match", tag.as_str(), 304),
        ("if-none-match", &format!("W/{tag}"), 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", &date, 304),
        ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("if-modified-since", "yesterday", 200),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.read(method.clone(), &url, &[(name, value)]).await;
            assert_eq!(answer.status().as_u16(), expected, "{method} {name}: {value}");
            if expected == 304 {
                assert!(header(answer.headers(), "cache-control").contains("immutable"));
                assert!(answer.bytes().await.unwrap().is_empty());
            }
        }
    }
    // A tag decides before a date does.
    let both = [("if-none-match", "\"other\""), ("if-modified-since", date.as_str())];
    assert_eq!(server.read(Method::GET, &url, &both).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_not_remembered() {
    let (server, path, _) = with_path().await;
    server.place().write_object("secret", b"not for everybody").await;
    let other = TestPath::new("other", &[]);
    for url in [
        format!("/{}", other.key()),
        format!("/{}", other.nar_key()),
        format!("/{}", other.listing_key()),
        "/log/none.drv".to_owned(),
        "/realisations/sha256:abc!out.doi".to_owned(),
        "/secret".to_owned(),
        "/nar/../secret".to_owned(),
        "/nar/%2e%2e/secret".to_owned(),
        "/%2Fsecret".to_owned(),
        format!("//{}", path.key()),
        format!("/{}%00", path.key()),
        "/%ff".to_owned(),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.read(method, &url, &[]).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{url}");
            assert_eq!(header(answer.headers(), "cache-control"), "no-store", "{url}");
        }
    }
}

#[tokio::test]
async fn the_cache_describes_itself_and_serves_nothing_where_the_proxy_is_off() {
    let (server, path, _) = with_path().await;
    let info = server.get("/nix-cache-info").await;
    assert_eq!(header(info.headers(), "content-type"), "text/x-nix-cache-info");
    let expected = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";
    assert_eq!(info.text().await.unwrap(), expected);
    assert_eq!(server.place().stored_bytes("nix-cache-info").await, expected.as_bytes());
    let page = server.get("/").await.text().await.unwrap();
    assert!(page.contains(&server.url) && page.contains(&server.public_key.to_string()), "{page}");
    assert_eq!(server.place().stored_bytes("index.html").await, page.as_bytes());

    let silent = server.replica(|parts| parts.settings.read_mode = ReadMode::Disabled).await;
    assert_eq!(silent.get(&format!("/{}", path.key())).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(silent.get(&format!("/{}", path.nar_key())).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(silent.get("/nix-cache-info").await.text().await.unwrap(), expected);
}

#[tokio::test]
async fn what_nix_compressed_by_other_means_is_said_to_be() {
    let server = TestServer::start().await;
    let path = TestPath::new("copied", &[]);
    let log = "log/00bgd045z0d4icpbc2yyz4gx48ak44la-copied.drv".to_owned();
    // nix copy --to s3://...?ls-compression=br&log-compression=br&narinfo-compression=br
    for key in [path.key(), path.listing_key(), log] {
        let stored = format!("brotli of {key}").into_bytes();
        let put = s3().put_object().bucket(server.place().bucket()).key(&key).content_encoding("br");
        put.body(stored.clone().into()).send().await.unwrap();
        for accepted in ["zstd, br, gzip", "br"] {
            let answer = server.read(Method::GET, &format!("/{key}"), &[("accept-encoding", accepted)]).await;
            assert_eq!(header(answer.headers(), "content-encoding"), "br", "{key}, {accepted}");
            assert_eq!(answer.bytes().await.unwrap(), stored, "{key}, {accepted}");
        }
        let head = server.read(Method::HEAD, &format!("/{key}"), &[]).await;
        assert_eq!(header(head.headers(), "content-encoding"), "br", "{key}");
    }
}

#[tokio::test]
async fn pages_of_others_may_show_statistics_and_narinfos_are_kept_for_a_moment() {
    let (server, path, _) = with_path().await;
    let stats =
        server.read(Method::GET, "/api/cache-stats", &[("origin", "https://elsewhere.example")]).await;
    assert_eq!(
        (stats.status(), header(stats.headers(), "access-control-allow-origin")),
        (StatusCode::OK, "*")
    );
    // From the bucket, from memory, and without its bytes.
    for method in [Method::GET, Method::GET, Method::HEAD] {
        let answer = server.read(method, &format!("/{}", path.key()), &[]).await;
        assert_eq!(header(answer.headers(), "cache-control"), "public, max-age=300");
    }
}
