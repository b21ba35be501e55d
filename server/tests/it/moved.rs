//! A bucket as niks3 1.7 wrote it, byte by byte: two pushes by its client and a pin by its server, of three tiny paths.

use aws_sdk_s3::primitives::ByteStream;
use niks3_protocol::nix::{NarInfo, PublicKey};
use niks3_server::fsck::Options;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::closure::TestPath;
use crate::support::inspect::s3;
use crate::support::{Place, TestServer};

/// What signed it; the secret half is gone.
const KEY: &str = "moved-1:X7lJuRoJc4ORRxgxaI4KTmpWE291ynh/IrWWcHKv9Eg=";
const BUCKET: [(&str, &[u8]); 12] = [
    ("lgjb9pxbrnycs3xhpjv8gj7vv7r5p5q4.ls", include_bytes!("moved/lgjb9pxbrnycs3xhpjv8gj7vv7r5p5q4.ls")),
    (
        "lgjb9pxbrnycs3xhpjv8gj7vv7r5p5q4.narinfo",
        include_bytes!("moved/lgjb9pxbrnycs3xhpjv8gj7vv7r5p5q4.narinfo"),
    ),
    (
        "log/3pdasaivgmx5rafmqmxsf7qkq3b09h07-niks3-moved-app.drv",
        include_bytes!("moved/log/3pdasaivgmx5rafmqmxsf7qkq3b09h07-niks3-moved-app.drv"),
    ),
    (
        "nar/01jrcw6jhzzjk7h0kqd992v9w61m36w5xcvsjqb7jf0q4rpahixi.nar.zst",
        include_bytes!("moved/nar/01jrcw6jhzzjk7h0kqd992v9w61m36w5xcvsjqb7jf0q4rpahixi.nar.zst"),
    ),
    (
        "nar/08pazydvzjbfn2k5abczm4fzxsp4xvnklg146kk6c09fflpj3507.nar.zst",
        include_bytes!("moved/nar/08pazydvzjbfn2k5abczm4fzxsp4xvnklg146kk6c09fflpj3507.nar.zst"),
    ),
    (
        "nar/0f1gad3gy8cr7mmvsr5y7k49qg6sl41qvywna35g2wmkaw4k41qi.nar.zst",
        include_bytes!("moved/nar/0f1gad3gy8cr7mmvsr5y7k49qg6sl41qvywna35g2wmkaw4k41qi.nar.zst"),
    ),
    ("nix-cache-info", include_bytes!("moved/nix-cache-info")),
    ("p7pmws0n11awxkr9mn4a2nmikanr9vsk.ls", include_bytes!("moved/p7pmws0n11awxkr9mn4a2nmikanr9vsk.ls")),
    (
        "p7pmws0n11awxkr9mn4a2nmikanr9vsk.narinfo",
        include_bytes!("moved/p7pmws0n11awxkr9mn4a2nmikanr9vsk.narinfo"),
    ),
    ("pins/main", include_bytes!("moved/pins/main")),
    ("yqlws088in0bpwvszl9vq8f3nz4d4dpg.ls", include_bytes!("moved/yqlws088in0bpwvszl9vq8f3nz4d4dpg.ls")),
    (
        "yqlws088in0bpwvszl9vq8f3nz4d4dpg.narinfo",
        include_bytes!("moved/yqlws088in0bpwvszl9vq8f3nz4d4dpg.narinfo"),
    ),
];
/// Pinned as `main`; it refers to another path, and it has a build log.
const APP: &str = "lgjb9pxbrnycs3xhpjv8gj7vv7r5p5q4.narinfo";
const LOG: &str = "log/3pdasaivgmx5rafmqmxsf7qkq3b09h07-niks3-moved-app.drv";
/// Pushed and not pinned.
const OLD: &str = "p7pmws0n11awxkr9mn4a2nmikanr9vsk";

/// A bucket like that, and a server beside it whose database knows nothing of it.
async fn moved() -> (TestServer, Place) {
    let server = TestServer::start().await;
    let place = server.place().clone();
    for (key, bytes) in BUCKET {
        let plain = key.starts_with("nar/") || key.starts_with("pins/") || key == "nix-cache-info";
        let put = s3().put_object().bucket(place.bucket()).key(key).body(ByteStream::from_static(bytes));
        put.set_content_encoding((!plain).then(|| "zstd".to_owned())).send().await.unwrap();
    }
    (server, place)
}

#[tokio::test]
async fn what_niks3_1_7_left_is_adopted_whole_and_read_as_it_was() {
    let (server, place) = moved().await;
    let before = place.list_objects().await;
    let (summary, lines) = place.fsck(Options { adopt: true, ..Options::default() }).await;
    assert!(summary.is_clean(), "{lines:?}");
    assert_eq!((summary.adopted, summary.pins, summary.young), (3, 1, 0), "{lines:?}");
    let (deep, lines) = place.fsck(Options { deep: true, ..Options::default() }).await;
    assert!(deep.is_clean() && deep.nars_read == 3, "{lines:?}");

    let key: PublicKey = KEY.parse().unwrap();
    for (narinfo, _) in BUCKET.iter().filter(|(key, _)| key.ends_with(".narinfo")) {
        let text = server.get(&format!("/{narinfo}")).await.text().await.unwrap();
        let parsed: NarInfo = text.parse().unwrap();
        let fingerprint = parsed.fingerprint();
        assert!(parsed.signatures.iter().any(|signature| key.verifies(&fingerprint, signature)), "{text}");
        let nar = server.get(&format!("/{}", parsed.url)).await;
        assert_eq!(nar.status(), StatusCode::OK, "{text}");
    }
    assert_eq!(server.get(&format!("/{LOG}")).await.text().await.unwrap().trim(), "building");
    let pins: Value = server.request(Method::GET, "/api/pins").send().await.unwrap().json().await.unwrap();
    assert_eq!(pins[0]["name"], "main", "{pins}");

    // Time begins anew, so nothing goes at first; later what is not pinned goes, and a log stays with its path.
    server.collect("older-than=1h&force=true").await;
    assert_eq!(place.list_objects().await, before);
    place.sql("update closures set updated_at = now() - interval '2 h'").await;
    server.collect("older-than=1h&force=true").await;
    let left = place.list_objects().await;
    assert_eq!(left.len(), before.len() - 3, "a narinfo, a NAR and a listing went: {left:?}");
    assert!(left.iter().any(|key| key == LOG) && left.iter().any(|key| key == APP), "{left:?}");
    assert!(!left.iter().any(|key| key.starts_with(OLD)), "{left:?}");
    let pin = server.request(Method::DELETE, "/api/pins/main").send().await.unwrap();
    assert_eq!(pin.status(), StatusCode::NO_CONTENT);
    server.collect("older-than=1h&force=true").await;
    assert_eq!(place.list_objects().await, [""; 0], "the log goes with its path");
}

/// Nobody has to adopt before the first push, and a collection touches nothing that has no row.
#[tokio::test]
async fn before_it_is_adopted_nothing_of_it_goes() {
    let (server, place) = moved().await;
    let before = place.list_objects().await;
    let own = TestPath::new("own", &[]);
    server.push(&[&own]).await;
    server.collect("older-than=0s&force=true").await;
    assert_eq!(place.list_objects().await, before);
    assert_eq!(server.get(&format!("/{APP}")).await.status(), StatusCode::OK);
}
